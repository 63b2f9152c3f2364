"""One stored object with the few typed facts that sorting and decoding need.  Broken values become None."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qc_node.dicom.elements import UNDEFINED_LENGTH
from qc_node.dicom.uids import NATIVE
from qc_node.domain import InstanceRef
from qc_node.series.raw_header import RawHeader

Vector = tuple[float, ...]


def text_of(raw: RawHeader, tag: int) -> str:
    """Identifiers and code strings, trimmed; bytes outside ASCII stay distinguishable."""
    text = raw.values.get(tag, b"").decode("latin-1").strip(" \0")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def code_of(raw: RawHeader, tag: int) -> str:
    """A code string (CS) in capitals; empty when the value cannot be one, so junk never shows in a sentence."""
    text = text_of(raw, tag).upper()
    return text if len(text) <= 16 and "?" not in text else ""


def texts_of(raw: RawHeader, tag: int) -> tuple[str, ...]:
    """The values of a multi-valued code string in capitals."""
    value = text_of(raw, tag)
    return tuple(part.strip().upper()[:64] for part in value.split("\\")) if value else ()


def decimals_of(raw: RawHeader, tag: int, count: int) -> Vector | None:
    """`count` finite decimal strings, or None."""
    value = raw.values.get(tag)
    if not value:
        return None
    return decimals(value.decode("latin-1").strip(" \0").split("\\"), count)


def decimals(values: Sequence[object] | None, count: int) -> Vector | None:
    """`count` finite numbers out of `values`, or None."""
    if values is None or isinstance(values, str) or len(values) != count:
        return None
    try:
        numbers = tuple(float(str(v)) for v in values)
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def decimal_of(raw: RawHeader, tag: int) -> float | None:
    """One finite decimal string, or None."""
    found = decimals_of(raw, tag, 1)
    return found[0] if found else None


def whole_of(raw: RawHeader, tag: int) -> int | None:
    """One integer string, or None."""
    number = decimal_of(raw, tag)
    return None if number is None or number != int(number) else int(number)


def short_of(raw: RawHeader, tag: int, signed: bool = False) -> int | None:
    """One US or SS value, or None."""
    value = raw.values.get(tag, b"")
    if len(value) < 2:
        return None
    return int.from_bytes(value[:2], "little" if raw.little else "big", signed=signed)


def double_of(raw: RawHeader, tag: int) -> float | None:
    """One FD value, or None."""
    value = raw.values.get(tag, b"")
    if len(value) < 8:
        return None
    number = float(struct.unpack("<d" if raw.little else ">d", value[:8])[0])
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Image Pixel module (PS3.3 C.7.6.3) of one object."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored object of a series; None where a tag is absent or makes no sense."""

    raw: RawHeader
    ref: InstanceRef
    modality: str
    manufacturer: str
    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    image_type: tuple[str, ...]
    instance_number: int | None
    frames: int
    pixels: PixelFormat | None
    pixel_tag: int

    @property
    def path(self) -> Path:
        """Where the object lies."""
        return self.raw.path

    @property
    def native(self) -> bool:
        """Whether its pixels are stored without compression."""
        return self.raw.transfer_syntax in NATIVE

    @property
    def in_place(self) -> bool:
        """Whether its pixels can be read from the file by offset."""
        raw = self.raw
        if not self.native or raw.pixel_offset < 0 or raw.pixel_length == UNDEFINED_LENGTH:
            return False
        # bytes in OW words of a big-endian file are swapped in pairs, which pydicom knows how to undo
        return raw.little or self.pixels is None or self.pixels.allocated > 8


def instance_of(raw: RawHeader) -> Instance:
    """The typed facts of a raw header."""
    rows, columns = short_of(raw, 0x00280010), short_of(raw, 0x00280011)
    pixels = None
    if rows and columns:
        allocated = short_of(raw, 0x00280100) or 0
        stored = short_of(raw, 0x00280101) or allocated
        high = short_of(raw, 0x00280102)
        pixels = PixelFormat(
            rows,
            columns,
            short_of(raw, 0x00280002) or 1,
            code_of(raw, 0x00280004),
            allocated,
            stored,
            stored - 1 if high is None else high,
            short_of(raw, 0x00280103) == 1,
        )
    frames = whole_of(raw, 0x00280008)
    return Instance(
        raw=raw,
        ref=InstanceRef(text_of(raw, 0x00080016), text_of(raw, 0x00080018)),
        modality=code_of(raw, 0x00080060),
        manufacturer=text_of(raw, 0x00080070).upper(),
        patient_id=text_of(raw, 0x00100020),
        patient_name=text_of(raw, 0x00100010),
        study_uid=text_of(raw, 0x0020000D),
        series_uid=text_of(raw, 0x0020000E),
        image_type=texts_of(raw, 0x00080008),
        instance_number=whole_of(raw, 0x00200013),
        frames=frames if frames and frames > 0 else 1,
        pixels=pixels,
        pixel_tag=raw.pixel_tag,
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice: where it lies in space and in its file, and what tells it apart from others.

    ``tile`` is the (row, column) of its corner in a mosaic; ``spacing`` is (between rows, between columns)
    in mm, as in Pixel Spacing (0028,0030).  ``keys`` maps the tags of :data:`KEYS` to comparable values.
    """

    instance: Instance
    number: int
    rows: int
    columns: int
    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    slope: float | None
    intercept: float | None
    keys: dict[str, float | str]
    tile: tuple[int, int] | None = None


KEYS = (
    "Echo Time (0018,0081)",
    "Echo Numbers (0018,0086)",
    "Image Type (0008,0008)",
    "Complex Image Component (0008,9208)",
    "Inversion Time (0018,0082)",
    "Flip Angle (0018,1314)",
    "Temporal Position (0020,0100)",
    "Diffusion b-value (0018,9087)",
    "Trigger Time (0018,1060)",
    "Stack ID (0020,9056)",
    "Acquisition Number (0020,0012)",
    "SOP Instance UID (0008,0018)",
)
"""What may tell two slices at one place apart, in the order in which they are asked."""


def single_frame(instance: Instance) -> Frame:
    """The one slice of a classic object."""
    raw = instance.raw
    keys: dict[str, float | str] = {}
    for name, value in (
        (KEYS[0], decimal_of(raw, 0x00180081)),
        (KEYS[1], decimal_of(raw, 0x00180086)),
        (KEYS[2], "\\".join(instance.image_type) or None),
        (KEYS[3], code_of(raw, 0x00089208) or None),
        (KEYS[4], decimal_of(raw, 0x00180082)),
        (KEYS[5], decimal_of(raw, 0x00181314)),
        (KEYS[6], decimal_of(raw, 0x00200100)),
        (KEYS[7], double_of(raw, 0x00189087)),
        (KEYS[8], decimal_of(raw, 0x00181060)),
        (KEYS[10], decimal_of(raw, 0x00200012)),
    ):
        if value is not None:
            keys[name] = value
    pixels = instance.pixels
    return Frame(
        instance,
        0,
        pixels.rows if pixels else 0,
        pixels.columns if pixels else 0,
        decimals_of(raw, 0x00200032, 3),
        decimals_of(raw, 0x00200037, 6),
        decimals_of(raw, 0x00280030, 2),
        decimal_of(raw, 0x00281053),
        decimal_of(raw, 0x00281052),
        keys,
    )
