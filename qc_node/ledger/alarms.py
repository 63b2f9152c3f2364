"""Alarms: what the board asks somebody to look at, until somebody has.

Each reason to call (:class:`qc_node.domain.attention.AttentionKind`) of a run of a series is a row of its own, and
so is each vote.  Rows stay when they are closed: how many calls there were, and what they led to, is counted
from them.
"""

from __future__ import annotations

from collections.abc import Collection

from qc_node.domain.attention import AlarmAnswer, AttentionKind
from qc_node.ledger.database import Database
from qc_node.ledger.rows import AlarmRow, AnsweredVote, CalledRow

JUDGED_AGAIN = "judged again"
"""Who closed an alarm whose series got another verdict."""
TAKEN_BACK = "taken back"
"""Who closed an alarm whose vote was withdrawn or replaced, or of a study that lacks nothing any more."""
NOBODY = (JUDGED_AGAIN, TAKEN_BACK)
"""What stands in ``closed_by`` where no person closed an alarm."""

_OF_A_RUN = ", ".join(f"'{kind.value}'" for kind in AttentionKind if kind.of_a_run)


class Alarms:
    """One row per run of a series, reason and vote."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def raise_alarm(
        self,
        series_id: int,
        run: int,
        calling_ae: str,
        at: float,
        *,
        kind: AttentionKind = AttentionKind.VERDICT,
        station: str | None = None,
        vote_id: int | None = None,
    ) -> bool:
        """Ask for attention; False when this was asked before.  What an earlier run asked for is closed.

        A call that was taken back and has its reason again is open again.
        """
        with self._db.transaction() as conn:
            if kind.of_a_run:
                self.supersede(series_id, run, at)
            elif self._open_again(series_id, run, kind, vote_id):
                return True
            cursor = conn.execute(
                "INSERT OR IGNORE INTO alarms (series_id, run, calling_ae, station, raised_at, kind, vote_id)"
                " VALUES (?,?,?,?,?,?,?)",
                (series_id, run, calling_ae, station or calling_ae, at, kind.value, vote_id),
            )
            return cursor.rowcount == 1

    def _open_again(self, series_id: int, run: int, kind: AttentionKind, vote_id: int | None) -> bool:
        """A vote has one call, whatever run of its series it came in."""
        which = "series_id = ? AND run = ? AND kind = ?"
        values: tuple[object, ...] = (series_id, run, kind.value)
        if vote_id is not None:
            which, values = "vote_id = ?", (vote_id,)
        with self._db.transaction() as conn:
            return (
                conn.execute(
                    f"UPDATE alarms SET closed_at = NULL, closed_by = NULL WHERE {which} AND closed_by = ?",
                    (*values, TAKEN_BACK),
                ).rowcount
                == 1
            )

    def supersede(self, series_id: int, run: int, at: float) -> int:
        """Close what earlier runs of a series asked for, as it has been judged anew; returns how many.

        What a study lacks, and votes, are not about one run.
        """
        with self._db.transaction() as conn:
            return conn.execute(
                "UPDATE alarms SET closed_at = ?, closed_by = ?"
                f" WHERE series_id = ? AND run < ? AND closed_at IS NULL AND kind IN ({_OF_A_RUN})",
                (at, JUDGED_AGAIN, series_id, run),
            ).rowcount

    def end(self, series_id: int, run: int, kinds: Collection[AttentionKind], at: float) -> int:
        """Close what this run asked for and has no reason for any more; returns how many."""
        closed = 0
        with self._db.transaction() as conn:
            for kind in kinds:
                closed += conn.execute(
                    "UPDATE alarms SET closed_at = ?, closed_by = ?"
                    " WHERE series_id = ? AND run = ? AND kind = ? AND closed_at IS NULL",
                    (at, JUDGED_AGAIN, series_id, run, kind.value),
                ).rowcount
        return closed

    def close(self, alarm_id: int, at: float) -> bool:
        """Close an alarm whose reason is gone: a vote that was taken back, a study that has everything."""
        with self._db.transaction() as conn:
            sql = "UPDATE alarms SET closed_at = ?, closed_by = ? WHERE id = ? AND closed_at IS NULL"
            return conn.execute(sql, (at, TAKEN_BACK, alarm_id)).rowcount == 1

    def open_ones(self) -> list[AlarmRow]:
        """Open alarms, oldest first."""
        return self._db.rows("SELECT * FROM alarms WHERE closed_at IS NULL ORDER BY id", of=AlarmRow)

    def open_of_study(self, study_uid: str, kind: AttentionKind) -> list[AlarmRow]:
        """Open alarms of one kind on the series of a study."""
        return self._db.rows(
            "SELECT alarms.* FROM alarms WHERE closed_at IS NULL AND kind = ?"
            " AND series_id IN (SELECT series_id FROM series WHERE study_uid = ?) ORDER BY id",
            (kind.value, study_uid),
            of=AlarmRow,
        )

    def acknowledge(self, alarm_id: int, by: str, at: float, answer: AlarmAnswer | None = None) -> AlarmRow | None:
        """Close an alarm; its row, or None when there is no such open alarm."""
        with self._db.transaction() as conn:
            cursor = conn.execute(
                "UPDATE alarms SET closed_at = ?, closed_by = ?, answer = ? WHERE id = ? AND closed_at IS NULL",
                (at, by, None if answer is None else answer.value, alarm_id),
            )
            if cursor.rowcount != 1:
                return None
            return self._db.row("SELECT * FROM alarms WHERE id = ?", (alarm_id,), of=AlarmRow)

    # -- votes ---------------------------------------------------------------------------------------
    def of_vote(self, vote_id: int) -> AlarmRow | None:
        """The alarm that a vote raised."""
        return self._db.row("SELECT * FROM alarms WHERE vote_id = ?", (vote_id,), of=AlarmRow)

    def open_votes(self) -> list[AlarmRow]:
        """Open alarms that votes raised."""
        sql = "SELECT * FROM alarms WHERE closed_at IS NULL AND vote_id IS NOT NULL ORDER BY id"
        return self._db.rows(sql, of=AlarmRow)

    def answers_of(self, reader_id: str, since: float) -> list[AnsweredVote]:
        """What became of the calls that a reader's votes raised since then, newest first.

        An open one has neither answer nor time; who answered is not told.
        """
        return self._db.rows(
            "SELECT votes.key AS vote_key, votes.id AS vote_id, votes.study_uid, votes.series_uid, alarms.station,"
            " alarms.calling_ae, alarms.raised_at, alarms.closed_at AS answered_at, alarms.answer"
            " FROM alarms JOIN votes ON votes.id = alarms.vote_id"
            " WHERE alarms.vote_id IS NOT NULL AND votes.reader_id = ?"
            " AND max(alarms.raised_at, coalesce(alarms.closed_at, 0)) >= ?"
            " AND coalesce(alarms.closed_by, '') != ? ORDER BY alarms.id DESC",
            (reader_id, since, TAKEN_BACK),
            of=AnsweredVote,
        )

    # -- counting ------------------------------------------------------------------------------------
    def raised_since(self, at: float) -> list[CalledRow]:
        """Every call raised since then, oldest first."""
        return self._db.rows(
            "SELECT station, calling_ae, kind, raised_at, answer, closed_by FROM alarms WHERE raised_at >= ?"
            " ORDER BY raised_at",
            (at,),
            of=CalledRow,
        )
