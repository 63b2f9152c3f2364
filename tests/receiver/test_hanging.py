"""A receiving process that hangs is seen and replaced; one that only pauses is not."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from qc_node.operations.health import receiver_probe
from qc_node.receiver import service
from qc_node.receiver.pulse import LONGEST_LOOK_S, Pulse
from tests.peers import wait_for
from tests.receiver.conftest import RunningReceiver, StartReceiver
from tests.receiver.wire_peer import WirePeer, encode, image

MR = (MRImageStorage, [ExplicitVRLittleEndian])


def store(peer: WirePeer) -> int:
    ds = image()
    return peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds))


def stopped(receiver: RunningReceiver) -> int:
    """The receiving process, which does nothing from now on."""
    (pid,) = receiver.service.pids()
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_receiving_process_that_hangs_is_seen_and_replaced(
    start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SILENT_S", 4.0)
    monkeypatch.setattr(service, "HANGS_S", 8.0)
    receiver = start_receiver(processes=1)
    probe = receiver_probe(receiver.service.alive)
    pid = stopped(receiver)
    wait_for(lambda: not probe().passed)
    assert receiver.service.pids() == [pid], "seen before it is replaced"
    wait_for(lambda: probe().passed, 60)
    assert receiver.service.pids() != [pid] and not psutil.pid_exists(pid)
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert store(peer) == 0


def test_a_receiving_process_that_pauses_is_not_killed(
    start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SILENT_S", 3.0)
    receiver = start_receiver(processes=1)
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert store(peer) == 0
        pid = stopped(receiver)
        wait_for(lambda: not receiver.service.alive())
        os.kill(pid, signal.SIGCONT)
        assert store(peer) == 0
    wait_for(receiver.service.alive)
    assert receiver.service.pids() == [pid]


def test_an_idle_receiving_process_gives_signs_of_life(
    start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_receiver(processes=1)
    beats: list[None] = []
    monkeypatch.setattr(Pulse, "beat", lambda pulse: beats.append(None))
    wait_for(lambda: len(beats) >= 2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def looks(pulse: Pulse, clock: Clock, seconds: float) -> float:
    """Look twice a second for so long; returns the silence then."""
    for _ in range(int(seconds * 2)):
        clock.now += 0.5
        pulse.look()
    return pulse.silent_s


def test_silence_counts_from_the_last_sign_of_life() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    assert looks(pulse, clock, 10) == 10
    pulse.beat()
    assert looks(pulse, clock, 5) == 5


def test_a_pause_of_the_parent_is_no_silence_of_the_child() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    looks(pulse, clock, 2)
    clock.now += 3600
    assert pulse.look() == 2 + LONGEST_LOOK_S


def test_while_the_parent_handles_a_message_it_hears_no_other() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    with pulse.hearing():
        assert looks(pulse, clock, 3600) == 0
    assert looks(pulse, clock, 5) == 5
