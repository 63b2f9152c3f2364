"""Key object selection documents (TID 2010): the node's optional flag, and what others send.

The flag is titled Quality Issue, never Rejected for Quality Reasons: archives hide images that carry that one.
It names no Document Title Modifier although TID 2010 row 3 expects a reason beside this title: the template as
PixelMed's validator has it (2022) finds the row's condition unsatisfied and calls any modifier an error.  The
reasons stand in the Key Object Description and, coded, in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import KeyObjectSelectionDocumentStorage

from qc_node.domain import AnswerKind, Grade, InstanceRef, QcNodeError, Question, Reason, SeriesKey, Verdict
from qc_node.domain.wording import advice_on, sureness
from qc_node.report import codes, modules
from qc_node.report.character_set import settle_character_set
from qc_node.report.codes import Code
from qc_node.report.documents import DISCLAIMER, NodeIdentity, model_equipment
from qc_node.report.items import (
    HAS_CONCEPT_MOD,
    children,
    code_in,
    code_item,
    codes_named,
    container,
    image_item,
    name_of,
    text_item,
    text_named,
)
from qc_node.report.sr_documents import new_document, observer
from qc_node.report.uids import ORIGINAL, Edition, flag_uid, report_series_uid

KEY_OBJECT_SELECTION: Final = str(KeyObjectSelectionDocumentStorage)
"""SOP Class."""

SERIES_DESCRIPTION: Final = "QC flag"


def build_flag(
    source: Dataset,
    evidence: Sequence[InstanceRef],
    series: SeriesKey,
    verdict: Verdict,
    *,
    software_version: str,
    node: NodeIdentity | str,
    created: datetime,
    edition: Edition = ORIGINAL,
) -> Dataset:
    """A key object titled (113010, DCM, "Quality Issue") on every image of a series.

    Arguments as for :func:`qc_node.report.structured_report.build_report`.

    Raises
    ------
    ValueError
        No evidence.
    """
    if not evidence:
        raise ValueError("a key object needs an image")
    node = NodeIdentity(node) if isinstance(node, str) else node
    uid = flag_uid(series.series_instance_uid, evidence, verdict.model, edition)
    series_uid = report_series_uid(
        "flag-series", series.series_instance_uid, node.station_name, software_version, edition
    )
    text = modules.source_text(source)
    ds = new_document(
        text,
        series,
        KEY_OBJECT_SELECTION,
        uid,
        series_uid,
        node,
        software_version,
        created,
        modality="KO",
        description=SERIES_DESCRIPTION,
    )
    del ds.CodingSchemeIdentificationSequence
    ds.ContributingEquipmentSequence = DicomSequence([model_equipment(node, verdict, created)])
    ds.CurrentRequestedProcedureEvidenceSequence = modules.evidence_sequence({series: evidence})
    ordered = sorted(set(evidence), key=lambda r: (r.sop_class_uid, r.sop_instance_uid))
    content = [
        code_item(codes.LANGUAGE, codes.ENGLISH, HAS_CONCEPT_MOD),
        *observer(node, verdict.model),
        text_item(codes.KEY_OBJECT_DESCRIPTION, f"{flag_sentence(verdict)} {DISCLAIMER}"),
        *(image_item(ref.sop_class_uid, ref.sop_instance_uid) for ref in ordered),
    ]
    ds.update(container(codes.QUALITY_ISSUE, content, relationship=None, template="2010"))
    settle_character_set(ds, text)
    return ds


def flag_sentence(verdict: Verdict) -> str:
    """Why the series is flagged, how sure that is, and what to do."""
    reject = verdict.finding(Question.STRAIGHT_REJECT)
    if reject is not None and reject.value:
        why = f": {_words(reject.reason)}" if reject.reason else ""
        said = "Not" if reject.measured else "Probably not"
        return f"{said} a proper whole-head 3D T1-weighted image{why}. {sureness(reject)}. {advice_on(reject)}"
    tier = verdict.finding(Question.TIER)
    if tier is not None and tier.value:
        graded = [f for f in verdict.findings if f.question.kind is AnswerKind.GRADE]
        severe = [f"{f.question.value} {f.value}" for f in graded if f.value == Grade.SEVERE]
        grades = f" (grade of {', '.join(severe)})" if severe else ""
        return f"Image quality tier {tier.value}{grades}. {advice_on(tier)}".rstrip()
    found = [f"{f.question.title}: {f.words}" for f in verdict.findings if f.key in f.question.attention]
    return f"{'; '.join(found)}." if found else "Image quality issue."


def _words(reason: Reason) -> str:
    meaning = codes.REASONS[reason][-1].meaning
    return meaning[0].lower() + meaning[1:]


@dataclass(frozen=True)
class KeyObject:
    """What a key object selection document says.

    Attributes
    ----------
    title
        CID 7010, e.g. (113001, DCM) or (113010, DCM).
    observer_type
        ``person``, ``device``, or None where nobody is named.  With several observers the first person counts.
    observer_name, observer_login, observer_organization
        Of the person, or the name of the device.
    observer_device_uid
        Of the device.
    study_instance_uid
        Of the first thing referenced, else of the document.
    references
        What the document points at; where its tree points at nothing, its whole evidence.
    modifiers
        Document Title Modifiers: the reasons of a rejection (CID 7011).
    written_at
        Content date and time as in the header, ``YYYYMMDDHHMMSS``; None where they cannot be read.
    """

    sop_instance_uid: str
    title: Code
    observer_type: str | None
    observer_name: str | None
    observer_login: str | None
    observer_organization: str | None
    observer_device_uid: str | None
    study_instance_uid: str
    references: tuple[tuple[SeriesKey, InstanceRef], ...]
    modifiers: tuple[Code, ...]
    description: str | None
    written_at: str | None

    @property
    def series(self) -> tuple[SeriesKey, ...]:
        """The series that are pointed at, each once."""
        return tuple(dict.fromkeys(key for key, _ in self.references))


def is_key_object(ds: Dataset) -> bool:
    """Whether `ds` is a Key Object Selection document."""
    return str(modules.raw_value(ds, "SOPClassUID") or "") == KEY_OBJECT_SELECTION


def read_key_object(ds: Dataset) -> KeyObject:
    """What the key object `ds` says, whoever wrote it.

    Raises
    ------
    QcNodeError
        `ds` is no key object, or has no title.
    """
    title = name_of(ds)
    if not is_key_object(ds) or title is None:
        raise QcNodeError("The object is no key object selection document with a title.")
    try:
        evidence = dict(_evidence(ds))
        pointed = [evidence.get(uid) for uid in _pointed_at(ds)]
        references = tuple(p for p in pointed if p) or tuple(evidence.values())
        observers = list(_observers(ds))
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise QcNodeError(f"The key object cannot be read: {error}.") from error
    who = next((o for o in observers if o.type == "person"), observers[0] if observers else _Observer())
    date, time = (str(modules.raw_value(ds, k) or "") for k in ("ContentDate", "ContentTime"))
    return KeyObject(
        sop_instance_uid=str(modules.raw_value(ds, "SOPInstanceUID") or ""),
        title=title,
        observer_type=who.type,
        observer_name=who.name,
        observer_login=who.login,
        observer_organization=who.organization,
        observer_device_uid=who.device_uid,
        study_instance_uid=references[0][0].study_instance_uid
        if references
        else str(modules.raw_value(ds, "StudyInstanceUID") or ""),
        references=references,
        modifiers=tuple(codes_named(ds, codes.TITLE_MODIFIER)),
        description=text_named(ds, codes.KEY_OBJECT_DESCRIPTION),
        written_at=f"{date}{time[:6]}" if len(date) == 8 and date.isdigit() and time[:6].isdigit() else None,
    )


@dataclass
class _Observer:
    type: str | None = None
    name: str | None = None
    login: str | None = None
    organization: str | None = None
    device_uid: str | None = None


def _observers(ds: Dataset) -> Iterator[_Observer]:
    """Each observer of TID 1002: a type (Person where none is said), then what belongs to it."""
    current: _Observer | None = None
    for item in children(ds):
        name = name_of(item)
        if name == codes.OBSERVER_TYPE:
            if current is not None:
                yield current
            kind = code_in(item, "ConceptCodeSequence")
            current = _Observer("device" if kind == codes.DEVICE else "person" if kind == codes.PERSON else None)
        elif name in (codes.PERSON_NAME, codes.DEVICE_UID):
            kind_of = "person" if name == codes.PERSON_NAME else "device"
            if current is None or current.type not in (None, kind_of):
                if current is not None:
                    yield current
                current = _Observer()
            current.type = kind_of
            if kind_of == "person":
                current.name = str(item.get("PersonName", "") or "") or None
            else:
                current.device_uid = str(item.get("UID", "") or "") or None
        elif current is not None and name == codes.DEVICE_NAME:
            current.name = str(item.get("TextValue", ""))
        elif current is not None and name == codes.PERSON_LOGIN:
            current.login = str(item.get("TextValue", ""))
        elif current is not None and name == codes.PERSON_ORGANIZATION:
            current.organization = str(item.get("TextValue", ""))
    if current is not None:
        yield current


def _evidence(ds: Dataset) -> Iterator[tuple[str, tuple[SeriesKey, InstanceRef]]]:
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in ds.get(keyword) or []:
            for series in study.get("ReferencedSeriesSequence") or []:
                key = SeriesKey(str(study.StudyInstanceUID), str(series.SeriesInstanceUID))
                for item in series.get("ReferencedSOPSequence") or []:
                    ref = InstanceRef(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                    yield ref.sop_instance_uid, (key, ref)


def _pointed_at(ds: Dataset) -> Iterator[str]:
    for item in children(ds):
        if item.get("ValueType") in ("IMAGE", "COMPOSITE", "WAVEFORM"):
            for reference in item.get("ReferencedSOPSequence") or []:
                yield str(reference.ReferencedSOPInstanceUID)
