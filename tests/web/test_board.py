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
from qc_node.web.stations import NamedScanner, Stations
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


def test_other_systems_are_told_once_and_learn_nothing_of_the_patient(clinic: Clinic) -> None:
    board = Board(clinic.deps(), Broadcaster())
    clinic.receive("1.1", "1.1.1", accession="A-1", scanner="CT_1", modality="CT", station="CT ROOM 2")
    claimed = 'Series Description (0008,103E) says "Chest of Jane Doe"; found: abdomen.'
    clinic.judge("1.1.1", ct("abdomen"), warnings=(claimed,))
    board.publish(clinic.number("1.1.1"))
    board.publish(clinic.number("1.1.1"))
    (notice,) = clinic.told
    assert (notice.event, notice.scanner) == ("attention", "CT ROOM 2")
    assert notice.sentence == "Series Description (0008,103E) says …; found: abdomen."
    assert notice.webhook is not None and notice.webhook.keys() == {"event", "scanner", "words"}
    assert notice.webhook["scanner"] == "CT_1" and notice.webhook["words"]["attention"] is True
    assert not any(word in repr(notice) for word in ("1.1.1", "A-1", "Doe"))
    (alarm,) = board.cards()[0]["alarms"]
    assert alarm["sentence"] == claimed, "who sees the header anyway sees what it says"


def test_what_a_closed_study_lacks_calls_until_it_came(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    board: Board = browser.app.state.board
    clinic.receive("1.1", "1.1.1", scanner="CT_1", modality="CT", accession="A-1")
    clinic.judge("1.1.1", ct("chest"))
    board.study_closed("1.1")
    assert clinic.told == [], "nothing is missing"
    lacks = ["Ordered: neck; no series of the neck came."]
    clinic.ledger.studies.note_missing("1.1", lacks)
    board.study_closed("1.1")
    board.study_closed("1.1")
    (notice,) = clinic.told
    assert notice.webhook == {"event": "missing", "scanner": "CT_1", "missing": lacks}
    (card,) = browser.get("/api/board").json()["cards"]
    assert card["newest"]["missing"] == lacks
    assert [(a["kind"], a["sentence"]) for a in card["alarms"]] == [("missing", lacks[0])]
    assert browser.get("/api/review").json()["rows"][0]["missing"] == lacks
    clinic.receive("1.1", "1.1.2", scanner="CT_1", modality="CT")
    clinic.ledger.studies.note_missing("1.1", [])
    board.study_closed("1.1")
    assert browser.get("/api/board").json()["cards"][0]["alarms"] == []


def test_what_a_study_lacks_again_calls_again(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    board: Board = browser.app.state.board
    clinic.receive("1.1", "1.1.1", scanner="CT_1", modality="CT")
    clinic.judge("1.1.1", ct("chest"))
    lacks = ["Ordered: neck; no series of the neck came."]
    for missing, called in ((lacks, 1), ([], 0), (lacks, 1)):  # another series is judged again, and once more
        clinic.ledger.studies.note_missing("1.1", missing)
        board.study_closed("1.1")
        assert len(clinic.ledger.alarms.open_ones()) == called
    (alarm,) = clinic.ledger.alarms.open_ones()
    assert board.acknowledge(alarm["id"], "board")
    board.study_closed("1.1")
    assert clinic.ledger.alarms.open_ones() == [], "what somebody has seen stays closed"


def test_two_bad_series_two_seconds_apart_are_both_on_the_board(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    clinic.receive("1.1", "1.1.1")
    clinic.judge("1.1.1", brain(), warnings=("Ordered: head; found no head.",))
    browser.app.state.board.publish(clinic.number("1.1.1"))
    clinic.receive("1.2", "1.2.1")
    clinic.judge("1.2.1", rejected(), warnings=("Ordered: knee; found: head.",))
    browser.app.state.board.publish(clinic.number("1.2.1"))
    (card,) = browser.get("/api/board").json()["cards"]
    numbers = [clinic.number(uid) for uid in ("1.1.1", "1.2.1")]
    raised = [(numbers[0], "order"), (numbers[1], "verdict"), (numbers[1], "order")]
    assert [(a["series"], a["kind"]) for a in card["alarms"]] == raised
    assert card["alarms"][0]["sentence"] == "Ordered: head; found no head."
    again = browse()
    assert len(again.get("/api/board").json()["cards"][0]["alarms"]) == 3, "and after a restart"
    first, verdict, _ = card["alarms"]
    assert browser.post(f"/api/alarms/{verdict['id']}/acknowledge", json={"answer": "repeated"}).status_code == 200
    left = browser.get("/api/board").json()["cards"][0]["alarms"]
    assert [a["kind"] for a in left] == ["order", "order"], "each reason is answered for itself"
    assert clinic.ledger.series.judge_again(numbers[0], clinic.clock())
    clinic.judge("1.1.1", brain())
    browser.app.state.board.publish(numbers[0])
    assert first["id"] not in [a["id"] for a in browser.get("/api/board").json()["cards"][0]["alarms"]]


@pytest.mark.parametrize(("state", "calls"), [("failed", ["failed"]), ("skipped", [])])
def test_a_failed_series_calls_and_a_skipped_one_does_not(
    clinic: Clinic, browse: Browse, state: str, calls: list[str]
) -> None:
    browser = browse()
    clinic.receive("1.1", "1.1.1")
    row = clinic.ledger.series.get("1.1.1")
    assert row is not None
    clinic.ledger.series.close(row["series_id"], row["last_received"], "test", clinic.clock())
    clinic.ledger.series.finish(row["series_id"], 1, state, clinic.clock(), sentence="Its pixels cannot be read.")
    browser.app.state.board.publish(row["series_id"])
    (card,) = browser.get("/api/board").json()["cards"]
    assert [a["kind"] for a in card["alarms"]] == calls
    assert card["newest"]["words"]["detail"] == "Its pixels cannot be read."
    assert [n.event for n in clinic.told] == calls


def test_the_strip_keeps_the_series_before_the_newest(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    for n in range(11):
        clinic.receive(f"1.{n}", f"1.{n}.1")
        clinic.judge(f"1.{n}.1", brain(motion=n % 3))
    (card,) = browser.get("/api/board").json()["cards"]
    assert [s["series"] for s in card["recent"]] == [clinic.number(f"1.{n}.1") for n in range(9, 1, -1)]
    assert card["recent"][0]["words"] == {"headline": "Good quality", "tone": "good", "shape": "●"}
    assert card["recent"][0]["picture"].startswith("/thumbnails/")


# -- stations ----------------------------------------------------------------------------------------
NAMED = Stations((NamedScanner("mr750-room1", "MR 1 (room 3)", "room 3"), NamedScanner("CT_EAST", "CT east")))


def test_behind_a_forwarding_pacs_each_scanner_has_its_card(clinic: Clinic, browse: Browse) -> None:
    browser = browse(stations=NAMED)
    for n, station in enumerate(("MR750-ROOM1", "CT-ROOM2", "CT-ROOM3")):
        clinic.receive(f"1.{n}", f"1.{n}.1", scanner="ARCHIVE", station=station)
        clinic.judge(f"1.{n}.1", rejected())
        browser.app.state.board.publish(clinic.number(f"1.{n}.1"))
    clinic.receive("1.9", "1.9.1", scanner="CT_EAST")
    cards = browser.get("/api/board").json()["cards"]
    assert [(c["scanner"], len(c["alarms"])) for c in cards] == [
        ("CT-ROOM2", 1),
        ("CT-ROOM3", 1),
        ("MR 1 (room 3)", 1),
        ("CT east", 0),
    ]
    for wanted in ("MR 1 (room 3)", "room 3"):
        (card,) = browser.get("/api/board", params={"scanner": wanted}).json()["cards"]
        assert card["scanner"] == "MR 1 (room 3)" and card["rooms"] == ["room 3"]
    assert browser.get("/api/board", params={"scanner": "elsewhere"}).json()["cards"] == []


def test_rows_of_before_find_their_scanner_in_what_the_header_claimed(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.1", "1.1.1", scanner="ARCHIVE")
    clinic.receive("1.2", "1.2.1", scanner="ARCHIVE")
    clinic.judge("1.1.1", rejected())
    clinic.ledger.series.note_claims(clinic.number("1.1.1"), {"station_name": "MR750-ROOM1"})
    with clinic.ledger.db.transaction() as conn:
        conn.execute("UPDATE series SET station = NULL")
        number = clinic.number("1.1.1")
        conn.execute(
            "INSERT INTO alarms (series_id, run, calling_ae, station, raised_at)"
            " VALUES (?, 1, 'ARCHIVE', 'ARCHIVE', 5)",
            (number,),
        )
    cards = browse().get("/api/board").json()["cards"]
    assert [(c["scanner"], len(c["alarms"])) for c in cards] == [("MR750-ROOM1", 1), ("ARCHIVE", 0)]


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
            assert read_event(boards[-1]) == ("hello", {"cards": [], "now": clinic.clock()})
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
        assert read_event(board) == ("hello", {"cards": [], "now": clinic.clock()})
    finally:
        server.stop()


def test_a_board_of_one_room_hears_of_that_room_only(clinic: Clinic) -> None:
    app = create_app(clinic.deps(stations=NAMED))
    server = serve(app, "127.0.0.1", 0)
    try:
        streams = {}
        for wanted in ("?scanner=room%203", "?scanner=CT%20east", ""):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", f"/live/events{wanted}")
            streams[wanted] = connection.getresponse()
            assert read_event(streams[wanted])[0] == "hello"
        for n, station in enumerate(("CT_EAST", "MR750-ROOM1")):
            clinic.receive(f"1.{n}", f"1.{n}.1", scanner="ARCHIVE", station=station)
            app.state.board.publish(clinic.number(f"1.{n}.1"))
        app.state.board.publish_notice()
        heard = {w: [read_event(s) for _ in range(2 if w else 3)] for w, s in streams.items()}
        named = {w: [data.get("scanner") for _, data in events] for w, events in heard.items()}
        assert named == {
            "?scanner=room%203": ["MR 1 (room 3)", None],
            "?scanner=CT%20east": ["CT east", None],
            "": ["CT east", "MR 1 (room 3)", None],
        }
    finally:
        server.stop()


def test_a_silent_stream_says_that_it_is_alive(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qc_node.web.broadcast.HEARTBEAT_S", 0.05)
    server = serve(create_app(clinic.deps()), "127.0.0.1", 0)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/live/events")
        answer = connection.getresponse()
        assert [read_event(answer)[0] for _ in range(3)] == ["hello", "beat", "beat"]
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
