"""What follows verdicts and votes: key objects are taken in, votes asked for, vote reports sent.

One thread, woken every two seconds; each step reads rows, works, and writes rows, so a kill loses nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

from qc_node.domain import QcNodeError, VoteChannel
from qc_node.ledger.audit import FORGOTTEN_EVENT
from qc_node.web.settings import WebDeps
from qc_node.web.votes import from_key_objects
from qc_node.web.votes.casting import ELSEWHERE, GRACE_S, effective
from qc_node.web.votes.prompts import Prompter

log = logging.getLogger(__name__)

EVERY_S = 2.0
LOOK_BACK_S = 86_400.0


class FollowUp:
    """Steps that follow votes and verdicts; :meth:`step` is one round of all of them.

    `on_forgotten` is called after another process made the ledger forget somebody.
    """

    def __init__(self, deps: WebDeps, on_forgotten: Callable[[], object] = lambda: None) -> None:
        self._deps = deps
        self._on_forgotten = on_forgotten
        self._audited = deps.ledger.audit.newest()
        self._prompter = Prompter(deps)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._verdict = max((row["id"] for row in deps.ledger.verdicts.recent(1)), default=0)
        self._vote = deps.ledger.votes.newest_id()
        self._reported: set[tuple[int, str]] = set()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="follow-up", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step in hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self.step()
            except (sqlite3.Error, OSError, QcNodeError) as error:
                log.warning("A step that follows votes failed and will be tried again: %s", type(error).__name__)
        self._deps.ledger.close()

    def step(self) -> None:
        """One round."""
        from_key_objects.take_in(self._deps)
        self._see_forgotten()
        if self._deps.web.prompts.enabled:
            self._ask()
        if self._deps.web.vote_sr:
            self._report()

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
            reader = self._deps.ledger.readers.get(row["reader_id"])
            if reader is not None:
                self._deps.report_vote({**row, "key": key}, reader)
            self._reported.add((row["id"], key))
