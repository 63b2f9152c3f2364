"""Slices made from thicker ones are seen in the voxels; slices that were measured are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from qc_node import domain
from qc_node.classifiers.brain_mri import checks
from qc_node.classifiers.brain_mri.resampled import measured_spacing
from qc_node.domain import Reason


@pytest.fixture(scope="module")
def noisy(average: domain.Volume) -> np.ndarray:
    return average.voxels.astype(np.float32) + np.random.default_rng(1).normal(0, 8, average.voxels.shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", [0, 1])
def test_thick_slices_made_thin_are_seen(axis: int, order: int, noisy: np.ndarray) -> None:
    factors = np.ones(3)
    factors[axis] = 3.0
    thick = ndimage.zoom(noisy, 1 / factors, order=1)
    thin = ndimage.zoom(thick, factors, order=order).astype(np.float32)
    spacing = measured_spacing(thin, (2.0, 2.0, 2.0))
    assert spacing[2 - axis] == pytest.approx(6.0, abs=1.3)
    assert all(s == 2.0 for n, s in enumerate(spacing) if n != 2 - axis)
    volume = domain.Volume(thin, np.diag([2.0, 2.0, 2.0, 1.0]), modality="MR")
    assert checks.before_registration(volume, thin, 0.0)[1] is Reason.THICK_SLICES


def test_measured_slices_are_left_alone(noisy: np.ndarray, average: domain.Volume) -> None:
    for values in (
        noisy,
        average.voxels,
        np.round(noisy / 8),
        np.pad(noisy, 30),
        noisy * 1e-9,
        ndimage.gaussian_filter(noisy, 0.8),
    ):
        assert measured_spacing(values.astype(np.float32), (2.0, 2.0, 2.0)) == (2.0, 2.0, 2.0)


def test_a_little_resampling_is_no_thick_slice(noisy: np.ndarray) -> None:
    """1.3 mm brought to 1 mm."""
    thin = ndimage.zoom(noisy, (1.3, 1, 1), order=0).astype(np.float32)
    assert measured_spacing(thin, (1.0, 1.0, 1.0))[2] == pytest.approx(1.3, abs=0.15)


def test_nothing_to_see_is_no_thick_slice() -> None:
    assert measured_spacing(np.zeros((50, 50, 50), np.float32), (1.0, 1.0, 1.0)) == (1.0, 1.0, 1.0)
