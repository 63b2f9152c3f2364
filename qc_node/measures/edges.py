"""Sharpness: how wide the strongest edges are, in millimetres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    "10-90 % rise distance of an edge spread function, on edges of the patient instead of a target's, own",
)
MEASURES = (EDGE_WIDTH,)

EDGES, SHARE = 400, 0.25
"""So many edges of a plane at most, and about this share of all its gradient peaks."""
BEYOND = 6
"""So many steps beyond its end an edge must still be on its side, or it is a line."""
FEWEST = 20
TINY = np.float32(1e-12)
REACH_MM, REACH = 10.0, (10, 24)
"""How far an edge is followed to each side, and within how many pixels that must lie."""
RISE = 0.15
"""An edge rises by at least this share of the object's signal: what is less may be noise."""
FLAT = 0.1
"""An edge has ended where it is this much less steep than in its middle."""
NO_EDGES = "The image has too few edges to measure its sharpness."
NO_SPACING = "The distance of pixels is not stated, so that no width can be given in millimetres."


def of_slices(slices: Slices) -> dict[str, float | str]:
    """Edge width of MR or CT slices; see :func:`of_planes`."""
    return of_planes(planes_of(slices))


def of_image(pixels: npt.NDArray[np.generic], spacing_mm: tuple[float, float] | None) -> dict[str, float | str]:
    """Edge width of a radiograph ``(rows, columns)`` with the distances of (rows, columns) in mm.

    Its strongest edges are sought over all of it: large parts of a radiograph have none.  Motion goes one way and
    leaves edges along it sharp: of edges across rows and across columns the wider ones count.
    """
    if not is_known(spacing_mm):
        return {EDGE_WIDTH.name: NO_SPACING}
    tiles = tiles_of(pixels, spacing_mm)
    peaks = [_peaks(tile) for tile in tiles]
    found = [_of_tiles(tiles, [peak.across(axis).strongest() for peak in peaks]) for axis in (0, 1)]
    widths = [width for width in found if not isinstance(width, str)]
    return {EDGE_WIDTH.name: max(widths, default=NO_EDGES)}


def _of_tiles(tiles: Sequence[ImagePlane], peaks: Sequence[GradientPeaks]) -> float | str:
    """Median width of the strongest edges of all tiles together."""
    strengths = np.sort(np.concatenate([np.empty(0), *(found.strength for found in peaks)]))[::-1]
    least = strengths[:EDGES][-1] if len(strengths) else 0.0
    widths = (_widths(tile, found.above(least)) for tile, found in zip(tiles, peaks, strict=True))
    return _median(widths, FEWEST // 2)


def of_planes(planes: Sequence[ImagePlane]) -> dict[str, float | str]:
    """Median 10-90 % width in mm of the strongest edges of all planes."""
    return {EDGE_WIDTH.name: _median(_widths(plane, _peaks(plane).strongest()) for plane in planes)}


def _median(widths: Iterable[npt.NDArray[np.float64]], fewest: int = FEWEST) -> float | str:
    together = np.concatenate([np.empty(0), *widths])
    if len(together) < fewest:
        return NO_EDGES
    return float(np.clip(np.median(together), EDGE_WIDTH.low, EDGE_WIDTH.high))


@dataclass(frozen=True, eq=False)
class GradientPeaks:
    """Places ``(2, edges)`` in the object's box, directions ``(2, edges)`` across the edges, strengths per mm.

    The strongest come first.
    """

    at: npt.NDArray[np.int64]
    direction: Floats
    strength: Floats

    def above(self, least: float) -> GradientPeaks:
        """Those that are at least as strong."""
        return self._these(self.strength >= least)

    def across(self, axis: int) -> GradientPeaks:
        """Those that lie rather across this axis than across the other."""
        return self._these(np.abs(self.direction[axis]) >= np.abs(self.direction[1 - axis]))

    def strongest(self) -> GradientPeaks:
        """The part that is measured."""
        count = min(EDGES, max(2 * FEWEST, int(SHARE * len(self.strength))))
        return self._these(np.arange(len(self.strength)) < count)

    def _these(self, which: npt.NDArray[np.bool_]) -> GradientPeaks:
        return GradientPeaks(self.at[:, which], self.direction[:, which], self.strength[which])


def _peaks(plane: ImagePlane) -> GradientPeaks:
    """Local maxima of the gradient in the object and at its border."""
    smooth = ndimage.gaussian_filter(plane.values[plane.box], 1.0)
    gradient = np.stack(np.gradient(smooth, *plane.spacing_mm))
    strength = np.hypot(*gradient)
    within = ndimage.binary_dilation(plane.inside[plane.box], iterations=2)
    at = np.stack(np.nonzero((strength == ndimage.maximum_filter(strength, 5)) & (strength > TINY) & within))
    at = at[:, np.argsort(-strength[at[0], at[1]], kind="stable")]
    strongest = strength[at[0], at[1]]
    return GradientPeaks(at, gradient[:, at[0], at[1]] / strongest, strongest)


def _widths(plane: ImagePlane, peaks: GradientPeaks) -> npt.NDArray[np.float64]:
    """Widths in mm ``(edges,)``."""
    if not len(peaks.strength):
        return np.empty(0)
    profiles = _profiles(plane, peaks.at, peaks.direction)
    return _rises(profiles, RISE * plane.signal) * min(plane.spacing_mm) / 2


def _profiles(plane: ImagePlane, at: npt.NDArray[np.int64], direction: npt.NDArray[np.float32]) -> Floats:
    """Values across each edge ``(edges, steps)``, rising, every half pixel; mean of three lines side by side."""
    step = min(plane.spacing_mm)
    spacing = np.array(plane.spacing_mm).reshape(2, 1, 1, 1)
    reach = int(np.clip(REACH_MM / step, *REACH))
    along = np.arange(-2 * reach, 2 * reach + 1).reshape(1, 1, 1, -1) * step / 2
    beside = np.array([-1, 0, 1]).reshape(1, 1, -1, 1) * step
    tangent = np.stack([-direction[1], direction[0]])
    places = (direction[:, :, None, None] * along + tangent[:, :, None, None] * beside) / spacing
    start = np.array([s.start for s in plane.box]).reshape(2, 1, 1, 1)
    places += at[:, :, None, None] + start
    found = ndimage.map_coordinates(plane.values, places, order=1, mode="nearest")
    return found.mean(axis=1)  # type: ignore[no-any-return]


def _rises(profiles: Floats, least: float) -> npt.NDArray[np.float64]:
    """Steps from 10 % to 90 % of each rise ``(edges,)``, which ends where it is flat on either side."""
    middle = profiles.shape[1] // 2
    steep = np.gradient(profiles, axis=1)
    limit = FLAT * steep[:, middle - 1 : middle + 2].max(axis=1, keepdims=True)
    up, down = profiles[:, middle:], -profiles[:, middle::-1]
    above, below = (_unbroken(part > limit) for part in (steep[:, middle:], steep[:, middle::-1]))
    high, low = (np.where(part, half, -np.inf).max(axis=1) for half, part in ((up, above), (down, below)))
    rise = high + low
    stays = _stays(up, above, high - rise / 2) & _stays(down, below, low - rise / 2)
    steps = _crossing(up, high - 0.1 * rise, above) + _crossing(down, low - 0.1 * rise, below)
    widths = steps.astype(np.float64)
    return np.asarray(widths[stays & (rise > least) & np.isfinite(widths) & (widths > 0)])


def _stays(half: Floats, before_end: npt.NDArray[np.bool_], middle: Floats) -> npt.NDArray[np.bool_]:
    """Whether a profile does not fall back at once ``(edges,)``: then it is an edge and no thin line."""
    beyond = before_end.sum(axis=1)[:, None] + np.arange(1, BEYOND + 1)
    after = np.take_along_axis(half, np.minimum(beyond, half.shape[1] - 1), axis=1)
    return np.asarray(after.mean(axis=1) > middle)


def _unbroken(steep: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Steps from the middle ``(edges, steps)`` up to the first that is flat; the middle itself always."""
    unbroken = np.logical_and.accumulate(steep, axis=1)
    unbroken[:, 0] = True
    return unbroken


def _crossing(half: Floats, level: Floats, before_end: npt.NDArray[np.bool_]) -> Floats:
    """Where each line first reaches its level, in steps from its start; 0 where it starts above it."""
    reached = (half >= level[:, None]) & before_end
    first = reached.argmax(axis=1)
    rows = np.arange(len(half))
    before, after = half[rows, np.maximum(first - 1, 0)], half[rows, first]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (level - before) / (after - before)
    place = np.where(first > 0, first - 1 + part, 0)
    return np.where(reached.any(axis=1), place, np.nan).astype(np.float32)
