"""Is white matter brighter than grey?  What a physicist calls T1-weighted, measured where the average head has
both.

Under a coil both fade together, so each place is compared with the mean around it; and the answer is a rank,
which no scale and no window changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg

FloatArray = npt.NDArray[np.float32]

T1_ORDER = 0.64
"""Least probability that white is the brighter one in an image that may be called T1-weighted where the average
head does not fit it as it is.  On the shared images: heads T1w 0.66-0.86 (0.61-0.72 under the steepest coil
that was simulated), FLAIR 0.35-0.66 (one of eleven above 0.64), T2 0.39-0.51."""
WIDTH_MM = 12.0
_EVERY = 7
"""Every so manyth place is enough for a rank."""


class TissueOrder:
    """Places of white and grey matter on the slices of one average head."""

    def __init__(self, head: preprocess.AverageHead) -> None:
        points = preprocess.slice_points()
        channels = torch.from_numpy(np.ascontiguousarray(head.channels))
        values, _ = reg.sample(channels, head.affine, points.reshape(-1, 3))
        _, brain, white, grey, fluid, _, _ = values.reshape(7, *points.shape[:3]).numpy()
        self._brain = (brain > 0.4) & (fluid < 0.3)
        self._white = (white > 0.7) & self._brain
        self._grey = (grey > 0.6) & self._brain

    def __call__(self, slices: npt.NDArray[np.floating]) -> float:
        """Probability that a place in white matter is brighter than one in grey matter, 0 .. 1.

        Parameters
        ----------
        slices
            ``(S, H, W)`` at 1 mm in the frame of the average head.
        """
        even = self._evened(np.clip(slices.astype(np.float32), 0.0, 4.0))
        white, grey = even[self._white][::_EVERY], np.sort(even[self._grey][::_EVERY])
        if not white.size or not grey.size:
            return 0.5
        return float(np.searchsorted(grey, white).mean() / grey.size)

    def _evened(self, slices: FloatArray) -> FloatArray:
        inside = self._brain.astype(np.float32)
        share = np.maximum(_blurred(inside), 1e-3)
        around = _blurred(slices * inside) / share
        return np.asarray(slices / np.maximum(around, 1e-3), dtype=np.float32)


def _blurred(slices: FloatArray) -> FloatArray:
    out: FloatArray = ndimage.gaussian_filter(slices, (0, WIDTH_MM, WIDTH_MM))
    return out
