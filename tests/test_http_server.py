"""What crowds and slow clients do to an HTTP listener of the node: they wait, and nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from qc_node import http_server
from qc_node.http_server import Admission, Crowded, HttpServer, bound_socket
from tests.part_settings import http_limits
from tests.peers import wait_for

LARGE = 32 << 20
"""More than the kernel takes off our hands."""


# -- who gets in -------------------------------------------------------------------------------------
def test_who_waits_longest_gives_way_and_who_is_served_stays() -> None:
    admission: Admission[str] = Admission(http_limits(connections=3, per_address=3))
    for name in ("old", "served", "young"):
        assert admission.admit(name, "192.0.2.1") is None
    admission.works("served")
    assert admission.admit("new", "192.0.2.2") == "old"
    admission.waits("served")
    assert admission.admit("newer", "192.0.2.2") == "young"
    assert len(admission) == 3


def test_one_address_pushes_out_its_own_only() -> None:
    admission: Admission[str] = Admission(http_limits(connections=10, per_address=2))
    admission.admit("somebody", "192.0.2.9")
    admission.admit("a", "192.0.2.1")
    admission.admit("b", "192.0.2.1")
    assert admission.admit("c", "192.0.2.1") == "a"
    admission.works("b")
    admission.works("c")
    with pytest.raises(Crowded):
        admission.admit("d", "192.0.2.1")
    assert admission.admit("e", "192.0.2.2") is None
    admission.remove("b")
    admission.remove("b")
    assert admission.admit("d", "192.0.2.1") is None


def test_a_proxy_has_all_places_and_no_more() -> None:
    admission: Admission[int] = Admission(
        http_limits(connections=50, per_address=2, proxies=frozenset({"192.0.2.1"}))
    )
    for n in range(50):
        assert admission.admit(n, "192.0.2.1") is None
        admission.works(n)
    with pytest.raises(Crowded):
        admission.admit(50, "192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_network_of_64_bits_is_one_address(one: str, other: str, same: bool) -> None:
    admission: Admission[str] = Admission(http_limits(connections=9, per_address=1))
    admission.admit("first", one)
    assert admission.admit("second", other) == ("first" if same else None)


# -- a listener on loopback --------------------------------------------------------------------------
async def application(scope: Any, receive: Any, send: Any) -> None:
    """``/stream`` says one word and stays; ``/large`` is large; all else reads the body and says its length."""
    body = b""
    while scope["method"] == "POST":
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"hello\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0)
        return
    size = LARGE if scope["path"] == "/large" else 0
    await send({"type": "http.response.body", "body": bytes(size) or str(len(body)).encode()})


@pytest.fixture
def listen() -> Iterator[Callable[..., int]]:
    """A function that starts a listener with these limits and returns its port."""
    servers: list[HttpServer] = []

    def start(**limits: Any) -> int:
        sock = bound_socket("127.0.0.1", 0)
        servers.append(HttpServer("test", sock, application, http_limits(**limits), lifespan="off"))
        return servers[-1].port

    yield start
    for server in servers:
        server.stop(10)


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10, (source, 0))


def get(port: int, path: str = "/", source: str = "127.0.0.1") -> bytes:
    """The status line of an answer, by a well-behaved client; it may take a second."""
    with connect(port, source) as sock:
        sock.settimeout(1.0)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return sock.recv(65536).split(b"\r\n")[0]


def stream(port: int) -> socket.socket:
    """A stream that has begun."""
    sock = connect(port)
    sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    said = b""
    while b"hello" not in said:
        block = sock.recv(4096)
        assert block, "it was cut"
        said += block
    return sock


def is_cut(sock: socket.socket, within_s: float = 10.0) -> bool:
    """Whether the other side ends the connection; what it still says is read."""
    sock.settimeout(within_s)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


HALF = {
    "nothing": b"",
    "half a request line": b"GET / HT",
    "half a head": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ",
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
    "half a chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "a second request, half": b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
}


@pytest.mark.parametrize("script", HALF)
def test_a_request_that_comes_byte_by_byte_has_one_deadline(script: str, listen: Callable[..., int]) -> None:
    port = listen(request_s=0.6)
    began = time.monotonic()
    with connect(port) as sock, contextlib.suppress(OSError):
        sock.sendall(HALF[script])
        while time.monotonic() - began < 10:
            sock.sendall(b"a")
            sock.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                if not sock.recv(65536):
                    break
    assert time.monotonic() - began < 9, "each byte bought more time"


def test_a_connection_between_two_requests_is_kept_for_a_while(
    listen: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "IDLE_S", 1.0)
    client = HTTPConnection("127.0.0.1", listen(request_s=0.2), timeout=10)
    for _ in range(2):
        client.request("POST", "/", b"ab")
        assert client.getresponse().read() == b"2"
        assert not is_cut(client.sock, 0.4), "it has longer than a request may take"
    assert is_cut(client.sock)
    client.close()


def test_who_does_not_read_the_answer_is_cut(listen: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "ANSWER_STALL_S", 0.3)
    monkeypatch.setattr(http_server, "IDLE_S", 0.3)
    port = listen()
    with connect(port) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wait_for(lambda: connections_on(port) == 0)


def test_who_reads_the_answer_slowly_gets_all_of_it(
    listen: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "ANSWER_STALL_S", 0.3)
    monkeypatch.setattr(http_server, "IDLE_S", 0.3)
    with connect(listen()) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        read = 0
        while block := sock.recv(1 << 20, socket.MSG_WAITALL):
            read += len(block)
            time.sleep(0.03)
    assert read > LARGE


def connections_on(port: int) -> int:
    """Established connections that this process holds on `port`."""
    ours = {f.readlink().name.removeprefix("socket:[").rstrip("]") for f in descriptors()}
    local = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[1] == local and row[3] == "01" and row[9] in ours for row in rows)


def descriptors() -> list[Path]:
    return [f for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]


def test_a_crowd_that_dribbles_keeps_nobody_out_and_leaves_nothing(listen: Callable[..., int]) -> None:
    port = listen(connections=40, per_address=20, request_s=30.0)
    assert get(port) == b"HTTP/1.1 200 OK"
    before, threads = len(descriptors()), threading.active_count()
    crowd = []
    try:
        for _ in range(300):
            crowd.append(connect(port))
            crowd[-1].sendall(b"G")
        for source in ("127.0.0.2", "127.0.0.1", "127.0.0.2"):
            assert get(port, source=source) == b"HTTP/1.1 200 OK"
        assert threading.active_count() == threads
        assert wait_for(lambda: len(descriptors()) <= before + len(crowd) + 20)
    finally:
        for sock in crowd:
            sock.close()
    assert wait_for(lambda: len(descriptors()) <= before)


def test_the_deadline_frees_all_places(listen: Callable[..., int]) -> None:
    port = listen(connections=40, per_address=20, request_s=0.5)
    crowd = [connect(port) for _ in range(20)]
    for sock in crowd:
        sock.sendall(b"G")
    assert all(is_cut(sock) for sock in crowd)
    assert connections_on(port) == 0


def test_open_streams_keep_their_places_and_the_next_is_told_so(
    listen: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    port = listen(connections=12, per_address=10, request_s=0.3)
    streams = [stream(port) for _ in range(10)]
    assert get(port) == b"HTTP/1.1 503 Service Unavailable"
    assert "[test] has no place left: 1 connections were refused or cut" in caplog.text
    assert get(port, source="127.0.0.2") == b"HTTP/1.1 200 OK"
    assert not is_cut(streams[0], 0.5), "it lasts longer than a request may take"
    assert not any(is_cut(sock, 0.001) for sock in streams)
    streams.pop().close()
    assert wait_for(lambda: get(port) == b"HTTP/1.1 200 OK")
    for sock in streams:
        sock.close()


def test_two_hundred_panels_and_boards_come_through_one_proxy(listen: Callable[..., int]) -> None:
    port = listen(connections=450, per_address=8, proxies=frozenset({"127.0.0.1"}))
    streams = [stream(port) for _ in range(400)]
    assert get(port) == b"HTTP/1.1 200 OK"
    for sock in streams:
        sock.close()
