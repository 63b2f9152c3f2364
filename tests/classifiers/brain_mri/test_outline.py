"""A head is found under any coil, what is none is not, and what is not sure is not said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from qc_node import domain
from qc_node.classifiers.brain_mri import checks, evidence, outline, preprocess
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.classifiers.brain_mri.registration import Alignment, Grid, shrink
from qc_node.classifiers.brain_mri.tissue_order import Contrast
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


def by_outline(classifier: BrainMriClassifier, volume: domain.Volume) -> tuple[Alignment, bool]:
    """Placed without the brain mask, and whether the top is cut off."""
    coarse = shrink(Grid(volume.voxels.astype(np.float32), volume.affine), 4.0)
    solid = outline.outline(coarse)
    even = outline.evened_inside(coarse, solid)
    return outline.place(coarse, solid, even, classifier.locate.targets), outline.cut_above(coarse, solid)


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
    placed, cut = by_outline(classifier, shaded)
    located = classifier.locate(Grid(shaded.voxels, shaded.affine), checks.Measures(shaded.voxels.shape))
    points = classifier.head.brain_points.numpy()
    for matrix in (placed.matrix, located.matrix):
        off = points @ (matrix[:3, :3] - np.eye(3)).T + matrix[:3, 3]
        assert float(np.linalg.norm(off, axis=1).mean()) < 3.0
    assert placed.ncc > evidence.EVENED_NCC and not cut
    assert reject(classifier, shaded).value is not True


@pytest.mark.parametrize("shell", [False, True])
def test_a_phantom_is_no_head(shell: bool, classifier: BrainMriClassifier) -> None:
    phantom = ball(shell)
    assert by_outline(classifier, phantom)[0].ncc < evidence.NO_EVENED_NCC
    assert reject(classifier, phantom).value is not False


def test_the_lower_part_of_a_head_has_lost_its_top_and_is_nothing_else(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    axis = int(np.argmax(np.abs(average.affine[2, :3])))
    assert (axis, average.affine[2, 2] > 0) == (2, True)
    lower = domain.Volume(average.voxels[: int(0.5 * len(average.voxels))], average.affine, modality="MR")
    assert by_outline(classifier, lower)[1]
    found = reject(classifier, lower)
    assert found.value is True and found.reason in (Reason.COVERAGE, Reason.FIELD_OF_VIEW)


def test_the_order_of_the_tissues_tells_t1_from_what_inverts_it(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    grid = Grid(average.voxels.astype(np.float32), average.affine)
    slices = preprocess.network_slices(grid, np.eye(4), classifier.head)
    order = classifier.tissue_order(slices)
    assert order.contrast is Contrast.T1 and order.fluid < 0.2
    assert classifier.tissue_order(0.5 * slices).white == pytest.approx(order.white, abs=0.05)
    t2 = classifier.tissue_order(np.where(slices > 0.1, 1.6 - slices, 0))
    assert t2.contrast is Contrast.OTHER and t2.fluid > 0.8
    flair = np.where(slices > 0.6, 1.6 - slices, 0.2 * slices)
    assert classifier.tissue_order(flair).contrast is Contrast.OTHER
    assert classifier.tissue_order(flair).fluid < 0.3
    assert classifier.tissue_order(np.ones_like(slices)).contrast is Contrast.UNCLEAR, "no contrast is no T1"


def test_what_fits_only_evened_and_has_no_t1_contrast_is_not_called_t1(
    classifier: BrainMriClassifier, average: domain.Volume
) -> None:
    brain = average.voxels > 0.5 * np.percentile(average.voxels, 99)
    flat = np.where(brain, float(np.percentile(average.voxels, 97)), average.voxels).astype(np.float32)
    shaded = under_a_coil(domain.Volume(flat, average.affine, modality="MR"), 3.0)
    assert reject(classifier, shaded).value is not False
