"""Identifiers that an operator corrected because the images do not bring the correction along, append-only.

The only table with names and numbers of patients; ``forget`` deletes its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from qc_node.domain import Relink
from qc_node.ledger import schema
from qc_node.ledger.database import Database
from qc_node.ledger.rows import RelinkRow

MEASURED = ", ".join(name for name in schema.MEASURED if name not in ("measured_id", "series_id", "run"))


class Relinks:
    """One row per correction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        study_uid: str,
        series_uid: str | None,
        identity: Mapping[str, str] | None,
        named: Iterable[Sequence[str]],
        by: str,
        at: float,
    ) -> int:
        """Have reports on a study, or on one series of it, carry other identifiers; returns the row's number.

        ``identity`` and ``named`` are those of :class:`~qc_node.domain.Relink`.
        """
        row = {
            "study_uid": study_uid,
            "series_uid": series_uid,
            "identity": json.dumps(identity),
            "named": json.dumps(sorted(named)),
            "at": at,
            "by": by,
        }
        return self._db.insert("relinks", row)

    def of(self, study_uid: str, series_uid: str) -> list[Relink]:
        """What was corrected of a series or of its study, oldest first."""
        rows = self._db.rows(
            "SELECT * FROM relinks WHERE study_uid = ? AND (series_uid IS NULL OR series_uid = ?) ORDER BY id",
            (study_uid, series_uid),
            of=RelinkRow,
        )
        return [_decoded(row) for row in rows]

    def report_again(self, series_id: int, at: float) -> bool:
        """Have a report written once more, under the next run and with the verdicts of the last one.

        False where none was written for the current run.
        """
        with self._db.transaction() as conn:
            run = self._db.value(
                "SELECT run FROM series WHERE series_id = ? AND state IN ('judged', 'reported')"
                " AND EXISTS (SELECT 1 FROM reports WHERE kind = 'sr' AND reports.series_id = series.series_id"
                " AND reports.run = series.run)",
                (series_id,),
            )
            if run is None:
                return False
            conn.execute(
                "INSERT INTO verdicts (series_id, run, stage, routed, verdict, claims, warnings, timings,"
                " source_path, judged_at, report_after, training_path, thumbnails)"
                " SELECT series_id, run + 1, stage, routed, verdict, claims, warnings, timings,"
                " source_path, ?, ?, training_path, thumbnails FROM verdicts WHERE series_id = ? AND run = ?",
                (at, at, series_id, run),
            )
            conn.execute(
                f"INSERT INTO measured (series_id, run, {MEASURED}) SELECT series_id, run + 1, {MEASURED}"
                " FROM measured WHERE series_id = ? AND run = ?",
                (series_id, run),
            )
            conn.execute(
                "UPDATE kept_inputs SET run = run + 1 WHERE series_id = ? AND run = ?", (series_id, run)
            )  # one file: what is kept of an earlier run goes
            conn.execute("UPDATE series SET run = run + 1, state = 'judged' WHERE series_id = ?", (series_id,))
            return True


def _decoded(row: RelinkRow) -> Relink:
    named = frozenset((patient, issuer) for patient, issuer in json.loads(row["named"]))
    return Relink(row["id"], row["at"], json.loads(row["identity"]), named)
