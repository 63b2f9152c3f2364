"""Cases: what can be voted on, under opaque handles, and the record of what was shown to whom."""

from __future__ import annotations

from qc_node.ledger.database import Database
from qc_node.ledger.rows import CaseRow, PresentationRow


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

    def get(self, handle: str) -> CaseRow | None:
        """The case behind a handle."""
        return self._db.row("SELECT * FROM cases WHERE handle = ?", (handle,), of=CaseRow)

    def numbered(self, accession_number: str) -> list[CaseRow]:
        """Cases with this accession number that somebody else than a typing reader named: a viewer, a program."""
        return self._db.rows(
            "SELECT * FROM cases WHERE accession_number = ? AND (study_uid IS NOT NULL"
            " OR EXISTS (SELECT 1 FROM presentations WHERE presentations.handle = cases.handle"
            "  AND how != 'search')"
            " OR EXISTS (SELECT 1 FROM votes WHERE votes.accession_number = cases.accession_number"
            "  AND source != 'panel')) ORDER BY created_at DESC",
            (accession_number,),
            of=CaseRow,
        )

    def of_study(self, study_uid: str) -> CaseRow | None:
        """The case of a whole study, where there is one."""
        return self._db.row("SELECT * FROM cases WHERE subject = ?", (f"study:{study_uid}",), of=CaseRow)

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

    def presentation(self, presentation: str) -> PresentationRow | None:
        """One presentation with the case that it showed."""
        return self._db.row(
            "SELECT presentations.*, cases.study_uid, cases.series_uid, cases.accession_number"
            " FROM presentations JOIN cases USING (handle) WHERE id = ?",
            (presentation,),
            of=PresentationRow,
        )
