"""Alarms: what the board asks somebody to look at, until somebody has."""

from __future__ import annotations

from qc_node.ledger.database import Database
from qc_node.ledger.rows import AlarmRow


class Alarms:
    """One row per run of a series that called for attention."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def raise_alarm(self, series_id: int, run: int, calling_ae: str, at: float) -> bool:
        """Ask for attention; False when this run of the series did so before.  Older runs are closed."""
        with self._db.transaction() as conn:
            self.supersede(series_id, run, at)
            cursor = conn.execute(
                "INSERT OR IGNORE INTO alarms (series_id, run, calling_ae, station, raised_at) VALUES (?,?,?,?,?)",
                (series_id, run, calling_ae, calling_ae, at),
            )
            return cursor.rowcount == 1

    def supersede(self, series_id: int, run: int, at: float) -> None:
        """Close alarms of earlier runs of a series: it has been judged anew."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE alarms SET closed_at = ?, closed_by = 'judged again'"
                " WHERE series_id = ? AND run < ? AND closed_at IS NULL",
                (at, series_id, run),
            )

    def open_ones(self) -> list[AlarmRow]:
        """Open alarms, oldest first."""
        return self._db.rows("SELECT * FROM alarms WHERE closed_at IS NULL ORDER BY id", of=AlarmRow)

    def acknowledge(self, alarm_id: int, by: str, at: float) -> AlarmRow | None:
        """Close an alarm; its row, or None when there is no such open alarm."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE alarms SET closed_at = ?, closed_by = ? WHERE id = ? AND closed_at IS NULL",
                (at, by, alarm_id),
            )
            if cursor.rowcount != 1:
                return None
            return self._db.row("SELECT * FROM alarms WHERE id = ?", (alarm_id,), of=AlarmRow)
