"""What happened over time, as narrow rows for statistics: read once, then only what came since.

A year of a department is some ten thousand rows, and a page must not wait for them.  Every question here takes the
number of the last row that is known already.
"""

from __future__ import annotations

import json
from typing import Any

from qc_node.domain import Verdict, verdict_from_json
from qc_node.ledger.audit import FORGOTTEN_EVENT
from qc_node.ledger.database import Database
from qc_node.ledger.packing import plain

VoteFacts = tuple[int, str, str, str, str, str, str, str, float, int | None, str, int, int | None, str]
"""See :meth:`History.votes`."""


class History:
    """Questions over votes, presentations, verdicts and calls; nothing is written."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def erased(self) -> int:
        """The number of the last event in which rows were deleted: what was read before is to be read again."""
        sql = "SELECT coalesce(max(id), 0) FROM audit WHERE event = ?"
        return int(self._db.value(sql, (FORGOTTEN_EVENT,)))

    def votes(self, after: int = 0) -> list[VoteFacts]:
        """The narrow columns of the lines of the vote log that were written, or added to, after a number.

        ``(id, reader_id, subject, series_uid, site, modality, vote, reasons, voted_at, ms_to_vote, source,
        verdict_visible, replaces, role)`` in order of receipt; the subject is the study UID, or ``#`` and the
        accession number.
        """
        where = "" if after <= 0 else " WHERE id > ? OR id IN (SELECT vote_id FROM vote_acts WHERE id > ?)"
        return self._db.tuples(
            "SELECT id, reader_id, coalesce(study_uid, '#' || accession_number), coalesce(series_uid, ''), site,"
            " modality, vote, reasons, voted_at, ms_to_vote, source, verdict_visible, replaces, role FROM vote_log"
            f"{where} ORDER BY id",
            () if after <= 0 else (after, after),
        )

    def presented(self, after: int = 0) -> list[tuple[Any, ...]]:
        """Presentations noted after a number: the denominator of the acceptance rate.

        ``(number, reader_id, subject, site, modality, at)`` in order of writing; the subject as in :meth:`votes`.
        """
        return self._db.tuples(
            "SELECT presentations.rowid, reader_id, coalesce(cases.study_uid, '#' || cases.accession_number),"
            " site, coalesce(presentations.modality, 'OT'), at FROM presentations JOIN cases USING (handle)"
            " WHERE presentations.rowid > ? ORDER BY presentations.rowid",
            (after,),
        )

    def newest_presentation(self) -> int:
        """The number of the newest presentation, 0 when there is none."""
        return int(self._db.value("SELECT coalesce(max(rowid), 0) FROM presentations"))

    def judged(self) -> list[tuple[int, float, int, str]]:
        """``(verdict, judged_at, series_id, study_uid)`` of each series: the routed verdict on its present run."""
        return self._db.tuples(
            "SELECT verdicts.id, judged_at, series_id, study_uid FROM verdicts JOIN series USING (series_id, run)"
            " WHERE routed = 1 ORDER BY verdicts.id"
        )

    def verdicts_of(self, verdict_id: int) -> list[tuple[Verdict, str]]:
        """The verdicts of the same run as this one, each with its claims as JSON text, the routed one first."""
        rows = self._db.tuples(
            "SELECT verdicts.verdict, verdicts.claims FROM verdicts JOIN verdicts AS asked"
            " ON asked.series_id = verdicts.series_id AND asked.run = verdicts.run WHERE asked.id = ?"
            " ORDER BY verdicts.routed DESC, verdicts.id",
            (verdict_id,),
        )
        return [(verdict_from_json(json.loads(plain(verdict))), plain(claims)) for verdict, claims in rows]

    def stations(self) -> list[tuple[int, str, str, str, str]]:
        """``(series_id, study_uid, series_uid, station, calling_ae)`` of every series in order of arrival.

        The station is empty where nobody noted one.
        """
        return self._db.tuples(
            "SELECT series_id, study_uid, series_uid, coalesce(station, ''), calling_ae FROM series"
            " ORDER BY series_id"
        )

    def calls(self, since: float) -> list[tuple[int, float, str | None]]:
        """``(series_id, raised_at, answer)`` of what the program raised on the board since then, oldest first."""
        return self._db.tuples(
            "SELECT series_id, raised_at, answer FROM alarms WHERE raised_at >= ? AND kind != 'vote'"
            " ORDER BY raised_at",
            (since,),
        )

    def calls_mark(self) -> tuple[int, int]:
        """Changes whenever a call is raised or answered."""
        return self._db.tuples("SELECT coalesce(max(id), 0), count(answer) FROM alarms")[0]
