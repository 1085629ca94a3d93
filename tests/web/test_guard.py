import asyncio
import socket
import threading

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from mnist_jax.web import guard
from mnist_jax.web.guard import OwnSiteOnly, Slots, is_loopback, read_body


def get(served_on, host, origin=None, method="POST"):
    """The status of a request, and its headers."""
    headers = [(b"host", host.encode("latin-1"))] if host is not None else []
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/", "headers": headers}
    app = OwnSiteOnly(PlainTextResponse("in"), served_on)
    asyncio.run(app(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


HERE, EVERYWHERE = "127.0.0.1", "0.0.0.0"


@pytest.mark.parametrize(
    ("served_on", "host", "status"),
    [
        (HERE, "127.0.0.1:2828", 200),
        (HERE, "localhost:2828", 200),
        (HERE, "LOCALHOST", 200),
        (HERE, "[::1]:2828", 200),
        (HERE, "localhost:9999", 200),  # as through a tunnel
        (HERE, "evil.example", 403),
        (HERE, "evil.example:2828", 403),
        (HERE, "127.0.0.1.evil.example", 403),
        (HERE, "localhost@evil.example", 403),
        (HERE, "192.168.0.7:2828", 403),
        (HERE, "[::1", 403),
        (HERE, "", 403),
        (HERE, None, 403),
        (EVERYWHERE, "192.168.0.7:2828", 200),
        (EVERYWHERE, "[fd00::7]:2828", 200),
        (EVERYWHERE, f"{socket.gethostname()}:2828", 200),
        (EVERYWHERE, "localhost:2828", 200),
        (EVERYWHERE, "evil.example:2828", 403),
        ("my.lan", "my.lan:2828", 200),
        ("my.lan", "evil.example", 403),
    ],
)
def test_only_this_server_s_own_names_are_served(served_on, host, status):
    assert get(served_on, host)[0] == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),  # programs
        ("http://localhost:2828", 200),
        ("http://localhost:3000", 403),  # another server of this machine
        ("http://127.0.0.1:2828", 403),
        ("http://evil.example", 403),
        ("https://localhost", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_other_sites_are_turned_away(origin, status):
    for method in ("GET", "POST"):
        assert get(HERE, "localhost:2828", origin, method)[0] == status


def test_what_is_turned_away_has_the_same_headers():
    for host in ("localhost", "evil.example"):
        headers = get(HERE, host)[1]
        policy = headers[b"content-security-policy"].decode()
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"cache-control"] == b"no-store"


def test_other_protocols_are_left_alone():
    asyncio.run(OwnSiteOnly(None, HERE)({"type": "websocket"}, None, None))
    sent = []
    asyncio.run(OwnSiteOnly(None, HERE)({"type": "lifespan"}, None, sent.append))
    assert sent == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.0.7", False),
        ("example.org", False),
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def make_request(*chunks, length=None, ends=True):
    """A request whose body comes in chunks; None waits for ever."""
    waiting = list(chunks)

    async def receive():
        if waiting and waiting[0] is None:
            await asyncio.sleep(100)
        if waiting:
            more = len(waiting) > 1 or not ends
            return {
                "type": "http.request",
                "body": waiting.pop(0),
                "more_body": more,
            }
        return {"type": "http.disconnect"}

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    return Request(scope, receive)


def status_of(awaitable):
    with pytest.raises(HTTPException) as caught:
        asyncio.run(awaitable)
    return caught.value.status_code


def test_a_body_is_read_whole():
    assert asyncio.run(read_body(make_request(b"ab", b"", b"c"))) == b"abc"
    assert asyncio.run(read_body(make_request(b""))) == b""


def test_a_body_is_bounded_in_size_and_time(monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY", 10)
    assert status_of(read_body(make_request(b"", length=11))) == 413
    assert status_of(read_body(make_request(b"123456", b"789012"))) == 413
    assert asyncio.run(read_body(make_request(b"0123456789", length=10)))
    monkeypatch.setattr(guard, "UPLOAD_SECONDS", 0.01)
    assert status_of(read_body(make_request(b"1", None))) == 408


def test_a_body_that_ends_too_early_is_said():
    assert status_of(read_body(make_request(b"1", ends=False))) == 400


def test_work_gets_the_body_and_its_errors_come_back():
    slots = Slots(1, 1, 10)
    for _ in range(3):  # the place is free again each time
        assert asyncio.run(slots.run(make_request(b"12"), len)) == 2
        with pytest.raises(ValueError, match="invalid literal"):
            asyncio.run(slots.run(make_request(b"x"), int))
        assert status_of(slots.run(make_request(b"x", ends=False), len)) == 400


def test_too_many_at_once_are_sent_away():
    slots, go_on = Slots(2, 1, 10), threading.Event()

    async def ask_four():
        def wait(content):
            assert go_on.wait(10)
            return content

        inside = [
            asyncio.create_task(slots.run(make_request(text), wait))
            for text in (b"1", b"2")
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(HTTPException) as caught:
            await slots.run(make_request(b"3"), wait)
        assert caught.value.status_code == 503
        assert caught.value.headers == {"Retry-After": "1"}
        go_on.set()
        assert await asyncio.gather(*inside) == [b"1", b"2"]
        return await slots.run(make_request(b"4"), wait)

    assert asyncio.run(ask_four()) == b"4"


def test_what_takes_too_long_keeps_its_place_until_it_ends():
    slots, go_on, ended = Slots(1, 1, 0.01), threading.Event(), threading.Event()

    def wait(content):
        assert go_on.wait(10)
        ended.set()

    assert status_of(slots.run(make_request(b"1"), wait)) == 503
    assert status_of(slots.run(make_request(b"2"), wait)) == 503
    go_on.set()
    assert ended.wait(10)

    async def try_again():
        for _ in range(1000):
            try:
                return await Slots.run(slots, make_request(b"3"), len)
            except HTTPException:
                await asyncio.sleep(0.01)

    assert asyncio.run(try_again()) == 1
