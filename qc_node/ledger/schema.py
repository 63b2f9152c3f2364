"""The tables of 0.2, as sqlite-utils makes them: one dictionary of columns per table.

A column is a Python type; ``str | None`` may be NULL, anything else may not.  What sqlite-utils has no word for
(partial indexes, triggers, the view of the vote log) is SQL at the end.  Lists that may grow (where a vote came
from, reasons, kinds of an act, of a grading, of a report, outcomes) are not in the schema: a new one is a new word
in a row, and no append-only table is ever rebuilt for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, get_args

import sqlite_utils

Columns = Mapping[str, Any]

SERIES: Columns = {
    "series_id": int,
    "study_uid": str,
    "series_uid": str,
    "modality": str,
    "calling_ae": str,
    "station": str | None,
    "first_received": float,
    "last_received": float,
    "instances": int,
    "expected": int | None,
    "expected_rule": str | None,
    "pacs_count": int | None,
    "pacs_count_since": float | None,
    "pacs_asked_at": float | None,
    "run": int,
    "state": str,
    "due_at": float | None,
    "closed_by": str | None,
    "closed_at": float | None,
    "claimed_at": float | None,
    "attempts": int,
    "stage": str | None,
    "sentence": str | None,
    "claims": str,
    "images_removed_at": float | None,
}
INSTANCES: Columns = {
    "instance_id": int,
    "sop_instance_uid": str,
    "version": int,
    "series_id": int | None,
    "sop_class_uid": str,
    "transfer_syntax_uid": str,
    "calling_ae": str,
    "path": str,
    "bytes": int,
    "received_at": float,
    "digest": str | None,
    "superseded_at": float | None,
}
OBJECTS: Columns = {"instance_id": int, "study_uid": str, "series_uid": str, "handled": int}
EVENTS: Columns = {"id": int, "series_id": int, "run": int, "at": float, "event": str, "detail": str | None}
VERDICTS: Columns = {
    "id": int,
    "series_id": int,
    "run": int,
    "stage": str,
    "routed": int,
    "verdict": str,
    "claims": str,
    "warnings": str,
    "timings": str,
    "source_path": str,
    "judged_at": float,
    "report_after": float,
    "training_path": str | None,
    "thumbnails": str,
}
REPORTS: Columns = {
    "sop_instance_uid": str,
    "sop_class_uid": str,
    "series_id": int | None,
    "study_uid": str,
    "run": int,
    "kind": str,
    "path": str,
    "predecessor": str | None,
    "created_at": float,
}
DELIVERIES: Columns = {
    "id": int,
    "sop_instance_uid": str,
    "destination": str,
    "state": str,
    "attempts": int,
    "next_attempt_at": float,
    "created_at": float,
    "sent_at": float | None,
    "committed_at": float | None,
    "last_error": str | None,
}
COMMITMENTS: Columns = {
    "id": int,
    "delivery_id": int,
    "transaction_uid": str,
    "asked_at": float,
    "answered_at": float | None,
    "outcome": str | None,
}
TURNED_DOWN: Columns = {"delivery_id": int, "since": float, "times": int}
VOTES: Columns = {
    "id": int,
    "key": str,
    "reader_id": str,
    "role": str,
    "study_uid": str | None,
    "series_uid": str | None,
    "accession_number": str | None,
    "site": str,
    "modality": str,
    "vote": str,
    "voted_at": float,
    "received_at": float,
    "ms_to_vote": int | None,
    "source": str,
    "verdict_visible": int,
    "presentation": str | None,
    "replaces": int | None,
    "sop_instance_uid": str | None,
}
VOTE_ACTS: Columns = {
    "id": int,
    "vote_id": int,
    "kind": str,
    "value": str | None,
    "undoes": int | None,
    "key": str | None,
    "reader_id": str,
    "role": str,
    "at": float,
    "received_at": float,
    "source": str,
    "verdict_visible": int,
    "presentation": str | None,
}
ALARMS: Columns = {
    "id": int,
    "series_id": int,
    "run": int,
    "calling_ae": str,
    "raised_at": float,
    "closed_at": float | None,
    "closed_by": str | None,
}
LABELS: Columns = {
    "id": int,
    "series_id": int,
    "run": int,
    "question": str,
    "found": str | None,
    "label": str,
    "reader_id": str,
    "at": float,
}
PROMPTS: Columns = {
    "id": str,
    "study_uid": str,
    "series_id": int | None,
    "reader_id": str,
    "reason": str,
    "created_at": float,
    "closed_at": float | None,
    "outcome": str | None,
}
GRADINGS: Columns = {
    "id": int,
    "key": str,
    "series_uid": str,
    "series_id": int | None,
    "reader_id": str,
    "kind": str,
    "straight_reject": int,
    "gadolinium": int | None,
    "motion": int | None,
    "contrast": int | None,
    "noise": int | None,
    "at": float,
    "ms": int | None,
    "source": str,
    "verdict_visible": int | None,
}
MODEL_ALIASES: Columns = {"id": int, "stage": str, "alias": str, "sha256": str, "at": float, "by": str}
GIVEN_NUMBERS: Columns = {"name": str, "last": int}
RELINKS: Columns = {
    "id": int,
    "study_uid": str,
    "series_uid": str | None,
    "identity": str,
    "named": str,
    "at": float,
    "by": str,
}
SUMMARIES_DUE: Columns = {"study_uid": str, "at": float}
ALARMS_GREW: Columns = {"kind": str, "station": str | None, "vote_id": int | None, "answer": str | None}
SESSIONS: Columns = {
    "session_id": str,
    "reader_id": str,
    "way": str,
    "started_at": float,
    "ended_at": float | None,
    "ended_by": str | None,
}
NOTIFICATIONS: Columns = {
    "id": int,
    "event": str,
    "target": str,
    "body": str,
    "created_at": float,
    "next_attempt_at": float,
    "attempts": int,
    "sent_at": float | None,
    "given_up_at": float | None,
    "last_error": str | None,
}
CONTEXTS: Columns = {
    "context_id": str,
    "reader_id": str,
    "opened_at": float,
    "closed_at": float | None,
    "closed_by": str | None,
}
AUDIT: Columns = {"id": int, "at": float, "event": str, "actor": str, "detail": str}
CHARTS: Columns = {
    "chart_id": int,
    "modality": str,
    "station": str,
    "software": str,
    "protocol": str,
    "opened_at": float,
}
MEASURED: Columns = {
    "measured_id": int,
    "series_id": int,
    "run": int,
    "chart_id": int | None,
    "at": float,
    "version": int,
    "body_size": float | None,
    "parameters": str,
    "measures": str,
    "unmeasured": str,
    "unusual": str,
    "departures": str,
    "findings": str,
    "seconds": float,
}
KEPT_INPUTS: Columns = {
    "kept_id": int,
    "series_id": int,
    "run": int,
    "kind": str,
    "path": str,
    "bytes": int,
    "sampled": int,
    "kept_at": float,
}

_SERIES = ("series_id", "series", "series_id")
_DELIVERY = ("delivery_id", "deliveries", "id")
_READER = ("reader_id", "readers", "reader_id")


def create(db: sqlite_utils.Database) -> None:
    """Make every table of 0.2 that 0.1.0 had not, or had in another shape; indexes follow the rows."""
    _table(
        db,
        "series",
        SERIES,
        [("study_uid", "studies", "study_uid")],
        {"instances": 0, "run": 1, "state": "receiving", "attempts": 0, "claims": "{}"},
    )
    _table(db, "instances", INSTANCES, [_SERIES], {"version": 1})
    _table(db, "objects", OBJECTS, [("instance_id", "instances", "instance_id")], {"handled": 0})
    _table(db, "events", EVENTS, [_SERIES])
    _table(db, "verdicts", VERDICTS, [_SERIES], {"routed": 1, "thumbnails": "[]"})
    _table(db, "reports", REPORTS, [_SERIES])
    _table(
        db,
        "deliveries",
        DELIVERIES,
        [("sop_instance_uid", "reports", "sop_instance_uid")],
        {"state": "pending", "attempts": 0},
    )
    _table(db, "commitments", COMMITMENTS, [_DELIVERY])
    _table(db, "votes", VOTES, [_READER, ("replaces", "votes", "id")])
    _table(db, "vote_acts", VOTE_ACTS, [_READER, ("vote_id", "votes", "id"), ("undoes", "vote_acts", "id")])
    _table(db, "alarms", ALARMS, [_SERIES])
    _table(db, "labels", LABELS, [_SERIES, _READER])
    _table(db, "prompts", PROMPTS, [_SERIES, _READER])
    _table(db, "gradings", GRADINGS, [_SERIES, _READER])
    _table(db, "model_aliases", MODEL_ALIASES)
    _table(db, "audit", AUDIT)
    db.table("studies").add_column("patient", str)


def outbox(db: sqlite_utils.Database) -> None:
    """What the outbox remembers since 0.3: since when a destination itself does not take an object.

    And what keeps its looks at storage commitment quick when there are years of deliveries.
    """
    _table(db, "turned_down", TURNED_DOWN, [_DELIVERY])
    db.conn.execute(
        "CREATE INDEX commitments_in_vain ON commitments (delivery_id)"
        " WHERE outcome IS NULL OR outcome IN ('refused', 'failed')"
    )
    db.conn.execute("CREATE INDEX deliveries_sent ON deliveries (destination, sent_at) WHERE state = 'sent'")


GROWTH = """
CREATE TABLE emptied (
    series_id INTEGER PRIMARY KEY REFERENCES series ON DELETE CASCADE,
    open INTEGER NOT NULL
);
CREATE INDEX emptied_open ON emptied (series_id) WHERE open >= 1;
CREATE TABLE removed_images (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,
    digests BLOB NOT NULL
);
CREATE INDEX removed_images_series ON removed_images (series_id);
CREATE TABLE removed_objects (study_uid TEXT PRIMARY KEY, digests BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO emptied SELECT series_id, 2 FROM series WHERE images_removed_at IS NOT NULL;
CREATE INDEX series_with_images ON series (last_received, series_id) WHERE images_removed_at IS NULL;
CREATE INDEX series_of_scanner ON series (calling_ae, last_received);
DROP INDEX objects_handled;
CREATE INDEX objects_handled ON objects (instance_id) WHERE handled >= 1;
CREATE INDEX verdicts_keeping ON verdicts (judged_at) WHERE training_path IS NOT NULL OR thumbnails != '[]';
CREATE INDEX deliveries_unfinished ON deliveries (state, created_at) WHERE state IN ('pending', 'failed');
CREATE INDEX quarantine_received ON quarantine (received_at);
"""
"""Schema 5: what is kept of removed images, and indexes for every question that was a scan.

``emptied`` has a row for each series with ``images_removed_at``; ``open`` is 1 while rows of images may be left or
have come again, 2 where 0.2 has removed the files and kept the rows.  ``removed_images`` has the digests of SOP
Instance UIDs, eighty to a row, so that eight rows fill a page; ``removed_objects`` those of what opened no series.
"""


NUMBERED = {"series": "series_id", "verdicts": "id", "deliveries": "id", "alarms": "id"}
"""Tables whose numbers are in the hands of somebody (worker, outbox, a page) while a row may be forgotten."""


def numbers(db: sqlite_utils.Database) -> None:
    """No number is given twice: one that was deleted must not come to mean another patient's row.

    SQLite gives the highest number plus one, which is an old one after the highest row was deleted; its own remedy
    (AUTOINCREMENT) can only be had by writing such a table anew.
    """
    _table(db, "given_numbers", GIVEN_NUMBERS)
    for table, number in NUMBERED.items():
        last = f"(SELECT last FROM given_numbers WHERE name = '{table}')"
        db.conn.execute(
            f"CREATE TRIGGER {table}_number AFTER INSERT ON {table} WHEN new.{number} <= {last} BEGIN"
            f" UPDATE {table} SET {number} = {last} + 1 WHERE {number} = new.{number}; END"
        )


def relinks(db: sqlite_utils.Database) -> None:
    """Identifiers that an operator corrected; and what finds the reported series whose images came back."""
    _table(db, "relinks", RELINKS)
    db.table("relinks").create_index(["study_uid"])
    db.conn.execute("CREATE INDEX events_came_back ON events (series_id) WHERE event = 'came back'")


def summaries(db: sqlite_utils.Database) -> None:
    """Studies whose pictures are to be drawn, and what finds those whose bytes may go."""
    _table(db, "summaries_due", SUMMARIES_DUE)
    db.conn.execute("CREATE INDEX summaries_kept ON reports (created_at) WHERE kind = 'summary' AND path != ''")
    db.conn.execute("CREATE INDEX summaries_of_study ON reports (study_uid) WHERE kind = 'summary'")


def screens(db: sqlite_utils.Database) -> None:
    """What the pages remember since schema 9.

    A run of a series may call for several reasons (`kind`: a verdict, the order, something missing, a reader's
    vote), each answered for itself; `station` is the scanner even where a PACS forwards.  Sessions end on the
    server.  Notifications are sent again until somebody takes them.  A context is what a viewer has open for a
    reader, so that no vote counts that was pressed after it had been closed.
    """
    alarms = db.table("alarms")
    for name, kind in ALARMS_GREW.items():
        plain = get_args(kind)[0] if isinstance(kind, UnionType) else kind
        alarms.add_column(name, plain, not_null_default=None if plain is not kind else "verdict")
    db.conn.execute("UPDATE alarms SET station = calling_ae")
    db.conn.execute("DROP INDEX idx_alarms_series_id_run")
    db.conn.execute("CREATE UNIQUE INDEX alarms_reason ON alarms (series_id, run, kind, coalesce(vote_id, 0))")
    db.conn.execute("DROP INDEX alarms_open")
    db.conn.execute("CREATE INDEX alarms_open ON alarms (station) WHERE closed_at IS NULL")
    db.conn.execute("CREATE INDEX alarms_raised ON alarms (raised_at)")
    db.conn.execute("CREATE INDEX alarms_vote ON alarms (vote_id) WHERE vote_id IS NOT NULL")
    db.conn.execute("CREATE INDEX series_of_station ON series (station, last_received)")
    _table(db, "sessions", SESSIONS, [_READER])
    db.conn.execute("CREATE INDEX sessions_open ON sessions (reader_id) WHERE ended_at IS NULL")
    _table(db, "notifications", NOTIFICATIONS, defaults={"attempts": 0})
    db.conn.execute(
        "CREATE INDEX notifications_due ON notifications (next_attempt_at)"
        " WHERE sent_at IS NULL AND given_up_at IS NULL"
    )
    db.conn.execute("CREATE INDEX notifications_made ON notifications (created_at)")
    _table(db, "contexts", CONTEXTS, [_READER])
    db.conn.execute("CREATE INDEX contexts_open ON contexts (opened_at) WHERE closed_at IS NULL")


def measured(db: sqlite_utils.Database) -> None:
    """What is measured on every series (schema 10), the charts that tell what is normal, and kept inputs.

    A chart is one scanner, software version and protocol; what a study has otherwise than its kind usually has is
    in its notes.  Lists and dictionaries are JSON: what is measured grows
    without a change here.
    """
    _table(db, "charts", CHARTS)
    db.table("charts").create_index(["station", "protocol", "software", "modality"], unique=True)
    _table(db, "measured", MEASURED, [_SERIES, ("chart_id", "charts", "chart_id")], {"findings": "[]"})
    db.table("measured").create_index(["series_id", "run"], unique=True)
    db.table("measured").create_index(["chart_id", "at", "measured_id"])
    db.conn.execute("CREATE INDEX measured_unusual ON measured (at) WHERE unusual != '[]' OR departures != '[]'")
    _table(db, "kept_inputs", KEPT_INPUTS, [_SERIES])
    db.table("kept_inputs").create_index(["series_id", "run"])
    db.table("studies").add_column("notes", str, not_null_default="[]")
    db.conn.execute("CREATE INDEX studies_alike ON studies (description, closed_at) WHERE state = 'closed'")
    db.conn.execute("CREATE INDEX kept_inputs_there ON kept_inputs (kept_at, bytes)")


def _table(
    db: sqlite_utils.Database,
    name: str,
    columns: Columns,
    foreign_keys: Sequence[tuple[str, str, str]] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Make one table; its first column is the primary key."""
    plain = {column: get_args(t)[0] if isinstance(t, UnionType) else t for column, t in columns.items()}
    first = next(iter(columns))
    required = {column for column, t in columns.items() if not isinstance(t, UnionType) and column != first}
    db.table(name).create(
        plain, pk=first, foreign_keys=list(foreign_keys), not_null=required, defaults=dict(defaults or {})
    )


UNIQUE: Sequence[tuple[str, Sequence[str]]] = (
    ("series", ("series_uid", "study_uid")),
    ("instances", ("sop_instance_uid", "version")),
    ("verdicts", ("series_id", "run", "stage")),
    ("deliveries", ("sop_instance_uid", "destination")),
    ("commitments", ("transaction_uid", "delivery_id")),
    ("votes", ("reader_id", "key")),
    ("vote_acts", ("reader_id", "key")),
    ("alarms", ("series_id", "run")),
    ("prompts", ("study_uid", "reader_id")),
    ("gradings", ("reader_id", "key")),
)
INDEXES: Sequence[tuple[str, Sequence[str]]] = (
    ("studies", ("patient",)),
    ("series", ("state", "due_at")),
    ("series", ("study_uid",)),
    ("series", ("last_received",)),
    ("instances", ("series_id",)),
    ("events", ("series_id",)),
    ("verdicts", ("judged_at",)),
    ("reports", ("series_id", "run")),
    ("deliveries", ("destination", "state", "id")),
    ("commitments", ("delivery_id",)),
    ("votes", ("study_uid",)),
    ("votes", ("accession_number",)),
    ("vote_acts", ("vote_id", "kind")),
    ("labels", ("series_id", "question")),
    ("gradings", ("series_uid",)),
    ("model_aliases", ("stage", "alias")),
)

PARTIAL = """
CREATE INDEX objects_waiting ON objects (instance_id) WHERE handled = 0;
CREATE INDEX objects_handled ON objects (instance_id) WHERE handled = 1;
CREATE INDEX alarms_open ON alarms (calling_ae) WHERE closed_at IS NULL;
CREATE INDEX prompts_open ON prompts (reader_id) WHERE closed_at IS NULL;
CREATE INDEX vote_acts_undone ON vote_acts (undoes) WHERE undoes IS NOT NULL;
CREATE UNIQUE INDEX verdicts_routed ON verdicts (series_id, run) WHERE routed = 1;
"""

VOTES_HAVE_A_SUBJECT = """
CREATE TRIGGER votes_subject BEFORE INSERT ON votes
WHEN new.study_uid IS NULL AND new.accession_number IS NULL BEGIN
    SELECT raise(ABORT, 'a vote names a study or an accession number');
END
"""

APPEND_ONLY = ("votes", "vote_acts", "model_aliases", "audit")
"""Tables that refuse UPDATE and DELETE."""

VOTE_LOG = """
CREATE VIEW vote_log AS
SELECT votes.*, coalesce((
    SELECT value FROM vote_acts WHERE vote_id = votes.id AND kind = 'reasons'
    AND NOT EXISTS (SELECT 1 FROM vote_acts AS later WHERE later.undoes = vote_acts.id)
    ORDER BY vote_acts.at DESC, vote_acts.id DESC LIMIT 1), '[]') AS reasons
FROM votes
UNION ALL
SELECT vote_acts.id, vote_acts.key, vote_acts.reader_id, vote_acts.role, votes.study_uid, votes.series_uid,
    votes.accession_number, votes.site, votes.modality, 'withdrawn', vote_acts.at, vote_acts.received_at, NULL,
    vote_acts.source, vote_acts.verdict_visible, vote_acts.presentation, vote_acts.vote_id, NULL, '[]'
FROM vote_acts JOIN votes ON votes.id = vote_acts.vote_id
WHERE vote_acts.kind = 'withdrawal' AND vote_acts.undoes IS NULL
"""


def index(db: sqlite_utils.Database) -> None:
    """Indexes, triggers and the view of the vote log."""
    for table, columns in UNIQUE:
        db.table(table).create_index(columns, unique=True)
    for table, columns in INDEXES:
        db.table(table).create_index(columns)
    for statement in PARTIAL.strip().split("\n"):
        db.conn.execute(statement)
    for table in APPEND_ONLY:
        for verb in ("update", "delete"):
            db.conn.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} BEGIN"
                f" SELECT raise(ABORT, '{table} is append-only'); END"
            )
    db.conn.execute(VOTES_HAVE_A_SUBJECT)
    db.conn.execute(VOTE_LOG)
