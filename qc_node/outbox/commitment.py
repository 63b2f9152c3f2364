"""Storage commitment as the outbox's rows see it: what was asked for, and what the answer changes."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qc_node.dicom.commitment import CommitmentResult
from qc_node.domain import InstanceRef
from qc_node.ledger import Ledger
from qc_node.ledger.commitments import note_commitment
from qc_node.ledger.rows import AskedDelivery, ReportDelivery


@dataclass(frozen=True, slots=True)
class CommitmentPolicy:
    """When to ask again for a promise that was not given, and when to leave it.

    After a refusal or a failure ``turned_down_s``, without an answer ``again_s``; doubled with each request, at
    most ``cap_s``.  No more than ``attempts`` requests in all, and none later than ``give_up_s`` after the first.
    """

    turned_down_s: float = 60.0
    again_s: float = 3600.0
    cap_s: float = 86400.0
    attempts: float = math.inf
    give_up_s: float = math.inf

    def due_at(self, asked: AskedDelivery) -> float:
        """When to ask again, in seconds since the epoch."""
        turned_down = asked["outcome"] is not None
        first, since = (
            (self.turned_down_s, asked["last_heard"]) if turned_down else (self.again_s, asked["last_asked"])
        )
        return since + min(self.cap_s, first * 2.0 ** min(asked["asked"] - 1, 30))

    def is_due(self, asked: AskedDelivery, now: float) -> bool:
        """Whether to ask now; what was asked in the future was asked while the clock was ahead."""
        return now >= self.due_at(asked) or asked["last_asked"] > now

    def is_over(self, asked: AskedDelivery, now: float) -> bool:
        """Whether asking again has no more sense: too often, or for too long."""
        return now - asked["first_asked"] >= self.give_up_s or (
            asked["asked"] >= self.attempts and (asked["outcome"] is not None or self.is_due(asked, now))
        )


class LedgerQuestion:
    """One request for the objects of `rows`.

    Parameters
    ----------
    on_committed
        Called with the destination for each object that it has promised to keep.
    """

    def __init__(
        self,
        ledger: Ledger,
        rows: Sequence[ReportDelivery],
        wall: Callable[[], float],
        on_committed: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._ids = {row["sop_instance_uid"]: row["id"] for row in rows}
        self._wall = wall
        self._on_committed = on_committed

    def put(self, references: Sequence[InstanceRef]) -> str:
        """See :class:`~qc_node.outbox.transport.interface.CommitmentQuestion`."""
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        at = self._wall()
        for reference in references:
            self._ledger.deliveries.commitment_asked(self._ids[reference.sop_instance_uid], transaction_uid, at)
        return transaction_uid

    def refused(self, transaction_uid: str, sentence: str) -> None:
        """See :class:`~qc_node.outbox.transport.interface.CommitmentQuestion`."""
        self._ledger.deliveries.commitment_refused(transaction_uid, self._wall(), sentence)

    def answered(self, result: CommitmentResult) -> str:
        """See :class:`~qc_node.outbox.transport.interface.CommitmentQuestion`."""
        try:
            noted = note_commitment(self._ledger.deliveries, result, self._wall())
        finally:
            self._ledger.close()
        for destination in noted.kept_by:
            self._on_committed(destination)
        return noted.sentence
