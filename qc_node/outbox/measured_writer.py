"""Reports on series that were measured and not judged (``[pacs] report_measured_only``), into the outbox.

Such a series stays *skipped*: the report changes no state.  What is due follows from the rows of the ledger, so a
step that is run twice writes the same SOP Instance UID and finds its row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from pydicom.dataset import Dataset

from qc_node.dicom.patient import same_patient
from qc_node.dicom.uids import SR_CLASSES
from qc_node.domain.measure import Measure
from qc_node.ledger import Ledger
from qc_node.ledger.measured import NO_REPORT
from qc_node.ledger.rows import MeasuredRow, ReportRow, SeriesRow
from qc_node.outbox.headers import header_or_none
from qc_node.outbox.measured_rows import measured_at, measured_block, source_row, summary_of
from qc_node.outbox.subjects import Subject, Subjects, predecessor_in, store_object
from qc_node.outbox.summary_writer import OWN_TROUBLE
from qc_node.outbox.writer import WritingSettings
from qc_node.spool import Spool, digest

log = logging.getLogger("qc_node.writing")


NOTHING_TO_SAY = "No value is one that a report has a concept for."
SAID_BEFORE = "The report of an earlier run says the same of the same images."


class MeasuredWriter:
    """Rows of measures to objects in the spool and rows in the outbox.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    measures
        Every measure by name.
    on_written
        Called with the series whose report is in the outbox.
    """

    def __init__(
        self,
        settings: WritingSettings,
        ledger: Ledger,
        spool: Spool,
        wall: Callable[[], float],
        measures: Mapping[str, Measure],
        on_written: Callable[[int], None] = lambda series_id: None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._wall = wall
        self._measures = measures
        self._on_written = on_written
        self._subjects = Subjects(ledger, spool)

    def apply(self, settings: WritingSettings) -> None:
        """Write the next report with these."""
        self._settings = settings

    def step(self) -> None:
        """Write every report that is due.

        Raises
        ------
        Exception
            Trouble of the machine, which says nothing about a series: the step is run again.
        """
        if not self._settings.report_measured_only:
            return
        for row in self._ledger.measured.to_report():
            try:
                self._write(row)
            except OWN_TROUBLE:
                raise
            except Exception as error:
                self._give_up(row, error)

    def _give_up(self, row: MeasuredRow, error: Exception) -> None:
        """No traceback: it might quote a header."""
        kind, number = type(error).__name__, row["series_id"]
        log.error("no report of measures could be written for series number %d (%s)", number, kind)
        self._ledger.series.event(
            number, row["run"], self._wall(), NO_REPORT, f"It could not be written ({kind})."
        )

    def _write(self, row: MeasuredRow) -> None:
        series = self._ledger.series.by_id(row["series_id"])
        if series is None or series["run"] != row["run"] or series["state"] != "skipped":
            return
        if not measured_block(row, self._measures):
            self._ledger.series.event(row["series_id"], row["run"], self._wall(), NO_REPORT, NOTHING_TO_SAY)
            return
        about = self._subjects.of(source_row(self._ledger, series), series)
        objects = []
        for sr_class, destinations in self._settings.by_class().items():
            before = self._replaced(row, about.source, sr_class)
            report = self._report(row, series, about, before, sr_class)
            if self._ledger.deliveries.is_ours(str(report.SOPInstanceUID)):
                continue  # measured again from the same causes
            objects.append(
                replace(store_object(self._spool, report, series, "sr", before), destinations=destinations)
            )
        if not objects:
            self._ledger.series.event(row["series_id"], row["run"], self._wall(), NO_REPORT, SAID_BEFORE)
        elif self._ledger.deliveries.post(
            objects, self._settings.destinations, self._wall(), measured=series["study_uid"]
        ):
            log.info("series %s: measured only, reported", digest(series["series_uid"]))
            self._on_written(row["series_id"])
        else:  # forgotten meanwhile
            self._spool.remove_all(o.path for o in objects)

    def _replaced(self, row: MeasuredRow, source: Dataset, sr_class: str) -> ReportRow | None:
        """The report of an earlier run, if it is there and about the same patient."""
        before = self._ledger.deliveries.last_report(
            row["series_id"], before_run=row["run"], prefer=SR_CLASSES[sr_class]
        )
        earlier = None if before is None else header_or_none(self._spool, before["path"])
        if earlier is None:
            return None
        if same_patient(earlier, source):
            return before
        self._ledger.series.leave_reports_behind(row["series_id"], self._wall())
        return None

    def _report(
        self, row: MeasuredRow, series: SeriesRow, about: Subject, before: ReportRow | None, sr_class: str
    ) -> Dataset:
        from qc_node.report.measured_report import build_measured_report

        return build_measured_report(
            about.source,
            about.evidence,
            about.key,
            measured_block(row, self._measures),
            summary=summary_of(row, series, self._measures),
            software_version=self._settings.software_version,
            node=self._settings.ae_title,
            created=measured_at(row, series),
            sr_class=sr_class,
            predecessor=predecessor_in(self._spool, before),
            instance_number=row["run"],
            edition=about.edition,
        )
