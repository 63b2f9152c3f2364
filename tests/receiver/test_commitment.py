"""Storage commitment results, on an association that the PACS opens; and what the PACS counts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role

from qc_node.completion.pacs_query import series_count
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.receiver.commitment import take_result
from tests.peers import Orthanc, find_free_port
from tests.receiver.conftest import Door
from tests.receiver.wire_peer import encode, image

COMMITMENT, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


def post(ledger: Ledger, *uids: str, transaction: str = "1.7") -> None:
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


def test_a_pacs_reports_on_an_association_of_its_own(open_door: Callable[..., Door]) -> None:
    door = open_door()
    post(door.ledger, "2.1", "2.2", "2.3")
    ae = AE(ae_title="PACS")
    ae.add_requested_context(COMMITMENT)
    role = build_role(COMMITMENT, scp_role=True)
    association = ae.associate("127.0.0.1", door.port, ae_title="QCNODE", ext_neg=[role])
    assert association.is_established
    status, _ = association.send_n_event_report(result(["2.1", "2.2"], ["2.3"]), 2, COMMITMENT, INSTANCE)
    assert status.Status == 0
    association.release()
    assert states(door.ledger) == {"2.1": "committed", "2.2": "committed", "2.3": "pending"}
    (again,) = door.ledger.deliveries.next_pending("PACS", time.time())
    assert again["sop_instance_uid"] == "2.3" and "0x0112" in again["last_error"]


def test_results_that_nobody_asked_for_change_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    post(ledger, "2.1")
    foreign = encode(result(["2.1"], ["2.9"], transaction="6.6"), ImplicitVRLittleEndian)
    assert take_result(ledger, 2, foreign, ImplicitVRLittleEndian, 9.0)[0] == 0
    unknown = encode(result(["8.8"], ["9.9"]), ImplicitVRLittleEndian)
    assert take_result(ledger, 2, unknown, ImplicitVRLittleEndian, 9.0)[0] == 0
    assert states(ledger) == {"2.1": "sent"}


@pytest.mark.parametrize(
    ("event_type", "data", "status"),
    [(3, b"", 0x0113), (1, b"", 0x0115), (1, b"\xff" * 99, 0x0115), (1, encode(Dataset()), 0x0115)],
)
def test_unreadable_results_are_answered_so(event_type: int, data: bytes, status: int, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    post(ledger, "2.1")
    assert take_result(ledger, event_type, data, ImplicitVRLittleEndian, 9.0)[0] == status
    assert states(ledger) == {"2.1": "sent"}


def test_a_repeated_result_is_harmless(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    post(ledger, "2.1")
    data = encode(result(["2.1"], []))
    for _ in range(2):
        assert take_result(ledger, 1, data, ExplicitVRLittleEndian, 9.0)[0] == 0
    assert states(ledger) == {"2.1": "committed"}


# -- what the PACS counts ----------------------------------------------------------------------------------
@pytest.mark.peer
def test_orthanc_counts_what_it_has(orthanc: Orthanc) -> None:
    study, series = "1.2.3", "1.2.3.4"

    def ask(series_uid: str = series) -> int | None:
        return series_count("127.0.0.1", orthanc.port, orthanc.ae_title, "QCNODE", study, series_uid)

    assert ask() == 0
    for count in (1, 2, 3):
        ds = image(StudyInstanceUID=study, SeriesInstanceUID=series)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
        orthanc.upload(buffer.getvalue())
        assert ask() == count
    assert ask("1.2.3.5") == 0


def test_a_pacs_that_is_not_there_says_nothing() -> None:
    assert series_count("127.0.0.1", find_free_port(), "PACS", "QCNODE", "1.2", "1.3", timeout_s=1.0) is None


def test_a_pacs_that_accepts_and_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        port = silent.getsockname()[1]
        assert series_count("127.0.0.1", port, "PACS", "QCNODE", "1.2", "1.3", timeout_s=0.5) is None
        assert time.monotonic() - began < 10
