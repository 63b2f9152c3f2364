"""The aorta in front of the spine, measured rather than learnt.

Without contrast blood is a little darker than muscle (35-50 against 50-65 HU; the more haemoglobin, the brighter);
in a portal venous phase the aorta has 120-180 HU, in an arterial one 250-400, minutes later still 80-100.  It is
the one large vessel that every trunk shows over tens of centimetres at a known place: round, homogeneous, mostly
walled by fat or lung, in front of the vertebrae and a little to the left.

- The *spine* is the path from slice to slice that holds most bone near the midline in the back half of the body,
  and has a canal: a hole in bone.  Without one nothing is said, as a vertebra would pass for an aorta.
- The *front* of the vertebral bodies is where bone ends in most columns of the midline; an enhanced aorta that
  touches the spine hides it in some columns only.  What lies behind it is no vessel, however homogeneous a
  vertebra is.
- The *aorta* is the path in front of it whose 8 mm core is calm and whose surroundings are darker.  A vessel keeps
  its place and brightness over many slices; bowel with oral contrast, a node or an osteophyte does not.
- *Muscle* is measured beside the same spine, so that a shifted scale and an enhanced liver do not matter.

The strongest window of 48 mm counts, not a mean: contrast reaches some stretch of the aorta first and leaves it
last, and no plain aorta is bright anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.calibration import AIR
from qc_node.classifiers.ct.levels import longest_stretch, muscle_level, statistics

RANGE_MM = (320.0, 700.0)
"""Where on the body axis: from below the arch to the bifurcation."""
BOWEL_MM = 610.0
"""From here on (third part of the duodenum) bowel with oral contrast may lie in front of the spine."""
WINDOW = 12
"""Slices (48 mm) of which the best stretch counts."""
LEAST_GOOD = 7
"""Slices of a window (28 mm) in which the structure must be calm and bounded."""

_AGREE, _AGREE_SHARE = 12.0, 0.15
"""How far apart the middle half of a window may be, in HU and as a share of the excess."""
_CORE = (3, 2, 2)
"""Box of the lumen: 8 x 8 mm over 12 mm; the thinnest aorta of an adult has 12 mm."""
_LUMEN = 7
"""Pixels (1.1 cm2) of 25 around the core that are about as bright: a plaque of 8 mm is no vessel."""
_RING = 4.3
"""Radius in pixels (17 mm) of the surroundings of a vessel of up to 30 mm."""
_DARKER = 35.0
"""HU that fat, lung or (around enhanced blood) soft tissue is darker than the lumen."""
_LEAST_DARK = 0.3
_NOISE = 14.0
"""Standard deviation in HU within the core up to which it is homogeneous."""
_MIXING = 0.06
"""The same as a share of the excess over muscle."""
_BONE_OVER_MUSCLE = 40.0
_REACH = 24
"""Columns and rows around the spine in which the aorta is looked for."""
_FRONT = (-11.0, -7.0)
"""Rows (4 mm) from the canal to the front of the vertebral bodies: 28-44 mm."""
_BRIGHTEST = 800
_LEAST_BONE = 20
"""HU above 130, averaged over a vertebra, without which there is no spine."""
_CANAL_BONE = (150, 110, 85)
"""HU of bone around the canal, averaged over 28 mm; the lower ones for thin bone and small scales."""
_BRIDGE = 5
_WHOLE = 8
"""Columns (32 mm) on both sides of the spine that the field of view must hold."""

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spine:
    """Where the spine is and what muscle beside it measures.

    Attributes
    ----------
    canal
        ``(Z, 2)`` row and column of the spinal canal; NaN where there is none within 20 mm.
    front
        ``(Z,)`` rows from `canal` to the front of the vertebral bodies, negative; NaN as above.
    muscle
        HU of muscle of this patient.
    """

    canal: Array
    front: Array
    muscle: float


def best_path(score: Image) -> npt.NDArray[np.int64]:
    """``(Z, 2)`` row and column of the path of the highest sum through ``(Z, Y, X)``.

    From one slice to the next it moves by at most one pixel in each direction.
    """
    down, up = score.copy(), score.copy()
    for z in range(1, len(score)):
        down[z] += ndimage.maximum_filter(down[z - 1], 3)
    for z in range(len(score) - 2, -1, -1):
        up[z] += ndimage.maximum_filter(up[z + 1], 3)
    best = (down + up - score).reshape(len(score), -1).argmax(1)
    return np.stack(np.unravel_index(best, score.shape[1:]), 1)


def longest_run(position: Array, range_mm: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """``(Z,)``: the longest run of slices whose `position` (mm on the body axis) is in `range_mm`.

    Up to four slices that are read as lying elsewhere do not interrupt it.
    """
    inside = (position > range_mm[0]) & (position < range_mm[1])
    return longest_stretch(ndimage.binary_closing(np.pad(inside, 4), np.ones(5))[4:-4])


def strongest(levels: Array, good: npt.NDArray[np.bool_]) -> float | None:
    """The highest median of the `good` ones among `levels` ``(Z,)`` over windows of :data:`WINDOW` slices.

    Returns
    -------
    float or None
        None where no window holds :data:`LEAST_GOOD` good slices that agree: half of them within 12 HU and 15 %.
    """
    found = []
    for start in range(max(1, len(levels) - WINDOW + 1)):
        values = levels[start : start + WINDOW][good[start : start + WINDOW]]
        if len(values) < LEAST_GOOD:
            continue
        low, middle, high = np.percentile(values, [25, 50, 75])
        if high - low <= _AGREE + _AGREE_SHARE * max(middle, 0.0):
            found.append(float(middle))
    return max(found) if found else None


def find_spine(coarse: npt.NDArray[np.int16]) -> Spine | None:
    """The spine of ``(Z, 96, 96)`` HU at 4 mm, None where there is none or no muscle to compare with."""
    if not len(coarse):
        return None
    canal = _canal(coarse, _most_bone(coarse))
    if np.isnan(canal).all():
        return None
    muscle = _muscle_beside(coarse, canal)
    if muscle is None:
        return None
    return Spine(canal, _front(coarse, canal, muscle), muscle)


def _most_bone(coarse: npt.NDArray[np.int16]) -> Array:
    """``(Z, 2)``: somewhere in the spine of each slice; NaN where there is no bone near the midline."""
    tissue = coarse > TISSUE
    # 28 x 36 x 36 mm: about a vertebra with its arch.
    bone = ndimage.uniform_filter(np.clip(coarse, 130, 430).astype(np.float32) - 130, (7, 9, 9), mode="nearest")
    rows, columns = np.arange(coarse.shape[1]), np.arange(coarse.shape[2])
    score = np.zeros(coarse.shape, np.float32)
    for z, plane in enumerate(tissue):
        across, along = plane.sum(0), plane.sum(1)
        if across.sum() < 200:
            continue
        midline = np.searchsorted(np.cumsum(across), across.sum() / 2)
        half = np.searchsorted(np.cumsum(along), along.sum() / 2)
        middle, back = np.exp(-0.5 * ((columns - midline) / 6.0) ** 2), 1 / (1 + np.exp(-(rows - half) / 3.0))
        score[z] = np.minimum(bone[z], 120) * np.outer(back, middle)
    path = best_path(score)
    bony = score[np.arange(len(path)), path[:, 0], path[:, 1]] > _LEAST_BONE
    smooth: Array = ndimage.uniform_filter1d(path.astype(np.float64), 5, axis=0, mode="nearest")
    smooth[~bony] = np.nan
    return smooth


def _canal(coarse: npt.NDArray[np.int16], spine: Array) -> Array:
    """``(Z, 2)``: the hindmost hole in bone near `spine`, smoothed and bridged over 20 mm; NaN elsewhere."""
    # 28 mm along the body hold an arch that closes the ring.
    smooth = ndimage.uniform_filter1d(coarse.clip(-200, 500).astype(np.float32), 7, axis=0, mode="nearest")
    canal = np.full((len(coarse), 2), np.nan)
    for z in np.flatnonzero(~np.isnan(spine[:, 0])):
        y, x = (round(float(v)) for v in spine[z])
        if min(x, coarse.shape[2] - 1 - x) < _WHOLE or (coarse[z, y, [x - _WHOLE, x + _WHOLE]] == AIR).any():
            continue  # a field of view that ends beside the spine may show half a vertebra
        top, left = max(0, y - 12), max(0, x - 10)
        plane = smooth[z, top : y + 14, left : x + 11]
        for level in _CANAL_BONE:
            hole = _hindmost_hole(plane > level, x - left)
            if hole is not None:
                canal[z] = hole[0] + top, hole[1] + left
                break
    known = np.flatnonzero(~np.isnan(canal[:, 0]))
    if known.size < LEAST_GOOD:
        return np.full_like(canal, np.nan)
    canal[known] = ndimage.median_filter(canal[known], (min(9, known.size), 1), mode="nearest")
    rows = np.arange(len(canal))
    bridged = np.stack([np.interp(rows, known, canal[known, axis]) for axis in (0, 1)], 1)
    far = np.abs(rows[:, None] - known[None]).min(1) > _BRIDGE
    bridged[far] = np.nan
    return bridged


def _hindmost_hole(bone: npt.NDArray[np.bool_], column: int) -> tuple[float, float] | None:
    """Row and column of the hindmost enclosed hole of 0.3 to 6.4 cm2 near `column`.

    Marrow lies in front of the canal, holes between arch and ribs beside it.
    """
    labels, count = ndimage.label(ndimage.binary_fill_holes(bone) & ~bone)
    holes = [np.argwhere(labels == label) for label in range(1, count + 1)]
    middles = [hole.mean(0) for hole in holes if 2 <= len(hole) <= 40]
    near = [(float(y), float(x)) for y, x in middles if abs(x - column) <= 4]
    return max(near, key=lambda at: at[0] - 2 * abs(at[1] - column), default=None)


def _muscle_beside(coarse: npt.NDArray[np.int16], canal: Array) -> float | None:
    """HU of the muscles of the back, or of the commonest muscle-like tissue where the back is cut off."""
    rows, columns = np.mgrid[: coarse.shape[1], : coarse.shape[2]]
    back = np.zeros(coarse.shape, bool)
    for z, (row, column) in enumerate(canal):
        if not np.isnan(row):
            aside = np.abs(columns - column)
            back[z] = (aside >= 4) & (aside <= 16) & (rows >= row + 1) & (rows <= row + 14)
    level = muscle_level(coarse, back)
    return level if level is not None else muscle_level(coarse)


def _front(coarse: npt.NDArray[np.int16], canal: Array, muscle: float) -> Array:
    # 36 mm along the body hold at least one vertebra that is not a disc.
    smooth = ndimage.uniform_filter1d(coarse.clip(-200, int(muscle) + 250).astype(np.float32), 9, axis=0)
    front = np.full(len(coarse), np.nan)
    for z, (row, column) in enumerate(canal):
        if np.isnan(row) or row < 14 or not 4 <= column < coarse.shape[2] - 4:
            continue
        y, x = round(float(row)), round(float(column))
        bone = smooth[z, y - 13 : y - 4, x - 3 : x + 4][::-1] >= muscle + _BONE_OVER_MUSCLE  # from -5 to -13
        front[z] = np.percentile([-5 - _last_of_run(line) for line in bone.T], 75)
    known = np.flatnonzero(~np.isnan(front))
    if known.size:
        front[known] = ndimage.median_filter(front[known], min(11, known.size), mode="nearest")
    return front.clip(_FRONT[0], _FRONT[1])


def _last_of_run(bone: npt.NDArray[np.bool_]) -> int:
    """Index of the last bony pixel before a gap; gaps in the first 12 mm are osteoporotic marrow."""
    last = 0
    for index, bony in enumerate(bone):
        if bony:
            last = index
        elif index >= 3 and last < index - 1:
            break
    return last


def aorta_excess(
    coarse: npt.NDArray[np.int16], spine: Spine, position: Array
) -> tuple[float | None, float | None]:
    """How much brighter than muscle the aorta is in its brightest 48 mm, in HU.

    Parameters
    ----------
    coarse
        ``(Z, 96, 96)`` HU at 4 mm.
    spine
        Of the same slices.
    position
        ``(Z,)`` mm on the body axis, NaN off it.

    Returns
    -------
    tuple of float or None
        Above and below :data:`BOWEL_MM`: about -25 to 8 without contrast, 15 to 500 with it; None where no calm
        round structure lies there.
    """
    rows = np.flatnonzero(longest_run(position, RANGE_MM))
    if rows.size < LEAST_GOOD:
        return None, None
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    levels, good = _aorta(coarse[part], spine.canal[part], spine.front[part], spine.muscle)
    # The run is in order but for single slices: one border is enough.
    above = int((position[part] < BOWEL_MM).sum())
    return strongest(levels[:above], good[:above]), strongest(levels[above:], good[above:])


def _aorta(
    coarse: npt.NDArray[np.int16], canal: Array, front: Array, muscle: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Excess over muscle along the best path, and where it is a vessel: ``(Z,)`` each."""
    known = ~np.isnan(canal[:, 0]) & ~np.isnan(front)
    if not known.any():
        return np.zeros(len(coarse)), np.zeros(len(coarse), bool)
    # Only the surroundings of the spine are looked at.
    centre = np.median(canal[known], 0)
    top = int(np.clip(centre[0] - 2 * _REACH + 10, 0, coarse.shape[1] - 2 * _REACH))
    left = int(np.clip(centre[1] - _REACH, 0, coarse.shape[2] - 2 * _REACH))
    near = coarse[:, top : top + 2 * _REACH, left : left + 2 * _REACH]
    mean, spread = statistics(near, _CORE)
    excess = mean - np.float32(muscle)
    calm = spread < _NOISE + _MIXING * np.maximum(excess, 0)
    dark = _darker_around(near, mean)
    alike = near > mean - np.maximum(25.0, 0.35 * excess)
    calm &= ndimage.uniform_filter(alike.astype(np.float32), (1, 5, 5)) * 25 > _LUMEN - 0.5
    # An even box is centred between two pixels.
    y, x = np.mgrid[top : top + 2 * _REACH, left : left + 2 * _REACH] - 0.5
    score = np.zeros(near.shape, np.float32)
    for z in np.flatnonzero(known):
        dy, dx, edge = y - canal[z, 0], x - canal[z, 1], front[z]
        away = ((dy - (edge - 2.5)) / 3.0) ** 2 + ((dx - 3.0) / 4.0) ** 2
        half = (-edge - 3) / 2
        vertebra = ((dy - (edge - 3) / 2) / (half + 2.0)) ** 2 + (dx / 6.0) ** 2 < 1
        vertebra |= (dy > edge + 1) & (np.abs(dx) < 6)
        place = np.where((away < 6) & ~vertebra, -0.12 * away, -3.0)
        # Of two structures that look alike the brighter one is taken: in an arterial phase veins are pale.
        vessel = dark[z] + np.where(calm[z], 0.4, -0.4) + 0.5 * np.clip(excess[z] / 100, 0, 1)
        score[z] = np.where((excess[z] < -60) | (excess[z] > _BRIGHTEST - 100), -1.5, vessel) + place
    path = best_path(score)
    at = (np.arange(len(near)), path[:, 0], path[:, 1])
    good = known & calm[at] & (dark[at] >= _LEAST_DARK) & (score[at] > -0.4)
    return excess[at].astype(np.float64), good


def _darker_around(near: npt.NDArray[np.int16], mean: Image) -> Image:
    """Share of a ring of 17 mm around each pixel that is darker than the pixel's own core."""
    values = np.clip(near, -200, _BRIGHTEST)
    limit = mean - np.float32(_DARKER)
    dark = np.zeros(near.shape, np.float32)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    for angle in angles:
        dy, dx = round(_RING * np.sin(angle) - 0.5), round(_RING * np.cos(angle) - 0.5)
        dark += np.roll(values, (-dy, -dx), (1, 2)) < limit
    return dark / np.float32(len(angles))
