"""What was measured of every series, and the charts that tell what is normal for a scanner and protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from qc_node.domain.measure import Departure, ImageFinding, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.ledger.database import Database
from qc_node.ledger.packing import plain
from qc_node.ledger.rows import ChartedRow, ChartRow, MeasuredRow


@dataclass(frozen=True, slots=True)
class NewMeasured:
    """One run of a series as it was measured; `technique` is None where its header says nothing usable."""

    series_id: int
    run: int
    measured: Measured
    technique: Technique | None
    version: int
    unusual: Sequence[Unusual] = ()
    departures: Sequence[Departure] = ()
    findings: Sequence[ImageFinding] = ()


PACKED = ("parameters", "measures", "unmeasured")
"""Columns that are deflated once the images of a series are gone; every method here gives them as text."""
LATEST = "measured JOIN series USING (series_id, run)"
"""Rows of the run of a series that counts."""


FAR = 1e12
"""A time that no series has: the year 33658."""
NO_REPORT = "no report of measures"
"""The event of a run of which no report can be written."""


_CORRECTED_AT = (
    "coalesce((SELECT max(relinks.at) FROM relinks WHERE relinks.study_uid = series.study_uid"
    " AND (relinks.series_uid IS NULL OR relinks.series_uid = series.series_uid)), 0)"
)
"""When an operator last corrected identifiers of a series."""


class MeasuredTable:
    """One row per run of a series; one per chart."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def chart(self, technique: Technique, at: float) -> ChartRow:
        """The chart of a scanner, software and protocol; made where it is new."""
        key = (technique.station, technique.protocol_key, technique.software, technique.modality)
        where = "station = ? AND protocol = ? AND software = ? AND modality = ?"
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO charts (station, protocol, software, modality, opened_at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (*key, at),
            )
        row = self._db.row(f"SELECT * FROM charts WHERE {where}", key, of=ChartRow)
        assert row is not None
        return row

    def charts_of(self, technique: Technique) -> list[ChartRow]:
        """The charts of a scanner and protocol, one for each software version, the latest first."""
        return self._db.rows(
            "SELECT * FROM charts WHERE station = ? AND protocol = ? AND modality = ?"
            " ORDER BY opened_at DESC, chart_id DESC",
            (technique.station, technique.protocol_key, technique.modality),
            of=ChartRow,
        )

    def history(
        self, chart_id: int, limit: int, *, without: int = 0, until: float = math.inf
    ) -> list[MeasuredRow]:
        """The newest rows of a chart that belong to the latest run of their series, oldest first.

        The series `without` is left out: what it is compared with is not itself.  Nor is it what came after
        `until` (seconds since the epoch).
        """
        rows = self._db.rows(
            f"SELECT measured.* FROM {LATEST} WHERE chart_id = ? AND series_id != ? AND at <= ?"
            " ORDER BY at DESC, measured_id DESC LIMIT ?",
            (chart_id, without, min(until, FAR), limit),
            of=MeasuredRow,
        )
        return [unpacked(row) for row in rows[::-1]]

    def first_at(self, series_id: int) -> float:
        """When a series was measured first, which is its place in the chart; infinite where it never was."""
        at = self._db.value("SELECT min(at) FROM measured WHERE series_id = ?", (series_id,))
        return math.inf if at is None else float(at)

    def of(self, series_id: int, run: int) -> MeasuredRow | None:
        """What was measured of one run."""
        sql = "SELECT * FROM measured WHERE series_id = ? AND run = ?"
        row = self._db.row(sql, (series_id, run), of=MeasuredRow)
        return None if row is None else unpacked(row)

    def after(
        self, measured_id: int, limit: int = 500, *, since: float = 0.0, station: str = "", modality: str = ""
    ) -> list[ChartedRow]:
        """Rows of present runs with their series and chart, from one number on, in order.

        `since` is a time, `station` and `modality` are what to keep to; empty keeps to nothing.
        """
        rows = self._db.rows(
            "SELECT measured.*, study_uid, series_uid, stage, coalesce(charts.modality, series.modality) AS"
            " modality, coalesce(charts.station, series.station, calling_ae) AS station,"
            " coalesce(software, '') AS software, coalesce(protocol, '') AS protocol"
            f" FROM {LATEST} LEFT JOIN charts USING (chart_id) WHERE measured_id > ?1 AND at >= ?3"
            " AND (?4 = '' OR coalesce(charts.station, series.station, calling_ae) = ?4)"
            " AND (?5 = '' OR coalesce(charts.modality, series.modality) = ?5) ORDER BY measured_id LIMIT ?2",
            (measured_id, limit, since, station, modality),
            of=ChartedRow,
        )
        for row in rows:
            unpacked(row)
        return rows

    def to_report(self, limit: int = 20) -> list[MeasuredRow]:
        """Present runs of series that were measured and not judged, have images and no report, oldest first.

        A run of which was noted that it gets none is not in the list.  Neither counts from before an operator
        corrected identifiers.  Read by the index of series with images: skipped ones of all years are many more.
        """
        rows = self._db.rows(
            "SELECT measured.* FROM series CROSS JOIN measured USING (series_id, run)"
            " WHERE images_removed_at IS NULL AND +state = 'skipped' AND (measures != '{}' OR findings != '[]')"
            " AND NOT EXISTS (SELECT 1 FROM reports WHERE reports.series_id = series.series_id"
            f"  AND reports.run = series.run AND kind = 'sr' AND created_at >= {_CORRECTED_AT})"
            " AND NOT EXISTS (SELECT 1 FROM events WHERE events.series_id = series.series_id"
            f"  AND events.run = series.run AND event = ? AND events.at >= {_CORRECTED_AT})"
            " ORDER BY series.last_received, series.series_id LIMIT ?",
            (NO_REPORT, limit),
            of=MeasuredRow,
        )
        return [unpacked(row) for row in rows]

    def add(self, new: NewMeasured, at: float) -> None:
        """Keep what was measured of one run, in place of what was kept of it before.

        A series that was measured in an earlier run keeps its time, and so its place in the chart.
        """
        chart = self.chart(new.technique, at)["chart_id"] if new.technique and new.technique.station else None
        row = {
            "series_id": new.series_id,
            "run": new.run,
            "chart_id": chart,
            "at": at,
            "version": new.version,
            "body_size": new.technique.body_size if new.technique else None,
            "parameters": json.dumps(dict(new.technique.parameters if new.technique else {})),
            "measures": json.dumps({name: _short(value) for name, value in new.measured.values.items()}),
            "unmeasured": json.dumps(dict(new.measured.unmeasured)),
            "unusual": json.dumps([one.as_dict() for one in new.unusual]),
            "departures": json.dumps([one.as_dict() for one in new.departures]),
            "findings": json.dumps([one.as_dict() for one in new.findings]),
            "seconds": new.measured.seconds,
        }
        with self._db.transaction() as conn:
            first = self.first_at(new.series_id)
            row["at"] = at if math.isinf(first) else first
            conn.execute("DELETE FROM measured WHERE series_id = ? AND run = ?", (new.series_id, new.run))
            self._db.insert("measured", row)


def _short(value: float) -> float:
    """Five digits: more than any image gives."""
    return float(f"{value:.5g}")


def unpacked(row: MeasuredRow) -> MeasuredRow:
    """The row itself, with its packed columns as text; for every query of ``measured``."""
    row["parameters"], row["measures"], row["unmeasured"] = (
        plain(row["parameters"]),
        plain(row["measures"]),
        plain(row["unmeasured"]),
    )
    return row
