"""What was cut off or blanked is counted."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.domain.measurable import Slices
from qc_node.measures.regions import regions_of
from qc_node.measures.shares import of_shares, plateau
from tests.measures.heads import made, with_voxels


def share(slices: Slices, name: str) -> float:
    value = of_shares(slices, regions_of(slices))[name]
    assert isinstance(value, float), value
    return value


def test_nothing_is_clipped_in_an_image_that_has_one_highest_pixel() -> None:
    assert share(made(8.0), "clipped_share") == 0.0


def test_clipping_is_measured_in_order() -> None:
    slices = made(8.0)
    voxels = slices.volume.voxels
    body = voxels[voxels > 200]
    planted = [with_voxels(slices, np.minimum(voxels, int(np.quantile(body, q)))) for q in (0.95, 0.9, 0.8, 0.5)]
    got = [share(s, "clipped_share") for s in planted]
    assert got == sorted(got) and 0 < got[0] < 5 and got[-1] == pytest.approx(45.0, abs=12.0)


def test_a_gain_does_not_change_what_is_clipped() -> None:
    slices = made(8.0)
    clipped = np.minimum(slices.volume.voxels, 400)
    assert share(with_voxels(slices, clipped), "clipped_share") == pytest.approx(
        share(with_voxels(slices, clipped.astype(np.float32) * 3.5), "clipped_share"), rel=0.01
    )


def test_a_plateau_is_made_of_squares() -> None:
    voxels = np.zeros((1, 6, 6), np.uint8)
    voxels[0, 0, :] = 255
    assert plateau(voxels, 255) == 0
    voxels[0, 3:6, 3:5] = 255
    assert plateau(voxels, 255) == 6


def test_blanked_area_is_measured() -> None:
    slices = made(8.0)
    voxels = slices.volume.voxels.copy()
    voxels[:, : voxels.shape[1] // 4] = 0
    assert share(with_voxels(slices, voxels), "empty_share") == pytest.approx(25.0, abs=0.5)
    assert share(slices, "empty_share") == 0.0


def test_an_image_of_one_value_is_empty() -> None:
    slices = with_voxels(made(), np.full((4, 30, 30), 7, np.int16))
    found = of_shares(slices, regions_of(slices))
    assert found["empty_share"] == 100.0 and isinstance(found["clipped_share"], str)
