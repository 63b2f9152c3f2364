"""Vessels inside the skull: what must and what must not look enhanced."""

from __future__ import annotations

import numpy as np

from qc_node.classifiers.ct.head import hollow, intracranial, vessel_excess

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
    """Cylinders of one voxel through the brain, about 4 mL."""
    out = hu.copy()
    for y, x in ((40, 44), (40, 52), (56, 48), (48, 38), (48, 58), (52, 42)):
        out[6:25, y, x] = np.where(out[6:25, y, x] == 33, value, out[6:25, y, x])
    return out


ALL = np.ones(SHAPE[0], bool)


def test_inside_is_the_brain_only() -> None:
    hu = skull()
    inside = intracranial(hu)
    assert inside.sum() * 0.064 > 300 and set(np.unique(hu[inside])) == {8, 33}


def test_enhanced_vessels_stand_out_and_plain_blood_does_not() -> None:
    plain, enhanced = vessel_excess(with_vessels(skull(), 45), ALL), vessel_excess(with_vessels(skull(), 130), ALL)
    assert plain is not None and enhanced is not None
    assert plain < 15 and enhanced > 50


def test_haemorrhage_calcification_and_shifted_scale_are_not_vessels() -> None:
    bleeding = skull()
    bleeding[10:20, 52:62, 40:52] = np.where(
        bleeding[10:20, 52:62, 40:52] == 33, 75, bleeding[10:20, 52:62, 40:52]
    )
    pineal = skull()
    pineal[15, 54, 48:50] = 400
    for hu in (bleeding, pineal, skull(60)):
        excess = vessel_excess(hu, ALL)
        assert excess is not None and excess < 30
    assert vessel_excess(pineal, ALL) < 15  # type: ignore[operator]


def test_too_little_of_a_skull_says_nothing() -> None:
    hu = skull()
    assert vessel_excess(hu, np.arange(SHAPE[0]) < 3) is None
    assert vessel_excess(np.full(SHAPE, 40, np.int16), ALL) is None
    half = hu.copy()
    half[:, 48:] = -1024  # an open ring is no skull
    assert vessel_excess(half, ALL) is None


def test_a_skull_on_a_stand_is_hollow_and_a_head_is_not() -> None:
    empty = skull()
    empty[empty < 100] = -1000  # no scalp, no brain
    assert hollow(empty, ALL) and not hollow(skull(), ALL)
    sinus = skull()
    sinus[:, 30:36, 40:56] = np.where(sinus[:, 30:36, 40:56] == 33, -1000, sinus[:, 30:36, 40:56])
    assert not hollow(sinus, ALL)
