"""The level of the log that is changed while the receiver runs reaches its processes."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from tests.peers import wait_for
from tests.receiver.conftest import RunningReceiver, StartReceiver
from tests.receiver.wire_peer import WirePeer


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    one = logging.getLogger("receiver")
    yield one
    one.setLevel(logging.NOTSET)


def says_something(receiver: RunningReceiver, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether an association that a peer cuts off is told of, at level info."""
    with WirePeer(receiver.port) as peer:
        peer.associate((MRImageStorage, [ExplicitVRLittleEndian]))
        peer.cut()
    return any(record.levelno == logging.INFO for record in caplog.records if record.name == "receiver")


def test_a_receiving_process_says_more_when_told_to_and_so_does_the_next_one(
    start_receiver: StartReceiver, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    log.setLevel(logging.WARNING)
    receiver = start_receiver(processes=1)
    log.setLevel(logging.INFO)
    receiver.service.take_log_level()
    wait_for(lambda: says_something(receiver, caplog))

    (pid,) = receiver.service.pids()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: receiver.service.pids() not in ([], [pid]))
    caplog.clear()
    wait_for(lambda: says_something(receiver, caplog))
