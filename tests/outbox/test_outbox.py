"""The queue: its order, its patience, and what it gives up."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from qc_node.dicom.association import Timeouts
from qc_node.outbox.sending import Outbox, RetryPolicy
from tests.dicom.scps import raw_tcp, scripted_scp
from tests.outbox.conftest import Sender
from tests.peers import Orthanc, wait_for
from tests.peers.fixtures import PeerAt
from tests.peers.process import find_free_port


class Script:
    """Answers of an SCP in order; the last one repeats.  Remembers what was stored, in order."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.stored: list[str] = []
        self.asked: list[str] = []

    def __call__(self, event: Any) -> Dataset | int:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.asked.append(event.request.AffectedSOPInstanceUID)
        if status in (0x0000, 0xB000, 0xB006, 0xB007):
            self.stored.append(event.request.AffectedSOPInstanceUID)
        return status


def drain(sender: Sender, outbox: Outbox, steps: int = 50) -> None:
    """Step as the loop would, with the clock held: each time to when the outbox asks for it."""
    for _ in range(steps):
        due = outbox.step(sender.clock)
        if due is None:
            return
        sender.clock = max(sender.clock, due)
    raise AssertionError("the queue does not come to an end")


# -- when to try again -------------------------------------------------------------------------------
@given(attempts=st.integers(0, 10**6), jitter=st.floats(0, 1))
def test_waiting_grows_to_a_cap_and_jitter_takes_at_most_half(attempts: int, jitter: float) -> None:
    policy = RetryPolicy(first_s=1, cap_s=60)
    longest = policy.delay(attempts, 0)
    assert longest == min(60, 2.0**attempts if attempts < 10 else 60)
    assert longest / 2 <= policy.delay(attempts, jitter) <= longest


def test_waiting_follows_the_attempts_in_the_ledger(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(1)
    outbox = sender.outbox(peer_at(find_free_port()), retry=RetryPolicy(first_s=1, cap_s=8))
    waits = []
    for _ in range(6):
        due = outbox.step(sender.clock)
        assert due is not None
        waits.append(due - sender.clock)
        assert outbox.step(sender.clock) == due
        sender.clock = due
    assert waits == [1, 2, 4, 8, 8, 8]
    assert sender.outcomes == [("PACS", "retry")] * 6


def test_empty_queue_asks_for_nothing(sender: Sender, peer_at: PeerAt) -> None:
    assert sender.outbox(peer_at(1)).step(sender.clock) is None


# -- statuses ----------------------------------------------------------------------------------------
def test_pacs_out_of_resources_gets_everything_in_order_once_it_is_well(sender: Sender, peer_at: PeerAt) -> None:
    uids = sender.write_reports(4)
    script = Script(0x0000, 0xA700, 0xA700, 0xA7FF, 0xA700, 0xA700, 0xA700, 0x0000)
    with scripted_scp(script) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert script.stored == uids
    assert sender.counts() == {"sent": 4}
    assert sender.outcomes.count(("PACS", "retry")) == 6


def test_refused_object_is_given_up_after_some_attempts_and_the_queue_goes_on(
    sender: Sender, peer_at: PeerAt
) -> None:
    uids = sender.write_reports(3, series_id=sender.series("1.2.3"))
    script = Script(0x0000, 0x0122, 0xA900, 0xA9F3, 0x0000)
    with scripted_scp(script) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert script.stored == [uids[0], uids[2]]
    assert script.asked.count(uids[1]) == 3
    assert sender.counts() == {"sent": 2, "failed": 1}
    assert sender.outcomes.count(("PACS", "failed")) == 1
    assert "0xA9F3" in (sender.errors()[1] or "")


def test_hours_without_a_pacs_are_no_refusals(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(1)
    port = find_free_port()
    down = sender.outbox(peer_at(port))
    for _ in range(10):
        due = down.step(sender.clock)
        assert due is not None
        sender.clock = due
    with scripted_scp(Script(0x0122, 0x0122, 0x0000)) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert sender.counts() == {"sent": 1}


def test_operator_can_put_a_failed_object_back(sender: Sender, peer_at: PeerAt) -> None:
    (uid,) = sender.write_reports(1)
    script = Script(0x0122, 0x0122, 0x0122, 0x0000)
    with scripted_scp(script) as port:
        outbox = sender.outbox(peer_at(port))
        drain(sender, outbox)
        assert sender.counts() == {"failed": 1}
        (row,) = sender.ledger.deliveries.unfinished()
        sender.ledger.deliveries.again(row["id"], sender.clock)
        drain(sender, outbox)
    assert script.stored == [uid]


def test_a_report_that_the_pacs_has_already_counts_as_sent(sender: Sender, peer_at: PeerAt) -> None:
    """It was stored, the answer got lost, and the PACS calls the second attempt a duplicate (0x0111)."""
    (uid,) = sender.write_reports(1)
    kept: list[str] = []

    def answer(event: Any) -> int:
        if event.request.AffectedSOPInstanceUID in kept:
            return 0x0111
        kept.append(event.request.AffectedSOPInstanceUID)
        event.assoc.abort()
        return 0

    with scripted_scp(answer) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert kept == [uid] and sender.counts() == {"sent": 1}
    assert sender.outcomes == [("PACS", "retry"), ("PACS", "sent")]
    assert "0x0111 (duplicate SOP instance)" in (sender.errors()[0] or "")


@pytest.mark.parametrize("status", [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xB123, 0xBFFF])
def test_warnings_count_as_stored_and_are_noted(sender: Sender, peer_at: PeerAt, status: int) -> None:
    sender.write_reports(1)
    with scripted_scp(Script(status)) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert sender.counts() == {"sent": 1}
    assert sender.errors() == [f"Stored with the warning 0x{status:04X}."]


def test_class_that_the_pacs_does_not_take_fails_with_a_sentence(sender: Sender, peer_at: PeerAt) -> None:
    from pynetdicom.presentation import build_context

    sender.write_reports(1)
    with scripted_scp(contexts=[build_context(CTImageStorage)]) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert sender.counts() == {"failed": 1}
    assert "does not take Comprehensive SR Storage" in (sender.errors()[0] or "")


def test_object_whose_file_is_gone_fails_and_the_queue_goes_on(sender: Sender, peer_at: PeerAt) -> None:
    uids = sender.write_reports(3)
    sender.spool.path(sender.spool.report_name(uids[0])).unlink()
    script = Script(0x0000)
    with scripted_scp(script) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert script.stored == uids[1:]
    assert sender.counts() == {"sent": 2, "failed": 1}
    assert "is gone" in (sender.errors()[0] or "")


def test_sending_again_never_rebuilds(sender: Sender, peer_at: PeerAt) -> None:
    (uid,) = sender.write_reports(1)
    before = sender.bytes_of(uid)
    seen = []
    answers = [0xA700, 0x0000]

    def keep(event: Any) -> int:
        seen.append(event.request.DataSet.getvalue())
        return answers.pop(0)

    with scripted_scp(keep) as port:
        drain(sender, sender.outbox(peer_at(port)))
    assert seen[0] == seen[1] and before.endswith(seen[0])
    assert sender.bytes_of(uid) == before


# -- peers that hold on ------------------------------------------------------------------------------
@pytest.mark.parametrize("head", [b"", b"\x02\x00\x00\x00\x00\xff"], ids=["silent", "stalled in a PDU"])
def test_silent_peer_costs_bounded_time_and_a_retry(sender: Sender, peer_at: PeerAt, head: bytes) -> None:
    sender.write_reports(1)
    with raw_tcp(lambda s: s.sendall(head)) as port:
        due = sender.outbox(peer_at(port, timeouts=Timeouts(1, 1, 1, 1))).step(sender.clock)
    assert due is not None
    assert sender.counts() == {"pending": 1}
    assert "PACS" in (sender.errors()[0] or "")


def test_stopping_finishes_the_object_in_hand_and_keeps_the_rest(sender: Sender, peer_at: PeerAt) -> None:
    uids = sender.write_reports(5)
    entered, go_on, stored = threading.Event(), threading.Event(), []

    def slow(event: Any) -> int:
        stored.append(event.request.AffectedSOPInstanceUID)
        entered.set()
        go_on.wait(10)
        return 0

    with scripted_scp(slow) as port:
        outbox = sender.outbox(peer_at(port, timeouts=Timeouts(5, 5, 15, 15)), wall=time.time)
        outbox.start()
        assert all(loop.alive() for loop in outbox.loops)
        assert entered.wait(10)
        stopper = threading.Thread(target=outbox.stop)
        stopper.start()
        time.sleep(0.2)
        go_on.set()
        stopper.join(20)
        assert not any(loop.alive() for loop in outbox.loops)
    assert stored == uids[:1]
    assert sender.counts() == {"sent": 1, "pending": 4}


def test_new_object_goes_out_as_soon_as_the_outbox_is_woken(sender: Sender, peer_at: PeerAt) -> None:
    script = Script(0x0000)
    with scripted_scp(script) as port:
        outbox = sender.outbox(peer_at(port), wall=time.time)
        outbox.start()
        uids = sender.write_reports(2)
        outbox.wake()
        wait_for(lambda: sender.counts() == {"sent": 2})
        outbox.stop()
    assert script.stored == uids


# -- kill -9 -----------------------------------------------------------------------------------------
KILLED_AFTER_THE_ANSWER = """
import os, signal, sys
from pathlib import Path
from qc_node.dicom.association import Peer
from qc_node.ledger import Ledger
from qc_node.outbox.sending import Destination, Outbox
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.spool import Spool

root, port, survive = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(root / "ledger.sqlite")
write = ledger.deliveries.sent
count = 0

def sent(*args):
    global count
    count += 1
    if count > survive:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args)

ledger.deliveries.sent = sent
peer = Peer("PACS", "ORTHANC", "127.0.0.1", port)
Outbox(ledger, Spool(root), [Destination(DimseTransport(peer), False)], wall=lambda: 1000.0).step(1000.0)
"""


@pytest.mark.peer
def test_kill_between_the_answer_and_the_row_loses_nothing_and_doubles_nothing(
    sender: Sender, peer_at: PeerAt, orthanc: Orthanc
) -> None:
    uids = sender.write_reports(5)
    for survive in (0, 2):
        child = subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(KILLED_AFTER_THE_ANSWER),
                str(sender.spool.root),
                str(orthanc.port),
                str(survive),
            ],
            check=False,
            timeout=120,
        )
        assert child.returncode == -signal.SIGKILL
    assert sender.counts() == {"sent": 2, "pending": 3}
    sender.outbox(peer_at(orthanc.port, "ORTHANC")).step(sender.clock)
    assert sender.counts() == {"sent": 5}
    assert orthanc.received_uids() == uids
