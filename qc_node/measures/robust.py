"""Centre, spread and line of many measures at once, unmoved by single odd series.  Pure; columns are measures.

Quantiles are used throughout: a bad series moves them by one rank, however bad it is (Huber and Ronchetti, Robust
Statistics, 2009).  Missing values are NaN and left out column by column.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RANKS = (0.02, 0.10, 0.25, 0.50, 0.75, 0.90, 0.98)
"""Quantiles that centre and spread come from."""

_IQR, _IDR, _TAIL = 1.349, 2.563, 2.054
"""Quantile ranges of a normal distribution in standard deviations: 25 to 75 %, 10 to 90 %, 50 to 98 %."""

_TURNS, _HUBER = 4, 1.5
"""Steps of the reweighted line, and the residual in spreads beyond which a point weighs less."""


def quantiles(values: Array, ranks: tuple[float, ...]) -> Array:
    """Quantiles of each column, NaN left out; by linear interpolation.

    Parameters
    ----------
    values
        ``(N, M)``; may hold NaN.

    Returns
    -------
    ``(len(ranks), M)``; NaN where a column has no value.
    """
    ordered = np.sort(values, axis=0)  # NaN last
    last = np.maximum((~np.isnan(values)).sum(axis=0) - 1, 0)
    place = np.asarray(ranks)[:, None] * last
    below = place.astype(np.intp)
    above = np.minimum(below + 1, last)
    low = np.take_along_axis(ordered, below, axis=0)
    return np.asarray(low + (place - below) * (np.take_along_axis(ordered, above, axis=0) - low))


def centre_and_spread(values: Array, floor: Array) -> tuple[Array, Array]:
    """Median, and spread as a standard deviation.

    The spread is the larger of what the middle half and the middle four fifths say, so tails that are heavier than
    normal count in part.  Where half of the values are the same (a share that is mostly 0), the tails say it.

    Parameters
    ----------
    values
        ``(N, M)``.
    floor
        ``(M,)``, the least spread: a difference that is smaller matters to nobody.
    """
    q02, q10, q25, centre, q75, q90, q98 = quantiles(values, RANKS)
    middle = np.maximum((q75 - q25) / _IQR, (q90 - q10) / _IDR)
    tails = np.maximum(q98 - centre, centre - q02) / _TAIL
    return centre, np.maximum(np.where(q75 - q25 < floor, np.maximum(middle, tails), middle), floor)


def slopes(values: Array, sizes: Array) -> Array:
    """Slope of each column on size, by Huber's reweighted least squares.

    Parameters
    ----------
    values
        ``(N, M)``; NaN is left out.
    sizes
        ``(N,)``, finite.

    Returns
    -------
    ``(M,)``; 0 where sizes do not differ or a column has no values.
    """
    known = ~np.isnan(values)
    weights = known.astype(np.float64)
    filled = np.where(known, values, 0.0)
    slope = np.zeros(values.shape[1])
    for _ in range(_TURNS):
        total = np.maximum(weights.sum(axis=0), 1e-12)
        middle = (weights * filled).sum(axis=0) / total
        x = sizes[:, None] - (weights.T @ sizes) / total
        power = (weights * x * x).sum(axis=0)
        slope = np.where(power > 1e-9, (weights * x * filled).sum(axis=0) / np.maximum(power, 1e-12), 0.0)
        away = np.abs(filled - middle - slope * x)
        scale = 1.483 * quantiles(np.where(known, away, np.nan), (0.5,))[0]
        limit = np.maximum(np.nan_to_num(_HUBER * scale), 1e-12)
        weights = known * np.minimum(1.0, limit / np.maximum(away, 1e-12))
    return slope
