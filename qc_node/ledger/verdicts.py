"""Verdicts and the models that gave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qc_node.domain import ModelIdentity, Stage, Verdict, verdict_from_json, verdict_to_json
from qc_node.ledger.database import Database

Row = dict[str, Any]


class Verdicts:
    """One row per judged run of a series."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        series_uid: str,
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
    ) -> None:
        """Write the verdict of one run; the same run a second time replaces it.

        ``source_path`` is the instance whose patient and study modules the report copies;
        ``report_after`` is when the report may be written at the earliest.
        """
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO verdicts (series_uid, run, stage, verdict, claims, warnings, timings, source_path,"
                " judged_at, report_after, training_path, thumbnails) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT (series_uid, run) DO UPDATE SET stage = excluded.stage,"
                " verdict = excluded.verdict, claims = excluded.claims, warnings = excluded.warnings,"
                " timings = excluded.timings, source_path = excluded.source_path,"
                " judged_at = excluded.judged_at, report_after = excluded.report_after,"
                " training_path = excluded.training_path, thumbnails = excluded.thumbnails",
                (
                    series_uid,
                    run,
                    verdict.stage.value,
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
            self._note_model(verdict.stage, verdict.model, at)

    def _note_model(self, stage: Stage, model: ModelIdentity, at: float) -> None:
        self._db.conn.execute(
            "INSERT OR IGNORE INTO models (sha256, name, version, stage, first_used) VALUES (?,?,?,?,?)",
            (model.sha256, model.name, model.version, stage.value, at),
        )

    def get(self, series_uid: str, run: int | None = None) -> Row | None:
        """The verdict of a run (by default the last one), with its JSON columns decoded."""
        if run is None:
            sql = "SELECT * FROM verdicts WHERE series_uid = ? ORDER BY run DESC LIMIT 1"
            row = self._db.row(sql, (series_uid,))
        else:
            sql = "SELECT * FROM verdicts WHERE series_uid = ? AND run = ?"
            row = self._db.row(sql, (series_uid, run))
        return None if row is None else _decoded(row)

    def by_id(self, verdict_id: int) -> Row | None:
        """One verdict with its JSON columns decoded."""
        row = self._db.row("SELECT * FROM verdicts WHERE id = ?", (verdict_id,))
        return None if row is None else _decoded(row)

    def after(self, verdict_id: int, limit: int = 200) -> list[Row]:
        """Verdicts given after one, in order, decoded."""
        rows = self._db.rows("SELECT * FROM verdicts WHERE id > ? ORDER BY id LIMIT ?", (verdict_id, limit))
        return [_decoded(row) for row in rows]

    def of_voted_studies(self) -> list[Row]:
        """The last verdict of each series of studies that somebody voted on."""
        rows = self._db.rows(
            "SELECT verdicts.*, series.study_uid FROM verdicts JOIN series USING (series_uid, run)"
            " WHERE study_uid IN (SELECT study_uid FROM votes)"
        )
        return [_decoded(row) for row in rows]

    def recent(self, limit: int = 50) -> list[Row]:
        """The newest verdicts, newest first, decoded."""
        rows = self._db.rows("SELECT * FROM verdicts ORDER BY judged_at DESC LIMIT ?", (limit,))
        return [_decoded(row) for row in rows]

    def to_report(self, now: float, limit: int = 20) -> list[Row]:
        """Verdicts of the current run of a judged series whose report is due, oldest first, decoded."""
        rows = self._db.rows(
            "SELECT verdicts.* FROM verdicts JOIN series USING (series_uid, run)"
            " WHERE series.state = 'judged' AND report_after <= ? ORDER BY verdicts.id LIMIT ?",
            (now, limit),
        )
        return [_decoded(row) for row in rows]

    def next_report_at(self) -> float | None:
        """When the earliest waiting report is due."""
        value = self._db.value(
            "SELECT min(report_after) FROM verdicts JOIN series USING (series_uid, run)"
            " WHERE series.state = 'judged'"
        )
        return None if value is None else float(value)

    def training_to_remove(self, older_than: float, limit: int = 100) -> list[Row]:
        """Verdicts whose kept network input and thumbnails are older than the retention allows."""
        rows = self._db.rows(
            "SELECT * FROM verdicts WHERE judged_at < ? AND (training_path IS NOT NULL OR thumbnails != '[]')"
            " LIMIT ?",
            (older_than, limit),
        )
        return [_decoded(row) for row in rows]

    def forget_training(self, verdict_id: int) -> None:
        """Note that the kept network input and thumbnails are gone."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE verdicts SET training_path = NULL, thumbnails = '[]' WHERE id = ?", (verdict_id,))

    def models(self) -> list[Row]:
        """Every model that ever gave a verdict here."""
        return self._db.rows("SELECT * FROM models ORDER BY first_used")


def _decoded(row: Row) -> Row:
    row = dict(row)
    row["verdict"] = verdict_from_json(json.loads(row["verdict"]))
    for name in ("claims", "warnings", "timings", "thumbnails"):
        row[name] = json.loads(row[name])
    return row
