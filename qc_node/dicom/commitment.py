"""Storage commitment (PS3.4 annex J): the request that we send, and the result that we are sent.

A result may come on the association of the request or, minutes later, on one that the PACS opens.
:func:`take_result` reads and answers it either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRBigEndian

from qc_node.dicom.uids import IMPLICIT
from qc_node.domain import InstanceRef

REQUEST: Final = 1
"""Action type of the N-ACTION that asks (PS3.4 section J.3.2.1)."""
ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types of the N-EVENT-REPORT that answers (PS3.4 section J.3.3.1)."""
SUCCESS, PROCESSING_FAILURE, NO_SUCH_EVENT_TYPE, INVALID_ARGUMENT = 0x0000, 0x0110, 0x0113, 0x0115
"""Statuses of an N-EVENT-REPORT response (PS3.7 section 10.1.1.1.8)."""
LONGEST: Final = 1 << 22
"""A result names some hundred objects; four megabytes hold more than ten thousand."""


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What the PACS says of one request.

    ``kept`` are the SOP Instance UIDs that it promises to keep; ``lost`` maps the others to their Failure Reason
    (0008,1197), 0 where none is given.  What is named in both is lost.
    """

    transaction_uid: str
    kept: tuple[str, ...]
    lost: Mapping[str, int]


def request(transaction_uid: str, references: Iterable[InstanceRef]) -> Dataset:
    """The data set of an N-ACTION request (PS3.4 table J.3-1)."""
    items = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        items.append(item)
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = DicomSequence(items)
    return ds


def decode(data: bytes, transfer_syntax: str) -> Dataset:
    """The data set in `data`; raises whatever pydicom trips over."""
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(data), transfer_syntax in IMPLICIT, transfer_syntax != ExplicitVRBigEndian)


def take_result(
    event_type: int, data_set: Callable[[], Any], note: Callable[[CommitmentResult], str]
) -> tuple[int, str]:
    """Answer an N-EVENT-REPORT.

    Parameters
    ----------
    data_set
        Gives the data set of the report (PS3.4 table J.3-2), and may raise.
    note
        Makes the result durable and returns a sentence for the log; when it raises, the PACS may try again.

    Returns
    -------
    (int, str)
        0x0000; 0x0110 it could not be noted; 0x0113 unknown event type; 0x0115 not readable; and a sentence for
        the log.
    """
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        return NO_SUCH_EVENT_TYPE, f"A storage commitment result has the unknown event type {event_type}."
    try:
        result = _read(data_set())
    except Exception:  # a peer's bytes: whatever pydicom trips over
        return INVALID_ARGUMENT, "A storage commitment result cannot be read."
    try:
        return SUCCESS, note(result)
    except Exception as error:  # a full disk, a locked ledger: the status says so
        return PROCESSING_FAILURE, f"A storage commitment result could not be noted ({type(error).__name__})."


def _read(ds: Any) -> CommitmentResult:
    lost = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or 0)
        for item in ds.get("FailedSOPSequence") or []
    }
    named = (str(item.ReferencedSOPInstanceUID) for item in ds.get("ReferencedSOPSequence") or [])
    return CommitmentResult(str(ds.TransactionUID), tuple(uid for uid in named if uid not in lost), lost)
