"""The tissues of a head are measured at the places of an average head: under a coil, in noise, in any unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices, TissueLevels
from qc_node.measures import t1w
from tests.measures.heads import planted

WHITE, GREY, FLUID = 600.0, 420.0, 130.0
SHAPE = (40, 60, 50)


def made_brain(noise: float = 15.0, coil: float = 0.0, seed: int = 0) -> tuple[Volume, t1w.ExpectedTissues]:
    """White matter inside grey matter around fluid; the places know it but for a fold in ten."""
    rng = np.random.default_rng(seed)
    at = np.argwhere(np.ones(SHAPE, dtype=bool)).astype(float)
    radius = np.linalg.norm((at - np.array(SHAPE) / 2 + 0.5) / (np.array(SHAPE) / 2), axis=1)
    tissue = np.select([radius < 0.3, radius < 0.75, radius < 1.0], [2, 0, 1], 3)
    there = np.where(rng.random(len(at)) < 0.1, rng.integers(0, 2, len(at)), tissue)
    levels = np.array([WHITE, GREY, FLUID, 0.0])[there]
    signal = levels * np.exp(coil * (at[:, 1] / SHAPE[1] - 0.5)) + rng.normal(0, noise, len(at))
    affine = np.array([[2.0, 0, 0, -50], [0, 2, 0, -60], [0, 0, 2, -40], [0, 0, 0, 1]])
    brain = tissue < 3
    points = at[brain][:, ::-1] * 2.0 + affine[:3, 3]
    shares = np.eye(3, dtype=np.float32)[tissue[brain]] * 0.8 + 0.05
    return Volume(signal.reshape(SHAPE).astype(np.float32), affine, modality="MR"), t1w.ExpectedTissues(
        points, shares
    )


def levels(volume: Volume, places: t1w.ExpectedTissues) -> TissueLevels:
    found = t1w.levels_of(volume, places)
    assert found is not None
    return found


@pytest.mark.parametrize("coil", [0.0, 0.6])
@pytest.mark.parametrize("noise", [5.0, 15.0, 40.0])
def test_the_ratios_of_a_made_brain(noise: float, coil: float) -> None:
    found = t1w.of_head(levels(*made_brain(noise, coil)), noise)
    assert found["grey_white_ratio"] == pytest.approx(GREY / WHITE, rel=0.02)
    assert found["csf_white_ratio"] == pytest.approx(FLUID / WHITE, rel=0.4)
    assert found["white_grey_cnr"] == pytest.approx((WHITE - GREY) / noise, rel=0.08)
    assert found["tissue_overlap"] == pytest.approx(2 * noise / (WHITE - GREY), rel=0.35)


def test_noise_moves_the_overlap_in_order_and_leaves_the_ratio() -> None:
    found = [t1w.of_head(levels(*made_brain(noise)), noise) for noise in (5.0, 20.0, 40.0, 60.0)]
    overlap = [f["tissue_overlap"] for f in found]
    assert overlap == sorted(overlap, key=float)
    for f in found:
        assert f["grey_white_ratio"] == pytest.approx(GREY / WHITE, rel=0.04)


def test_a_gain_scales_levels_and_no_ratio() -> None:
    volume, places = made_brain()
    before, after = levels(volume, places), levels(replace(volume, slope=0.01), places)
    assert after.white == pytest.approx(0.01 * before.white, rel=1e-6)
    assert after.grey / after.white == pytest.approx(before.grey / before.white, rel=1e-6)


def test_order_of_axes_changes_nothing() -> None:
    volume, places = made_brain()
    turned = replace(volume, voxels=volume.voxels.transpose(2, 1, 0), affine=volume.affine[:, [2, 1, 0, 3]])
    assert levels(turned, places) == levels(volume, places)


def test_few_places_in_the_image_are_none() -> None:
    volume, places = made_brain()
    assert t1w.levels_of(replace(volume, voxels=volume.voxels[:3]), places) is None


@pytest.mark.parametrize("value", [0.0, -5.0, np.nan, np.inf, 7.0])
def test_an_image_of_one_value_raises_nothing(value: float) -> None:
    volume, places = made_brain()
    found = t1w.levels_of(replace(volume, voxels=np.full(SHAPE, value, np.float32)), places)
    measured = t1w.of_head(found, 1.0)
    assert all(isinstance(v, str) or np.isfinite(v) for v in measured.values())


def test_without_a_head_nothing_is_said() -> None:
    assert set(t1w.of_head(None, 1.0).values()) == {t1w.NO_HEAD}


@pytest.mark.data
@pytest.mark.slow
def test_the_classifier_gives_the_levels_of_a_real_head(shared_data: Path) -> None:
    """One protocol of ten people: grey over white matter lay between 0.65 and 0.69."""
    from qc_node.classifiers.brain_mri import classifier
    from tests.measures.heads import REAL, real

    slices = real(shared_data, REAL[0])
    model = classifier.load(Path(__file__).resolve().parents[2] / "models" / "brain-mri")
    plain = model.prepare(slices.volume).tissue_levels
    noisy = model.prepare(planted(slices, 5.0).volume).tissue_levels
    assert isinstance(slices, Slices) and plain is not None and noisy is not None
    assert plain.grey / plain.white == pytest.approx(0.67, abs=0.05)
    assert noisy.grey / noisy.white == pytest.approx(plain.grey / plain.white, abs=0.03)
    assert noisy.white_spread > plain.white_spread
