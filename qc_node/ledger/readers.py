"""Readers: who may vote, and which studies were put before them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qc_node.ledger.database import Database

Row = dict[str, Any]


class Readers:
    """One row per reader.  A reader is disabled, never deleted: the votes keep their author."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        reader_id: str,
        *,
        login: str,
        name: str,
        site: str,
        role: str,
        pseudonym: str,
        at: float,
        dicom_name: str | None = None,
        pin_hash: str | None = None,
        token_hash: str | None = None,
    ) -> None:
        """Write one reader.

        Raises
        ------
        sqlite3.IntegrityError
            The login is taken.
        """
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO readers (reader_id, login, name, site, role, pseudonym, dicom_name, pin_hash,"
                " token_hash, created_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (reader_id, login, name, site, role, pseudonym, dicom_name, pin_hash, token_hash, at),
            )

    def get(self, reader_id: str) -> Row | None:
        """The row of one reader, disabled or not."""
        return self._db.row("SELECT * FROM readers WHERE reader_id = ?", (reader_id,))

    def by_login(self, login: str) -> Row | None:
        """The reader with this login (any case)."""
        return self._db.row("SELECT * FROM readers WHERE login = ?", (login,))

    def by_token(self, token_hash: str) -> Row | None:
        """The reader to whom a personal link belongs."""
        return self._db.row("SELECT * FROM readers WHERE token_hash = ?", (token_hash,))

    def all(self) -> list[Row]:
        """Every reader in order of coming."""
        return self._db.rows("SELECT * FROM readers ORDER BY created_at, login")

    def count_enabled(self) -> int:
        """How many readers may sign in."""
        return int(self._db.value("SELECT count(*) FROM readers WHERE disabled_at IS NULL"))

    def disable(self, reader_id: str, at: float) -> bool:
        """Shut a reader out at once; False when that was so before."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE readers SET disabled_at = ?, session_epoch = session_epoch + 1, token_hash = NULL"
                " WHERE reader_id = ? AND disabled_at IS NULL",
                (at, reader_id),
            )
            return cursor.rowcount == 1

    def set_secret(self, reader_id: str, *, pin_hash: str | None = None, token_hash: str | None = None) -> None:
        """Give a reader a new PIN or personal link; sessions signed in before end."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE readers SET pin_hash = coalesce(?, pin_hash), token_hash = coalesce(?, token_hash),"
                " session_epoch = session_epoch + 1 WHERE reader_id = ? AND disabled_at IS NULL",
                (pin_hash, token_hash, reader_id),
            )

    def set_topic(self, reader_id: str, topic: str | None) -> None:
        """Note the FHIRcast topic under which this reader's workstation speaks."""
        with self._db.transaction() as conn:
            conn.execute("UPDATE readers SET fhircast_topic = ? WHERE reader_id = ?", (topic, reader_id))

    # -- what was seen -------------------------------------------------------------------------------
    def saw_verdict(self, reader_id: str, study_uids: Iterable[str], at: float) -> None:
        """Note that a reader saw the machine's opinion on these studies (the first time counts)."""
        with self._db.transaction() as conn:
            conn.executemany(
                "INSERT OR IGNORE INTO verdict_views (reader_id, study_uid, at) VALUES (?,?,?)",
                [(reader_id, uid, at) for uid in study_uids],
            )

    def has_seen_verdict(self, reader_id: str, study_uid: str, before: float) -> bool:
        """Whether the machine's opinion had been shown to this reader by then."""
        sql = "SELECT 1 FROM verdict_views WHERE reader_id = ? AND study_uid = ? AND at <= ?"
        return self._db.value(sql, (reader_id, study_uid, before)) is not None


class Cases:
    """Opaque handles for what can be voted on, and the record of what was shown to whom."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(
        self,
        handle: str,
        subject: str,
        at: float,
        *,
        study_uid: str | None = None,
        series_uid: str | None = None,
        accession_number: str | None = None,
        modality: str | None = None,
        description: str | None = None,
    ) -> str:
        """The handle of `subject`: an older one where there is one, else `handle`.

        What the caller knows fills what was empty; nothing is overwritten.
        """
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT INTO cases (handle, subject, study_uid, series_uid, accession_number, modality,"
                " description, created_at) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (subject) DO UPDATE SET"
                " accession_number = coalesce(cases.accession_number, excluded.accession_number),"
                " modality = coalesce(cases.modality, excluded.modality),"
                " description = coalesce(cases.description, excluded.description)",
                (handle, subject, study_uid, series_uid, accession_number, modality, description, at),
            )
            row = conn.execute("SELECT handle FROM cases WHERE subject = ?", (subject,)).fetchone()
            return str(row[0])

    def get(self, handle: str) -> Row | None:
        """The case behind a handle."""
        return self._db.row("SELECT * FROM cases WHERE handle = ?", (handle,))

    def present(
        self,
        presentation: str,
        handle: str,
        reader_id: str,
        site: str,
        modality: str | None,
        at: float,
        how: str,
        prompt: str | None = None,
        context_id: str | None = None,
    ) -> bool:
        """Note that a case was put before a reader; False when this presentation is known."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "INSERT OR IGNORE INTO presentations (id, handle, reader_id, site, modality, at, how, prompt,"
                " context_id) VALUES (?,?,?,?,?,?,?,?,?)",
                (presentation, handle, reader_id, site, modality, at, how, prompt, context_id),
            )
            return cursor.rowcount == 1

    def presentation(self, presentation: str) -> Row | None:
        """One presentation with the case that it showed."""
        return self._db.row(
            "SELECT presentations.*, cases.study_uid, cases.series_uid, cases.accession_number"
            " FROM presentations JOIN cases USING (handle) WHERE id = ?",
            (presentation,),
        )

    def presented(self) -> list[tuple[Any, ...]]:
        """The first time each study was put before each reader: the denominator of the acceptance rate.

        ``(reader_id, subject, site, modality, at)`` in order of time; the subject as in
        :meth:`qc_node.ledger.votes.Votes.facts`.
        """
        cursor = self._db.conn.cursor()
        cursor.row_factory = None
        return cursor.execute(
            "SELECT reader_id, coalesce(cases.study_uid, '#' || cases.accession_number) AS subject, site,"
            " coalesce(presentations.modality, 'OT'), min(at) AS first FROM presentations"
            " JOIN cases USING (handle) GROUP BY reader_id, subject ORDER BY first"
        ).fetchall()
