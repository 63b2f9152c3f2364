"""Board, review page, panel and API show the answers of every classifier, invented ones too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qc_node.web.board import Board
from qc_node.web.broadcast import Broadcaster
from qc_node.web.statistics.collecting import machine_levels
from qc_node.web.votes import cases
from tests.classifiers import invented
from tests.web.conftest import Browse, Clinic, ct


@pytest.fixture
def judged(clinic: Clinic) -> Iterator[Clinic]:
    """One series: an invented PET verdict beside the CT one; another one, judged by the invented one alone."""
    with invented.registered():
        clinic.receive("1.1", "1.1.1", modality="CT")
        clinic.judge("1.1.1", ct("chest"))
        clinic.judge("1.1.1", invented.verdict(), routed=False)
        clinic.receive("1.2", "1.2.1", modality="PT", scanner="PET")
        clinic.judge("1.2.1", invented.verdict("normal", corrected=True, grain=0))
        yield clinic


def test_the_board_says_both_and_calls_for_attention(judged: Clinic) -> None:
    board = Board(judged.deps(), Broadcaster())
    board.publish(judged.number("1.1.1"))
    card = board.card("MR_EAST")
    assert card is not None
    words = card["newest"]["words"]
    assert words["headline"].endswith(" · Tracer beside the vein, not corrected, severe grain")
    assert words["headline"].startswith("Chest, ")
    assert (words["tone"], words["attention"], len(card["alarms"])) == ("poor", True, 1)
    alone = board.card("PET")
    assert alone is not None and alone["newest"]["words"]["headline"] == "Normal uptake, yes, 0"


def test_the_review_page_asks_every_question_and_takes_corrections(judged: Clinic, browse: Browse) -> None:
    _, token = judged.reader()
    browser = browse()
    browser.sign_in(token)
    found = {row["series_uid"]: row for row in browser.get("/api/review").json()["rows"]}
    names = [a["name"] for a in found["1.1.1"]["answers"]]
    assert names == ["Body part", "Enhanced", "Uptake", "Corrected", "Grain"]
    assert found["1.2.1"]["stage"] == "pet_invented"
    table = browser.post("/review/series.csv", data={"search": "{}"}).text.splitlines()
    assert {"pet_uptake", "pet_uptake_label", "body_part"} <= set(table[0].split(",")) and len(table) == 3
    address = f"/api/verdicts/{found['1.1.1']['id']}/labels"
    said = browser.post(address, json={"labels": {"pet_uptake": "normal", "body_part": "neck"}})
    assert said.status_code == 201
    assert [(r["question"], r["found"], r["label"]) for r in judged.ledger.labels.all()] == [
        ("pet_uptake", "extravasated", "normal"),
        ("body_part", "chest", "neck"),
    ]
    assert browser.post(address, json={"labels": {"pet_uptake": "odd"}}).status_code == 422
    assert browser.post(address, json={"labels": {"tier": "1"}}).status_code == 422


def test_the_api_gives_the_answers_of_all_and_the_routed_stage(judged: Clinic, browse: Browse) -> None:
    _, token = judged.reader()
    browser = browse()
    browser.sign_in(token)
    said = browser.get("/api/series/1.1.1").json()
    assert said["stage"] == "ct"
    assert list(said["results"]) == ["body_part", "contrast_enhanced", "pet_uptake", "pet_corrected", "pet_grain"]


def test_the_worst_level_of_all_counts_beside_the_votes(judged: Clinic, browse: Browse) -> None:
    _, token = judged.reader()
    browser = browse()
    browser.sign_in(token)
    shown = browser.show(cases.open_study(judged.deps(), "1.1"))
    assert browser.vote(shown, "good", "key-00000001").status_code == 201
    assert machine_levels(judged.ledger) == {"1.1": 2}
