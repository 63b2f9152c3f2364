"""Contrast of the tissues of a T1-weighted head, where an average head says what to expect.

The average head gives, for points of its brain, the shares of people that have white matter, grey matter or fluid
there.  With them as priors a mixture of three normal distributions and one of outliers is fitted to the nearest
voxels (Ashburner and Friston 2005, without their deformation), and with it a smooth field of the coil: the same
polynomial as in :mod:`qc_node.measures.uniformity`.  No voxel is interpolated, so that noise stays what it is.

A classifier that knows where a head lies makes :class:`ExpectedTissues` and asks :func:`levels_of`; the engine
gives what it got to :func:`qc_node.measures.volumes.measure_volume`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qc_node.domain.image import Volume
from qc_node.domain.measurable import TissueLevels
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.uniformity import surface_terms

FloatArray = npt.NDArray[np.float64]

_MR = frozenset({"MR"})
_MIXTURE = "mixture after Ashburner and Friston 2005; ratio own"

MEASURES = (
    Measure("grey_white_ratio", "grey to white matter ratio", Unit.ONE, Better.NEITHER, 0, 10, _MR, _MIXTURE),
    Measure(
        "csf_white_ratio", "fluid to white matter ratio", Unit.ONE, Better.NEITHER, 0, 10, _MR, _MIXTURE, False
    ),
    Measure(
        "white_grey_cnr",
        "contrast to noise ratio of white and grey matter",
        Unit.ONE,
        Better.HIGHER,
        0,
        1e5,
        _MR,
        _MIXTURE,
    ),
    Measure("tissue_overlap", "overlap of white and grey matter", Unit.ONE, Better.LOWER, 0, 1000, _MR, _MIXTURE),
)

NO_HEAD = "Tissues are measured in T1-weighted heads only."
LITTLE_FLUID = "Too little of the ventricles is seen."
NO_CONTRAST = "White and grey matter have the same value."
LEAST_POINTS = 2000
LEAST_FLUID = 40
ROUNDS = 15
SURPRISE = 0.05
"""Share of a tissue that may be anywhere: no two brains are folded alike, and no registration is exact."""
OUTLIERS = 0.02
"""Share that is expected to be none of the three: vessels, lesions."""


@dataclass(frozen=True, eq=False)
class ExpectedTissues:
    """Points of a brain.

    Attributes
    ----------
    points
        ``(n, 3)`` LPS mm in the frame of the image.
    shares
        ``(n, 3)``: how likely there is white matter, grey matter, fluid; 0 to 1.
    """

    points: FloatArray
    shares: npt.NDArray[np.float32]


def of_head(levels: TissueLevels | None, noise: float | None) -> dict[str, float | str]:
    """Every measure of :data:`MEASURES`, or why it has no value.

    Parameters
    ----------
    noise
        Standard deviation of noise in rescaled values (``noise_object``), None where it is not known.
    """
    if levels is None:
        return {m.name: NO_HEAD for m in MEASURES}
    apart = abs(levels.white - levels.grey)
    return {
        "grey_white_ratio": levels.grey / levels.white,
        "csf_white_ratio": levels.fluid / levels.white if np.isfinite(levels.fluid) else LITTLE_FLUID,
        "white_grey_cnr": apart / noise if noise else "The noise is not known.",
        "tissue_overlap": (levels.white_spread + levels.grey_spread) / apart if apart > 0 else NO_CONTRAST,
    }


def levels_of(volume: Volume, places: ExpectedTissues) -> TissueLevels | None:
    """Levels of the tissues at places of a brain; None where too few lie in the image or nothing can be told."""
    values, inside = nearest(volume, places.points)
    shares = places.shares.astype(np.float64)
    use = inside & np.isfinite(values) & (values > 0) & (shares.sum(1) > 0.5)
    if int(use.sum()) < LEAST_POINTS:
        return None
    values, shares = values[use], shares[use]
    scale = float(np.median(values))
    terms = surface_terms(places.points[use])
    return _scaled(_mixture(values / scale, shares, terms), scale)


def nearest(volume: Volume, points: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Rescaled values of the voxels nearest to points in mm ``(n, 3)``, and which of them lie inside."""
    inverse = np.linalg.inv(volume.affine)
    index = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3])
    size = np.array(volume.shape[::-1])
    inside = ((index >= 0) & (index < size)).all(1)
    i, j, k = np.where(inside[:, None], index, 0).astype(np.intp).T
    values = volume.voxels[k, j, i].astype(np.float64) * volume.slope + volume.intercept
    return values, inside


@dataclass(slots=True)
class _Classes:
    """Centres and spreads of white matter, grey matter and fluid."""

    centres: FloatArray
    spreads: FloatArray


def _mixture(values: FloatArray, shares: FloatArray, terms: FloatArray) -> TissueLevels | None:
    """Centres and spreads of the tissues, in units of the median; None where there is none of one."""
    total = shares.sum(1, keepdims=True)
    shares = ((1 - 3 * SURPRISE) * shares / total + SURPRISE) * (1 - OUTLIERS)
    classes = _Classes(_first_centres(values, shares), np.full(3, 0.15))
    log_field = np.zeros(len(values))
    seen = np.zeros(3)
    for _ in range(ROUNDS):
        even = values / np.exp(log_field)
        odds = _odds(even, shares, classes)
        seen = odds.sum(0)
        classes = _moved(even, odds, seen, classes)
        log_field = _field(values, odds, classes, terms)
    white, grey, fluid = classes.centres
    if seen[:2].min() < LEAST_POINTS / 10 or not white > 0 or not np.isfinite(classes.centres).all():
        return None
    return TissueLevels(
        float(white),
        float(grey),
        float(fluid) if (shares[:, 2] > 0.6).sum() >= LEAST_FLUID else float("nan"),
        float(classes.spreads[0]),
        float(classes.spreads[1]),
    )


def _first_centres(values: FloatArray, shares: FloatArray) -> FloatArray:
    """Values where each tissue is expected most: medians, and of fluid the lower quartile."""
    return np.array(
        [
            float(np.quantile(values[shares[:, c] >= np.quantile(shares[:, c], 1 - share)], at))
            for c, (share, at) in enumerate(((0.2, 0.5), (0.2, 0.5), (0.01, 0.25)))
        ]
    )


def _odds(even: FloatArray, shares: FloatArray, classes: _Classes) -> FloatArray:
    """Probability ``(n, 3)`` of each tissue; what is missing to 1 is that of an outlier."""
    z = (even[:, None] - classes.centres) / classes.spreads
    density = shares * np.exp(-0.5 * z**2) / (classes.spreads * np.sqrt(2 * np.pi))
    # Outliers may have any value up to twice the median.
    out: FloatArray = density / (density.sum(1, keepdims=True) + OUTLIERS / 2)
    return out


def _moved(even: FloatArray, odds: FloatArray, seen: FloatArray, classes: _Classes) -> _Classes:
    """Centres and spreads by what belongs to each.

    The centre of fluid stays: small ventricles are mixed with their walls, and it would climb to grey matter.
    """
    enough = seen > LEAST_FLUID / 2
    enough[2] = False
    weight = np.maximum(seen, 1e-9)
    centres = np.where(enough, (odds * even[:, None]).sum(0) / weight, classes.centres)
    spreads = np.sqrt((odds * (even[:, None] - centres) ** 2).sum(0) / weight)
    return _Classes(centres, np.where(enough, np.clip(spreads, 0.01, 0.5), classes.spreads))


def _field(values: FloatArray, odds: FloatArray, classes: _Classes, terms: FloatArray) -> FloatArray:
    """Logarithm of the field of the coil, by white and grey matter; its mean over the brain is 0."""
    weights = odds[:, :2].sum(1)
    expected = (odds[:, :2] * classes.centres[:2]).sum(1) / np.maximum(weights, 1e-9)
    sure = weights > 0.5
    off = np.log(values[sure] / np.maximum(expected[sure], 1e-6))
    weighted = terms[sure] * weights[sure, None]
    normal = weighted.T @ terms[sure] + 1e-6 * len(values) * np.eye(terms.shape[1])
    field: FloatArray = terms @ np.linalg.solve(normal, weighted.T @ off)
    return np.asarray(np.clip(field - field.mean(), -2.0, 2.0))


def _scaled(levels: TissueLevels | None, scale: float) -> TissueLevels | None:
    """The same in rescaled values."""
    if levels is None:
        return None
    return TissueLevels(
        levels.white * scale,
        levels.grey * scale,
        levels.fluid * scale,
        levels.white_spread * scale,
        levels.grey_spread * scale,
    )
