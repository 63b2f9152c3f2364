"""Risk-coverage curves against hand calculations and planted confidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qc_node.training import risk


def test_a_curve_by_hand() -> None:
    c = risk.curve([0.9, 0.6, 0.8, 0.7], [True, False, False, True])
    assert (c.asked, c.answered, c.wrong) == (4, 4, 2)
    assert c.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert c.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert c.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The two wrong ones last: risks 0, 0, 1/3, 1/2.
    assert c.least_area == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert c.risk_at(0.5) == 0.5 and c.risk_at(0.51) == pytest.approx(1 / 3)
    assert c.coverage_at(0.0) == 0.25 and c.coverage_at(0.4) == 0.75 and c.coverage_at(0.5) == 1.0


def test_withheld_answers_are_neither_right_nor_wrong() -> None:
    c = risk.curve([0.9, np.nan, 0.8, np.nan], [True, False, False, True], [True, False, True, False])
    assert (c.asked, c.answered, c.wrong) == (4, 2, 1)
    # The curve ends at half: more was not answered.
    assert c.coverage.tolist() == [0.25, 0.5] and c.risk.tolist() == [0, 0.5]
    assert np.isnan(c.risk_at(0.75))


def test_equally_sure_answers_have_no_order() -> None:
    first = risk.curve([0.5] * 4, [True, True, False, False])
    second = risk.curve([0.5] * 4, [False, False, True, True])
    assert first.risk.tolist() == second.risk.tolist() == [0.5] * 4


def test_confidence_that_means_something_has_a_smaller_area() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 4000)
    right = rng.random(4000) < p
    told, mute = risk.curve(p, right), risk.curve(rng.random(4000), right)
    assert told.risk_at(1.0) == mute.risk_at(1.0) == pytest.approx(1 - right.mean())
    assert told.least_area < told.area < 0.7 * mute.area
    # Without information the risk is the same everywhere.
    assert mute.area == pytest.approx(1 - right.mean(), abs=0.03)


def test_nobody_and_nothing() -> None:
    c = risk.curve([], [])
    assert c.asked == 0 and np.isnan(c.area) and np.isnan(c.least_area)
    assert np.isnan(risk.curve([np.nan], [True], [False]).area)
    with pytest.raises(ValueError, match="not a number"):
        risk.curve([np.nan], [True])
    with pytest.raises(ValueError, match="one length"):
        risk.curve([1.0, 2.0], [True])


def test_the_interval_is_by_person() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(6), 40)
    right = np.repeat([1, 1, 1, 0, 1, 0], 40).astype(bool)
    sure = rng.random(240)
    by_person = risk.summary(sure, right, people, rng, n=200)
    by_image = risk.summary(sure, right, np.arange(240), rng, n=200)
    assert by_person["wrong"] == 80 and by_person["right"] == 160 and by_person["undetermined"] == 0
    low, high = by_person["risk"][-1]["ci"]
    narrow = by_image["risk"][-1]["ci"]
    assert high - low > 3 * (narrow[1] - narrow[0])
    assert by_person["risk"][-1]["risk"] == pytest.approx(1 / 3) and low <= 1 / 3 <= high


def test_a_summary_names_what_is_not_known() -> None:
    rng = np.random.default_rng(2)
    s = risk.summary([0.9, 0.8], [True, True], ["a", "a"], rng, [True, False], coverages=(0.5, 0.9), n=20)
    assert (s["right"], s["wrong"], s["undetermined"], s["people"]) == (1, 0, 1, 1)
    assert s["risk"][0]["risk"] == 0 and s["risk"][0]["ci"] == [None, None]
    assert s["risk"][1]["risk"] is None and s["risk"][1]["confidence"] is None


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    c = risk.curve([0.9, 0.6], [True, False])
    risk.plot({"motion": c}, tmp_path / "risk.png", "R1")
    assert (tmp_path / "risk.png").stat().st_size > 1000
