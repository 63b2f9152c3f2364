"""Aorta, organs beside the spine and vessels of the groins: what must and what must not look enhanced."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from qc_node.classifiers.ct.abdomen import Organs, organ_excess
from qc_node.classifiers.ct.pelvis import femoral_excess
from qc_node.classifiers.ct.vessels import (
    BOWEL_MM,
    LEAST_GOOD,
    Spine,
    aorta_excess,
    best_path,
    find_spine,
    longest_run,
    strongest,
)

SHAPE = (40, 96, 96)
Z, Y, X = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
POSITION = 480.0 + 4.0 * np.arange(SHAPE[0], dtype=np.float64)
"""From below the dome to the lower poles of the kidneys."""


def ellipse(y: float, x: float, high: float, wide: float) -> np.ndarray:
    inside: np.ndarray = ((Y - y) / high) ** 2 + ((X - x) / wide) ** 2 <= 1
    return inside


@cache
def _abdomen(blood: float, kidney: float, liver: float, shift: int, noise: float, marrow: int) -> np.ndarray:
    return _drawn(blood, kidney, liver, shift, noise, marrow)


def abdomen(
    blood: float = 42, kidney: float = 32, liver: float = 58, shift: int = 0, noise: float = 5, marrow: int = 160
) -> np.ndarray:
    """A copy of one of the abdomens below, which are drawn once."""
    return _abdomen(blood, kidney, liver, shift, noise, marrow).copy()


def _drawn(blood: float, kidney: float, liver: float, shift: int, noise: float, marrow: int) -> np.ndarray:
    """An abdomen at 4 mm: fat, muscle, spine with discs, an aorta of 22 mm, kidneys, liver, bowel."""
    hu = np.full(SHAPE, -1024, np.float32)
    hu[ellipse(48, 48, 30, 44)] = -105
    wall = ellipse(48, 48, 28, 42) & ~ellipse(47, 48, 25, 38)
    hu[wall] = 55
    hu[ellipse(44, 27, 15, 14) & (Y < 56)] = liver
    hu[ellipse(68, 38, 7, 8) | ellipse(68, 58, 7, 8)] = 55  # muscles of the back
    hu[ellipse(60, 40, 5, 3) | ellipse(60, 56, 5, 3)] = 55  # psoas
    body = ellipse(58, 48, 4.5, 5.5)
    hu[body] = 280
    hu[ellipse(58, 48, 3.6, 4.6)] = marrow
    hu[body & (Z % 8 == 0)] = 90
    hu[ellipse(64, 48, 2, 2.5)] = 30
    arch = (ellipse(66, 48, 4, 5) & (Y > 61)) | ellipse(66, 48, 1.2, 9) | ellipse(72, 48, 4, 1.2)
    hu[arch & ~ellipse(64, 48, 2, 2.5)] = 420
    hu[ellipse(50, 50, 2.8, 2.8)] = blood
    hu[ellipse(51, 43, 2.6, 3.2)] = blood  # inferior vena cava
    for x in (32, 64):
        hu[ellipse(60, x, 5, 6) & (Z > 8)] = kidney
    hu[ellipse(34, 60, 5, 9) | ellipse(32, 44, 5, 7)] = 25  # bowel
    tissue = hu > -900
    hu[tissue] += np.random.default_rng(0).normal(0, noise, SHAPE)[tissue] + shift
    return hu.astype(np.int16)


def measured(hu: np.ndarray, position: np.ndarray = POSITION) -> tuple[float | None, float | None, Organs | None]:
    spine = find_spine(hu)
    assert spine is not None
    return *aorta_excess(hu, spine, position), organ_excess(hu, spine, position)


@pytest.mark.parametrize("shift", [-30, 0, 30])
@pytest.mark.parametrize("noise", [3, 10])
def test_spine_muscle_and_front_are_found(shift: int, noise: float) -> None:
    spine = find_spine(abdomen(shift=shift, noise=noise))
    assert spine is not None and abs(spine.muscle - 55 - shift) <= 5
    assert np.abs(spine.canal[:, 1] - 48).max() <= 2
    front = spine.canal[:, 0] + spine.front
    assert np.all((front > 51) & (front < 57))


@pytest.mark.parametrize("shift", [-30, 0, 30])
@pytest.mark.parametrize(
    ("blood", "kidney", "liver"),
    [(42, 32, 58), (52, 38, 66), (35, 25, 10)],  # usual; much haemoglobin; anaemia and a fatty liver
)
def test_plain_blood_and_organs_are_not_above_muscle(blood: int, kidney: int, liver: int, shift: int) -> None:
    above, _, organs = measured(abdomen(blood, kidney, liver, shift))
    assert above is not None and above < 8
    assert organs is not None and organs.both < 8 and organs.either < 20


@pytest.mark.parametrize(
    ("blood", "kidney", "liver"),
    [(300, 150, 62), (150, 180, 110), (150, 180, 60), (92, 110, 80)],
    # arterial; portal venous; portal venous with a fatty liver; minutes later
)
@pytest.mark.parametrize("shift", [-30, 0, 30])
def test_every_phase_is_above_muscle(blood: int, kidney: int, liver: int, shift: int) -> None:
    above, _, organs = measured(abdomen(blood, kidney, liver, shift))
    assert above is not None and above == pytest.approx(blood - 55, abs=8 + 0.05 * blood)
    assert organs is not None and organs.both > 30


def test_what_else_is_bright_is_no_aorta() -> None:
    wall = abdomen()
    wall[ellipse(50, 50, 2.9, 2.9) & ~ellipse(50, 50, 2.2, 2.2)] = 600
    plaque = abdomen()
    plaque[ellipse(51, 51, 1.2, 1.2)] = 500
    sclerotic, bar = abdomen(marrow=400), abdomen(marrow=150)
    bar[ellipse(58, 48, 4.5, 5.5)] = 150  # no discs, no cortex
    duodenum = abdomen()
    duodenum[(Z > 20) & (Z < 26) & ellipse(45, 50, 2, 12)] = 300
    stomach = abdomen()
    stomach[ellipse(34, 60, 8, 12)] = 300
    clips = abdomen()
    clips[::5, 47:49, 50:52] = 2500
    for hu in (wall, plaque, sclerotic, bar, duodenum, stomach, clips):
        above, _, _ = measured(hu)
        assert above is None or above < 12


def test_oral_contrast_on_one_side_or_an_iron_liver_are_not_organs_on_both() -> None:
    colon = abdomen()
    colon[ellipse(58, 66, 5, 5)] = 300
    iron = abdomen(liver=95)
    for hu in (colon, iron):
        _, _, organs = measured(hu)
        assert organs is not None and organs.both < 12


def test_an_enhanced_stretch_above_a_pale_one_is_found() -> None:
    hu = abdomen()
    hu[:24] = abdomen(150, 180, 110)[:24]
    above, _, organs = measured(hu)
    assert above is not None and above > 80 and organs is not None and organs.both > 30


def test_bowel_in_front_of_the_lower_spine_is_told_apart_from_the_aorta_above() -> None:
    position = BOWEL_MM - 80 + 4.0 * np.arange(SHAPE[0])
    hu = abdomen()
    hu[(Z > 21) & ellipse(49, 50, 4, 4)] = 350
    above, below, _ = measured(hu, position)
    assert above is not None and above < 8
    assert below is not None and below > 100


def test_without_a_spine_or_too_short_nothing_is_said() -> None:
    soft = np.minimum(abdomen(), 60).astype(np.int16)
    assert find_spine(soft) is None and find_spine(soft[:0]) is None
    assert find_spine(abdomen(300)[: LEAST_GOOD - 1]) is None
    short = np.where(np.arange(SHAPE[0]) < LEAST_GOOD - 1, POSITION, np.nan)
    assert measured(abdomen(300), short) == (None, None, None)
    assert measured(abdomen(300), np.full(SHAPE[0], np.nan)) == (None, None, None)


def test_strongest_wants_agreement_and_takes_the_brightest_window() -> None:
    levels = np.r_[np.full(15, -10.0), np.full(15, 40.0)]
    good = np.ones(30, bool)
    assert strongest(levels, good) == 40.0
    assert strongest(levels[:15], good[:15]) == -10.0
    assert strongest(levels, good & (np.arange(30) % 2 == 0)) is None
    assert strongest(np.tile([0.0, 200.0], 10), good[:20]) is None


def test_paths_move_by_one_pixel_and_runs_bridge_single_slices() -> None:
    score = np.zeros((5, 9, 9), np.float32)
    for z, (y, x) in enumerate([(2, 2), (3, 3), (4, 4), (4, 5), (3, 6)]):
        score[z, y, x] = 1.0
    score[2, 8, 8] = 1.5  # brighter, but out of reach
    assert best_path(score).tolist() == [[2, 2], [3, 3], [4, 4], [4, 5], [3, 6]]
    position = np.array([500.0, 510, np.nan, 520, 300, 300, 300, 300, 300, 300, 530])
    assert longest_run(position, (475, 650)).tolist() == [True] * 4 + [False] * 7


def pelvis(vessels: float = 42, shift: int = 0) -> np.ndarray:
    """Hips at 4 mm: femoral heads, muscle, artery and vein of 10 mm in both groins, bladder."""
    hu = np.full(SHAPE, -1024, np.float32)
    hu[ellipse(48, 48, 26, 44)] = -105
    hu[ellipse(58, 48, 14, 40)] = 55
    hu[ellipse(50, 48, 8, 9)] = 5
    for side in (-1, 1):
        hu[ellipse(56, 48 + side * 22, 6, 6)] = 500
        hu[ellipse(42, 48 + side * 18, 4, 4)] = 55
        hu[ellipse(38, 48 + side * 11, 1.3, 1.3) | ellipse(38, 48 + side * 14, 1.3, 1.3)] = vessels
    tissue = hu > -900
    hu[tissue] += np.random.default_rng(0).normal(0, 5, SHAPE)[tissue] + shift
    return hu.astype(np.int16)


@pytest.mark.parametrize("shift", [-30, 0, 30])
def test_vessels_of_both_groins(shift: int) -> None:
    groin = np.ones(SHAPE[0], bool)
    assert (femoral_excess(pelvis(42, shift), groin) or 0) < 12
    assert (femoral_excess(pelvis(110, shift), groin) or 0) > 25
    assert (femoral_excess(pelvis(350, shift), groin) or 0) > 150


def test_bladder_hips_and_one_side_are_no_groin_vessels() -> None:
    groin = np.ones(SHAPE[0], bool)
    bladder = pelvis()
    bladder[ellipse(50, 48, 8, 9)] = 400
    hips = pelvis()
    hips[ellipse(56, 26, 6, 6) | ellipse(56, 70, 6, 6)] = 3000
    shunt = pelvis()
    shunt[ellipse(38, 59, 2.5, 2.5)] = 300
    for hu in (bladder, hips, shunt):
        assert (femoral_excess(hu, groin) or 0) < 15
    assert femoral_excess(pelvis()[:4], groin[:4]) is None
    assert femoral_excess(np.full(SHAPE, -1024, np.int16), groin) is None


def test_an_unknown_spine_is_left_out() -> None:
    hu = abdomen(150, 180, 110)
    spine = find_spine(hu)
    assert spine is not None
    lost = Spine(np.full_like(spine.canal, np.nan), np.full_like(spine.front, np.nan), spine.muscle)
    assert aorta_excess(hu, lost, POSITION) == (None, None) and organ_excess(hu, lost, POSITION) is None
