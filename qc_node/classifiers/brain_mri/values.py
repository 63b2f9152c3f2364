"""Grey values before anything else: finite, magnitudes, and on a scale that registration can work with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qc_node import domain

FloatArray = npt.NDArray[np.float32]


def clean_values(volume: domain.Volume) -> tuple[FloatArray, float]:
    """Voxels as finite float32 and the share of voxels that were not finite.

    The gain of the rescale is left out on purpose: every later step is free of it.  The offset is not, because
    black is taken to lie at zero where no value is negative: it is added in units of the gain.
    """
    raw = volume.voxels
    values = raw.astype(np.float32)
    offset = volume.intercept / volume.slope if volume.slope else 0.0
    if offset and np.isfinite(offset):
        values += np.float32(offset)
    if raw.dtype.kind in "iub":
        return magnitude(values), 0.0
    bad = ~np.isfinite(values)
    share = float(bad.mean()) if values.size else 1.0
    if share:
        values[bad] = float(np.median(values[~bad])) if share < 1 else 0.0
    # Absurd magnitudes overflow squares in float32.
    peak = float(np.abs(values).max()) if values.size else 0.0
    if peak > 1e12:
        values = values / np.float32(peak) * np.float32(1000.0)
    return magnitude(values), share


BACKGROUND_AT_ZERO = 0.2
"""How far from zero the commonest dark value may lie, in units of the 98th percentile (standardised: 0.4)."""
DEEPEST_NOISE = 0.8
"""How far below zero noise may reach, in the same units; standardised images reach 1.5."""


def magnitude(values: FloatArray) -> FloatArray:
    """Absolute values where negative ones can only be noise or ringing around an empty background.

    MRI shows magnitudes.  Software that stores the real part, or adds signed noise, leaves a background that
    scatters around zero; taking its lowest value for black would fade the whole image towards grey.  Images
    with an offset (standardised ones, say) have their background elsewhere and stay as they are.
    """
    if values.size == 0 or float(values.min()) >= 0:
        return values
    thin = values[::3, ::3, ::3]
    deepest, top = (float(q) for q in np.quantile(thin, (0.005, 0.98)))
    if not top > 0 or -deepest > DEEPEST_NOISE * top:
        return values
    if -deepest > 0.1 * top and float((thin == 0).mean()) > 0.2:
        # A background of nothing but zeros has no noise: what is negative is meant, as in a standardised brain.
        return values
    # Air and what else is dark: in every head more voxels than there are at any other level.
    lower = thin[thin < 0.5 * top]
    counts, edges = np.histogram(lower, 64)
    at = int(np.convolve(counts, np.ones(9), "same").argmax())
    if abs(float(edges[at] + edges[at + 1]) / 2) > BACKGROUND_AT_ZERO * top:
        return values
    return np.abs(values)


CUT_SHARE = 0.5
"""Share of the largest section that the first one beside blank planes has where something was blanked out."""


def without_blanked(
    values: FloatArray, affine: npt.NDArray[np.float64]
) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """The image without blank planes that a wide section ends at: there a part was blanked, as by cutting it off.

    Anatomy ends little by little; so an image with masked air stays as it is.

    Parameters
    ----------
    values
        ``(K, J, I)``.
    affine
        ``(i, j, k, 1)`` to LPS mm.
    """
    keep = [slice(0, n) for n in values.shape]
    for axis in range(3):
        planes = np.moveaxis(values, axis, 0)[:, ::2, ::2]
        peaks = planes.max((1, 2))
        filled = np.flatnonzero(peaks > planes.min())
        if not filled.size or filled.size == len(planes):
            continue
        floor = 0.1 * float(np.quantile(peaks[filled], 0.5))
        sections = (planes > floor).sum((1, 2))
        first, last = int(filled[0]), int(filled[-1])
        wide = CUT_SHARE * float(sections.max())
        keep[axis] = slice(
            first if sections[first] > wide else 0, last + 1 if sections[last] > wide else len(planes)
        )
    shift = np.array([part.start for part in keep[::-1]], dtype=np.float64)
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ shift + affine[:3, 3]
    return np.ascontiguousarray(values[tuple(keep)]), moved


def squash(values: FloatArray) -> FloatArray:
    """Scale to about [0, 1] and flatten what is much brighter than tissue (fat near a surface coil)."""
    low, high = np.percentile(values, [1, 98])
    x = (values - low) / max(float(high - low), 1e-9)
    return np.asarray(np.clip(x, 0, 1.3), dtype=np.float32)
