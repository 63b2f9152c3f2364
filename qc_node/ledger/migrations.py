"""The schema, as the ordered list of steps that made it.  A step is never edited once released; add one.

Times are seconds since the epoch (UTC).  The steps of 0.1.0 are SQL texts; that of 0.2 makes its tables with
sqlite-utils (:mod:`qc_node.ledger.schema`) and moves the rows of 0.1.0 into them (:mod:`qc_node.ledger.upgrade`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import sqlite_utils

from qc_node.domain import QcNodeError
from qc_node.ledger import schema
from qc_node.ledger.integrity import refuse_foreign
from qc_node.ledger.upgrade import Upgrade

log = logging.getLogger("qc_node.ledger")

UPGRADE_TIMEOUT_S = 3600.0
"""How long whoever opens the ledger waits for another process that is upgrading it."""

SPINE = """
CREATE TABLE studies (
    study_uid TEXT PRIMARY KEY,
    accession_number TEXT,
    description TEXT,
    first_received REAL NOT NULL,
    last_received REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    due_at REAL,
    closed_by TEXT,
    closed_at REAL,
    missing TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX studies_accession ON studies (accession_number);
CREATE INDEX studies_due ON studies (due_at) WHERE state = 'open';

CREATE TABLE series (
    series_uid TEXT PRIMARY KEY,
    study_uid TEXT NOT NULL REFERENCES studies,
    modality TEXT NOT NULL,
    calling_ae TEXT NOT NULL,
    first_received REAL NOT NULL,
    last_received REAL NOT NULL,
    instances INTEGER NOT NULL DEFAULT 0,
    expected INTEGER,
    expected_rule TEXT,
    pacs_count INTEGER,
    pacs_count_since REAL,
    pacs_asked_at REAL,
    run INTEGER NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'receiving'
        CHECK (state IN ('receiving', 'queued', 'judging', 'judged', 'skipped', 'failed', 'reported')),
    due_at REAL,
    closed_by TEXT,
    closed_at REAL,
    claimed_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    stage TEXT,
    sentence TEXT,
    claims TEXT NOT NULL DEFAULT '{}',
    images_removed_at REAL
);
CREATE INDEX series_state ON series (state, due_at);
CREATE INDEX series_study ON series (study_uid);
CREATE INDEX series_recent ON series (last_received);

CREATE TABLE instances (
    sop_instance_uid TEXT PRIMARY KEY,
    sop_class_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    calling_ae TEXT NOT NULL,
    path TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    received_at REAL NOT NULL,
    opens_series INTEGER NOT NULL,
    handled INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX instances_series ON instances (series_uid);
CREATE INDEX instances_objects ON instances (handled) WHERE opens_series = 0;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    reason TEXT NOT NULL,
    calling_ae TEXT NOT NULL,
    received_at REAL NOT NULL
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    series_uid TEXT NOT NULL,
    run INTEGER NOT NULL,
    at REAL NOT NULL,
    event TEXT NOT NULL,
    detail TEXT
);
CREATE INDEX events_series ON events (series_uid);

CREATE TABLE models (
    sha256 TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    stage TEXT NOT NULL,
    first_used REAL NOT NULL,
    PRIMARY KEY (stage, name, version, sha256)
);

CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY,
    series_uid TEXT NOT NULL REFERENCES series,
    run INTEGER NOT NULL,
    stage TEXT NOT NULL,
    verdict TEXT NOT NULL,
    claims TEXT NOT NULL,
    warnings TEXT NOT NULL,
    timings TEXT NOT NULL,
    source_path TEXT NOT NULL,
    judged_at REAL NOT NULL,
    report_after REAL NOT NULL,
    training_path TEXT,
    thumbnails TEXT NOT NULL DEFAULT '[]',
    UNIQUE (series_uid, run)
);
CREATE INDEX verdicts_recent ON verdicts (judged_at);

CREATE TABLE reports (
    sop_instance_uid TEXT PRIMARY KEY,
    sop_class_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    predecessor TEXT,
    created_at REAL NOT NULL
);
CREATE INDEX reports_series ON reports (series_uid, run);

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    sop_instance_uid TEXT NOT NULL REFERENCES reports,
    destination TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'sent', 'committed', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at REAL NOT NULL,
    created_at REAL NOT NULL,
    sent_at REAL,
    committed_at REAL,
    transaction_uid TEXT,
    commitment_asked_at REAL,
    last_error TEXT,
    UNIQUE (sop_instance_uid, destination)
);
CREATE INDEX deliveries_due ON deliveries (destination, state, id);
CREATE INDEX deliveries_transaction ON deliveries (transaction_uid);
"""

VOTES = """
CREATE TABLE readers (
    reader_id TEXT PRIMARY KEY,
    login TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    site TEXT NOT NULL,
    role TEXT NOT NULL,
    pseudonym TEXT NOT NULL UNIQUE,
    dicom_name TEXT,
    pin_hash TEXT,
    token_hash TEXT UNIQUE,
    fhircast_topic TEXT,
    session_epoch INTEGER NOT NULL DEFAULT 1,
    created_at REAL NOT NULL,
    disabled_at REAL
);

CREATE TABLE cases (
    handle TEXT PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    study_uid TEXT,
    series_uid TEXT,
    accession_number TEXT,
    modality TEXT,
    description TEXT,
    created_at REAL NOT NULL
);

CREATE TABLE presentations (
    id TEXT PRIMARY KEY,
    handle TEXT NOT NULL REFERENCES cases,
    reader_id TEXT NOT NULL REFERENCES readers,
    site TEXT NOT NULL,
    modality TEXT,
    at REAL NOT NULL,
    how TEXT NOT NULL,
    prompt TEXT,
    context_id TEXT
);
CREATE INDEX presentations_reader ON presentations (reader_id, at);
CREATE INDEX presentations_case ON presentations (handle);

CREATE TABLE votes (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    reader_id TEXT NOT NULL REFERENCES readers,
    study_uid TEXT,
    series_uid TEXT,
    accession_number TEXT,
    site TEXT NOT NULL,
    modality TEXT NOT NULL,
    vote TEXT NOT NULL CHECK (vote IN ('good', 'acceptable', 'poor', 'withdrawn')),
    reasons TEXT NOT NULL DEFAULT '[]',
    voted_at REAL NOT NULL,
    received_at REAL NOT NULL,
    ms_to_vote INTEGER,
    source TEXT NOT NULL CHECK (source IN ('panel', 'fhircast', 'key_object', 'api', 'import')),
    verdict_visible INTEGER NOT NULL,
    presentation TEXT,
    replaces INTEGER REFERENCES votes,
    sop_instance_uid TEXT,
    CHECK (study_uid IS NOT NULL OR accession_number IS NOT NULL),
    CHECK ((vote = 'withdrawn') <= (replaces IS NOT NULL)),
    UNIQUE (reader_id, key)
);
CREATE INDEX votes_study ON votes (study_uid);
CREATE INDEX votes_accession ON votes (accession_number);
CREATE TRIGGER votes_keep BEFORE UPDATE ON votes BEGIN
    SELECT raise(ABORT, 'votes are append-only');
END;
CREATE TRIGGER votes_stay BEFORE DELETE ON votes BEGIN
    SELECT raise(ABORT, 'votes are append-only');
END;

CREATE TABLE verdict_views (
    reader_id TEXT NOT NULL REFERENCES readers,
    study_uid TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (reader_id, study_uid)
) WITHOUT ROWID;

CREATE TABLE marks (
    id INTEGER PRIMARY KEY,
    sop_instance_uid TEXT NOT NULL UNIQUE,
    study_uid TEXT NOT NULL,
    series_uid TEXT,
    vote TEXT NOT NULL,
    reasons TEXT NOT NULL DEFAULT '[]',
    why_no_vote TEXT NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX marks_study ON marks (study_uid);

CREATE TABLE alarms (
    id INTEGER PRIMARY KEY,
    series_uid TEXT NOT NULL,
    run INTEGER NOT NULL,
    calling_ae TEXT NOT NULL,
    raised_at REAL NOT NULL,
    closed_at REAL,
    closed_by TEXT,
    UNIQUE (series_uid, run)
);
CREATE INDEX alarms_open ON alarms (calling_ae) WHERE closed_at IS NULL;

CREATE TABLE labels (
    id INTEGER PRIMARY KEY,
    series_uid TEXT NOT NULL,
    run INTEGER NOT NULL,
    question TEXT NOT NULL,
    found TEXT,
    label TEXT NOT NULL,
    reader_id TEXT NOT NULL REFERENCES readers,
    at REAL NOT NULL
);
CREATE INDEX labels_series ON labels (series_uid, question);

CREATE TABLE prompts (
    id TEXT PRIMARY KEY,
    study_uid TEXT NOT NULL,
    series_uid TEXT,
    reader_id TEXT NOT NULL REFERENCES readers,
    reason TEXT NOT NULL,
    created_at REAL NOT NULL,
    closed_at REAL,
    outcome TEXT,
    UNIQUE (study_uid, reader_id)
);
CREATE INDEX prompts_open ON prompts (reader_id) WHERE closed_at IS NULL;

CREATE TABLE gradings (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    reader_id TEXT NOT NULL REFERENCES readers,
    kind TEXT NOT NULL CHECK (kind IN ('rating', 'consensus')),
    straight_reject INTEGER NOT NULL,
    gadolinium INTEGER,
    motion INTEGER,
    contrast INTEGER,
    noise INTEGER,
    at REAL NOT NULL,
    ms INTEGER,
    source TEXT NOT NULL,
    UNIQUE (reader_id, key)
);
CREATE INDEX gradings_series ON gradings (series_uid);
"""

Step = Callable[[sqlite3.Connection, Path], None]


def _script(text: str) -> Step:
    def run(conn: sqlite3.Connection, path: Path) -> None:
        for statement in statements(text):
            conn.execute(statement)

    return run


def _to_0_2(conn: sqlite3.Connection, path: Path) -> None:
    Upgrade(conn, path, quiet=conn.execute("SELECT count(*) FROM studies").fetchone()[0] == 0).run()


def _outbox(conn: sqlite3.Connection, path: Path) -> None:
    schema.outbox(sqlite_utils.Database(conn))


def _numbers(conn: sqlite3.Connection, path: Path) -> None:
    schema.numbers(sqlite_utils.Database(conn))


def _relinks(conn: sqlite3.Connection, path: Path) -> None:
    schema.relinks(sqlite_utils.Database(conn))


def _summaries(conn: sqlite3.Connection, path: Path) -> None:
    schema.summaries(sqlite_utils.Database(conn))


def _screens(conn: sqlite3.Connection, path: Path) -> None:
    schema.screens(sqlite_utils.Database(conn))


def _measured(conn: sqlite3.Connection, path: Path) -> None:
    schema.measured(sqlite_utils.Database(conn))


MIGRATIONS: list[Step] = [
    _script(SPINE),
    _script(VOTES),
    _to_0_2,
    _outbox,
    _script(schema.GROWTH),
    _numbers,
    _relinks,
    _summaries,
    _screens,
    _measured,
]
"""Step *n* brings the schema from version *n* - 1 to *n* (``PRAGMA user_version``)."""

RELEASED_0_1_0 = 2
"""The schema of 0.1.0."""


def bring_up_to_date(path: Path) -> None:
    """Make or upgrade the ledger at `path`: all steps that it lacks, in one transaction.

    Raises
    ------
    QcNodeError
        The file was written by a newer qc-node, or holds what 0.1.0 never wrote.
    LedgerDamagedError
        It holds the tables of another program.
    sqlite3.Error, OSError
        The file cannot be opened, or a copy cannot be written.
    """
    with closing(sqlite3.connect(path, timeout=UPGRADE_TIMEOUT_S, isolation_level=None)) as conn:
        refuse_foreign(conn, path)
        if _version(conn, path) == len(MIGRATIONS):
            return
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=FULL")
        conn.execute("PRAGMA foreign_keys=OFF")  # checked at the end instead
        conn.execute("BEGIN IMMEDIATE")
        version = _version(conn, path)  # another process may have been quicker
        try:
            if version == RELEASED_0_1_0:
                Upgrade(conn, path).copy()
            for step in MIGRATIONS[version:]:
                step(conn, path)
            conn.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        except BaseException:
            if conn.in_transaction:  # a full disk has rolled back already
                conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")
        if version == RELEASED_0_1_0:
            log.info("the ledger %s is of qc-node 0.2 now", path)
            Upgrade(conn, path).compact()


def _version(conn: sqlite3.Connection, path: Path) -> int:
    version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise QcNodeError(
            f"The ledger {path} has schema {version}, newer than this qc-node knows "
            f"({len(MIGRATIONS)}); run the newer version or restore a backup."
        )
    return version


def statements(script: str) -> Iterator[str]:
    """The statements of `script`; semicolons inside a trigger do not end one."""
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if statement.strip(" \n;") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
