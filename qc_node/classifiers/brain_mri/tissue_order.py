"""Which tissue is brighter than which?  What physicists call T1-weighted, measured where the average head has it.

T1-weighted: white above grey above fluid.  T2, proton density, susceptibility: fluid above or beside grey above
white.  FLAIR and angiography: fluid dark, but white not above grey.  Under a coil all fade together, so each place
is compared with the mean around it; and no scale and no window changes the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg

FloatArray = npt.NDArray[np.float32]

T1_WHITE = 0.55
"""From here white matter is the brighter one, as in T1.  On the shared images, in the unit of :class:`Order`:
heads T1w 0.84-1.29 (0.42-0.88 under the steepest coil that was simulated), FLAIR -0.94 to 0.42, and 0.72 in one
old head with much damaged white matter."""
OTHER_WHITE = -0.15
"""Up to here grey matter is the brighter one."""
T1_FLUID = 0.55
"""Up to here fluid is the darker one, as in T1 and FLAIR (heads T1w: up to 0.40)."""
OTHER_FLUID, OTHER_FLUID_WHITE = 0.60, 0.20
"""From the one fluid is not, as in T2, proton density, susceptibility, where white is not above the other."""
WIDTH_MM = 12.0
_STEP = 2
"""Every second row and column of the slices, after smoothing over three, is enough."""
DARK = 0.7
"""Below this share of its surroundings a place holds fluid: furrows of old brains pass for dark grey matter."""
_LEAST = 30


class Contrast(StrEnum):
    """What the order of the tissues says."""

    T1 = "t1"
    OTHER = "other"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Order:
    """How the tissues are ordered.

    Attributes
    ----------
    white
        How far white matter lies above grey, in standard deviations of both; 0 where nothing can be told.
    fluid
        Probability that a place in the ventricles is brighter than one in the brain; 0.5 if nothing can be told.
    """

    white: float
    fluid: float

    @property
    def contrast(self) -> Contrast:
        """T1, certainly another one, or neither for certain."""
        if self.white <= OTHER_WHITE or (self.fluid >= OTHER_FLUID and self.white <= OTHER_FLUID_WHITE):
            return Contrast.OTHER
        if self.white >= T1_WHITE and self.fluid <= T1_FLUID:
            return Contrast.T1
        return Contrast.UNCLEAR


class TissueOrder:
    """Places of white matter, grey matter and fluid on the slices of one average head."""

    def __init__(self, head: preprocess.AverageHead) -> None:
        points = preprocess.slice_points()
        channels = torch.from_numpy(np.ascontiguousarray(head.channels))
        values, _ = reg.sample(channels, head.affine, points.reshape(-1, 3))
        parts = values.reshape(7, *points.shape[:3])[..., ::_STEP, ::_STEP].numpy()
        _, brain, white, grey, fluid, _, _ = parts
        self._all = brain > 0.4
        self._brain = self._all & (fluid < 0.3)
        self._white = (white > 0.7) & self._brain
        self._grey = (grey > 0.6) & self._brain
        self._fluid = fluid > 0.6

    def __call__(self, slices: npt.NDArray[np.floating]) -> Order:
        """The order on slices ``(S, H, W)`` at 1 mm in the frame of the average head."""
        x = np.clip(slices.astype(np.float32), 0.0, 4.0)
        smooth = ndimage.uniform_filter(x, (0, 3, 3))[:, ::_STEP, ::_STEP]
        tissue = self._brain & (smooth > DARK * _around(smooth, self._brain))
        even = smooth / np.maximum(_around(smooth, tissue), 1e-3)
        white = _apart(even[self._white & tissue], even[self._grey & tissue])
        even = smooth / np.maximum(_around(smooth, self._all), 1e-3)
        fluid = _rank(even[self._fluid], even[self._white | self._grey])
        return Order(white, fluid)


def _apart(these: FloatArray, those: FloatArray) -> float:
    """Difference of the medians, in standard deviations of both together (far values cut)."""
    if these.size < _LEAST or those.size < _LEAST:
        return 0.0
    spread = float(np.std(np.clip(np.concatenate([these, those]), 0.5, 1.5)))
    return float(np.median(these) - np.median(those)) / max(spread, 1e-3)


def _rank(these: FloatArray, those: FloatArray) -> float:
    """Probability that one of these is greater than one of those."""
    if these.size < _LEAST or those.size < _LEAST:
        return 0.5
    ordered = np.sort(those)
    below, upto = (np.searchsorted(ordered, these, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / ordered.size)


def _around(slices: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    """Mean of what lies in the mask, within :data:`WIDTH_MM`."""
    inside = mask.astype(np.float32)
    return np.asarray(_blurred(slices * inside) / np.maximum(_blurred(inside), 1e-3), dtype=np.float32)


def _blurred(slices: FloatArray) -> FloatArray:
    out: FloatArray = ndimage.gaussian_filter(slices, (0, WIDTH_MM / _STEP, WIDTH_MM / _STEP), truncate=2.5)
    return out
