"""How unevenly the body is lit: the field of coils and transmitter, as a smooth surface through its values.

The logarithm of the tissue is fitted by a polynomial of the second degree; what lies far from it, as fat and fluid
do, counts less and less (Tukey's biweight), so that the surface follows the commonest tissue.  The measure is the
span of that surface as NEMA MS 3 writes non-uniformity, over the middle 90 % of the body:
(high - low) / (high + low).  It is anatomy as well as field, so it compares series of one protocol.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.regions import Regions

FloatArray = npt.NDArray[np.float64]

MEASURES = (
    Measure(
        "nonuniformity",
        "non-uniformity",
        Unit.PERCENT,
        Better.LOWER,
        0,
        100,
        frozenset({"MR"}),
        "NEMA MS 3-2008, on a robust surface (own)",
        with_size=True,
    ),
)

LEAST_BLOCKS = 60
MOST_BLOCKS = 12_000
"""More add nothing to a surface of ten numbers."""
ROUNDS = 12
CUT = 4.7
"""Tukey's constant, in robust standard deviations."""
LITTLE_BODY = "Too little of the body can be seen for its uniformity."


def of_uniformity(regions: Regions | str) -> dict[str, float | str]:
    """Every measure of :data:`MEASURES`, or why it has no value."""
    if isinstance(regions, str):
        return {"nonuniformity": regions}
    inner = _inner(regions)
    if int(inner.sum()) < LEAST_BLOCKS:
        return {"nonuniformity": LITTLE_BODY}
    at = np.argwhere(inner)
    at = at[:: max(1, len(at) // MOST_BLOCKS)]
    values = regions.mean[tuple(at.T)].astype(np.float64)
    positive = values > 0
    if int(positive.sum()) < LEAST_BLOCKS:
        return {"nonuniformity": LITTLE_BODY}
    terms = surface_terms(at[positive] * np.array(regions.block_mm))
    field = np.exp(robust_fit(terms, np.log(values[positive])))
    low, high = np.quantile(field, (0.05, 0.95))
    return {"nonuniformity": 100.0 * float((high - low) / (high + low))}


def _inner(regions: Regions) -> npt.NDArray[np.bool_]:
    """Tissue whose neighbours in the slice are tissue too, where enough of it is so."""
    inner = ndimage.binary_erosion(regions.tissue, np.ones((1, 3, 3), dtype=bool))
    return np.asarray(inner if inner.sum() >= LEAST_BLOCKS else regions.tissue)


def surface_terms(points: FloatArray) -> FloatArray:
    """Terms up to the second degree ``(n, m)`` of points ``(n, 3)``, without axes along which nothing extends."""
    span = np.ptp(points, axis=0)
    wide = span > 0
    x = (points[:, wide] - points[:, wide].mean(0)) / (span[wide] / 2)
    columns = [np.ones(len(x)), *x.T]
    columns += [x[:, a] * x[:, b] for a in range(x.shape[1]) for b in range(a, x.shape[1])]
    return np.stack(columns, 1)


def robust_fit(terms: FloatArray, values: FloatArray) -> FloatArray:
    """The fitted values of a least squares fit in which what lies far off counts less (Tukey's biweight)."""
    weights = np.ones(len(values))
    fitted = np.zeros(len(values))
    for _ in range(ROUNDS):
        weighted = terms * weights[:, None]
        normal = weighted.T @ terms + 1e-9 * len(values) * np.eye(terms.shape[1])
        fitted = terms @ np.linalg.solve(normal, weighted.T @ values)
        off = values - fitted
        spread = 1.4826 * float(np.median(np.abs(off)))
        if not spread > 1e-9:
            break
        weights = np.maximum(1 - (off / (CUT * spread)) ** 2, 0.0) ** 2
    return fitted
