"""What was measured of a series, on the board, the review page, the statistics pages and for programs."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pytest

from qc_node.domain.attention import CALL_Z
from qc_node.domain.measure import Baseline, Better, Departure, ImageFinding, Unusual
from qc_node.domain.technique import Technique
from qc_node.measures import normal
from qc_node.measures.catalogue import MEASURES
from qc_node.web import measurements
from tests.web.conftest import Browse, Clinic, brain
from tests.web.measured_history import DAY_S, PROTOCOL, Version, draw, drift, make_history

GHOSTS = "ghost_along_rows"
TECHNIQUE = Technique("MR", "MR2", "V2", PROTOCOL)
ECHO_TIME = Departure("echo_time", "95", "30", 0.98)
COIL = Departure("coil", "DOE HEAD 32", "HEAD 64", 0.98)


def far(z: float) -> Unusual:
    return Unusual(GHOSTS, 9.4, z, Baseline(1.8, 0.4, 60))


def arrive(clinic: Clinic, n: int = 1, values: dict[str, float] | None = None, **more: Any) -> int:
    """A good series of MR2, measured."""
    clinic.receive(f"1.{n}", f"1.{n}.1", scanner="MR2", station="MR2")
    clinic.judge(f"1.{n}.1", brain())
    technique = more.pop("technique", TECHNIQUE)
    clinic.measure(f"1.{n}.1", draw(random.Random(n)) if values is None else values, technique, **more)
    return clinic.number(f"1.{n}.1")


def card_of(browser: Any) -> dict[str, Any]:
    (card,) = browser.get("/api/board").json()["cards"]
    found: dict[str, Any] = card
    return found


# -- the board -------------------------------------------------------------------------------------------
def test_the_measure_of_these_tests_gets_worse_upwards() -> None:
    assert MEASURES[GHOSTS].better is Better.LOWER and MEASURES[GHOSTS].charted


def test_what_is_far_worse_calls_and_is_told_without_words_of_the_header(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    number = arrive(clinic, unusual=(far(CALL_Z),), departures=(COIL,))
    browser.app.state.board.publish(number)
    (alarm,) = card_of(browser)["alarms"]
    sentence = "Ghosts along the rows are 8.0 times the usual spread above normal."
    assert (alarm["kind"], alarm["sentence"]) == ("unusual", sentence)
    assert [(notice.event, notice.sentence) for notice in clinic.told] == [("unusual", sentence)]
    assert "DOE" not in repr(clinic.told)
    assert clinic.called == [("unusual", "raised")]


@pytest.mark.parametrize("unusual", [far(CALL_Z - 0.1), far(-99.0), drift({"noise_percent": 3.6}, 18)])
def test_what_is_unusual_otherwise_informs(clinic: Clinic, browse: Browse, unusual: Unusual) -> None:
    browser = browse()
    browser.app.state.board.publish(arrive(clinic, unusual=(unusual,), departures=(ECHO_TIME,)))
    card = card_of(browser)
    assert card["alarms"] == [] and clinic.called == []
    assert len(card["newest"]["measured"]) == 2
    assert card["newest"]["measured"][1] == "The echo time is 95 ms; this protocol usually has 30 ms."


def test_a_certain_fault_of_a_series_that_no_classifier_takes_calls(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    clinic.receive("1.1", "1.1.1", scanner="DX1", modality="DX")
    number = clinic.number("1.1.1")
    assert clinic.ledger.series.close(number, clinic.clock.now, "test", clinic.clock.now)
    clinic.ledger.series.finish(number, 1, "skipped", clinic.clock.now, sentence="No classifier judges DX.")
    found = (ImageFinding("clipping", "The body is clipped."),)
    clinic.measure("1.1.1", {}, Technique("DX", "DX1"), findings=found)
    browser.app.state.board.publish(number)
    (alarm,) = card_of(browser)["alarms"]
    assert (alarm["kind"], alarm["sentence"]) == ("unusual", "The body is clipped.")
    assert alarm["words"]["headline"] == "Not judged"


def test_measured_again_as_usual_ends_the_call(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    number = arrive(clinic, unusual=(far(20.0),))
    browser.app.state.board.publish(number)
    clinic.ledger.series.judge_again(number, clinic.clock.now)
    browser.app.state.board.publish(number)
    assert card_of(browser)["alarms"][0]["kind"] == "unusual", "as long as it is judged again, the call stays"
    clinic.judge("1.1.1", brain())
    clinic.measure("1.1.1", draw(random.Random(1)), TECHNIQUE)
    browser.app.state.board.publish(number)
    assert card_of(browser)["alarms"] == []


def test_a_drift_stays_on_the_card_until_its_protocol_is_as_before(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    noisy = drift({"noise_percent": 3.5}, 9)
    arrive(clinic, 1, unusual=(noisy,))
    arrive(clinic, 2, technique=Technique("MR", "MR2", "V2", {"sequence": "se"}))
    (said,) = card_of(browser)["scanner_notes"]
    assert said.startswith("Noise has drifted: 45 % above normal for the last 9 series.")
    arrive(clinic, 3)
    assert card_of(browser)["scanner_notes"] == []


def test_a_drift_is_told_when_it_begins_and_not_again(clinic: Clinic, browse: Browse) -> None:
    board = browse().app.state.board
    for n, unusual in enumerate([(), (drift({"noise_percent": 3.5}, 9),), (drift({"noise_percent": 3.5}, 10),)]):
        board.measured(arrive(clinic, n + 1, unusual=unusual))
    assert [(one.event, one.scanner) for one in clinic.told] == [("scanner", "MR2")]
    assert clinic.told[0].sentence == "Noise has drifted: 45 % above normal for the last 9 series of MR2."


def test_new_software_is_told_once_and_said_for_a_week(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    board = browser.app.state.board
    board.measured(arrive(clinic, 1, technique=Technique("MR", "MR2", "DOE V1", PROTOCOL)))
    assert clinic.told == [] and card_of(browser)["scanner_notes"] == [], "the first version is not new"
    clinic.clock.forward(30 * DAY_S)
    for n in (2, 3):
        board.measured(arrive(clinic, n))
    board.measured(arrive(clinic, 4, technique=Technique("MR", "MR2", "V2", {"sequence": "se"})))
    said = "MR2 has new software: what is normal for it is learnt anew."
    assert [one.sentence for one in clinic.told] == [said]
    assert card_of(browser)["scanner_notes"] == [said]
    clinic.clock.forward(8 * DAY_S)
    arrive(clinic, 5)
    assert card_of(browser)["scanner_notes"] == []


def test_what_began_long_ago_is_told_to_nobody(clinic: Clinic, browse: Browse) -> None:
    board = browse().app.state.board
    arrive(clinic, 1)
    number = arrive(clinic, 2, unusual=(drift({"noise_percent": 3.5}, 9),))
    clinic.clock.forward(2 * 3600.0)
    board.measured(number)
    board.measured(number + 1000)
    assert clinic.told == []


# -- review, and for programs ----------------------------------------------------------------------------
def test_the_review_page_says_what_is_unusual_and_finds_it(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    arrive(clinic, 1)
    number = arrive(clinic, 2, unusual=(far(9.0),), departures=(COIL,))
    (row,) = browser.post("/api/review/search", json={"text": "times the usual spread"}).json()["rows"]
    assert row["series"] == number and row["measured"]["count"] == len(draw(random.Random(2)))
    assert row["measured"]["departures"] == ["The receive coil is DOE HEAD 32; this protocol usually has HEAD 64."]
    table = browser.post("/review/table.csv", data={"search": "{}"})
    if table.status_code == 200:
        lines = {line["series_instance_uid"]: line["unusual"] for line in csv.DictReader(io.StringIO(table.text))}
        assert "9.0 times" in lines["1.2.1"] and lines["1.1.1"] == ""


def test_a_table_says_value_unit_usual_range_and_word(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    make_history(clinic, "MR2", (Version("V2", normal.ENOUGH + 20),))
    values = draw(random.Random(3)) | {GHOSTS: 9.4, "edge_width_mm": 1.75}
    number = arrive(clinic, values=values, unusual=(far(9.0),), unmeasured={"tissue_overlap": "No head."})
    found = browser.get(f"/api/measures/{number}").json()
    lines = {line["measure"]: line for line in found["rows"]}
    ghosts, edge, noise = lines[GHOSTS], lines["edge_width_mm"], lines["nonuniformity"]
    assert (ghosts["title"], ghosts["value"], ghosts["unit"], ghosts["word"]) == (
        "Ghosts along the rows",
        "9.4",
        "%",
        "unusual",
    )
    assert edge["word"] == "high" and float(edge["z"]) > 3 and noise["word"] == "usual"
    low, high = map(float, noise["usual"].split(" – "))
    assert low < 28 < high and found["lacking"] == ""
    assert found["unmeasured"] == [{"title": "The overlap of the tissues", "sentence": "No head."}]


def test_a_table_says_how_many_series_are_missing(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    make_history(clinic, "MR2", (Version("V2", 10),))
    found = browser.get(f"/api/measures/{arrive(clinic)}").json()
    assert found["lacking"].startswith(f"{normal.ENOUGH - 10} more series are needed")
    assert {line["word"] for line in found["rows"]} == {""}


def test_nothing_measured_is_a_sentence_or_nothing(clinic: Clinic, browse: Browse) -> None:
    browser = browse()
    number = arrive(clinic, values={}, technique=None, unmeasured={"*": "Ultrasound is not measured."})
    assert (
        browser.get(f"/api/measures/{number}").json()["unmeasured"][0]["sentence"] == "Ultrasound is not measured."
    )
    clinic.receive("1.9", "1.9.1")
    assert browser.get(f"/api/measures/{clinic.number('1.9.1')}").status_code == 404
    said = browser.get("/api/series/1.9.1").json()
    assert {name: said[name] for name in measurements.NOTHING} == measurements.NOTHING


def test_programs_get_what_classify_prints(clinic: Clinic, browse: Browse) -> None:
    arrive(clinic, values={"edge_width_mm": 1.25}, unusual=(far(9.0),), departures=(ECHO_TIME,))
    said = browse().get("/api/series/1.1.1").json()
    assert said["measures"] == {"edge_width_mm": {"value": 1.25, "unit": "mm"}}
    assert said["unusual"] == [far(9.0).as_dict()] and said["departures"] == [ECHO_TIME.as_dict()]


# -- control charts --------------------------------------------------------------------------------------
@pytest.fixture
def charted(clinic: Clinic) -> Clinic:
    make_history(clinic, "MR2", (Version("V1", 60), Version("V2", 60, drifting=12)))
    make_history(clinic, "MR1", (Version("V1", 7),), seed=6)
    return clinic


def test_a_page_draws_the_most_unusual_measures_of_a_scanner(charted: Clinic, browse: Browse) -> None:
    page = browse().get("/stats/measures", params={"scanner": "MR2"}).text
    assert page.count("<figure") == 4 and page.index("Noise (%)") < page.index("Edge width (mm)")
    assert page.count("new software</text>") == 8, "in each chart, for wide and for narrow windows"
    assert "t1_mprage_sag (120)" in page and "more series" not in page
    assert "<td>▲ drifts</td>" in page


def test_one_measure_can_be_chosen_and_nonsense_chooses_nothing(charted: Clinic, browse: Browse) -> None:
    browser = browse()
    page = browser.get("/stats/measures", params={"scanner": "MR2", "measure": "entropy_focus"}).text
    assert page.count("<figure") == 1
    assert browser.get("/stats/measures", params={"scanner": "X", "chart": 99, "measure": "X"}).status_code == 200


def test_too_few_series_are_said(charted: Clinic, browse: Browse) -> None:
    page = browse().get("/stats/measures", params={"scanner": "MR1"}).text
    assert f"{normal.ENOUGH - 7} more series are needed" in page and "fill-opacity" not in page


def test_a_scanner_without_charts_says_so(clinic: Clinic, browse: Browse) -> None:
    assert "Nothing was measured yet." in browse().get("/stats/measures").text


def test_charts_are_for_those_who_may_look(charted: Clinic, browse: Browse) -> None:
    _, _ = charted.reader()
    browser = browse(public_base="https://qc.example")
    answer = browser.get("/stats/measures", headers={"origin": "https://qc.example"})
    assert answer.status_code in (303, 403) and "<figure" not in answer.text
