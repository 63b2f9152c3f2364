"""A reader's *poor* calls the technologists of the scanner; a vote that is taken back calls nobody any more.

Works from the log of votes, so that a vote counts whatever way it came and a kill loses none.  Nobody is told who
voted.
"""

from __future__ import annotations

from typing import Protocol

from qc_node.domain import VoteChannel, attention
from qc_node.domain.attention import Cause
from qc_node.ledger.alarms import TAKEN_BACK
from qc_node.ledger.rows import AlarmRow, SeriesRow, VoteRow
from qc_node.web.settings import WebDeps
from qc_node.web.votes.casting import GRACE_S, effective

LOOK_BACK_S = 7 * 86_400.0
"""Votes that came earlier are history when the node starts."""


class Caller(Protocol):
    """What raises alarms: the board."""

    def voted_poor(self, vote_id: int, series: SeriesRow, cause: Cause, at: float) -> bool:
        """Raise the alarm of a vote, received `at`, on a series; False where it was raised before."""
        ...

    def take_back(self, alarm: AlarmRow) -> None:
        """Close an alarm whose reason is gone."""
        ...


class VoteCalls:
    """Looks at votes that are new; :meth:`step` may be called at any time."""

    def __init__(self, deps: WebDeps, board: Caller) -> None:
        self._deps = deps
        self._board = board
        self._seen = -1
        self._unsettled = True

    def step(self) -> None:
        """Raise and close alarms as the log of votes says; quick where nothing was written since."""
        newest = self._deps.ledger.votes.newest_id()
        if newest == self._seen and not self._unsettled:
            return
        now = self._deps.clock()
        settled = now - self._deps.web.undo_s - GRACE_S
        standing = effective(self._deps.ledger.votes.received_since(now - LOOK_BACK_S))
        unsettled = False
        for row in standing:
            if row["vote"] == "poor" and row["voted_at"] > settled:
                unsettled = True  # may still be undone
            else:
                self._call(row, now)
        for alarm in self._deps.ledger.alarms.open_votes():
            if alarm["vote_id"] is not None and not self._stands(alarm["vote_id"]):
                self._board.take_back(alarm)
        self._seen, self._unsettled = newest, unsettled  # only now: a step that failed is taken again

    def _call(self, row: VoteRow, now: float) -> None:
        causes = attention.of_vote(row["vote"], row["role"], row["reasons"])
        if not causes or row["source"] == VoteChannel.IMPORT or row["voted_at"] < now - LOOK_BACK_S:
            return
        series = self._series(row)
        before = self._deps.ledger.alarms.of_vote(row["id"])
        if series is not None and (before is None or before["closed_by"] == TAKEN_BACK):
            self._board.voted_poor(row["id"], series, causes[0], row["received_at"])

    def _series(self, row: VoteRow) -> SeriesRow | None:
        """The series that a vote is about; of a study the newest of its modality; None where none was received."""
        ledger, study_uid = self._deps.ledger, row["study_uid"]
        if study_uid is None:
            studies = ledger.studies.by_accession(row["accession_number"] or "")
            study_uid = studies[0]["study_uid"] if len(studies) == 1 else None
        if study_uid is None:
            return None
        if row["series_uid"] is not None:
            return ledger.series.find(study_uid, row["series_uid"])
        rows = ledger.series.of_study(study_uid)
        mine = [one for one in rows if one["modality"] == row["modality"]] or rows
        return max(mine, key=lambda one: one["last_received"], default=None)

    def _stands(self, vote_id: int) -> bool:
        row = self._deps.ledger.votes.get(vote_id)
        if row is None:
            return False
        lines = self._deps.ledger.votes.of_subject(row["study_uid"], row["accession_number"], row["reader_id"])
        return any(line["id"] == vote_id for line in effective(lines))
