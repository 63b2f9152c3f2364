"""Pixels that models may learn from, of series that no classifier takes: three pictures at most, and nothing else.

Grey pictures keep their stored values in 16 bits, colour ones have 8 bits for each of red, green and blue; the
longer side is at most :data:`LONGEST` pixels.  Names, dates and numbers of the patient are in the header, which is
left behind, or burned into the pixels: so nothing is kept where that is not ruled out (:func:`_burned_in`).
A head or a face may be recognisable in what is kept.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import SecondaryCaptureImageStorage

from qc_node.engine.own_faults import own_fault, raised_by_machine
from qc_node.series.headers.routing import REPORT_TYPES
from qc_node.series.raw_header import read_dataset
from qc_node.series.volume.instances import Frame, Instance, PixelFormat, single_frame
from qc_node.series.volume.pixels import GREY, FrameReader, check_pixels, stored_range
from qc_node.series.volume.stack import OpenedSeries

log = logging.getLogger("qc_node.engine")

LONGEST = 512
"""Pixels of the longer side at most."""
PICTURES = 3
"""Of one series at most, evenly along its slices, images or frames."""
MOST_BYTES = 1 << 28
"""Colour objects of more than 256 MB are not read for a picture."""
WITHOUT_TEXT = frozenset({"MR", "CT", "CR", "DX", "MG", "PX", "IO", "PT", "NM"})
"""Modalities that write no text into original pixels.  All others must say so: Burned In Annotation NO; and so
must what was made after the examination (SECONDARY in Image Type (0008,0008)): summaries of workstations."""
ULTRASOUND = frozenset({"US", "IVUS"})
SECONDARY_CAPTURE = str(SecondaryCaptureImageStorage)
"""SOP class, and the root of its multi-frame kinds (PS3.4 B.5)."""

Picture = npt.NDArray[Any]


def is_sampled(key: bytes, series_uid: str, share: float) -> bool:
    """Whether a series is in the sample: always the same answer, which nobody without the key can foresee."""
    drawn = hashlib.blake2b(series_uid.encode("utf-8", "surrogateescape"), digest_size=8, key=key, person=b"kept")
    return int.from_bytes(drawn.digest(), "big") < share * 2**64


def pictures_file(opened: OpenedSeries) -> bytes | None:
    """The file (npz) of the pictures of a series; None where nothing may be kept, or can be decoded.

    Arrays are called ``picture_0``, …; ``spacing_mm`` has a row (between columns, between rows) for each, NaN
    where it is not stated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _pictures(opened)
    except Exception as error:
        if own_fault(error) is not None:
            raise raised_by_machine(error) from None
        log.info("no picture of a series is kept (%s)", type(error).__name__)
        return None
    if not found:
        return None
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"picture_{n}": picture for n, (picture, _) in enumerate(found)}
    np.savez_compressed(buffer, spacing_mm=np.array([spacing for _, spacing in found], np.float32), **arrays)
    return buffer.getvalue()


def _pictures(opened: OpenedSeries) -> list[tuple[Picture, tuple[float, float]]]:
    if opened.patient_conflict:
        return []
    reader, out = FrameReader(), []
    for frame in _chosen(_frames(opened)):
        header = read_dataset(frame.instance.path)
        if _burned_in(opened.modality, frame.instance, header):
            return []
        picture = _read(reader, frame)
        if opened.modality in ULTRASOUND:
            blanked = _inside_regions(picture, header)
            if blanked is None:
                return []
            picture = blanked
        small = smaller(picture)
        out.append((small, _spacing(frame, picture.shape[0] / small.shape[0])))
    return out


def _frames(opened: OpenedSeries) -> Sequence[Frame]:
    """Every picture of a series: its slices where they make a stack, else each frame of each image."""
    if opened.stack is not None:
        return opened.stack.present
    frames: list[Frame] = []
    for image in opened.images:
        if image.pixels is not None and image.pixel_tag:
            first = single_frame(image)
            frames += [_numbered(first, n) for n in range(image.frames)]
    return frames


def _numbered(first: Frame, number: int) -> Frame:
    return Frame(
        first.instance,
        number,
        first.rows,
        first.columns,
        first.position,
        first.orientation,
        first.spacing,
        first.slope,
        first.intercept,
        first.keys,
    )


def _chosen(frames: Sequence[Frame]) -> list[Frame]:
    """Three of them, at a quarter, the half and three quarters; all where there are no more."""
    if len(frames) <= PICTURES:
        return list(frames)
    return [frames[(n + 1) * len(frames) // (PICTURES + 1)] for n in range(PICTURES)]


# -- what may be kept ----------------------------------------------------------------------------------
def _burned_in(modality: str, image: Instance, header: Dataset) -> bool:
    """Whether text of a patient may be in the pixels: Burned In Annotation (0028,0301), else what wrote them."""
    stated = str(header.get("BurnedInAnnotation") or "").strip().upper()
    if stated:
        return stated != "NO"
    sop = image.ref.sop_class_uid
    captured = sop == SECONDARY_CAPTURE or sop.startswith(f"{SECONDARY_CAPTURE}.")
    captured = captured or "ConversionType" in header or bool(REPORT_TYPES & set(image.image_type))
    captured = captured or image.image_type[1:2] == ("SECONDARY",)
    coloured = image.pixels is not None and image.pixels.photometric not in GREY
    return captured or coloured or modality not in WITHOUT_TEXT


def _inside_regions(picture: Picture, header: Dataset) -> Picture | None:
    """The picture, black outside Sequence of Ultrasound Regions (0018,6011); None where that says nothing."""
    inside = np.zeros(picture.shape[:2], bool)
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        left, top = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
        right, bottom = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
        inside[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
    if not inside.any():
        return None
    out = picture.copy()
    out[~inside] = 0
    return out


# -- pixels --------------------------------------------------------------------------------------------
def _read(reader: FrameReader, frame: Frame) -> Picture:
    pixels = frame.instance.pixels
    assert pixels is not None
    if pixels.samples == 1 and pixels.photometric in GREY:
        check_pixels(frame.instance)
        grey = np.array(reader.read(frame))
        return grey if pixels.photometric != "MONOCHROME1" else _inverted(grey, pixels)
    if frame.instance.raw.pixel_length > MOST_BYTES:
        raise ValueError("too large")
    ds = read_dataset(frame.instance.path, pixels=True)
    picture = pixel_array(ds, index=frame.number)
    if pixels.photometric == "PALETTE COLOR":
        picture = apply_color_lut(picture, ds)
    if picture.dtype.itemsize > 1:
        picture = picture >> 8 * (picture.dtype.itemsize - 1)
    return picture.astype(np.uint8)


def _inverted(grey: Picture, pixels: PixelFormat) -> Picture:
    """A higher value is shown brighter, as in all others; within what Bits Stored (0028,0101) allows."""
    if grey.dtype.kind == "f":
        return np.asarray(-grey)
    low, high = stored_range(pixels)
    return ((low + high) - grey.astype(np.int64)).astype(grey.dtype)


def smaller(picture: Picture) -> Picture:
    """At most :data:`LONGEST` pixels along the longer side, in at most 16 bits.

    Stored integers of 16 bits or less are kept as they are, apart from the mean of those that fall together.
    """
    factor = max(picture.shape[:2]) / LONGEST
    values = picture if factor <= 1 else _resampled(picture, factor)
    if picture.dtype.kind in "iu" and picture.dtype.itemsize <= 2:
        return np.ascontiguousarray(np.rint(values).astype(picture.dtype))
    finite = np.where(np.isfinite(values), values, 0).astype(np.float64)
    low, high = float(finite.min()), float(finite.max())
    return np.rint((finite - low) * (65535 / (high - low) if high > low else 0.0)).astype(np.uint16)


def _resampled(picture: Picture, factor: float) -> npt.NDArray[np.float32]:
    """By the mean of the pixels that each new one covers, along rows and columns."""
    rows, columns = (max(1, math.floor(side / factor + 0.5)) for side in picture.shape[:2])
    return _fewer_columns(_fewer_rows(picture, rows), columns)


def _fewer_columns(picture: Picture, new: int) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(_fewer_rows(picture.swapaxes(0, 1), new).swapaxes(0, 1))


def _fewer_rows(picture: Picture, new: int) -> npt.NDArray[np.float32]:
    """Each new row from the rows that it covers, one by one: a copy of 60 million pixels in floats is 480 MB."""
    old = len(picture)
    edges = np.linspace(0, old, new + 1)
    out = np.empty((new, *picture.shape[1:]), np.float32)
    for n, (begin, end) in enumerate(pairwise(edges)):
        first, last = int(begin), min(int(end), old - 1)
        total = picture[first:last].sum(0, dtype=np.float64)
        out[n] = (total - (begin - first) * picture[first] + (end - last) * picture[last]) / (old / new)
    return out


def _spacing(frame: Frame, factor: float) -> tuple[float, float]:
    rows, columns = frame.spacing or (math.nan, math.nan)
    return columns * factor, rows * factor
