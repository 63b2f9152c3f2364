"""Ledgers of 0.1.0: the fixture with every state, and one of any size."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from qc_node.ledger.migrations import RELEASED_0_1_0, SPINE, VOTES, statements

FIXTURE = Path(__file__).with_name("ledger-0.1.0.sql")
PER_SERIES, SERIES_PER_STUDY = 200, 4
ROOT = "1.2.826.0.1.3680043.10.999.20260101"


def write_fixture(path: Path) -> Path:
    """The ledger that 0.1.0 wrote (``make_ledger_0_1_0.py``), as a file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.executescript(FIXTURE.read_text(encoding="utf-8"))
    return path


def write_large(path: Path, instances: int) -> Path:
    """A ledger of 0.1.0 with so many instances, in reported series of 200, four to a study; a vote per study."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=OFF")
        conn.execute("BEGIN")
        for statement in (*statements(SPINE), *statements(VOTES)):
            conn.execute(statement)
        series = range((instances + PER_SERIES - 1) // PER_SERIES)
        _fill_studies(conn, len(series) // SERIES_PER_STUDY + 1)
        for n in series:
            _fill_series(conn, n)
        conn.executemany("INSERT INTO instances VALUES (?,?,?,?,?,?,?,?,?,1,0)", _instances(instances))
        conn.execute(f"PRAGMA user_version={RELEASED_0_1_0}")
        conn.execute("COMMIT")
    return path


def _uids(n: int) -> tuple[str, str]:
    """Study and series UID of the n-th series."""
    return f"{ROOT}.{n // SERIES_PER_STUDY}.7", f"{ROOT}.9.{n}.1234567"


def _instances(count: int) -> Iterator[tuple[object, ...]]:
    for n in range(count):
        study, series = _uids(n // PER_SERIES)
        yield (
            f"{ROOT}.{n // PER_SERIES}.{n}.{n * 7919}",
            "1.2.840.10008.5.1.4.1.1.4",
            series,
            study,
            "1.2.840.10008.1.2.1",
            "SCANNER1",
            f"images/{n // PER_SERIES:032x}/{n:032x}.dcm",
            131_072,
            1.7e9 + n / 50,
        )


def _fill_studies(conn: sqlite3.Connection, count: int) -> None:
    conn.execute(
        "INSERT INTO readers (reader_id, login, name, site, role, pseudonym, created_at)"
        " VALUES ('r', 'bode', 'M. Bode', 'Potsdam', 'radiologist', 'reader-1', 1.7e9)"
    )
    studies = [f"{ROOT}.{n}.7" for n in range(count)]
    conn.executemany(
        "INSERT INTO studies (study_uid, first_received, last_received, state) VALUES (?, 1.7e9, 1.7e9, 'closed')",
        [(uid,) for uid in studies],
    )
    conn.executemany(
        "INSERT INTO votes (key, reader_id, study_uid, site, modality, vote, reasons, voted_at, received_at,"
        " source, verdict_visible)"
        " VALUES (?, 'r', ?, 'Potsdam', 'MR', 'good', '[\"noise\"]', 1.7e9, 1.7e9, 'panel', 0)",
        [(f"key-{n}", uid) for n, uid in enumerate(studies)],
    )


def _fill_series(conn: sqlite3.Connection, n: int) -> None:
    study, series = _uids(n)
    report = f"{ROOT}.5.{n}"
    conn.execute(
        "INSERT INTO series (series_uid, study_uid, modality, calling_ae, first_received, last_received,"
        " instances, state, stage) VALUES (?, ?, 'MR', 'SCANNER1', 1.7e9, 1.7e9, ?, 'reported', 'brain_mri')",
        (series, study, PER_SERIES),
    )
    conn.executemany(
        "INSERT INTO events (series_uid, run, at, event) VALUES (?, 1, 1.7e9, ?)",
        [(series, "closed"), (series, "judged")],
    )
    conn.execute(
        "INSERT INTO verdicts (series_uid, run, stage, verdict, claims, warnings, timings, source_path, judged_at,"
        " report_after) VALUES (?, 1, 'brain_mri', '{}', '{}', '[]', '{}', 'images/x', 1.7e9, 1.7e9)",
        (series,),
    )
    conn.execute(
        "INSERT INTO reports VALUES (?, '1.2.840.10008.5.1.4.1.1.88.33', ?, ?, 1, 'sr', ?, NULL, 1.7e9)",
        (report, series, study, f"reports/{n:032x}.dcm"),
    )
    conn.execute(
        "INSERT INTO deliveries (sop_instance_uid, destination, state, next_attempt_at, created_at, sent_at,"
        " committed_at, transaction_uid, commitment_asked_at)"
        " VALUES (?, 'PACS', 'committed', 1.7e9, 1.7e9, 1.7e9, 1.7e9, ?, 1.7e9)",
        (report, f"2.25.{n}"),
    )
