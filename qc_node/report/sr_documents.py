"""What every Structured Report of the node has in common: modules, observer, root, the head of a group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from qc_node.dicom.uids import MANUFACTURER
from qc_node.domain import InstanceRef, ModelIdentity, SeriesKey
from qc_node.report import codes, modules
from qc_node.report.character_set import SourceText
from qc_node.report.documents import DISCLAIMER, SHORT_HASH, NodeIdentity, new_object, series_number
from qc_node.report.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    code_item,
    container,
    text_item,
    uid_item,
)
from qc_node.report.uids import Predecessor, device_uid, short_uid

SERIES_DESCRIPTION: Final = "QC report"
SUMMARY_GROUP: Final = "summary"
"""Tracking Identifier of the group that answers no question."""


def report_document(
    text: SourceText,
    series: SeriesKey,
    evidence: Sequence[InstanceRef],
    uids: Predecessor,
    node: NodeIdentity,
    software_version: str,
    created: datetime,
    *,
    instance_number: int,
    predecessor: Predecessor | None,
) -> Dataset:
    """A report on one series but for its tree: which images it is about, and which report it replaces.

    Parameters
    ----------
    uids
        Its own, as those of a predecessor.
    """
    ds = new_document(
        text,
        series,
        *uids,
        node,
        software_version,
        created,
        modality="SR",
        description=SERIES_DESCRIPTION,
        instance_number=instance_number,
    )
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = DicomSequence()
    ds.CurrentRequestedProcedureEvidenceSequence = modules.evidence_sequence({series: evidence})
    if predecessor is not None:
        sop_class, sop_instance, its_series = predecessor
        ds.PredecessorDocumentsSequence = modules.evidence_sequence(
            {SeriesKey(series.study_instance_uid, its_series): [InstanceRef(sop_class, sop_instance)]}
        )
    return ds


def new_document(
    text: SourceText,
    series: SeriesKey,
    sop_class_uid: str,
    sop_instance_uid: str,
    series_instance_uid: str,
    node: NodeIdentity,
    software_version: str,
    created: datetime,
    *,
    modality: str,
    description: str,
    instance_number: int = 1,
) -> Dataset:
    """A document of the node's own in the study of the images: every module but the document's content.

    Parameters
    ----------
    text
        The texts of the header of one of them (:func:`qc_node.report.modules.source_text`).
    """
    ds = new_object(
        text,
        series.study_instance_uid,
        sop_class_uid,
        sop_instance_uid,
        series_instance_uid,
        node,
        software_version,
        created,
        modality=modality,
        description=description,
        series_number=series_number(text.source),
        instance_number=instance_number,
    )
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence()
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    scheme.CodingSchemeName = codes.PRIVATE_SCHEME_NAME
    scheme.CodingSchemeResponsibleOrganization = codes.PRIVATE_SCHEME_ORGANIZATION
    ds.CodingSchemeIdentificationSequence = DicomSequence([scheme])
    return ds


def observer(node: NodeIdentity, model: ModelIdentity) -> list[Dataset]:
    """The device as observer (TID 1002 and 1004); without a serial number where it has no weights."""
    serial = model.sha256[:SHORT_HASH]
    return [
        code_item(codes.OBSERVER_TYPE, codes.DEVICE, HAS_OBS_CONTEXT),
        uid_item(codes.DEVICE_UID, device_uid(node.station_name, model)),
        text_item(codes.DEVICE_NAME, node.station_name, HAS_OBS_CONTEXT),
        text_item(codes.DEVICE_MANUFACTURER, MANUFACTURER, HAS_OBS_CONTEXT),
        text_item(codes.DEVICE_MODEL, f"{model.name} {model.version}", HAS_OBS_CONTEXT),
        *([text_item(codes.DEVICE_SERIAL, serial, HAS_OBS_CONTEXT)] if serial else ()),
    ]


def report_root(
    context: Sequence[Dataset], modality: str, groups: Sequence[Dataset], remarks: Sequence[str] = ()
) -> Dataset:
    """The root of a TID 1500 document."""
    content = [
        code_item(codes.LANGUAGE, codes.ENGLISH, HAS_CONCEPT_MOD),
        *context,
        code_item(codes.PROCEDURE_REPORTED, codes.procedure(modality), HAS_CONCEPT_MOD),
        container(codes.IMAGING_MEASUREMENTS, groups),
    ]
    if remarks:
        comments = [text_item(codes.COMMENT, sentence) for sentence in remarks]
        content.append(container(codes.QUALITATIVE_EVALUATIONS, comments))
    return container(codes.MEASUREMENT_REPORT, content, relationship=None, template="1500")


def group_head(subject_uid: str, what: str) -> list[Dataset]:
    """What every measurement group begins with; the tracking UID stays the same for a subject and question."""
    return [
        text_item(codes.TRACKING_IDENTIFIER, what, HAS_OBS_CONTEXT),
        uid_item(codes.TRACKING_UID, short_uid("tracking", subject_uid, what)),
        code_item(codes.FINDING, codes.QUALITY_ASSESSMENT),
    ]


def summary_group(series: SeriesKey, sentence: str) -> Dataset:
    """The group that says it all in a sentence, for people."""
    content = [
        *group_head(series.series_instance_uid, SUMMARY_GROUP),
        text_item(codes.SUMMARY, sentence),
        text_item(codes.COMMENT, DISCLAIMER),
    ]
    return container(codes.MEASUREMENT_GROUP, content, CONTAINS, template="1501")
