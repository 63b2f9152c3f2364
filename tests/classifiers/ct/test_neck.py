"""Vessels of the neck against muscle: what must and what must not look enhanced."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.neck import LEAST_SLICES, bones, muscle_level, slices, vessel_excess

SHAPE = (24, 96, 96)
ALL = np.ones(SHAPE[0], bool)


def neck(blood: int = 42, shift: int = 0) -> np.ndarray:
    """A neck at 4 mm: muscle in fat, airway, vertebra, two carotids of 8 and two jugulars of 12 mm."""
    rng = np.random.default_rng(0)
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    r = np.hypot((y - 48) / 1.1, x - 48)
    hu = np.full(SHAPE, -1024, np.int16)
    hu[r < 17] = -100
    hu[r < 15] = 55
    hu[:, 42:45, 46:50] = -1000
    hu[:, 52:57, 45:51] = 700
    for side in (-8, 7):
        hu[:, 46:48, 48 + side : 50 + side] = blood
        hu[:, 44:47, 49 + side * 5 // 4 : 52 + side * 5 // 4] = blood
    body = hu > -900
    hu[body] += (rng.normal(0, 6, SHAPE)[body] + shift).astype(np.int16)
    return hu


@pytest.mark.parametrize("shift", [-30, 0, 25])
def test_enhanced_vessels_stand_out_whatever_the_scale(shift: int) -> None:
    plain, enhanced = vessel_excess(neck(42, shift), ALL), vessel_excess(neck(160, shift), ALL)
    assert plain is not None and enhanced is not None
    assert plain < 20 and enhanced > 80
    assert abs((muscle_level(neck(42, shift)) or 0) - 55 - shift) <= 6


def test_bone_teeth_thyroid_and_streaks_are_not_vessels() -> None:
    thyroid = neck()
    thyroid[18:22, 42:48, 42:46] = thyroid[18:22, 42:48, 50:54] = 130  # 16 mm of it
    mandible = neck()
    mandible[:, 34:37, 38:58] = 900
    mandible[:, 37:38, 38:58] = 300  # half bone
    streaks = neck()
    streaks[::3, 40:42, 34:62] = 220
    for hu in (thyroid, mandible, streaks):
        excess = vessel_excess(hu, ALL)
        assert excess is not None and excess < 25


def test_calcified_wall_of_a_carotid_is_too_small() -> None:
    lime = neck()
    lime[8:16, 46, 40] = 600
    assert (vessel_excess(lime, ALL) or 0) < 25


def test_too_little_of_a_neck_says_nothing() -> None:
    assert vessel_excess(neck(160), np.arange(SHAPE[0]) < LEAST_SLICES - 1) is None
    assert vessel_excess(np.full(SHAPE, -1024, np.int16), ALL) is None
    assert vessel_excess(np.full(SHAPE, 900, np.int16), ALL) is None
    assert muscle_level(np.full(SHAPE, -1000, np.int16)) is None


def test_the_longest_run_in_the_range_is_read() -> None:
    position = np.array([200.0, 400.0, np.nan, 160.0, 164.0, 168.0, 300.0])
    assert slices(position).tolist() == [False, False, False, True, True, True, False]
    assert not slices(np.full(5, np.nan)).any()


@pytest.mark.parametrize("blood", [300, 450, 600, 800])
def test_no_angiography_is_too_bright(blood: int) -> None:
    excess = vessel_excess(neck(blood), ALL)
    assert excess is not None and excess > 0.8 * (blood - 60)


def test_a_slender_column_is_a_vessel_and_a_short_or_wide_one_is_bone() -> None:
    hu = np.full(SHAPE, 40, np.int16)
    hu[:, 20:23, 20:23] = 600  # 96 mm long
    hu[:10, 20:23, 60:63] = 600  # 40 mm
    hu[:, 60:68, 60:68] = 600  # 10 cm2
    found = bones(hu)
    assert not found[:, 20:23, 20:23].any()
    assert found[:10, 20:23, 60:63].all() and found[:, 60:68, 60:68].all()
