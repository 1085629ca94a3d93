"""Serves the page to draw on within a test, and asks it as programs do."""

import contextlib
import http.client
import json
import threading
import time
from typing import NamedTuple

from mnist_jax.web.server import make_app, make_server, open_socket


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


@contextlib.contextmanager
def serve(reader, corrections=None, host="127.0.0.1"):
    """Yields the port of a server that runs in a thread."""
    listening = open_socket("127.0.0.1", 0)
    server = make_server(make_app(reader, corrections, host))
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()


def ask(port, method, path, body=None, **headers):
    """Sends a request; a header's name has _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()
