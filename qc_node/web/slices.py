"""Slices of a stored series: as pictures, and as numbers that a page windows itself, in three planes.

Numbers travel as unsigned 16 bit, little-endian, row by row; ``value = number * step + least`` (Hounsfield units
in CT, stored values elsewhere).  Every stored slice keeps its resolution (up to :data:`MAX_SIDE`); the two other
planes are cut through a block whose slices are thinned to :data:`BLOCK_SIDE`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset

from qc_node.spool import Spool

MAX_SIDE = 1024
BLOCK_SIDE = 256
"""Most rows or columns of a slice in the block: 300 slices of a CT take 40 MB."""
MOST_SLICES = 1500
PLANES = ("sagittal", "coronal", "axial")
"""The plane across each axis of the patient: left, posterior, head."""
HU_WINDOWS: Mapping[str, tuple[float, float]] = {
    "brain": (0.0, 80.0),
    "soft": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1500.0),
    "air": (-1050.0, -850.0),
}
"""Usual windows of a CT (low, high); ``air`` shows what is outside the patient."""


@dataclass(frozen=True)
class PictureStack:
    """A series in slice order.

    Attributes
    ----------
    slices
        Spool name and frame of each.
    window
        (low, high) in values, one for all slices.
    windows
        Others by name; ``air`` shows what is outside the body.
    least, step
        How a value is made of a number.
    axes
        Directions of columns, rows and slices in the patient (LPS), each a unit vector; None where not known.
    spacing
        Millimetres from column to column, row to row, slice to slice.
    """

    slices: tuple[tuple[str, int], ...]
    window: tuple[float, float]
    windows: tuple[tuple[str, tuple[float, float]], ...] = ()
    least: float = 0.0
    step: float = 1.0
    axes: tuple[tuple[float, ...], ...] | None = None
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def plane(self) -> str | None:
        """The plane that the stored slices lie in, to the nearest."""
        return None if self.axes is None else PLANES[_order(self.axes)[2]]


def read_stack(spool: Spool, names: Sequence[str]) -> PictureStack:
    """The slices of a series in order of position, with windows that suit its middle.

    Files that cannot be read, or that hold no greyscale image, are left out; people judge what is there.
    """
    return _read_stack(spool.root.as_posix(), tuple(names))


@lru_cache(maxsize=16)
def _read_stack(root: str, names: tuple[str, ...]) -> PictureStack:
    found: list[tuple[float, str, int]] = []
    first: Dataset | None = None
    least, most = np.inf, -np.inf
    for name in names:
        try:
            ds = pydicom.dcmread(f"{root}/{name}", stop_before_pixels=True)
            frames = int(ds.get("NumberOfFrames", 1) or 1)
            if int(ds.get("SamplesPerPixel", 1) or 1) == 1:
                place = _place(ds)
                low, high = _range(ds)
                least, most = min(least, low), max(most, high)
                first = ds if first is None else first
                found += [(place + frame, name, frame) for frame in range(frames)]
        except Exception:
            continue
    found.sort()
    slices = tuple((name, frame) for _, name, frame in found[:MOST_SLICES])
    if not slices or first is None:
        return PictureStack((), (0.0, 1.0))
    try:
        pixels = _pixels(root, *slices[len(slices) // 2])
    except Exception:
        return PictureStack((), (0.0, 1.0))  # not decodable here: the mid-planes are all there is to see
    low, high = (float(v) for v in np.percentile(pixels, [0.5, 99.7]))
    high = max(high, low + 1e-6)
    windows = HU_WINDOWS if first.get("Modality") == "CT" else {"air": _air(pixels, low, high)}
    step = max(1.0, (most - least) / 65535)
    axes, spacing = _axes(first, sorted({place for place, _, _ in found}))
    return PictureStack(slices, (low, high), tuple(windows.items()), float(least), step, axes, spacing)


def _air(pixels: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """A window for what is outside the head: its frame's noise well inside it, tissue far above."""
    rim = max(1, min(pixels.shape) // 16)
    frame = np.concatenate([pixels[:rim].ravel(), pixels[-rim:].ravel(), pixels[:, :rim].ravel()])
    noise = float(np.percentile(frame, 95)) - low
    return low, low + min(max(3 * noise, 0.04 * (high - low)), 0.25 * (high - low))


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


def describe(stack: PictureStack) -> dict[str, Any]:
    """What a page must know to show a stack: planes, how many slices each has, windows, how values are made.

    ``planes`` is in the order in which they are offered, the stored one first; ``stored`` where nothing says how
    the slices lie.
    """
    planes: dict[str, int] = {}
    if stack.slices:
        planes[stack.plane or "stored"] = len(stack.slices)
    return {
        "planes": planes,
        "others": [p for p in reversed(PLANES) if p != stack.plane]
        if stack.axes and len(stack.slices) > 3
        else [],
        "window": list(stack.window),
        "windows": [{"name": name, "low": low, "high": high} for name, (low, high) in stack.windows],
        "least": stack.least,
        "step": stack.step,
        "unit": "HU" if len(stack.windows) > 1 else "",
    }


def numbers(spool: Spool, stack: PictureStack, plane: str, number: int) -> tuple[np.ndarray, float, int]:
    """One slice of a plane as uint16 (rows, columns), the height of a pixel in widths, and how many there are.

    Axial as seen from the feet, coronal from the front, sagittal from the left; slices from the feet (right,
    front) on.

    Raises
    ------
    IndexError
        There is no such slice or plane.
    OSError
        Its file is gone.
    """
    root = spool.root.as_posix()
    if plane == (stack.plane or "stored"):
        backwards = stack.axes is not None and stack.axes[2][_order(stack.axes)[2]] < 0
        pixels = _pixels(root, *(stack.slices[::-1] if backwards else stack.slices)[number])
        every = -(-max(pixels.shape) // MAX_SIDE)
        found = _as_numbers(stack, pixels[::every, ::every])
        turned, (across, down) = _upright(found, stack.axes, stack.spacing[:2])
        return turned, down / across, len(stack.slices)
    if stack.axes is None or plane not in PLANES:
        raise IndexError(plane)
    block, spacing = _block(root, stack)  # axes: head, posterior, left
    axis = 2 - PLANES.index(plane)
    if not 0 <= number < block.shape[axis]:
        raise IndexError(number)
    cut = np.take(block, number, axis)
    across, down = (s for n, s in enumerate(spacing[::-1]) if n != 2 - axis)
    return (cut if plane == "axial" else cut[::-1]), down / across, block.shape[axis]


@lru_cache(maxsize=2)
def _block(root: str, stack: PictureStack) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The whole series, axes (head, posterior, left) in increasing direction, and millimetres along each."""
    assert stack.axes is not None
    slices, every = [], 1
    for name, frame in stack.slices:
        pixels = _pixels(root, name, frame)
        every = -(-max(pixels.shape) // BLOCK_SIDE)
        slices.append(_as_numbers(stack, pixels[::every, ::every]))
    block = np.stack(slices).transpose(2, 1, 0)  # columns, rows, slices
    spacing = [stack.spacing[0] * every, stack.spacing[1] * every, stack.spacing[2]]
    order = _order(stack.axes)
    for n, axis in enumerate(stack.axes):
        if axis[order[n]] < 0:
            block = np.flip(block, n)
    places = [order.index(patient) for patient in (2, 1, 0)]
    return block.transpose(places), (spacing[places[0]], spacing[places[1]], spacing[places[2]])


def _upright(
    cut: np.ndarray, axes: tuple[tuple[float, ...], ...] | None, spacing: Sequence[float]
) -> tuple[np.ndarray, tuple[float, float]]:
    """A stored slice turned as :func:`numbers` shows its plane, with its spacing across and down."""
    across, down = spacing
    if axes is None:
        return cut, (across, down)
    order = _order(axes)
    for n, array_axis in ((0, 1), (1, 0)):
        if axes[n][order[n]] < 0:
            cut = np.flip(cut, array_axis)
    if order[0] > order[1]:  # columns run along the later axis of (left, posterior, head)
        cut, across, down = cut.T, down, across
    return (cut[::-1] if order[2] != 2 else cut), (across, down)


def _order(axes: tuple[tuple[float, ...], ...]) -> list[int]:
    """Which axis of the patient (0 left, 1 posterior, 2 head) each axis of the stack runs along, each once."""
    left = np.abs(np.array(axes))
    order = [0, 0, 0]
    for _ in range(3):
        mine, patient = np.unravel_index(int(np.argmax(left)), (3, 3))
        order[int(mine)] = int(patient)
        left[mine, :] = -1
        left[:, patient] = -1
    return order


def _axes(
    ds: Dataset, places: Sequence[float]
) -> tuple[tuple[tuple[float, ...], ...] | None, tuple[float, float, float]]:
    """Directions and distances of a stack (:class:`PictureStack`)."""
    orientation, spacing = ds.get("ImageOrientationPatient"), ds.get("PixelSpacing")
    down, across = (float(s) for s in spacing) if spacing is not None and len(spacing) == 2 else (1.0, 1.0)
    apart = float(np.median(np.diff(places))) if len(places) > 1 else 1.0
    distances = (across, down, apart)
    if orientation is None or len(orientation) != 6 or ds.get("ImagePositionPatient") is None:
        return None, distances
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    axes = (row, column, np.cross(row, column))
    return tuple(tuple(float(v) for v in axis) for axis in axes), distances


def _range(ds: Dataset) -> tuple[float, float]:
    """The least and greatest value that the pixels of a file can have."""
    bits, signed = int(ds.get("BitsStored", 16)), bool(ds.get("PixelRepresentation", 0))
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = _rescale(ds)
    values = [slope * end + intercept for end in ends]
    if ds.get("PhotometricInterpretation") == "MONOCHROME1":
        values = [-v for v in values]
    return min(values), max(values)


def _rescale(ds: Dataset) -> tuple[float, float]:
    """Slope and intercept, where they give Hounsfield units; other modalities keep what is stored."""
    if ds.get("Modality") != "CT":
        return 1.0, 0.0
    return float(ds.get("RescaleSlope", 1) or 1), float(ds.get("RescaleIntercept", 0) or 0)


def _as_numbers(stack: PictureStack, values: np.ndarray) -> np.ndarray:
    scaled = np.clip(np.rint((values - stack.least) / stack.step), 0, 65535)
    found: np.ndarray = scaled.astype("<u2")
    return found


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
    slope, intercept = _rescale(ds)
    values: np.ndarray = pixels.astype(np.float32) * slope + intercept
    return -values if ds.get("PhotometricInterpretation") == "MONOCHROME1" else values
