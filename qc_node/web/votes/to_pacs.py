"""A vote as an object of its own in the PACS: human observer, TID 1500, off by default (``web.vote_sr``)."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pydicom

from qc_node.domain import InstanceRef, Reason, Relink, SeriesKey
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.rows import ReaderRow, SeriesRow, VoteRow
from qc_node.report.character_set import note
from qc_node.report.identifiers import correct
from qc_node.report.modules import source_text
from qc_node.report.vote_report import PersonObserver, build_vote_report
from qc_node.spool import Spool

log = logging.getLogger(__name__)

REASONS = {
    "motion": Reason.MOTION,
    "noise": Reason.NOISE,
    "contrast": Reason.POOR_CONTRAST,
    "artefact": Reason.ARTIFACT,
    "coverage": Reason.COVERAGE,
    "positioning": Reason.ORIENTATION,
    "exposure": Reason.EXPOSURE,
}
"""Reasons of the panel that DICOM has a code for; ``protocol`` and ``other`` say nothing about the image."""

NO_REPORT = "A vote came after its images were removed; it gets no report."


def vote_reporter(
    ledger: Ledger,
    spool: Spool,
    destinations: Sequence[str],
    *,
    station_name: str,
    software_version: str,
    sr_class: str,
    another: bool = False,
    clock: Callable[[], float],
) -> Callable[[VoteRow, ReaderRow], None]:
    """The ``report_vote`` of :class:`WebDeps`: builds the report of a vote and puts it into the outbox.

    The UID follows from reader and key of the vote, so that a second call changes nothing; from the SR class too
    where it is `another` than that of the first destination.
    """

    def report(vote: VoteRow, reader: ReaderRow) -> None:
        study_uid = vote["study_uid"] or ""
        wanted = _series_of(ledger, study_uid, vote["series_uid"])
        evidence: dict[SeriesKey, list[InstanceRef]] = {}
        source = None
        relinks: list[Relink] = []
        for series in wanted:
            for row in ledger.instances.of_series(series["series_id"]):
                key = SeriesKey(study_uid, series["series_uid"])
                ref = InstanceRef(row["sop_class_uid"], row["sop_instance_uid"])
                evidence.setdefault(key, []).append(ref)
                if source is None:
                    source, relinks = row["path"], ledger.relinks.of(study_uid, series["series_uid"])
        if source is None:  # no image of this study is here (any more), so there is nothing to point at
            if wanted:
                log.warning(NO_REPORT)
            return
        try:
            header = correct(pydicom.dcmread(spool.path(source), stop_before_pixels=True), relinks)
        except OSError:
            log.warning(NO_REPORT)
            return
        ds = build_vote_report(
            header,
            evidence,
            vote["vote"],
            PersonObserver(reader["dicom_name"] or reader["name"], reader["login"], reader["site"]),
            vote_key=vote["key"],
            voted_at=datetime.fromtimestamp(vote["voted_at"], UTC),
            study_instance_uid=study_uid,
            series=SeriesKey(study_uid, vote["series_uid"]) if vote["series_uid"] else None,
            software_version=software_version,
            node=station_name,
            sr_class=sr_class,
            another=another,
            reasons=[REASONS[r] for r in vote["reasons"] if r in REASONS],
        )
        uid = str(ds.SOPInstanceUID)
        if ledger.deliveries.is_ours(uid):
            return
        sentence = note(source_text(header))
        if sentence is not None:
            log.warning("report of a vote: %s", sentence)
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, ds, enforce_file_format=True)
        name = spool.report_name(uid)
        spool.store(name, stream.getvalue())
        written = WrittenObject(
            sop_instance_uid=uid,
            sop_class_uid=str(ds.SOPClassUID),
            series_id=wanted[0]["series_id"],
            study_uid=study_uid,
            run=wanted[0]["run"] if vote["series_uid"] else 1,
            kind="vote",
            path=name,
        )
        if not ledger.deliveries.post([written], destinations, clock()):
            spool.remove_all([name])

    return report


def _series_of(ledger: Ledger, study_uid: str, series_uid: str | None) -> list[SeriesRow]:
    """The series that a vote is about: the one that it names, or all of the study."""
    if series_uid is None:
        return ledger.series.of_study(study_uid)
    row = ledger.series.find(study_uid, series_uid)
    return [] if row is None else [row]
