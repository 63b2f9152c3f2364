"""Findings: each only from its own value, one of a kind, a short sentence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from qc_node.domain.measure import Baseline, Better, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.measures.ct import MEASURES as OF_CT
from qc_node.measures.findings import FAR, FAR_ABOVE, FAR_BELOW, of
from qc_node.measures.radiographs import BY_NAME

CT, DX, MR = Technique("CT"), Technique("DX"), Technique("MR")


def kinds(values: dict[str, float], technique: Technique = DX, unusual: Sequence[Unusual] = ()) -> list[str]:
    return [finding.kind for finding in of(Measured(values), technique, unusual)]


def far(measure: str, z: float, kind: str = "outlier") -> Unusual:
    return Unusual(measure, 1.0, z, Baseline(0.0, 1.0, 60), kind)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"metal_share": 0.2, "metal_streaks": 30.0}, "metal"),
        ({"cut_outline": 12.0}, "truncation"),
        ({"deviation_index": -6.5, "deviation_index_error": 0.1}, "underexposure"),
        ({"deviation_index": 7.0}, "overexposure"),
        ({"grain": 3.0}, "underexposure"),
        ({"black_clipped": 9.0}, "overexposure"),
        ({"white_clipped": 9.0}, "clipping"),
    ],
)
def test_certain_values_are_findings(values: dict[str, float], kind: str) -> None:
    (finding,) = of(Measured(values), DX, ())
    assert finding.kind == kind
    assert finding.sentence.endswith(".")
    assert len(finding.sentence) < 80
    assert of(Measured(values), MR, ()) == ()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"metal_share": 0.2, "metal_streaks": 5.0},
        {"metal_share": 0.001, "metal_streaks": 50.0},
        {"cut_outline": 3.0},
        {"cut_outline": 70.0},
        {"deviation_index": 3.0},
        {"deviation_index": -9.0, "deviation_index_error": 4.0},
        {"grain": 1.2},
        {"black_clipped": 1.0, "white_clipped": 1.0},
        {"noise_hu": 80.0},
    ],
)
def test_ordinary_values_are_none(values: dict[str, float]) -> None:
    assert kinds(values, CT) == kinds(values, DX) == []


def test_one_finding_of_each_kind() -> None:
    values = {"deviation_index": -9.0, "grain": 5.0}
    assert kinds(values, DX, [far("target_miss", 20)]) == ["underexposure"]


@pytest.mark.parametrize(
    ("measure", "z", "kind"),
    [
        ("noise_hu", 9, "noise"),
        ("grain", 9, "noise"),
        ("field_level", -9, "overexposure"),
        ("black_clipped", 9, "clipping"),
        ("cut_outline", 9, "truncation"),
    ],
)
def test_far_outside_normal_is_a_finding(measure: str, z: float, kind: str) -> None:
    assert kinds({}, DX, [far(measure, z)]) == [kind]
    assert kinds({}, DX, [far(measure, z * (FAR - 1) / 9)]) == []
    assert kinds({}, DX, [far(measure, z, "drift")]) == []


@pytest.mark.parametrize(("deviation", "kind"), [(-4.0, "underexposure"), (4.0, "overexposure")])
def test_a_target_missed_by_far_says_on_which_side(deviation: float, kind: str) -> None:
    assert kinds({"deviation_index": deviation}, DX, [far("target_miss", 9)]) == [kind]


def test_less_noise_than_usual_is_none() -> None:
    assert kinds({}, CT, [far("noise_hu", -20), far("grain", -20), far("kvp", 30)]) == []


def test_meanings_are_of_measures_that_call_on_that_side() -> None:
    charted = [measure for measure in (*OF_CT, *BY_NAME.values()) if measure.charted]
    assert set(FAR_ABOVE) <= {measure.name for measure in charted if measure.better is Better.LOWER}
    assert set(FAR_BELOW) <= {measure.name for measure in charted if measure.better is Better.HIGHER}
