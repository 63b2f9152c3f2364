"""A patient merge, or an identifier corrected elsewhere, that the images do not bring along.

The ledger is the interface: a running node finds the rows, writes the new reports and sends them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from qc_node.dicom.patient import same_patient
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.corrections import LEFT_BEHIND
from qc_node.ledger.rows import SeriesRow
from qc_node.outbox.headers import header_or_none
from qc_node.report.identifiers import Patient, correct, patient_of
from qc_node.spool import Spool, digest


@dataclass(frozen=True)
class Relinked:
    """What follows.

    ``again`` series get a new report, ``later`` ones carry the correction when their next one comes; ``wrong`` are
    the SOP Instance UIDs of what the PACS has and names another patient by now.
    """

    again: int
    later: int
    wrong: tuple[str, ...]


def relink(
    ledger: Ledger,
    spool: Spool,
    study_uid: str,
    series_uid: str | None,
    identity: Mapping[str, str] | None,
    by: str,
    at: float,
) -> Relinked:
    """Have reports on a study, or one series of it, carry corrected identifiers from now on.

    Parameters
    ----------
    identity
        Values by DICOM keyword; what is not among them stays as the images say.  None: take back what was
        corrected.
    by
        Who says so, for the audit.
    at
        Seconds since the epoch.

    Raises
    ------
    QcNodeError
        There is no such study or series, or nothing to take back.
    """
    wanted = _wanted(ledger, study_uid, series_uid)
    if identity is None and not any(ledger.relinks.of(study_uid, row["series_uid"]) for row in wanted):
        raise QcNodeError(f"Nothing was corrected of the study {study_uid}, so there is nothing to take back.")
    patients = {patient for row in wanted for patient in _named(ledger, spool, row)}
    with ledger.db.transaction():
        ledger.relinks.add(study_uid, series_uid, identity, patients, by, at)
        if identity is not None and series_uid is None:
            ledger.studies.describe(study_uid, identity.get("AccessionNumber") or None, None)
        about = {"study": digest(study_uid), "series": digest(series_uid) if series_uid else None}
        ledger.audit.add("relink", by, at, {**about, "changed": sorted(identity or ())})
        again = [row for row in wanted if ledger.relinks.report_again(row["series_id"], at)]
        for row in wanted:
            ledger.series.relinked(row["series_id"], at)
    wrong = [uid for row in wanted for uid in _leave_behind(ledger, spool, row, at)]
    return Relinked(len(again), len(wanted) - len(again), tuple(wrong))


def _wanted(ledger: Ledger, study_uid: str, series_uid: str | None) -> Sequence[SeriesRow]:
    if series_uid is None:
        wanted = ledger.series.of_study(study_uid)
        if not wanted:
            raise QcNodeError(f"There is no study {study_uid} in the ledger.")
        return wanted
    row = ledger.series.find(study_uid, series_uid)
    if row is None:
        raise QcNodeError(f"There is no series {series_uid} of the study {study_uid} in the ledger.")
    return [row]


def _reports(ledger: Ledger, spool: Spool, row: SeriesRow) -> list[tuple[str, Dataset]]:
    """UIDs and headers of the objects that the node wrote about a series, oldest first."""
    written = ledger.deliveries.reports_of(row["series_id"])
    found = ((report["sop_instance_uid"], header_or_none(spool, report["path"])) for report in written)
    return [(uid, header) for uid, header in found if header is not None]


def _image(ledger: Ledger, spool: Spool, row: SeriesRow) -> Dataset | None:
    names = ledger.instances.paths_of_series(row["series_id"])
    return next((header for name in names if (header := header_or_none(spool, name)) is not None), None)


def _named(ledger: Ledger, spool: Spool, row: SeriesRow) -> set[Patient]:
    """Whom the images of a series name; where they are gone, whom the reports named."""
    image = _image(ledger, spool, row)
    headers = [image] if image is not None else [header for _, header in _reports(ledger, spool, row)]
    return {patient_of(header) for header in headers}


def _leave_behind(ledger: Ledger, spool: Spool, row: SeriesRow, at: float) -> list[str]:
    """Hold back, or note for people, what names another patient by now; the UIDs of what is noted."""
    relinks = ledger.relinks.of(row["study_uid"], row["series_uid"])
    source = _image(ledger, spool, row) or next((header for _, header in _reports(ledger, spool, row)), None)
    if source is None:
        return []
    now = correct(source, relinks)
    if all(same_patient(header, now) for _, header in _reports(ledger, spool, row)):
        return []
    before = _noted(ledger, row)
    ledger.series.leave_reports_behind(row["series_id"], at)
    return [uid for uid in _noted(ledger, row) if uid not in before]


def _noted(ledger: Ledger, row: SeriesRow) -> list[str]:
    history = ledger.series.events(row["series_id"])
    return [event["detail"] for event in history if event["event"] == LEFT_BEHIND and event["detail"]]
