"""From an opened series: the outcome so far, and its pixels."""

from __future__ import annotations

from qc_node.domain import QcNodeError, SeriesKey, Volume
from qc_node.engine.judging import SeriesOutcome
from qc_node.engine.own_faults import raised_by_machine
from qc_node.series.volume.stack import OpenedSeries


def blank_outcome(opened: OpenedSeries, series_uid: str | None = None, source: str = "") -> SeriesOutcome:
    """The outcome of a series of which only the header was read; ``source`` defaults to its first file."""
    header = opened.header
    uid = series_uid or text_of(header.get("SeriesInstanceUID"))
    study = text_of(header.get("StudyInstanceUID")) or ""
    return SeriesOutcome(
        source=source or str(opened.header_path),
        series=SeriesKey(study, uid) if uid else None,
        modality=opened.modality,
        instances=len(opened.instances),
        claims=opened.claims,
    )


def decoded(opened: OpenedSeries) -> Volume:
    """The decoded pixels; a refusal says something about the series, and only that."""
    try:
        return opened.volume()
    except QcNodeError as refusal:
        raise raised_by_machine(refusal) from None


def text_of(value: object) -> str | None:
    """The value of an element as text; None where there is none."""
    text = str(value).strip() if value is not None else ""
    return text or None
