"""The board in a real Chromium: answering, one room, a cut line that looks cut, foreign text, no scroll."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from qc_node.web.app import create_app
from qc_node.web.board import Board
from qc_node.web.server import ServerHandle, serve
from qc_node.web.stations import NamedScanner, Stations
from qc_node.web.votes.calling import VoteCalls
from tests.peers import wait_for
from tests.web.browser import Chromium
from tests.web.conftest import Clinic, brain, ct, rejected
from tests.web.test_browser import RealClock

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("browser")]

NAMED = Stations((NamedScanner("MR750-ROOM3", "MR 1 (room 3)", "room 3"),))
ARABIC = "رأس ٣"


@dataclass
class Shown:
    """A board that is open in the browser."""

    clinic: Clinic
    server: ServerHandle
    board: Board

    def judged(self, series: str) -> None:
        self.board.publish(self.clinic.number(series))


@pytest.fixture
def shown(clinic: Clinic, chromium: Chromium) -> Iterator[Shown]:
    clinic.clock = RealClock()
    for n in range(10):
        clinic.receive(f"1.{n}", f"1.{n}.1", scanner="ARCHIVE", station="MR750-ROOM3", images=1 if n == 9 else 176)
        clinic.judge(f"1.{n}.1", rejected() if n in (3, 7) else brain(motion=n % 2), seed=n, description=ARABIC)
    clinic.receive("2.1", "2.1.1", scanner="ARCHIVE", modality="CT", station="CT-ROOM2")
    clinic.judge("2.1.1", ct("chest"), warnings=("Ordered: abdomen; found: chest.",))
    app = create_app(clinic.deps(stations=NAMED, calls_per_day=1))
    server = serve(app, "127.0.0.1", 0)
    chromium.resize(1600, 1000)
    yield Shown(clinic, server, app.state.board)
    chromium.network(True)
    chromium.open("about:blank")
    if server.alive():
        server.stop()


def keep(chromium: Chromium, name: str) -> None:
    """A picture for whoever asks for it by KEEP_SCREENSHOTS."""
    if folder := os.environ.get("KEEP_SCREENSHOTS"):
        chromium.screenshot(Path(folder) / f"{name}.png", whole=True)


def test_calls_stay_until_they_are_answered_with_one_press(chromium: Chromium, shown: Shown) -> None:
    chromium.open(f"{shown.server.url}/live")
    chromium.until_text("#cards", "MR 1 (room 3)")
    said = chromium.text("#cards")
    assert chromium.script("return document.querySelectorAll('.alarm').length") == 3, "two verdicts, one order"
    assert "Needs a look" in said and "Not what was ordered" in said and "Ordered: abdomen; found: chest." in said
    assert "2 calls today, 0 acted upon" in said and "more often than once a day" in said
    assert "1 image" in said and "1 images" not in said
    assert chromium.script("return document.querySelectorAll('.strip li').length") == 8
    assert chromium.script(
        "return [...document.querySelectorAll('bdi')].some((b) => b.textContent === arguments[0])", ARABIC
    )
    for width in (320, 800, 1600):
        chromium.resize(width, 1000)
        assert chromium.script("return document.documentElement.scrollWidth <= innerWidth"), width
        small = (
            "return [...document.querySelectorAll('main button, main a')]"
            ".filter((b) => b.getBoundingClientRect().height < 24).length"
        )
        assert chromium.script(small) == 0
        keep(chromium, f"board-{width}")
    chromium.script("document.querySelectorAll('.answers button')[1].focus()")
    shown.clinic.receive("1.10", "1.10.1", scanner="ARCHIVE", station="MR750-ROOM3")
    shown.judged("1.10.1")
    chromium.until_text("#cards", "Images are arriving")
    assert chromium.script("return document.activeElement.textContent") == "Patient moved", "the focus stays"
    for left in (2, 1, 0):
        time.sleep(0.7)  # a person looks before the next press; less is a double click
        chromium.click(".answers button")
        chromium.until("return document.querySelectorAll('.alarm').length === arguments[0]", left)
    answers = [row["answer"] for row in shown.clinic.ledger.alarms.raised_since(0)]
    assert answers == ["repeated"] * 3
    chromium.until_text("#cards", "2 calls today, 2 acted upon")


def test_a_double_click_answers_one_call_and_not_the_next_that_moves_there(
    chromium: Chromium, shown: Shown
) -> None:
    chromium.open(f"{shown.server.url}/live")
    chromium.until("return document.querySelectorAll('.alarm').length === 3")
    chromium.script("document.querySelector('.answers button').click()")
    chromium.until(
        "return document.querySelectorAll('.alarm').length === 2"
        " && (document.querySelector('.answers button').click(), true)"
    )
    time.sleep(1.0)
    assert chromium.script("return document.querySelectorAll('.alarm').length") == 2
    assert [row["answer"] for row in shown.clinic.ledger.alarms.raised_since(0)].count("repeated") == 1


def test_a_call_of_a_good_series_does_not_say_nothing_to_do(chromium: Chromium, shown: Shown) -> None:
    _, token = shown.clinic.reader()
    body = {"key": "a-poor-vote", "vote": "poor", "study_instance_uid": "1.8", "reasons": ["motion"]}
    answer = httpx.post(f"{shown.server.url}/api/votes", json=body, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 201, answer.text
    later = replace(shown.clinic.deps(stations=NAMED), clock=lambda: time.time() + 3600)
    calls = VoteCalls(later, shown.board)
    calls.step()
    calls.step()
    chromium.open(f"{shown.server.url}/live")
    chromium.until_text("#cards", "Read as poor")
    said = chromium.script("return document.querySelector('.vote-alarm').innerText")
    assert "Look at the images before the patient leaves." in said and "Nothing to do" not in said


def test_one_room_is_a_board_of_its_own(chromium: Chromium, shown: Shown) -> None:
    chromium.open(f"{shown.server.url}/live?scanner=room%203")
    chromium.until_text("#cards", "MR 1 (room 3)")
    assert chromium.text("h1") == "room 3"
    assert chromium.script("return document.querySelectorAll('.card').length") == 1
    keep(chromium, "board-room")
    shown.judged("2.1.1")
    shown.clinic.receive("1.10", "1.10.1", scanner="ARCHIVE", station="MR750-ROOM3")
    shown.judged("1.10.1")
    chromium.until_text("#cards", "Images are arriving")
    assert chromium.script("return document.querySelectorAll('.card').length") == 1


def test_a_cut_board_looks_cut_and_mends(chromium: Chromium, shown: Shown) -> None:
    chromium.open(f"{shown.server.url}/live")
    chromium.until_text("#live-says", "Live")
    port = shown.server.port
    shown.server.stop()
    chromium.until_text("#cut", "what was last known")
    assert chromium.text("#live-says") == "Not connected"
    assert "grayscale" in chromium.script("return getComputedStyle(document.querySelector('.card')).filter")
    assert chromium.text(".last-known") == "last known"
    keep(chromium, "board-cut")
    before = time.monotonic()
    server = serve(create_app(shown.clinic.deps(stations=NAMED)), "127.0.0.1", port)
    try:
        chromium.until("return document.getElementById('cut').hidden && !document.body.matches('.is-cut')")
        assert chromium.text("#live-says") == "Live" and time.monotonic() - before < 20
    finally:
        chromium.open("about:blank")
        server.stop()


def test_a_board_that_hears_nothing_says_so_although_the_line_is_open(
    chromium: Chromium, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qc_node.web.broadcast.HEARTBEAT_S", 3600.0)
    chromium.open(f"{shown.server.url}/live")
    chromium.until_text("#live-says", "Live")
    chromium.script(  # it may look cut for the blink of an eye only: the next connection is quickly made
        "window.wasCut = false;"
        " new MutationObserver(() => { window.wasCut ||= document.body.matches('.is-cut') })"
        ".observe(document.body, {attributes: true});"
        " const real = Date.now; Date.now = () => real() + 60000;"
    )
    chromium.until("return window.wasCut")
    wait_for(lambda: chromium.text("#live-says") == "Live")  # it has connected anew
