"""Pictures of a CT volume's projections: squares for networks of the paper's kind, thumbnails for people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct.projections import PLANES, Image, Projections, area_weights

WINDOW = (50.0, 1000.0)
"""Level and width in HU of the networks' pictures (Yoo et al. 2022, Pre-processing)."""


def windowed(picture: Image, level: float = WINDOW[0], width: float = WINDOW[1]) -> Image:
    """`picture` in HU mapped to [0, 1] by level and width (both HU)."""
    result: Image = np.clip((picture - (level - width / 2)) / width, 0.0, 1.0).astype(np.float32)
    return result


def square(picture: Image, spacing_mm: tuple[float, float], size: int = 512) -> Image:
    """`picture` on a square of `size` pixels, with equal millimetres in both directions.

    The longer side fills the square; the rest is the picture's minimum (air).  Shrinking averages, so no
    detail aliases.

    Returns
    -------
    numpy.ndarray
        ``(size, size)`` float32, same unit as `picture`.
    """
    rows, columns = picture.shape
    height, width = rows * spacing_mm[0], columns * spacing_mm[1]
    pixel = max(height, width) / size
    shape = max(1, round(height / pixel)), max(1, round(width / pixel))
    resized = _resize_axis(_resize_axis(picture.astype(np.float32), shape[0], 0), shape[1], 1)
    out = np.full((size, size), float(picture.min()), np.float32)
    y, x = (size - shape[0]) // 2, (size - shape[1]) // 2
    out[y : y + shape[0], x : x + shape[1]] = resized[: size - y, : size - x]
    return out


def _resize_axis(picture: Image, count: int, axis: int) -> Image:
    moved = np.moveaxis(picture, axis, 0)
    old = moved.shape[0]
    if count < old:
        weights = area_weights(old, 1.0, old / count)
        result = np.asarray(weights @ moved.reshape(old, -1), dtype=np.float32).reshape(count, *moved.shape[1:])
    else:
        at = np.clip((np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        part = (at - low)[:, None].astype(np.float32)
        result = moved[low] * (1 - part) + moved[np.minimum(low + 1, old - 1)] * part
    return np.moveaxis(result, 0, axis)


def network_image(projections: Projections, conversion: str, size: int = 512) -> Image:
    """One of the nine kinds of picture, windowed and square as in the paper: ``(size, size)`` in [0, 1]."""
    plane = conversion.split("_", 1)[1]
    return windowed(square(projections.images[conversion], projections.spacing_mm[plane], size))


def thumbnails(projections: Projections, size: int = 256) -> dict[str, npt.NDArray[np.uint8]]:
    """The pictures for the analyst: mid-planes at a soft-tissue window, MIPs at the network's window."""
    shown = {plane: (f"mid_{plane}", 50.0, 450.0) for plane in PLANES}
    shown |= {f"mip_{plane}": (f"mip_{plane}", 200.0, 1300.0) for plane in ("coronal", "sagittal")}
    result = {}
    for name, (conversion, level, width) in shown.items():
        plane = conversion.split("_", 1)[1]
        picture = square(projections.images[conversion], projections.spacing_mm[plane], size)
        result[name] = (windowed(picture, level, width) * 255).astype(np.uint8)
    return result
