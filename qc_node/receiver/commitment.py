"""Results of storage commitment: N-EVENT-REPORT, also on an association that the PACS opens (PS3.4 annex J)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from qc_node.dicom.uids import EXPLICIT_BE, IMPLICIT
from qc_node.ledger import Ledger

SUCCESS, PROCESSING_FAILURE, NO_SUCH_EVENT_TYPE, INVALID_ARGUMENT = 0x0000, 0x0110, 0x0113, 0x0115
"""Statuses of an N-EVENT-REPORT response (PS3.7 section 10.1.1.1.8)."""

ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types (PS3.4 section J.3.3.1)."""

LONGEST = 1 << 22
"""A result names some hundred objects; four megabytes hold more than ten thousand."""


def take_result(
    ledger: Ledger, event_type: int, data_set: bytes, transfer_syntax: str, at: float
) -> tuple[int, str]:
    """Note in the ledger what the PACS promises to keep; what it does not keep is sent again.

    Returns
    -------
    (int, str)
        Status 0x0000, 0x0113 (unknown event type) or 0x0115 (not readable), and a sentence for the log.
    """
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        return NO_SUCH_EVENT_TYPE, f"A storage commitment result has the unknown event type {event_type}."
    from pydicom.filereader import read_dataset

    try:
        ds: Any = read_dataset(BytesIO(data_set), transfer_syntax in IMPLICIT, transfer_syntax != EXPLICIT_BE)
        transaction = str(ds.TransactionUID)
        kept = [str(item.ReferencedSOPInstanceUID) for item in ds.get("ReferencedSOPSequence") or []]
        lost = {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or 0)
            for item in ds.get("FailedSOPSequence") or []
        }
    except Exception:  # a peer's bytes: whatever pydicom trips over
        return INVALID_ARGUMENT, "A storage commitment result cannot be read."
    known = {row["sop_instance_uid"]: row["id"] for row in ledger.deliveries.of_transaction(transaction)}
    committed = sum(ledger.deliveries.committed(uid, transaction, at) for uid in kept if uid not in lost)
    for uid, reason in lost.items():
        if uid in known:
            error = f"The destination did not commit the object (failure reason 0x{reason:04X})."
            ledger.deliveries.again(known[uid], at, error, transaction)
    return SUCCESS, f"Storage commitment: {committed} kept, {len(lost.keys() & known.keys())} to be sent again."
