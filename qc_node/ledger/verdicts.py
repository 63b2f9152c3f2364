"""Verdicts: one per classifier that judged a run of a series."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qc_node.domain import Verdict, verdict_from_json, verdict_to_json
from qc_node.ledger.database import Database
from qc_node.ledger.models import Models
from qc_node.ledger.packing import plain
from qc_node.ledger.rows import StoredStudyVerdict, StoredVerdict, StudyVerdict, VerdictRow, WaitingReport


class Verdicts:
    """One row per series, run and stage.

    ``routed`` marks the verdict of the classifier that the series was routed to: it makes the report due and is
    the one that :meth:`get` gives.  Of each run of a series there is at most one such verdict.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._models = Models(db)

    def add(
        self,
        series_id: int,
        run: int,
        verdict: Verdict,
        *,
        claims: Mapping[str, Any],
        warnings: Sequence[str],
        timings: Mapping[str, float],
        source_path: str,
        at: float,
        report_after: float,
        training_path: str | None = None,
        thumbnails: Sequence[str] = (),
        routed: bool = True,
    ) -> None:
        """Write the verdict of one classifier on one run; the same again replaces it.

        ``source_path`` is the instance whose patient and study modules the report copies;
        ``report_after`` is when the report may be written at the earliest.
        """
        with self._db.transaction() as conn:
            if routed:  # judged again after a kill, and routed elsewhere now
                conn.execute(
                    "DELETE FROM verdicts WHERE series_id = ? AND run = ? AND routed = 1 AND stage != ?",
                    (series_id, run, verdict.stage.value),
                )
            conn.execute(
                "INSERT INTO verdicts (series_id, run, stage, routed, verdict, claims, warnings, timings,"
                " source_path, judged_at, report_after, training_path, thumbnails)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT (series_id, run, stage) DO UPDATE SET routed = excluded.routed,"
                " verdict = excluded.verdict, claims = excluded.claims, warnings = excluded.warnings,"
                " timings = excluded.timings, source_path = excluded.source_path,"
                " judged_at = excluded.judged_at, report_after = excluded.report_after,"
                " training_path = excluded.training_path, thumbnails = excluded.thumbnails",
                (
                    series_id,
                    run,
                    verdict.stage.value,
                    int(routed),
                    json.dumps(verdict_to_json(verdict)),
                    json.dumps(claims),
                    json.dumps(list(warnings)),
                    json.dumps(dict(timings)),
                    source_path,
                    at,
                    report_after,
                    training_path,
                    json.dumps(list(thumbnails)),
                ),
            )
            self._models.note(verdict.stage.value, verdict.model, at)

    def get(self, series_id: int, run: int | None = None) -> VerdictRow | None:
        """The routed classifier's verdict on a run (by default the last one that was judged)."""
        last = run if run is not None else 1 << 62
        first = run if run is not None else 0
        sql = (
            "SELECT * FROM verdicts WHERE series_id = ? AND run BETWEEN ? AND ? AND routed = 1"
            " ORDER BY run DESC LIMIT 1"
        )
        row = self._db.row(sql, (series_id, first, last), of=StoredVerdict)
        return None if row is None else _decoded(row)

    def of(self, series_id: int, run: int) -> list[VerdictRow]:
        """Every verdict on one run, the routed classifier's first."""
        sql = "SELECT * FROM verdicts WHERE series_id = ? AND run = ? ORDER BY routed DESC, id"
        return [_decoded(row) for row in self._db.rows(sql, (series_id, run), of=StoredVerdict)]

    def of_last_run(self, series_id: int) -> list[VerdictRow]:
        """Every verdict on the last run that was judged, the routed classifier's first."""
        row = self.get(series_id)
        return [] if row is None else self.of(series_id, row["run"])

    def of_present_runs(self, series: Sequence[int]) -> list[VerdictRow]:
        """Every verdict on the present run of each of these series, the routed classifier's first."""
        sql = (
            "SELECT verdicts.* FROM json_each(?) CROSS JOIN series ON series.series_id = json_each.value"
            " CROSS JOIN verdicts ON verdicts.series_id = series.series_id AND verdicts.run = series.run"
            " ORDER BY verdicts.routed DESC, verdicts.id"
        )
        return [_decoded(row) for row in self._db.rows(sql, (json.dumps(list(series)),), of=StoredVerdict)]

    def of_last_runs(self, series_ids: Collection[int]) -> dict[int, list[VerdictRow]]:
        """As :meth:`of_last_run`, of many series at once; those without a verdict are not in it."""
        rows = self._db.rows(
            "SELECT verdicts.* FROM verdicts JOIN (SELECT series_id, max(run) AS run FROM verdicts"
            " WHERE routed = 1 AND series_id IN (SELECT value FROM json_each(?)) GROUP BY series_id) AS n"
            " USING (series_id, run) ORDER BY series_id, routed DESC, id",
            (json.dumps(list(series_ids)),),
            of=StoredVerdict,
        )
        found: dict[int, list[VerdictRow]] = {}
        for row in rows:
            found.setdefault(row["series_id"], []).append(_decoded(row))
        return found

    def by_id(self, verdict_id: int) -> VerdictRow | None:
        """One verdict with its JSON columns decoded."""
        row = self._db.row("SELECT * FROM verdicts WHERE id = ?", (verdict_id,), of=StoredVerdict)
        return None if row is None else _decoded(row)

    def after(self, verdict_id: int, limit: int = 200) -> list[VerdictRow]:
        """Routed classifiers' verdicts given after one, in order, decoded."""
        sql = "SELECT * FROM verdicts WHERE id > ? AND routed = 1 ORDER BY id LIMIT ?"
        rows = self._db.rows(sql, (verdict_id, limit), of=StoredVerdict)
        return [_decoded(row) for row in rows]

    def of_voted_studies(self) -> list[StudyVerdict]:
        """The last verdict of each series of studies that somebody voted on."""
        rows = self._db.rows(
            "SELECT verdicts.*, series.study_uid FROM verdicts JOIN series USING (series_id, run)"
            " WHERE study_uid IN (SELECT study_uid FROM votes)",
            of=StoredStudyVerdict,
        )
        return [{**_decoded(row), "study_uid": row["study_uid"]} for row in rows]

    def recent(self, limit: int = 50) -> list[VerdictRow]:
        """The newest verdicts of routed classifiers, newest first, decoded."""
        sql = "SELECT * FROM verdicts WHERE routed = 1 ORDER BY judged_at DESC LIMIT ?"
        rows = self._db.rows(sql, (limit,), of=StoredVerdict)
        return [_decoded(row) for row in rows]

    def to_report(
        self, now: float, limit: int = 20, *, due: Collection[int] = (), held: Collection[int] = ()
    ) -> list[VerdictRow]:
        """Routed verdicts of the current run of a judged series whose report is due, oldest first, decoded.

        A verdict of the future is due too: the wall clock was set, and would hold it for as long.  Who knows
        better by a steady clock names the ids that are `due` or `held` whatever the wall clock says.
        """
        rows = self._db.rows(
            "SELECT verdicts.* FROM verdicts JOIN series USING (series_id, run)"
            " WHERE series.state = 'judged' AND routed = 1 AND (report_after <= ? OR judged_at > ?"
            " OR id IN (SELECT value FROM json_each(?))) AND id NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY verdicts.id LIMIT ?",
            (now, now, json.dumps(list(due)), json.dumps(list(held)), limit),
            of=StoredVerdict,
        )
        return [_decoded(row) for row in rows]

    def waiting(self) -> list[WaitingReport]:
        """Routed verdicts of the current run of a judged series: not all of their objects are written."""
        return self._db.rows(
            "SELECT verdicts.id, judged_at, report_after, EXISTS (SELECT 1 FROM reports WHERE kind = 'sr'"
            " AND reports.series_id = verdicts.series_id AND reports.run = verdicts.run) AS written"
            " FROM verdicts JOIN series USING (series_id, run)"
            " WHERE series.state = 'judged' AND routed = 1 ORDER BY verdicts.id",
            of=WaitingReport,
        )

    def next_report_at(self) -> float | None:
        """When the earliest waiting report is due."""
        value = self._db.value(
            "SELECT min(report_after) FROM verdicts JOIN series USING (series_id, run)"
            " WHERE series.state = 'judged' AND routed = 1"
        )
        return None if value is None else float(value)

    def training_to_remove(self, older_than: float, limit: int = 100) -> list[VerdictRow]:
        """Verdicts whose kept network input and thumbnails are older than the retention allows."""
        rows = self._db.rows(
            "SELECT * FROM verdicts WHERE judged_at < ? AND (training_path IS NOT NULL OR thumbnails != '[]')"
            " LIMIT ?",
            (older_than, limit),
            of=StoredVerdict,
        )
        return [_decoded(row) for row in rows]

    def forget_training(self, verdict_id: int) -> None:
        """Note that the kept network input and thumbnails are gone."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE verdicts SET training_path = NULL, thumbnails = '[]' WHERE id = ?", (verdict_id,))


def _decoded(row: StoredVerdict) -> VerdictRow:
    return {
        "id": row["id"],
        "series_id": row["series_id"],
        "run": row["run"],
        "stage": row["stage"],
        "routed": row["routed"],
        "verdict": verdict_from_json(json.loads(plain(row["verdict"]))),
        "claims": json.loads(plain(row["claims"])),
        "warnings": json.loads(plain(row["warnings"])),
        "timings": json.loads(plain(row["timings"])),
        "source_path": row["source_path"],
        "judged_at": row["judged_at"],
        "report_after": row["report_after"],
        "training_path": row["training_path"],
        "thumbnails": json.loads(plain(row["thumbnails"])),
    }
