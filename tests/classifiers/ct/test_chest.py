"""Blood between the lungs against muscle: what must and what must not look enhanced."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.chest import LEAST_SLICES, between_lungs, blood_excess
from qc_node.classifiers.ct.levels import FAT, TOLERANCE, muscle_level, scale_offset
from qc_node.classifiers.ct.projections import project
from tests.classifiers.ct.phantoms import volume

SHAPE = (24, 96, 96)
ALL = np.ones(SHAPE[0], bool)
Z, Y, X = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]


def disc(y: float, x: float, radius: float) -> np.ndarray:
    """``SHAPE``: a cylinder along the body, in pixels of 4 mm."""
    inside: np.ndarray = np.hypot(Y - y, X - x) <= radius
    return inside


def chest(blood: int = 42, shift: int = 0, noise: float = 5) -> np.ndarray:
    """A chest at 4 mm: wall of fat and muscle, lungs, a heart of 88 mm, an aorta of 28 mm, vertebrae of 24 mm."""
    hu = np.full(SHAPE, -1024, np.int16)
    hu[((X - 48) / 46) ** 2 + ((Y - 48) / 32) ** 2 <= 1] = -100
    hu[((X - 48) / 40) ** 2 + ((Y - 48) / 26) ** 2 <= 1] = 58
    for side in (-1, 1):
        hu[((X - 48 - side * 19) / 15) ** 2 + ((Y - 48) / 19) ** 2 <= 1] = -850
    hu[disc(42, 50, 11)] = blood
    hu[disc(56, 54, 3.5)] = blood
    hu[(np.abs(Y - 64) < 4) & (np.abs(X - 48) < 5)] = 400
    hu[(np.abs(Y - 64) < 3) & (np.abs(X - 48) < 4)] = 170
    hu[(np.abs(Y - 64) < 4) & (np.abs(X - 48) < 5) & (Z % 7 == 0)] = 90
    body = hu > -900
    hu[body] += (np.random.default_rng(0).normal(0, noise, SHAPE)[body] + shift).astype(np.int16)
    return hu


def excess(hu: np.ndarray) -> float:
    value = blood_excess(hu, ALL)
    assert value is not None
    return value


@pytest.mark.parametrize("shift", [-30, 0, 30])
@pytest.mark.parametrize(("blood", "low", "high"), [(30, -35, 12), (42, -25, 12), (110, 42, 62), (180, 105, 135)])
def test_blood_is_told_from_muscle_whatever_the_scale(shift: int, blood: int, low: float, high: float) -> None:
    hu = chest(blood, shift)
    assert abs((muscle_level(hu) or 0) - 58 - shift) <= 8
    assert low < excess(hu) < high


@pytest.mark.parametrize("blood", [300, 450, 600, 700, 1200])
def test_no_angiography_is_too_bright(blood: int) -> None:
    assert excess(chest(blood)) == pytest.approx(blood - 58, abs=0.1 * blood)


def test_bright_things_of_a_plain_chest_are_not_blood() -> None:
    calcified = chest()
    calcified[disc(56, 54, 3.5) & ~disc(56, 54, 2.5)] = 500  # porcelain aorta
    coronaries = chest()
    coronaries[:, 36:38, 44:56] = 350
    lead = chest()
    lead[:, 44, 50] = 3000
    streaks = chest()
    streaks[:, 40:42, 40:60] += np.where(Z[:, 40:42, 40:60] % 2, 160, -160).astype(np.int16)
    implants = chest()
    implants[disc(14, 34, 7) | disc(14, 62, 7) | disc(38, 4, 4) | disc(38, 92, 4)] = 150
    oesophagus = chest()
    oesophagus[disc(57, 48, 2)] = 300
    sclerotic = chest()
    sclerotic[(np.abs(Y - 64) < 4) & (np.abs(X - 48) < 5) & (Z % 7 > 0)] = 350  # discs every 28 mm
    effusion = chest()
    effusion[(effusion == -850) | ((Y > 58) & (effusion < -700) & (effusion > -1000))] = 10
    names = ("calcified", "coronaries", "lead", "streaks", "implants", "oesophagus", "sclerotic", "effusion")
    for name, hu in zip(
        names,
        (calcified, coronaries, lead, streaks, implants, oesophagus, sclerotic, effusion),
        strict=True,
    ):
        assert excess(hu) < (40 if name == "effusion" else 20), name


def test_contrast_in_the_stomach_is_not_between_the_lungs() -> None:
    hu = chest()
    hu[12:][(hu[12:] < -500) & (hu[12:] > -1000)] = 60  # below the dome there is no lung
    hu[12:][disc(42, 60, 10)[12:]] = 300
    assert excess(hu) < 20


def test_liver_is_not_taken_for_muscle() -> None:
    hu = chest(150)
    liver = (Z > 8) & (((X - 28) / 16) ** 2 + ((Y - 48) / 22) ** 2 <= 0.6)
    hu[liver] = 108 + np.random.default_rng(1).normal(0, 5, SHAPE)[liver].astype(np.int16)
    assert abs((muscle_level(hu) or 0) - 58) <= 8 and excess(hu) > 70


def test_without_a_second_lung_nothing_is_said() -> None:
    half = chest(300)
    half[:, :, 52:] = -1024
    assert not between_lungs(half)[:, :, :12].any()
    assert blood_excess(half, ALL) is None
    solid = chest(42)
    solid[(X > 52) & (solid < -500) & (solid > -1000)] = 30
    assert blood_excess(solid, ALL) is None


def test_too_noisy_too_short_or_no_body_says_nothing() -> None:
    assert blood_excess(chest(300, noise=60), ALL) is None
    assert blood_excess(chest(300), np.arange(SHAPE[0]) < LEAST_SLICES - 1) is None
    assert blood_excess(np.full(SHAPE, -1024, np.int16), ALL) is None
    assert muscle_level(np.full(SHAPE, -1000, np.int16)) is None


def test_the_measure_survives_the_projection() -> None:
    fine = np.repeat(np.repeat(chest(300), 2, 1), 2, 2)
    room = np.where(fine == -1024, np.int16(-1000), fine)
    assert excess(project(volume(room, (4.0, 2.0, 2.0))).coarse) > 200


@pytest.mark.parametrize("shift", [-40, -30, 30, 40])
def test_fat_tells_a_scale_that_is_off(shift: int) -> None:
    assert scale_offset(chest()) == 0.0
    assert scale_offset(chest(shift=shift)) == pytest.approx(shift - 100 - FAT, abs=2)
    assert scale_offset(chest(shift=int(np.sign(shift) * (TOLERANCE - 3)))) == 0.0


def test_without_fat_the_scale_is_believed() -> None:
    lean = chest(shift=35)
    lean[(lean < -20) & (lean > -120)] = -1024
    assert scale_offset(lean) == 0.0
    assert scale_offset(lean[:0]) == 0.0
