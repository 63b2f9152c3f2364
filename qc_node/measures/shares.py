"""How much of a volume carries nothing: values that were cut off, and areas of one value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.regions import ALL_ONE_VALUE, NO_NUMBERS, Regions, extremes

_ANY = frozenset({"MR", "CT"})

MEASURES = (
    Measure("clipped_share", "clipped pixels", Unit.PERCENT, Better.LOWER, 0, 100, _ANY, "own"),
    Measure("empty_share", "blanked area", Unit.PERCENT, Better.LOWER, 0, 100, _ANY, "own", charted=False),
)


def of_shares(slices: Slices, regions: Regions | str) -> dict[str, float | str]:
    """Every measure of :data:`MEASURES`, or why it has no value."""
    voxels = slices.volume.voxels
    if voxels.ndim != 3 or not voxels.size:
        return {m.name: NO_NUMBERS for m in MEASURES}
    if isinstance(regions, str):
        nothing = regions in (ALL_ONE_VALUE, NO_NUMBERS)
        return {"clipped_share": regions, "empty_share": 100.0 if nothing else regions}
    body = int(regions.body.sum()) * regions.block_size
    clipped: float | str = "No body is seen."
    if body:
        clipped = min(100.0 * plateau(voxels, extremes(voxels)[1]) / body, 100.0)
    return {
        "clipped_share": clipped,
        "empty_share": 100.0 * float((regions.empty >= 1).mean()),
    }


def plateau(voxels: npt.NDArray[Any], highest: float) -> int:
    """How many pixels have the highest value together with three others that form a square with it.

    One pixel is always the highest; only values that were cut off lie beside others that are exactly as high.
    """
    count = 0
    for plane in voxels:
        top = plane == highest
        if np.count_nonzero(top) < 4:
            continue
        square = top[:-1, :-1] & top[1:, :-1] & top[:-1, 1:] & top[1:, 1:]
        part = np.zeros_like(top)
        for rows in (slice(None, -1), slice(1, None)):
            for columns in (slice(None, -1), slice(1, None)):
                part[rows, columns] |= square
        count += int(np.count_nonzero(part))
    return count
