"""Storage commitment: asked where it is offered, answered on either association, and a loss is sent again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association

from qc_node.dicom.commitment import CommitmentResult, take_result
from qc_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from qc_node.ledger.commitments import note_commitment
from tests.outbox.conftest import Sender
from tests.peers import wait_for
from tests.peers.fixtures import PeerAt, StartOrthanc
from tests.peers.process import find_free_port


def note(sender: Sender, result: Dataset) -> tuple[str, ...]:
    """Take a result that came on another association; the destinations that keep an object now."""
    kept: list[str] = []

    def write(found: CommitmentResult) -> str:
        kept.extend(note_commitment(sender.ledger.deliveries, found, sender.clock).kept_by)
        return "Noted."

    assert take_result(1, lambda: result, write) == (0, "Noted.")
    return tuple(kept)


def result_of(request: Dataset, lost: AbstractSet[str] = frozenset()) -> Dataset:
    """What a PACS answers to `request`."""
    answer = Dataset()
    answer.TransactionUID = request.TransactionUID
    kept, failed = [], []
    for item in request.ReferencedSOPSequence:
        if item.ReferencedSOPInstanceUID in lost:
            item.FailureReason = 0x0112
            failed.append(item)
        else:
            kept.append(item)
    if kept:
        answer.ReferencedSOPSequence = kept
    if failed:
        answer.FailedSOPSequence = failed
    return answer


@contextmanager
def committing_scp(
    lost: AbstractSet[str] = frozenset(), answer_on_same: bool = True, offer: bool = True
) -> Iterator[tuple[int, list[Dataset]]]:
    """An SCP with storage commitment; yields its port, and the requests that it got."""
    requests: list[Dataset] = []
    ae = AE("PACS")
    ae.add_supported_context(ComprehensiveSRStorage)
    if offer:
        ae.add_supported_context(STORAGE_COMMITMENT)

    def answer(association: Association, request: Dataset) -> None:
        time.sleep(0.05)
        kind = 2 if lost else 1
        association.send_n_event_report(
            result_of(request, lost), kind, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
        )

    def asked(event: Any) -> tuple[int, None]:
        requests.append(event.action_information)
        if answer_on_same:
            threading.Thread(target=answer, args=(event.assoc, event.action_information)).start()
        return 0x0000, None

    port = find_free_port()
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda e: 0), (evt.EVT_N_ACTION, asked)],
    )
    assert server is not None
    try:
        yield port, requests
    finally:
        server.shutdown()


def test_answer_on_the_same_association_commits_the_objects(sender: Sender, peer_at: PeerAt) -> None:
    uids = sender.write_reports(3)
    with committing_scp() as (port, requests):
        sender.outbox(peer_at(port), storage_commitment=True).step(sender.clock)
        wait_for(lambda: sender.counts() == {"committed": 3})
    assert [i.ReferencedSOPInstanceUID for i in requests[0].ReferencedSOPSequence] == uids
    assert {i.ReferencedSOPClassUID for i in requests[0].ReferencedSOPSequence} == {ComprehensiveSRStorage}
    assert sender.outcomes.count(("PACS", "committed")) == 3


def test_answer_on_both_associations_counts_once(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(2)
    with committing_scp() as (port, requests):
        sender.outbox(peer_at(port), storage_commitment=True).step(sender.clock)
        wait_for(lambda: sender.counts() == {"committed": 2})
    assert note(sender, result_of(requests[0])) == ()
    assert sender.outcomes.count(("PACS", "committed")) == 2


def test_object_that_the_pacs_lost_goes_back_into_the_queue(sender: Sender, peer_at: PeerAt) -> None:
    uids = sender.write_reports(3)
    with committing_scp(lost={uids[1]}) as (port, _):
        sender.outbox(peer_at(port), storage_commitment=True).step(sender.clock)
        wait_for(lambda: sender.counts() == {"committed": 2, "pending": 1})
    assert "failure reason 0x0112" in "".join(e or "" for e in sender.errors())
    with committing_scp() as (port, requests):
        sender.outbox(peer_at(port), storage_commitment=True).step(sender.clock)
        wait_for(lambda: sender.counts() == {"committed": 3})
    assert [i.ReferencedSOPInstanceUID for i in requests[0].ReferencedSOPSequence] == [uids[1]]


def test_pacs_without_commitment_gets_the_objects_and_no_question(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(2)
    with committing_scp(offer=False) as (port, requests):
        sender.outbox(peer_at(port), storage_commitment=True).step(sender.clock)
    assert requests == []
    assert sender.counts() == {"sent": 2}
    for note in sender.errors():
        assert "does not offer storage commitment" in (note or "") and "storage_commitment = false" in (note or "")
    assert sender.ledger.deliveries.oldest_uncommitted() == sender.clock, "the gauge, and so the alert, sees it"


def test_nothing_is_asked_where_commitment_is_switched_off(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(2)
    with committing_scp() as (port, requests):
        sender.outbox(peer_at(port)).step(sender.clock)
    assert requests == []
    assert sender.counts() == {"sent": 2}


def test_question_without_an_answer_is_put_again_later_and_not_sooner(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(1)
    with committing_scp(answer_on_same=False) as (port, requests):
        outbox = sender.outbox(peer_at(port), storage_commitment=True)
        outbox.step(sender.clock)
        for _ in range(3):
            outbox.step(sender.clock + 60)
        assert len(requests) == 1
        sender.clock += 3 * 3600
        outbox.step(sender.clock)
        assert len(requests) == 2
        assert requests[0].TransactionUID != requests[1].TransactionUID
    assert sender.counts() == {"sent": 1}


def test_result_for_somebody_else_changes_nothing(sender: Sender, peer_at: PeerAt) -> None:
    (uid,) = sender.write_reports(1)
    with committing_scp(answer_on_same=False) as (port, requests):
        sender.outbox(peer_at(port), storage_commitment=True).step(sender.clock)
    foreign = result_of(requests[0])
    foreign.TransactionUID = "1.2.3.4"
    assert note(sender, foreign) == ()
    assert sender.counts() == {"sent": 1}
    assert note(sender, result_of(requests[0])) == ("PACS",)
    assert requests[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid
    assert sender.counts() == {"committed": 1}


@pytest.mark.peer
def test_orthanc_commits_on_an_association_of_its_own(
    sender: Sender, peer_at: PeerAt, start_orthanc: StartOrthanc
) -> None:
    port = find_free_port()
    orthanc = start_orthanc(modalities={"node": ("QCNODE", port)})
    taken: list[int] = []

    def take(event: Any) -> tuple[int, None]:
        taken.append(len(note(sender, event.event_information)))
        sender.ledger.close()
        return 0x0000, None

    ae = AE("QCNODE")
    ae.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    assert server is not None
    try:
        sender.write_reports(4)
        sender.outbox(peer_at(orthanc.port, "ORTHANC"), storage_commitment=True).step(sender.clock)
        wait_for(lambda: sender.counts() == {"committed": 4})
    finally:
        server.shutdown()
    assert sum(taken) == 4
