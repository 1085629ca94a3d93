"""Serves the page to draw on, and reads the pictures that are sent to it.

    GET  /          the page: page.html, page.css and page.js, as they are
    GET  /settings  what the page must know of this server
    POST /read      a picture's bytes become the JSON of predict.py --format=json
    POST /explain   the same, and for each answer why it is so and what the model saw
    POST /correct   a picture's bytes, with ?label=7&box=10,20,60,90: the digit is kept

What goes wrong is {"error": one line}, with the status of HTTP. Nothing is stored but
corrections, if there is a folder for them.
"""

import contextlib
import io
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from mnist_jax.errors import ArgumentError, ConfigError, PictureError, UserError
from mnist_jax.local_files import explain_os_error
from mnist_jax.reading import answers
from mnist_jax.reading.paths import Source
from mnist_jax.reading.predictions import Prediction
from mnist_jax.reading.reader import Reader
from mnist_jax.web.corrections import Corrections
from mnist_jax.web.explanations import explain, show_digits, show_pages
from mnist_jax.web.guard import MAX_BODY, OwnSiteOnly, Slots

TOP_K = 10  # guesses that the reader must give, for the sentence that explains
_SHOWN = 3  # of them, in /explain
_USUAL_PORT = 2828  # always the same, so that the browser knows the page again
_INSIDE, _AT_ONCE = 8, 2  # requests that are let in, and those that are worked on
_SECONDS = 120.0  # that a request waits for its answer; the first one may compile
_CONNECTIONS = 64
_FAR = 10**6  # pixels; no picture has so long a side
_SOURCE = "<body>"  # the name of a picture that was sent

_HERE = Path(__file__).resolve().parent
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def make_app(reader: Reader, corrections: Corrections | None, host: str) -> Starlette:
    """Makes the app that answers requests.

    Args:
      reader: with a `top_k` of `TOP_K`.
      corrections: where corrected digits are kept; None keeps none.
      host: that it will be served on: see `OwnSiteOnly`.
    """
    desk = _Desk(reader, corrections)
    routes = [Route(path, _file_route(*file)) for path, file in _FILES.items()]
    routes += [
        Route("/settings", desk.settings),
        Route("/read", desk.read, methods=["POST"]),
        Route("/explain", desk.explain, methods=["POST"]),
        Route("/correct", desk.correct, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(OwnSiteOnly, host=host)],
        exception_handlers={HTTPException: _say_error, UserError: _say_error},
    )


class _Desk:
    """Answers the requests that are about pictures."""

    def __init__(self, reader: Reader, corrections: Corrections | None) -> None:
        self._reader, self._corrections = reader, corrections
        self._slots = Slots(_INSIDE, _AT_ONCE, _SECONDS)

    async def settings(self, request: Request) -> Response:
        return JSONResponse(
            {
                "class_names": self._reader.class_names,
                "keeps_corrections": self._corrections is not None,
                "max_bytes": MAX_BODY,
            }
        )

    async def read(self, request: Request) -> Response:
        def work(content: bytes) -> str:
            return answers.to_json(self._records(self._read(content), guesses=1))

        text = await self._slots.run(request, work)
        return Response(f"{text}\n", media_type="application/json")

    async def explain(self, request: Request) -> Response:
        with_pages = request.query_params.get("pages") == "1"

        def work(content: bytes) -> dict[str, Any]:
            read = self._read(content)
            pages = show_pages(content if with_pages else b"")
            explained = [
                {
                    "why": explain(answer, self._reader.class_names),
                    "seen": show_digits(answer),
                    **page,
                }
                for answer, page in zip(read, pages, strict=False)
            ]
            return {
                "version": answers.VERSION,
                "answers": self._records(read, guesses=_SHOWN),
                "score": None,
                "explanations": explained,
            }

        return JSONResponse(await self._slots.run(request, work))

    async def correct(self, request: Request) -> Response:
        corrections = self._corrections
        if corrections is None:
            raise HTTPException(404, "start draw.py with --corrections=FOLDER")
        label, box, page = _read_correction(request)

        def work(content: bytes) -> str:
            return str(corrections.keep(content, label, box, page))

        return JSONResponse({"kept": await self._slots.run(request, work)})

    def _read(self, content: bytes) -> list[Prediction]:
        return list(self._reader.read_files([Source(_SOURCE, content)]))

    def _records(self, read: list[Prediction], guesses: int) -> list[answers.Record]:
        records = [answers.to_record(a, self._reader.class_names) for a in read]
        for digit in [digit for record in records for digit in record["digits"]]:
            digit["top_k"] = digit["top_k"][:guesses]
        return records


def warm_up(reader: Reader) -> None:
    """Reads pictures of the page's sizes, so that all that they need is compiled."""
    seven, dot = [(90, 40), (150, 40), (110, 160)], [(100, 50), (101, 52)]
    for points in (seven, dot):
        for size in ((400, 267), (324, 324)):  # on a wide screen, and on a phone
            picture = Image.new("L", size, 255)
            ImageDraw.Draw(picture).line(points, 0, 8)
            content = io.BytesIO()
            picture.save(content, "PNG")
            list(reader.read_files([Source("", content.getvalue())]))


def _file_route(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def get_file(request: Request) -> Response:
        return FileResponse(_HERE / name, media_type=kind)

    return get_file


def _read_correction(request: Request) -> tuple[str, list[int] | None, int]:
    """Returns label, box and page of a request.

    Raises:
      HTTPException: they are missing, or no numbers (400).
    """
    asked = request.query_params
    try:
        box = [int(n) for n in asked["box"].split(",")] if "box" in asked else None
        if box is not None and not (len(box) == 4 and max(map(abs, box)) < _FAR):
            raise ValueError
        return asked["label"], box, int(asked.get("page", 0))
    except (KeyError, ValueError) as error:
        said = "say ?label=7&box=LEFT,TOP,RIGHT,BOTTOM, and &page=0 if there are more"
        raise HTTPException(400, said) from error


async def _say_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        said = error.detail
    else:
        is_theirs = isinstance(error, ArgumentError | PictureError)
        status, headers, said = 400 if is_theirs else 500, None, str(error)
    said = said or HTTPStatus(status).phrase
    return JSONResponse({"error": said}, status, headers)


def open_socket(host: str, port: int | None) -> socket.socket:
    """Takes a port, before anything slow is done.

    Args:
      host: address or name of this machine; "0.0.0.0" is all of its addresses.
      port: None takes the usual one, or any that is free.

    Raises:
      ConfigError: it is no address of this machine, or the port cannot be taken.
    """
    try:
        found = socket.getaddrinfo(host, _USUAL_PORT, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host={host}: there is no such address") from error
    family, kind, protocol, _, (address, *_) = found[0]
    tries = [port] if port is not None else [_USUAL_PORT, 0]
    for number in tries:
        taken = socket.socket(family, kind, protocol)
        if os.name != "nt":  # where it would let two servers have one port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((address, number))
            taken.listen(128)
            return taken
        except OSError as error:
            taken.close()
            if number == tries[-1]:
                raise ConfigError(_explain_bind(host, port, error)) from error
    raise AssertionError("the last try returns or raises")


def _explain_bind(host: str, port: int | None, error: OSError) -> str:
    reason = explain_os_error(error).split(";")[0].lower()
    if port is None:
        return f"--host={host} cannot be listened on: {reason}"
    hint = "leave --port out for one that is free"
    return f"--port={port} on {host} cannot be taken: {reason}; {hint}"


def address_of(listening: socket.socket, host: str) -> str:
    """Returns the URL of a socket from `open_socket`, as this machine's browser has it.

    Args:
      listening: the socket.
      host: that it was opened with.
    """
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listening.getsockname()[1]}"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves Ctrl-C as it is: uvicorn's own waits for open connections."""
        yield


def make_server(app: Starlette) -> uvicorn.Server:
    """Makes the server of an app: `make_server(app).run(sockets=[listening])`."""
    return _Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
    )
