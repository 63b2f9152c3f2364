"""The outbox against real archives: down, slow, refusing, aborting, and well again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from qc_node.dicom.association import Peer, Timeouts
from qc_node.outbox.sending import Outbox
from tests.outbox.conftest import Sender
from tests.peers import Orthanc, wait_for
from tests.peers.fixtures import PeerAt, StartStoreScp
from tests.peers.process import find_free_port

pytestmark = pytest.mark.peer

Running = Callable[..., Outbox]


@pytest.fixture
def running() -> Iterator[Running]:
    """Start an outbox on the real clock and stop it at the end."""
    started = []

    def start(sender: Sender, *peers: Peer, **options: object) -> Outbox:
        outbox = sender.outbox(*peers, wall=time.time, **options)
        started.append(outbox)
        outbox.start()
        return outbox

    yield start
    for outbox in started:
        outbox.stop()


def test_orthanc_gets_every_report_once_in_order_and_byte_for_byte(
    sender: Sender, peer_at: PeerAt, orthanc: Orthanc
) -> None:
    uids = sender.write_reports(7)
    assert sender.outbox(peer_at(orthanc.port, "ORTHANC")).step(sender.clock) is None
    assert orthanc.received_uids() == uids
    assert sender.counts() == {"sent": 7}
    assert sender.outcomes == [("PACS", "sent")] * 7
    data_set = sender.bytes_of(uids[0])[-2000:]
    assert orthanc.received_file(uids[0])[-2000:] == data_set


def test_many_objects_go_over_one_association(
    sender: Sender, peer_at: PeerAt, start_storescp: StartStoreScp
) -> None:
    scp = start_storescp("-d")
    uids = sender.write_reports(20)
    sender.outbox(peer_at(scp.port)).step(sender.clock)
    assert sorted(scp.received_uids()) == sorted(uids)
    assert scp.output().count("Association Acknowledged") == 1


def test_a_pacs_that_was_down_gets_everything_when_it_is_back(
    sender: Sender, peer_at: PeerAt, start_storescp: StartStoreScp, running: Running
) -> None:
    port = find_free_port()
    uids = sender.write_reports(3)
    running(sender, peer_at(port))
    wait_for(lambda: ("PACS", "retry") in sender.outcomes)
    uids += sender.write_reports(2, first=3)
    assert "cannot be reached" in (sender.errors()[0] or "")
    scp = start_storescp(port=port)
    wait_for(lambda: sender.counts() == {"sent": 5})
    assert scp.received_uids() == uids
    assert sender.outcomes.count(("PACS", "sent")) == 5


def test_a_pacs_that_is_frozen_holds_up_nobody_and_gets_everything_after(
    sender: Sender, peer_at: PeerAt, start_storescp: StartStoreScp, running: Running
) -> None:
    frozen, well = start_storescp(), start_storescp()
    frozen.freeze()
    uids = sender.write_reports(3, "FROZEN", "WELL")
    quick = Timeouts(1.0, 1.0, 1.0, 1.0)
    running(
        sender,
        peer_at(frozen.port, name="FROZEN", timeouts=quick),
        peer_at(well.port, name="WELL", timeouts=quick),
    )
    wait_for(lambda: sender.outcomes.count(("WELL", "sent")) == 3)
    wait_for(lambda: ("FROZEN", "retry") in sender.outcomes)
    frozen.thaw()
    wait_for(lambda: sender.counts() == {"sent": 6})
    assert well.received_uids() == uids
    assert sorted(frozen.received_uids()) == sorted(uids)


@pytest.mark.parametrize("switch", ["--refuse", "--abort-during", "--abort-after", "--sleep-during 5"])
def test_a_misbehaving_pacs_loses_nothing_and_never_hangs_the_queue(
    sender: Sender, peer_at: PeerAt, start_storescp: StartStoreScp, switch: str
) -> None:
    port = find_free_port()
    bad = start_storescp(*switch.split(), port=port)
    uids = sender.write_reports(2)
    outbox = sender.outbox(peer_at(port, timeouts=Timeouts(1.0, 1.0, 1.0, 1.0)))
    away = switch == "--refuse"
    for _ in range(1 if away else 2):  # each of them is tried, unless nobody is let in
        due = outbox.step(sender.clock)
    assert due is not None and due > sender.clock
    assert sender.counts() == {"pending": 2}
    assert sender.outcomes == [("PACS", "retry")] * (1 if away else 2)
    bad.stop()
    good = start_storescp(port=port)
    sender.clock = due
    outbox.step(sender.clock)
    assert sender.counts() == {"sent": 2}
    assert sorted(good.received_uids()) == sorted(uids)


def test_storescp_that_ignores_the_object_but_answers_success_counts_as_sent(
    sender: Sender, peer_at: PeerAt, start_storescp: StartStoreScp
) -> None:
    scp = start_storescp("--ignore")
    sender.write_reports(1)
    sender.outbox(peer_at(scp.port)).step(sender.clock)
    assert sender.counts() == {"sent": 1}


def test_a_pacs_that_takes_only_implicit_gets_the_report_in_implicit(
    sender: Sender, peer_at: PeerAt, start_storescp: StartStoreScp
) -> None:
    scp = start_storescp(accept="+xi")
    uids = sender.write_reports(2)
    sender.outbox(peer_at(scp.port)).step(sender.clock)
    assert scp.received_uids() == uids
    received = pydicom.dcmread(scp.received_files()[0])
    assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert received.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "en-US"
