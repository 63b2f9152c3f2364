"""Signed noise is folded like a magnitude image; an offset is left alone; a steep field is evened out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qc_node import domain
from qc_node.classifiers.brain_mri import checks, preprocess
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.classifiers.brain_mri.registration import Grid
from qc_node.classifiers.brain_mri.values import clean_values, magnitude, without_blanked

pytestmark = pytest.mark.slow


@pytest.fixture
def head(average: domain.Volume) -> np.ndarray:
    return average.voxels.astype(np.float32) / 500


def test_what_has_no_negative_values_is_not_touched(head: np.ndarray) -> None:
    assert magnitude(head) is head


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_signed_noise_around_an_empty_background_is_folded(head: np.ndarray, sigma: float) -> None:
    signed = head + np.random.default_rng(1).normal(0, sigma, head.shape).astype(np.float32)
    assert np.array_equal(magnitude(signed), np.abs(signed))


def test_a_standardised_image_keeps_its_offset(head: np.ndarray) -> None:
    standardised = (head - head.mean()) / head.std()
    assert np.array_equal(magnitude(standardised), standardised)


def test_a_standardised_brain_in_zeros_keeps_its_sign(head: np.ndarray) -> None:
    inside = head > 0.4
    brain = np.where(inside, (head - head[inside].mean()) / head[inside].std(), 0).astype(np.float32)
    assert np.array_equal(magnitude(brain), brain)


@pytest.mark.parametrize("slope", [1.0, 0.25])
def test_an_offset_that_the_rescale_takes_away_is_taken_away(average: domain.Volume, slope: float) -> None:
    """Ignored, it left black at the grey of tissue: a complete head was undetermined."""
    stored = np.round(average.voxels + 2000).astype(np.uint16)
    volume = domain.Volume(stored, average.affine, slope, -2000 * slope, modality="MR")
    values, bad = clean_values(volume)
    assert bad == 0
    assert np.allclose(values, average.voxels, atol=0.51)


def test_signed_noise_does_not_cost_contrast(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    rng = np.random.default_rng(2)
    real, imaginary = rng.normal(0, 60, (2, *average.voxels.shape))
    volumes = (average.voxels + real, np.hypot(average.voxels + real, imaginary))
    levels = []
    for voxels in volumes:
        prepared = classifier.prepare(domain.Volume(voxels.astype(np.float32), average.affine, modality="MR"))
        numbers = dict(zip(classifier.measure.names, prepared.features, strict=True))
        levels.append(numbers["white minus grey"])
    assert levels[0] == pytest.approx(levels[1], abs=0.05)


def test_a_steep_receive_field_does_not_lose_the_head(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in average.voxels.shape), indexing="ij")
    steep = (average.voxels * np.exp(0.8 * j - 0.6 * k + 0.4 * i**2)).astype(np.float32)
    points = classifier.head.brain_points.numpy()

    def off_mm(matrix: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(points @ (matrix[:3, :3] - np.eye(3)).T + matrix[:3, 3], axis=1).mean())

    plain = Grid(steep, average.affine)
    assert off_mm(preprocess.align(plain, classifier.head.targets).matrix) > 8.0
    located = classifier.locate(plain, checks.Measures(steep.shape))
    assert off_mm(located.matrix) < 2.0
    prepared = classifier.prepare(domain.Volume(steep, average.affine, modality="MR"))
    assert prepared.certain is None
    assert any("uneven" in w for w in prepared.warnings)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("upper", [False, True])
def test_a_blanked_half_is_cut_off_and_nothing_else(average: domain.Volume, axis: int, upper: bool) -> None:
    head = average.voxels.astype(np.float32)
    head[head < 60] = 0  # masked air ends little by little
    same, affine = without_blanked(head, average.affine)
    assert same.shape[axis] == head.shape[axis] and np.allclose(affine[:3, :3], average.affine[:3, :3])
    half = np.moveaxis(head.copy(), axis, 0)
    n = len(half) // 2
    half[n:] = half[n:] if upper else 0
    half[:n] = 0 if upper else half[:n]
    cut, moved = without_blanked(np.moveaxis(half, 0, axis), average.affine)
    assert cut.shape[axis] in (n, len(half) - n)
    index = np.zeros(4)
    index[3], index[2 - axis] = 1, n if upper else 0
    if upper:
        assert np.allclose(moved @ (0, 0, 0, 1), average.affine @ index)
