"""Right, wrong, undetermined; and two versions paired on the same volumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from qc_node import domain
from qc_node.classifiers.brain_mri.classifier import load
from qc_node.training.brain_mri.evaluation import judge, outcomes, paired
from qc_node.training.brain_mri.evaluation.outcomes import RIGHT, UNDETERMINED, WRONG, Truth

MODELS = Path(__file__).resolve().parents[3] / "models" / "brain-mri"


def _said(reject: bool | None, gadolinium: bool | None = None, grades: tuple[Any, ...] = ()) -> dict[str, Any]:
    """What a verdict says; probabilities of 0.9, and 0.6 for motion."""

    def answer(value: Any, p: float = 0.9) -> dict[str, Any]:
        return {"value": value, "p": {} if value is None else {"a": p}, "reason": None, "abstained": None}

    said = {"straight_reject": answer(reject)}
    if reject is False:
        said["gadolinium"] = answer(gadolinium)
        for question, grade in zip(domain.GRADED, grades, strict=True):
            said[question.value] = answer(grade, 0.6 if question is domain.Question.MOTION else 0.9)
        known = None not in grades
        said["tier"] = answer(max(grades) + 1 if known else 3 if 2 in grades else None)
    return said


def test_a_proper_image_is_asked_everything_that_is_known() -> None:
    found = outcomes.outcomes(_said(False, True, (0, 1, 0)), Truth("ok", 1, (0, 1, None)))
    assert {q: o.state for q, o in found.items()} == {
        "straight_reject": RIGHT,
        "gadolinium": RIGHT,
        "motion": RIGHT,
        "contrast": RIGHT,
    }
    found = outcomes.outcomes(_said(False, False, (0, 2, 0)), Truth("ok", 1, (0, 1, 0)))
    assert found["gadolinium"].state == found["contrast"].state == WRONG
    assert found["tier_3_vs_2_1"].state == WRONG and found["tier_2_vs_1"].state == RIGHT


def test_a_reject_is_asked_for_the_reject_alone() -> None:
    assert {q: o.state for q, o in outcomes.outcomes(_said(True), Truth("coverage")).items()} == {
        "straight_reject": RIGHT
    }
    assert outcomes.outcomes(_said(False, True, (0, 0, 0)), Truth("coverage"))["straight_reject"].state == WRONG
    assert outcomes.outcomes(_said(None), Truth("coverage"))["straight_reject"].state == UNDETERMINED


def test_a_wrong_reject_leaves_the_rest_without_an_answer() -> None:
    found = outcomes.outcomes(_said(True), Truth("ok", 0, (0, 0, 0)))
    assert found.pop("straight_reject").state == WRONG
    assert {o.state for o in found.values()} == {UNDETERMINED} and len(found) == 6


def test_a_severe_grade_is_tier_3_whatever_else_is_not_known() -> None:
    assert Truth("ok", 0, (2, None, 0)).tier == 3 and Truth("ok", 0, (1, None, 0)).tier is None
    found = outcomes.outcomes(_said(False, False, (None, 2, 0)), Truth("ok", 0, (1, 2, 0)))
    assert found["tier_3_vs_2_1"].state == RIGHT and "tier_2_vs_1" not in found
    # As sure as the severe grade that decides, or as the least sure of those that all have to be right.
    assert found["tier_3_vs_2_1"].confidence == 0.9
    assert (
        outcomes.outcomes(_said(False, False, (0, 0, 0)), Truth("ok", 0, (0, 0, 0)))["tier_2_vs_1"].confidence
        == 0.6
    )


def test_the_grey_zone_is_nobodys_truth() -> None:
    row = {"reject": "ok", "gadolinium": 0, "motion": 0.1, "contrast": 0.25, "noise": 0.2}
    assert outcomes.truth_of(row).grades == (None, 0, 2)


def test_columns_count_each_question_where_it_is_asked() -> None:
    images = [
        ("a", _said(False, True, (0, 0, 0)), Truth("ok", 1, (0, 0, 1))),
        ("b", _said(None), Truth("ok", 1, (0, 0, 1))),
        ("b", _said(True), Truth("orientation")),
    ]
    found = outcomes.columns(images)
    assert found["straight_reject"].counts() == {"asked": 3, "right": 2, "wrong": 0, "undetermined": 1}
    assert found["noise"].counts() == {"asked": 2, "right": 0, "wrong": 1, "undetermined": 1}
    s = found["noise"].summary(np.random.default_rng(0), 20)
    assert s["wrong"] == 1 and s["undetermined"] == 1 and s["people"] == 2


TRUTH = {"reject": "ok", "gadolinium": 1, "motion": 0.0, "contrast": 0.3, "noise": 0.01}


def _lines(gadolinium: Sequence[bool | None], version: str) -> list[dict[str, Any]]:
    model = {"name": "m", "version": version, "sha256": "0"}
    return [
        {
            "volume": f"v{n}",
            "person": f"p{n % 4}",
            "model": model,
            "truth": TRUTH,
            "said": _said(False, g, (0, 0, 0)),
        }
        for n, g in enumerate(gadolinium)
    ]


def test_versions_are_compared_volume_by_volume() -> None:
    old = _lines([True] * 14 + [False] * 6, "0.6.0")
    new = _lines([False] * 2 + [True] * 12 + [None] * 4 + [True] * 2, "0.7.0")
    result = paired.compare(old, new, 200)
    row = next(r for r in result["rows"] if r["question"] == "gadolinium")
    assert row["old"] == {"right": 14, "wrong": 6, "undetermined": 0}
    assert row["new"] == {"right": 14, "wrong": 2, "undetermined": 4}
    assert row["right_new_minus_old"] == 0 and row["wrong_new_minus_old"] == pytest.approx(-0.2)
    assert row["both_answered"] == {
        "n": 16,
        "right_old": 14,
        "right_new": 14,
        "only_old_right": 2,
        "only_new_right": 2,
        "mcnemar_p": pytest.approx(1.0),
    }
    # Five questions of 20 volumes; a change in the tiers would count twice and is not in it.
    assert result["overall"]["asked"] == 100 and result["not_worse_than_margin"]
    assert "| gadolinium | 20 | 14 / 6 / 0 | 14 / 2 / 4 |" in paired.as_text(result)


def test_a_version_that_loses_answers_is_worse() -> None:
    result = paired.compare(_lines([True] * 20, "a"), _lines([False] * 4 + [True] * 16, "b"), 200)
    assert not result["not_worse_than_margin"] and not result["interval_above_margin"]


def test_only_the_same_volumes_are_compared() -> None:
    with pytest.raises(domain.QcNodeError, match="same volumes"):
        paired.compare(_lines([True] * 3, "a"), _lines([True] * 4, "b"))


@pytest.mark.slow
def test_saved_volumes_are_judged_once(tmp_path: Path) -> None:
    """The average head as a saved volume, judged, and judged again from what is there."""
    classifier = load(MODELS)
    volumes, out = tmp_path / "volumes", tmp_path / "answers.jsonl"
    volumes.mkdir()
    values = classifier.head.channels[0].astype(np.float16)
    row = {"person": "average", **TRUTH}
    np.savez(volumes / "average-1.npz", values=values, affine=classifier.head.affine, row=json.dumps(row))
    lines = judge.judge(classifier, volumes, out, lambda line: None)
    assert lines == judge.read(out) and lines[0]["truth"] == TRUTH
    assert "straight_reject" in lines[0]["said"]
    before = out.read_bytes()
    assert judge.judge(classifier, volumes, out, lambda line: None) == lines and out.read_bytes() == before
    result = CliRunner().invoke(paired.main, ["--old", str(out), "--new", str(out), "--out", str(tmp_path)])
    assert result.exit_code == 0 and (tmp_path / "paired.json").exists()
    other = out.read_text().replace(classifier.identity.sha256, "0" * 64)
    out.write_text(other)
    with pytest.raises(domain.QcNodeError, match="another model"):
        judge.judge(classifier, volumes, out, lambda line: None)
