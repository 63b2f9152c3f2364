"""Ghosts: copies of the object, displaced by half the field of view, in the air beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import ImagePlane, planes_of

_SOURCE = "ghost to signal ratio, Giannelli 2010 (J Appl Clin Med Phys 11:3237), in air instead of fixed regions"
ALONG_ROWS = Measure(
    "ghost_along_rows",
    "ghosts along the rows",
    Unit.PERCENT,
    Better.LOWER,
    -100.0,
    100.0,
    frozenset({"MR"}),
    _SOURCE,
)
ALONG_COLUMNS = Measure(
    "ghost_along_columns",
    "ghosts along the columns",
    Unit.PERCENT,
    Better.LOWER,
    -100.0,
    100.0,
    frozenset({"MR"}),
    _SOURCE,
)
MEASURES = (ALONG_ROWS, ALONG_COLUMNS)

FEWEST = 200
"""So many pixels of air are needed, where the ghost would lie and elsewhere."""
NO_AIR = "Too little air lies beside the object to see ghosts in it."
EMPTY_AIR = "The air around the object was set to one value, so that no ghost can be seen in it."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Ghost level along rows and columns of MR slices as stored; see :func:`of_planes`."""
    return of_planes(planes_of(slices)) if slices.volume.modality == "MR" else {}


def of_planes(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Signal of air where a copy of the object would lie, above that of other air, in percent of the object's.

    About 0 without ghosts, either side.  Only slices as stored have the axes of k-space.
    """
    stored = [plane for plane in planes if plane.stored]
    return {
        ALONG_ROWS.name: _level(stored, 1, ALONG_ROWS),
        ALONG_COLUMNS.name: _level(stored, 0, ALONG_COLUMNS),
    }


def _level(planes: Sequence[ImagePlane], axis: int, measure: Measure) -> float | str:
    copies, others, signals = [], [], []
    for plane in planes:
        copy, other = _air(plane.inside, axis)
        if min(copy.sum(), other.sum()) < FEWEST / 4:
            continue
        copies.append(plane.values[copy])
        others.append(plane.values[other])
        signals.append(plane.signal)
    if sum(map(len, copies)) < FEWEST or sum(map(len, others)) < FEWEST:
        return NO_AIR
    if max(np.ptp(values) for values in [*copies, *others]) == 0:
        return EMPTY_AIR
    levels = [
        (float(copy.mean()) - float(other.mean())) / signal
        for copy, other, signal in zip(copies, others, signals, strict=True)
    ]
    return float(np.clip(100 * np.median(levels), measure.low, measure.high))


def _air(inside: npt.NDArray[np.bool_], axis: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Air under a copy displaced along `axis`, and air under no copy."""
    near = ndimage.binary_dilation(inside, iterations=5)
    shifted = [np.roll(inside, n // 2, axis=a) for a, n in enumerate(inside.shape)]
    wide = [np.roll(near, n // 2, axis=a) for a, n in enumerate(inside.shape)]
    return shifted[axis] & ~wide[1 - axis] & ~near, ~near & ~wide[0] & ~wide[1]
