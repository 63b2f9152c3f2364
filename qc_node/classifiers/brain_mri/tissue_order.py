"""Which tissue is brighter than which?  What a physicist calls T1-weighted, measured where the average head has each.

T1-weighted: white above grey above fluid.  T2, proton density and susceptibility: fluid above or beside grey above white.
FLAIR and angiography: fluid dark, but white not above grey.  Under a coil all fade together, so each place is compared
with the mean around it; and the answers are ranks, which no scale and no window changes.
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

T1_WHITE = 0.66
"""From here white is the brighter one, as in T1."""
OTHER_WHITE = 0.47
"""Up to here it is not."""
T1_FLUID = 0.45
"""Up to here fluid is the darker one, as in T1 and FLAIR."""
OTHER_FLUID = 0.60
"""From here it is not, as in T2, proton density, susceptibility."""
WIDTH_MM = 12.0
DARK = 0.7
"""Below this share of its surroundings a place holds fluid: furrows of old brains, which would pass for dark grey matter."""
_EVERY = 5
"""Every so manyth place is enough for a rank."""
_LEAST = 50


class Contrast(StrEnum):
    """What the order of the tissues says."""

    T1 = "t1"
    OTHER = "other"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Order:
    """Ranks in [0, 1]; 0.5 where nothing can be told.

    Attributes
    ----------
    white
        Probability that a place in white matter is brighter than one in grey matter.
    fluid
        Probability that a place in the ventricles is brighter than one in the brain around.
    """

    white: float
    fluid: float

    @property
    def contrast(self) -> Contrast:
        """T1, certainly another one, or neither for certain."""
        if self.white <= OTHER_WHITE or self.fluid >= OTHER_FLUID:
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
        _, brain, white, grey, fluid, _, _ = values.reshape(7, *points.shape[:3]).numpy()
        self._all = brain > 0.4
        self._brain = self._all & (fluid < 0.3)
        self._white = (white > 0.7) & self._brain
        self._grey = (grey > 0.6) & self._brain
        self._fluid = fluid > 0.6

    def __call__(self, slices: npt.NDArray[np.floating]) -> Order:
        """Ranks on slices ``(S, H, W)`` at 1 mm in the frame of the average head."""
        x = np.clip(slices.astype(np.float32), 0.0, 4.0)
        smooth = ndimage.uniform_filter(x, (0, 3, 3))
        tissue = self._brain & (smooth > DARK * _around(x, self._brain))
        even = smooth / np.maximum(_around(x, tissue), 1e-3)
        white = _rank(even[self._white & tissue][::_EVERY], even[self._grey & tissue][::_EVERY])
        even = smooth / np.maximum(_around(smooth, self._all), 1e-3)
        fluid = _rank(even[self._fluid], even[self._white | self._grey][:: 2 * _EVERY])
        return Order(white, fluid)


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
    out: FloatArray = _blurred(slices * inside) / np.maximum(_blurred(inside), 1e-3)
    return out


def _blurred(slices: FloatArray) -> FloatArray:
    out: FloatArray = ndimage.gaussian_filter(slices, (0, WIDTH_MM, WIDTH_MM), truncate=2.5)
    return out
