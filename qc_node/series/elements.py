"""A header scanner that reads only what a volume needs, and remembers where the pixels lie.

A series of some hundred slices is opened file by file; a full parse with pydicom costs about a millisecond
each, more than reading the pixels.  :func:`scan` walks over the elements of a Part 10 file (PS3.10 section 7,
PS3.5 section 7) and copies the raw values of the tags in :data:`WANTED`; it jumps over everything else, long
private headers included, and stops at the pixel data.  Whatever it does not understand at once (no preamble,
deflated, broken lengths, UN of undefined length) goes to pydicom instead, which knows more and takes longer.
"""

from __future__ import annotations

import os
import stat
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.config import IGNORE
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID

from qc_node.series.errors import NotDicom

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED})
"""Transfer syntaxes without encapsulation."""

FLOAT_PIXELS = 0x7FE00008
DOUBLE_PIXELS = 0x7FE00009
PIXELS = 0x7FE00010

WANTED = frozenset(
    {
        0x00080008,  # Image Type
        0x00080016,  # SOP Class UID
        0x00080018,  # SOP Instance UID
        0x00080060,  # Modality
        0x00080070,  # Manufacturer
        0x00100010,  # Patient's Name
        0x00100020,  # Patient ID
        0x00180050,  # Slice Thickness
        0x00180081,  # Echo Time
        0x00180082,  # Inversion Time
        0x00180086,  # Echo Number(s)
        0x00180088,  # Spacing Between Slices
        0x00181060,  # Trigger Time
        0x00181314,  # Flip Angle
        0x00189087,  # Diffusion b-value
        0x0019100A,  # Siemens: Number Of Images In Mosaic
        0x0020000D,  # Study Instance UID
        0x0020000E,  # Series Instance UID
        0x00200012,  # Acquisition Number
        0x00200013,  # Instance Number
        0x00200032,  # Image Position (Patient)
        0x00200037,  # Image Orientation (Patient)
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
"""Tags whose raw values :func:`scan` keeps."""

_CHUNK = 16384
UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VR = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"))
_SHORT_VR = frozenset(
    bytes(vr, "ascii")
    for vr in [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FL",
        "FD",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)
_MAX_KEPT = 4096


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


class _Puzzled(Exception):
    """The fast walk met something that pydicom should look at."""


class _Window:
    """A sliding view of a file: bytes at any offset, read in chunks."""

    __slots__ = ("buffer", "fd", "size", "start")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.start = 0
        self.buffer = os.pread(fd, _CHUNK, 0)

    def at(self, offset: int, length: int) -> int:
        """Make ``length`` bytes at ``offset`` available; returns their index in :attr:`buffer`."""
        index = offset - self.start
        if index < 0 or index + length > len(self.buffer):
            self.buffer = os.pread(self.fd, max(_CHUNK, length), offset)
            self.start = offset
            index = 0
            if len(self.buffer) < length:
                raise _Puzzled
        return index


def scan(path: Path) -> RawHeader:
    """The raw header of the DICOM file at `path`.

    Raises
    ------
    NotDicom
        The file cannot be opened, or holds no DICOM object.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise NotDicom(f"{path} cannot be opened ({error.strerror}).") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotDicom(f"{path} is no regular file.")
        return _walk(path, _Window(fd))
    except (_Puzzled, struct.error, IndexError):
        return _scan_with_pydicom(path)
    except OSError as error:
        raise NotDicom(f"{path} cannot be read ({error.strerror}).") from None
    finally:
        os.close(fd)


def _walk(path: Path, window: _Window) -> RawHeader:
    if window.buffer[128:132] != b"DICM":
        raise _Puzzled
    syntax, pos = _file_meta(window)
    if syntax == DEFLATED or not syntax:
        raise _Puzzled
    header = RawHeader(path, window.size, syntax, little=syntax != EXPLICIT_BE)
    _elements(window, pos, header, explicit=syntax != IMPLICIT_LE)
    return header


def _file_meta(window: _Window) -> tuple[str, int]:
    """Transfer Syntax UID (0002,0010) and where the data set begins."""
    pos, syntax = 132, ""
    while True:
        try:
            i = window.at(pos, 12)
        except _Puzzled:
            raise
        buf = window.buffer
        group, element, vr = buf[i] | buf[i + 1] << 8, buf[i + 2] | buf[i + 3] << 8, buf[i + 4 : i + 6]
        if group != 2:
            return syntax, pos
        if vr in _LONG_VR:
            length, head = struct.unpack_from("<I", buf, i + 8)[0], 12
        elif vr in _SHORT_VR:
            length, head = struct.unpack_from("<H", buf, i + 6)[0], 8
        else:
            raise _Puzzled
        if length > window.size:
            raise _Puzzled
        if element == 0x10:
            i = window.at(pos + head, length)
            syntax = window.buffer[i : i + length].rstrip(b"\0 ").decode("ascii", "replace")
        pos += head + length


def _elements(window: _Window, pos: int, header: RawHeader, explicit: bool) -> None:
    """Walk the data set from `pos` to the pixel data, filling `header`."""
    order = "<" if header.little else ">"
    unpack_tag, unpack_short, unpack_long = (struct.Struct(order + f).unpack_from for f in ("HH", "H", "I"))
    size, values, depth, last = window.size, header.values, 0, 0
    buf, start = window.buffer, window.start
    end = start + len(buf)
    while pos + 8 <= size:
        if pos < start or pos + 12 > end:
            window.at(pos, min(12, size - pos))
            buf, start = window.buffer, window.start
            end = start + len(buf)
        i = pos - start
        group, element = unpack_tag(buf, i)
        tag = group << 16 | element
        if group == 0xFFFE:
            length, head = unpack_long(buf, i + 4)[0], 8
            if element == 0xE0DD:
                depth -= 1
            if depth < 0 or element not in (0xE000, 0xE00D, 0xE0DD):
                raise _Puzzled
            pos += 8 if element != 0xE000 or length == UNDEFINED_LENGTH else 8 + length
            continue
        vr = b""
        if explicit:
            vr = buf[i + 4 : i + 6]
            if vr in _SHORT_VR:
                length, head = unpack_short(buf, i + 6)[0], 8
            elif vr in _LONG_VR:
                length, head = unpack_long(buf, i + 8)[0], 12
            else:
                raise _Puzzled
        else:
            length, head = unpack_long(buf, i + 4)[0], 8
        if depth == 0:
            if tag <= last:
                raise _Puzzled
            last = tag
            if tag >= FLOAT_PIXELS:
                if tag <= PIXELS:
                    header.pixel_tag, header.pixel_offset, header.pixel_length = tag, pos + head, length
                return
        if length == UNDEFINED_LENGTH:
            if vr == b"UN":
                raise _Puzzled
            depth += 1
            pos += head
            continue
        if pos + head + length > size:
            raise _Puzzled
        if depth == 0 and tag in WANTED and length <= _MAX_KEPT:
            window.at(pos + head, length)
            buf, start = window.buffer, window.start
            end = start + len(buf)
            i = pos + head - start
            values[tag] = buf[i : i + length]
        pos += head + length
    if depth:
        raise _Puzzled


def _scan_with_pydicom(path: Path) -> RawHeader:
    ds = read_dataset(path)
    syntax = transfer_syntax(ds)
    header = RawHeader(path, path.stat().st_size, syntax, little=bool(ds.original_encoding[1] is not False))
    for tag in WANTED:
        raw = _raw_value(ds, tag, header.little)
        if raw is not None:
            header.values[tag] = raw
    if not header.values.keys() & {0x00080016, 0x00080018, 0x0020000E, 0x00080060, 0x00280010}:
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
        raise NotDicom(f"{path} cannot be read ({error.strerror or 'it ends too early'}).") from None
    except Exception as error:
        # pydicom meets broken files with many kinds of exceptions; every one of them means the same here
        raise NotDicom(f"{path} is not a readable DICOM object ({type(error).__name__}).") from None
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
    implicit, little = ds.original_encoding
    if implicit:
        return IMPLICIT_LE
    return EXPLICIT_BE if little is False else EXPLICIT_LE


def syntax_name(uid: str) -> str:
    """The name of a transfer syntax for a sentence, with the UID where it has none."""
    name = UID(uid, validation_mode=IGNORE).name if uid else "unknown"
    return name if name != uid else f"transfer syntax {uid}"
