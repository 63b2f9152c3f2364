"""A new kind of destination is a class of ten lines; order, retries and rows are the outbox's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qc_node.dicom.part10 import StoredObject
from qc_node.domain import QcNodeError
from qc_node.outbox.files import send_files
from qc_node.outbox.sending import RetryPolicy
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.outbox.transport.interface import (
    CommittingTransport,
    Transport,
    TransportOutcome,
    TransportStatus,
)
from tests.dicom.scps import report_file
from tests.outbox.conftest import Sender
from tests.outbox.test_outbox import drain
from tests.peers.fixtures import PeerAt

STORED, REFUSED, BUSY, BROKEN, UNAVAILABLE = TransportStatus


class Pigeon:
    """A destination that nobody thought of; answers as told, then stores everything."""

    name = "PACS"

    def __init__(self, *answers: TransportStatus) -> None:
        self.answers = list(answers)
        self.carried: list[str] = []

    def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
        for obj in objects:
            status = self.answers.pop(0) if self.answers else STORED
            self.carried += [obj.sop_instance_uid] * (status is STORED)
            yield TransportOutcome(status, "" if status is STORED else f"The pigeon says {status}.")
            if status in (BROKEN, UNAVAILABLE):
                return

    def echo(self) -> float:
        return 0.0


def test_the_reports_of_a_series_arrive_in_order_through_every_kind_of_trouble(sender: Sender) -> None:
    uids = sender.write_reports(4, series_id=sender.series("1.2.3"))
    pigeon = Pigeon(UNAVAILABLE, STORED, BUSY, BROKEN, STORED, BROKEN)
    assert isinstance(pigeon, Transport) and not isinstance(pigeon, CommittingTransport)
    drain(sender, sender.outbox(pigeon))
    assert pigeon.carried == uids
    assert sender.counts() == {"sent": 4}
    told = ["retry", "sent", "retry", "retry", "sent", "retry", "sent", "sent"]
    assert sender.outcomes == [("PACS", outcome) for outcome in told]


def test_reports_of_several_series_all_arrive_once_through_every_kind_of_trouble(sender: Sender) -> None:
    uids = sender.write_reports(4)
    pigeon = Pigeon(UNAVAILABLE, STORED, BUSY, BROKEN, STORED, BROKEN)
    drain(sender, sender.outbox(pigeon))
    assert pigeon.carried == [uids[0], uids[3], uids[2], uids[1]], "what is in trouble is passed by the others"
    assert sender.counts() == {"sent": 4}
    told = ["retry", "sent", "retry", "retry", "sent", "retry", "sent", "sent"]
    assert sender.outcomes == [("PACS", outcome) for outcome in told]


@pytest.mark.parametrize("trouble", [BUSY, BROKEN, UNAVAILABLE])
def test_trouble_of_the_destination_is_waited_for_and_never_fails_an_object(
    sender: Sender, trouble: TransportStatus
) -> None:
    sender.write_reports(2, series_id=sender.series("1.2.3"))
    outbox = sender.outbox(Pigeon(*[trouble] * 6), retry=RetryPolicy(first_s=1, cap_s=8))
    waits = []
    for _ in range(6):
        due = outbox.step(sender.clock)
        assert due is not None
        waits.append(due - sender.clock)
        sender.clock = due
    assert waits == [1, 2, 4, 8, 8, 8]
    assert sender.errors() == [f"The pigeon says {trouble}.", None]
    drain(sender, outbox)
    assert sender.counts() == {"sent": 2}


def test_an_object_that_is_refused_is_given_up_and_the_queue_goes_on(sender: Sender) -> None:
    uids = sender.write_reports(3, series_id=sender.series("1.2.3"))
    pigeon = Pigeon(STORED, REFUSED, REFUSED, REFUSED)
    drain(sender, sender.outbox(pigeon))
    assert pigeon.carried == [uids[0], uids[2]]
    assert sender.counts() == {"sent": 2, "failed": 1}
    assert sender.errors()[1] == "The pigeon says refused."


def test_each_object_has_its_row_before_the_next_one_goes(sender: Sender) -> None:
    sender.write_reports(3)
    seen = []

    class Watching(Pigeon):
        def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
            for outcome in super().store(objects):
                seen.append(sender.counts())
                yield outcome
            seen.append(sender.counts())

    sender.outbox(Watching()).step(sender.clock)
    assert seen == [{"pending": 3}, {"pending": 2, "sent": 1}, {"pending": 1, "sent": 2}, {"sent": 3}]


def test_a_warning_is_noted_with_what_was_stored(sender: Sender) -> None:
    sender.write_reports(1)

    class Warning(Pigeon):
        def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
            yield TransportOutcome(STORED, "The envelope is torn.")

    sender.outbox(Warning()).step(sender.clock)
    assert sender.counts() == {"sent": 1} and sender.errors() == ["The envelope is torn."]


def test_a_transport_is_let_go_at_the_first_failure(sender: Sender) -> None:
    sender.write_reports(2)
    let_go = []

    class Holding(Pigeon):
        def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
            try:
                yield from super().store(objects)
            finally:
                let_go.append(self.carried.copy())

    sender.outbox(Holding(BUSY)).step(sender.clock)
    assert let_go == [[]]


def test_a_transport_that_says_nothing_is_tried_later_and_not_at_once(sender: Sender) -> None:
    sender.write_reports(1)

    class Mute(Pigeon):
        def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
            return iter(())

    due = sender.outbox(Mute()).step(sender.clock)
    assert due is not None and due > sender.clock and sender.outcomes == [("PACS", "retry")]


def test_a_destination_that_cannot_promise_is_not_asked(sender: Sender) -> None:
    sender.write_reports(1)
    outbox = sender.outbox(Pigeon(), storage_commitment=True)
    outbox.step(sender.clock)
    outbox.step(sender.clock + 7200)
    assert sender.counts() == {"sent": 1}
    assert sender.ledger.db.value("SELECT count(*) FROM commitments") == 0


def test_dimse_is_a_transport_that_can_ask_for_promises(peer_at: PeerAt) -> None:
    assert isinstance(DimseTransport(peer_at(1)), CommittingTransport)


# -- a user's files ------------------------------------------------------------------------------------
def test_files_go_by_any_transport_and_each_failure_is_said(tmp_path: Path) -> None:
    files = [report_file(tmp_path, number) for number in range(5)]
    pigeon = Pigeon(STORED, REFUSED, BROKEN, UNAVAILABLE, BUSY)
    result = send_files([tmp_path], pigeon)
    assert (result.sent, len(pigeon.carried)) == (2, 2)
    assert result.failed == (
        (files[1], "The pigeon says refused."),
        (files[2], "The pigeon says broken."),
        (files[3], "The pigeon says busy."),
    )


@pytest.mark.parametrize("answers", [(UNAVAILABLE,), (STORED, UNAVAILABLE, UNAVAILABLE)])
def test_files_end_with_a_sentence_where_nobody_is_there(
    tmp_path: Path, answers: tuple[TransportStatus, ...]
) -> None:
    for number in range(3):
        report_file(tmp_path, number)
    with pytest.raises(QcNodeError, match="The pigeon says unavailable"):
        send_files([tmp_path], Pigeon(*answers))


def test_files_do_not_wait_for_ever_for_a_transport_that_says_nothing(tmp_path: Path) -> None:
    report_file(tmp_path)

    class Mute(Pigeon):
        def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
            return iter(())

    with pytest.raises(QcNodeError, match="says nothing"):
        send_files([tmp_path], Mute())
