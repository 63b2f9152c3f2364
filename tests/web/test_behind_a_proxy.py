"""Single sign-on by a reverse proxy, over real sockets: whose header is believed, and who is counted."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qc_node.web.access.readers import Reader
from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from tests.peers.process import OwnedProcess, find_free_port, is_listening, require
from tests.web.conftest import Clinic

Answer = tuple[int, Any]
Serve = Callable[..., ServerHandle]


@pytest.fixture
def served(clinic: Clinic) -> Iterator[Serve]:
    """A function that serves the pages of the clinic by uvicorn, on loopback."""
    running: list[ServerHandle] = []

    def open_pages(**web: Any) -> ServerHandle:
        running.append(serve(create_app(clinic.deps(**web)), "127.0.0.1", 0))
        return running[-1]

    yield open_pages
    for server in running:
        server.stop()


@pytest.fixture
def anna(clinic: Clinic) -> Reader:
    clinic.reader("boss", name="Boss")
    return clinic.reader("anna", name="Anna", pin="271828")[0]


SSO: dict[str, Any] = {"trusted_user_header": "X-Remote-User"}
ANNA = "X-Remote-User: anna"


def ask(port: int, *lines: str, path: str = "/api/me", body: str = "", source: str = "127.0.0.1") -> Answer:
    """One request, its header lines exactly as they are given; the status, and the JSON of the answer."""
    method = "POST" if body else "GET"
    head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *lines]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        head += [f"Origin: http://127.0.0.1:{port}"]
    with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as conn:
        conn.sendall("\r\n".join([*head, "", body]).encode())
        answer = b"".join(iter(lambda: conn.recv(65536), b""))
    status, _, content = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), json.loads(content or b"{}")


@pytest.mark.parametrize(
    "forwarded",
    [
        (),
        ("X-Forwarded-For: 10.1.2.3",),
        ("X-Forwarded-For: 10.1.2.3, 127.0.0.1", "X-Forwarded-Proto: https"),
        ("X-Forwarded-For: 127.0.0.1",),
        ("X-Forwarded-For: rubbish",),
        ("Forwarded: for=10.1.2.3;proto=https", "X-Real-IP: 10.1.2.3"),
    ],
)
def test_a_proxy_on_this_host_names_the_user_however_it_forwards(
    served: Serve, anna: Reader, forwarded: tuple[str, ...]
) -> None:
    assert ask(served(**SSO).port, ANNA, *forwarded)[1]["name"] == "Anna"


@pytest.mark.parametrize("forwarded", [(), ("X-Forwarded-For: 127.0.0.1",), ("X-Forwarded-For: ::1, 127.0.0.1",)])
def test_nobody_else_may_name_a_user(served: Serve, anna: Reader, forwarded: tuple[str, ...]) -> None:
    port = served(**SSO).port  # 127.0.0.1 and ::1 are trusted
    assert ask(port, ANNA, *forwarded, source="127.0.0.2") == (200, {"reader": None})
    other = served(**SSO, trusted_proxies=("127.0.0.3",)).port
    assert ask(other, ANNA, *forwarded) == (200, {"reader": None})
    assert ask(other, ANNA, *forwarded, source="127.0.0.3")[1]["name"] == "Anna"


def test_without_the_setting_nobody_is_named(served: Serve, anna: Reader) -> None:
    assert ask(served().port, ANNA) == (200, {"reader": None})


@pytest.mark.parametrize(
    "lines",
    [
        (ANNA, "X-Remote-User: boss"),
        ("X-Remote-User: boss", ANNA),
        (ANNA, "x-remote-user: anna"),
        ("X-Remote-User: anna, boss",),
        ("X-Remote-User: anna", "X-REMOTE-USER: "),
    ],
)
def test_two_users_are_refused(served: Serve, anna: Reader, lines: tuple[str, ...]) -> None:
    status, said = ask(served(**SSO).port, *lines)
    assert status == 400
    assert said["detail"] == "The proxy names two users; it has to replace the header that a browser sends."


@pytest.mark.parametrize("other", ["X_Remote_User", "X-Remote_User", "x_remote_user", "X-Remote-User-"])
def test_a_header_that_only_looks_like_it_names_nobody(served: Serve, anna: Reader, other: str) -> None:
    port = served(**SSO).port
    assert ask(port, f"{other}: boss") == (200, {"reader": None})
    assert ask(port, f"{other}: boss", ANNA)[1]["name"] == "Anna"


def test_a_user_whom_the_proxy_names_and_nobody_knows_or_who_is_disabled(
    clinic: Clinic, served: Serve, anna: Reader
) -> None:
    port = served(**SSO).port
    assert ask(port, "X-Remote-User: stranger") == (200, {"reader": None})
    assert ask(port, "X-Remote-User:") == (200, {"reader": None})
    clinic.ledger.readers.disable(anna.reader_id, clinic.clock())
    assert ask(port, ANNA) == (200, {"reader": None})


def test_the_limit_counts_people_and_not_the_proxy(served: Serve, anna: Reader) -> None:
    port = served(**SSO, requests_per_minute=3).port

    def codes(*lines: str, source: str = "127.0.0.1") -> list[int]:
        return [ask(port, *lines, source=source)[0] for _ in range(5)]

    limited = [200, 200, 200, 429, 429]
    assert codes("X-Forwarded-For: 10.1.2.3") == limited
    assert codes("X-Forwarded-For: 10.1.2.4") == limited, "somebody else at another address"
    assert codes("X-Forwarded-For: 10.1.2.3", ANNA) == limited, "a reader, wherever"
    assert codes("X-Forwarded-For: 10.1.2.5", ANNA)[0] == 429
    assert codes("X-Forwarded-For: 10.9.9.9, 10.1.2.6") == limited
    assert codes("X-Forwarded-For: 10.9.9.8, 10.1.2.6")[0] == 429, "what stands before it a client may write"
    assert codes("X-Forwarded-For: 2001:db8:0:1::1") == limited
    assert codes("X-Forwarded-For: [2001:db8:0:1::2]:4711, ::1")[0] == 429, "one network of 64 bits"
    assert codes("X-Forwarded-For: 10.1.2.7:5555") == limited and codes("X-Forwarded-For: 10.1.2.7")[0] == 429
    assert codes("X-Forwarded-For: 10.1.2.8", source="127.0.0.2") == limited
    assert codes("X-Forwarded-For: 10.1.2.9", source="127.0.0.2")[0] == 429, "who is no proxy is one client"


def test_a_personal_link_is_limited_for_each_client_behind_the_proxy(
    clinic: Clinic, served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    port = served(sign_ins_per_minute=2).port
    _, token = clinic.reader("klee", name="P. Klee")

    def sign_in(token: str, client: str) -> int:
        body = json.dumps({"token": token})
        return ask(port, f"X-Forwarded-For: {client}", path="/api/sign-in", body=body)[0]

    assert [sign_in("wrong", "10.1.2.3") for _ in range(3)] == [401, 401, 429]
    assert sign_in(token, "10.1.2.3") == 429
    assert sign_in(token, "10.1.2.4") == 200
    assert "a sign-in from 10.1.2.3 failed" in caplog.text


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{node};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Remote-User $arg_who;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""


@pytest.mark.peer
def test_nginx_in_front(served: Serve, anna: Reader, tmp_path: Path) -> None:
    (nginx,) = require("nginx")
    port = find_free_port()
    node = served(**SSO, public_base=f"http://127.0.0.1:{port}", requests_per_minute=20).port
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port, node=node))
    command = [nginx, "-c", str(config), "-p", str(tmp_path)]
    with OwnedProcess(command, tmp_path / "nginx.log", lambda: is_listening(port)):
        named = "/api/me?who=anna"
        assert ask(port, path=named)[1]["name"] == "Anna"
        assert ask(port, "X-Remote-User: boss", "X_Remote_User: boss", path=named)[1]["name"] == "Anna"
        assert ask(port, "X-Remote-User: boss")[1] == {"reader": None}, "nginx replaced it by nobody"
        for n in range(30):  # what the client claims to be changes nothing
            status, _ = ask(port, f"X-Forwarded-For: 10.0.0.{n}", source="127.0.0.9")
        assert status == 429
        assert ask(port, source="127.0.0.10")[0] == 200
