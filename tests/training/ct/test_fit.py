"""What a few people teach the card about contrast, and that no other person's label leaks in."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.anatomy import CLASSES
from qc_node.classifiers.ct.classifier import Reading, Rules, contrast_evidence
from qc_node.domain import BodyPart
from qc_node.training.ct.data.trials import Case
from qc_node.training.ct.training.fit import Answer, fit_rules, person_weights

Z = 30


def answer(person: int, enhanced: int, neck: float | None, logit: float, copies: int = 0) -> Answer:
    sections = np.zeros((Z, CLASSES))
    sections[np.arange(Z), 4 + np.arange(Z) // 10] = 1.0
    case = Case(
        f"p{person}", f"p{person}_{copies}", "whole", np.zeros((Z, 96, 96), np.int16), BodyPart.NECK, enhanced
    )
    reading = Reading(sections, np.full(Z, logit), np.ones(Z, bool), None, neck)
    return Answer(case, person % 5, reading)


def people(informative: bool) -> list[Answer]:
    rng = np.random.default_rng(0)
    found = []
    for n in range(24):
        y = n % 2
        vessels = rng.normal(70 if y else 15, 12) if informative else rng.normal(40, 12)
        found.append(answer(n, y, float(vessels), float(rng.normal(1.0 if y else -1.0, 0.8))))
    return found


def test_measured_vessels_decide_where_they_tell_people_apart() -> None:
    rules = fit_rules(people(True))
    assert 25 < rules.neck_excess < 60 and 1 < rules.neck_slope < 15
    dim, bright = answer(90, 0, 10.0, 0.0), answer(91, 1, 80.0, 0.0)
    assert (
        contrast_evidence(dim.reading, rules)["neck"] < -2 < 2 < contrast_evidence(bright.reading, rules)["neck"]
    )


def test_measured_vessels_count_less_where_they_say_nothing() -> None:
    assert fit_rules(people(False)).neck_slope > 2 * fit_rules(people(True)).neck_slope


def test_without_measured_necks_the_slices_alone_are_used() -> None:
    alone = [Answer(a.case, a.fold, Reading(**{**vars(a.reading), "neck": None})) for a in people(True)]
    rules = fit_rules(alone)
    assert set(contrast_evidence(alone[0].reading, rules)) == {"body"}
    assert rules.contrast_scale > 0 and rules.neck_excess == Rules().neck_excess


def test_every_person_weighs_the_same() -> None:
    twice = [answer(0, 1, None, 1.0), answer(0, 1, None, 1.0), answer(1, 0, None, -1.0)]
    assert person_weights(twice).tolist() == pytest.approx([0.5, 0.5, 1.0])
    assert not person_weights([]).size
