"""How much was lost: damage of an image against its clean twin, on the central slices at 1 mm.

Slices are ``(S, H, W)`` in source units with ``white`` = 1 or any other gain; masks are shares in [0, 1].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from qc_node.classifiers.brain_mri import registration as reg

FloatArray = npt.NDArray[np.float32]


def tissue_levels(slices: FloatArray, white: FloatArray, grey: FloatArray) -> tuple[float, float]:
    """Median of nearly pure white and nearly pure grey matter; nan where there is too little of it."""
    w, g = slices[white > 0.9], slices[grey > 0.9]
    return (
        float(np.median(w)) if w.size > 200 else float("nan"),
        float(np.median(g)) if g.size > 200 else float("nan"),
    )


def contrast_left(slices: FloatArray, white: FloatArray, grey: FloatArray) -> float:
    """(white - grey) / white: 0.25-0.40 in good T1w images, 0 when the tissues look the same."""
    w, g = tissue_levels(slices, white, grey)
    return (w - g) / w if w > 0 else float("nan")


def noise_level(noisy: FloatArray, before: FloatArray, brain: FloatArray, white_level: float) -> float:
    """SD of what the noise added inside the brain, over the white-matter level."""
    inside = brain > 0.9
    if inside.sum() < 500 or not white_level > 0:
        return float("nan")
    difference = (noisy - before)[inside]
    return float(1.4826 * np.median(np.abs(difference - np.median(difference))) / white_level)


def own_noise(slices: FloatArray, white: FloatArray, white_level: float) -> float:
    """Noise of an image without a twin: Immerkaer's Laplacian mask inside pure white matter."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    high = np.stack([ndimage.convolve(s, kernel) for s in slices]) / 6.0
    deep = np.stack([ndimage.minimum_filter(w, 3) for w in white]) > 0.9
    if deep.sum() < 100 or not white_level > 0:
        return float("nan")
    return float(1.4826 * np.median(np.abs(high[deep])) / white_level)


def realign(
    moved: reg.Grid, still: reg.Grid, brain_points: torch.Tensor, matrix: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Transform from the average head to `moved`, given the one to `still`: the rigid pose between them.

    A one-degree turn shifts every edge and reads as a large difference that no eye sees; it is taken out
    before motion is measured.
    """
    small_still, small_moved = reg.shrink(still, 3.0), reg.shrink(moved, 3.0)
    m = torch.from_numpy(matrix).float()
    points = brain_points @ m[:3, :3].T + m[:3, 3]
    values, inside = reg.sample(
        torch.from_numpy(np.ascontiguousarray(small_still.values))[None], small_still.affine, points
    )
    target = reg.Target(points, values[0], inside.float(), points.mean(0))
    shift = reg.refine(reg.gradient_channels(small_moved), small_moved.affine, target, np.eye(4), 12, rigid=True)
    return shift @ matrix


GOOD_CONTRAST = 0.25
"""(white - grey) / white of an image in which both are well told apart: the yardstick of motion."""


def motion_damage(moved: FloatArray, clean: FloatArray, white: FloatArray, brain: FloatArray) -> float:
    """RMS difference in the brain, after the best gain, over the white-grey difference of a good image.

    Not over the image's own difference: where grey and white look the same, ghosts that nobody sees would
    count as severe motion, and the two grades are separate questions.
    """
    inside = brain > 0.9
    w = clean[white > 0.9]
    if inside.sum() < 500 or w.size <= 200 or not float(np.median(w)) > 0:
        return float("nan")
    a, b = moved[inside], clean[inside]
    gain = float((a * b).sum() / max(float((b * b).sum()), 1e-9))
    rms = float(np.sqrt(np.mean((a / max(gain, 1e-6) - b) ** 2)))
    return rms / (GOOD_CONTRAST * float(np.median(w)))
