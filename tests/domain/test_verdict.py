from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_node.classifiers import catalogue
from qc_node.domain import (
    GRADED,
    AnswerKind,
    BodyPart,
    Coverage,
    Finding,
    ModelIdentity,
    Question,
    Reason,
    Region,
    Stage,
    Tier,
    Verdict,
    Volume,
    results_json,
    tier_finding,
    tier_from_grades,
    verdict_from_json,
    verdict_to_json,
)
from qc_node.domain.wording import REASONS

MODEL = ModelIdentity("m", "1", "ab" * 32)
BINARY = [q for q in catalogue.questions() if q.kind is AnswerKind.YES_NO]


def in_json(verdict: Verdict) -> dict[str, Any]:
    return results_json(verdict, catalogue.questions_of(verdict))


def graded(question: Question, grade: int | None) -> Finding:
    if grade is None:
        return Finding(question, None, abstained="It is unclear.")
    return Finding(question, grade, {"0": 0.2, "1": 0.3, "2": 0.5})


@pytest.mark.parametrize("grades", list(itertools.product((0, 1, 2), repeat=3)))
def test_the_tier_is_table_2_of_the_paper(grades: tuple[int, int, int]) -> None:
    if all(g == 0 for g in grades):
        expected = Tier.GOOD
    elif any(g == 2 for g in grades):
        expected = Tier.POOR
    else:
        expected = Tier.USABLE
    assert tier_from_grades(*grades) is expected
    assert tier_finding([graded(q, g) for q, g in zip(GRADED, grades, strict=True)]).value == expected


@pytest.mark.parametrize(
    ("grades", "tier"), [((None, 0, 0), None), ((None, 1, 1), None), ((None, 2, 0), 3), ((None, None, None), None)]
)
def test_a_missing_grade_leaves_the_tier_open_unless_another_is_severe(
    grades: tuple[int | None, ...], tier: int | None
) -> None:
    finding = tier_finding([graded(q, g) for q, g in zip(GRADED, grades, strict=True)])
    assert finding.value == tier
    assert (finding.abstained is None) == (tier is not None)
    if tier is None:
        assert "motion" in str(finding.abstained)


def test_a_finding_has_a_value_or_a_sentence_never_both_or_neither() -> None:
    with pytest.raises(ValueError):
        Finding(Question.MOTION, None)
    with pytest.raises(ValueError):
        Finding(Question.MOTION, 1, abstained="unclear")


probability = st.floats(0, 1)
binary = st.builds(
    lambda q, v, p, r: Finding(q, v, {"yes": p, "no": 1 - p}, r),
    st.sampled_from(BINARY),
    st.booleans(),
    probability,
    st.none() | st.sampled_from(Reason),
)
grade = st.builds(graded, st.sampled_from(GRADED), st.none() | st.integers(0, 2))
part = st.builds(lambda b: Finding(Question.BODY_PART, b.value, {b.value: 1.0}), st.sampled_from(BodyPart))
coverage = st.none() | st.builds(
    Coverage,
    st.lists(st.sampled_from(Region), unique=True).map(tuple),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
    st.booleans(),
)
verdicts = st.builds(
    Verdict,
    st.sampled_from([spec.stage for spec in catalogue.specs()]),
    st.just(MODEL),
    st.lists(binary | grade | part, unique_by=lambda f: f.question).map(tuple),
    coverage,
    st.lists(st.text(max_size=40), max_size=3).map(tuple),
)


@given(verdicts)
def test_a_verdict_survives_json_and_always_has_words(verdict: Verdict) -> None:
    assert verdict_from_json(verdict_to_json(verdict)) == verdict
    assert catalogue.headline(verdict) and catalogue.card(verdict).headline
    results_json(verdict, catalogue.questions_of(verdict))


def test_a_straight_reject_leaves_everything_else_undefined() -> None:
    reject = Finding(Question.STRAIGHT_REJECT, True, {"yes": 0.9, "no": 0.1}, Reason.SKULL_STRIPPED)
    results = in_json(Verdict(Stage.BRAIN_MRI, MODEL, (reject,)))
    assert results["straight_reject"] == {
        "value": True,
        "probability": 0.9,
        "reason": "skull_stripped",
        "abstained": None,
    }
    assert [results[k] for k in ("gadolinium", "motion", "contrast", "noise", "tier")] == [None] * 5


def test_every_reason_has_words() -> None:
    assert set(REASONS) == set(Reason)


def test_spacing_is_the_length_of_the_affine_columns() -> None:
    affine = np.array([[0, 0, 3.0, 1], [0.5, 0, 0, 2], [0, 0.7, 0.4, 3], [0, 0, 0, 1]])
    volume = Volume(np.zeros((2, 3, 4), np.int16), affine)
    assert volume.spacing_mm == pytest.approx((0.5, 0.7, (9 + 0.16) ** 0.5))
    assert volume.shape == (2, 3, 4)


@pytest.mark.parametrize(("value", "probability"), [(True, 1.0), (False, 0.0), (None, None)])
def test_an_answer_by_rule_is_certain_in_json(value: bool | None, probability: float | None) -> None:
    finding = Finding(Question.STRAIGHT_REJECT, value, abstained=None if value is not None else "It is unclear.")
    results = in_json(Verdict(Stage.BRAIN_MRI, MODEL, (finding,)))
    assert results["straight_reject"]["probability"] == probability
