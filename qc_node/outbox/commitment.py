"""Storage commitment as SCU (PS3.4 annex J): asks the PACS to promise that it keeps what it took.

The answer may come on the same association or, minutes later, on one that the PACS opens; the latter is taken by
the reception.  Both do the same with it: what is kept is noted, what is not goes back into the line.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qc_node.dicom.association import Call, Context
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReportDelivery

log = logging.getLogger("qc_node.outbox")

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""Its well-known SOP Instance."""
REQUEST: Final = 1
"""Action Type: Request Storage Commitment."""

CONTEXTS: Final[tuple[Context, ...]] = (
    (PUSH_MODEL, "1.2.840.10008.1.2.1"),
    (PUSH_MODEL, "1.2.840.10008.1.2"),
)


def offered(line: Call) -> bool:
    """Whether the peer offers storage commitment on this association."""
    return any(line.accepts(*context) for context in CONTEXTS)


@dataclass
class ResultTaker:
    """Takes N-EVENT-REPORT on our own association; ``arrived`` is set once an answer is in the ledger.

    Statuses returned: 0x0000, 0x0113 (no such event type), 0x0110 (processing failure: the PACS may try again).
    """

    ledger: Ledger
    wall: Callable[[], float]
    on_committed: Callable[[ReportDelivery], None]
    arrived: threading.Event = field(default_factory=threading.Event)

    def handlers(self) -> list[Any]:
        """For :func:`qc_node.dicom.association.call`."""
        from pynetdicom import evt

        return [(evt.EVT_N_EVENT_REPORT, self._take)]

    def _take(self, event: Any) -> tuple[int, None]:
        if event.event_type not in (1, 2):
            return 0x0113, None
        try:
            for delivery in note_result(self.ledger, event.event_information, self.wall()):
                self.on_committed(delivery)
        except Exception:
            # A peer's bytes or a locked ledger: the status says so, and the hourly question asks again.
            log.exception("a storage commitment result could not be taken")
            return 0x0110, None
        finally:
            self.arrived.set()
            self.ledger.close()
        return 0x0000, None


def note_result(ledger: Ledger, result: Any, at: float) -> list[ReportDelivery]:
    """Write what a result says into the ledger; returns the deliveries that are kept.

    An object that the peer did not keep goes back into the line.
    """
    transaction = str(result.TransactionUID)
    ours = {row["sop_instance_uid"]: row for row in ledger.deliveries.of_transaction(transaction)}
    lost = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or 0)
        for item in result.get("FailedSOPSequence") or []
    }
    kept: list[ReportDelivery] = []
    for item in result.get("ReferencedSOPSequence") or []:
        uid = str(item.ReferencedSOPInstanceUID)
        if uid in ours and uid not in lost and ledger.deliveries.committed(uid, transaction, at):
            kept.append(ours[uid])
    for uid in ours.keys() & lost.keys():
        sentence = f"The destination did not commit the object (failure reason 0x{lost[uid]:04X})."
        ledger.deliveries.again(ours[uid]["id"], at, sentence, transaction)
    return kept


def ask(
    line: Call,
    ledger: Ledger,
    deliveries: Sequence[ReportDelivery],
    transaction_uid: str,
    at: float,
) -> bool:
    """N-ACTION for `deliveries`; whether the peer took the question.

    The rows are written first: an answer may be quicker than we are.
    """
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence

    references = []
    for delivery in deliveries:
        ledger.deliveries.commitment_asked(delivery["id"], transaction_uid, at)
        reference = Dataset()
        reference.ReferencedSOPClassUID = delivery["sop_class_uid"]
        reference.ReferencedSOPInstanceUID = delivery["sop_instance_uid"]
        references.append(reference)
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = DicomSequence(references)
    with line.bounded():
        status, _ = line.association.send_n_action(
            request, REQUEST, PUSH_MODEL, PUSH_MODEL_INSTANCE, msg_id=line.next_message_id()
        )
    return "Status" in status and int(status.Status) == 0
