"""A head is found under any coil, what is none is not, and what is not sure is not said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from qc_node import domain
from qc_node.classifiers.brain_mri import checks, outline, preprocess, tissue_order
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.classifiers.brain_mri.registration import Grid
from qc_node.domain import Question, Reason

Array = npt.NDArray[np.float32]


def under_a_coil(volume: domain.Volume, gain: float) -> domain.Volume:
    """Brighter towards the surface, as near a surface coil."""
    head = ndimage.binary_fill_holes(volume.voxels > 0.12 * np.percentile(volume.voxels, 99))
    depth = ndimage.distance_transform_edt(head, sampling=volume.spacing_mm[::-1])
    voxels = (volume.voxels * (1 + gain * np.exp(-depth / 12))).astype(np.float32)
    return domain.Volume(voxels, volume.affine, modality="MR")


def ball(shell: bool) -> domain.Volume:
    z, y, x = np.mgrid[:90, :100, :100]
    r = np.sqrt((z - 45) ** 2 + (y - 50) ** 2 + (x - 50) ** 2)
    voxels = 100.0 * (r < 40) - 60.0 * shell * (r < 36) + np.random.default_rng(1).random(r.shape) * 3
    return domain.Volume(voxels.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]), modality="MR")


def reject(classifier: BrainMriClassifier, volume: domain.Volume) -> domain.Finding:
    (verdict,) = classifier.judge([classifier.prepare(volume)])
    finding = verdict.finding(Question.STRAIGHT_REJECT)
    assert finding is not None
    return finding


@pytest.mark.parametrize("gain", [1.5, 3.0, 5.0])
def test_a_head_is_found_under_any_coil(
    gain: float, classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    shaded = under_a_coil(average, gain)
    placed = outline.place(Grid(shaded.voxels, shaded.affine), classifier.outline_targets)
    points = classifier.head.brain_points.numpy()
    off = points @ (placed.alignment.matrix[:3, :3] - np.eye(3)).T + placed.alignment.matrix[:3, 3]
    assert float(np.linalg.norm(off, axis=1).mean()) < 3.0
    assert placed.alignment.ncc > checks.EVENED_NCC and not placed.cut_above
    assert reject(classifier, shaded).value is not True


@pytest.mark.parametrize("shell", [False, True])
def test_a_phantom_is_no_head(shell: bool, classifier: BrainMriClassifier) -> None:
    phantom = ball(shell)
    placed = outline.place(Grid(phantom.voxels, phantom.affine), classifier.outline_targets)
    assert placed.alignment.ncc < checks.NOTHING_NCC
    assert reject(classifier, phantom).value is not False


def test_the_lower_part_of_a_head_has_lost_its_top_and_is_nothing_else(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    axis = int(np.argmax(np.abs(average.affine[2, :3])))
    assert (axis, average.affine[2, 2] > 0) == (2, True)
    lower = domain.Volume(average.voxels[: int(0.5 * len(average.voxels))], average.affine, modality="MR")
    placed = outline.place(Grid(lower.voxels, lower.affine), classifier.outline_targets)
    assert placed.cut_above
    found = reject(classifier, lower)
    assert found.value is True and found.reason in (Reason.COVERAGE, Reason.FIELD_OF_VIEW)


def test_white_before_grey_tells_t1_from_what_inverts_it(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    grid = Grid(average.voxels.astype(np.float32), average.affine)
    slices = preprocess.network_slices(grid, np.eye(4), classifier.head)
    assert classifier.tissue_order(slices) > tissue_order.T1_ORDER
    assert classifier.tissue_order(1.6 - slices) < 0.5
    assert classifier.tissue_order(np.ones_like(slices)) < tissue_order.T1_ORDER, "no contrast is no T1"


def test_what_fits_only_evened_and_has_no_t1_contrast_is_not_called_t1(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    brain = average.voxels > 0.5 * np.percentile(average.voxels, 99)
    flat = np.where(brain, float(np.percentile(average.voxels, 97)), average.voxels).astype(np.float32)
    shaded = under_a_coil(domain.Volume(flat, average.affine, modality="MR"), 3.0)
    assert reject(classifier, shaded).value is not False
