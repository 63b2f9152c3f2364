"""What an object of the node's own is about, and how it becomes a file: shared by reports, flags and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

from pydicom.dataset import Dataset

from qc_node.dicom.patient import same_patient
from qc_node.domain import InstanceRef, Relink, SeriesKey
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.rows import ReportRow, SeriesRow
from qc_node.outbox.headers import header_or_none, read_header
from qc_node.report.identifiers import as_image_header, correct, evidence_of
from qc_node.report.uids import Edition, Predecessor
from qc_node.spool import Spool


class SourceRow(TypedDict):
    """Which run of which series, and the file whose header names the patient: a verdict, or less."""

    series_id: int
    run: int
    source_path: str


@dataclass(frozen=True)
class Subject:
    """What a report is about."""

    key: SeriesKey
    source: Dataset
    evidence: list[InstanceRef]
    edition: Edition


class Subjects:
    """Looks up what a report on a run of a series is about."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool

    def of(self, row: SourceRow, series: SeriesRow) -> Subject:
        """What a report on a series is about: whom its images name, and what operators corrected of that."""
        relinks = self._ledger.relinks.of(series["study_uid"], series["series_uid"])
        source = correct(self._source(row, relinks), relinks)
        return Subject(
            key=SeriesKey(series["study_uid"], series["series_uid"]),
            source=source,
            evidence=self._evidence(series),
            edition=self._edition(row, series, relinks, source),
        )

    def _source(self, row: SourceRow, relinks: Sequence[Relink]) -> Dataset:
        """The header that identity is copied from: an image's or, where these are gone, that of a report."""
        if row["source_path"] and self._spool.has(row["source_path"]):
            return read_header(self._spool, row["source_path"])
        written = self._ledger.deliveries.reports_of(row["series_id"])
        reports = [r for r in written if r["kind"] == "sr" and r["path"]]
        own = [r for r in reports if r["run"] == row["run"]]
        if own:
            return as_image_header(read_header(self._spool, own[-1]["path"]))
        if relinks:
            uncorrected = [r for r in reports if r["created_at"] <= relinks[0].at] or reports[:1]
            if uncorrected:
                return as_image_header(read_header(self._spool, uncorrected[-1]["path"]))
        return read_header(self._spool, row["source_path"])

    def _evidence(self, series: SeriesRow) -> list[InstanceRef]:
        """The images that were judged; where they are gone, as the last report names them."""
        last = self._ledger.deliveries.last_report(series["series_id"])
        if series["images_removed_at"] is not None and last is not None and last["path"]:
            return evidence_of(read_header(self._spool, last["path"]))
        instances = self._ledger.instances.of_series(series["series_id"])
        return [InstanceRef(i["sop_class_uid"], i["sop_instance_uid"], i["digest"] or "") for i in instances]

    def _edition(self, row: SourceRow, series: SeriesRow, relinks: Sequence[Relink], source: Dataset) -> Edition:
        """What makes this report another one than its images alone do.

        A patient who was named before and is again gets another report: the first one may be gone from the PACS.
        """
        written = self._ledger.deliveries.reports_of(row["series_id"])
        reports = [r for r in written if r["kind"] == "sr" and r["path"] and r["run"] < row["run"]]
        headers = [h for r in reports if (h := header_or_none(self._spool, r["path"])) is not None]
        changes = sum(not same_patient(one, other) for one, other in pairwise((*headers, source)))
        first = self._ledger.series.first_study(series["series_uid"])
        place = [f"patient {changes}"] if changes else []
        place += [series["study_uid"]] if first != series["study_uid"] else []
        return Edition(tuple(f"relink {relink.number}" for relink in relinks), tuple(place))


def predecessor_in(spool: Spool, before: ReportRow | None) -> Predecessor | None:
    """How a report names the one that it replaces."""
    if before is None:
        return None
    earlier = read_header(spool, before["path"])
    return str(earlier.SOPClassUID), str(earlier.SOPInstanceUID), str(earlier.SeriesInstanceUID)


def store_object(
    spool: Spool, ds: Dataset, series: SeriesRow, kind: str, before: ReportRow | None, *, anew: bool = False
) -> WrittenObject:
    """Write an object into the spool, unless its file is there already.

    Parameters
    ----------
    before
        What it replaces.
    anew
        Write it in any case: what is there has no row, was never sent, and may say something else.
    """
    uid = str(ds.SOPInstanceUID)
    name = spool.report_name(uid)
    if anew or not spool.path(name).exists():
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        spool.store(name, buffer.getbuffer())
    else:
        spool.touch(name)  # a kill had cut it off from its row, which comes now
    return WrittenObject(
        sop_instance_uid=uid,
        sop_class_uid=str(ds.SOPClassUID),
        series_id=series["series_id"],
        study_uid=series["study_uid"],
        run=series["run"],
        kind=kind,
        path=name,
        predecessor=before["sop_instance_uid"] if before and before["sop_instance_uid"] != uid else None,
    )
