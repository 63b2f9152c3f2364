"""Storage commitment results on an association that the PACS opens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role

from qc_node.dicom import commitment
from qc_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from qc_node.ledger import Ledger
from qc_node.ledger.commitments import NotedCommitment, note_commitment
from qc_node.ledger.deliveries import WrittenObject
from qc_node.receiver.service import CommittedEvent
from tests.peers import wait_for
from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import encode


def sent(ledger: Ledger, *uids: str, transaction: str = "1.7") -> None:
    """Objects that were sent and whose commitment was asked for."""
    for uid in uids:
        ledger.deliveries.post(
            [WrittenObject(uid, ComprehensiveSRStorage, None, "1.0", 1, "sr", uid)], ["PACS"], 1.0
        )
    for row in ledger.deliveries.next_pending("PACS", 2.0):
        ledger.deliveries.sent(row["id"], 2.0)
        ledger.deliveries.commitment_asked(row["id"], transaction, 3.0)


def states(ledger: Ledger) -> dict[str, str]:
    return {r["sop_instance_uid"]: r["state"] for r in ledger.db.rows("SELECT * FROM deliveries")}


def result(kept: list[str], lost: list[str], transaction: str = "1.7") -> Dataset:
    def items(uids: list[str], **more: int) -> Sequence:
        found = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ComprehensiveSRStorage, uid
            for name, value in more.items():
                setattr(item, name, value)
            found.append(item)
        return Sequence(found)

    ds = Dataset()
    ds.TransactionUID = transaction
    if kept:
        ds.ReferencedSOPSequence = items(kept)
    if lost:
        ds.FailedSOPSequence = items(lost, FailureReason=0x0112)
    return ds


def report(port: int, ds: Dataset, event_type: int = 2) -> int:
    """N-EVENT-REPORT as a PACS sends it on an association of its own; the status that is answered."""
    ae = AE(ae_title="PACS")
    ae.add_requested_context(STORAGE_COMMITMENT)
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    association = ae.associate("127.0.0.1", port, ae_title="QCNODE", ext_neg=[role])
    assert association.is_established
    status, _ = association.send_n_event_report(ds, event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    association.release()
    return int(status.Status)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_pacs_reports_on_an_association_of_its_own(start_receiver: StartReceiver, processes: int) -> None:
    receiver = start_receiver(processes=processes)
    sent(receiver.ledger, "2.1", "2.2", "2.3")
    assert report(receiver.port, result(["2.1", "2.2"], ["2.3"])) == 0
    assert states(receiver.ledger) == {"2.1": "committed", "2.2": "committed", "2.3": "pending"}
    (again,) = receiver.ledger.deliveries.next_pending("PACS", time.time())
    assert again["sop_instance_uid"] == "2.3" and "0x0112" in str(again["last_error"])
    wait_for(lambda: receiver.events == [CommittedEvent("PACS")] * 2)
    # a PACS that repeats itself, also in part: nothing is counted twice
    assert report(receiver.port, result(["2.1", "2.2"], ["2.3"])) == 0
    assert report(receiver.port, result(["2.1"], []), event_type=1) == 0
    assert report(receiver.port, result(["2.1"], []), event_type=3) == 0x0113
    receiver.service.stop(2.0)
    assert receiver.events == [CommittedEvent("PACS")] * 2


def take(ledger: Ledger, event_type: int, data: bytes, syntax: str) -> tuple[int, NotedCommitment | None]:
    """What the receiver does with a result, and what came of it."""
    noted: list[NotedCommitment] = []

    def note(found: commitment.CommitmentResult) -> str:
        noted.append(note_commitment(ledger.deliveries, found, 9.0))
        return noted[-1].sentence

    status, sentence = commitment.take_result(event_type, lambda: commitment.decode(data, syntax), note)
    assert sentence.endswith(".")
    return status, noted[0] if noted else None


def test_results_that_nobody_asked_for_change_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    sent(ledger, "2.1")
    foreign = encode(result(["2.1"], ["2.9"], transaction="6.6"), ImplicitVRLittleEndian)
    assert take(ledger, 2, foreign, ImplicitVRLittleEndian) == (0, NotedCommitment((), 0))
    unknown = encode(result(["8.8"], ["9.9"]), ImplicitVRLittleEndian)
    assert take(ledger, 2, unknown, ImplicitVRLittleEndian) == (0, NotedCommitment((), 0))
    assert states(ledger) == {"2.1": "sent"}


@pytest.mark.parametrize(
    ("event_type", "data", "status"),
    [(3, b"", 0x0113), (1, b"", 0x0115), (1, b"\xff" * 99, 0x0115), (1, encode(Dataset()), 0x0115)],
)
def test_unreadable_results_are_answered_so(event_type: int, data: bytes, status: int, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    sent(ledger, "2.1")
    assert take(ledger, event_type, data, ImplicitVRLittleEndian) == (status, None)
    assert states(ledger) == {"2.1": "sent"}


def test_a_repeated_result_is_harmless(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    sent(ledger, "2.1")
    data = encode(result(["2.1"], []))
    for counted in (("PACS",), ()):
        assert take(ledger, 1, data, ExplicitVRLittleEndian) == (0, NotedCommitment(counted, 0))
    assert states(ledger) == {"2.1": "committed"}


def test_a_result_that_cannot_be_noted_is_answered_so_and_may_come_again(tmp_path: Path) -> None:
    def full(result: commitment.CommitmentResult) -> str:
        raise OSError("no space left on device")

    status, sentence = commitment.take_result(1, lambda: result(["2.1"], []), full)
    assert status == 0x0110 and "could not be noted" in sentence


def test_what_a_result_names_as_kept_and_as_lost_is_lost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    sent(ledger, "2.1")
    data = encode(result(["2.1"], ["2.1"]))
    assert take(ledger, 2, data, ExplicitVRLittleEndian) == (0, NotedCommitment((), 1))
    assert states(ledger) == {"2.1": "pending"}
