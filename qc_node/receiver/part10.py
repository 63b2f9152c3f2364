"""The head of a DICOM file (PS3.10 section 7.1): written before the data set arrives, read again after a crash."""

from __future__ import annotations

import mmap
import struct

from qc_node.dicom.received_header import HeaderError, ScanError, scan
from qc_node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00020002, 0x00020003
TRANSFER_SYNTAX_UID, SOURCE_AE_TITLE = 0x00020010, 0x00020016
_WANTED = frozenset((SOP_CLASS_UID, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID, SOURCE_AE_TITLE))


def _short(element: int, vr: bytes, value: bytes, pad: bytes) -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def encode_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae: str) -> bytes:
    """Preamble, prefix and file meta information of a file whose data set follows."""
    group = (
        struct.pack("<HH2sxxLxB", 2, 1, b"OB", 2, 1)
        + _short(0x02, b"UI", sop_class_uid.encode("latin-1", "replace"), b"\0")
        + _short(0x03, b"UI", sop_instance_uid.encode("latin-1", "replace"), b"\0")
        + _short(0x10, b"UI", transfer_syntax_uid.encode("latin-1", "replace"), b"\0")
        + _short(0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode(), b"\0")
        + _short(0x13, b"SH", IMPLEMENTATION_VERSION.encode()[:16], b" ")
        + _short(0x16, b"AE", calling_ae.encode("latin-1", "replace")[:16], b" ")
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(group)) + group


def look_into(fd: int) -> memoryview:
    """The bytes of an open file without reading them; raises :class:`ValueError` when it is empty.

    The mapping ends with the last view of it: closing it by hand fails while a traceback still holds a slice.
    """
    return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))


def read_head(data: memoryview) -> tuple[dict[int, str], int]:
    """The meta information that :func:`encode_head` wrote, and where the data set begins.

    Raises
    ------
    HeaderError
        `data` is no DICOM file.
    """
    if bytes(data[128:132]) != b"DICM":
        raise HeaderError("The file has no DICOM prefix.")
    try:
        length = struct.unpack_from("<8xL", data, 132)[0]  # (0002,0000), always first
        found, end = scan(data[: 144 + length], _WANTED, 0x0002FFFF, explicit=True, start=132)
    except (ScanError, struct.error) as error:
        raise HeaderError("The file meta information cannot be read.") from error
    return {tag: value.decode("latin-1").strip(" \0") for tag, value in found.items()}, end
