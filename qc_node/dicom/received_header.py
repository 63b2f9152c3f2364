"""What the ledger needs to know of an object, read without decoding it.

A small scanner walks the top level of a data set by its lengths and touches only the wanted values; a 135 KB
MR image costs about 0.1 ms.  Where it meets something it does not understand, pydicom has a try.  Pure
functions; whatever the bytes, they return facts or raise :class:`HeaderError`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from qc_node.dicom.uids import DEFLATED, EXPLICIT_BE, IMPLICIT

SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY = 0x00080016, 0x00080018, 0x00080060
ECHO_NUMBERS, CARDIAC_NUMBER_OF_IMAGES = 0x00180086, 0x00181090
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E
ACQUISITION_NUMBER, NUMBER_OF_TEMPORAL_POSITIONS, IMAGES_IN_ACQUISITION = 0x00200012, 0x00200105, 0x00201002
IN_CONCATENATION_TOTAL_NUMBER = 0x00209163
GE_SERIES_CREATOR, GE_IMAGES_IN_SERIES = 0x00250010, 0x00251007
NUMBER_OF_FRAMES, ROWS = 0x00280008, 0x00280010
NUMBER_OF_SLICES, NUMBER_OF_TIME_SLICES = 0x00540081, 0x00540101

WANTED = frozenset(
    (
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        MODALITY,
        ECHO_NUMBERS,
        CARDIAC_NUMBER_OF_IMAGES,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        ACQUISITION_NUMBER,
        NUMBER_OF_TEMPORAL_POSITIONS,
        IMAGES_IN_ACQUISITION,
        IN_CONCATENATION_TOTAL_NUMBER,
        GE_SERIES_CREATOR,
        GE_IMAGES_IN_SERIES,
        NUMBER_OF_FRAMES,
        ROWS,
        NUMBER_OF_SLICES,
        NUMBER_OF_TIME_SLICES,
    )
)
_LAST = max(WANTED)

_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 32
_LONGEST_VALUE = 256
_LONGEST_INFLATED = 1 << 24
_MOST_ELEMENTS = 50_000
"""Elements that the scanner walks, nested ones included; real headers have some hundreds before (0054,0101)."""
_LONGEST_FOR_PYDICOM, _MOST_FOR_PYDICOM = 1 << 19, 5_000
"""Bytes and top-level elements that pydicom may look at: at 45 microseconds each it must not be led astray."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


class HeaderError(Exception):
    """The header cannot be used; the sentence says why."""


class ScanError(Exception):
    """The scanner does not understand the bytes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one header says; ``numbers`` maps a tag to its integer where there is one."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    numbers: Mapping[int, int]
    ge_private: bool


def is_uid(text: str) -> bool:
    """Whether `text` may be a UID: digits and dots, at most 64 characters (PS3.5 section 9.1).

    Leading zeros in a component are let through, because real devices write them.
    """
    return len(text) <= 64 and _UID.match(text) is not None


# -- the scanner -------------------------------------------------------------------------------------
class _Walk:
    """A bounded walk over one data set."""

    def __init__(self, data: memoryview, order: str) -> None:
        self._data = data
        self._short = struct.Struct(order + "HH2sH").unpack_from  # tag, VR, 16-bit length
        self._long = struct.Struct(order + "L").unpack_from
        self._left = _MOST_ELEMENTS

    def element(self, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR, value length and value position of the element at `at`."""
        self._left -= 1
        if self._left < 0:
            raise ScanError("there are too many elements")
        try:
            group, number, vr, length = self._short(self._data, at)
            tag = group << 16 | number
            if not explicit or group == 0xFFFE:
                return tag, b"", self._long(self._data, at + 4)[0], at + 8
            if vr in _SHORT_VRS:
                return tag, vr, length, at + 8
            if vr in _LONG_VRS:
                return tag, vr, self._long(self._data, at + 8)[0], at + 12
        except struct.error as error:
            raise ScanError("an element is cut off") from error
        raise ScanError("an element has no known VR")

    def after_sequence(self, at: int, explicit: bool, depth: int = 0) -> int:
        """Where the sequence of undefined length whose first item is at `at` ends."""
        if depth > _DEEPEST:
            raise ScanError("sequences are nested too deeply")
        while True:
            tag, _, length, value = self.element(at, explicit)
            if tag == _SEQUENCE_END:
                return value
            if tag != _ITEM:
                raise ScanError("a sequence holds something that is no item")
            at = self.after_item(value, explicit, depth) if length == _UNDEFINED else value + length

    def after_item(self, at: int, explicit: bool, depth: int) -> int:
        """Where the item of undefined length whose first element is at `at` ends."""
        while True:
            tag, vr, length, value = self.element(at, explicit)
            if tag == _ITEM_END:
                return value
            if length == _UNDEFINED:
                # UN of undefined length is a sequence in Implicit VR (PS3.5 section 6.2.2, note 4)
                at = self.after_sequence(value, explicit and vr != b"UN", depth + 1)
            else:
                at = value + length


def scan(
    data: memoryview,
    wanted: frozenset[int],
    last: int,
    *,
    explicit: bool,
    big_endian: bool = False,
    start: int = 0,
) -> tuple[dict[int, bytes], int]:
    """Values of the `wanted` top-level elements up to `last`, and where the walk ended.

    Raises
    ------
    ScanError
        The bytes are no data set in this encoding.
    """
    walk = _Walk(data, ">" if big_endian else "<")
    found: dict[int, bytes] = {}
    at, size = start, len(data)
    element = walk.element
    while at < size:
        tag, vr, length, value = element(at, explicit)
        if tag > last:
            break
        if length == _UNDEFINED:
            at = walk.after_sequence(value, explicit and vr != b"UN")
            continue
        at = value + length
        if at > size:
            raise ScanError("an element is longer than the data set")
        if tag in wanted and length <= _LONGEST_VALUE:
            found[tag] = bytes(data[value:at])
    return found, at


# -- values ------------------------------------------------------------------------------------------
def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("latin-1").strip(" \0")


def _number(tag: int, value: bytes, big_endian: bool) -> int | None:
    if tag in (ROWS, NUMBER_OF_SLICES, NUMBER_OF_TIME_SLICES, GE_IMAGES_IN_SERIES):
        return int.from_bytes(value, "big" if big_endian else "little") if len(value) in (2, 4) else None
    try:
        return int(_text(value.split(b"\\")[0])[:12])
    except ValueError:
        return None


_NUMBERS = WANTED - {
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    MODALITY,
    STUDY_INSTANCE_UID,
    SERIES_INSTANCE_UID,
    GE_SERIES_CREATOR,
}


def _facts(found: Mapping[int, bytes], big_endian: bool) -> Facts:
    numbers = {
        tag: n for tag in _NUMBERS & found.keys() if (n := _number(tag, found[tag], big_endian)) is not None
    }
    return Facts(
        sop_class_uid=_text(found.get(SOP_CLASS_UID)),
        sop_instance_uid=_text(found.get(SOP_INSTANCE_UID)),
        study_uid=_text(found.get(STUDY_INSTANCE_UID)),
        series_uid=_text(found.get(SERIES_INSTANCE_UID)),
        modality=_text(found.get(MODALITY))[:16],
        numbers=numbers,
        ge_private=_text(found.get(GE_SERIES_CREATOR)) == "GEMS_SERS_01",
    )


def _complete(facts: Facts) -> bool:
    return all((facts.sop_class_uid, facts.sop_instance_uid, facts.study_uid, facts.series_uid))


def _inflate(data: memoryview) -> memoryview:
    """The head of a deflated data set, at most 16 MiB of it."""
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _LONGEST_INFLATED))
    except zlib.error as error:
        raise HeaderError("The deflated data set cannot be inflated.") from error


def _by_pydicom(data: memoryview, implicit: bool, big_endian: bool) -> Facts:
    from pydicom.filereader import read_dataset

    seen = 0

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal seen
        seen += 1
        return seen > _MOST_FOR_PYDICOM or tag >= 0x7FE00008

    try:
        ds: Any = read_dataset(
            BytesIO(data[:_LONGEST_FOR_PYDICOM]),
            implicit,
            not big_endian,
            stop_when=stop,
            defer_size=1 << 16,
            specific_tags=sorted(WANTED),
        )
        raw = {tag: ds.get_item(tag).value for tag in WANTED if tag in ds}
    except Exception as error:  # whatever pydicom trips over, the peer gets a status and not a dead thread
        raise HeaderError("The data set cannot be read.") from error
    found = {t: v for t, v in raw.items() if isinstance(v, bytes) and len(v) <= _LONGEST_VALUE}
    return _facts(found, big_endian)


def facts(data: memoryview, transfer_syntax: str, start: int = 0) -> Facts:
    """What the data set that begins at `start` says; missing values are empty strings.

    Raises
    ------
    HeaderError
        It cannot be read in `transfer_syntax`.
    """
    if transfer_syntax in DEFLATED:
        data, start = _inflate(data[start:]), 0
    implicit, big_endian = transfer_syntax in IMPLICIT, transfer_syntax == EXPLICIT_BE
    try:
        found, _ = scan(data, WANTED, _LAST, explicit=not implicit, big_endian=big_endian, start=start)
        result = _facts(found, big_endian)
        if _complete(result):
            return result
    except ScanError:
        pass
    return _by_pydicom(data[start:], implicit, big_endian)


def check(result: Facts, sop_class_uid: str, sop_instance_uid: str) -> tuple[int, str] | None:
    """Why the object cannot be stored, as a C-STORE status (PS3.4 table B.2-1) and a sentence; None when it can.

    `sop_class_uid` and `sop_instance_uid` are those of the C-STORE request.

    Returns
    -------
    (int, str) or None
        0xC211 a UID is missing, 0xC212 a UID is none (path-like ones among them), 0xA900 data set and request
        disagree.
    """
    named = (
        ("SOP Class UID (0008,0016)", result.sop_class_uid),
        ("SOP Instance UID (0008,0018)", result.sop_instance_uid),
        ("Study Instance UID (0020,000D)", result.study_uid),
        ("Series Instance UID (0020,000E)", result.series_uid),
        ("Affected SOP Class UID (0000,0002)", sop_class_uid),
        ("Affected SOP Instance UID (0000,1000)", sop_instance_uid),
    )
    for name, uid in named:
        if not uid:
            return 0xC211, f"{name} is missing."
    for name, uid in named:
        if not is_uid(uid):
            return 0xC212, f"{name} is not a UID."
    if result.sop_class_uid != sop_class_uid:
        return 0xA900, "SOP Class UID (0008,0016) differs from that of the C-STORE request."
    if result.sop_instance_uid != sop_instance_uid:
        return 0xA900, "SOP Instance UID (0008,0018) differs from that of the C-STORE request."
    return None
