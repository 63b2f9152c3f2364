"""The second opinion: taps between voxels, a brain in the average head, none in a ball, and how a brain lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from qc_node import domain
from qc_node.classifiers.brain_mri import brain_mask, evidence, outline
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier


def test_a_tap_between_voxels_is_interpolated() -> None:
    """A linear ramp is seen alike by a kernel at 1 mm and by its copy at 4 mm."""
    kernel = torch.randn((2, 1, 3, 3, 3), generator=torch.Generator().manual_seed(1))
    ramp = torch.arange(33.0).expand(33, 33, 33) + 0.5 * torch.arange(33.0)[:, None, None]
    for dilation in (1, 2, 4):
        fine = functional.conv3d(ramp[None, None], kernel, dilation=dilation)
        here = fine[0, :, 16 - dilation, 16 - dilation, 16 - dilation]
        coarse = ramp[::4, ::4, ::4][None, None]
        there = functional.conv3d(coarse, brain_mask.at_spacing(kernel, float(dilation), 4.0))[0, :, 3, 3, 3]
        assert torch.allclose(here, there, atol=1e-3)


@pytest.fixture(scope="module")
def second(classifier: BrainMriClassifier) -> brain_mask.SecondOpinion:
    assert classifier.locate.second is not None
    return classifier.locate.second


def seen(second: brain_mask.SecondOpinion, voxels: np.ndarray, affine: np.ndarray) -> brain_mask.BrainFound:
    coarse = reg.shrink(reg.Grid(voxels.astype(np.float32), affine), 4.0)
    return second(coarse, outline.outline(coarse))


def test_the_brain_of_the_average_head_is_found(
    second: brain_mask.SecondOpinion, average: domain.Volume, classifier: BrainMriClassifier
) -> None:
    whole = seen(second, average.voxels, average.affine)
    assert whole.fit > evidence.BRAIN_FIT and whole.compact > evidence.COMPACT and whole.edge_cm2 < 10
    assert 1200 < whole.volume_ml < 2200 and whole.matrix is not None
    points = classifier.head.brain_points.numpy()
    off = points @ (whole.matrix[:3, :3] - np.eye(3)).T + whole.matrix[:3, 3]
    assert float(np.linalg.norm(off, axis=1).mean()) < evidence.MAX_APART_MM
    inverted = seen(second, (average.voxels > 40) * (900 - np.minimum(average.voxels, 800)), average.affine)
    assert inverted.fit > evidence.BRAIN_FIT, "whatever the contrast"


def test_half_a_brain_is_not_shaped_like_one(second: brain_mask.SecondOpinion, average: domain.Volume) -> None:
    half = seen(second, average.voxels[:, :, : average.voxels.shape[2] // 2], average.affine)
    assert half.fit < evidence.NO_BRAIN_FIT


def test_a_ball_and_noise_are_not_shaped_like_a_brain(second: brain_mask.SecondOpinion) -> None:
    z, y, x = np.mgrid[:90, :100, :100]
    rng = np.random.default_rng(1)
    block = (np.abs(z - 45) < 38) & (np.abs(y - 50) < 42) & (np.abs(x - 50) < 42)
    for voxels in (100.0 * block * (1 + 0.5 * np.sin(x / 5) * np.sin(y / 5)), 100 * rng.random(z.shape)):
        found = seen(second, voxels + rng.random(z.shape), np.diag([2.0, 2.0, 2.0, 1.0]))
        assert found.fit < evidence.NO_BRAIN_FIT


@pytest.mark.parametrize("degrees", [(180.0, 0.0, 0.0), (90.0, 0.0, 0.0)])
def test_a_turned_brain_fits_once_the_image_is_turned_back(
    degrees: tuple[float, float, float], second: brain_mask.SecondOpinion, average: domain.Volume
) -> None:
    turn = np.eye(4)
    turn[:3, :3] = reg.rotation(np.radians(degrees))
    affine = turn @ average.affine
    as_it_lies = seen(second, average.voxels, affine)
    back = second.turned(reg.shrink(reg.Grid(average.voxels.astype(np.float32), affine), 4.0), turn)
    assert back.fit > max(evidence.BRAIN_FIT, as_it_lies.fit + 0.03)
