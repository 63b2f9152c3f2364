"""Tables by collection, and thresholds that are set on people whom the networks never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qc_node.classifiers.ct.anatomy import CLASSES
from qc_node.classifiers.ct.classifier import Reading, Rules
from qc_node.domain import BodyPart
from qc_node.training.ct.data.trials import Case
from qc_node.training.ct.evaluation import sites
from qc_node.training.ct.evaluation.judged import JudgedCase
from qc_node.training.ct.training import fit
from qc_node.training.ct.training.fit import Answer


def row(name: str, person: str, part: str | None, enhanced: bool | None, group: str = "whole") -> JudgedCase:
    return JudgedCase(name, person, group, 0, "chest", part, 0.9, {}, 1, enhanced, 0.8)


def test_collections_are_counted_by_question_and_by_person() -> None:
    rows = [
        row("lidc0314_30026", "L", "chest", True),
        row("lidc0314_30026[0:20]", "L", "abdomen", None, "crop"),
        row("openkbp_pt_3", "o3", "chest", False),
        row("openkbp_pt_4", "o4", None, False),
        row("body_001", "b", "neck", False, "simulated whole"),
    ]
    found = sites.by_collection(rows)
    assert set(found) == {"LIDC-IDRI", "openKBP"}, "what is made is no hospital"
    assert found["LIDC-IDRI"]["series"] == {"part": [1, 0, 0], "contrast": [1, 0, 0]}
    assert found["LIDC-IDRI"]["crops"] == {"part": [0, 1, 0], "contrast": [0, 0, 1]}
    assert found["openKBP"]["people wrong"] == {"part": 0, "contrast": 2}
    assert found["LIDC-IDRI"]["vendor"] == "Philips"
    assert "| openKBP | unknown | 2 | 1 / 0 / 1 | 0 / 2 / 0 | 0 / 0 / 0 | 0 / 0 / 0 |" in sites.table(found)


def answer(person: str, run: str = "") -> Answer:
    case = Case(f"{person}", person, "whole", np.zeros((3, 96, 96), np.int16), BodyPart.CHEST, 0)
    return Answer(case, 0, Reading(np.ones((3, CLASSES)) / CLASSES, np.zeros(3), np.ones(3, bool)), run)


def test_answers_of_the_run_without_the_collection_take_the_place_of_the_fold() -> None:
    found = sites.unseen([answer("a"), answer("b")], [answer("b", "without_x")])
    assert [(a.case.person, a.run) for a in found] == [("a", ""), ("b", "without_x")]


def test_a_threshold_is_as_low_as_wrong_answers_allow() -> None:
    held = fit._Confidences()
    for n in range(50):
        held.add(answer(f"p{n}"), 0.52 if n < 2 else 0.6 + 0.008 * n, n >= 2)
    assert held.threshold(0.5) == 0.55, "just above the two wrong ones"
    assert held.threshold(0.8) == 0.8, "never below what is asked for"
    for n in range(50):
        held.add(answer(f"q{n}"), 0.999, n >= 25)
    assert held.threshold(0.5) == 0.55, "nothing is gained where even sure answers are wrong"
    assert fit._Confidences().threshold(0.7) == 0.7


def test_a_person_with_many_wrong_crops_weighs_as_much_as_one_with_a_single_series() -> None:
    held = fit._Confidences()
    for _ in range(30):
        held.add(answer("many"), 0.7, False)
    for n in range(200):
        held.add(answer(f"p{n}"), 0.7, True)
    assert held.threshold(0.5) == 0.5, "one person of 201 is wrong"


def test_an_answer_is_aligned_once_for_a_temperature() -> None:
    one = answer("a")
    first = one.aligned(1.4)
    assert one.aligned(1.4) is first and one.aligned(1.0) is not first
    assert first[0].sections is not one.reading.sections
    assert one.part_losses(Rules()).shape == (len(fit.TEMPERATURES),)


def test_risk_is_told_for_both_questions() -> None:
    rows = [row(f"lidc{n}", f"p{n}", "chest" if n else "neck", None if n == 1 else True) for n in range(6)]
    found = sites.risk_of([*rows, replace(rows[0], group="simulated whole")], np.random.default_rng(0))
    assert (found["part"]["asked"], found["part"]["wrong"]) == (6, 1)
    assert found["contrast"]["undetermined"] == 1 and found["contrast"]["aurc"] == pytest.approx(0)
