"""DICOM files (PS3.10 section 7): the head before a data set, what a file says of itself, files without a head."""

from __future__ import annotations

import mmap
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from qc_node.dicom.elements import ScanError, Wanted, Window, element_at, scan
from qc_node.dicom.uids import DEFLATED, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from qc_node.domain import QcNodeError

_GROUP_LENGTH, _SOP_CLASS, _SOP_INSTANCE = 0x00020000, 0x00020002, 0x00020003
_TRANSFER_SYNTAX, _SOURCE_AE_TITLE = 0x00020010, 0x00020016
_META = Wanted(frozenset((_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX, _SOURCE_AE_TITLE)), last=0x0002FFFF)
_PREFIX_AT, _META_AT = 128, 132
_NOTE = b"QCN size"
"""The preamble is for the use of applications (PS3.10 section 7.1)."""


# -- the head ----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class FileHead:
    """File meta information; what is missing is empty.  ``start`` is where the data set begins, in bytes."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str
    start: int


def encode_head(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str = ""
) -> bytes:
    """Preamble, prefix and file meta information of a file whose data set follows."""
    group = (
        struct.pack("<HH2sxxLxB", 2, 1, b"OB", 2, 1)
        + _short(0x02, b"UI", sop_class_uid.encode("latin-1", "replace"), b"\0")
        + _short(0x03, b"UI", sop_instance_uid.encode("latin-1", "replace"), b"\0")
        + _short(0x10, b"UI", transfer_syntax_uid.encode("latin-1", "replace"), b"\0")
        + _short(0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode(), b"\0")
        + _short(0x13, b"SH", IMPLEMENTATION_VERSION_NAME.encode(), b" ")
    )
    if source_ae_title:
        group += _short(0x16, b"AE", source_ae_title.encode("latin-1", "replace")[:16], b" ")
    return bytes(_PREFIX_AT) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(group)) + group


def size_note(size: int) -> bytes:
    """What the preamble of a file of `size` bytes says, so that one cut short by a power cut is known."""
    return _NOTE + struct.pack("<Q", size)


def is_whole(data: memoryview) -> bool:
    """Whether a file of our own has as many bytes as its preamble says; one that says nothing counts as whole."""
    if bytes(data[: len(_NOTE)]) != _NOTE:
        return True
    (size,) = struct.unpack_from("<Q", data, len(_NOTE))
    return int(size) == len(data)


def _short(element: int, vr: bytes, value: bytes, pad: bytes) -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def read_head(window: Window) -> FileHead:
    """The file meta information at the beginning of a file.

    It ends where another group begins.  What it says about its own length, which some writers get wrong, counts
    only where the data set is deflated, because then any bytes may follow.

    Raises
    ------
    ScanError
        The bytes are no DICOM file.
    """
    index = window.at(_PREFIX_AT, 4)
    if bytes(window.buffer[index : index + 4]) != b"DICM":
        raise ScanError("there is no DICOM prefix")
    stated = _stated_end(window)
    try:
        found, start = scan(window, _META, explicit=True, start=_META_AT)
    except ScanError:
        if stated is None:
            raise
        found, start = scan(window, _META, explicit=True, start=_META_AT, end=stated)
    syntax = _text(found, _TRANSFER_SYNTAX)
    if syntax in DEFLATED and stated is not None:
        start = stated
    return FileHead(
        _text(found, _SOP_CLASS), _text(found, _SOP_INSTANCE), syntax, _text(found, _SOURCE_AE_TITLE), start
    )


def _stated_end(window: Window) -> int | None:
    """Where the file meta information ends by its group length (0002,0000), if that is there and possible."""
    tag, length, value = element_at(window, _META_AT, explicit=True)
    if tag != _GROUP_LENGTH or length != 4:
        return None
    index = window.at(value, 4)
    (stated,) = struct.unpack_from("<L", window.buffer, index)
    end = value + 4 + int(stated)
    return end if end <= window.size else None


def _text(found: dict[int, bytes], tag: int) -> str:
    return found.get(tag, b"").decode("latin-1").strip(" \0")


def look_into(fd: int) -> memoryview:
    """The bytes of an open file of our own without reading them.

    The mapping ends with the last view of it: closing it by hand fails while a traceback still holds a slice.

    Raises
    ------
    ValueError
        The file is empty.
    """
    return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))


# -- files to be sent --------------------------------------------------------------------------------
class UnusableFileError(QcNodeError):
    """The file is gone, or no DICOM object: opening it again will not help."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A DICOM file that can be sent.

    ``path`` is a complete Part 10 file; ``source`` is the file it was made from where it had no, or no complete,
    file meta information (else the same).
    """

    path: Path
    source: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def open_object(path: Path, scratch: Path | None = None) -> StoredObject:
    """What is needed to send `path`.

    Parameters
    ----------
    path
        A DICOM file, with or without preamble and file meta information.
    scratch
        Folder for a completed copy of a file whose meta information is missing or incomplete; its data set stays
        byte for byte.  None: such a file is an error.

    Raises
    ------
    UnusableFileError
        The file is gone, no DICOM file, or names no SOP class or instance.
    QcNodeError
        It cannot be read now (no descriptor or memory left, a fault of the disk, no right to it).
    """
    ds = _read(path, force=scratch is not None)
    meta = ds.file_meta
    sop_class, instance = _value(ds, "SOPClassUID"), _value(ds, "SOPInstanceUID")
    syntax = _value(meta, "TransferSyntaxUID")
    complete = (_value(meta, "MediaStorageSOPClassUID"), _value(meta, "MediaStorageSOPInstanceUID"))
    if syntax and all(complete):
        return StoredObject(path, path, complete[0], complete[1], syntax)
    if not (sop_class and instance):
        raise UnusableFileError(f"The file {path} is not a DICOM object: it names no SOP class and instance.")
    if scratch is None:
        raise UnusableFileError(f"The file {path} has no complete file meta information.")
    return _completed(path, scratch, sop_class, instance, syntax)


def _read(path: Path, force: bool) -> Any:
    """File meta information, SOP class and instance, by pydicom: it bears what users have on their disks."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], force=force)
    except FileNotFoundError:
        raise UnusableFileError(f"The file {path} is gone.") from None
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or str(error) or "no memory left"
        raise QcNodeError(f"The file {path} cannot be read: {why}.") from error
    except InvalidDicomError:
        raise UnusableFileError(f"The file {path} is not a DICOM file.") from None
    except Exception as error:
        # pydicom raises whatever its parser trips over; the file is somebody else's.
        raise UnusableFileError(f"The file {path} cannot be read as DICOM ({type(error).__name__}).") from error


def _value(ds: object, keyword: str) -> str:
    try:
        return str(getattr(ds, keyword, "") or "").strip()
    except Exception:
        return ""


def _completed(path: Path, scratch: Path, sop_class: str, instance: str, syntax: str) -> StoredObject:
    from pydicom.filereader import read_partial

    with path.open("rb") as stream:
        head = read_partial(stream, stop_when=lambda tag, vr, length: True, force=True)
        start = stream.tell()
        stream.seek(0)
        data = stream.read()[start:]
    syntax = syntax or encoding(*head.original_encoding)
    copy = scratch / f"{len(list(scratch.iterdir()))}.dcm"
    with copy.open("wb") as out:
        out.write(encode_head(sop_class, instance, syntax))
        out.write(data)
    return StoredObject(copy, path, sop_class, instance, syntax)


def encoding(implicit: bool | None, little: bool | None) -> str:
    """The uncompressed transfer syntax of a data set in this encoding, as pydicom found it."""
    if little is False:
        return str(ExplicitVRBigEndian)
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
