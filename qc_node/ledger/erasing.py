"""Rows of patients who are to be forgotten: found by the schema, deleted, and nothing of them left in the file.

Every table with one of the columns of :data:`LINKS` loses the rows that belong to a forgotten study or series,
tables that later versions add among them.  What people said of images stays without its link (:data:`UNLINKED`):
study, series and accession number become random words that nobody can lead back, the same for the same thing, so
that statistics count as before.  ``tests/ledger/test_erasing.py`` says of every column whether it identifies.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from qc_node.domain.attention import FORGETTING
from qc_node.ledger.database import Database
from qc_node.ledger.schema import NUMBERED

FORGOTTEN = "forgotten-"
"""What stands in a vote, a grading or a case in place of a study, a series or an accession number begins so."""

STOPPED = FORGETTING

LINKS: Mapping[str, str] = {
    "series_id": "SELECT series_id FROM gone_series",
    "study_uid": "SELECT study_uid FROM gone_studies",
    "instance_id": "SELECT instance_id FROM gone_instances",
    "delivery_id": "SELECT id FROM gone_deliveries",
    "sop_instance_uid": "SELECT sop_instance_uid FROM gone_reports",
}
"""Columns by which a row belongs to what is forgotten, and to which values of theirs."""
OF_ONE_SERIES = "(study_uid, series_uid) IN (SELECT study_uid, series_uid FROM gone_series)"

UNLINKED = ("votes", "vote_acts", "gradings", "cases", "presentations")
"""Tables whose rows stay, without what leads to a patient."""
LIFTED = ("votes", "vote_acts")
"""Append-only tables whose triggers are away while that is done, inside the same transaction."""

MEANT = (
    "gone_studies (study_uid PRIMARY KEY)",
    "gone_series (series_id PRIMARY KEY, study_uid, series_uid)",
    "gone_reports (sop_instance_uid PRIMARY KEY)",
    "gone_instances (instance_id PRIMARY KEY)",
    "gone_deliveries (id PRIMARY KEY)",
    "gone_accessions (accession_number PRIMARY KEY)",
    "gone_votes (id PRIMARY KEY)",
    "gone_gradings (id PRIMARY KEY)",
    "gone_cases (handle PRIMARY KEY, new)",
    "gone_quarantine (id PRIMARY KEY)",
    "renamed (old PRIMARY KEY, new)",
)
"""Temporary tables, in memory only."""

_HERE = f"(study_uid IN (SELECT study_uid FROM gone_studies) OR {OF_ONE_SERIES})"
_NUMBERED_HERE = (
    "study_uid IS NULL AND accession_number IN (SELECT accession_number FROM gone_accessions)"  # no study is named
)
FILL = (
    "INSERT INTO gone_studies SELECT value FROM json_each(:studies)",
    "INSERT INTO gone_series SELECT series_id, study_uid, series_uid FROM series"
    " WHERE study_uid IN (SELECT study_uid FROM gone_studies)"
    " OR series_id IN (SELECT value FROM json_each(:series))",
    "INSERT INTO gone_reports SELECT sop_instance_uid FROM reports WHERE study_uid IN"
    " (SELECT study_uid FROM gone_studies) OR series_id IN (SELECT series_id FROM gone_series)",
    "INSERT INTO gone_instances SELECT instance_id FROM instances"
    " WHERE series_id IN (SELECT series_id FROM gone_series)"
    " OR instance_id IN (SELECT value FROM json_each(:objects))"
    " OR instance_id IN (SELECT instance_id FROM objects WHERE study_uid IN (SELECT study_uid FROM gone_studies))"
    " OR sop_instance_uid IN (SELECT sop_instance_uid FROM gone_reports)",  # what came back from the PACS
    "INSERT INTO gone_deliveries SELECT id FROM deliveries WHERE sop_instance_uid IN"
    " (SELECT sop_instance_uid FROM gone_reports)",
    "INSERT INTO gone_accessions SELECT DISTINCT accession_number FROM (SELECT study_uid, accession_number"
    " FROM studies UNION SELECT study_uid, accession_number FROM cases UNION SELECT study_uid, accession_number"
    " FROM votes) WHERE study_uid IN (SELECT study_uid FROM gone_studies) AND accession_number IS NOT NULL"
    " AND accession_number NOT IN (SELECT accession_number FROM studies WHERE accession_number IS NOT NULL"
    "  AND study_uid NOT IN (SELECT study_uid FROM gone_studies))",
    f"INSERT INTO gone_votes SELECT id FROM votes WHERE {_HERE} OR ({_NUMBERED_HERE})",
    "INSERT INTO gone_gradings SELECT id FROM gradings WHERE series_id IN (SELECT series_id FROM gone_series)"
    " OR series_id IS NULL AND (series_uid IN (SELECT series_uid FROM gone_series) AND series_uid NOT IN"
    "  (SELECT series_uid FROM series WHERE series_id NOT IN (SELECT series_id FROM gone_series))"
    "  OR series_uid IN (SELECT series_uid FROM votes WHERE study_uid IN (SELECT study_uid FROM gone_studies)))",
    f"INSERT INTO gone_cases SELECT handle, substr(token(), 1, 22) FROM cases WHERE {_HERE} OR ({_NUMBERED_HERE})",
    "INSERT INTO gone_quarantine SELECT value FROM json_each(:quarantine)",
    f"INSERT INTO renamed SELECT old, '{FORGOTTEN}' || token() FROM ("
    " SELECT study_uid AS old FROM votes WHERE id IN (SELECT id FROM gone_votes)"
    " UNION SELECT series_uid FROM votes WHERE id IN (SELECT id FROM gone_votes)"
    " UNION SELECT accession_number FROM votes WHERE id IN (SELECT id FROM gone_votes)"
    " UNION SELECT series_uid FROM gradings WHERE id IN (SELECT id FROM gone_gradings)"
    " UNION SELECT study_uid FROM cases WHERE handle IN (SELECT handle FROM gone_cases)"
    " UNION SELECT series_uid FROM cases WHERE handle IN (SELECT handle FROM gone_cases)"
    " UNION SELECT accession_number FROM cases WHERE handle IN (SELECT handle FROM gone_cases)"
    ") WHERE old IS NOT NULL",
)

_NEW = "(SELECT new FROM renamed WHERE old = {})"
_STUDY, _SERIES = _NEW.format("study_uid"), _NEW.format("series_uid")
_ACCESSION = f"iif(study_uid IS NULL, {_NEW.format('accession_number')}, NULL)"
UNLINK = (
    f"UPDATE votes SET study_uid = {_STUDY}, series_uid = {_SERIES}, accession_number = {_ACCESSION},"
    f" key = '{FORGOTTEN}' || token(), sop_instance_uid = NULL WHERE id IN (SELECT id FROM gone_votes)",
    # a key may hold anything, and that of an import is a digest of what it is about; a comment is free text, and
    # an agreement names the reports that it is about
    f"UPDATE vote_acts SET key = iif(key IS NULL, NULL, '{FORGOTTEN}' || token()),"
    " value = CASE kind WHEN 'comment' THEN '\"\"' WHEN 'agreement' THEN json_set(value, '$.reports', json('[]'))"
    " ELSE value END WHERE vote_id IN (SELECT id FROM gone_votes)",
    f"UPDATE gradings SET series_uid = {_SERIES}, series_id = NULL, key = '{FORGOTTEN}' || token()"
    " WHERE id IN (SELECT id FROM gone_gradings)",
    "UPDATE presentations SET context_id = NULL, handle = (SELECT new FROM gone_cases WHERE gone_cases.handle ="
    " presentations.handle) WHERE handle IN (SELECT handle FROM gone_cases)",
    f"UPDATE cases SET study_uid = {_STUDY}, series_uid = {_SERIES}, accession_number = {_ACCESSION},"
    f" description = NULL, subject = '{FORGOTTEN}' || token(),"
    " handle = (SELECT new FROM gone_cases WHERE gone_cases.handle = cases.handle)"
    " WHERE handle IN (SELECT handle FROM gone_cases)",
    # of a study that stays: whose it is, and what it is called, may have come from what goes
    "UPDATE studies SET patient = NULL, accession_number = NULL, description = NULL, missing = '[]', notes = '[]'"
    " WHERE study_uid IN (SELECT study_uid FROM gone_series UNION SELECT study_uid FROM objects"
    " WHERE instance_id IN (SELECT instance_id FROM gone_instances))",
    "UPDATE reports SET predecessor = NULL WHERE predecessor IN (SELECT sop_instance_uid FROM gone_reports)",
    "DELETE FROM quarantine WHERE id IN (SELECT id FROM gone_quarantine)",
    "DELETE FROM relinks WHERE study_uid IN"
    " (SELECT study_uid FROM gone_series UNION SELECT study_uid FROM gone_studies)",
)

_INSTANCES = "instance_id IN (SELECT instance_id FROM gone_instances)"
_VERDICTS = "series_id IN (SELECT series_id FROM gone_series)"
COUNTS: Mapping[str, str] = {
    "studies": "gone_studies",
    "series": "gone_series",
    "images": f"instances WHERE series_id IS NOT NULL AND {_INSTANCES}",
    "other objects": f"instances WHERE series_id IS NULL AND {_INSTANCES}",
    "reports": "gone_reports",
    "verdicts": f"verdicts WHERE {_VERDICTS}",
    "network inputs": f"verdicts WHERE training_path IS NOT NULL AND {_VERDICTS}",
    "kept pictures": f"kept_inputs WHERE {_VERDICTS}",
    "thumbnails": f"verdicts, json_each(thumbnails) WHERE {_VERDICTS}",
    "quarantined": "gone_quarantine",
    "votes": "gone_votes",
    "gradings": "gone_gradings",
    "presentations": "presentations WHERE handle IN (SELECT handle FROM gone_cases)",
}
FILES = (
    f"SELECT path FROM instances WHERE {_INSTANCES}"
    " UNION SELECT path FROM reports WHERE sop_instance_uid IN (SELECT sop_instance_uid FROM gone_reports)"
    f" UNION SELECT training_path FROM verdicts WHERE {_VERDICTS}"
    f" UNION SELECT path FROM kept_inputs WHERE {_VERDICTS}"
    f" UNION SELECT value FROM verdicts, json_each(thumbnails) WHERE {_VERDICTS}"
    " UNION SELECT path FROM quarantine WHERE id IN (SELECT id FROM gone_quarantine)"
)
INPUTS = (
    f"SELECT training_path FROM verdicts WHERE training_path IS NOT NULL AND {_VERDICTS}"
    f" UNION SELECT path FROM kept_inputs WHERE {_VERDICTS}"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be forgotten: whole studies; series and objects of studies that stay; quarantined bytes."""

    studies: tuple[str, ...] = ()
    series: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()
    quarantine: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SentObject:
    """A report that has left, or may have: ``arrived`` is False where nobody knows."""

    sop_instance_uid: str
    destination: str
    arrived: bool


@dataclass(frozen=True, slots=True)
class Held:
    """What a ledger holds of a scope: how many of each kind, which files, what has left for a destination."""

    counts: Mapping[str, int]
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    sent: tuple[SentObject, ...]

    @property
    def anything(self) -> bool:
        """Whether there is anything beside the names of the studies."""
        return any(n for kind, n in self.counts.items() if kind != "studies")


class Erasing:
    """Looks for what belongs to a scope, and erases it.

    Parameters
    ----------
    token
        Gives 32 random hexadecimal digits.
    """

    def __init__(self, db: Database, token: Callable[[], str]) -> None:
        self._db = db
        db.conn.execute("PRAGMA temp_store=MEMORY")
        db.conn.create_function("token", 0, token)

    def held(self, scope: Scope) -> Held:
        """What is there of a scope; nothing is changed."""
        conn = self._mean(scope)
        one = "SELECT count(*) FROM {}"
        counts = {kind: int(conn.execute(one.format(rows)).fetchone()[0]) for kind, rows in COUNTS.items()}
        counts |= self._rows(conn)
        sent = conn.execute(
            "SELECT sop_instance_uid, destination, state IN ('sent', 'committed') FROM deliveries WHERE id IN"
            " (SELECT id FROM gone_deliveries) AND (state IN ('sent', 'committed', 'pending') OR attempts > 0)"
            " ORDER BY id"
        )
        return Held(
            counts,
            tuple(row[0] for row in conn.execute(FILES) if row[0]),
            tuple(row[0] for row in conn.execute(INPUTS)),
            tuple(SentObject(row[0], row[1], bool(row[2])) for row in sent),
        )

    def stop(self, scope: Scope) -> None:
        """Let nothing new begin with what is to be forgotten: no judging, no report, no delivery."""
        with self._db.transaction():
            conn = self._mean(scope)
            conn.execute(
                "UPDATE series SET state = 'failed', due_at = NULL, sentence = ?"
                " WHERE series_id IN (SELECT series_id FROM gone_series)",
                (STOPPED,),
            )
            conn.execute(
                "UPDATE deliveries SET state = 'dropped' WHERE state = 'pending'"
                " AND id IN (SELECT id FROM gone_deliveries)"
            )
            conn.execute("DELETE FROM summaries_due WHERE study_uid IN (SELECT study_uid FROM gone_studies)")
            # of a study that stays: what is being drawn of it now is not posted, but drawn anew
            conn.execute(
                "UPDATE summaries_due SET at = at + 1 WHERE study_uid IN (SELECT study_uid FROM gone_series)"
            )

    def erase(self, scope: Scope) -> Held:
        """Delete and unlink every row, in the caller's transaction, which also removes the files that are left.

        Returns what was there.
        """
        found = self.held(scope)
        conn = self._db.conn
        conn.execute("PRAGMA defer_foreign_keys=ON")
        for table, number in NUMBERED.items():
            conn.execute(
                f"INSERT INTO given_numbers SELECT '{table}', coalesce(max({number}), 0) FROM {table} WHERE true"
                " ON CONFLICT (name) DO UPDATE SET last = max(last, excluded.last)"
            )
        with _lifted(conn):
            for statement in UNLINK:
                conn.execute(statement)
        for table, where in self._where(conn):
            conn.execute(f"DELETE FROM {table} WHERE {where}")
        self._forget_meaning(conn)
        return found

    def clean(self, *, rewrite: bool, patience_s: float = 30.0) -> bool:
        """Leave nothing to be read in the write-ahead log and, with `rewrite`, in the free space of the file.

        False when somebody read for longer than `patience_s`, so that the log could not be emptied.

        Raises
        ------
        sqlite3.Error
            There is no room to write the file anew, or others hold it.
        """
        conn = self._db.conn
        if rewrite:
            conn.execute("VACUUM")
        until = time.monotonic() + patience_s
        while conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    # -- inside --------------------------------------------------------------------------------------
    def _mean(self, scope: Scope) -> sqlite3.Connection:
        """Fill the temporary tables with what a scope means now."""
        conn = self._db.conn
        self._forget_meaning(conn)
        for table in MEANT:
            conn.execute(f"CREATE TEMP TABLE {table}")
        params = {name: json.dumps(getattr(scope, name)) for name in Scope.__dataclass_fields__}
        for statement in FILL:
            conn.execute(statement, {name: value for name, value in params.items() if f":{name}" in statement})
        return conn

    @staticmethod
    def _forget_meaning(conn: sqlite3.Connection) -> None:
        for table in MEANT:
            conn.execute(f"DROP TABLE IF EXISTS temp.{table.split()[0]}")

    def _where(self, conn: sqlite3.Connection) -> Iterator[tuple[str, str]]:
        """Each table that loses rows, and which."""
        tables = conn.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        for (table,) in tables.fetchall():
            columns = {row[1] for row in conn.execute(f"PRAGMA main.table_info({table})")}
            where = [f"{column} IN ({values})" for column, values in LINKS.items() if column in columns]
            where += [OF_ONE_SERIES] if {"study_uid", "series_uid"} <= columns else []
            if where and table not in UNLINKED:
                yield table, " OR ".join(where)

    def _rows(self, conn: sqlite3.Connection) -> dict[str, int]:
        """How many rows each table loses, under its own name."""
        return {
            f"rows of {table}": int(conn.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
            for table, where in self._where(conn)
        }


@contextmanager
def _lifted(conn: sqlite3.Connection) -> Iterator[None]:
    """Without the triggers that refuse changes; they come back exactly as they were, in the same transaction."""
    marks = ",".join("?" * len(LIFTED))
    sql = f"SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name IN ({marks})"
    triggers = [tuple(row) for row in conn.execute(sql, LIFTED)]
    for name, _ in triggers:
        conn.execute(f"DROP TRIGGER {name}")
    yield
    for _, text in triggers:
        conn.execute(text)
