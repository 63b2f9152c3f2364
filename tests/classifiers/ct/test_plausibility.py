"""A limb is not a neck, however much it looks like one."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.plausibility import air_share, impossible
from qc_node.classifiers.ct.projections import project
from qc_node.domain import BodyPart
from tests.classifiers.ct.phantoms import volume


def cylinder(airway: bool) -> np.ndarray:
    y, x = np.mgrid[:96, :96]
    hu = np.full((20, 96, 96), -1024, np.int16)
    hu[:, (y - 48) ** 2 + (x - 48) ** 2 < 15**2] = 50
    if airway:
        hu[4:, 38:42, 46:50] = -950
    return hu


def test_air_is_counted_only_inside_the_body() -> None:
    assert air_share(cylinder(False)) == 0.0
    assert air_share(cylinder(True)) == pytest.approx(0.8)
    notch = cylinder(False)
    notch[:, 33:40, 46:50] = -1000  # open to the outside, as a scanner sees it
    coarse = project(volume(notch, (4.0, 4.0, 4.0))).coarse
    assert (coarse > TISSUE).any() and air_share(coarse) == 0.0
    assert air_share(np.full((3, 96, 96), -1024, np.int16)) == 0.0


def test_without_air_or_skull_only_what_needs_neither_is_possible() -> None:
    assert impossible(air=0.0, skull_ml=0.0, slices=40) == set(BodyPart) - {BodyPart.OTHER}
    assert impossible(air=0.6, skull_ml=0.0, slices=40) == set()


def test_a_skull_saves_the_brain_and_a_short_abdomen_may_have_no_gas() -> None:
    assert impossible(air=0.0, skull_ml=500.0, slices=10) == {BodyPart.NECK, BodyPart.CHEST}
