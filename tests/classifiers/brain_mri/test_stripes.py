"""A spike in k-space is found; heads, noise and ringing of edges are no stripes."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node import domain
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.classifiers.brain_mri.stripes import VISIBLE, stripe_level

pytestmark = pytest.mark.slow


def head(classifier: BrainMriClassifier) -> np.ndarray:
    return np.where(classifier.measure.head, classifier.measure.image, 0).astype(np.float32)


def wave(shape: tuple[int, ...], amplitude: float, cycles_per_mm: tuple[float, float]) -> np.ndarray:
    y, x = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    return amplitude * np.cos(2 * np.pi * (cycles_per_mm[0] * y + cycles_per_mm[1] * x))[None]


def test_a_head_with_noise_has_none(classifier: BrainMriClassifier) -> None:
    rng = np.random.default_rng(4)
    for sigma in (0.0, 0.05, 0.3):
        noisy = np.hypot(
            head(classifier) + rng.normal(0, sigma, head(classifier).shape),
            rng.normal(0, sigma, head(classifier).shape),
        )
        assert stripe_level(noisy, classifier.measure.window) < 0.01


@pytest.mark.parametrize("cycles", [(0.06, 0.0), (0.13, 0.21), (0.0, 0.43)])
def test_the_level_is_that_of_the_wave(classifier: BrainMriClassifier, cycles: tuple[float, float]) -> None:
    striped = head(classifier) + wave(head(classifier).shape, 0.1, cycles)
    # The root mean square of a wave is its amplitude over the root of two.
    assert stripe_level(striped, classifier.measure.window) == pytest.approx(0.1 / np.sqrt(2), rel=0.3)


def test_strange_slices_have_none(classifier: BrainMriClassifier) -> None:
    shape = head(classifier).shape
    for slices in (np.zeros(shape), np.ones(shape), np.full(shape, 4.0)):
        assert stripe_level(slices, classifier.measure.window) == pytest.approx(0.0, abs=1e-3)


def test_a_striped_head_is_not_graded(classifier: BrainMriClassifier, average: domain.Volume) -> None:
    k, j, i = np.meshgrid(*(np.arange(n) for n in average.voxels.shape), indexing="ij")
    stripes = 60 * np.cos(2 * np.pi * (0.21 * k + 0.17 * j + 0.13 * i))
    image = np.abs(average.voxels + stripes).astype(np.int16)
    clean, striped = (
        classifier.prepare(domain.Volume(v, average.affine, modality="MR")) for v in (average.voxels, image)
    )
    assert clean.measures.stripes < 0.01
    assert striped.measures.stripes > VISIBLE
    assert striped.certain is None
    verdict = classifier.judge([striped])[0]
    if verdict.findings[0].value is False:
        grades = [verdict.finding(q) for q in (*domain.GRADED, domain.Question.TIER)]
        assert all(f is not None and f.value is None and f.abstained for f in grades)
        assert grades[0] is not None and "stripes" in (grades[0].abstained or "").lower()
