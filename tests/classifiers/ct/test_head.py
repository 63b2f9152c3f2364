"""Vessels inside the skull: what must and what must not look enhanced."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.contrast import head_logit
from qc_node.classifiers.ct.head import HeadVessels, head_vessels, hollow, intracranial
from qc_node.classifiers.ct.readout import Rules

SHAPE = (30, 96, 96)


def skull(brain: int = 33) -> np.ndarray:
    """A closed skull of 144 mm with brain, ventricles and scalp at 4 mm."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    r = np.sqrt(((z - 15) / 1.0) ** 2 * 0.6 + (y - 48) ** 2 + (x - 48) ** 2)
    hu = np.full(SHAPE, -1024, np.int16)
    hu[r < 20] = 40
    hu[r < 18.5] = 900
    hu[r < 17] = brain
    hu[13:17, 44:52, 46:50] = 8
    return hu


def with_vessels(hu: np.ndarray, value: int) -> np.ndarray:
    """Cylinders of one voxel through all of the brain."""
    out = hu.copy()
    for y, x in ((40, 42), (40, 54), (57, 48), (48, 38), (48, 58), (53, 40), (54, 56), (36, 48), (42, 48)):
        out[2:28, y, x] = np.where(np.abs(out[2:28, y, x] - 33) <= 30, value, out[2:28, y, x])
    return out


ALL = np.ones(SHAPE[0], bool)


def test_inside_is_the_brain_only() -> None:
    hu = skull()
    inside = intracranial(hu)
    assert inside.sum() * 0.064 > 300 and set(np.unique(hu[inside])) == {8, 33}


RULES = Rules()


def measured(hu: np.ndarray) -> HeadVessels:
    head = head_vessels(hu, ALL)
    assert head is not None
    return head


def put(hu: np.ndarray, value: int, z: slice, y: slice, x: slice) -> np.ndarray:
    """`hu` with brain and ventricles of a box at `value`."""
    out = hu.copy()
    out[z, y, x] = np.where((hu[z, y, x] == 33) | (hu[z, y, x] == 8), value, hu[z, y, x])
    return out


def noisy(hu: np.ndarray, sd: float) -> np.ndarray:
    return (hu + np.random.default_rng(0).normal(0, sd, hu.shape) * (hu > -1000)).astype(np.int16)


@pytest.mark.parametrize("noise", [0.0, 4.0])
@pytest.mark.parametrize("value", [130, 350])
def test_vessels_in_all_places_are_enhancement(value: int, noise: float) -> None:
    head = measured(noisy(with_vessels(skull(), value), noise))
    assert head.spread > 10 and head_logit(head, RULES) > 2


@pytest.mark.parametrize("noise", [0.0, 4.0])
@pytest.mark.parametrize("shift", [0, 30, -30])
def test_a_head_with_nothing_bright_is_plain(shift: int, noise: float) -> None:
    for hu in (skull(), with_vessels(skull(), 43)):  # plain blood among brain
        moved = np.where(hu > -1000, hu + shift, hu).astype(np.int16)
        assert head_logit(measured(noisy(moved, noise)), RULES) < -1.2


def test_noise_alone_is_never_enhancement_and_no_proof_of_a_plain_head() -> None:
    for sd in (10, 20, 30):
        assert head_logit(measured(noisy(skull(), sd)), RULES) <= 0
    assert head_logit(measured(noisy(with_vessels(skull(), 60), 20)), RULES) == pytest.approx(0.0, abs=0.1)


def test_calcification_and_blood_in_a_few_places_are_no_enhancement() -> None:
    plexus = put(
        put(skull(), 200, slice(14, 17), slice(51, 54), slice(42, 44)),
        200,
        slice(14, 17),
        slice(51, 54),
        slice(53, 55),
    )
    pineal = put(plexus, 400, slice(15, 16), slice(54, 55), slice(48, 50))
    falx = put(pineal, 110, slice(4, 10), slice(36, 46), slice(48, 49))
    ventricles = put(
        put(skull(), 75, slice(13, 17), slice(40, 56), slice(44, 46)),
        75,
        slice(13, 17),
        slice(40, 56),
        slice(51, 53),
    )
    bleeding = put(skull(), 75, slice(10, 20), slice(52, 62), slice(40, 52))
    clip = put(skull(), 2500, slice(12, 13), slice(44, 45), slice(45, 46))
    for hu in (plexus, pineal, falx, ventricles, bleeding, clip):
        assert head_logit(measured(hu), RULES) <= 0
    assert head_logit(measured(falx), RULES) == pytest.approx(0.0, abs=0.1)  # bright, but in few places: not told


def test_haemorrhages_in_many_places_are_no_enhancement() -> None:
    """Eighteen pieces of 2 mL lie in two thirds of the places; no vessel is as thick."""
    hu = skull()
    for z in (6, 14, 22):
        for y, x in ((40, 41), (40, 54), (47, 38), (47, 56), (55, 41), (55, 54)):
            hu = put(hu, 80, slice(z, z + 3), slice(y, y + 4), slice(x, x + 3))
    assert head_logit(measured(hu), RULES) <= 0
    assert head_logit(measured(with_vessels(hu, 130)), RULES) >= 0  # vessels beside them


def test_a_small_calcification_leaves_a_plain_head_plain() -> None:
    assert head_logit(measured(put(skull(), 400, slice(15, 16), slice(54, 55), slice(48, 50))), RULES) < -1


def test_blood_in_all_cisterns_is_not_certain() -> None:
    # 80 HU filling half of the voxels: spread like vessels, but not as bright.
    assert head_logit(measured(with_vessels(skull(), 58)), RULES) < 1.5


def test_too_little_of_a_skull_says_nothing() -> None:
    hu = skull()
    assert head_vessels(hu, np.arange(SHAPE[0]) < 3) is None
    assert head_vessels(np.full(SHAPE, 40, np.int16), ALL) is None
    half = hu.copy()
    half[:, 48:] = -1024  # an open ring is no skull
    assert head_vessels(half, ALL) is None


def test_a_skull_on_a_stand_is_hollow_and_a_head_is_not() -> None:
    empty = skull()
    empty[empty < 100] = -1000  # no scalp, no brain
    assert hollow(empty, ALL) and not hollow(skull(), ALL)
    sinus = skull()
    sinus[:, 30:36, 40:56] = np.where(sinus[:, 30:36, 40:56] == 33, -1000, sinus[:, 30:36, 40:56])
    assert not hollow(sinus, ALL)
