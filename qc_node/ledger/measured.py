"""What was measured of every series, and the charts that tell what is normal for a scanner and protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from qc_node.domain.measure import Departure, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.ledger.database import Database
from qc_node.ledger.rows import ChartRow, MeasuredRow


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

    def history(self, chart_id: int, limit: int) -> list[MeasuredRow]:
        """The newest rows of a chart that belong to the latest run of their series, oldest first."""
        rows = self._db.rows(
            "SELECT measured.* FROM measured JOIN series USING (series_id, run)"
            " WHERE chart_id = ? ORDER BY measured_id DESC LIMIT ?",
            (chart_id, limit),
            of=MeasuredRow,
        )
        return rows[::-1]

    def of(self, series_id: int, run: int) -> MeasuredRow | None:
        """What was measured of one run."""
        sql = "SELECT * FROM measured WHERE series_id = ? AND run = ?"
        return self._db.row(sql, (series_id, run), of=MeasuredRow)

    def add(self, new: NewMeasured, at: float) -> None:
        """Keep what was measured of one run, in place of what was kept of it before."""
        chart = self.chart(new.technique, at)["chart_id"] if new.technique and new.technique.station else None
        row = {
            "series_id": new.series_id,
            "run": new.run,
            "chart_id": chart,
            "at": at,
            "version": new.version,
            "body_size": new.technique.body_size if new.technique else None,
            "parameters": json.dumps(dict(new.technique.parameters if new.technique else {})),
            "measures": json.dumps(dict(new.measured.values)),
            "unmeasured": json.dumps(dict(new.measured.unmeasured)),
            "unusual": json.dumps([one.as_dict() for one in new.unusual]),
            "departures": json.dumps([one.as_dict() for one in new.departures]),
            "seconds": new.measured.seconds,
        }
        with self._db.transaction() as conn:
            conn.execute("DELETE FROM measured WHERE series_id = ? AND run = ?", (new.series_id, new.run))
            self._db.insert("measured", row)
