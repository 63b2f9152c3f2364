"""A hub that lies: whatever it sends, nobody keeps a study on the screen that nobody tells about any more."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from qc_node.web.broadcast import Broadcaster
from qc_node.web.fhircast import messages
from qc_node.web.fhircast.follower import Follower, Link
from qc_node.web.votes import cases
from tests.peers import wait_for
from tests.web.conftest import Clinic
from tests.web.hub import TOPIC, Hub, open_event

DEEP = "[" * 200_000
STUDY = "1.2.3"


def stamped(timestamp: str) -> str:
    return json.dumps({**open_event("1.2.4", 2), "timestamp": timestamp})


@contextlib.contextmanager
def follower_of(clinic: Clinic, url: str, **web: Any) -> Iterator[Follower]:
    follower = Follower(clinic.deps(fhircast_hubs=(url,), **web), Broadcaster())
    try:
        yield follower
    finally:
        follower.stop()


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port that answers every request with these bytes; gives its number."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                with client:
                    client.recv(65536)
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


@pytest.mark.parametrize(
    "nonsense", [DEEP, stamped("9999-12-31T23:59:59-14:00"), stamped("0001-01-01T00:00:00+23:00")]
)
def test_nonsense_on_the_socket_does_not_end_the_following(clinic: Clinic, nonsense: str) -> None:
    reader, _ = clinic.reader()
    hub = Hub()
    with follower_of(clinic, hub.url) as follower:
        follower.follow(reader.reader_id, hub.url, TOPIC)
        wait_for(lambda: hub.sockets)
        hub.say(open_event(STUDY, 1))
        wait_for(lambda: follower.screen(reader.reader_id).handles)
        for subscriber in list(hub.sockets):
            subscriber.send(nonsense)
        hub.say(open_event("1.2.5", 3))
        wanted = (cases.open_study(clinic.deps(), "1.2.5"),)
        wait_for(lambda: follower.screen(reader.reader_id).handles == wanted)
    hub.close()


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"]
)
def test_a_port_that_speaks_no_http_is_tried_until_the_hub_is_there(clinic: Clinic, answer: bytes) -> None:
    reader, _ = clinic.reader()
    with contextlib.ExitStack() as stack:
        with answering(answer) as port:
            url = f"http://127.0.0.1:{port}/hub"
            follower = stack.enter_context(follower_of(clinic, url))
            subscription = follower.follow(reader.reader_id, url, TOPIC)
            wait_for(lambda: subscription.link is Link.CUT)
        hub = Hub(port=port)
        stack.callback(hub.close)
        wait_for(lambda: subscription.link is Link.CONNECTED)


def test_the_token_is_not_carried_on_to_another_host(clinic: Clinic) -> None:
    asked: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["authorization"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing to say."""

    elsewhere = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    there = (
        f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere.server_port}/\r\nContent-Length: 0\r\n\r\n"
    )
    reader, _ = clinic.reader()
    with answering(there.encode()) as port:
        url = f"http://127.0.0.1:{port}/hub"
        with follower_of(clinic, url, fhircast_token="secret-token") as follower:
            subscription = follower.follow(reader.reader_id, url, TOPIC)
            wait_for(lambda: subscription.link is Link.CUT)
    elsewhere.shutdown()
    elsewhere.server_close()
    assert asked == []


def test_an_event_of_many_megabytes_is_cut_short() -> None:
    event = open_event(STUDY, 1)
    entry = event["event"]["context"][0]
    entry["resource"]["description"] = "x" * 100_000
    event["event"]["context"] = [entry] * 30
    event["id"] = "i" * 1_000_000
    heard = messages.parse(json.dumps(event))
    assert isinstance(heard, messages.Event)
    assert len(heard.studies) == messages.MOST_STUDIES
    assert len(heard.id) == len(heard.studies[0].description or "") == messages.LONGEST_TEXT
