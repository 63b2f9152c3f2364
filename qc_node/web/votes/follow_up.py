"""What follows verdicts and votes: key objects are taken in, votes asked for, vote reports sent.

One loop, woken every two seconds; each step reads rows, works, and writes rows, so a kill loses nothing.  What
fails in one part of a step, or for one vote, is told and does not keep the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from qc_node.domain import VoteChannel
from qc_node.ledger import LedgerDamagedError, LedgerError
from qc_node.ledger.audit import FORGOTTEN_EVENT
from qc_node.ledger.rows import VoteRow
from qc_node.periodic import Periodic
from qc_node.web.settings import WebDeps
from qc_node.web.votes import from_key_objects
from qc_node.web.votes.casting import ELSEWHERE, GRACE_S, effective
from qc_node.web.votes.prompts import Prompter

log = logging.getLogger(__name__)

EVERY_S = 2.0
LOOK_BACK_S = 86_400.0


class FollowUp:
    """Steps that follow votes and verdicts; :meth:`step` is one round of all of them.

    `on_forgotten` is called after another process made the ledger forget somebody, `after_votes` in every round.
    """

    def __init__(
        self,
        deps: WebDeps,
        on_forgotten: Callable[[], object] = lambda: None,
        after_votes: Callable[[], None] = lambda: None,
    ) -> None:
        self._deps = deps
        self._on_forgotten = on_forgotten
        self._after_votes = after_votes
        self._audited = deps.ledger.audit.newest()
        self._prompter = Prompter(deps)
        self._interrupted = True
        self.loop = self._new_loop()
        self._verdict = max((row["id"] for row in deps.ledger.verdicts.recent(1)), default=0)
        self._vote = deps.ledger.votes.newest_id()
        self._reported: set[tuple[int, str]] = set()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self.loop = self._new_loop()
        self.loop.start()

    def stop(self) -> None:
        """End after the step in hand."""
        self.loop.stop()

    def _new_loop(self) -> Periodic:
        return Periodic("follow-up", self.step, EVERY_S, after=self._deps.ledger.close)

    def step(self) -> None:
        """One round; what a part of it raises comes out when all parts had their turn."""
        parts = [self._take_in, self._see_forgotten, self._after_votes]
        if self._deps.web.prompts.enabled:
            parts.append(self._ask)
        if self._deps.web.vote_sr:
            parts.append(self._report)
        troubles = [trouble for part in parts if (trouble := _tried(part)) is not None]
        if troubles:
            raise troubles[0]

    def _take_in(self) -> None:
        if self._interrupted:
            from_key_objects.take_up_interrupted(self._deps)
            self._interrupted = False
        from_key_objects.take_in(self._deps)

    def _see_forgotten(self) -> None:
        for row in self._deps.ledger.audit.after(self._audited):
            self._audited = row["id"]
            if row["event"] == FORGOTTEN_EVENT:
                self._on_forgotten()

    def _ask(self) -> None:
        for verdict in self._deps.ledger.verdicts.after(self._verdict):
            self._verdict = verdict["id"]
            series = self._deps.ledger.series.by_id(verdict["series_id"])
            if series is not None:
                self._prompter.after_verdict(series, verdict)
        for vote in self._deps.ledger.votes.after(self._vote):
            self._vote = vote["id"]
            if vote["source"] != VoteChannel.IMPORT:
                self._prompter.after_vote(vote)
        self._prompter.expire()

    def _report(self) -> None:
        """Send votes that stand once they cannot be undone any more; building one twice changes nothing.

        Reasons that were given later make a report of their own, under their own key.
        """
        now = self._deps.clock()
        settled = now - self._deps.web.undo_s - GRACE_S
        rows = self._deps.ledger.votes.received_since(now - LOOK_BACK_S)
        for row in effective(rows):
            said = self._deps.ledger.votes.reasons_of(row["id"])
            key = (said["key"] if said is not None else None) or row["key"]
            last = row["voted_at"] if said is None else max(said["at"], row["voted_at"])
            if (row["id"], key) in self._reported or last > settled or not row["study_uid"]:
                continue
            if row["source"] in ELSEWHERE:
                continue  # from elsewhere: the PACS has the key object already
            self._report_one(row, key)
            self._reported.add((row["id"], key))

    def _report_one(self, row: VoteRow, key: str) -> None:
        reader = self._deps.ledger.readers.get(row["reader_id"])
        if reader is None:
            return
        try:
            self._deps.report_vote({**row, "key": key}, reader)
        except (LedgerError, LedgerDamagedError, OSError):
            raise  # nothing of the vote's: it is tried again
        except Exception:
            log.exception("a vote could not be made a report and gets none until the next start")


def _tried(part: Callable[[], None]) -> Exception | None:
    try:
        part()
    except Exception as error:
        return error
    return None
