"""The technologist board."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
from dataclasses import replace
from typing import Any

import pytest

from qc_node.classifiers.catalogue import card
from qc_node.domain import Reason, Verdict
from qc_node.domain.wording import Tone
from qc_node.ledger.audit import FORGOTTEN_EVENT
from qc_node.ledger.erasing import Erasing, Scope
from qc_node.web.app import create_app
from qc_node.web.board import Board
from qc_node.web.broadcast import Broadcaster
from qc_node.web.server import serve
from tests.web.conftest import Browse, Clinic, brain, ct, rejected, undecided


@pytest.mark.parametrize(
    ("verdict", "headline", "detail", "tone", "attention"),
    [
        (undecided("Too unlike."), "No verdict", "Too unlike.", Tone.OPEN, False),
        (brain(), "Good quality", "", Tone.GOOD, False),
        (brain(motion=1, gadolinium=True), "Usable quality", "Some motion, gadolinium given.", Tone.USABLE, False),
        (brain(noise=2, contrast=1), "Poor quality", "Medium contrast, severe noise.", Tone.POOR, True),
        (rejected(Reason.NOT_T1W), "Probably not a usable brain T1w", "Not T1-weighted.", Tone.POOR, True),
        (rejected(Reason.BLANK, measured=True), "Not a usable brain T1w", "Blank or unreadable.", Tone.POOR, True),
        (ct("abdomen_pelvis", True), "Abdomen and pelvis, contrast-enhanced", "", Tone.GOOD, False),
    ],
)
def test_a_verdict_in_words(verdict: Verdict, headline: str, detail: str, tone: Tone, attention: bool) -> None:
    said = card(verdict)
    assert (said.headline, said.detail, said.tone, said.attention) == (headline, detail, tone, attention)


def test_one_card_per_scanner_with_its_newest_series(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.1", "1.1.1", scanner="MR_EAST")
    clinic.judge("1.1.1", brain())
    clinic.receive("1.2", "1.2.1", scanner="MR_EAST")
    clinic.receive("1.3", "1.3.1", scanner="CT_1", modality="CT")
    clinic.judge("1.3.1", ct(), warnings=("Ordered: head; found: chest.",))
    cards = {c["scanner"]: c for c in browse().get("/api/board").json()["cards"]}
    assert cards["MR_EAST"]["newest"]["words"]["headline"] == "Images are arriving"
    assert cards["CT_1"]["newest"]["words"]["detail"] == "Ordered: head; found: chest."
    assert cards["CT_1"]["newest"]["picture"].startswith("/thumbnails/")
    assert "1.3.1" not in json.dumps(cards)


def test_an_alarm_stays_until_acknowledged(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    board = browser.app.state.board
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", rejected())
    board.publish(clinic.number("1.1.1"))
    board.publish(clinic.number("1.1.1"))
    clinic.receive("1.2", "1.2.1")
    clinic.judge("1.2.1", brain())
    board.publish(clinic.number("1.2.1"))
    (card,) = browser.get("/api/board").json()["cards"]
    assert card["newest"]["words"]["headline"] == "Good quality"
    (alarm,) = card["alarms"]
    assert alarm["words"]["headline"] == "Probably not a usable brain T1w"
    assert browser.post(f"/api/alarms/{alarm['id']}/acknowledge").status_code == 200
    assert browser.post(f"/api/alarms/{alarm['id']}/acknowledge").status_code == 404
    assert browser.get("/api/board").json()["cards"][0]["alarms"] == []


def test_judged_again_as_good_ends_the_alarm(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    board = browser.app.state.board
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", brain(motion=2))
    board.publish(clinic.number("1.1.1"))
    assert clinic.ledger.series.judge_again(clinic.number("1.1.1"), clinic.clock())
    clinic.judge("1.1.1", brain())
    board.publish(clinic.number("1.1.1"))
    assert browser.get("/api/board").json()["cards"][0]["alarms"] == []


def test_an_alarm_keeps_its_words_while_its_series_is_judged_again(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", rejected())
    browser.app.state.board.publish(clinic.number("1.1.1"))
    assert clinic.ledger.series.judge_again(clinic.number("1.1.1"), clinic.clock())
    (card,) = browser.get("/api/board").json()["cards"]
    assert card["newest"]["words"]["tone"] == "open"
    assert card["alarms"][0]["words"]["headline"] == "Probably not a usable brain T1w"


def test_an_undetermined_series_is_grey_and_calls_nobody(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", undecided())
    browser.app.state.board.publish(clinic.number("1.1.1"))
    (card,) = browser.get("/api/board").json()["cards"]
    words = card["newest"]["words"]
    assert (words["tone"], words["shape"], words["attention"], card["alarms"]) == ("open", "○", False, [])
    assert words["sure"] == "Not sure enough for a verdict" and words["action"] == "Look at the images."
    (row,) = browser.get("/api/review").json()["rows"]
    assert not row["reviewed"], "nobody has reviewed what has no answer"


def test_verdicts_given_while_nobody_served_raise_alarms_at_start(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", rejected())
    assert len(browse().get("/api/board").json()["cards"][0]["alarms"]) == 1


def test_webhook_is_told_once_and_learns_nothing_of_the_patient(clinic: Clinic) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    done = threading.Event()

    def send(url: str, body: dict[str, Any]) -> None:
        told.append((url, body))
        done.set()

    deps = clinic.deps(webhook_url="http://127.0.0.1:1/hook")
    board = Board(deps, Broadcaster(), send=send)
    clinic.receive("1.1", "1.1.1", accession="A-1")
    clinic.judge("1.1.1", brain(motion=2))
    board.publish(clinic.number("1.1.1"))
    board.publish(clinic.number("1.1.1"))
    assert done.wait(5)
    ((url, body),) = told
    assert url.endswith("/hook") and body["scanner"] == "MR_EAST"
    assert "1.1.1" not in json.dumps(body) and "A-1" not in json.dumps(body)


def test_what_a_closed_study_lacks_is_on_the_pages_and_in_the_webhook(clinic: Clinic, browse: Browse) -> None:
    told: list[dict[str, Any]] = []
    done = threading.Event()

    def send(url: str, body: dict[str, Any]) -> None:
        told.append(body)
        done.set()

    deps = clinic.deps(webhook_url="http://127.0.0.1:1/hook")
    board = Board(deps, Broadcaster(), send=send)
    clinic.receive("1.1", "1.1.1", scanner="CT_1", modality="CT", accession="A-1")
    clinic.judge("1.1.1", ct("chest"))
    board.study_closed("1.1")
    assert not done.is_set(), "nothing is missing"
    clinic.ledger.studies.note_missing("1.1", ["Ordered: neck; no series of the neck came."])
    board.study_closed("1.1")
    assert done.wait(5)
    assert told[0]["event"] == "missing" and told[0]["missing"] == ["Ordered: neck; no series of the neck came."]
    assert "1.1.1" not in json.dumps(told) and "A-1" not in json.dumps(told)
    browser = browse()
    assert browser.get("/api/board").json()["cards"][0]["newest"]["missing"] == told[0]["missing"]
    assert browser.get("/api/review").json()["rows"][0]["missing"] == told[0]["missing"]


def test_a_webhook_that_is_down_holds_up_nothing(clinic: Clinic) -> None:
    board = Board(clinic.deps(webhook_url="http://127.0.0.1:1/hook"), Broadcaster())
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", brain(motion=2))
    board.publish(clinic.number("1.1.1"))
    assert len(board.cards()[0]["alarms"]) == 1


def read_event(answer: http.client.HTTPResponse) -> tuple[str, dict[str, Any]]:
    event = ""
    while True:
        line = answer.readline().decode().strip()
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: "):
            return event, json.loads(line[6:])


def test_pushed_from_another_thread_to_every_open_board(clinic: Clinic) -> None:
    app = create_app(clinic.deps())
    server = serve(app, "127.0.0.1", 0)
    try:
        boards = []
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/live/events")
            boards.append(connection.getresponse())
            assert read_event(boards[-1]) == ("hello", {"cards": []})
        clinic.receive("1.1", "1.1.1")
        clinic.judge("1.1.1", brain(noise=1))
        thread = threading.Thread(target=app.state.board.publish, args=(clinic.number("1.1.1"),))
        thread.start()
        thread.join()
        for board in boards:
            event, card = read_event(board)
            assert event == "card" and card["newest"]["words"]["headline"] == "Usable quality"
    finally:
        server.stop()


def test_what_another_process_forgot_leaves_the_open_boards(clinic: Clinic) -> None:
    app = create_app(clinic.deps())
    server = serve(app, "127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        clinic.receive("1.1", "1.1.1")
        clinic.judge("1.1.1", rejected())
        app.state.board.publish(clinic.number("1.1.1"))
        connection.request("GET", "/live/events")
        board = connection.getresponse()
        _, first = read_event(board)
        assert len(first["cards"]) == 1 and len(first["cards"][0]["alarms"]) == 1
        erasing = Erasing(clinic.ledger.db, lambda: secrets.token_hex(16))
        with clinic.ledger.db.transaction():
            erasing.erase(Scope(("1.1",)))
            clinic.ledger.audit.add(FORGOTTEN_EVENT, "somebody", 5.0)
        assert read_event(board) == ("hello", {"cards": []})
    finally:
        server.stop()


def test_stopping_does_not_wait_for_open_boards(clinic: Clinic) -> None:
    app = create_app(clinic.deps())
    server = serve(app, "127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/live/events")
    answer = connection.getresponse()
    read_event(answer)
    server.stop()
    assert not server.alive()
    assert answer.read().decode().strip() == ""


def test_health_pages(clinic: Clinic, browse: Browse) -> None:
    deps = replace(clinic.deps(), readyz=lambda: (False, {"disk": "full"}))
    browser = browse(create_app(deps))
    assert browser.get("/healthz").status_code == 200
    answer = browser.get("/readyz")
    assert answer.status_code == 503 and answer.json() == {"disk": "full"}


def test_series_as_json(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.1", "1.1.1")
    browser = browse()
    assert browser.get("/api/series/1.1.1").json()["results"] == {}
    clinic.judge("1.1.1", brain(motion=2))
    answer = browser.get("/api/series/1.1.1").json()
    assert answer["results"]["motion"]["grade"] == 2 and answer["results"]["tier"]["value"] == 3
    assert answer["stage"] == "brain_mri" and answer["model"]["sha256"] == "ab" * 32
    assert browser.get("/api/series/1.9").status_code == 404
