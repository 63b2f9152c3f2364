"""What pages ask of the measures: charts of a scanner, their newest series, drifts that go on, new software.

Each question goes through one scanner's charts, or through what was unusual of late, never through all that was
ever measured.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from qc_node.ledger.database import Database
from qc_node.ledger.measured import unpacked
from qc_node.ledger.rows import ChartOffered, ChartRow, DriftRow, MeasuredRow, SoftwareRow, StationRow

_UNUSUAL = "(unusual != '[]' OR departures != '[]')"
"""As the partial index ``measured_unusual`` says it."""
_NEWEST_OF_CHART = (
    "SELECT {} FROM measured AS m WHERE m.chart_id = charts.chart_id ORDER BY at DESC, measured_id DESC LIMIT 1"
)


class ControlCharts:
    """Reads ``charts`` and ``measured``; writes nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def measured_of(self, series: Collection[int]) -> list[MeasuredRow]:
        """What was measured of the present run of each of these series."""
        rows = self._db.rows(
            "SELECT measured.* FROM json_each(?) CROSS JOIN series ON series.series_id = json_each.value"
            " CROSS JOIN measured ON measured.series_id = series.series_id AND measured.run = series.run",
            (json.dumps(list(series)),),
            of=MeasuredRow,
        )
        return [unpacked(row) for row in rows]

    def last_measured_of(self, series: Collection[int]) -> list[MeasuredRow]:
        """As :meth:`measured_of`; of a series that is judged again, the run before."""
        rows = self._db.rows(
            "SELECT measured.* FROM json_each(?) CROSS JOIN measured ON measured.series_id = json_each.value"
            " AND measured.run = (SELECT max(run) FROM measured AS m WHERE m.series_id = json_each.value)",
            (json.dumps(list(series)),),
            of=MeasuredRow,
        )
        return [unpacked(row) for row in rows]

    def chart(self, chart_id: int) -> ChartRow | None:
        """One chart."""
        return self._db.row("SELECT * FROM charts WHERE chart_id = ?", (chart_id,), of=ChartRow)

    def stations(self) -> list[str]:
        """Every scanner that has a chart, by name; a step of an index for each."""
        rows = self._db.rows(
            "WITH RECURSIVE n(station) AS (SELECT min(station) FROM charts UNION ALL"
            " SELECT (SELECT min(station) FROM charts WHERE station > n.station) FROM n"
            " WHERE n.station IS NOT NULL) SELECT station FROM n WHERE station IS NOT NULL",
            of=StationRow,
        )
        return [row["station"] for row in rows]

    def of_station(self, station: str, most: int) -> list[ChartOffered]:
        """The charts of a scanner that hold series, newest series first; series are counted up to `most`."""
        return self._db.rows(
            f"SELECT charts.*, ({_NEWEST_OF_CHART.format('series_id')}) AS newest_series,"
            f" ({_NEWEST_OF_CHART.format('at')}) AS newest_at,"
            " (SELECT count(*) FROM"
            " (SELECT 1 FROM measured WHERE measured.chart_id = charts.chart_id LIMIT ?)) AS n"
            " FROM charts WHERE station = ? AND newest_at IS NOT NULL ORDER BY newest_at DESC, chart_id DESC",
            (most, station),
            of=ChartOffered,
        )

    def earlier(self, row: MeasuredRow, limit: int) -> list[MeasuredRow]:
        """Up to `limit` series that came before another one in its chart, oldest first."""
        rows = self._db.rows(
            "SELECT measured.* FROM measured JOIN series USING (series_id, run)"
            " WHERE chart_id = ? AND (at, measured_id) < (?, ?) AND measured.series_id != ?"
            " ORDER BY at DESC, measured_id DESC LIMIT ?",
            (row["chart_id"], row["at"], row["measured_id"], row["series_id"], limit),
            of=MeasuredRow,
        )
        return [unpacked(row) for row in rows[::-1]]

    def drifting(self, since: float) -> list[DriftRow]:
        """Charts whose newest series says that it drifts, and came since then; oldest first."""
        return self._db.rows(
            "SELECT charts.station, charts.chart_id, measured.unusual FROM measured JOIN charts USING (chart_id)"
            f" WHERE measured.at >= ? AND {_UNUSUAL} AND unusual LIKE '%\"drift\"%'"
            f" AND measured_id = ({_NEWEST_OF_CHART.format('measured_id')}) ORDER BY measured.at",
            (since,),
            of=DriftRow,
        )

    def software(self, stations: Sequence[str]) -> list[SoftwareRow]:
        """Every software version of these scanners and since when it is seen, newest first."""
        return self._db.rows(
            "SELECT station, modality, software, min(opened_at) AS since FROM json_each(?)"
            " CROSS JOIN charts ON charts.station = json_each.value"
            " GROUP BY station, modality, software ORDER BY since DESC, software",
            (json.dumps(list(stations)),),
            of=SoftwareRow,
        )
