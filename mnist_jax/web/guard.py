"""Turns away requests from other sites, and bounds what a request may cost."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

MAX_BODY = 2**26  # bytes of a picture that is sent; it is held in memory
UPLOAD_SECONDS = 60.0  # for the bytes to arrive
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# The page is three files of this server: no script, style or picture of elsewhere, no
# script within the HTML, and no frame around it in which clicks could be stolen.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class OwnSiteOnly:
    """Serves an app to its own page and to programs, but to no other site's page.

    A page of another site can send requests to this machine. Its browser says in
    `Origin` whose page that is. A site may also give its own name the address of this
    machine, so that browsers take this server for a part of that site; but then `Host`
    has that name.

    Args:
      app: what is served.
      host: that it is served on. If others can reach it, `Host` may be any address, as
        no site's name is one, and the names of this machine.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._is_open = not is_loopback(host)
        self._names = {*_LOOPBACK, host.lower()}
        if self._is_open:
            name = socket.gethostname().lower()
            self._names |= {name, f"{name}.local", socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI says."""
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        reason = self._refuse(Headers(scope=scope))
        answer = JSONResponse({"error": reason}, 403) if reason else self._app
        await answer(scope, receive, send_safely)

    def _refuse(self, headers: Headers) -> str:
        """Returns why a request is turned away; "" if it is not."""
        host = headers.get("host", "")
        if not self._is_own(_hostname(f"//{host}")):
            return f"this server is not called {host[:100]!r}: see draw.py --host"
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            return f"a page of {origin[:100]!r} may not use this server"
        return ""

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._is_open


def _place(url: str) -> str:
    """Returns host and port of a URL, in lower case; "" if it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def read_body(request: Request) -> bytes:
    """Returns the bytes that are sent with a request.

    Raises:
      HTTPException: they are too many (413), too slow (408) or end too early (400),
        or are those of a form (415).
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        hint = "send its bytes alone, as curl --data-binary @FILE does, and not -F"
        raise HTTPException(415, f"the picture is in a form: {hint}")
    too_large = HTTPException(413, f"a picture may have {MAX_BODY // 2**20} MiB")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > MAX_BODY:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BODY:
                    raise too_large
    except TimeoutError as error:
        seconds = f"{UPLOAD_SECONDS:g} s"
        raise HTTPException(408, f"the picture took longer than {seconds}") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the picture ends too early") from error
    return bytes(content)


class Slots:
    """Lets so many requests in at once, and runs their work in threads, some at once.

    Args:
      inside: how many requests may be inside; others are sent away.
      at_once: how many threads work.
      seconds: that a request waits for its work. What takes longer goes on, as no
        thread can be ended, and holds its place for so long.
    """

    def __init__(self, inside: int, at_once: int, seconds: float) -> None:
        self._places = threading.Semaphore(inside)
        self._pool = ThreadPoolExecutor(at_once)
        self._seconds = seconds

    async def run(self, request: Request, work: Callable[[bytes], T]) -> T:
        """Reads the bytes of a request, and returns what the work makes of them.

        Raises:
          HTTPException: there is no place, or it takes too long (503); or as
            `read_body`. What the work raises is raised as it is.
        """
        if not self._places.acquire(blocking=False):
            busy = "too many pictures at once: try again"
            raise HTTPException(503, busy, {"Retry-After": "1"})
        try:
            content = await read_body(request)
            job = self._pool.submit(work, content)
        except BaseException:
            self._places.release()
            raise
        job.add_done_callback(self._leave)
        try:
            waiting = asyncio.shield(asyncio.wrap_future(job))
            return await asyncio.wait_for(waiting, self._seconds)
        except TimeoutError as error:
            job.cancel()  # if it has not begun
            long = f"reading takes longer than {self._seconds:g} s: send fewer pages"
            raise HTTPException(503, long) from error

    def _leave(self, job: "Future[Any]") -> None:
        self._places.release()
