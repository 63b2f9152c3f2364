"""Exposure of an X-ray image: what the header states of it, and what the grey values show.

An own exposure index is not claimed: it needs raw values and the calibration of the detector (IEC 62494-1).  What
a picture shows by itself is noise, and grey values that were cut off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Radiograph
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.collimation import XRAY, Irradiated, reduced, touching_border

_IEC = "IEC 62494-1:2008"

MEASURES = (
    Measure("exposure_index", "Exposure Index", Unit.ONE, Better.NEITHER, 0, math.inf, XRAY, _IEC, with_size=True),
    Measure(
        "target_exposure_index", "Target Exposure Index", Unit.ONE, Better.NEITHER, 0, math.inf, XRAY, _IEC, False
    ),
    Measure("deviation_index", "Deviation Index", Unit.ONE, Better.NEITHER, -100, 100, XRAY, _IEC, with_size=True),
    Measure(
        "target_miss",
        "distance from the target exposure",
        Unit.ONE,
        Better.LOWER,
        0,
        100,
        XRAY,
        _IEC,
        is_logarithm=True,
    ),
    Measure(
        "deviation_index_error",
        "difference of the stated Deviation Index from that of its parts",
        Unit.ONE,
        Better.LOWER,
        0,
        math.inf,
        XRAY,
        _IEC,
        False,
    ),
    Measure("field_level", "brightness of the field", Unit.PERCENT, Better.HIGHER, 0, 100, XRAY, "own"),
    Measure("grain", "noise in the dense half of the body", Unit.PERCENT, Better.LOWER, 0, 1000, XRAY, "own"),
    Measure("black_clipped", "share of the body lost in black", Unit.PERCENT, Better.LOWER, 0, 100, XRAY, "own"),
    Measure("white_clipped", "share of the body lost in white", Unit.PERCENT, Better.LOWER, 0, 100, XRAY, "own"),
)

PIXEL_MM = 0.2
"""Noise is that of pixels of about this size: a smaller pixel counts fewer quanta."""

SMALLEST = 400
"""Below this many pixels along a side structure cannot be told from noise."""

LEVELS = 512
PEAK = 8.0
"""Grey values are cut off where the last level holds this many times what the next ones hold."""


def of_statement(stated: Mapping[str, float]) -> dict[str, float | str]:
    """What the header states of exposure, and whether its arithmetic holds.

    ``exposure_index`` (0018,1411), ``target_exposure_index`` (0018,1412) and ``deviation_index`` (0018,1413); the
    last is computed where only the others are stated.  ``deviation_index_error`` is |DI - 10 log10(EI / TEI)|: a
    rounded DI is within 0.5.  ``target_miss`` is |DI|: an index is wrong on either side, and charts call one only.
    """
    values: dict[str, float | str] = {}
    for name in ("exposure_index", "target_exposure_index", "deviation_index"):
        value = stated.get(name)
        values[name] = "The header does not state it." if value is None or not _is_sound(name, value) else value
    values |= _arithmetic(values)
    deviation = values["deviation_index"]
    return values | {"target_miss": deviation if isinstance(deviation, str) else abs(deviation)}


def _is_sound(name: str, value: float) -> bool:
    """Whether it can be such an index: vendors write numbers of their own there."""
    return math.isfinite(value) and (abs(value) <= 100 if name == "deviation_index" else value > 0)


def _arithmetic(stated: Mapping[str, float | str]) -> dict[str, float | str]:
    index, target, deviation = (
        stated[name] for name in ("exposure_index", "target_exposure_index", "deviation_index")
    )
    if isinstance(index, str) or isinstance(target, str):
        return {"deviation_index_error": "The header does not state Exposure Index and Target Exposure Index."}
    expected = deviation_index(index, target)
    if isinstance(deviation, str):
        return {
            "deviation_index": expected,
            "deviation_index_error": "The header does not state the Deviation Index.",
        }
    return {"deviation_index_error": abs(deviation - expected)}


def deviation_index(index: float, target: float) -> float:
    """Deviation Index of IEC 62494-1: 10 log10(EI / TEI); +3 is twice the target.

    Examples
    --------
    >>> round(deviation_index(400.0, 200.0), 2)
    3.01
    """
    return min(100.0, max(-100.0, 10.0 * (math.log10(index) - math.log10(target))))


def of_greys(image: Radiograph, found: Irradiated) -> dict[str, float | str]:
    """What the grey values show inside the collimator, in %.

    - ``field_level``: median grey value of the field in the range that can be stored.  Less radiation is brighter,
      more is darker, as far as the display does not make up for it.  Darker is worse: it is dose, and too little
      radiation shows as grain.
    - ``grain``: standard deviation of noise in the half of the body that let less radiation through, over the
      range of the body (5th to 95th percentile).  Noise is the median absolute diagonal Haar coefficient / 0.6745
      (Donoho 1994) of pixels of about 0.2 mm.  Quanta that are missing show here whatever the display does.
    - ``black_clipped``, ``white_clipped``: share of the body where grey values were cut off.  They are where the
      last level of the histogram stands out; white that touches the border of the image is not counted (it may be
      a collimator), nor black that is direct radiation.
    """
    level = {"field_level": _level(image, found)}
    if not found.body.any():
        return level | dict.fromkeys(
            ("grain", "black_clipped", "white_clipped"), "No body was found in the image."
        )
    return level | {"grain": _grain(image, found)} | _clipped(image, found)


def _level(image: Radiograph, found: Irradiated) -> float | str:
    width = image.highest - image.lowest
    if not (width > 0 and math.isfinite(width) and found.field.any()):
        return "The range of grey values is not known."
    share = (float(np.median(found.values[found.field])) - float(image.lowest)) / float(width)
    return min(100.0, max(0.0, 100.0 * share))


def _grain(image: Radiograph, found: Irradiated) -> float | str:
    if min(image.pixels.shape) < SMALLEST:
        return "The image is too small to tell noise from structure."
    low, middle, high = np.percentile(found.values[found.body], (5, 50, 95))
    if high <= low:
        return "The body has one grey value."
    dense = ndimage.binary_erosion(found.body & (found.values > middle))
    sigma = _haar_sigma(image, found, dense)
    return sigma if isinstance(sigma, str) else min(1000.0, 100.0 * sigma / float(high - low))


def _haar_sigma(image: Radiograph, found: Irradiated, mask: npt.NDArray[np.bool_]) -> float | str:
    """Noise of pixels of about 0.2 mm, in grey values, within a mask of blocks."""
    side = _noise_block(image)
    pixels = reduced(image.pixels, side) if side > 1 else image.pixels.astype(np.float32)
    rows, columns = (length // 2 * 2 for length in pixels.shape)
    p = pixels[:rows, :columns]
    detail = (p[::2, ::2] - p[1::2, ::2] - p[::2, 1::2] + p[1::2, 1::2]) / 2
    sizes = zip(detail.shape, mask.shape, strict=True)
    at = [np.minimum(np.arange(length) * 2 * side // found.block, blocks - 1) for length, blocks in sizes]
    inside = np.abs(detail[mask[np.ix_(*at)]])
    return float(np.median(inside)) / 0.6745 if inside.size >= 100 else "Too little of the body is in the image."


def _noise_block(image: Radiograph) -> int:
    """How many pixels make one of about 0.2 mm; by the size of the matrix where the spacing is not stated."""
    spacing = min(image.spacing_mm) if image.spacing_mm else 0.0
    if not spacing > 0:
        return int(max(1, round(max(image.pixels.shape) / 2000)))
    return int(max(1, min(round(PIXEL_MM / spacing), min(image.pixels.shape) // SMALLEST)))


def _clipped(image: Radiograph, found: Irradiated) -> dict[str, float | str]:
    """Shares of the body at the last level of either end."""
    pixels = image.pixels[: found.body.shape[0] * found.block, : found.body.shape[1] * found.block]
    low, high = _last_levels(pixels, found.full(found.padded))
    body = found.body
    total = max(int(body.sum()), 1)
    black = _share_of_blocks(pixels <= low, found.block) if low is not None else np.zeros(body.shape)
    white = _share_of_blocks(pixels >= high, found.block) if high is not None else np.zeros(body.shape)
    return {
        "black_clipped": 100.0 * float(black[body].sum()) / total,
        "white_clipped": 100.0
        * float((white * ~touching_border((white > 0.5) | found.padded))[body].sum())
        / total,
    }


def _last_levels(
    pixels: npt.NDArray[np.generic], padded: npt.NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """At most (at least) which grey value pixels are cut off at black (at white); None where they are not."""
    sample = np.nan_to_num(pixels[::2, ::2].astype(np.float32), posinf=0.0, neginf=0.0)
    sample = sample[~padded[::2, ::2]] if padded.any() and not padded.all() else sample.ravel()
    low, high = float(sample.min()), float(np.percentile(sample, 99.95))
    if not high > low:
        return None, None
    counts, edges = np.histogram(sample, bins=LEVELS, range=(low, high))
    counts[-1] += int((sample > high).sum())
    at_low, at_high = _stands_out(counts, sample.size), _stands_out(counts[::-1], sample.size)
    return (float(edges[1]) if at_low else None), (float(edges[-2]) if at_high else None)


def _stands_out(counts: npt.NDArray[np.int64], total: int) -> bool:
    """Whether the first level holds a thousandth of the pixels and far more than those after it."""
    return bool(counts[0] > total / 1000 and counts[0] > PEAK * counts[2:12].mean())


def _share_of_blocks(mask: npt.NDArray[np.bool_], block: int) -> npt.NDArray[np.float32]:
    return reduced(mask.view(np.uint8), block)
