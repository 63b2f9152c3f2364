"""Lung that a small field of view cuts open stays in the body; room air and foam do not enter it."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.classifiers.ct.body import body_mask
from qc_node.classifiers.ct.calibration import AIR
from qc_node.classifiers.ct.plausibility import LEAST_AIR, air_share
from qc_node.classifiers.ct.projections import project
from tests.classifiers.ct.phantoms import volume


def chest(lung: float = -860, room: float = -1000, foam: float | None = None) -> np.ndarray:
    """A chest of 360 x 240 mm at 4 mm with two lungs and a mediastinum, on foam if wanted: ``(90, 110)`` HU."""
    y, x = np.mgrid[:90, :110].astype(float)
    hu = np.full((90, 110), room, np.float32)
    if foam is not None:
        hu[66:] = foam
    hu[((x - 55) / 45) ** 2 + ((y - 40) / 30) ** 2 <= 1] = 40
    for side in (-1, 1):
        hu[((x - 55 - side * 21) / 16) ** 2 + ((y - 40) / 22) ** 2 <= 1] = lung
    return hu


@pytest.mark.parametrize("lung", [-750, -900])
def test_half_a_chest_keeps_its_lung(lung: float) -> None:
    whole, half = chest(lung), chest(lung)[:, :44]
    assert body_mask(whole)[:, :44][whole[:, :44] == lung].all()
    assert (half[:, -1] == lung).sum() > 20, "the border must cut the lung"
    assert body_mask(half)[half == lung].all()
    assert not body_mask(half)[half == -1000].any()


def test_emphysema_must_be_nearly_enclosed() -> None:
    thin = chest(-970)
    walled, wide = thin[:, :49], thin[20:, :37]
    assert body_mask(walled)[walled == -970].all(), "only the hilum is open"
    assert not body_mask(wide)[wide == -970].any(), "nothing tells it from warm air"


@pytest.mark.parametrize("room", [-1024, -1000, -990])
def test_room_air_between_body_and_border_stays_outside(room: float) -> None:
    hu = chest(room=room)
    concave = np.full((60, 60), room, np.float32)
    concave[:, :20] = concave[40:] = 40  # arm and trunk, both cut by the border
    for picture in (hu[:, 20:90], hu[30:, :], concave):
        assert not body_mask(picture)[picture == room].any()


def test_foam_below_the_patient_stays_outside() -> None:
    hu = chest(foam=-930)[:, 15:95]
    assert not body_mask(hu)[75:][hu[75:] == -930].any()


def test_half_a_chest_holds_air_and_a_limb_beside_the_border_does_not() -> None:
    half = np.repeat(chest()[None, :, :44], 20, 0).astype(np.int16)
    limb = np.where(half == -860, np.int16(40), half)
    for hu, expected in ((half, 1.0), (limb, 0.0)):
        coarse = project(volume(hu, (4.0, 4.0, 4.0))).coarse
        assert air_share(coarse) == expected
    assert air_share(np.where(half < -400, AIR, half)) < LEAST_AIR, "what the mask took away is not counted"
