"""Stored values to Hounsfield units, and whether they can be believed.

CT numbers are calibrated: air is -1000, water 0.  A series whose Rescale Intercept was lost (12-bit values
from 0), whose grey scale is inverted or which is not CT at all shows in its histogram, and is repaired
where that is certain (a whole missing intercept) or reported where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qc_node.domain import Volume

AIR = -1024
"""What counts as nothing, in HU."""
CEILING = 3071
"""Upper clip in HU: the top of 12-bit CT, above which there is only metal."""
_LOST_INTERCEPT = -1024.0


@dataclass(frozen=True)
class Calibration:
    """How stored values become HU.

    Attributes
    ----------
    slope, intercept
        ``HU = stored * slope + intercept``, repaired where needed.
    problem
        None, or one sentence why these values cannot be HU; then no question about tissue can be answered.
    warnings
        One sentence for each repair.
    blank
        True where `problem` is that there is nothing to see.
    """

    slope: float
    intercept: float
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    blank: bool = False


def calibrate(volume: Volume) -> Calibration:
    """Look at a sparse sample (at most about 100,000 voxels) of `volume` and judge its scale."""
    slope, intercept = float(volume.slope), float(volume.intercept)
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        return Calibration(1.0, 0.0, "The rescale slope and intercept of the series are no usable numbers.")
    K, J, I = volume.shape  # noqa: E741
    steps = [max(1, K // 24), max(1, J // 64), max(1, I // 64)]
    sample = volume.voxels[:: steps[0], :: steps[1], :: steps[2]].astype(np.float64)
    finite = np.isfinite(sample)
    if volume.padding_value is not None:
        finite &= sample != volume.padding_value
    values = sample[finite] * slope + intercept
    if values.size < 16 or np.ptp(values) < 1e-6:
        return Calibration(slope, intercept, "The series is blank: every voxel has the same value.", blank=True)
    if np.percentile(values, 99.9) - np.percentile(values, 0.1) < 80:
        return Calibration(slope, intercept, "The series holds almost a single value.", blank=True)
    air = np.mean(values < -700)
    tissue = np.mean((values > -200) & (values < 150))
    if air < 0.002 and np.min(values) > -160:
        # Nothing is as light as fat is next to air: is a whole intercept missing?
        shifted = values + _LOST_INTERCEPT
        light, water = np.mean(shifted < -700), np.mean((shifted > -200) & (shifted < 150))
        if light + water > 0.6 and water > 0.08 and light > 0.02 and np.max(values) > 600:
            return Calibration(
                slope,
                intercept + _LOST_INTERCEPT,
                warnings=("The rescale intercept seems to be missing: 1024 HU were taken off.",),
            )
    if tissue < 0.01:
        return Calibration(slope, intercept, "The values of the series are not Hounsfield units of a body.")
    return Calibration(slope, intercept)


def hounsfield(volume: Volume, k: int, calibration: Calibration) -> npt.NDArray[np.int16]:
    """Slice `k` as ``(J, I)`` int16 in HU, clipped to [-1024, 3071]; padding and NaN are air."""
    stored = volume.voxels[k]
    slope, intercept = calibration.slope, calibration.intercept
    if stored.dtype == np.int16 and slope == 1.0 and intercept == round(intercept) and abs(intercept) < 8192:
        # Clip before adding: the sum then fits 16 bits, and no float copy is made.
        offset = int(intercept)
        low, high = max(-32768, AIR - offset), min(32767, CEILING - offset)
        hu: npt.NDArray[np.int16] = np.clip(stored, low, high) + np.int16(offset)
    else:
        scaled = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        scaled = np.nan_to_num(scaled, copy=False, nan=AIR, posinf=AIR, neginf=AIR)
        hu = np.rint(np.clip(scaled, AIR, CEILING)).astype(np.int16)
    if volume.padding_value is not None:
        hu[stored == volume.padding_value] = AIR
    return hu
