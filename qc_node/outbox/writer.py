"""Takes verdicts whose report is due, has the report written, and puts it in the outbox.

A step that is run twice writes the same SOP Instance UID, finds its row already there and changes nothing;
the bytes in the spool are what is sent, now and at every retry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from qc_node.dicom.patient import same_patient
from qc_node.dicom.uids import SR_CLASSES
from qc_node.domain import (
    HeaderClaims,
    QcNodeError,
    SteadyTimes,
    Verdict,
    needs_attention,
)
from qc_node.domain.measure import Measure
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportRow, SeriesRow, VerdictRow, WaitingReport
from qc_node.outbox.came_back import judge_again_where_another
from qc_node.outbox.headers import read_header
from qc_node.outbox.measured_rows import measured_block
from qc_node.outbox.subjects import Subject, Subjects, predecessor_in, store_object
from qc_node.series.headers.expected import count_is_certain
from qc_node.spool import Spool, digest

log = logging.getLogger("qc_node.writing")


PREDECESSOR_GONE = (
    "The report names no predecessor: the bytes of the one before went after [retention] keep_reports_days."
)

CHARACTER_SET = "character set"
"""The event that tells of text that is copied as bytes."""


@dataclass(frozen=True)
class WritingSettings:
    """What every report of this node has in common.

    ``destinations`` are peer names; ``classes`` the SR class for each, where that is not ``sr_class``.
    ``flag_object`` also writes a key object (113010, DCM, "Quality Issue")
    for a straight reject or tier 3.  Nothing can supersede a key object, so it is written only when the verdict is
    final: the number of images was certain, or ``confirm_s`` have passed since it was given.  ``summary`` is which
    series get a picture for people as well: ``all``, ``attention-only`` or ``none``.  ``report_measured_only``
    writes reports and pictures of series that were measured and not judged, too.
    """

    software_version: str
    rules_digest: str
    sr_class: str
    ae_title: str
    destinations: tuple[str, ...]
    classes: Mapping[str, str]
    flag_object: bool
    confirm_s: float
    summary: str
    report_measured_only: bool

    def by_class(self) -> dict[str, tuple[str, ...]]:
        """The destinations of each SR class that is in use; the one for nobody where there are none."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.destinations:
            sr_class = self.classes.get(name, self.sr_class)
            found[sr_class] = (*found.get(sr_class, ()), name)
        return found or {self.sr_class: ()}


class Writer:
    """Verdict rows to objects in the spool and rows in the outbox.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    on_written
        Called with the series whose report is in the outbox.
    steady
        Seconds of a clock that nobody sets, such as :func:`time.monotonic`; by default `wall`.
    words
        A series in a sentence, which its report begins with: from its verdicts, the routed classifier's first, and
        from warnings.
    measures
        Every measure by name; None: reports say nothing of measures.
    """

    def __init__(
        self,
        settings: WritingSettings,
        ledger: Ledger,
        spool: Spool,
        wall: Callable[[], float],
        on_written: Callable[[int], None] = lambda series_id: None,
        steady: Callable[[], float] | None = None,
        words: Callable[[Sequence[Verdict], Sequence[str]], str] = lambda verdicts, warnings: "",
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._wall = wall
        self._subjects = Subjects(ledger, spool)
        self._on_written = on_written
        self._steady = steady or wall
        self._words = words
        self._measures = measures or {}
        self._judged = SteadyTimes()

    def apply(self, settings: WritingSettings) -> None:
        """Write the next report with these."""
        self._settings = settings

    def step(self) -> float | None:
        """Write every report that is due; returns when the next one is."""
        now = self._wall()
        judge_again_where_another(self._ledger, self._spool, now)
        due_at = self._due(now)
        held = {number: at for number, at in due_at.items() if at > now}
        for row in self._ledger.verdicts.to_report(now, due=due_at.keys() - held.keys(), held=held):
            try:
                self._write(row, now)
            except QcNodeError as error:
                self._give_up(row, str(error))
            except Exception as error:
                log.exception("no report could be written for series %s", self._log_name(row))
                self._give_up(row, f"The report could not be written ({type(error).__name__}).")
        return min(held.values()) if held else self._ledger.verdicts.next_report_at()

    def _due(self, now: float) -> dict[int, float]:
        """When each waiting report, or its flag, is due by the present wall clock: when its patience is over."""
        waiting = self._ledger.verdicts.waiting()
        self._judged.keep({row["id"] for row in waiting})
        return {row["id"]: self._judged_at(row, now) + self._patience(row) for row in waiting}

    def _judged_at(self, row: WaitingReport | VerdictRow, now: float) -> float:
        return self._judged.of(row["id"], row["judged_at"], now, self._steady())

    def _patience(self, row: WaitingReport) -> float:
        report = row["report_after"] - row["judged_at"]
        return max(report, self._settings.confirm_s) if row["written"] else report

    def _log_name(self, row: VerdictRow) -> str:
        series = self._ledger.series.by_id(row["series_id"])
        return digest(series["series_uid"]) if series is not None else str(row["series_id"])

    def _give_up(self, row: VerdictRow, sentence: str) -> None:
        self._ledger.series.fail_report(row["series_id"], row["run"], self._wall(), sentence)

    def _write(self, row: VerdictRow, now: float) -> None:
        series = self._ledger.series.by_id(row["series_id"])
        if series is None or series["run"] != row["run"]:
            return
        about = self._subjects.of(row, series)
        verdicts = [given["verdict"] for given in self._ledger.verdicts.of(row["series_id"], row["run"])]
        objects = []
        if not self._has_report(row):
            for sr_class, destinations in self._settings.by_class().items():
                before = self._replaced(row, about.source, sr_class)
                report = self._report(row, verdicts, about, before, sr_class)
                stored = store_object(self._spool, report, series, "sr", before)
                objects.append(replace(stored, destinations=destinations))
        alarming = next((verdict for verdict in verdicts if needs_attention(verdict)), None)
        flag_wanted = self._settings.flag_object and alarming is not None
        final = self._is_final(row, series, now)
        if flag_wanted and alarming is not None and final:
            flag = self._flag(row, alarming, about)
            objects.append(store_object(self._spool, flag, series, "kos", None))
        done = (row["series_id"], row["run"]) if final or not flag_wanted else None
        if self._ledger.deliveries.post(objects, self._settings.destinations, self._wall(), reported=done):
            self._note_character_set(row, about.source, now)
            self._on_written(row["series_id"])
        else:  # forgotten meanwhile
            self._spool.remove_all(o.path for o in objects)

    def _note_character_set(self, row: VerdictRow, source: Dataset, now: float) -> None:
        """Tell of text that is not converted: the report says so too, but who sees to scanners reads logs."""
        from qc_node.report.character_set import note
        from qc_node.report.modules import source_text

        sentence = note(source_text(source))
        said = self._ledger.series.events(row["series_id"])
        if sentence is not None and not any(e["run"] == row["run"] and e["event"] == CHARACTER_SET for e in said):
            log.warning("report on series %s: %s", self._log_name(row), sentence)
            self._ledger.series.event(row["series_id"], row["run"], now, CHARACTER_SET, sentence)

    def _replaced(self, row: VerdictRow, source: Dataset, sr_class: str) -> ReportRow | None:
        """The earlier report on the series, if it is about the same patient; another one stays where it is.

        Of several for one run that of the same SR class, which is where the new one goes.

        Predecessor Documents Sequence never points to another patient's documents (PS3.3 C.17.2).
        """
        before = self._ledger.deliveries.last_report(
            row["series_id"], before_run=row["run"], prefer=SR_CLASSES[sr_class]
        )
        if before is None:
            return None
        if not before["path"]:
            self._ledger.series.event(
                row["series_id"], row["run"], self._wall(), "no predecessor", PREDECESSOR_GONE
            )
            return None
        if same_patient(read_header(self._spool, before["path"]), source):
            return before
        self._ledger.series.leave_reports_behind(row["series_id"], self._wall())
        log.warning(
            "series %s names another patient than report %s, which must be removed at the PACS",
            self._log_name(row),
            before["sop_instance_uid"],
        )
        return None

    def _has_report(self, row: VerdictRow) -> bool:
        written = self._ledger.deliveries.reports_of(row["series_id"])
        return any(report["kind"] == "sr" and report["run"] == row["run"] for report in written)

    def _is_final(self, row: VerdictRow, series: SeriesRow, now: float) -> bool:
        """Whether no late image can be expected to change the verdict."""
        waited = now - self._judged_at(row, now)
        return count_is_certain(series["closed_by"]) or waited >= self._settings.confirm_s

    def _report(
        self,
        row: VerdictRow,
        verdicts: Sequence[Verdict],
        about: Subject,
        before: ReportRow | None,
        sr_class: str,
    ) -> Dataset:
        from qc_node.report.structured_report import build_report

        return build_report(
            about.source,
            about.evidence,
            about.key,
            verdicts[0],
            HeaderClaims.from_dict(row["claims"]),
            row["warnings"],
            software_version=self._settings.software_version,
            node=self._settings.ae_title,
            rules_digest=self._settings.rules_digest,
            sr_class=sr_class,
            created=datetime.fromtimestamp(row["judged_at"], UTC).astimezone(),
            predecessor=predecessor_in(self._spool, before),
            instance_number=row["run"],
            also=verdicts[1:],
            summary=self._words(verdicts, row["warnings"]),
            edition=about.edition,
            measures=measured_block(self._ledger.measured.of(row["series_id"], row["run"]), self._measures),
        )

    def _flag(self, row: VerdictRow, verdict: Verdict, about: Subject) -> Dataset:
        from qc_node.report.key_objects import build_flag

        return build_flag(
            about.source,
            about.evidence,
            about.key,
            verdict,
            software_version=self._settings.software_version,
            node=self._settings.ae_title,
            created=datetime.fromtimestamp(row["judged_at"], UTC).astimezone(),
            edition=about.edition,
        )
