"""Other systems are told until they have taken it: a real web server, a real mail server, a real Apprise."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from click.testing import CliRunner

from qc_node import parts
from qc_node.cli.main import main_group
from qc_node.config import load
from qc_node.domain import QcNodeError
from qc_node.domain.attention import Notice
from qc_node.ledger import Ledger
from qc_node.node import Node
from qc_node.operations.metrics import Metrics
from qc_node.operations.notify import (
    FIRST_PAUSE_S,
    GIVE_UP_S,
    KEEP_S,
    LONGEST_PAUSE_S,
    OF_WEBHOOK,
    WEBHOOK,
    NoticeTarget,
    Notifier,
    NotTaken,
    hindrance,
    tell,
)
from tests.web.conftest import Clinic, rejected
from tests.web.test_browser import RealClock
from tests.web.test_hostile_hub import answering

START = 1_790_000_000.0
NOTICE = Notice("attention", "MR 1 (room 3)", "Poor quality. Severe motion.", START)
FAILED = Notice("failed", "CT 2", "A series could not be judged. The board says why.", START)


@dataclass
class Hook:
    """A web server that keeps what it is told, and answers with `status`."""

    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@pytest.fixture
def hook() -> Iterator[Hook]:
    kept = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if kept.status == 200:
                kept.bodies.append(json.loads(body))
            self.send_response(kept.status)
            if kept.status == 302:
                self.send_header("Location", "/sign-in")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)  # a page to sign in
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()


class Mailbox:
    """What a mail server does with what it gets: keep it."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((list(envelope.rcpt_tos), envelope.content))
        return "250 OK"


@dataclass
class Site:
    """A ledger, a clock and whom it tells."""

    ledger: Ledger
    targets: list[NoticeTarget]
    now: float = START
    outcomes: list[tuple[str, str]] = field(default_factory=list)

    def notifier(self) -> Notifier:
        return Notifier(
            self.ledger,
            self.targets,
            "https://qc.example/",
            lambda: self.now,
            lambda *outcome: self.outcomes.append(outcome),
        )


@pytest.fixture
def site(tmp_path: Path, hook: Hook) -> Site:
    return Site(Ledger(tmp_path / "ledger.sqlite"), [NoticeTarget("team", hook.url)])


def test_a_target_learns_scanner_sentence_time_and_where_to_look(site: Site, hook: Hook) -> None:
    notifier = site.notifier()
    notifier.tell(NOTICE)
    assert hook.bodies == [], "nobody waits for it"
    notifier.step()
    notifier.step()
    (body,) = hook.bodies
    assert body.pop("time").startswith("2026-09-2")
    assert body == {
        "event": "attention",
        "scanner": "MR 1 (room 3)",
        "sentence": "Poor quality. Severe motion.",
        "at": START,
        "link": "https://qc.example/live?scanner=MR%201%20%28room%203%29",
    }
    assert site.outcomes == [("team", "sent")]


def test_each_target_is_told_what_it_wants_to_know(site: Site) -> None:
    site.targets = [
        NoticeTarget("a", "http://x", frozenset({"failed"})),
        NoticeTarget("b", "http://x"),
        NoticeTarget(WEBHOOK, "http://x", OF_WEBHOOK),
    ]
    notifier = site.notifier()
    notifier.tell(NOTICE)
    notifier.tell(FAILED)
    due = site.ledger.notifications.due(site.now, 9, 1.0)
    assert [(row["target"], row["event"]) for row in due] == [("b", "attention"), ("a", "failed"), ("b", "failed")]


def test_the_old_webhook_gets_its_own_json(site: Site, hook: Hook) -> None:
    site.targets = [NoticeTarget(WEBHOOK, hook.url, OF_WEBHOOK)]
    notifier = site.notifier()
    notifier.tell(
        Notice("missing", "x", "y", START, {"event": "missing", "scanner": "CT_1", "missing": ["No neck."]})
    )
    notifier.step()
    assert hook.bodies == [{"event": "missing", "scanner": "CT_1", "missing": ["No neck."], "at": START}]


def test_who_is_away_is_told_when_he_is_back_and_holds_up_nobody(
    site: Site, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    away = Hook(port=1)
    site.targets = [NoticeTarget("away", away.url.replace("hook", "secret-token")), NoticeTarget("team", hook.url)]
    notifier = site.notifier()
    with caplog.at_level(logging.INFO):
        for n in range(3):
            notifier.tell(Notice("attention", f"MR {n}", "Poor quality.", START))
        due = notifier.step()
    assert [body["scanner"] for body in hook.bodies] == ["MR 0", "MR 1", "MR 2"]
    assert site.outcomes.count(("away", "retry")) == 1, "one attempt, not one for each"
    assert due == START + FIRST_PAUSE_S
    (row, *_) = site.ledger.notifications.due(START + 1e5, 9, 1.0)
    assert "secret" not in caplog.text and "secret" not in (row["last_error"] or "secret")
    notifier.step()
    assert len(site.outcomes) == 4, "it rests"
    site.targets = [NoticeTarget("away", hook.url)]
    site.now += FIRST_PAUSE_S
    site.notifier().step()
    assert [body["scanner"] for body in hook.bodies[3:]] == ["MR 0", "MR 1", "MR 2"]
    assert site.ledger.notifications.waiting() == 0


def test_pauses_grow_and_after_a_day_it_is_given_up_aloud(
    site: Site, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 503
    notifier = site.notifier()
    notifier.tell(NOTICE)
    pauses = []
    while site.ledger.notifications.waiting():
        due = notifier.step()
        if due is not None:
            pauses.append(due - site.now)
            site.now = due
    assert pauses[:4] == [10, 20, 40, 80] and max(pauses) == LONGEST_PAUSE_S
    assert GIVE_UP_S <= site.now - START < GIVE_UP_S + 2 * LONGEST_PAUSE_S
    assert "team was not told of an event (attention) and never will be: It answered 503" in caplog.text
    assert site.outcomes[-1] == ("team", "given_up")
    assert notifier.step() is None


def test_what_waits_for_a_target_that_never_comes_back_ends_after_a_day(site: Site, hook: Hook) -> None:
    hook.status = 503
    notifier = site.notifier()
    for n in range(100):
        notifier.tell(Notice("attention", "MR", "Poor quality.", START + n))
    while site.now < START + GIVE_UP_S + 3 * LONGEST_PAUSE_S and (due := notifier.step()) is not None:
        site.now = due
    assert site.ledger.notifications.waiting() == 0 and site.outcomes.count(("team", "given_up")) == 100


def test_a_clock_that_was_a_year_ahead_holds_up_nothing(site: Site, hook: Hook) -> None:
    hook.status = 503
    site.now += 365 * 86_400
    notifier = site.notifier()
    notifier.tell(Notice("attention", "MR", "Poor quality.", site.now))
    notifier.step()
    hook.status, site.now = 200, START
    notifier.step()
    assert len(hook.bodies) == 1


def test_a_clock_set_back_a_little_gives_up_nothing(site: Site, hook: Hook) -> None:
    hook.status = 503
    notifier = site.notifier()
    notifier.tell(NOTICE)
    notifier.step()
    site.now = START - LONGEST_PAUSE_S  # what waits so long is tried at once
    notifier.step()
    hook.status, site.now = 200, START + LONGEST_PAUSE_S
    notifier.step()
    assert site.outcomes[-1] == ("team", "sent") and len(hook.bodies) == 1


def test_a_target_that_speaks_no_http_keeps_nobody_else_from_hearing(site: Site, hook: Hook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"nonsense\r\n\r\n")

        talking = threading.Thread(target=babble, daemon=True)
        talking.start()
        babbles = f"http://127.0.0.1:{server.getsockname()[1]}/"
        site.targets = [NoticeTarget("babbles", babbles), NoticeTarget("team", hook.url)]
        notifier = site.notifier()
        notifier.tell(NOTICE)
        notifier.step()
        talking.join(5)
    assert site.outcomes == [("babbles", "retry"), ("team", "sent")]


def test_a_redirect_is_no_answer(site: Site, hook: Hook) -> None:
    hook.status = 302
    notifier = site.notifier()
    notifier.tell(NOTICE)
    notifier.step()
    assert site.outcomes == [("team", "retry")] and site.ledger.notifications.waiting() == 1


def test_rows_that_are_done_with_go_after_a_month(site: Site, hook: Hook) -> None:
    notifier = site.notifier()
    notifier.tell(NOTICE)
    notifier.step()
    hook.status = 503
    notifier.tell(Notice("attention", "MR", "Later.", START))
    site.now += KEEP_S + 3601
    count = "SELECT count(*) FROM notifications"
    assert site.ledger.db.value(count) == 2
    site.now -= KEEP_S  # within the day, so that the second is not given up
    notifier.step()
    site.now += KEEP_S
    notifier.step()
    assert site.ledger.db.value(count) <= 1


def test_who_is_not_configured_any_more_is_given_up(site: Site) -> None:
    site.notifier().tell(NOTICE)
    site.targets = []
    site.notifier().step()
    assert site.outcomes == [("team", "given_up")]


KILLED = """
import os, signal, sys, time
from pathlib import Path
from qc_node.domain.attention import Notice
from qc_node.ledger import Ledger
from qc_node.operations.notify import Notifier, NoticeTarget
ledger = Ledger(Path(sys.argv[1]))
def send(target, body):
    os.kill(os.getpid(), signal.SIGKILL)
notifier = Notifier(ledger, [NoticeTarget("team", "http://x")], None, time.time, send=send)
with ledger.db.transaction():
    notifier.tell(Notice("attention", "MR 1", "Poor quality.", time.time()))
notifier.step()
"""


def test_a_kill_in_mid_sending_loses_nothing(site: Site, hook: Hook, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "ledger.sqlite")], check=False)
    assert done.returncode == -signal.SIGKILL
    site.now = START + 1e9
    row = site.ledger.notifications.due(site.now, 9, 1.0)[0]
    site.now = row["created_at"] + 5
    site.notifier().step()
    assert [body["scanner"] for body in hook.bodies] == ["MR 1"]


# -- Apprise -----------------------------------------------------------------------------------------
BODY = {
    "event": "attention",
    "scanner": "MR 1",
    "sentence": "Poor quality.",
    "at": START,
    "link": "https://qc.example/live",
}


def test_apprise_reaches_a_web_server(hook: Hook) -> None:
    tell(NoticeTarget("x", f"json://127.0.0.1:{hook.port}/hook"), BODY)
    (told,) = hook.bodies
    assert told["title"] == "qc-node: MR 1"
    assert told["message"].startswith("Poor quality.\n2026-09-2") and told["message"].endswith(
        "https://qc.example/live"
    )
    hook.status = 503
    with pytest.raises(NotTaken, match="refused or not reached"):
        tell(NoticeTarget("x", f"json://127.0.0.1:{hook.port}/hook"), BODY)


def test_apprise_sends_mail(free_port: Callable[[], int]) -> None:
    box = Mailbox()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        url = f"mailto://127.0.0.1:{port}?from=qc@hospital.example&to=mr@hospital.example"
        tell(NoticeTarget("mail", url), BODY)
    finally:
        controller.stop()
    ((to, raw),) = box.mails
    mail = message_from_bytes(raw)
    assert to == ["mr@hospital.example"] and mail["Subject"] == "qc-node: MR 1"
    parts_of_it = [part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()]
    assert any(b"Poor quality." in part for part in parts_of_it if isinstance(part, bytes))


def test_the_doctor_says_what_keeps_a_target_from_being_told() -> None:
    assert hindrance("https://x", {}) is None
    assert hindrance("mailto://${HOST}", {"HOST": "mail.example?to=a@b.example&from=c@d.example"}) is None
    missing = "The environment variable HOST, which [[notify]] names, is not set."
    assert hindrance("mailto://${HOST}", {}) == missing
    assert hindrance("nonsense://secret", {}) == "Its address is none that Apprise knows."


def test_an_address_that_nobody_knows_is_said() -> None:
    with pytest.raises(NotTaken, match="none that Apprise knows"):
        tell(NoticeTarget("x", "nonsense://secret"), BODY)


# -- configuration and command -----------------------------------------------------------------------
def configured(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "qc-node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n{text}', encoding="utf-8")
    return path


def test_secrets_come_from_the_environment(tmp_path: Path) -> None:
    path = configured(tmp_path, '[[notify]]\nname = "chat"\nurl = "slack://${TOKEN}/qc"\nevents = ["failed"]\n')
    (target,) = parts.targets(load(path, {}), {"TOKEN": "a/b/c"})
    assert target == NoticeTarget("chat", "slack://a/b/c/qc", frozenset({"failed"}))
    assert "a/b/c" not in repr(target)
    with pytest.raises(QcNodeError, match=r"TOKEN, which .* is not set"):
        parts.targets(load(path, {}), {})


def test_the_command_tries_each_target_and_says_one_line(tmp_path: Path, hook: Hook) -> None:
    url = f'[webhook]\nurl = "{hook.url}"\n'
    path = configured(tmp_path, f'{url}[[notify]]\nname = "down"\nurl = "http://127.0.0.1:1/"\n')
    both = CliRunner().invoke(main_group, ["notify", "test", "--config", str(path)])
    assert both.exit_code == 1
    assert both.output.splitlines() == [
        "down: not told. It could not be reached (Connection refused).",
        "[webhook]: told.",
    ]
    assert hook.bodies[0]["event"] == "test"
    one = CliRunner().invoke(main_group, ["notify", "test", "--name", WEBHOOK, "--config", str(path)])
    assert (one.exit_code, one.output) == (0, "[webhook]: told.\n")
    none = CliRunner().invoke(main_group, ["notify", "test", "--name", "up", "--config", str(path)])
    assert none.exit_code == 1 and "known: down, [webhook]" in str(none.exception)


def test_a_node_tells_what_its_board_raises(tmp_path: Path, hook: Hook, free_port: Callable[[], int]) -> None:
    """From the rows of a judged series in a closed study to the target, through the parts of a whole node."""
    (tmp_path / "data").mkdir()
    text = f'[web]\nport = {free_port()}\n[[scanner]]\nstation = "MR_EAST"\nname = "MR 1"\n'
    rule = '[[rule]]\norder = "head"\nseries = ["venous"]\n'
    path = configured(tmp_path, f'{text}{rule}[[notify]]\nname = "team"\nurl = "{hook.url}"\n')
    node = Node(load(path, {}))
    web = node._open_web()
    try:
        clinic = Clinic(node.ledger, node.spool, RealClock())
        clinic.receive("1.1", "1.1.1")
        clinic.judge("1.1.1", rejected())
        clinic.ledger.series.note_claims(clinic.number("1.1.1"), {"modality": "MR", "ordered": ["MRI head"]})
        series, study = clinic.ledger.series.get("1.1.1"), clinic.ledger.studies.get("1.1")
        assert series is not None and study is not None
        assert clinic.ledger.studies.close("1.1", study["last_received"], "test", time.time())
        finished = {"event": "finished", "series_id": series["series_id"], "state": "judged", "stage": "brain_mri"}
        measured = {"modality": "MR", "station": "MR 1", "measures": {}, "unusual": [], "departures": []}
        node._on_worker({**finished, "timings": {}, "verdicts": [], **measured})
        node._on_delivery({"kind": "sr"}, "PACS", "failed")  # type: ignore[typeddict-item]
        assert hook.bodies == []
        node._notifier.step()
    finally:
        web.stop()
        node.intake.close()
    assert [(body["event"], body["scanner"]) for body in hook.bodies] == [
        ("attention", "MR 1"),
        ("missing", "MR 1"),
        ("delivery", ""),
    ]
    lacks = 'Orders like "head" expect a series like "venous", and the study has none.'
    assert hook.bodies[1]["sentence"] == lacks
    said = node.metrics.render().body.decode()
    assert 'qc_node_notifications_total{outcome="sent",target="team"} 3.0' in said
    assert 'qc_node_calls_total{kind="missing",outcome="raised"} 1.0' in said


def test_outcomes_are_counted_from_zero() -> None:
    metrics = Metrics(targets=["team"])
    metrics.notification("team", "given_up")
    metrics.notification("somebody", "sent")
    said = metrics.render().body.decode()
    assert 'qc_node_notifications_total{outcome="given_up",target="team"} 1.0' in said
    assert 'qc_node_notifications_total{outcome="retry",target="team"} 0.0' in said
    assert "somebody" not in said
    metrics.call("vote", "repeated")
    assert 'qc_node_calls_total{kind="vote",outcome="repeated"} 1.0' in metrics.render().body.decode()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "It does not speak HTTP (BadStatusLine)."),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "It does not speak HTTP (HTTPException)."),
        (b"HTTP/1.1 500 \x1b[31m" + b"A" * 60_000 + b"\r\n\r\n", "It answered 500 Internal Server Error."),
        (b"HTTP/1.1 302 Found\r\nLocation: {hook}\r\nContent-Length: 0\r\n\r\n", "It answered 302 Found."),
    ],
)
def test_a_target_that_answers_nonsense_holds_up_nobody_else(
    site: Site, hook: Hook, answer: bytes, said: str
) -> None:
    with answering(answer.replace(b"{hook}", hook.url.encode())) as port:
        site.targets = [NoticeTarget("odd", f"http://127.0.0.1:{port}/x"), NoticeTarget("team", hook.url)]
        notifier = site.notifier()
        notifier.tell(NOTICE)
        notifier.step()
    (waiting,) = site.ledger.notifications.due(START + LONGEST_PAUSE_S, 9, LONGEST_PAUSE_S)
    assert (waiting["target"], waiting["last_error"]) == ("odd", said)
    assert len(hook.bodies) == 1, "told once, and not by following the other one's redirect"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@127.0.0.1/hook",
        "https://127.0.0.1:s3cret/hook",
        "https://127.0.0.1/hook/s3 cret",
        "https://[s3cret/hook",
        "https://127.0.0.1/s3cret-\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "https:///s3cret",
    ],
)
def test_an_address_that_is_none_is_told_without_its_secret(
    site: Site, hook: Hook, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.targets = [NoticeTarget("wrong", url), NoticeTarget("team", hook.url)]
    notifier = site.notifier()
    notifier.tell(NOTICE)
    notifier.step()
    assert site.outcomes == [("wrong", "retry"), ("team", "sent")]
    trouble = hindrance(url, {})
    assert trouble is not None and trouble.startswith("Its address")
    assert "s3cret" not in caplog.text + trouble + str(site.ledger.notifications.due(START * 2, 9, 1.0))
