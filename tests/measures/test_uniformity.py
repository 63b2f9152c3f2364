"""The field of a coil is measured, and fat, noise and gain are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qc_node.domain.measurable import Slices
from qc_node.measures.regions import regions_of
from qc_node.measures.uniformity import of_uniformity, robust_fit, surface_terms
from tests.measures.heads import REAL, made, planted, real, with_voxels


def nonuniformity(slices: Slices) -> float:
    value = of_uniformity(regions_of(slices))["nonuniformity"]
    assert isinstance(value, float), value
    return value


def under_coil(slices: Slices, strength: float) -> Slices:
    """Brighter towards the front by exp(strength) on each half."""
    ramp = np.exp(strength * np.linspace(-1, 1, slices.volume.shape[1], dtype=np.float32))[None, :, None]
    return with_voxels(slices, slices.volume.voxels * ramp)


def test_the_span_of_a_planted_field_is_measured() -> None:
    """The middle 90 % of an ellipsoid of 0.7 half the width: exp(2 s 0.7 x), x = 0.58 of a sphere's quantiles."""
    got = [nonuniformity(made(4.0, field=strength)) for strength in (0.0, 0.2, 0.5, 1.0)]
    assert got == sorted(got) and got[0] < 8.0
    for strength, value in zip((0.5, 1.0), got[2:], strict=True):
        inner = 0.6 * 0.7 * strength
        assert value == pytest.approx(100 * np.tanh(inner), rel=0.25)


@pytest.mark.data
def test_a_stronger_coil_on_a_real_head_is_measured_in_order(shared_data: Path) -> None:
    slices = real(shared_data, REAL[1])
    got = [nonuniformity(under_coil(slices, s)) for s in (0.3, 0.6, 1.2)]
    assert got == sorted(got)


def test_a_bright_rim_and_noise_change_little() -> None:
    slices = made(4.0, field=0.5)
    voxels = slices.volume.voxels.copy()
    bright = voxels.copy()
    bright[:, :22, 30:50] = np.where(bright[:, :22, 30:50] > 100, 2500, bright[:, :22, 30:50])
    plain = nonuniformity(slices)
    assert nonuniformity(with_voxels(slices, bright)) == pytest.approx(plain, rel=0.1)
    assert nonuniformity(planted(slices, 30.0)) == pytest.approx(plain, rel=0.06)


@pytest.mark.parametrize("gain", [0.01, 40.0])
def test_a_gain_changes_nothing(gain: float) -> None:
    slices = made(4.0, field=0.5)
    louder = with_voxels(slices, slices.volume.voxels.astype(np.float32) * gain)
    assert nonuniformity(louder) == pytest.approx(nonuniformity(slices), rel=1e-3)


def test_axes_and_their_order_change_nothing() -> None:
    slices = made(4.0, field=0.5)
    plain = nonuniformity(slices)
    assert nonuniformity(with_voxels(slices, slices.volume.voxels.transpose(2, 1, 0))) == pytest.approx(
        plain, rel=0.05
    )
    assert nonuniformity(with_voxels(slices, slices.volume.voxels[:, ::-1])) == pytest.approx(plain, rel=0.02)


def test_one_slice_has_a_surface_too() -> None:
    slices = made(4.0, field=0.5)
    assert 10 < nonuniformity(with_voxels(slices, slices.volume.voxels[24:25])) < 40


def test_the_fit_ignores_what_lies_far_off() -> None:
    at = np.argwhere(np.ones((6, 7, 8), dtype=bool)).astype(float)
    terms = surface_terms(at)
    truth = terms @ np.linspace(0.5, -0.3, terms.shape[1])
    spoilt = truth + np.random.default_rng(0).normal(0, 0.01, len(truth))
    spoilt[::5] += 3.0
    assert np.abs(robust_fit(terms, spoilt) - truth).max() < 0.02
