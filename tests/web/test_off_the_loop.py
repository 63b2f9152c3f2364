"""Nobody waits for somebody else's disk or PIN: SQLite and scrypt are never used by the event loop's thread.

The pages run in a real server; each use of a ledger's connection, and each scrypt, is asked which thread it is in.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from qc_node.ledger.database import Database
from qc_node.web.access import readers, security
from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from qc_node.web.votes import cases
from tests.web.conftest import SECRET, Clinic, brain
from tests.web.test_every_page import api_routes

STREAMS = {"/live/events", "/panel-events", "/review/events"}
STUDY, SERIES = "1.2.3.4", "1.2.3.4.1"


class Watch:
    """Which uses there were, and which of them the event loop made."""

    def __init__(self) -> None:
        self.uses: dict[str, int] = {"SQLite": 0, "scrypt": 0}
        self.on_the_loop: list[str] = []

    def note(self, what: str) -> None:
        self.uses[what] += 1
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        ours = [f for f in traceback.extract_stack() if "/qc_node/web/" in f.filename]
        place = f"{ours[-1].filename.split('/qc_node/')[1]}:{ours[-1].lineno}" if ours else "a library"
        self.on_the_loop.append(f"{what} by {place}")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    seen = Watch()
    connection, scrypt = Database.utils.fget, hashlib.scrypt  # type: ignore[attr-defined]

    def watched(self: Database) -> Any:
        seen.note("SQLite")
        return connection(self)

    def slow(*args: Any, **kwargs: Any) -> bytes:
        seen.note("scrypt")
        return scrypt(*args, **kwargs)

    monkeypatch.setattr(Database, "utils", property(watched))
    monkeypatch.setattr(hashlib, "scrypt", slow)
    return seen


@pytest.fixture
def server(clinic: Clinic, watch: Watch) -> Iterator[ServerHandle]:
    clinic.receive(STUDY, SERIES, accession="A-1")
    clinic.judge(SERIES, brain(motion=2))
    running = serve(create_app(clinic.deps(requests_per_minute=10_000, sign_ins_per_minute=1000)), "127.0.0.1", 0)
    yield running
    running.stop()


def filled(path: str, clinic: Clinic) -> str:
    """A path with real values in place of its parameters."""
    handle = cases.open_study(clinic.deps(), STUDY)
    values = {"handle": handle, "handles": handle, "uid": SERIES, "series_uid": SERIES, "name": "pages.css"}
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: values.get(found[1], "1"), path)


def ask(
    server: ServerHandle,
    method: str,
    path: str,
    cookie: str,
    body: str | None = None,
    kind: str = "application/json",
) -> int:
    """The status of an answer; of an endless one only the beginning is taken."""
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"origin": server.url, "cookie": cookie, "accept": "text/html", "content-type": kind}
    conn.request(method, path, body, headers)
    answer = conn.getresponse()
    if path in STREAMS:
        while b"hello" not in answer.readline():
            pass
    else:
        answer.read()
    conn.close()
    return answer.status


def signed_in(clinic: Clinic, login: str) -> str:
    reader, _ = readers.add(
        clinic.ledger, login, name=login, site="Here", role="expert", at=clinic.clock(), pin="271828"
    )
    token = security.new_handle()
    clinic.ledger.sessions.start(security.hash_token(token), reader.reader_id, clinic.clock(), "link")
    return f"{security.COOKIE}={security.session_cookie(SECRET, token)}"


def test_no_route_uses_sqlite_on_the_event_loop(clinic: Clinic, watch: Watch, server: ServerHandle) -> None:
    cookie = signed_in(clinic, "expert")
    routes: list[APIRoute] = api_routes(server._app)
    seen: dict[str, int] = {}
    for who in ("", cookie):  # signing out ends the session, so it is the last
        for route in sorted(routes, key=lambda r: r.path == "/sign-out"):
            method = next(iter(sorted(route.methods or {"GET"})))
            path = filled(route.path, clinic)
            if path in STREAMS and not who and path != "/live/events":
                continue
            body = "{}" if method in ("POST", "PUT", "PATCH", "DELETE") else None
            before = watch.uses["SQLite"]
            seen[f"{method} {path}"] = status = ask(server, method, path, who, body)
            assert status < 500, f"{method} {path}: {status}"
            if "GET" in (route.methods or ()) and status in (200, 401) and path not in NEEDS_NOBODY and who:
                assert watch.uses["SQLite"] > before, f"{path} did not even ask who is there"
    assert len(seen) >= 30 and sum(status == 200 for status in seen.values()) >= 12
    assert watch.on_the_loop == []


NEEDS_NOBODY = {"/healthz", "/readyz", "/readyz/takes", "/static/1/pages.css", "/"}


def test_signing_in_and_voting_are_off_the_loop_too(clinic: Clinic, watch: Watch, server: ServerHandle) -> None:
    cookie = signed_in(clinic, "anna")
    kind = "application/x-www-form-urlencoded"
    assert ask(server, "POST", "/sign-in", "", "login=anna&pin=271828", kind) == 303
    assert ask(server, "POST", "/sign-in", "", "login=nobody&pin=1", kind) == 401
    assert watch.uses["scrypt"] >= 3, "one to make it, two to check it"
    token = readers.new_link(clinic.ledger, "anna", clinic.clock())
    assert ask(server, "POST", "/api/sign-in", "", json.dumps({"token": token})) == 200
    cookie = signed_in(clinic, "klee")
    vote = {"key": "key-00000001", "vote": "poor", "study_instance_uid": STUDY}
    assert ask(server, "POST", "/api/votes", cookie, json.dumps(vote)) == 201
    assert ask(server, "GET", "/nothing", cookie) == 404
    assert ask(server, "POST", "/sign-out", cookie, "", kind) == 303
    assert watch.on_the_loop == []


def test_the_watch_sees_a_page_that_does(clinic: Clinic, watch: Watch) -> None:
    app = create_app(clinic.deps())

    @app.get("/on-the-loop")
    async def on_the_loop() -> int:
        security.hash_pin("271828")
        return clinic.ledger.readers.count_enabled()

    running = serve(app, "127.0.0.1", 0)
    try:
        assert ask(running, "GET", "/on-the-loop", "") == 200
    finally:
        running.stop()
    assert [what.split(" by ")[0] for what in watch.on_the_loop] == ["scrypt", "SQLite"]
