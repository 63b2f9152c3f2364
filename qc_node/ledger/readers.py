"""Readers: who may vote, and of which studies they saw the machine's opinion."""

from __future__ import annotations

from collections.abc import Iterable

from qc_node.ledger.database import Database
from qc_node.ledger.rows import ReaderRow
from qc_node.ledger.sessions import Sessions


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
        row = {
            "reader_id": reader_id,
            "login": login,
            "name": name,
            "site": site,
            "role": role,
            "pseudonym": pseudonym,
            "dicom_name": dicom_name,
            "pin_hash": pin_hash,
            "token_hash": token_hash,
            "created_at": at,
        }
        self._db.insert("readers", row)

    def get(self, reader_id: str) -> ReaderRow | None:
        """The row of one reader, disabled or not."""
        return self._db.row("SELECT * FROM readers WHERE reader_id = ?", (reader_id,), of=ReaderRow)

    def by_login(self, login: str) -> ReaderRow | None:
        """The reader with this login (any case)."""
        return self._db.row("SELECT * FROM readers WHERE login = ?", (login,), of=ReaderRow)

    def by_token(self, token_hash: str) -> ReaderRow | None:
        """The reader to whom a personal link belongs."""
        return self._db.row("SELECT * FROM readers WHERE token_hash = ?", (token_hash,), of=ReaderRow)

    def all(self) -> list[ReaderRow]:
        """Every reader in order of coming."""
        return self._db.rows("SELECT * FROM readers ORDER BY created_at, login", of=ReaderRow)

    def count_enabled(self) -> int:
        """How many readers may sign in."""
        return int(self._db.value("SELECT count(*) FROM readers WHERE disabled_at IS NULL"))

    def disable(self, reader_id: str, at: float) -> bool:
        """Shut a reader out at once, wherever signed in; False when that was so before."""
        with self._db.transaction() as conn:
            Sessions(self._db).end_all(reader_id, at, "disabled")
            cursor = conn.execute(
                "UPDATE readers SET disabled_at = ?, session_epoch = session_epoch + 1, token_hash = NULL"
                " WHERE reader_id = ? AND disabled_at IS NULL",
                (at, reader_id),
            )
            return cursor.rowcount == 1

    def enable(self, reader_id: str) -> bool:
        """Let a reader in again, by the PIN that was and no link; False when nobody had shut that one out."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE readers SET disabled_at = NULL WHERE reader_id = ? AND disabled_at IS NOT NULL",
                (reader_id,),
            )
            return cursor.rowcount == 1

    def change(
        self,
        reader_id: str,
        *,
        login: str | None = None,
        name: str | None = None,
        dicom_name: str | None = None,
        site: str | None = None,
        role: str | None = None,
    ) -> None:
        """Call a reader something else from now on; what is None stays.  Votes keep the role and site they had.

        Raises
        ------
        sqlite3.IntegrityError
            The login is taken.
        """
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE readers SET login = coalesce(?, login), name = coalesce(?, name),"
                " dicom_name = coalesce(?, dicom_name), site = coalesce(?, site), role = coalesce(?, role)"
                " WHERE reader_id = ?",
                (login, name, dicom_name, site, role, reader_id),
            )

    def remove_pin(self, reader_id: str, at: float) -> None:
        """From now on this reader signs in by the link only; sessions signed in before end."""
        with self._db.transaction() as conn:
            Sessions(self._db).end_all(reader_id, at, "PIN removed")
            conn.execute("UPDATE readers SET pin_hash = NULL WHERE reader_id = ?", (reader_id,))

    def set_secret(
        self, reader_id: str, at: float, *, pin_hash: str | None = None, token_hash: str | None = None
    ) -> None:
        """Give a reader a new PIN or personal link; sessions signed in before end."""
        with self._db.transaction() as conn:
            Sessions(self._db).end_all(reader_id, at, "new PIN or link")
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
