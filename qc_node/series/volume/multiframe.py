"""Many slices in one object: enhanced multi-frame (PS3.3 C.7.6.16) and the Siemens mosaic."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom import Dataset

from qc_node.dicom.uids import ENHANCED_CT, ENHANCED_MR
from qc_node.series.errors import SeriesRefused
from qc_node.series.raw_header import read_dataset
from qc_node.series.volume.instances import (
    KEYS,
    Frame,
    Instance,
    Vector,
    code_of,
    decimal_of,
    decimals,
    short_of,
    single_frame,
)

MAX_FRAMES = 20_000
"""No enhanced object of a real scanner comes near; a broken Number of Frames does."""


def frames_of(instance: Instance) -> list[Frame]:
    """The slices of one object.

    Raises
    ------
    SeriesRefused
        The object has several frames and no functional groups that place them, or is a mosaic without
        the numbers that are needed to take it apart.
    """
    if "MOSAIC" in instance.image_type and instance.manufacturer.startswith("SIEMENS") and instance.frames == 1:
        return _mosaic(instance)
    enhanced = instance.frames > 1 or instance.ref.sop_class_uid in ENHANCED_CT | ENHANCED_MR
    return _enhanced(instance) if enhanced else [single_frame(instance)]


# -- enhanced ----------------------------------------------------------------------------------------
def _enhanced(instance: Instance) -> list[Frame]:
    ds = read_dataset(instance.path)
    shared = _first(ds, "SharedFunctionalGroupsSequence")
    per_frame = _sequence(ds, "PerFrameFunctionalGroupsSequence")
    if instance.frames > MAX_FRAMES:
        raise SeriesRefused(f"Number of Frames (0028,0008) is {instance.frames}, which no scanner makes.")
    if not per_frame and shared is None:
        raise SeriesRefused(
            "Number of Frames (0028,0008) is "
            f"{instance.frames} but Per-Frame Functional Groups Sequence (5200,9230) is absent, so the frames "
            "cannot be placed in space."
        )
    if per_frame and len(per_frame) != instance.frames:
        raise SeriesRefused(
            f"Number of Frames (0028,0008) is {instance.frames} but Per-Frame Functional Groups Sequence "
            f"(5200,9230) "
            f"has {len(per_frame)} items."
        )
    pixels = instance.pixels
    rows, columns = (pixels.rows, pixels.columns) if pixels else (0, 0)
    common = {name: _group(shared, name) for name in _GROUPS} if shared is not None else {}
    slope, intercept = decimal_of(instance.raw, 0x00281053), decimal_of(instance.raw, 0x00281052)
    frames = []
    for number, item in enumerate(per_frame or [Dataset()] * instance.frames):
        groups = {name: _group(item, name) or common.get(name) for name in _GROUPS}
        measures, values = groups["PixelMeasuresSequence"], groups["PixelValueTransformationSequence"]
        frames.append(
            Frame(
                instance,
                number,
                rows,
                columns,
                _vector(groups["PlanePositionSequence"], "ImagePositionPatient", 3),
                _vector(groups["PlaneOrientationSequence"], "ImageOrientationPatient", 6),
                _vector(measures, "PixelSpacing", 2),
                _number(values, "RescaleSlope") if values is not None else slope,
                _number(values, "RescaleIntercept") if values is not None else intercept,
                dict(_frame_keys(instance, groups)),
            )
        )
    return frames


_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "MRModifierSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "CardiacSynchronizationSequence",
)


def _frame_keys(instance: Instance, groups: dict[str, Dataset | None]) -> Iterator[tuple[str, float | str]]:
    content = groups["FrameContentSequence"]
    inversion = _first(groups["MRModifierSequence"], "InversionTimes")
    for name, value in (
        (KEYS[0], _number(groups["MREchoSequence"], "EffectiveEchoTime")),
        (KEYS[4], inversion if isinstance(inversion, float) else None),
        (KEYS[5], _number(groups["MRTimingAndRelatedParametersSequence"], "FlipAngle")),
        (KEYS[6], _number(content, "TemporalPositionIndex")),
        (KEYS[7], _number(groups["MRDiffusionSequence"], "DiffusionBValue")),
        (KEYS[8], _number(groups["CardiacSynchronizationSequence"], "NominalCardiacTriggerDelayTime")),
        (KEYS[10], _number(content, "FrameAcquisitionNumber")),
    ):
        if value is not None:
            yield name, value
    stack = _value(content, "StackID")
    if stack:
        yield KEYS[9], str(stack)
    kind = groups["MRImageFrameTypeSequence"] or groups["CTImageFrameTypeSequence"]
    frame_type = _value(kind, "FrameType")
    if frame_type:
        yield KEYS[2], frame_type if isinstance(frame_type, str) else "\\".join(map(str, frame_type))
    component = _value(kind, "ComplexImageComponent") or code_of(instance.raw, 0x00089208)
    if component:
        yield KEYS[3], str(component)
    yield KEYS[-1], instance.ref.sop_instance_uid


def _value(ds: Dataset | None, keyword: str) -> Any:
    """An attribute, or None where it is absent or cannot be converted."""
    if ds is None:
        return None
    try:
        return ds.get(keyword)
    except Exception:  # a broken value is the same as none
        return None


def _sequence(ds: Dataset | None, keyword: str) -> list[Dataset]:
    value = _value(ds, keyword)
    try:
        return [item for item in value if isinstance(item, Dataset)] if value else []
    except TypeError:
        return []


def _first(ds: Dataset | None, keyword: str) -> Any:
    """The first item or value of an attribute."""
    value = _value(ds, keyword)
    if value is None or isinstance(value, (float, int)):
        return None if value is None else float(value)
    try:
        first = value[0] if len(value) else None
    except TypeError:
        return None
    return first if isinstance(first, Dataset) else _float(first)


def _group(ds: Dataset | None, keyword: str) -> Dataset | None:
    first = _first(ds, keyword)
    return first if isinstance(first, Dataset) else None


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _number(ds: Dataset | None, keyword: str) -> float | None:
    return _float(_value(ds, keyword))


def _vector(ds: Dataset | None, keyword: str, count: int) -> Vector | None:
    value = _value(ds, keyword)
    try:
        return decimals(list(value), count) if value is not None else None
    except TypeError:
        return None


# -- mosaic ------------------------------------------------------------------------------------------
def _mosaic(instance: Instance) -> list[Frame]:
    """The tiles of a Siemens mosaic.

    The mosaic's Image Position belongs to the whole picture as if it were one huge slice with the middle of the
    first slice; each slice then lies one slice distance further along the normal that the CSA header
    (0029,1010) states.  (Described by NiBabel's documentation "Siemens mosaic format".)
    """
    whole = single_frame(instance)
    ds = read_dataset(instance.path)
    csa = _csa(ds)
    count = short_of(instance.raw, 0x0019100A) or _whole(csa.get("NumberOfImagesInMosaic"))
    if not count:
        raise SeriesRefused(
            "Image Type (0008,0008) says MOSAIC, but neither (0019,100A) nor the CSA header (0029,1010) tells "
            "how many "
            "images it holds."
        )
    per_side = math.ceil(math.sqrt(count))
    rows, columns = whole.rows // per_side, whole.columns // per_side
    distance = _number(ds, "SpacingBetweenSlices") or _number(ds, "SliceThickness")
    if not (whole.position and whole.orientation and whole.spacing and distance and rows and columns):
        raise SeriesRefused(
            "A mosaic needs Image Position (0020,0032), Image Orientation (0020,0037), Pixel Spacing "
            "(0028,0030) and "
            "Spacing Between Slices (0018,0088), and one of them is absent."
        )
    row, col = np.array(whole.orientation[:3]), np.array(whole.orientation[3:])
    normal = np.cross(row, col)
    stated = decimals(csa.get("SliceNormalVector"), 3)
    if stated is not None and abs(np.array(stated) @ normal) > 0.5:
        normal = np.array(stated)
    corner = np.array(whole.position)
    corner = corner + row * whole.spacing[1] * (whole.columns - columns) / 2
    corner = corner + col * whole.spacing[0] * (whole.rows - rows) / 2
    frames = []
    for number in range(count):
        tile = (number // per_side * rows, number % per_side * columns)
        position = tuple(float(x) for x in corner + normal * distance * number)
        keys = {**whole.keys, KEYS[-1]: instance.ref.sop_instance_uid}
        frames.append(
            Frame(
                instance,
                number,
                rows,
                columns,
                position,
                whole.orientation,
                whole.spacing,
                whole.slope,
                whole.intercept,
                keys,
                tile,
            )
        )
    return frames


def _whole(values: list[str] | None) -> int | None:
    number = _float(values[0]) if values else None
    return int(number) if number and number > 0 else None


def _csa(ds: Dataset) -> dict[str, list[str]]:
    """The text values of the Siemens CSA Image Header Info (0029,xx10); empty if there is none.

    Format 2 ("SV10") and format 1, as described by NiBabel's documentation "CSA headers".
    """
    data = b""
    for block in (0x10, 0x11, 0x12):
        try:
            value = ds[0x0029, block << 8 | 0x10].value
        except Exception:  # absent, or a broken value, which is the same
            continue
        if isinstance(value, bytes):
            data = value
            break
    try:
        return dict(_csa_tags(data))
    except struct.error:
        return {}


def _csa_tags(data: bytes) -> Iterator[tuple[str, list[str]]]:
    if not data:
        return
    pos = 8 if data[:4] == b"SV10" else 0
    (count,) = struct.unpack_from("<I", data, pos)
    pos += 8
    for _ in range(min(count, 1000)):
        name = data[pos : pos + 64].split(b"\0")[0].decode("latin-1")
        (items,) = struct.unpack_from("<i", data, pos + 76)
        pos += 84
        values = []
        for _ in range(min(max(items, 0), 10_000)):
            first, second = struct.unpack_from("<2i", data, pos)
            # format 1 keeps the length of an item elsewhere, yet its second number is the same for all of it
            length = second if data[:4] == b"SV10" else first
            pos += 16
            if length < 0 or length > len(data):
                return
            text = data[pos : pos + length].split(b"\0")[0].decode("latin-1").strip()
            if text:
                values.append(text)
            pos += (length + 3) // 4 * 4
        yield name, values
