"""A PACS that refuses, fails or forgets storage commitment costs a few requests, a note and an alert: no storm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage
from pynetdicom import AE, evt

from qc_node import parts
from qc_node.config import Settings
from qc_node.config.settings import PacsSettings
from qc_node.dicom.commitment import CommitmentResult
from qc_node.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from qc_node.ledger.commitments import note_commitment
from qc_node.outbox.commitment import CommitmentPolicy
from qc_node.outbox.sending import Destination, Outbox
from qc_node.outbox.transport.dimse import DimseTransport
from tests.outbox.conftest import Sender
from tests.outbox.test_commitment import result_of
from tests.outbox.test_one_holds_up_nobody import until
from tests.peers import wait_for
from tests.peers.fixtures import PeerAt
from tests.peers.process import find_free_port

POLICY = CommitmentPolicy(attempts=4, give_up_s=72 * 3600)


class Pacs:
    """Takes every object; answers N-ACTION with `status`, and fails each commitment where `fails` says so."""

    def __init__(self, status: int = 0x0000, fails: bool = False, offers: bool = True) -> None:
        self.status, self.fails, self.offers = status, fails, offers
        self.associations = 0
        self.stored: list[str] = []
        self.asked: list[Dataset] = []

    def store(self, event: Any) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def call(self, event: Any) -> None:
        self.associations += 1

    def action(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        self.asked.append(request)
        if self.fails:
            Thread(target=self._fail, args=(event.assoc, request)).start()
        return self.status, None

    def _fail(self, association: Any, request: Dataset) -> None:
        time.sleep(0.05)
        lost = {item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence}
        answer = result_of(request, lost)
        association.send_n_event_report(answer, 2, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)

    @contextmanager
    def running(self) -> Iterator[int]:
        ae = AE("PACS")
        ae.add_supported_context(ComprehensiveSRStorage)
        if self.offers:
            ae.add_supported_context(STORAGE_COMMITMENT)
        port = find_free_port()
        handlers = [(evt.EVT_C_STORE, self.store), (evt.EVT_N_ACTION, self.action), (evt.EVT_REQUESTED, self.call)]
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
        assert server is not None
        try:
            yield port
        finally:
            server.shutdown()


def outbox_to(sender: Sender, transport: DimseTransport, policy: CommitmentPolicy = POLICY) -> Outbox:
    return Outbox(
        sender.ledger,
        sender.spool,
        [Destination(transport, True, commitment=policy)],
        on_delivery=lambda row, destination, outcome: sender.outcomes.append((destination, outcome)),
        wall=lambda: sender.clock,
        jitter=lambda: 0.0,
    )


def run_for(sender: Sender, outbox: Outbox, seconds: float, every: float) -> None:
    """Step for that long, also where nothing is due: looks at commitments are the outbox's own affair."""
    end = sender.clock + seconds
    while sender.clock < end:
        until(sender, outbox, min(end, sender.clock + every))
        time.sleep(0.01)


@pytest.mark.parametrize("status", [0x0110, 0x0112, 0x0119, 0x0122, 0xC001])
def test_a_refused_request_is_repeated_after_growing_times_and_then_no_more(
    sender: Sender, peer_at: PeerAt, status: int
) -> None:
    sender.write_reports(2)
    pacs = Pacs(status)
    with pacs.running() as port:
        outbox = outbox_to(sender, DimseTransport(peer_at(port)))
        run_for(sender, outbox, 50, every=1)
        assert (len(pacs.stored), len(pacs.asked)) == (2, 1), "it was 84 and 84 in 50 s"
        run_for(sender, outbox, 6 * 3600, every=60)
    assert (len(pacs.stored), len(pacs.asked)) == (2, 4)
    assert sender.counts() == {"sent": 2}
    assert sender.outcomes.count(("PACS", "uncommitted")) == 2
    for note in sender.errors():
        assert f"0x{status:04X}" in (note or "") and "asked 4 times" in (note or "")
    assert sender.ledger.deliveries.oldest_uncommitted() is None


def test_a_pacs_that_does_not_offer_commitment_is_a_refusal_that_is_repeated_a_few_times_and_then_noted(
    sender: Sender, peer_at: PeerAt
) -> None:
    sender.write_reports(2)
    pacs = Pacs(offers=False)
    with pacs.running() as port:
        outbox = outbox_to(sender, DimseTransport(peer_at(port)))
        run_for(sender, outbox, 50, every=1)
        assert (len(pacs.stored), pacs.associations) == (2, 1)
        assert sender.ledger.deliveries.oldest_uncommitted() is not None
        run_for(sender, outbox, 6 * 3600, every=60)
    assert (len(pacs.stored), pacs.associations) == (2, 4)
    assert sender.counts() == {"sent": 2}
    assert sender.outcomes.count(("PACS", "uncommitted")) == 2, "QcNodeCommitmentMissing counts these"
    for note in sender.errors():
        assert "does not offer storage commitment" in (note or "") and "asked 4 times" in (note or "")
    assert sender.ledger.deliveries.oldest_uncommitted() is None


def test_an_object_that_the_pacs_fails_to_commit_is_sent_again_a_few_times_and_then_stays_sent(
    sender: Sender, peer_at: PeerAt
) -> None:
    sender.write_reports(1)
    pacs = Pacs(fails=True)
    with pacs.running() as port:
        outbox = outbox_to(sender, DimseTransport(peer_at(port), commitment_wait_s=5))
        run_for(sender, outbox, 50, every=1)
        assert (len(pacs.stored), len(pacs.asked)) == (2, 2), "once more at once, then it waits"
        run_for(sender, outbox, 24 * 3600, every=300)
    assert (len(pacs.stored), len(pacs.asked)) == (4, 4)
    assert sender.counts() == {"sent": 1}
    assert "failure reason 0x0112" in (sender.errors()[0] or "") and "asked 4 times" in (sender.errors()[0] or "")


def test_a_pacs_that_never_answers_is_asked_less_and_less_and_its_late_answer_counts(
    sender: Sender, peer_at: PeerAt
) -> None:
    """It archives at night, or a week later: any of the requests may be answered."""
    sender.write_reports(3)
    pacs = Pacs()
    policy = CommitmentPolicy(attempts=10, give_up_s=72 * 3600)
    with pacs.running() as port:
        outbox = outbox_to(sender, DimseTransport(peer_at(port), commitment_wait_s=0.01), policy)
        run_for(sender, outbox, 200 * 3600, every=1800)
    assert len(pacs.asked) == 7, "at 0, 1, 3, 7, 15, 31 and 55 h"
    assert len({request.TransactionUID for request in pacs.asked}) == 7
    assert sender.counts() == {"sent": 3} and len(pacs.stored) == 3
    first = pacs.asked[0]
    kept = tuple(str(item.ReferencedSOPInstanceUID) for item in first.ReferencedSOPSequence)
    late = CommitmentResult(str(first.TransactionUID), kept[:2], {kept[2]: 0x0112})
    assert note_commitment(sender.ledger.deliveries, late, sender.clock).kept_by == ("PACS", "PACS")
    assert sender.counts() == {"committed": 2, "sent": 1}, "what is no longer asked for is not sent again either"


def test_years_of_uncommitted_reports_are_not_asked_for(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(20)
    for row in sender.ledger.deliveries.next_pending("PACS", sender.clock):
        sender.ledger.deliveries.sent(row["id"], sender.clock)
        if row["id"] % 2:
            sender.ledger.deliveries.commitment_asked(row["id"], "1.7", sender.clock)
    sender.clock += 30 * 86400
    pacs = Pacs()
    with pacs.running() as port:
        run_for(sender, outbox_to(sender, DimseTransport(peer_at(port))), 3600, every=60)
    assert pacs.asked == [] and pacs.stored == []
    assert sender.outcomes == [("PACS", "uncommitted")] * 10


def test_a_failure_that_is_repeated_is_no_news(sender: Sender) -> None:
    (uid,) = sender.write_reports(1)
    deliveries = sender.ledger.deliveries
    (row,) = deliveries.next_pending("PACS", sender.clock)
    failed = CommitmentResult("1.7", (), {uid: 0x0112})
    deliveries.sent(row["id"], sender.clock)
    deliveries.commitment_asked(row["id"], "1.7", sender.clock)
    assert note_commitment(deliveries, failed, sender.clock).sent_again == 1
    deliveries.sent(row["id"], sender.clock)
    assert note_commitment(deliveries, failed, sender.clock).sent_again == 0
    assert sender.counts() == {"sent": 1}


def test_an_object_that_was_dropped_or_failed_is_not_revived_by_a_failed_commitment(sender: Sender) -> None:
    (uid,) = sender.write_reports(1)
    deliveries = sender.ledger.deliveries
    (row,) = deliveries.next_pending("PACS", sender.clock)
    deliveries.sent(row["id"], sender.clock)
    for transaction in ("1.7", "1.8"):
        deliveries.commitment_asked(row["id"], transaction, sender.clock)
    note_commitment(deliveries, CommitmentResult("1.7", (), {uid: 0x0112}), sender.clock)
    assert deliveries.drop(row["id"])
    note_commitment(deliveries, CommitmentResult("1.8", (), {uid: 0x0112}), sender.clock)
    assert sender.counts() == {"dropped": 1}


def test_a_pacs_that_is_away_when_it_is_asked_is_not_asked_every_minute(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(1)
    (row,) = sender.ledger.deliveries.next_pending("PACS", sender.clock)
    sender.ledger.deliveries.sent(row["id"], sender.clock)
    tried = []

    class Counting(DimseTransport):
        def ask(self, *args: Any) -> bool:
            tried.append(sender.clock)
            return super().ask(*args)

    run_for(sender, outbox_to(sender, Counting(peer_at(find_free_port()))), 4 * 3600, every=60)
    assert 3 <= len(tried) <= 9
    wait_for(lambda: sender.counts() == {"sent": 1})


def test_the_configured_limits_are_the_outboxs(tmp_path: Path) -> None:
    assert parts.commitment_policy(Settings()) == CommitmentPolicy(attempts=10, give_up_s=72 * 3600)
    chosen = Settings(pacs=PacsSettings(commitment_attempts=3, commitment_give_up_h=5))
    assert parts.commitment_policy(chosen) == CommitmentPolicy(attempts=3, give_up_s=5 * 3600)


def test_a_request_that_was_put_with_the_clock_a_year_ahead_is_put_again_when_it_is_right(
    sender: Sender, peer_at: PeerAt
) -> None:
    sender.write_reports(1)
    pacs = Pacs()
    with pacs.running() as port:
        outbox = outbox_to(sender, DimseTransport(peer_at(port), commitment_wait_s=0.01))
        sender.clock += 365 * 86400
        until(sender, outbox, sender.clock + 1)
        sender.clock -= 365 * 86400
        run_for(sender, outbox, 300, every=60)
        assert len(pacs.asked) >= 2
        run_for(sender, outbox, 24 * 3600, every=600)
    assert len(pacs.asked) <= POLICY.attempts
