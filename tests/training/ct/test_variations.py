"""Counting by person, and readings that outlive a change of the rules only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qc_node.classifiers.ct.anatomy import CLASSES
from qc_node.classifiers.ct.classifier import CtClassifier, Reading, Rules
from qc_node.classifiers.ct.networks import SliceNet
from qc_node.domain import BodyPart, ModelIdentity
from qc_node.training.ct.data import varied
from qc_node.training.ct.data.varied import Varied
from qc_node.training.ct.evaluation import readings, variations
from qc_node.training.ct.evaluation.variations import Judgement

Z = 40


def item(variation: str = "original", label: str = "abdomen", use: str = "whole", top: float = 450.0) -> Varied:
    coarse = np.full((Z, 96, 96), -1024, np.int16)
    coarse[:, 20:76, 20:76] = 40
    position = (top + 4 * np.arange(Z)).astype(np.float32)
    return Varied("a", "p", variation, coarse, np.zeros(Z, np.float32), position, label, use, 1, "")


def judgement(person: str, contrast: str, variation: str = "original", on_axis: bool = True) -> Judgement:
    return Judgement("s", person, variation, on_axis, "chest", "right", "chest", 1, contrast, None, 0.5)


def test_one_wrong_answer_makes_a_person_wrong_and_people_weigh_the_same() -> None:
    judged = [judgement("a", "right") for _ in range(9)]
    judged += [judgement("a", "wrong"), judgement("b", "withheld"), judgement("c", "right")]
    found = variations.counts(judged, "contrast")
    assert (found["right"], found["wrong"], found["withheld"]) == (10, 1, 1)
    assert found["people_wrong"] == ["a"] and found["withheld_share"] == pytest.approx(1 / 3)


def test_limbs_are_counted_apart_and_what_nobody_knows_not_at_all() -> None:
    judged = [judgement("a", "right"), judgement("limb", "withheld", on_axis=False), judgement("b", "")]
    result = variations.figures(judged)
    assert result["contrast"]["cases"] == 1 and result["contrast of limbs"]["withheld"] == 1
    assert "| original | contrast | 1 | 1 | 1 | 0 | 0 (0%)" in variations.table("t", result)


def test_the_truth_moves_with_the_ends() -> None:
    assert item().part is BodyPart.ABDOMEN
    assert item("coverage-a", top=300.0).part is BodyPart.CHEST, "no longer what the index says"
    assert item("dose-10-soft", top=300.0).part is BodyPart.ABDOMEN, "noise moves no end"
    unmarked = replace(item("coverage-a"), position=np.full(Z, np.nan, np.float32))
    assert unmarked.part is None
    assert replace(unmarked, label="other:limb").part is BodyPart.OTHER


def test_varied_volumes_and_readings_come_back_as_they_were(tmp_path: Path) -> None:
    item().save(tmp_path)
    (path,) = varied.files(tmp_path)
    again = varied.load(path)
    np.testing.assert_array_equal(again.coarse, item().coarse)
    assert (again.name, again.use, again.enhanced, again.problem) == ("a", "whole", 1, "")
    reading = Reading(np.ones((3, CLASSES)), np.zeros(3), np.ones(3, bool), neck=np.float64(3.5), chest=None)
    readings.save_reading(reading, tmp_path / "r.npz")
    kept = readings.load_reading(tmp_path / "r.npz")
    np.testing.assert_array_equal(kept.sections, reading.sections)
    assert kept.neck == 3.5 and kept.chest is None and kept.used.dtype == bool


def test_a_reading_is_used_again_after_a_change_of_rules_but_not_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nets = [SliceNet(4, outputs, 4).eval() for outputs in (CLASSES, 1)]
    classifier = CtClassifier(ModelIdentity("m", "0", "0" * 64), nets[0], nets[1])
    key = readings.reading_key(classifier)
    assert readings.reading_key(replace(classifier, rules=Rules(least_part=0.9))) == key
    first = variations.judge_one(item(), classifier, Rules(), tmp_path)
    sealed = replace(classifier, position=None)  # type: ignore[arg-type]
    assert variations.judge_one(item(), sealed, Rules(), tmp_path) == first, "taken from the cache"
    with torch.no_grad():
        nets[1].classif.bias.add_(1)
    assert readings.reading_key(classifier) != key


@pytest.mark.data
def test_a_real_series_is_varied_reproducibly_and_kept(shared_data: Path, tmp_path: Path) -> None:
    wanted = ("original", "phase-0.6", "coverage-a")
    source = next(row for row in varied.rows(shared_data) if row.name == "kits00072_2")
    assert source.enhanced == 1 and len(list(varied.rows(shared_data))) >= 61
    for folder in ("a", "b"):
        varied.make(shared_data, tmp_path / folder, lambda _: None, wanted, ("kits00072_2",))
    names = [p.name for p in varied.files(tmp_path / "a")]
    assert names == sorted(f"kits00072_2__{w}.npz" for w in wanted)
    for name in names:
        first, again = varied.load(tmp_path / "a" / name), varied.load(tmp_path / "b" / name)
        np.testing.assert_array_equal(first.coarse, again.coarse)
    whole = varied.load(tmp_path / "a" / "kits00072_2__original.npz")
    part = varied.load(tmp_path / "a" / "kits00072_2__coverage-a.npz")
    assert 0.55 * len(whole.coarse) <= len(part.coarse) < len(whole.coarse)
