"""Whom a header names, with the identifiers that an operator corrected."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from qc_node.dicom.patient import identity_of
from qc_node.domain import InstanceRef, Relink
from qc_node.report.documents import SERIES_NUMBER_BASE
from qc_node.report.modules import put_value, raw_value

Patient = tuple[str, str]
"""Patient ID and Issuer of Patient ID."""


def patient_of(header: Dataset) -> Patient:
    """Whom a header names; empty where it does not say."""
    found = identity_of(header)
    return found.patient_id, found.issuer


def correct(header: Dataset, relinks: Sequence[Relink]) -> Dataset:
    """`header` with the identifiers that `relinks`, oldest first, correct of the patient whom it names.

    Who was not named when an operator corrected is left alone: the images may have been corrected meanwhile.
    """
    patient, corrected = patient_of(header), dict[str, str]()
    for relink in relinks:
        if relink.identity is None:
            corrected.clear()
        elif not relink.named or patient in relink.named:
            corrected |= relink.identity
    for keyword, value in corrected.items():
        put_value(header, keyword, value)
    return header


def as_image_header(report: Dataset) -> Dataset:
    """The header of a report in the place of the image that it was copied from."""
    number = raw_value(report, "SeriesNumber")
    if number is not None and int(number) > SERIES_NUMBER_BASE:
        put_value(report, "SeriesNumber", int(number) - SERIES_NUMBER_BASE)
    return report


def evidence_of(report: Dataset) -> list[InstanceRef]:
    """The images that a report is about."""
    return [
        InstanceRef(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
