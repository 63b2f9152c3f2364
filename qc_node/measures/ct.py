"""Measures of CT: noise, HU of known tissues, metal and its streaks, a body cut by the field of view, stated dose.

Noise, tissues and outline are measured in at most :data:`LOOKED_AT` slices spread over the series; metal is
counted in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.domain.technique import Technique
from qc_node.measures.ct_metal import CT, METAL_HU, METAL_MEASURES, of_metal
from qc_node.measures.ct_slices import SMALLEST, CtSlice, Floats, Mask, ct_slice

_CHRISTIANSON = "Christianson et al. 2015, doi 10.2214/AJR.14.13613; soft tissue by local means"
_TG204 = "AAPM Report 204: of a circle with the body's area"
_HEADER = "header"

MEASURES = (
    Measure("noise_hu", "noise", Unit.HU, Better.LOWER, 0, 2000, CT, _CHRISTIANSON, with_size=True),
    Measure("air_hu", "air outside the body", Unit.HU, Better.NEITHER, -1100, -900, CT, "own"),
    Measure("fat_hu", "fat", Unit.HU, Better.NEITHER, -150, -50, CT, "own", with_size=True),
    Measure("muscle_hu", "muscle or brain", Unit.HU, Better.NEITHER, 20, 110, CT, "own", with_size=True),
    *METAL_MEASURES,
    Measure("cut_outline", "outline of the body beyond the field", Unit.PERCENT, Better.LOWER, 0, 100, CT, "own"),
    Measure(
        "body_diameter", "effective diameter of the body", Unit.MM, Better.NEITHER, 0, 5000, CT, _TG204, False
    ),
    Measure("ctdi_vol", "CTDIvol", Unit.MGY, Better.NEITHER, 0, 10_000, CT, _HEADER, with_size=True),
    Measure("kvp", "tube voltage", Unit.KV, Better.NEITHER, 0, 1000, CT, _HEADER, False),
    Measure("mas", "exposure", Unit.MAS, Better.NEITHER, 0, 100_000, CT, _HEADER, False),
    Measure("slice_thickness", "slice thickness", Unit.MM, Better.NEITHER, 0, 1000, CT, _HEADER, False),
)

LOOKED_AT = 24
WINDOW_MM = 6.0
"""Side of the window of local means and standard deviations (Christianson 2015)."""

FEWEST = 200
"""Fewer places than this give no mode."""


def of_ct(slices: Slices, technique: Technique) -> dict[str, float | str]:
    """All measures of a CT series; a sentence where one has no value.

    - ``noise_hu``: the mode of the standard deviations in windows of 6 mm of soft tissue (0 to 170 HU).  Here the
      *mean of the window* lies in that range (in the paper each voxel, which noise itself moves out of it), and
      the mode is corrected for the few voxels of a window as for white noise, by 7 % at most.
    - ``air_hu``, ``fat_hu``, ``muscle_hu``: modes; expected about -1000; -115 to -85; 45 to 70, brain 30 to 40
      (120 kV).  Muscle is the lowest peak of quiet soft tissue: organs that take up contrast agent lie above it.
    - ``metal_share``: voxels above 3000 HU inside the body, in % of the body.
    - ``metal_streaks``: how far HU vary with the angle around metal, alike 3-25 mm and 25-50 mm from it.
    - ``cut_outline``: share of the body's outline that lies on the edge of the reconstructed field.
    - ``body_diameter``: median over slices; noise and dose depend on it.
    - ``ctdi_vol``, ``kvp``, ``mas``, ``slice_thickness``: as stated by the header.
    """
    planes = [ct_slice(slices, k) for k in _picked(slices.volume.shape[0])]
    planes = [plane for plane in planes if min(plane.hu.shape) >= SMALLEST]
    stated = of_header(slices, technique)
    if not planes:
        return stated | {m.name: "The slices are too small." for m in MEASURES if m.source != _HEADER}
    body = float(np.mean([plane.body.mean() for plane in planes]))
    return {
        **stated,
        **of_tissue(planes),
        "air_hu": _air(planes),
        "cut_outline": _cut_outline(planes),
        "body_diameter": _diameter(planes),
        **of_metal(slices, body),
    }


def of_tissue(planes: Sequence[CtSlice]) -> dict[str, float | str]:
    """``noise_hu``, ``fat_hu`` and ``muscle_hu`` from windows of 6 mm in the body."""
    means, deviations = (np.concatenate(each) for each in zip(*(_windows(plane) for plane in planes), strict=True))
    noise = _noise(deviations[(means > 0) & (means < 170) & (deviations > 0)])
    quiet = deviations < (1.5 * noise if not isinstance(noise, str) else np.inf)
    return {
        "noise_hu": noise if isinstance(noise, str) else min(2000.0, noise * _bias(planes[0])),
        "fat_hu": _lowest_peak(means[quiet], (-150, -50), "fat"),
        "muscle_hu": _lowest_peak(means[quiet], (20, 110), "soft tissue"),
    }


def _windows(plane: CtSlice) -> tuple[Floats, Floats]:
    """Means and standard deviations of the windows that lie in the body."""
    side = _side(plane)
    centred = plane.hu.clip(-1024, METAL_HU) - np.float32(50)
    mean = ndimage.uniform_filter(centred, side)
    square = ndimage.uniform_filter(centred * centred, side)
    inside = plane.pixels(ndimage.binary_erosion(plane.body))
    count = side * side
    variance = np.maximum(square[inside] - mean[inside] ** 2, 0) * (count / (count - 1))
    return mean[inside] + np.float32(50), np.sqrt(np.where(variance > 1e-2, variance, 0))


def _side(plane: CtSlice) -> int:
    """Side of a window in pixels, 3 to 15."""
    return int(np.clip(round(WINDOW_MM / max(float(np.mean(plane.spacing)), 0.05)), 3, 15))


def _bias(plane: CtSlice) -> float:
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


def _air(planes: Sequence[CtSlice]) -> float | str:
    """Most frequent HU of blocks outside the body and at least three blocks from it."""
    found = np.concatenate([plane.blocks[_outside(plane)] for plane in planes])
    written = found == planes[0].hu[0, 0]
    found = found[(found < -900) & (found > -1100) & ~written]
    if found.size < FEWEST:
        return (
            "The air was overwritten with one value." if written.any() else "Too little air is outside the body."
        )
    return _mode(found, (-1100, -900))


def _outside(plane: CtSlice) -> Mask:
    apart = ~ndimage.binary_dilation(plane.body, iterations=3)
    inner = plane.circle if plane.circle is not None else np.ones_like(plane.field)
    return np.asarray(apart & ndimage.binary_erosion(plane.field & inner, iterations=2), bool)


def _cut_outline(planes: Sequence[CtSlice]) -> float | str:
    """Share of the outlines on the edge of matrix, padding or circle."""
    counts = np.array([_outline(plane) for plane in planes]).sum(axis=0)
    return 100.0 * float(counts[0] / counts[1]) if counts[1] else "No body was found in the slices."


def _diameter(planes: Sequence[CtSlice]) -> float | str:
    """Diameter in mm of a circle with the area of the body, median over the slices that have one."""
    areas = [int(plane.body.sum()) * plane.block**2 * plane.spacing[0] * plane.spacing[1] for plane in planes]
    found = [2 * math.sqrt(area / math.pi) for area in areas if area > 0]
    return min(5000.0, float(np.median(found))) if found else "No body was found in the slices."


def _outline(plane: CtSlice) -> tuple[int, int]:
    """How many blocks of the body's outline lie on the edge of the field, and how many there are."""
    inner = plane.field if plane.circle is None else plane.field & plane.circle
    edge = inner & ~ndimage.binary_erosion(inner)
    outline = plane.body & inner & ~ndimage.binary_erosion(plane.body & inner)
    return int((outline & edge).sum()), int(outline.sum())


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
