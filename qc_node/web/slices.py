"""Slices of a stored series as pictures, for a rater who scrolls."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset

from qc_node.spool import Spool

MAX_SIDE = 1024


@dataclass(frozen=True)
class PictureStack:
    """A series in slice order; ``window`` is (low, high) in stored values, one for all slices."""

    slices: tuple[tuple[str, int], ...]
    window: tuple[float, float]


def read_stack(spool: Spool, names: Sequence[str]) -> PictureStack:
    """The slices of a series in order of position, with a window that suits its middle.

    Files that cannot be read, or that hold no greyscale image, are left out; the rater judges what is there.
    """
    return _read_stack(spool.root.as_posix(), tuple(names))


@lru_cache(maxsize=16)
def _read_stack(root: str, names: tuple[str, ...]) -> PictureStack:
    found: list[tuple[float, str, int]] = []
    for name in names:
        try:
            ds = pydicom.dcmread(f"{root}/{name}", stop_before_pixels=True)
            frames = int(ds.get("NumberOfFrames", 1) or 1)
            if int(ds.get("SamplesPerPixel", 1) or 1) == 1:
                place = _place(ds)
                found += [(place + frame, name, frame) for frame in range(frames)]
        except Exception:
            continue
    found.sort()
    slices = tuple((name, frame) for _, name, frame in found)
    window = (0.0, 1.0)
    if slices:
        try:
            pixels = _pixels(root, *slices[len(slices) // 2])
            low, high = np.percentile(pixels, [0.5, 99.7])
            window = (float(low), max(float(high), float(low) + 1e-6))
        except Exception:
            slices = ()  # not decodable here: the mid-planes are all there is to see
    return PictureStack(slices, window)


def render(spool: Spool, stack: PictureStack, number: int) -> bytes:
    """One slice as PNG.

    Raises
    ------
    IndexError
        There is no such slice.
    OSError
        Its file is gone.
    """
    name, frame = stack.slices[number]
    pixels = _pixels(spool.root.as_posix(), name, frame)
    low, high = stack.window
    grey = (np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(grey)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _place(ds: Dataset) -> float:
    position, orientation = ds.get("ImagePositionPatient"), ds.get("ImageOrientationPatient")
    if position is not None and orientation is not None and len(position) == 3 and len(orientation) == 6:
        row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
        return float(np.dot(np.cross(row, column), np.array(position, float)))
    return float(ds.get("InstanceNumber", 0) or 0)


def _pixels(root: str, name: str, frame: int) -> np.ndarray:
    ds = pydicom.dcmread(f"{root}/{name}")
    pixels = ds.pixel_array
    if pixels.ndim == 3:
        pixels = pixels[frame]
    values: np.ndarray = pixels.astype(np.float32)
    return -values if ds.get("PhotometricInterpretation") == "MONOCHROME1" else values
