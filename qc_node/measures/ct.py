"""Measures of CT: noise, HU of known tissues, metal and its streaks, a body cut by the field of view, stated dose.

Noise, tissues and outline are measured in at most :data:`LOOKED_AT` slices spread over the series; metal is counted
in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.domain.technique import Technique

CT = frozenset({"CT"})
_CHRISTIANSON = "Christianson et al. 2015, AJR 205:W93; soft tissue by local means"
_HEADER = "header"

MEASURES = (
    Measure("noise_hu", "noise", Unit.HU, Better.LOWER, 0, 2000, CT, _CHRISTIANSON, with_size=True),
    Measure("air_hu", "air outside the body", Unit.HU, Better.NEITHER, -1100, -900, CT, "own"),
    Measure("fat_hu", "fat", Unit.HU, Better.NEITHER, -150, -50, CT, "own", with_size=True),
    Measure("muscle_hu", "muscle or brain", Unit.HU, Better.NEITHER, 20, 110, CT, "own", with_size=True),
    Measure("metal_share", "metal in the body", Unit.PERCENT, Better.LOWER, 0, 100, CT, "own", False),
    Measure("metal_streaks", "streaks around metal", Unit.HU, Better.LOWER, 0, 4000, CT, "own", False),
    Measure("cut_outline", "outline of the body beyond the field", Unit.PERCENT, Better.LOWER, 0, 100, CT, "own"),
    Measure("ctdi_vol", "CTDIvol", Unit.MGY, Better.NEITHER, 0, 10_000, CT, _HEADER, with_size=True),
    Measure("kvp", "tube voltage", Unit.KV, Better.NEITHER, 0, 1000, CT, _HEADER, False),
    Measure("mas", "exposure", Unit.MAS, Better.NEITHER, 0, 100_000, CT, _HEADER, False),
    Measure("slice_thickness", "slice thickness", Unit.MM, Better.NEITHER, 0, 1000, CT, _HEADER, False),
)

LOOKED_AT = 24
WITH_METAL = 8
"""In so many of the slices with most metal, metal is sought inside the body and streaks are measured."""

WINDOW_MM = 6.0
"""Side of the window of local means and standard deviations (Christianson 2015)."""

BLOCK_MM = 4.0
"""Body, air and outline are found on blocks of about this size."""

METAL_HU = 3000.0
"""Enamel and dense contrast agent are below; most scanners store no more than 3071."""

FEWEST = 200
"""Fewer places than this give no mode."""

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def of_ct(slices: Slices, technique: Technique) -> dict[str, float | str]:
    """All measures of a CT series; a sentence where one has no value.

    - ``noise_hu``: the mode of the standard deviations in windows of 6 mm of soft tissue (0 to 170 HU).  Here the
      *mean of the window* lies in that range (in the paper each voxel, which noise itself moves out of it), and the
      mode is corrected for the few voxels of a window as for white noise, at most 8 %.
    - ``air_hu``, ``fat_hu``, ``muscle_hu``: modes; expected about -1000; -115 to -85; 45 to 70, brain 30 to 40
      (120 kV).  Muscle is the lowest peak of quiet soft tissue: organs that take up contrast agent lie above it.
    - ``metal_share``: voxels above 3000 HU inside the body, in % of the body.
    - ``metal_streaks``: how strongly HU vary with the angle around metal, in what is common to 3-25 mm and 25-50 mm.
    - ``cut_outline``: share of the body's outline that lies on the edge of the reconstructed field.
    - ``ctdi_vol``, ``kvp``, ``mas``, ``slice_thickness``: as stated by the header.
    """
    planes = [
        Plane(slices.values(k), _in_plane(slices), _padding(slices)) for k in _picked(slices.volume.shape[0])
    ]
    planes = [plane for plane in planes if min(plane.hu.shape) >= 16]
    stated = of_header(slices, technique)
    if not planes:
        return stated | {m.name: "The slices are too small." for m in MEASURES if m.source != _HEADER}
    body = float(np.mean([plane.body.mean() for plane in planes]))
    return {
        **stated,
        **of_tissue(planes),
        "air_hu": _air(planes),
        "cut_outline": _cut_outline(planes),
        **_of_metal(slices, body),
    }


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice.

    Attributes
    ----------
    hu
        ``(J, I)``; what is not finite is air.
    spacing
        Distance of (rows, columns) in mm.
    padding
        HU that mean "nothing was reconstructed", None where there are none.
    """

    raw: Floats
    spacing: tuple[float, float]
    padding: float | None = None

    @cached_property
    def hu(self) -> Floats:
        return np.nan_to_num(self.raw, nan=-1000.0, posinf=4000.0, neginf=-1000.0).clip(-4000, 40_000)

    @cached_property
    def block(self) -> int:
        """Side of a block in pixels."""
        return max(1, min(round(BLOCK_MM / max(min(self.spacing), 0.05)), min(self.hu.shape) // 16))

    @cached_property
    def blocks(self) -> Floats:
        """Block means."""
        return _reduced(self.hu, self.block)

    @cached_property
    def field(self) -> Mask:
        """Where something was reconstructed, in blocks: not padding, not beyond the circle of a constant corner."""
        empty = self.hu <= min(-1100.0, float(self.hu[0, 0])) if self._has_constant_corners else self.hu < -1900
        if self.padding is not None:
            empty = empty | (np.abs(self.hu - self.padding) < 0.5)
        return _reduced(empty.astype(np.float32), self.block) < 0.5

    @property
    def _has_constant_corners(self) -> bool:
        corners = self.hu[[0, 0, -1, -1], [0, -1, 0, -1]]
        return bool(np.ptp(corners) == 0)

    @cached_property
    def circle(self) -> Mask | None:
        """The circle inside the matrix where all beyond it is one value (scanners differ in which), in blocks."""
        rows, columns = self.blocks.shape
        if rows != columns or not self._has_constant_corners:
            return None
        y, x = np.ogrid[:rows, :columns]
        radius = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2)
        beyond = self.blocks[radius > rows / 2 + 1]
        return radius < rows / 2 - 1 if beyond.size and np.ptp(beyond) == 0 else None

    @cached_property
    def body(self) -> Mask:
        """The body in blocks, cavities filled; the table is too thin to be it."""
        tissue = ndimage.binary_opening((self.blocks > -300) & self.field, iterations=2)
        labels, count = ndimage.label(tissue)
        if count == 0:
            return tissue
        sizes = ndimage.sum_labels(tissue, labels, np.arange(1, count + 1))
        large = np.isin(labels, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))
        return ndimage.binary_fill_holes(large) & self.field

    def pixels(self, mask: Mask) -> Mask:
        """A mask of blocks for each pixel; False beyond the last whole block."""
        full = np.zeros(self.hu.shape, bool)
        wide = mask.repeat(self.block, axis=0).repeat(self.block, axis=1)
        full[: wide.shape[0], : wide.shape[1]] = wide
        return full


def of_tissue(planes: Sequence[Plane]) -> dict[str, float | str]:
    """``noise_hu``, ``fat_hu`` and ``muscle_hu`` from windows of 6 mm in the body."""
    means, deviations = (np.concatenate(each) for each in zip(*(_windows(plane) for plane in planes), strict=True))
    noise = _noise(deviations[(means > 0) & (means < 170) & (deviations > 0)])
    quiet = deviations < (1.5 * noise if not isinstance(noise, str) else np.inf)
    return {
        "noise_hu": noise if isinstance(noise, str) else min(2000.0, noise * _bias(planes[0])),
        "fat_hu": _lowest_peak(means[quiet], (-150, -50), "fat"),
        "muscle_hu": _lowest_peak(means[quiet], (20, 110), "soft tissue"),
    }


def _windows(plane: Plane) -> tuple[Floats, Floats]:
    """Means and standard deviations of the windows that lie in the body."""
    side = _side(plane)
    centred = plane.hu.clip(-1024, METAL_HU) - np.float32(50)
    mean = ndimage.uniform_filter(centred, side)
    square = ndimage.uniform_filter(centred * centred, side)
    inside = plane.pixels(ndimage.binary_erosion(plane.body))
    count = side * side
    variance = np.maximum(square[inside] - mean[inside] ** 2, 0) * (count / (count - 1))
    return mean[inside] + np.float32(50), np.sqrt(np.where(variance > 1e-2, variance, 0))


def _side(plane: Plane) -> int:
    """Side of a window in pixels, 3 to 15."""
    return int(np.clip(round(WINDOW_MM / max(float(np.mean(plane.spacing)), 0.05)), 3, 15))


def _bias(plane: Plane) -> float:
    """The mode of a standard deviation of `n` values lies below sigma: at sqrt((n - 2) / (n - 1)) of it."""
    count = _side(plane) ** 2
    return math.sqrt((count - 1) / (count - 2))


def _noise(deviations: Floats) -> float | str:
    """The mode of the standard deviations of soft tissue."""
    if deviations.size < FEWEST:
        return "Too little soft tissue is in the slices."
    return _mode(deviations, (0.0, 3.0 * float(np.percentile(deviations, 40))))


def _lowest_peak(means: Floats, within: tuple[float, float], what: str) -> float | str:
    """The lowest peak of a histogram that is at least 0.4 of its highest."""
    low, high = within
    means = means[(means > low) & (means < high)]
    if means.size < FEWEST:
        return f"Too little {what} is in the slices."
    smooth, middles = _histogram(means, within)
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner >= 0.4 * smooth.max()))
    return float(middles[peaks[0]]) if peaks.size else f"The {what} has no typical HU."


def _mode(values: Floats, within: tuple[float, float]) -> float:
    """Where the smoothed histogram is highest."""
    smooth, middles = _histogram(values, within)
    return float(middles[smooth.argmax()])


def _histogram(
    values: Floats, within: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Smoothed counts of 200 bins and their middles."""
    counts, borders = np.histogram(values, bins=200, range=within)
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 5.0, mode="nearest")
    return smooth, (borders[:-1] + borders[1:]) / 2


def _air(planes: Sequence[Plane]) -> float | str:
    """Most frequent HU of blocks outside the body and at least three blocks from it."""
    found = np.concatenate([plane.blocks[_outside(plane)] for plane in planes])
    written = found == planes[0].hu[0, 0]
    found = found[(found < -900) & (found > -1100) & ~written]
    if found.size < FEWEST:
        return (
            "The air was overwritten with one value." if written.any() else "Too little air is outside the body."
        )
    return _mode(found, (-1100, -900))


def _outside(plane: Plane) -> Mask:
    apart = ~ndimage.binary_dilation(plane.body, iterations=3)
    inner = plane.circle if plane.circle is not None else np.ones_like(plane.field)
    return apart & ndimage.binary_erosion(plane.field & inner, iterations=2)


def _cut_outline(planes: Sequence[Plane]) -> float | str:
    """Share of the outlines on the edge of matrix, padding or circle."""
    counts = np.array([_outline(plane) for plane in planes]).sum(axis=0)
    return 100.0 * float(counts[0] / counts[1]) if counts[1] else "No body was found in the slices."


def _outline(plane: Plane) -> tuple[int, int]:
    """How many blocks of the body's outline lie on the edge of the field, and how many there are."""
    inner = plane.field if plane.circle is None else plane.field & plane.circle
    edge = inner & ~ndimage.binary_erosion(inner)
    outline = plane.body & inner & ~ndimage.binary_erosion(plane.body & inner)
    return int((outline & edge).sum()), int(outline.sum())


def _of_metal(slices: Slices, body: float) -> dict[str, float | str]:
    """``metal_share`` and ``metal_streaks``; `body` is its share of all voxels, 0 to 1."""
    per_slice = _metal_per_slice(slices)
    most = [int(k) for k in np.argsort(-per_slice)[:WITH_METAL] if per_slice[k] > 0]
    if not most or body <= 0:
        return {"metal_share": 0.0, "metal_streaks": "No metal is in the body."}
    planes = [Plane(slices.values(k), _in_plane(slices), _padding(slices)) for k in most]
    masks = [(plane.hu >= METAL_HU) & plane.pixels(plane.body) for plane in planes]
    inside = sum(int(mask.sum()) for mask in masks) / max(1, int(per_slice[most].sum()))
    share = 100.0 * inside * float(per_slice.sum()) / (body * slices.volume.voxels.size)
    streaks = [s for s in map(streaks_around, planes, masks) if s is not None]
    return {
        "metal_share": min(100.0, share),
        "metal_streaks": min(4000.0, max(streaks)) if streaks else "No metal is in the body.",
    }


def _metal_per_slice(slices: Slices) -> npt.NDArray[np.int64]:
    volume = slices.volume
    if volume.slope <= 0 or not math.isfinite(volume.slope + volume.intercept):
        return np.zeros(volume.shape[0], np.int64)
    level = (METAL_HU - volume.intercept) / volume.slope
    return np.array([np.count_nonzero(plane >= level) for plane in volume.voxels])


def streaks_around(plane: Plane, metal: Mask) -> float | None:
    """Streaks around the largest piece of metal of a slice, in HU; None where there is none.

    A streak is a ray: dark or bright over a small angle, near and far alike.  So HU are averaged along rays from
    the metal in two shells, slow changes with the angle (over 30°) are taken away, and what both shells have in
    common remains: the root of their covariance, 0 where they have nothing in common.  Anatomy is no ray.
    """
    labels, count = ndimage.label(metal)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    centre = ndimage.center_of_mass(labels == 1 + int(sizes.argmax()))
    radius = math.sqrt(float(sizes.max()) / math.pi) * min(plane.spacing)
    shells = [_shell(plane, centre, radius + near, radius + far) for near, far in ((3.0, 25.0), (25.0, 50.0))]
    return math.sqrt(max(0.0, float(np.mean(shells[0] * shells[1]))))


def _shell(plane: Plane, centre: Sequence[float], near: float, far: float) -> npt.NDArray[np.float64]:
    """Mean HU along each of 360 rays between two distances in mm, without slow changes; 0 where a ray leaves."""
    angles = np.deg2rad(np.arange(360.0))[:, None]
    steps = np.arange(near, far, 1.0)[None, :]
    at = [
        c + steps * turn / mm
        for c, turn, mm in zip(centre, (np.sin(angles), np.cos(angles)), plane.spacing, strict=True)
    ]
    hu = ndimage.map_coordinates(plane.hu.clip(-300, 300), at, order=1, mode="nearest")
    body = ndimage.map_coordinates(plane.pixels(plane.body).view(np.uint8), at, order=0, mode="constant")
    rays = np.where(body.mean(axis=1) > 0.9, hu.mean(axis=1), np.nan)
    if np.isnan(rays).all():
        return np.zeros(360)
    slow = ndimage.median_filter(np.where(np.isnan(rays), np.nanmedian(rays), rays), 31, mode="wrap")
    return np.nan_to_num(rays - slow)


def of_header(slices: Slices, technique: Technique) -> dict[str, float | str]:
    """``ctdi_vol``, ``kvp``, ``mas`` and ``slice_thickness`` as the header states them."""
    parameters = technique.parameters
    stated: Mapping[str, float | str | None] = {
        "ctdi_vol": technique.stated.get("ctdi_vol"),
        "kvp": technique.stated.get("kvp", parameters.get("kvp")),
        "mas": technique.stated.get("mas", parameters.get("mas")),
        "slice_thickness": technique.stated.get(
            "slice_thickness", slices.thickness_mm or parameters.get("slice_mm")
        ),
    }
    limits = {measure.name: measure.high for measure in MEASURES}
    return {name: _sound(value, limits[name]) for name, value in stated.items()}


def _sound(value: float | str | None, high: float) -> float | str:
    """A stated number above 0; zero is how many headers say nothing."""
    if isinstance(value, str) or value is None or not 0 < value <= high:
        return "The header does not state it."
    return float(value)


def _picked(count: int) -> npt.NDArray[np.int64]:
    """Slices spread over the series, without its ends where there are many."""
    margin = count * 0.05 if count > LOOKED_AT else 0
    return np.unique(np.linspace(margin, count - 1 - margin, min(count, LOOKED_AT)).round().astype(int))


def _in_plane(slices: Slices) -> tuple[float, float]:
    """Distance of (rows, columns); 1 mm where the affine says nothing sensible."""
    i, j, _ = slices.volume.spacing_mm
    return (j, i) if 0.01 < i < 100 and 0.01 < j < 100 else (1.0, 1.0)


def _padding(slices: Slices) -> float | None:
    volume = slices.volume
    return None if volume.padding_value is None else volume.padding_value * volume.slope + volume.intercept


def _reduced(values: Floats, block: int) -> Floats:
    """Means of square blocks; what is beyond the last whole block is left out."""
    rows, columns = (side // block for side in values.shape)
    cut = values[: rows * block, : columns * block]
    return cut.reshape(rows, block, columns, block).mean(axis=(1, 3))
