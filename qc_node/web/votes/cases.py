"""Cases: what can be voted on, under names that say nothing about the patient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qc_node.dicom.uids import is_uid
from qc_node.domain import QcNodeError
from qc_node.ledger.rows import CaseRow, SeriesRow
from qc_node.web.access import security
from qc_node.web.access.readers import Reader
from qc_node.web.pages import phrases
from qc_node.web.settings import WebDeps
from qc_node.web.texts import _, ngettext
from qc_node.web.votes import additions, casting, numbers

THUMBNAIL = re.compile(r"thumbnails/([0-9a-f]{32}-[a-z0-9_-]{1,40}\.png)")
MID_PLANES = ("axial", "coronal", "sagittal")
NUMBERS = 5000
"""Among so many studies, the newest, a number is looked for that a typed one may mean."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a PACS asks to show; at least one of the three is there."""

    study_uid: str | None = None
    series_uid: str | None = None
    accession_number: str | None = None


def parse_launch(query: Mapping[str, str]) -> Launch | None:
    """Read a launch URL's parameters; None when it names nothing.

    Understood in any case: ``StudyInstanceUID``, ``studyUID``, ``SeriesInstanceUID``, ``seriesUID``,
    ``AccessionNumber``, ``accession`` and OHIF's ``StudyInstanceUIDs`` with one UID; ``requestType``
    (IHE Invoke Image Display, ITI TF RAD-106) may only be ``STUDY``.

    Raises
    ------
    QcNodeError
        A value is not a UID, or not an accession number, or the request type is another one; or it is a SMART on
        FHIR launch, or names a patient only.
    """
    found = {name.lower(): value.strip() for name, value in query.items() if value.strip()}
    request = found.get("requesttype", "STUDY")
    if request.upper() != "STUDY":
        raise QcNodeError("requestType must be STUDY.")
    study = found.get("studyinstanceuid") or found.get("studyuid") or found.get("studyinstanceuids")
    series = found.get("seriesinstanceuid") or found.get("seriesuid")
    accession = found.get("accessionnumber") or found.get("accession")
    for name, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series)):
        if uid is not None and not is_uid(uid):
            raise QcNodeError(f"{name} is not a DICOM UID.")
    if accession is not None and security.ACCESSION.fullmatch(accession) is None:
        raise QcNodeError("AccessionNumber is not an accession number.")
    if study is None and series is None and accession is None:
        if "hub.topic" not in found:
            _refuse_what_names_no_study(found)
        return None
    return Launch(study, series, accession)


def _refuse_what_names_no_study(found: Mapping[str, str]) -> None:
    """Say so where a launch means something that cannot be opened here, instead of showing an empty panel."""
    if "iss" in found:
        raise QcNodeError(
            _("SMART on FHIR launches are not supported; name a StudyInstanceUID or AccessionNumber.")
        )
    if {"patientid", "patientuid", "patient", "mrn"} & found.keys():
        raise QcNodeError(_("A patient cannot be opened here; name a StudyInstanceUID or AccessionNumber."))


def resolve(deps: WebDeps, launch: Launch) -> list[str]:
    """Handles of what a launch means: one, or several where an accession number holds several studies."""
    ledger = deps.ledger
    study = launch.study_uid
    if launch.series_uid is not None:
        row = _named_series(deps, launch.series_uid, study)
        if row is not None:
            return [open_series(deps, row)]
    if study is not None:
        return [open_study(deps, study, accession_number=launch.accession_number)]
    if launch.accession_number is not None:
        studies = ledger.studies.by_accession(launch.accession_number)
        if studies:
            return [open_study(deps, row["study_uid"]) for row in studies]
        subject = f"accession:{launch.accession_number}"
        number = launch.accession_number
        return [ledger.cases.open(security.new_handle(), subject, deps.clock(), accession_number=number)]
    raise QcNodeError("The series is not known here, and no study was named with it.")


def open_study(
    deps: WebDeps,
    study_uid: str,
    *,
    accession_number: str | None = None,
    modality: str | None = None,
    description: str | None = None,
) -> str:
    """The handle of a study, known to the node or not."""
    return deps.ledger.cases.open(
        security.new_handle(),
        f"study:{study_uid}",
        deps.clock(),
        study_uid=study_uid,
        accession_number=accession_number,
        modality=modality,
        description=description,
    )


def _named_series(deps: WebDeps, series_uid: str, study_uid: str | None) -> SeriesRow | None:
    """The series that a launch names; without a study the one with this UID that received last."""
    row = deps.ledger.series.get(series_uid)
    if row is None or study_uid is None or row["study_uid"] == study_uid:
        return row
    row = deps.ledger.series.find(study_uid, series_uid)
    if row is None:
        raise QcNodeError("The series does not belong to the study that was named with it.")
    return row


def open_series(deps: WebDeps, row: SeriesRow) -> str:
    """The handle of a series that the node holds."""
    return deps.ledger.cases.open(
        security.new_handle(),
        f"series:{row['study_uid']}/{row['series_uid']}",
        deps.clock(),
        study_uid=row["study_uid"],
        series_uid=row["series_uid"],
        modality=row["modality"],
    )


@dataclass(frozen=True, slots=True)
class FoundCases:
    """What was found of typed text: handles of what is meant, or of what may be."""

    handles: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


def search(deps: WebDeps, text: str) -> FoundCases:
    """What a reader typed: an accession number or a UID that something here names.

    Text that nothing names becomes no study: a slip of a finger must not be votable, nor count as presented.

    Raises
    ------
    QcNodeError
        It is neither an accession number nor a UID.
    """
    text, ledger = text.strip(), deps.ledger
    if "." in text and is_uid(text):  # a plain number is an accession number
        if ledger.series.get(text) is not None:
            return FoundCases(tuple(resolve(deps, Launch(series_uid=text))))
        if ledger.studies.get(text) is not None:
            return FoundCases((open_study(deps, text),))
        case = ledger.cases.of_study(text)
        return FoundCases(() if case is None else (case["handle"],))
    if security.ACCESSION.fullmatch(text) is None:
        raise QcNodeError(_("Type an accession number or a UID."))
    found = _numbered(deps, text)
    if found:
        return FoundCases(found)
    near = numbers.nearest(text, ledger.studies.newest_numbers(NUMBERS))
    return FoundCases((), tuple(handle for number in near for handle in _numbered(deps, number)))


def _numbered(deps: WebDeps, accession_number: str) -> tuple[str, ...]:
    """Handles of the studies with a number that a study here, a viewer or a program named."""
    studies = deps.ledger.studies.by_accession(accession_number)
    if studies:
        return tuple(open_study(deps, row["study_uid"]) for row in studies)
    return tuple(row["handle"] for row in deps.ledger.cases.numbered(accession_number))


def recent(deps: WebDeps, limit: int = 20) -> list[dict[str, Any]]:
    """The studies that moved last, newest first, as :func:`summary` shows them."""
    seen: dict[str, None] = {}
    for row in deps.ledger.series.recent(limit * 8):
        seen.setdefault(row["study_uid"])
    return [summary(deps, open_study(deps, uid)) for uid in list(seen)[:limit]]


def summary(deps: WebDeps, handle: str) -> dict[str, Any]:
    """Accession number, modality, description and time of a case; no name of a person.

    Raises
    ------
    QcNodeError
        There is no such case.
    """
    case = deps.ledger.cases.get(handle)
    if case is None:
        raise QcNodeError("This link does not name a study here.")
    series = _series_of(deps, case)
    study = deps.ledger.studies.get(case["study_uid"]) if case["study_uid"] else None
    modalities = list(dict.fromkeys(row["modality"] for row in series))
    return {
        "case": handle,
        "accession_number": (study["accession_number"] if study else None) or case["accession_number"],
        "modality": "/".join(modalities) or case["modality"],
        "description": (study["description"] if study else None) or case["description"],
        "received_at": study["first_received"] if study else None,
        "known": study is not None,
        "whole_study": case["series_uid"] is None,
    }


def modality_of(deps: WebDeps, case: CaseRow) -> str:
    """The modality that a vote on this case carries: one word, ``OT`` when nothing is known.

    Of several in a study the one with the most images counts (a PET/CT is read as what it mostly is).
    """
    series = _series_of(deps, case)
    if not series:
        return str(case["modality"] or "OT")
    most: dict[str, int] = {}
    for row in series:
        most[row["modality"]] = most.get(row["modality"], 0) + row["instances"]
    return max(most, key=lambda name: most[name]) or "OT"


def series_uid_of(deps: WebDeps, case: CaseRow) -> str | None:
    """The series that a vote on this case is about: the one named, or the only one of the study."""
    if case["series_uid"]:
        return str(case["series_uid"])
    series = _series_of(deps, case)
    return str(series[0]["series_uid"]) if len(series) == 1 else None


def _series_of(deps: WebDeps, case: CaseRow) -> list[SeriesRow]:
    if case["series_uid"]:
        row = deps.ledger.series.find(case["study_uid"] or "", case["series_uid"])
        return [] if row is None else [row]
    return deps.ledger.series.of_study(case["study_uid"]) if case["study_uid"] else []


def pictures(names: list[str]) -> list[dict[str, str]]:
    """Web addresses of stored thumbnails, mid-planes first; names of any other form are left out."""
    out = []
    for name in names:
        match = THUMBNAIL.fullmatch(name)
        if match is not None:
            view = match[1][33:-4]
            out.append({"view": view, "src": f"/thumbnails/{match[1]}"})
    order = {view: n for n, view in enumerate(MID_PLANES)}
    return sorted(out, key=lambda p: order.get(p["view"], len(order)))


def opinions(deps: WebDeps, case: CaseRow) -> list[dict[str, Any]]:
    """What the machine thinks of the series of a case, in words, each with its report's SOP Instance UID."""
    out = []
    for row in _series_of(deps, case):
        given = deps.ledger.verdicts.of_last_run(row["series_id"])
        if given:
            name = given[0]["claims"].get("series_description") or row["modality"]
            report = deps.ledger.deliveries.last_report(row["series_id"])
            uid = None if report is None or report["run"] != given[0]["run"] else report["sop_instance_uid"]
            out.append({"series": name, "report": uid, **phrases.verdict_card(given).as_dict()})
    return out


def show(deps: WebDeps, handle: str, reader: Reader, how: str, context_id: str | None = None) -> dict[str, Any]:
    """Put a case before a reader: record the presentation, and return all that the panel draws.

    The machine's opinion is in it only when the panel is not blind, or after this reader's vote.

    Raises
    ------
    QcNodeError
        There is no such case.
    """
    out = summary(deps, handle)
    case = deps.ledger.cases.get(handle)
    assert case is not None
    now = deps.clock()
    presentation = security.new_handle()
    modality = modality_of(deps, case)
    mine = casting.standing(deps, case, reader.reader_id)
    deps.ledger.cases.present(
        presentation, handle, reader.reader_id, reader.site, modality, now, how, context_id=context_id
    )
    series = []
    for row in _series_of(deps, case):
        verdict = deps.ledger.verdicts.get(row["series_id"])
        names = verdict["thumbnails"] if verdict is not None else []
        views = [p for p in pictures(names) if p["view"] in MID_PLANES]
        claims = verdict["claims"] if verdict is not None else {}
        count = row["instances"]
        images = ngettext("{count} image", "{count} images", count).format(count=count)
        name = claims.get("series_description") or f"{row['modality']}, {images}"
        series.append({"description": name, "modality": row["modality"], "pictures": views})
    show_opinion = not deps.web.blind or mine is not None
    out |= {
        "presentation": presentation,
        "reader": reader.reader_id,
        "series": sorted(series, key=lambda s: not s["pictures"]),
        "blind": deps.web.blind,
        "mine": None if mine is None else additions.public(deps, mine),
        "opinions": opinions(deps, case) if show_opinion else None,
        "marks": deps.ledger.votes.marks_of(case["study_uid"]) if mine and case["study_uid"] else [],
    }
    out["marks"] = [{"vote": m["vote"], "reasons": m["reasons"]} for m in out["marks"]]
    if show_opinion and out["opinions"] and case["study_uid"]:
        deps.ledger.readers.saw_verdict(reader.reader_id, [case["study_uid"]], now)
    return out
