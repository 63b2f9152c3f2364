"""Draws the QC summary of studies that are closed and judged, and puts the pictures in the outbox.

All pictures of a study go in one transaction with the row that made them due, so a kill leaves either the row or
the pictures.  A step that is run twice writes the same SOP Instance UIDs; files without a row are written anew,
because numbers and words of a picture follow from those that are there already.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qc_node.dicom.patient import same_patient
from qc_node.domain import Verdict, attention
from qc_node.domain.measure import Measure
from qc_node.domain.mismatch import without_quotation
from qc_node.domain.wording import SEVERITY, Card, Tone
from qc_node.ledger import Ledger, LedgerDamagedError, LedgerError
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.rows import MeasuredRow, ReportRow, SeriesRow, SummaryDueRow, VerdictRow
from qc_node.outbox.headers import header_or_none
from qc_node.outbox.measured_rows import (
    MEASURED,
    findings_in,
    measured_at,
    measured_block,
    shown_pictures,
    source_row,
    unusual_in,
    unusual_lines,
    value_words,
)
from qc_node.outbox.subjects import SourceRow, Subject, Subjects, store_object
from qc_node.outbox.writer import WritingSettings
from qc_node.spool import Spool, digest

if TYPE_CHECKING:
    from qc_node.report.summary_picture import Picture

log = logging.getLogger("qc_node.writing")

KIND = "summary"
OWN_TROUBLE = (LedgerError, LedgerDamagedError, sqlite3.Error, OSError)
"""What says nothing about the series: the step is tried again."""
_VIEW = re.compile(r".*-([a-z_]+)\.png")


@dataclass(frozen=True)
class _Shown:
    """A series whose picture is to be drawn.

    Its verdicts, the routed classifier's first, and the words for it; what was measured, if anything was.
    There is one or the other.
    """

    series: SeriesRow
    given: Sequence[VerdictRow]
    card: Card
    warnings: Sequence[str]
    measured: MeasuredRow | None
    known: Mapping[str, Measure]

    @property
    def calls(self) -> bool:
        """Whether it needs attention, by the verdict, a mismatch or what was measured."""
        row, wrong = self.measured, self.given[0]["warnings"] if self.given else ()
        causes = attention.of_series([row["verdict"] for row in self.given], wrong)
        if row is not None:
            causes += attention.of_measures(unusual_in(row), findings_in(row), self.known)
        return bool(causes)

    @property
    def created(self) -> datetime:
        """When it was judged or, where it was not, measured."""
        if self.given or self.measured is None:
            return datetime.fromtimestamp(self.given[0]["judged_at"], UTC).astimezone()
        return measured_at(self.measured, self.series)

    @property
    def rank(self) -> tuple[int, bool, float, int]:
        """Worst first."""
        tone = SEVERITY.index(self.card.tone)
        return -tone, not self.calls, self.series["first_received"], self.series["series_id"]


class SummaryWriter:
    """Due studies to pictures in the spool and rows in the outbox.

    Parameters
    ----------
    wall
        Seconds since the epoch.
    words
        What the pages say of a series: of its verdicts, the routed classifier's first, and of warnings.
    check_study
        Gives what was expected of a closed study and did not come, as sentences; safe to repeat.
    on_written
        Called when pictures are in the outbox.
    measures
        Every measure by name; None: pictures say nothing of measures.
    """

    def __init__(
        self,
        settings: WritingSettings,
        ledger: Ledger,
        spool: Spool,
        wall: Callable[[], float],
        words: Callable[[Sequence[Verdict], Sequence[str]], Card],
        check_study: Callable[[str], Sequence[str]] = lambda study_uid: (),
        on_written: Callable[[], None] = lambda: None,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._wall = wall
        self._words = words
        self._check_study = check_study
        self._on_written = on_written
        self._measures = measures or {}
        self._subjects = Subjects(ledger, spool)

    def apply(self, settings: WritingSettings) -> None:
        """Draw the next study with these."""
        self._settings = settings

    def step(self) -> None:
        """Draw every study that is due.

        Raises
        ------
        Exception
            Trouble of the machine with one of them, which is tried again, after all others had their turn.
        """
        trouble: Exception | None = None
        for due in self._ledger.summaries.due():
            try:
                if self._settings.summary == "none" or not self._settings.destinations:
                    self._ledger.summaries.take(due)
                else:
                    self._draw_study(due)
            except OWN_TROUBLE as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def _draw_study(self, due: SummaryDueRow) -> None:
        written = self._ledger.summaries.of_study(due["study_uid"])
        missing = self._check_study(due["study_uid"])
        objects: list[WrittenObject] = []
        for judged in self._wanted(due["study_uid"], written, bool(missing)):
            number = self._last_number(written) + len(objects) + 1
            done = self._draw_or_none(judged, () if objects else missing, number)
            objects += () if done is None else (done,)
        if not self._ledger.deliveries.post(
            objects, self._settings.destinations, self._wall(), summarised=due
        ):  # forgotten, or something came: the next step draws what is true then
            self._spool.remove_all(o.path for o in objects)
        elif objects:
            self._on_written()

    def _wanted(self, study_uid: str, written: Sequence[ReportRow], missing: bool) -> list[_Shown]:
        """Which series get a picture, worst first."""
        has = {(row["series_id"], row["run"]) for row in written}
        found = []
        for series in self._ledger.series.of_study(study_uid):
            if (series["series_id"], series["run"]) not in has:
                found += self._shown(series)
        found.sort(key=lambda judged: judged.rank)
        if self._settings.summary == "all":
            return found
        first = found[:1] if missing and not written else []  # it says what is missing
        return [judged for judged in found if judged.calls] or first

    def _shown(self, series: SeriesRow) -> list[_Shown]:
        """One series that has its report by now; nothing where it gets no picture."""
        number, run = series["series_id"], series["run"]
        measured = self._ledger.measured.of(number, run) if self._measures else None
        if series["state"] == "reported":
            given = self._ledger.verdicts.of(number, run)
            return [self._judged(series, given, measured)] if given else []
        wanted = self._settings.report_measured_only and series["state"] == "skipped" and measured is not None
        if not wanted or not any(r["run"] == run for r in self._ledger.deliveries.reports_of(number)):
            return []
        card = Card(MEASURED.rstrip("."), Tone.OPEN, without_quotation(series["sentence"] or ""))
        return [_Shown(series, (), card, (), measured, self._measures)]

    def _judged(self, series: SeriesRow, given: Sequence[VerdictRow], measured: MeasuredRow | None) -> _Shown:
        said = [without_quotation(warning) for warning in given[0]["warnings"]]
        warnings = sorted(said, key=lambda warning: not warning.startswith("Ordered: "))
        card = self._words([row["verdict"] for row in given], said)
        return _Shown(series, given, card, warnings, measured, self._measures)

    def _last_number(self, written: Sequence[ReportRow]) -> int:
        """The highest Instance Number so far; of those that were forgotten the newest that is left knows."""
        header = header_or_none(self._spool, written[-1]["path"]) if written else None
        return max(len(written), int(header.InstanceNumber) if header is not None else 0)

    def _draw_or_none(self, judged: _Shown, missing: Sequence[str], number: int) -> WrittenObject | None:
        """The picture of one series; None where it cannot be drawn, or is there already."""
        try:
            return self._draw(judged, missing, number)
        except OWN_TROUBLE:
            raise
        except Exception as error:
            log.error(  # no traceback: it might quote a header
                "no summary could be drawn for series %s (%s)",
                digest(judged.series["series_uid"]),
                type(error).__name__,
            )
            return None

    def _draw(self, judged: _Shown, missing: Sequence[str], number: int) -> WrittenObject | None:
        from qc_node.report.summary import build_summary
        from qc_node.report.summary_picture import SummaryPage, draw

        series = judged.series
        row: SourceRow = judged.given[0] if judged.given else source_row(self._ledger, series)
        subject = self._subjects.of(row, series)
        created, earlier = judged.created, self._earlier(row, subject)
        measured, known = judged.measured, self._measures
        page = SummaryPage(
            title=_title(series, subject),
            card=judged.card,
            notes=(*judged.warnings, *missing),
            views=self._views(judged, subject),
            footer=self._footer(judged, created, earlier),
            measured=value_words(measured, known) if measured is not None else (),
            unusual=unusual_lines(measured, known) if measured is not None else (),
        )
        ds = build_summary(
            subject.source,
            subject.evidence,
            subject.key,
            [row["verdict"] for row in judged.given],
            draw(page),
            software_version=self._settings.software_version,
            node=self._settings.ae_title,
            rules_digest=self._settings.rules_digest,
            created=created,
            instance_number=number,
            earlier=earlier["sop_instance_uid"] if earlier is not None else None,
            edition=subject.edition,
            measures=measured_block(measured, known),
        )
        if self._ledger.deliveries.is_ours(str(ds.SOPInstanceUID)):
            return None  # judged again from the same causes
        return store_object(self._spool, ds, series, KIND, earlier, anew=True)

    def _earlier(self, row: SourceRow, subject: Subject) -> ReportRow | None:
        """The picture that this one replaces, if it is about the same patient for certain."""
        deliveries = self._ledger.deliveries
        earlier = deliveries.last_report(row["series_id"], KIND, before_run=row["run"])
        if earlier is None:
            return None
        report = deliveries.last_report(row["series_id"], before_run=earlier["run"] + 1)
        headers = (header_or_none(self._spool, r["path"]) for r in (earlier, report) if r is not None)
        header = next((h for h in headers if h is not None), None)
        return earlier if header is not None and same_patient(header, subject.source) else None

    def _views(self, shown: _Shown, subject: Subject) -> Mapping[str, Picture]:
        """Pictures that are kept; none where text is burnt into the images, for it may be a name."""
        if str(subject.source.get("BurnedInAnnotation", "")).upper() == "YES":
            return {}
        return self._mid_planes(shown.given[0]) if shown.given else self._kept_pictures(shown.series)

    def _mid_planes(self, row: VerdictRow) -> Mapping[str, Picture]:
        import numpy as np
        from PIL import Image

        named = {match[1]: name for name in row["thumbnails"] if (match := _VIEW.fullmatch(name))}
        views = {}
        for view, name in named.items():
            with (
                suppress(OSError, SyntaxError, ValueError),  # gone, or no picture: the words are what counts
                Image.open(self._spool.path(name)) as picture,
            ):
                views[view] = np.asarray(picture.convert("L"), dtype=np.uint8)
        return views

    def _kept_pictures(self, series: SeriesRow) -> Mapping[str, Picture]:
        """Of a series without a classifier: three of its slices, or its images (``[keep]``)."""
        rows = self._ledger.kept_inputs.of_series(series["series_id"])
        names = [row["path"] for row in rows if row["run"] == series["run"]]
        views: dict[str, Picture] = {}
        with suppress(OSError, ValueError, KeyError):  # gone, or no pictures: the words are what counts
            views |= shown_pictures(self._spool.path(names[-1]), series["modality"]) if names else {}
        return views

    def _footer(self, judged: _Shown, created: datetime, earlier: ReportRow | None) -> list[str]:
        from qc_node.report.measured_report import measures_model

        models = [row["verdict"].model for row in judged.given]
        if not models and judged.measured is not None:
            models = [measures_model(judged.measured["version"])]
        done = "Judged" if judged.given else "Measured"
        lines = [
            f"{done} {created:%Y-%m-%d %H:%M} by {self._settings.ae_title}",
            ", ".join(f"{m.name} {m.version}" + (f" ({m.sha256[:8]})" if m.sha256 else "") for m in models),
        ]
        if earlier is not None:
            before = self._ledger.verdicts.get(judged.series["series_id"], earlier["run"])
            judged_at = before["judged_at"] if before is not None else earlier["created_at"]
            at = datetime.fromtimestamp(judged_at, UTC).astimezone()
            day = "" if at.date() == created.date() else f"{at:%Y-%m-%d} "
            lines.append(f"Replaces the summary of {day}{at:%H:%M}.")
        return lines


def _title(series: SeriesRow, subject: Subject) -> str:
    """E.g. ``MR, series 5, 176 images``: nothing that anybody typed."""
    from qc_node.report.documents import number_of_series

    number = number_of_series(subject.source)
    count = len(subject.evidence)
    parts = [series["modality"], f"series {number}" if number else "", f"{count} image{'s' if count != 1 else ''}"]
    return ", ".join(part for part in parts if part)
