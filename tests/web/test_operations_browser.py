"""``/operations`` in a real Chromium: rows stay where they are, dropping asks first, a plot fits a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from qc_node.ledger.deliveries import WrittenObject
from qc_node.web.app import create_app
from qc_node.web.server import serve
from tests.peers import require
from tests.web.browser import Chromium
from tests.web.busy_department import make
from tests.web.conftest import Clinic, brain

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("browser")]


class TimeOfDay:
    """The clock that the browser sees too."""

    now = property(lambda self: time.time())

    def __call__(self) -> float:
        return time.time()

    def forward(self, seconds: float) -> None:
        """Time passes by itself."""


@dataclass
class Room:
    clinic: Clinic
    chromium: Chromium
    url: str

    def refused(self, study: str) -> int:
        """A report that the destination refuses; the number of its delivery."""
        self.clinic.receive(study, f"{study}.1", accession=f"MR-{study}")
        self.clinic.judge(f"{study}.1", brain())
        about, uid = self.clinic.number(f"{study}.1"), f"2.25.{study.replace('.', '')}"
        written = WrittenObject(uid, "1.2.840.10008.5.1.4.1.1.88.33", about, study, 1, "sr", f"reports/{uid}")
        self.clinic.ledger.deliveries.post([written], ["ARCHIVE"], time.time())
        (row,) = self.clinic.ledger.deliveries.of_series(about)
        self.clinic.ledger.deliveries.failed(row["id"], "ARCHIVE answered 0xA900.")
        return row["id"]

    def states(self) -> list[str]:
        return [row["state"] for row in self.clinic.ledger.deliveries.of_series(self.clinic.number("1.1.1"))]


@pytest.fixture
def room(clinic: Clinic) -> Iterator[Room]:
    require("chromium")
    require("chromedriver")
    clinic.clock = TimeOfDay()
    _, token = clinic.reader("otto", name="Otto", role="operator")
    server, chromium = serve(create_app(clinic.deps()), "127.0.0.1", 0), Chromium()
    try:
        chromium.open(f"{server.url}/sign-in#{token}")
        chromium.until("return location.pathname === '/panel'")
        yield Room(clinic, chromium, server.url)
    finally:
        chromium.quit()
        server.stop()


def test_dropping_asks_first_and_what_comes_moves_nothing(room: Room) -> None:
    chromium, number = room.chromium, room.refused("1.1")
    chromium.open(f"{room.url}/operations")
    chromium.until_text("#deliveries", "0xA900")
    row = f'#deliveries tr[data-key="{number}"]'
    chromium.script("window.kept = document.querySelector(arguments[0])", row)
    chromium.click(f"{row} button:last-of-type")
    chromium.until("return document.querySelector('#sure').open && document.activeElement.id === 'sure-keep'")
    chromium.press("Enter")
    chromium.until("return !document.querySelector('#sure').open")
    assert room.states() == ["failed"], "keeping keeps it"
    chromium.script("document.querySelector(arguments[0]).querySelector('button').focus()", row)
    other = room.refused("1.2")
    chromium.until("return document.querySelector(arguments[0])", f'#deliveries tr[data-key="{other}"]')
    assert chromium.script("return window.kept.isConnected && window.kept.contains(document.activeElement)"), (
        "the row is the same, and so is the focus"
    )
    chromium.click(f"{row} button:last-of-type")
    chromium.click("#sure-drop")
    chromium.until_text("#says", "dropped")
    assert room.states() == ["dropped"]
    chromium.until_text("#audit", "Objects dropped")
    assert "Otto" in chromium.text("#audit") and chromium.errors() == []


def test_plots_are_readable_on_a_phone_and_follow_the_theme(room: Room) -> None:
    chromium = room.chromium
    make(room.clinic.ledger, now=time.time(), series=40, stations=8, votes=400)
    for width, shown, hidden in ((320, ".tight", ".wide"), (1600, ".wide", ".tight")):
        chromium.resize(width, 900)
        chromium.open(f"{room.url}/stats?period=all")
        size = chromium.until(
            "const text = document.querySelector(arguments[0] + ' svg text');"
            "return text && text.getBoundingClientRect().height",
            shown,
        )
        assert size >= 11, f"letters of {size} px at {width}"
        assert chromium.script("return document.querySelector(arguments[0]).offsetHeight", hidden) == 0
        assert chromium.script("return document.documentElement.scrollWidth <= innerWidth")
    bar = "return getComputedStyle(document.querySelector('.wide svg rect')).fill"
    seen = {}
    for media, scheme in (("screen", "dark"), ("screen", "light"), ("print", "dark")):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        asked = {"cmd": "Emulation.setEmulatedMedia", "params": {"media": media, "features": features}}
        chromium.do("POST", "/goog/cdp/execute", asked)
        seen[media, scheme] = chromium.script(bar)
    assert seen["screen", "dark"] != seen["screen", "light"] == seen["print", "dark"], (
        "no plot for the dark on paper"
    )
