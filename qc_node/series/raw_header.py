"""The raw header of a file: only what a volume needs, and where the pixels lie.

A series of some hundred slices is opened file by file; a full parse with pydicom costs about a millisecond
each, more than reading the pixels.  :func:`scan_file` walks over the elements of a Part 10 file up to the pixel
data and copies the raw values of the tags in :data:`WANTED`.  Whatever the scanner does not understand at once
(no preamble, deflated, broken lengths) goes to pydicom instead, which knows more and takes longer.
"""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.config import IGNORE
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID, ExplicitVRBigEndian

from qc_node.dicom.elements import (
    FileWindow,
    ScanError,
    TooManyElements,
    Wanted,
    element_at,
    scan,
)
from qc_node.dicom.part10 import encoding, read_head
from qc_node.dicom.uids import DEFLATED, IMPLICIT
from qc_node.series.errors import NotDicom

FLOAT_PIXELS = 0x7FE00008
DOUBLE_PIXELS = 0x7FE00009
PIXELS = 0x7FE00010

TAGS = frozenset(
    {
        0x00080008,  # Image Type
        0x00080016,  # SOP Class UID
        0x00080018,  # SOP Instance UID
        0x00080060,  # Modality
        0x00080070,  # Manufacturer
        0x00089208,  # Complex Image Component
        0x00100010,  # Patient's Name
        0x00100020,  # Patient ID
        0x00180050,  # Slice Thickness
        0x00180081,  # Echo Time
        0x00180082,  # Inversion Time
        0x00180086,  # Echo Number(s)
        0x00180088,  # Spacing Between Slices
        0x00181060,  # Trigger Time
        0x00181150,  # Exposure Time
        0x00181151,  # X-Ray Tube Current
        0x00181152,  # Exposure
        0x00181314,  # Flip Angle
        0x00181411,  # Exposure Index
        0x00181412,  # Target Exposure Index
        0x00181413,  # Deviation Index
        0x00185101,  # View Position
        0x00189087,  # Diffusion b-value
        0x00189345,  # CTDIvol
        0x0019100A,  # Siemens: Number Of Images In Mosaic
        0x0020000D,  # Study Instance UID
        0x0020000E,  # Series Instance UID
        0x00200012,  # Acquisition Number
        0x00200013,  # Instance Number
        0x00200032,  # Image Position (Patient)
        0x00200037,  # Image Orientation (Patient)
        0x00200062,  # Image Laterality
        0x00200100,  # Temporal Position Identifier
        0x00280002,  # Samples per Pixel
        0x00280004,  # Photometric Interpretation
        0x00280008,  # Number of Frames
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280030,  # Pixel Spacing
        0x00280100,  # Bits Allocated
        0x00280101,  # Bits Stored
        0x00280102,  # High Bit
        0x00280103,  # Pixel Representation
        0x00280120,  # Pixel Padding Value
        0x00280121,  # Pixel Padding Range Limit
        0x00281052,  # Rescale Intercept
        0x00281053,  # Rescale Slope
        0x00281054,  # Rescale Type
        0x00282110,  # Lossy Image Compression
    }
)
"""Tags whose raw values :func:`scan_file` keeps."""

WANTED = Wanted(TAGS, last=FLOAT_PIXELS - 1, longest=4096, most=5_000_000, ordered=True)


_OF_AN_OBJECT = frozenset({0x00080016, 0x00080018, 0x0020000E, 0x00080060, 0x00280010})
"""One of these has every object: SOP class and instance, series, modality, rows."""


@dataclass(slots=True)
class RawHeader:
    """The raw values of one file.

    Attributes
    ----------
    values
        Tag to value bytes, as stored.
    little
        Byte order of binary values.
    pixel_tag, pixel_offset, pixel_length
        Which pixel element there is and where its value starts in the file; ``pixel_tag`` 0 when there is none,
        ``pixel_offset`` -1 when it cannot be read in place (deflated).
    """

    path: Path
    size: int
    transfer_syntax: str
    little: bool = True
    values: dict[int, bytes] = field(default_factory=dict)
    pixel_tag: int = 0
    pixel_offset: int = -1
    pixel_length: int = 0


def scan_file(path: Path) -> RawHeader:
    """The raw header of the DICOM file at `path`.

    Raises
    ------
    NotDicom
        The file cannot be opened, or holds no DICOM object.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise NotDicom(f"{path} cannot be opened ({error.strerror}).") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotDicom(f"{path} is no regular file.")
        header = _scan(path, FileWindow(fd))
    except TooManyElements:
        raise NotDicom(f"{path} has more elements than any header ({WANTED.most}).") from None
    except ScanError:
        header = _scan_with_pydicom(path)
    except OSError as error:
        raise NotDicom(f"{path} cannot be read ({error.strerror}).") from error
    finally:
        os.close(fd)
    return header


def _scan(path: Path, window: FileWindow) -> RawHeader:
    head = read_head(window)
    syntax = head.transfer_syntax_uid
    if syntax in DEFLATED or not syntax:
        raise ScanError("pydicom knows how to read this")
    explicit, big_endian = syntax not in IMPLICIT, syntax == ExplicitVRBigEndian
    values, end = scan(window, WANTED, explicit=explicit, big_endian=big_endian, start=head.start)
    header = RawHeader(path, window.size, syntax, little=not big_endian, values=values)
    if end + 8 <= window.size:
        tag, length, offset = element_at(window, end, explicit=explicit, big_endian=big_endian)
        if tag <= PIXELS:
            header.pixel_tag, header.pixel_offset, header.pixel_length = tag, offset, length
    return header


def _scan_with_pydicom(path: Path) -> RawHeader:
    ds = read_dataset(path)
    syntax = transfer_syntax(ds)
    header = RawHeader(path, path.stat().st_size, syntax, little=bool(ds.original_encoding[1] is not False))
    for tag in TAGS:
        raw = _raw_value(ds, tag, header.little)
        if raw is not None:
            header.values[tag] = raw
    if not header.values.keys() & _OF_AN_OBJECT:  # pydicom makes a data set of nearly any bytes
        raise NotDicom(f"{path} is not a DICOM object.")
    header.pixel_tag = _pixel_tag(path)
    return header


def _raw_value(ds: pydicom.Dataset, tag: int, little: bool) -> bytes | None:
    try:
        if tag not in ds:
            return None
        element: Any = ds.get_item(tag)
        if isinstance(element, RawDataElement):
            return bytes(element.value or b"")
        value = element.value
    except Exception:
        return None
    if isinstance(value, bytes):
        return value
    if isinstance(value, int) and element.VR in ("US", "SS"):
        return (value & 0xFFFF).to_bytes(2, "little" if little else "big")
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    try:
        return "\\".join(str(v) for v in value).encode("utf-8", "replace")
    except TypeError:
        return str(value).encode("utf-8", "replace")


def _pixel_tag(path: Path) -> int:
    """Which pixel element the file has, asked of pydicom without loading its value."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = [PIXELS, FLOAT_PIXELS, DOUBLE_PIXELS]
            ds = pydicom.dcmread(path, force=True, defer_size=1024, specific_tags=tags)
        return next((tag for tag in tags if tag in ds), 0)
    except Exception:
        return 0


def read_dataset(path: Path, pixels: bool = False) -> pydicom.Dataset:
    """The whole data set at `path`, by default without its pixels.

    Raises
    ------
    NotDicom
        pydicom cannot make a data set of the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
    except OSError as error:
        raise NotDicom(f"{path} cannot be read ({error.strerror or 'it ends too early'}).") from error
    except Exception as error:
        # pydicom meets broken files with many kinds of exceptions; every one of them means the same here
        raise NotDicom(f"{path} is not a readable DICOM object ({type(error).__name__}).") from error
    return ds


def transfer_syntax(ds: pydicom.Dataset) -> str:
    """Transfer Syntax UID (0002,0010), or what the encoding of a file without one amounts to."""
    meta = getattr(ds, "file_meta", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stated = str(meta.TransferSyntaxUID) if meta is not None and "TransferSyntaxUID" in meta else ""
    except Exception:
        stated = ""
    if stated:
        return stated
    return encoding(*ds.original_encoding)


def syntax_name(uid: str) -> str:
    """The name of a transfer syntax for a sentence, with the UID where it has none."""
    name = UID(uid, validation_mode=IGNORE).name if uid else "unknown"
    return name if name != uid else f"transfer syntax {uid}"
