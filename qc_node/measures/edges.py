"""Sharpness: how wide the strongest edges are, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.planes import Floats, ImagePlane, is_known, planes_of, tiles_of

EDGE_WIDTH = Measure(
    "edge_width_mm",
    "edge width",
    Unit.MM,
    Better.LOWER,
    0.0,
    100.0,
    frozenset({"MR", "CT", "CR", "DX", "MG"}),
    "10-90 % rise distance of an edge, IEC 61223-3-5 and ISO 12233; found on edges of the patient, own",
)
MEASURES = (EDGE_WIDTH,)

EDGES, SHARE = 400, 0.25
"""So many edges of a plane at most, and no more than this share of all its gradient peaks."""
FEWEST = 20
TINY = np.float32(1e-12)
REACH = 10
"""How many pixels an edge is followed to each side."""
FALL = 0.1
"""An edge has ended where its profile falls back by this share of what it had risen."""
NO_EDGES = "The image has too few edges to measure its sharpness."
NO_SPACING = "The distance of pixels is not stated, so that no width can be given in millimetres."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Edge width of MR or CT slices; see :func:`of_planes`."""
    return of_planes(planes_of(slices))


def of_image(pixels: npt.NDArray[np.generic], spacing_mm: tuple[float, float] | None) -> dict[str, float | str]:
    """Edge width of a radiograph ``(rows, columns)`` with the distances of (rows, columns) in mm."""
    if not is_known(spacing_mm):
        return {EDGE_WIDTH.name: NO_SPACING}
    return of_planes(tiles_of(pixels, spacing_mm))


def of_planes(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Median 10-90 % width in mm of the strongest edges of all planes."""
    widths = np.concatenate([np.empty(0), *(edge_widths(plane) for plane in planes)])
    if len(widths) < FEWEST:
        return {EDGE_WIDTH.name: NO_EDGES}
    return {EDGE_WIDTH.name: float(np.clip(np.median(widths), EDGE_WIDTH.low, EDGE_WIDTH.high))}


def edge_widths(plane: ImagePlane) -> npt.NDArray[np.float64]:
    """Widths in mm ``(edges,)`` of the strongest gradient peaks in the object."""
    smooth = ndimage.gaussian_filter(plane.values[plane.box], 1.0)
    gradient = np.stack(np.gradient(smooth, *plane.spacing_mm))
    strength = np.hypot(*gradient)
    at = _peaks(strength, plane.inside[plane.box])
    if not at.shape[1]:
        return np.empty(0)
    profiles = _profiles(plane, at, (gradient / np.maximum(strength, TINY))[:, at[0], at[1]])
    return _rises(profiles) * min(plane.spacing_mm) / 2


def _peaks(strength: Floats, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Rows and columns ``(2, edges)`` of the strongest local maxima in the object and at its border."""
    largest = ndimage.maximum_filter(strength, 5)
    within = ndimage.binary_dilation(inside, iterations=2)
    at = np.stack(np.nonzero((strength == largest) & (strength > TINY) & within))
    count = min(EDGES, int(SHARE * at.shape[1]))
    return at[:, np.argsort(-strength[at[0], at[1]], kind="stable")[:count]]


def _profiles(plane: ImagePlane, at: npt.NDArray[np.int64], direction: npt.NDArray[np.float32]) -> Floats:
    """Values across each edge ``(edges, 4 * REACH + 1)`` in steps of half a pixel, rising; mean of three lines."""
    step = min(plane.spacing_mm)
    spacing = np.array(plane.spacing_mm).reshape(2, 1, 1, 1)
    along = np.arange(-2 * REACH, 2 * REACH + 1).reshape(1, 1, 1, -1) * step / 2
    beside = np.array([-1, 0, 1]).reshape(1, 1, -1, 1) * step
    tangent = np.stack([-direction[1], direction[0]])
    places = (direction[:, :, None, None] * along + tangent[:, :, None, None] * beside) / spacing
    start = np.array([s.start for s in plane.box]).reshape(2, 1, 1, 1)
    places += at[:, :, None, None] + start
    found = ndimage.map_coordinates(plane.values, places, order=1, mode="nearest")
    return found.mean(axis=1)  # type: ignore[no-any-return]


def _rises(profiles: Floats) -> npt.NDArray[np.float64]:
    """Steps from 10 % to 90 % of each rise ``(edges,)``, between the extremes next to the middle."""
    middle = profiles.shape[1] // 2
    top, above = _climb(profiles[:, middle:])
    bottom, below = _climb(-profiles[:, middle::-1])
    low, high = -bottom, top
    rise = high - low
    up = _crossing(profiles[:, middle:], low + 0.9 * rise, above)
    down = _crossing(-profiles[:, middle::-1], -(low + 0.1 * rise), below)
    widths = (up + down).astype(np.float64)
    return widths[(rise > 0) & np.isfinite(widths) & (widths > 0)]


def _climb(half: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The first summit of each line ``(edges,)``, and which steps lie before its end."""
    highest = np.maximum.accumulate(half, axis=1)
    ended = np.cumsum(highest - half > FALL * (highest - half[:, :1]), axis=1) > 0
    climbing = ~ended
    return np.where(climbing, half, -np.inf).max(axis=1), climbing


def _crossing(half: Floats, level: Floats, climbing: npt.NDArray[np.bool_]) -> Floats:
    """Where each line first reaches its level, in steps from its start; 0 where it starts above it."""
    reached = (half >= level[:, None]) & climbing
    first = reached.argmax(axis=1)
    rows = np.arange(len(half))
    before, after = half[rows, np.maximum(first - 1, 0)], half[rows, first]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (level - before) / (after - before)
    place = np.where(first > 0, first - 1 + part, 0)
    return np.where(reached.any(axis=1), place, np.nan).astype(np.float32)
