"""A reader's vote as a TID 1500 report with a Person observer, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from qc_node.dicom.uids import SR_CLASSES
from qc_node.domain import InstanceRef, QcNodeError, Reason, SeriesKey
from qc_node.report import codes, modules
from qc_node.report.character_set import settle_character_set
from qc_node.report.documents import NodeIdentity
from qc_node.report.items import (
    CONTAINS,
    HAS_OBS_CONTEXT,
    code_item,
    codes_named,
    container,
    named,
    person_item,
    text_item,
    text_named,
)
from qc_node.report.sr_documents import group_head, new_document, report_root
from qc_node.report.uids import derived_uid

SERIES_DESCRIPTION: Final = "QC votes"
NOTE: Final = "A reader's opinion on image quality, given in one click; not for diagnosis."


@dataclass(frozen=True, slots=True)
class PersonObserver:
    """Who voted.

    ``name`` as a DICOM person name or plain words; ``login`` is the reader's id at the node; ``organization``
    the site.
    """

    name: str
    login: str | None = None
    organization: str | None = None


@dataclass(frozen=True)
class VoteReport:
    """What a vote report says; ``series`` is None for a vote on a whole study."""

    vote: str
    reader: PersonObserver
    study_instance_uid: str
    series: SeriesKey | None
    reasons: tuple[Reason, ...]


def build_vote_report(
    source: Dataset,
    evidence: Mapping[SeriesKey, Iterable[InstanceRef]],
    vote: str,
    reader: PersonObserver,
    *,
    vote_key: str,
    voted_at: datetime,
    study_instance_uid: str,
    series: SeriesKey | None,
    software_version: str,
    node: NodeIdentity | str,
    reasons: Sequence[Reason] = (),
    sr_class: str,
    another: bool = False,
) -> Dataset:
    """One vote as a Structured Report.

    Parameters
    ----------
    source
        Header of any image of the study.
    evidence
        The images voted on, by series; at least one.
    vote
        ``good``, ``acceptable`` or ``poor``.
    vote_key
        Names the vote among those of this reader; the UID follows from both.
    series
        What the vote is about; None: the study.
    another
        The same vote is written in another class as well, for another destination; so this one needs a UID of its
        own.

    Raises
    ------
    ValueError
        An unknown vote or SR class, or no evidence.
    """
    if vote not in codes.VOTES or sr_class not in SR_CLASSES or not any(list(r) for r in evidence.values()):
        raise ValueError("a vote report needs a vote, evidence and a known SR class")
    node = NodeIdentity(node) if isinstance(node, str) else node
    author = reader.login or reader.name
    key = series or SeriesKey(study_instance_uid, next(iter(evidence)).series_instance_uid)
    text = modules.source_text(source)
    ds = new_document(
        text,
        key,
        SR_CLASSES[sr_class],
        derived_uid("vote", author, vote_key, *([sr_class] if another else [])),
        derived_uid("vote-series", study_instance_uid, node.station_name, software_version),
        node,
        software_version,
        voted_at,
        modality="SR",
        description=SERIES_DESCRIPTION,
    )
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = DicomSequence()
    ds.CurrentRequestedProcedureEvidenceSequence = modules.evidence_sequence(evidence)
    modality = str(modules.raw_value(source, "Modality") or "")
    subject = series.series_instance_uid if series else study_instance_uid
    what = codes.SERIES_QUALITY if series else codes.STUDY_QUALITY
    findings = [code for reason in reasons for code in codes.REASONS[reason]]
    group = container(
        codes.MEASUREMENT_GROUP,
        [
            *group_head(subject, "vote/series" if series else "vote/study"),
            code_item(what, codes.VOTES[vote]),
            *(code_item(codes.QUALITY_FINDING, code) for code in findings),
            text_item(codes.COMMENT, NOTE),
        ],
        CONTAINS,
        template="1501",
    )
    ds.update(report_root(_observer(reader), modality, [group]))
    if not any(code.scheme == codes.PRIVATE_SCHEME for code in findings):
        del ds.CodingSchemeIdentificationSequence
    settle_character_set(ds, text)
    return ds


def _observer(reader: PersonObserver) -> list[Dataset]:
    """The person as observer (TID 1002 and 1003)."""
    items = [
        code_item(codes.OBSERVER_TYPE, codes.PERSON, HAS_OBS_CONTEXT),
        person_item(codes.PERSON_NAME, reader.name),
    ]
    if reader.login:
        items.append(text_item(codes.PERSON_LOGIN, reader.login, HAS_OBS_CONTEXT))
    if reader.organization:
        items.append(text_item(codes.PERSON_ORGANIZATION, reader.organization, HAS_OBS_CONTEXT))
    return items


def read_vote_report(ds: Dataset) -> VoteReport:
    """The inverse of :func:`build_vote_report`.

    Raises
    ------
    QcNodeError
        `ds` is no vote report.
    """
    try:
        (measurements,) = named(ds, codes.IMAGING_MEASUREMENTS)
        (group,) = named(measurements, codes.MEASUREMENT_GROUP)
        of_series = codes_named(group, codes.SERIES_QUALITY)
        (answer,) = of_series or codes_named(group, codes.STUDY_QUALITY)
        vote = next(vote for vote, code in codes.VOTES.items() if code == answer)
        (person,) = named(ds, codes.PERSON_NAME)
        study = ds.CurrentRequestedProcedureEvidenceSequence[0]
    except (AttributeError, ValueError, IndexError, StopIteration) as error:
        raise QcNodeError("The object is no vote report of a qc-node.") from error
    uid = str(study.StudyInstanceUID)
    series = SeriesKey(uid, str(study.ReferencedSeriesSequence[0].SeriesInstanceUID)) if of_series else None
    found = set(codes_named(group, codes.QUALITY_FINDING))
    reader = PersonObserver(
        str(person.PersonName), text_named(ds, codes.PERSON_LOGIN), text_named(ds, codes.PERSON_ORGANIZATION)
    )
    reasons = tuple(reason for reason, spelt in codes.REASONS.items() if spelt[-1] in found)
    return VoteReport(vote, reader, uid, series, reasons)
