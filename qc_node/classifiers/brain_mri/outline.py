"""Where the head is, whatever its grey values: by its outline first, then on a copy that was evened inside it.

Surface coils, gadolinium and fat make the scalp brighter than the brain, and the average head no longer fits an
image as it is.  The outline of a head is the same in all of them, and divided by its mean within a centimetre
every head shows dark skull between brighter scalp and brain.  Both images and average head are treated alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.preprocess import CENTRE, AverageHead, align, pooled_targets
from qc_node.classifiers.brain_mri.values import squash

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float64]

WIDTH_MM = 10.0
"""SD of the Gaussian within which grey values are brought to one level."""
BRIGHTEST = 2.5
"""Evened values are cut here, in units of their surroundings."""
PITCHES_DEG = (0.0, -15.0, 12.0)
"""An outline hardly tells how far a head nods; so it is tried."""


@dataclass(frozen=True)
class OutlineTargets:
    """What outline and evened copy of an image are registered to, at 8 and 4 mm each."""

    outline: tuple[reg.Target, reg.Target]
    evened: tuple[reg.Target, reg.Target]


def outline(coarse: reg.Grid) -> Mask:
    """Where the largest object of an image at 4 mm is, filled."""
    values = coarse.values - min(0.0, float(np.quantile(coarse.values, 0.001)))
    root = np.sqrt(np.clip(values, 0.0, float(np.quantile(values, 0.98))))
    mask = ndimage.binary_opening(root > 0.7 * _otsu(root))
    mask = ndimage.binary_closing(np.pad(mask, 3), iterations=2)[3:-3, 3:-3, 3:-3]
    labels, count = ndimage.label(mask)
    if not count:
        return np.zeros(values.shape, dtype=bool)
    largest = 1 + int(np.argmax(ndimage.sum(mask, labels, range(1, count + 1))))
    return _filled(labels == largest)


def _otsu(values: FloatArray) -> float:
    """The threshold that best parts the values in two (Otsu 1979)."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    mean = np.cumsum(counts * middles) / max(int(counts.sum()), 1)
    between = (mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-6)
    return float(middles[int(between[:-1].argmax())])


def _filled(mask: Mask) -> Mask:
    """Without holes, also where a cut through the neck opens them."""
    mask = ndimage.binary_fill_holes(mask)
    for axis in range(3):
        for plane in np.moveaxis(mask, axis, 0):
            plane[:] = ndimage.binary_fill_holes(plane)
    return mask


def evened_inside(coarse: reg.Grid, mask: Mask) -> reg.Grid:
    """Values over their mean within :data:`WIDTH_MM`; zero outside the mask."""
    spacing = np.linalg.norm(coarse.affine[:3, :3], axis=0)[::-1]
    width = WIDTH_MM / np.maximum(spacing, 1e-3)
    values = coarse.values - min(0.0, float(np.quantile(coarse.values, 0.001)))
    inside = mask.astype(np.float32)
    share = np.maximum(ndimage.gaussian_filter(inside, width), 1e-3)
    mean = ndimage.gaussian_filter(values * inside, width) / share
    even = np.clip(values / np.maximum(mean, 1e-6), 0.0, BRIGHTEST) * inside
    return reg.Grid(even.astype(np.float32), coarse.affine)


def outline_targets(head: AverageHead) -> OutlineTargets:
    """The average head as outline, and evened."""
    coarse = reg.shrink(reg.Grid(head.channels[0], head.affine), 4.0)
    share = reg.shrink(reg.Grid(head.channels[6], head.affine), 4.0)
    even = evened_inside(coarse, share.values > 0.5)
    solid = (torch.from_numpy(head.channels[6]) > 0.5).float()
    z = torch.from_numpy((np.arange(solid.shape[0]) * head.affine[2, 2] + head.affine[2, 3]).astype(np.float32))
    near = functional.max_pool3d(functional.max_pool3d(solid[None, None], 9, 1, 4), 9, 1, 4)[0, 0]
    weight = near * torch.sigmoid((z + 30.0) / 10.0)[:, None, None]
    weight = torch.where(weight > 0.03, weight, torch.zeros(()))
    eights, fours = (_valued(target, even) for target in head.targets)
    return OutlineTargets(pooled_targets(solid, weight, head.affine), (eights, fours))


def _valued(target: reg.Target, grid: reg.Grid) -> reg.Target:
    """The same points and weights with the values of another image."""
    values, _ = reg.sample(torch.from_numpy(grid.values)[None], grid.affine, target.points)
    return reg.Target(target.points, values[0], target.weights, target.centre)


def refined(even: reg.Grid, targets: OutlineTargets, matrix: Matrix) -> reg.Alignment:
    """The average head on an evened copy at 4 mm, from a place that is right within a centimetre.

    Its ``ncc`` reaches 0.45 and more for whole T1-weighted heads under any coil that was tried; things that are
    no head stay below 0.25 (docs/training-brain-mri.md).
    """
    fours = reg.gradient_channels(reg.Grid(squash(even.values), even.affine))
    matrix = reg.refine(fours, even.affine, targets.evened[1], matrix, 6, rigid=False)
    return reg.describe(matrix, *reg.evaluate(fours, even.affine, targets.evened[1], matrix))


def place(coarse: reg.Grid, solid: Mask, even: reg.Grid, targets: OutlineTargets) -> reg.Alignment:
    """The same without a place to start from: the outline is registered first, then the evened copy.

    Parameters
    ----------
    coarse, solid, even
        The image at 4 mm, its outline, and its evened copy.
    """
    smooth = ndimage.gaussian_filter(solid.astype(np.float32), 0.7)
    found = align(reg.Grid(smooth, coarse.affine), targets.outline)
    small = reg.shrink(even, 8.0)
    eights = reg.gradient_channels(reg.Grid(squash(small.values), small.affine))
    best: tuple[float, Matrix] | None = None
    for pitch in PITCHES_DEG:
        matrix = reg.refine(eights, small.affine, targets.evened[0], found.matrix @ _nodded(pitch), 10, rigid=True)
        matrix = reg.refine(eights, small.affine, targets.evened[0], matrix, 8, rigid=False)
        ncc, inside = reg.evaluate(eights, small.affine, targets.evened[0], matrix)
        score = ncc * min(1.0, inside / 0.8)
        if best is None or score > best[0]:
            best = score, matrix
    assert best is not None
    return refined(even, targets, best[1])


HEAD_CM2 = (120.0, 420.0)
"""Largest horizontal section that heads have (measured: 190-330); a trunk has more, a limb less."""
CUT_SHARE = 0.5
"""Share of the largest section that the uppermost one has where the top of a head is cut off."""


def cut_above(coarse: reg.Grid, mask: Mask) -> bool:
    """Whether the uppermost section of an object of the size of a head is a wide one."""
    axis = int(np.argmax(np.abs(coarse.affine[2, :3])))
    spacing = np.linalg.norm(coarse.affine[:3, :3], axis=0)
    sections = mask.sum(axis=tuple(n for n in range(3) if n != 2 - axis)).astype(np.float64)
    sections *= float(np.prod(spacing)) / float(spacing[axis]) / 100.0
    if coarse.affine[2, axis] < 0:
        sections = sections[::-1]
    largest = float(sections.max())
    return HEAD_CM2[0] <= largest <= HEAD_CM2[1] and float(sections[-1]) > CUT_SHARE * largest


def _nodded(degrees: float) -> Matrix:
    """A rotation about the left-right axis through the middle of the head."""
    out = np.eye(4)
    out[:3, :3] = reg.rotation((np.radians(degrees), 0.0, 0.0))
    out[:3, 3] = np.array(CENTRE) - out[:3, :3] @ np.array(CENTRE)
    return out
