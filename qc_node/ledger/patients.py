"""Whose a study is, as a keyed pseudonym, and where to look for it when that is not known."""

from __future__ import annotations

from collections.abc import Iterator

from qc_node.ledger.database import Database
from qc_node.ledger.rows import FiledObject, FiledSeries, PathRow, PatientRow

UNTOLD = "(patient IS NULL OR (patient != '' AND instr(patient, ?) = 0))"
"""No pseudonym was noted, or only such as were made with a key that is lost."""


class Patients:
    """The column ``patient`` of the studies."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def note(self, study_uid: str, pseudonym: str) -> None:
        """An object of a study names this patient; a second one is noted beside the first."""
        with self._db.transaction() as conn:
            conn.execute(
                "UPDATE studies SET patient = trim(coalesce(patient, '') || ' ' || ?) WHERE study_uid = ?"
                " AND (patient IS NULL OR instr(' ' || patient || ' ', ' ' || ? || ' ') = 0)",
                (pseudonym, study_uid, pseudonym),
            )

    def studies_of(self, beginning: str) -> list[PatientRow]:
        """Studies with a pseudonym that begins so."""
        sql = "SELECT study_uid, patient FROM studies WHERE instr(' ' || patient, ' ' || ?) > 0"
        return self._db.rows(sql, (beginning,), of=PatientRow)

    def of(self, study_uid: str) -> str | None:
        """The pseudonyms of one study."""
        value = self._db.value("SELECT patient FROM studies WHERE study_uid = ?", (study_uid,))
        return None if value is None else str(value)

    # -- where files have to be read -----------------------------------------------------------------
    def untold_count(self, key_mark: str) -> int:
        """How many series :meth:`untold_series` gives."""
        sql = f"SELECT count(*) FROM series JOIN studies USING (study_uid) WHERE {UNTOLD} OR {_OPEN}"
        return int(self._db.value(sql, (key_mark,)))

    def untold_series(self, key_mark: str, after: int = 0, limit: int = 500) -> list[FiledSeries]:
        """Series beyond the number `after` whose patient nobody has noted under this key, or with new images."""
        return self._db.rows(
            f"{_FILED} WHERE series_id > ? AND ({UNTOLD} OR {_OPEN}) ORDER BY series_id LIMIT ?",
            (after, key_mark, limit),
            of=FiledSeries,
        )

    def untold_objects(self, key_mark: str, after: int = 0, limit: int = 500) -> list[FiledObject]:
        """Objects beyond the number `after` that are in studies whose patient nobody has noted under this key."""
        return self._db.rows(
            f"{_OBJECTS} JOIN studies USING (study_uid) WHERE instance_id > ? AND handled < 2 AND {UNTOLD}"
            " ORDER BY instance_id LIMIT ?",
            (after, key_mark, limit),
            of=FiledObject,
        )

    def series_of(self, study_uid: str) -> list[FiledSeries]:
        """Every series of a study."""
        return self._db.rows(f"{_FILED} WHERE study_uid = ? ORDER BY series_id", (study_uid,), of=FiledSeries)

    def objects_of(self, study_uid: str) -> list[FiledObject]:
        """Every object of a study that opens no series."""
        return self._db.rows(f"{_OBJECTS} WHERE study_uid = ? ORDER BY instance_id", (study_uid,), of=FiledObject)

    def files_of(self, series_id: int) -> Iterator[str]:
        """Spool names of what may say whose a series is: its images, first come first, then its newest reports."""
        images = "SELECT path FROM instances WHERE series_id = ? AND superseded_at IS NULL ORDER BY instance_id"
        reports = "SELECT path FROM reports WHERE series_id = ? AND path != '' ORDER BY created_at DESC"
        for sql in (images, reports):
            yield from (row["path"] for row in self._db.rows(sql, (series_id,), of=PathRow))


_OPEN = "series.state IN ('receiving', 'queued', 'judging')"
_FILED = (
    "SELECT series_id, study_uid, series_uid, run, series.state, patient FROM series"
    " JOIN studies USING (study_uid)"
)
_OBJECTS = "SELECT instance_id, study_uid, path FROM objects JOIN instances USING (instance_id)"
