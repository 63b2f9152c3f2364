"""A real Chromium: what was measured calls, is answered, and is read where the network was cut."""

from __future__ import annotations

import json
import random
import time

import pytest

from qc_node.domain.measure import Departure, ImageFinding
from qc_node.domain.technique import Technique
from tests.web.browser import Chromium
from tests.web.conftest import brain
from tests.web.measured_history import PROTOCOL, draw
from tests.web.test_browser import Served, open_panel, open_review, served

__all__ = ["served"]

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("browser")]

HERE = Technique("MR", "MR_9", "V1", PROTOCOL)
ECHO = Departure("echo_time", "95", "30", 0.98, 60)
NOISY = ImageFinding("noise", "There is far more noise than usual.")


def test_a_certain_fault_calls_and_is_answered_and_a_changed_parameter_calls_nobody(
    chromium: Chromium, served: Served
) -> None:
    clinic = served.clinic
    for study, more in (("1.2.5", {"findings": (NOISY,)}), ("1.2.6", {"departures": (ECHO,)})):
        clinic.receive(study, f"{study}.1", scanner="MR_9" if study == "1.2.5" else "MR_8")
        clinic.judge(f"{study}.1", brain())
        clinic.measure(f"{study}.1", draw(random.Random(1)), HERE, **more)
        served.server._app.state.board.publish(clinic.number(f"{study}.1"))
    chromium.resize(1280, 900)
    chromium.open(f"{served.server.url}/live")
    chromium.until_text(".unusual-alarm", "Unusual image")
    card = chromium.text(".unusual-alarm")
    assert "There is far more noise than usual." in card and "Nothing to do" not in card
    weight = "return getComputedStyle(document.querySelector('.unusual-alarm .action')).fontWeight"
    assert chromium.script(weight) == "600", "what to do stands out, though the verdict is good"
    assert chromium.text("#cards").count("this protocol usually has 30 ms") == 1
    assert chromium.script("return document.querySelectorAll('.unusual-alarm').length") == 1
    time.sleep(0.7)  # a person looks before the next press
    chromium.click(".unusual-alarm .answers button")
    chromium.until("return !document.querySelector('.unusual-alarm')")


def test_a_table_that_the_cut_network_kept_is_there_when_it_is_opened_again(
    chromium: Chromium, served: Served
) -> None:
    served.clinic.measure("1.2.3.1", draw(random.Random(1)), HERE)
    open_review(chromium, served, 2)
    chromium.network(False)
    chromium.click(".measured summary")
    chromium.until_text(".measured", "Open it again.")
    chromium.network(True)
    chromium.click(".measured summary")
    chromium.click(".measured summary")
    chromium.until_text(".measured", "Edge width")
    assert "Open it again." not in chromium.text(".measured")


def test_exposure_is_one_of_nine_reasons_with_a_key_of_its_own(chromium: Chromium, served: Served) -> None:
    served.clinic.measure("1.2.3.1", draw(random.Random(1)), HERE, findings=(NOISY,))
    open_panel(chromium, served)
    assert NOISY.sentence not in chromium.text("body"), "the vote is cast before anything measured is shown"
    keys = chromium.script("return [...document.querySelectorAll('.reason kbd')].map((e) => e.innerText)")
    assert len(keys) == len(set(keys)) == 9
    chromium.press("e", "3")
    chromium.until_text("#says", "Saved")
    (vote,) = served.clinic.ledger.votes.all()
    assert vote["vote"] == "poor" and json.loads(vote["reasons"]) == ["exposure"]
