"""Where an X-ray image was irradiated: borders of the collimator, direct radiation, the body between them.

All of it is found on an image of block means, because none of it is a matter of fine detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.domain.measurable import Radiograph
from qc_node.domain.measure import Better, Measure, Unit

XRAY = frozenset({"CR", "DX", "MG"})

MEASURES = (
    Measure("field_share", "irradiated share of the image", Unit.PERCENT, Better.NEITHER, 0, 100, XRAY, "own"),
    Measure("direct_share", "direct radiation in the field", Unit.PERCENT, Better.NEITHER, 0, 100, XRAY, "own"),
)

NOTHING = "Nothing in the image was irradiated."

REDUCED = 256
"""Longest side of the image of block means, at most about this."""

TILTS = np.tan(np.deg2rad(np.arange(-12, 13, 2)))
"""How far a collimator may be rotated."""

STEP = 0.08
"""A border of the collimator is a step of at least this share of the range of grey values …"""

ALONG = 0.6
"""… along at least this share of its length …"""

WITHIN = 0.45
"""… and no farther inside the image than this."""

BRIGHT = 0.5
"""What is outside the collimator is brighter than this share of the range of grey values."""

DARK = 0.12
"""Direct radiation is darker than this share of the range of grey values."""

RIM = 3
"""At its border, within this many blocks, direct radiation is not smooth."""

SMOOTH = 0.04
"""Neighbouring blocks differ by less than this share of the range in direct radiation."""


@dataclass(frozen=True, eq=False)
class Irradiated:
    """What is where in an X-ray image; masks and values of block means, all of one shape.

    Attributes
    ----------
    block
        Side of a block in pixels.
    values
        Block means.
    field
        Inside the collimator.
    direct
        Inside the field and not behind the body.
    padded
        Padding that reaches the border of the image: a shutter, no evidence of exposure.
    """

    block: int
    values: npt.NDArray[np.float32]
    field: npt.NDArray[np.bool_]
    direct: npt.NDArray[np.bool_]
    padded: npt.NDArray[np.bool_]

    @property
    def body(self) -> npt.NDArray[np.bool_]:
        """Well inside the field and behind the body."""
        return np.asarray(self.inner & ~ndimage.binary_dilation(self.direct), bool)

    @property
    def inner(self) -> npt.NDArray[np.bool_]:
        """The field without the borders of the collimator."""
        return np.asarray(ndimage.binary_erosion(self.field, iterations=4, border_value=1), bool)

    def full(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask of blocks, one value for each pixel; pixels beyond the last whole block are left out."""
        return mask.repeat(self.block, axis=0).repeat(self.block, axis=1)


def irradiated(image: Radiograph, collimated: bool = True) -> Irradiated:
    """Field, direct radiation and body of an X-ray image.

    Parameters
    ----------
    collimated
        Whether borders of a collimator may be in view; they are not in mammograms, whose breast looks like one.
    """
    block = max(1, round(max(image.pixels.shape) / REDUCED))
    values = reduced(image.pixels, block)
    padded = _padded(image, block)
    low, high = _grey_range(values[~padded] if not padded.all() else values)
    scaled = np.where(padded, np.float32(0), (values - low) / max(high - low, 1e-6))
    field = (_field(scaled) if collimated else np.ones(scaled.shape, bool)) & ~padded
    return Irradiated(block, values, field, _direct(scaled, field), padded)


def _padded(image: Radiograph, block: int) -> npt.NDArray[np.bool_]:
    """Blocks of padding and those beside; only what reaches the border, for air may have its value too."""
    if image.padding is None:
        return np.zeros(tuple(max(1, side // block) for side in image.pixels.shape), bool)
    empty = (image.pixels >= image.padding[0]) & (image.pixels <= image.padding[1])
    reaching = touching_border(reduced(empty.view(np.uint8), block) >= 0.5)
    return np.asarray(ndimage.binary_dilation(reaching), bool)


def touching_border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Regions of a mask that touch the border of the image."""
    labels, _ = ndimage.label(mask)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, rim[rim > 0])


def of_field(found: Irradiated) -> dict[str, float | str]:
    """``field_share`` and ``direct_share``, both 0 to 100 %."""
    inside = int(found.field.sum())
    return {
        "field_share": 100.0 * inside / max(found.field.size, 1),
        "direct_share": 100.0 * int(found.direct.sum()) / inside if inside else NOTHING,
    }


def reduced(pixels: npt.NDArray[np.generic], block: int) -> npt.NDArray[np.float32]:
    """Means of square blocks ``(J // block, I // block)``; what is not finite counts as 0."""
    rows, columns = (max(1, side // block) for side in pixels.shape)
    cut = pixels[: rows * block, : columns * block]
    if not np.issubdtype(cut.dtype, np.integer):
        cut = np.nan_to_num(cut.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if min(pixels.shape) < block:
        return np.full((rows, columns), cut.mean() if cut.size else 0.0, np.float32)
    sums = np.add.reduceat(cut, np.arange(0, columns * block, block), axis=1, dtype=np.float32)
    sums = np.add.reduceat(sums, np.arange(0, rows * block, block), axis=0, dtype=np.float32)
    return np.asarray(sums / np.float32(block**2), np.float32)


def _grey_range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)


def _field(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Inside all four borders; an image without borders is all field."""
    field = np.ones(scaled.shape, bool)
    if min(scaled.shape) < 48:
        return field
    for turns in range(4):
        turned = np.rot90(scaled, turns)
        field &= np.rot90(_right_of_border(turned), -turns)
    return field


def _right_of_border(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """What lies right of the left border of the collimator: bright and quiet outside, a step along a line."""
    rows, columns = scaled.shape
    reach = int(columns * WITHIN)
    smooth = ndimage.uniform_filter1d(scaled, 3, axis=0)
    step = np.zeros_like(scaled)
    step[:, 2:-2] = smooth[:, :-4] - smooth[:, 4:]
    candidates = [(_steps_along(step, tilt, reach), tilt) for tilt in TILTS]
    share, offset, tilt = max((float(s.max()), int(s.argmax()), float(t)) for s, t in candidates)
    everything = np.ones(scaled.shape, bool)
    if share < ALONG:
        return everything
    inside = np.arange(columns)[None, :] > offset + tilt * (np.arange(rows)[:, None] - rows / 2) + 1
    return inside if _is_shadow(scaled, inside) else everything


def _steps_along(step: npt.NDArray[np.float32], tilt: float, reach: int) -> npt.NDArray[np.float64]:
    """For each offset of a line, along which share of it the grey value steps down."""
    rows, columns = step.shape
    shift = np.rint(tilt * (np.arange(rows) - rows / 2)).astype(int)
    at = np.arange(reach)[None, :] + shift[:, None]
    seen = (at >= 0) & (at < columns)
    stepped = step[np.arange(rows)[:, None], at.clip(0, columns - 1)] > STEP
    enough = seen.sum(axis=0) >= rows / 2
    return np.where(enough, (stepped & seen).sum(axis=0) / np.maximum(seen.sum(axis=0), 1), 0.0)


def _is_shadow(scaled: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> bool:
    """Whether what is outside a line is a collimator's shadow: bright, and brighter than what is next to it."""
    outside = scaled[~inside]
    beside = scaled[inside & ndimage.binary_dilation(~inside, iterations=10)]
    if outside.size == 0 or beside.size == 0:
        return False
    return bool(np.median(outside) > max(BRIGHT, np.median(beside) + STEP))


def _direct(scaled: npt.NDArray[np.float32], field: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Dark, smooth regions that touch the border of the field, with their rim where it is as dark."""
    dark = field & (scaled < DARK)
    quiet = ndimage.gaussian_gradient_magnitude(scaled, 1.0) < SMOOTH
    labels, _ = ndimage.label(dark & quiet)
    edge = field & ~ndimage.binary_erosion(field, iterations=2)
    names = np.unique(labels[edge])
    direct = np.isin(labels, names[names > 0])
    return ndimage.binary_dilation(direct, iterations=RIM, mask=dark) if direct.any() else direct
