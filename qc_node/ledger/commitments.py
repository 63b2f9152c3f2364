"""What a result of storage commitment changes in the ledger, whichever way it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qc_node.dicom.commitment import CommitmentResult
from qc_node.ledger.deliveries import Deliveries


@dataclass(frozen=True, slots=True)
class NotedCommitment:
    """The destinations that keep an object now, one for each object; and how many objects are sent again."""

    kept_by: tuple[str, ...]
    sent_again: int

    @property
    def sentence(self) -> str:
        """For the log."""
        return f"Storage commitment: {len(self.kept_by)} kept, {self.sent_again} to be sent again."


def note_commitment(deliveries: Deliveries, result: CommitmentResult, at: float) -> NotedCommitment:
    """Write down what is kept; what is not goes back into the queue.

    Only what was asked for under this transaction counts, and each object once: a result that is repeated, on
    the same association or on another, changes nothing.
    """
    ours: dict[str, Any] = {
        row["sop_instance_uid"]: row for row in deliveries.of_transaction(result.transaction_uid)
    }
    kept_by = [
        ours[uid]["destination"]
        for uid in dict.fromkeys(result.kept)
        if uid in ours and deliveries.committed(uid, result.transaction_uid, at)
    ]
    lost = 0
    for uid in ours.keys() & result.lost.keys():
        error = f"The destination did not commit the object (failure reason 0x{result.lost[uid]:04X})."
        lost += deliveries.again(ours[uid]["id"], at, error, result.transaction_uid)
    return NotedCommitment(tuple(kept_by), lost)
