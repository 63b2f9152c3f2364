"""What the header of a series claims.  Broken values are no claims; nothing here raises."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_VR

from qc_node.dicom.text import TEXT_VRS, CharacterSet, text_bytes
from qc_node.domain import HeaderClaims
from qc_node.series.headers.words import agent_stated, contrast_said, gadolinium_said, only_oral

MAX_TEXT = 256
"""Longest description that is kept; LO holds 64 characters, broken files hold megabytes."""


def read_claims(ds: Dataset, series: Sequence[Dataset] | None = None) -> HeaderClaims:
    """What `ds` claims.

    Parameters
    ----------
    ds
        The header of one image (the geometrically first) of the series.
    series
        Headers of more images, to fill what the first leaves out.

    Returns
    -------
    HeaderClaims
        Values that are absent, empty or cannot be decoded are left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _claims(ds, tuple(series or ()))


def _claims(ds: Dataset, more: tuple[Dataset, ...]) -> HeaderClaims:
    everyone = (ds, *more)

    def text(keyword: str) -> str | None:
        return next((found for d in everyone if (found := text_of(d, keyword))), None)

    def number(keyword: str) -> float | None:
        return next((found for d in everyone if (found := number_of(d, keyword)) is not None), None)

    modality = (text("Modality") or "").upper()
    ordered = tuple(dict.fromkeys(t for d in everyone for t in _ordered(d)))
    agent = text("ContrastBolusAgent") or next((t for t in _meanings(ds, "ContrastBolusAgentSequence")), None)
    of_series = [contrast_said(text(k), ct=modality == "CT") for k in ("SeriesDescription", "ProtocolName")]
    of_series += [None if only_oral(agent) else agent_stated(agent), _volume_given(number("ContrastBolusVolume"))]
    study_texts = (text("StudyDescription"), *ordered)
    of_study = [contrast_said(t, ct=modality == "CT") for t in study_texts]
    spoken = _any(of_series)
    if spoken is None:
        spoken = _any(of_study)
    all_texts = (
        text("SeriesDescription"),
        text("ProtocolName"),
        agent if agent_stated(agent) else None,
        *study_texts,
    )
    named = any(gadolinium_said(t) for t in all_texts)
    frame_type = _first_item(ds, "MRImageFrameTypeSequence")
    return HeaderClaims(
        modality=modality,
        manufacturer=text("Manufacturer"),
        model_name=text("ManufacturerModelName"),
        station_name=text("StationName"),
        field_strength_t=_tesla(number("MagneticFieldStrength")),
        series_description=text("SeriesDescription"),
        protocol_name=text("ProtocolName"),
        study_description=text("StudyDescription"),
        body_part_examined=text("BodyPartExamined")
        or next((t for t in _meanings(ds, "AnatomicRegionSequence")), None),
        scanning_sequence=texts_of(ds, "ScanningSequence"),
        image_type=texts_of(ds, "ImageType") or (texts_of(frame_type, "FrameType") if frame_type else ()),
        acquisition_type=text("MRAcquisitionType"),
        slice_thickness_mm=_thickness(everyone),
        convolution_kernel=_joined(ds, "ConvolutionKernel"),
        contrast_agent=agent,
        contrast_words=bool(spoken),
        gadolinium_words=bool(spoken) if modality == "MR" else named and spoken is not False,
        ordered=ordered,
    )


def _any(said: Sequence[bool | None]) -> bool | None:
    """True wins over False, and False over silence."""
    if any(said):
        return True
    return False if False in said else None


def _volume_given(volume: float | None) -> bool | None:
    return True if volume is not None and volume > 0 else None


def _tesla(value: float | None) -> float | None:
    """Magnetic Field Strength in tesla; some scanners state gauss."""
    if value is None or value <= 0:
        return None
    return value / 10_000 if value > 100 else value


def _thickness(everyone: Sequence[Dataset]) -> float | None:
    for d in everyone:
        value = number_of(d, "SliceThickness")
        if value is None:
            for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
                measures = _first_item(_first_item(d, groups), "PixelMeasuresSequence")
                value = number_of(measures, "SliceThickness") if value is None else value
        if value is not None and value > 0:
            return value
    return None


def _ordered(ds: Dataset) -> Iterator[str]:
    """What was ordered: descriptions and code meanings of the requested and the scheduled procedure."""
    for keyword in ("RequestedProcedureDescription",):
        found = text_of(ds, keyword)
        if found:
            yield found
    yield from _meanings(ds, "RequestedProcedureCodeSequence")
    for item in items_of(ds, "RequestAttributesSequence"):
        for keyword in ("RequestedProcedureDescription", "ScheduledProcedureStepDescription"):
            found = text_of(item, keyword)
            if found:
                yield found
        yield from _meanings(item, "RequestedProcedureCodeSequence")
        yield from _meanings(item, "ScheduledProtocolCodeSequence")
    yield from _meanings(ds, "ProcedureCodeSequence")
    # codes come last: rules may ask for them, words are not looked for where a description stands before
    for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
        yield from (code for item in items_of(ds, keyword) if (code := text_of(item, "CodeValue")))


def _meanings(ds: Dataset | None, keyword: str) -> Iterator[str]:
    for item in items_of(ds, keyword):
        found = text_of(item, "CodeMeaning")
        if found:
            yield found


def items_of(ds: Dataset | None, keyword: str) -> list[Dataset]:
    """The items of a sequence; empty when it is absent or broken."""
    try:
        value = ds.get(keyword) if ds is not None else None
        return [item for item in value if isinstance(item, Dataset)] if value else []
    except Exception:  # whatever pydicom meets in a broken value, it is no claim
        return []


def _first_item(ds: Dataset | None, keyword: str) -> Dataset | None:
    return next(iter(items_of(ds, keyword)), None)


def texts_of(ds: Dataset | None, keyword: str) -> tuple[str, ...]:
    """Every value of an attribute as trimmed text."""
    said = _undeclared_utf8(ds, keyword) if ds is not None else None
    if said is not None:
        return tuple(t for v in said.split("\\") if (t := _clean(v)))
    try:
        value: Any = ds.get(keyword) if ds is not None else None
        if value is None:
            return ()
        values = [value] if isinstance(value, (str, bytes, int, float)) else list(value)
        return tuple(t for v in values if (t := _clean(v)))
    except Exception:
        # an unknown character set, or a number that is none: take the bytes as they are
        return _raw_texts(ds, keyword)


def _undeclared_utf8(ds: Dataset, keyword: str) -> str | None:
    """A text in UTF-8 in a data set that declares nothing, as pydicom does not read it."""
    data = text_bytes(ds, keyword)
    if not isinstance(data, bytes) or data.isascii() or dictionary_VR(keyword) not in TEXT_VRS:
        return None
    around = ds.original_character_set or default_encoding
    declared = CharacterSet.of(ds)
    if not declared.is_default or {*([around] if isinstance(around, str) else around)} != {default_encoding}:
        return None
    return declared.decode(data, dictionary_VR(keyword))


def _raw_texts(ds: Dataset | None, keyword: str) -> tuple[str, ...]:
    try:
        assert ds is not None
        raw: Any = ds.get_item(keyword)
        value = getattr(raw, "value", None)
        if not isinstance(value, bytes):
            return ()
        return tuple(t for part in value.decode("latin-1").split("\\") if (t := _clean(part)))
    except Exception:
        return ()


def text_of(ds: Dataset | None, keyword: str) -> str | None:
    """An attribute as one trimmed text, or None."""
    return next(iter(texts_of(ds, keyword)), None)


def _joined(ds: Dataset | None, keyword: str) -> str | None:
    return "\\".join(texts_of(ds, keyword)) or None


def number_of(ds: Dataset | None, keyword: str) -> float | None:
    """An attribute as one finite number, or None."""
    found = text_of(ds, keyword)
    try:
        value = float(found) if found else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _clean(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    text = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * MAX_TEXT])
    return " ".join(text.split())[:MAX_TEXT]
