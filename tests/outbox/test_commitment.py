"""Storage commitment: asked where it is offered, answered on either association, and a loss is sent again."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from qc_node.outbox.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, note_result
from tests.peers import wait_for
from tests.peers.process import find_free_port

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"


def result_of(request: Dataset, lost: set[str] = frozenset()) -> Dataset:
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
def committing_scp(lost: set[str] = frozenset(), answer_on_same: bool = True, offer: bool = True):
    """An SCP with storage commitment; yields its port, and the requests that it got."""
    requests: list[Dataset] = []
    ae = AE("PACS")
    ae.add_supported_context(COMPREHENSIVE_SR)
    if offer:
        ae.add_supported_context(PUSH_MODEL)

    def answer(association, request: Dataset) -> None:
        time.sleep(0.05)
        kind = 2 if lost else 1
        association.send_n_event_report(result_of(request, lost), kind, PUSH_MODEL, PUSH_MODEL_INSTANCE)

    def asked(event):
        requests.append(event.action_information)
        if answer_on_same:
            threading.Thread(target=answer, args=(event.assoc, event.action_information)).start()
        return 0x0000, None

    handlers = [(evt.EVT_C_STORE, lambda e: 0), (evt.EVT_N_ACTION, asked)]
    port = find_free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port, requests
    finally:
        server.shutdown()


def test_answer_on_the_same_association_commits_the_objects(post, peer_at):
    uids = post.write_reports(3)
    with committing_scp() as (port, requests):
        post.outbox(peer_at(port), storage_commitment=True).step(post.clock)
        wait_for(lambda: post.counts() == {"committed": 3})
    assert [i.ReferencedSOPInstanceUID for i in requests[0].ReferencedSOPSequence] == uids
    assert {i.ReferencedSOPClassUID for i in requests[0].ReferencedSOPSequence} == {COMPREHENSIVE_SR}
    assert post.outcomes.count(("PACS", "committed")) == 3


def test_object_that_the_pacs_lost_goes_back_into_the_line(post, peer_at):
    uids = post.write_reports(3)
    with committing_scp(lost={uids[1]}) as (port, _):
        post.outbox(peer_at(port), storage_commitment=True).step(post.clock)
        wait_for(lambda: post.counts() == {"committed": 2, "pending": 1})
    assert "failure reason 0x0112" in "".join(e or "" for e in post.errors())
    with committing_scp() as (port, requests):
        post.outbox(peer_at(port), storage_commitment=True).step(post.clock)
        wait_for(lambda: post.counts() == {"committed": 3})
    assert [i.ReferencedSOPInstanceUID for i in requests[0].ReferencedSOPSequence] == [uids[1]]


def test_pacs_without_commitment_gets_the_objects_and_no_question(post, peer_at):
    post.write_reports(2)
    with committing_scp(offer=False) as (port, requests):
        post.outbox(peer_at(port), storage_commitment=True).step(post.clock)
    assert requests == []
    assert post.counts() == {"sent": 2}


def test_nothing_is_asked_where_commitment_is_switched_off(post, peer_at):
    post.write_reports(2)
    with committing_scp() as (port, requests):
        post.outbox(peer_at(port)).step(post.clock)
    assert requests == []
    assert post.counts() == {"sent": 2}


def test_question_without_an_answer_is_put_again_later_and_not_sooner(post, peer_at):
    post.write_reports(1)
    with committing_scp(answer_on_same=False) as (port, requests):
        outbox = post.outbox(peer_at(port), storage_commitment=True)
        outbox.step(post.clock)
        for _ in range(3):
            outbox.step(post.clock + 60)
        assert len(requests) == 1
        post.clock += 3 * 3600
        outbox.step(post.clock)
        assert len(requests) == 2
        assert requests[0].TransactionUID != requests[1].TransactionUID
    assert post.counts() == {"sent": 1}


def test_result_for_somebody_else_changes_nothing(post, peer_at):
    (uid,) = post.write_reports(1)
    with committing_scp(answer_on_same=False) as (port, requests):
        post.outbox(peer_at(port), storage_commitment=True).step(post.clock)
    foreign = result_of(requests[0])
    foreign.TransactionUID = "1.2.3.4"
    assert note_result(post.ledger, foreign, post.clock) == []
    assert post.counts() == {"sent": 1}
    (kept,) = note_result(post.ledger, result_of(requests[0]), post.clock)
    assert kept["sop_instance_uid"] == uid
    assert post.counts() == {"committed": 1}


@pytest.mark.peer
def test_orthanc_commits_on_an_association_of_its_own(post, peer_at, start_orthanc):
    port = find_free_port()
    orthanc = start_orthanc(modalities={"node": ("QCNODE", port)})
    taken: list[int] = []

    def take(event):
        taken.append(len(note_result(post.ledger, event.event_information, post.clock)))
        post.ledger.close()
        return 0x0000, None

    ae = AE("QCNODE")
    ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        post.write_reports(4)
        post.outbox(peer_at(orthanc.port, "ORTHANC"), storage_commitment=True).step(post.clock)
        wait_for(lambda: post.counts() == {"committed": 4})
    finally:
        server.shutdown()
    assert sum(taken) == 4
