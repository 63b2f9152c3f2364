"""What is measured: slices, or radiographs.  Arrays with what the header says of them; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.domain.image import Volume


@dataclass(frozen=True, eq=False)
class Slices:
    """Parallel slices of one MR or CT acquisition, one per place.

    Attributes
    ----------
    volume
        Voxels as stored ``(K, J, I)`` with slope, intercept (HU in CT) and affine to LPS mm; evenly spaced as far
        as the affine says, else by the median distance.
    thickness_mm
        Slice Thickness (0018,0050); None where it is not stated.
    is_3d
        Whether the acquisition is three-dimensional: then its slices were not acquired one after another.
    groups
        How many images lie at each place (echoes, diffusion weightings, phases); these are those of the first.
    """

    volume: Volume
    thickness_mm: float | None = None
    is_3d: bool = False
    groups: int = 1

    def values(self, k: int) -> npt.NDArray[np.float32]:
        """Slice `k` as rescaled values ``(J, I)``."""
        plane: npt.NDArray[np.float32] = self.volume.voxels[k].astype(np.float32)
        return plane * np.float32(self.volume.slope) + np.float32(self.volume.intercept)


@dataclass(frozen=True, slots=True)
class TissueLevels:
    """Rescaled values of the tissues of a head, without the field of the coil, and how far each is spread.

    Attributes
    ----------
    white, grey, fluid
        Centre of white matter, grey matter and ventricles; `fluid` is NaN where too little of it is seen.
    white_spread, grey_spread
        Standard deviation about the centre: noise, texture, and what is mixed of two.
    """

    white: float
    grey: float
    fluid: float
    white_spread: float
    grey_spread: float


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One CR, DX or MG image.

    Attributes
    ----------
    pixels
        ``(J, I)`` as stored, after inversion so that **a higher value is shown brighter** (bone bright, air dark).
    lowest, highest
        What Bits Stored (0028,0101) and the sign allow, in the same direction.
    spacing_mm
        (column distance, row distance): Imager Pixel Spacing (0018,1164) or Pixel Spacing; None where not stated.
    for_processing
        Presentation Intent Type (0008,0068) is FOR PROCESSING: raw detector values.
    lossy
        Compressed with loss.
    padding
        Smallest and largest value that mean "no data" (Pixel Padding Value (0028,0120), its range limit), in the
        direction of `pixels`: outside the collimation, no evidence of exposure.  None where nothing is stated.
    """

    pixels: npt.NDArray[Any]
    lowest: float
    highest: float
    spacing_mm: tuple[float, float] | None = None
    for_processing: bool = False
    lossy: bool = False
    padding: tuple[float, float] | None = None
