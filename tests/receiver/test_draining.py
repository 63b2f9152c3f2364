"""A receiver that is drained lets nobody new in, and those inside come to their end."""

from __future__ import annotations

import os
import signal

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from qc_node.receiver import server
from tests.peers import wait_for
from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import Rejected, WirePeer, encode, image

MR = (MRImageStorage, [ExplicitVRLittleEndian])


def stored(peer: WirePeer) -> int:
    ds = image()
    return peer.store(ds.SOPClassUID, ds.SOPInstanceUID, encode(ds))


def is_let_in(port: int) -> bool:
    with WirePeer(port) as peer:
        try:
            peer.associate(MR)
        except Rejected as rejection:
            assert rejection.args == (2, 3, 1), "transient, service provider, temporary congestion"
            return False
    return True


@pytest.mark.parametrize("processes", [0, 2])
def test_who_is_inside_may_finish_and_nobody_new_gets_in(start_receiver: StartReceiver, processes: int) -> None:
    receiver = start_receiver(processes=processes)
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert stored(peer) == 0
        receiver.service.drain()
        wait_for(lambda: receiver.service.associations() == 1)
        assert not is_let_in(receiver.port)
        assert stored(peer) == 0, "the rest of a series still comes in"
        peer.release()
    wait_for(lambda: receiver.service.associations() == 0)
    receiver.service.drain(False)
    wait_for(lambda: is_let_in(receiver.port))


@pytest.mark.parametrize("limit", ["DRAIN_SILENT_S", "DRAIN_LONGEST_S"])
def test_an_association_that_does_not_end_is_ended(
    start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(server, limit, 0.2)
    receiver = start_receiver()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert stored(peer) == 0
        receiver.service.drain()
        assert peer.hung_up()
    wait_for(lambda: receiver.service.associations() == 0)


def test_a_receiving_process_that_is_started_again_is_still_drained(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(processes=1)
    receiver.service.drain()
    wait_for(lambda: receiver.service.associations() == 0)
    (pid,) = receiver.service.pids()
    os.kill(pid, signal.SIGKILL)
    assert not is_let_in(receiver.port), "the connection waits for the next process"
