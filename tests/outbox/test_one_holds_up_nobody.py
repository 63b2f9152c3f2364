"""An object that a destination does not take is that object's trouble: the others pass, and it comes to an end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qc_node import parts
from qc_node.config import Settings
from qc_node.config.settings import PacsSettings
from qc_node.dicom.association import Timeouts
from qc_node.dicom.part10 import StoredObject
from qc_node.operations.health import outbox_probe
from qc_node.outbox.sending import Outbox, RetryPolicy
from qc_node.outbox.transport.interface import TransportOutcome, TransportStatus
from tests.dicom.scps import scripted_scp
from tests.outbox.conftest import Sender
from tests.outbox.test_transport import Pigeon
from tests.peers.fixtures import PeerAt
from tests.peers.process import find_free_port

SHORT = Timeouts(1.0, 1.0, 1.0, 1.0)
IMPATIENT = Timeouts(10.0, 10.0, 2.0, 10.0)


class Picky(Pigeon):
    """Takes everything but some, of which it says `trouble`; None: it is away."""

    def __init__(self, bad: Sequence[str], trouble: TransportStatus = TransportStatus.BUSY) -> None:
        super().__init__()
        self.bad = set(bad)
        self.trouble = trouble
        self.away = False
        self.tried: list[str] = []

    def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
        for obj in objects:
            if self.away:
                yield TransportOutcome(TransportStatus.UNAVAILABLE, "The pigeon is away.")
                return
            self.tried.append(obj.sop_instance_uid)
            if obj.sop_instance_uid in self.bad:
                yield TransportOutcome(self.trouble, f"The pigeon says {self.trouble}.")
                if self.trouble is TransportStatus.BROKEN:
                    return
            else:
                self.carried.append(obj.sop_instance_uid)
                yield TransportOutcome(TransportStatus.STORED)


def until(sender: Sender, outbox: Outbox, end: float, steps: int = 20_000) -> None:
    """Step as the loop would until the clock stands at `end`."""
    for _ in range(steps):
        due = outbox.step(sender.clock)
        if due is None or due > end:
            sender.clock = end
            return
        sender.clock = max(sender.clock, due)
    raise AssertionError("the queue is busy without end")


def refuses(status: int) -> Callable[[Any], int]:
    return lambda event: status


def aborts(event: Any) -> int:
    event.assoc.abort()
    return 0


def keeps_silent(event: Any) -> int:
    time.sleep(4)
    return 0


@pytest.mark.parametrize(
    "trouble",
    [refuses(0xA700), refuses(0xA702), refuses(0xA7FF), refuses(0xC000), refuses(0x0110), aborts, keeps_silent],
    ids=["A700", "A702", "A7FF", "C000", "0110", "aborts", "keeps silent"],
)
@pytest.mark.parametrize("which", [0, 2])
def test_one_object_that_the_pacs_does_not_take_holds_up_no_other(
    sender: Sender, peer_at: PeerAt, trouble: Callable[[Any], int], which: int
) -> None:
    uids = sender.write_reports(4)
    stored: list[str] = []

    def answer(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid == uids[which]:
            return trouble(event)
        stored.append(uid)
        return 0

    with scripted_scp(answer) as port:
        outbox = sender.outbox(peer_at(port, timeouts=IMPATIENT), retry=RetryPolicy())
        for _ in range(3):
            outbox.step(sender.clock)
    assert stored == [uid for uid in uids if uid != uids[which]], "all others, in order, and once"
    assert sender.counts() == {"sent": 3, "pending": 1}
    assert sender.outcomes.count(("PACS", "retry")) == 1, "it waits for its own next attempt"


def test_only_what_must_come_after_an_object_waits_for_it(sender: Sender) -> None:
    """A series with a report, its key object and a second report; a vote; and another series."""
    mine, other = sender.series("1.2.1"), sender.series("1.2.2")
    (first,) = sender.write_reports(1, series_id=mine, run=1)
    (flag,) = sender.write_reports(1, first=1, series_id=mine, run=1, kind="kos")
    (second,) = sender.write_reports(1, first=2, series_id=mine, run=2, predecessor=first)
    (vote,) = sender.write_reports(1, first=3, series_id=mine, run=2, kind="vote")
    (moved,) = sender.write_reports(1, first=4, series_id=sender.series("1.2.3"), run=1, predecessor=second)
    passing = sender.write_reports(2, first=5, series_id=other)
    pigeon = Picky([first])
    outbox = sender.outbox(pigeon, retry=RetryPolicy())
    until(sender, outbox, sender.clock + 60)
    assert pigeon.carried == passing
    pigeon.bad.clear()
    until(sender, outbox, sender.clock + 60)
    assert pigeon.carried == [*passing, first, flag, second, vote, moved]
    assert sender.counts() == {"sent": 7}


def test_what_waits_behind_an_object_goes_when_that_one_is_dropped(sender: Sender) -> None:
    series = sender.series("1.2.1")
    uids = sender.write_reports(3, series_id=series)
    pigeon = Picky(uids[:1])
    outbox = sender.outbox(pigeon, retry=RetryPolicy())
    until(sender, outbox, sender.clock + 60)
    assert pigeon.carried == [] and sender.counts() == {"pending": 3}
    assert sender.ledger.deliveries.drop(sender.ledger.deliveries.unfinished()[0]["id"])
    until(sender, outbox, sender.clock + 60)
    assert pigeon.carried == uids[1:]
    assert sender.counts() == {"sent": 2, "dropped": 1}
    assert sender.ledger.deliveries.unfinished() == []


@pytest.mark.parametrize("trouble", [TransportStatus.BUSY, TransportStatus.BROKEN])
def test_after_the_configured_age_an_object_is_failed_with_what_it_met(
    sender: Sender, trouble: TransportStatus
) -> None:
    uids = sender.write_reports(2)
    pigeon = Picky(uids[:1], trouble)
    policy = RetryPolicy(cap_s=4 * 3600, give_up_s=72 * 3600)
    for hours in (30, 71):  # restarted in between: since when it is so stands in the ledger
        until(sender, sender.outbox(pigeon, retry=policy), 1000 + hours * 3600)
    assert sender.counts() == {"pending": 1, "sent": 1}
    until(sender, sender.outbox(pigeon, retry=policy), 1000 + 77 * 3600)
    assert sender.counts() == {"failed": 1, "sent": 1}
    said = sender.errors()[0] or ""
    assert said.startswith(f"The pigeon says {trouble}. Given up after 7"), said
    tried = len(pigeon.tried)
    until(sender, sender.outbox(pigeon, retry=policy), sender.clock + 3600)
    assert len(pigeon.tried) == tried
    sender.ledger.deliveries.again(sender.ledger.deliveries.unfinished()[0]["id"], sender.clock)
    until(sender, sender.outbox(pigeon, retry=policy), sender.clock + 71 * 3600)
    assert sender.counts() == {"pending": 1, "sent": 1}, "an operator's word gives it the whole time again"


def test_time_in_which_the_pacs_is_away_is_held_against_no_object(sender: Sender) -> None:
    uids = sender.write_reports(3)
    pigeon = Picky(uids[:1])
    outbox = sender.outbox(pigeon, retry=RetryPolicy(cap_s=4 * 3600, give_up_s=72 * 3600))
    until(sender, outbox, sender.clock + 3600)
    pigeon.away = True
    sender.write_reports(1, first=3)
    until(sender, outbox, sender.clock + 200 * 3600)
    pigeon.away = False
    until(sender, outbox, sender.clock + 70 * 3600)
    assert sender.counts() == {"pending": 1, "sent": 3}
    until(sender, outbox, sender.clock + 8 * 3600)
    assert sender.counts() == {"failed": 1, "sent": 3}


def test_while_the_pacs_is_away_all_wait_together_and_keep_their_order(sender: Sender, peer_at: PeerAt) -> None:
    uids = sender.write_reports(3)
    pigeon = Picky([])
    pigeon.away = True
    outbox = sender.outbox(pigeon, retry=RetryPolicy(give_up_s=3600.0))
    until(sender, outbox, sender.clock + 2 * 3600)
    assert sender.counts() == {"pending": 3}
    assert sender.outcomes.count(("PACS", "retry")) < 2 * 60 + 10, "one attempt a minute, however many wait"
    pigeon.away = False
    until(sender, outbox, sender.clock + 100)
    assert pigeon.carried == uids


def test_a_pacs_that_takes_nothing_is_not_asked_for_each_object_each_time(sender: Sender) -> None:
    """Its disk is full: it is there and answers 0xA700 to everything; thirty objects wait."""
    uids = sender.write_reports(30)
    pigeon = Picky(uids)
    outbox = sender.outbox(pigeon, retry=RetryPolicy())
    until(sender, outbox, sender.clock + 600)
    assert set(pigeon.tried) == set(uids), "each gets its turn"
    assert len(pigeon.tried) <= 10 * (6 + 10), "and all together no more than ten a minute, once it is known"
    pigeon.bad.clear()
    until(sender, outbox, sender.clock + 61)
    assert sorted(pigeon.carried) == sorted(uids)


def test_many_objects_that_the_pacs_does_not_take_hold_up_the_others_for_minutes_at_most(sender: Sender) -> None:
    bad = sender.write_reports(25)
    good = sender.write_reports(5, first=25)
    pigeon = Picky(bad, TransportStatus.BROKEN)
    until(sender, sender.outbox(pigeon, retry=RetryPolicy()), sender.clock + 60)
    assert pigeon.carried == good


def test_an_object_that_a_library_trips_over_holds_up_no_other(sender: Sender) -> None:
    uids = sender.write_reports(3)

    class Tripping(Picky):
        def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
            for outcome, obj in zip(super().store(objects), objects, strict=False):
                if obj.sop_instance_uid == uids[0]:
                    raise AttributeError("of patient X")
                yield outcome

    pigeon = Tripping([])
    until(sender, sender.outbox(pigeon, retry=RetryPolicy()), sender.clock + 60)
    assert sender.counts() == {"pending": 1, "sent": 2}
    assert sender.errors()[0] == "The object could not be handed over to PACS (AttributeError)."


def test_readiness_does_not_fall_for_one_object_and_falls_for_a_pacs_that_takes_nothing(sender: Sender) -> None:
    uids = sender.write_reports(2)
    pigeon = Picky(uids[:1])
    outbox = sender.outbox(pigeon, retry=RetryPolicy())
    probe = outbox_probe(sender.ledger, lambda: sender.clock, 600.0)
    until(sender, outbox, sender.clock + 700)
    assert sender.counts() == {"pending": 1, "sent": 1} and probe().passed
    pigeon.bad.update(sender.write_reports(1, first=2))
    until(sender, outbox, sender.clock + 700)
    assert not probe().passed, "nothing that was written in the last minutes went out"


def test_the_configured_hours_are_the_outboxs(tmp_path: Path) -> None:
    assert parts.retry_policy(Settings()).give_up_s == 72 * 3600
    assert parts.retry_policy(Settings(pacs=PacsSettings(give_up_h=5))).give_up_s == 5 * 3600


def test_a_pacs_that_is_not_there_fails_nothing_however_long(sender: Sender, peer_at: PeerAt) -> None:
    sender.write_reports(2)
    outbox = sender.outbox(peer_at(find_free_port(), timeouts=SHORT), retry=RetryPolicy(cap_s=1e5, give_up_s=3600))
    until(sender, outbox, sender.clock + 400 * 3600)
    assert sender.counts() == {"pending": 2}


# -- a clock that was ahead ------------------------------------------------------------------------------
YEAR = 365 * 86400.0


@pytest.mark.parametrize("trouble", [TransportStatus.BUSY, TransportStatus.BROKEN, TransportStatus.REFUSED])
def test_a_retry_that_was_written_with_the_clock_a_year_ahead_is_due_when_it_is_right(
    sender: Sender, trouble: TransportStatus
) -> None:
    uids = sender.write_reports(2, series_id=sender.series("1.2.3"))
    pigeon = Picky(uids, trouble)
    outbox = sender.outbox(pigeon, retry=RetryPolicy())
    sender.clock += YEAR
    outbox.step(sender.clock)
    sender.clock -= YEAR
    pigeon.bad.clear()
    for asked in (outbox, sender.outbox(pigeon, retry=RetryPolicy())):  # restarted or not
        due = asked.step(sender.clock)
        assert due is None
    assert pigeon.carried == uids and sender.counts() == {"sent": 2}


def test_a_report_that_was_written_with_the_clock_a_year_ahead_is_sent_when_it_is_right(sender: Sender) -> None:
    sender.clock += YEAR
    ahead = sender.write_reports(2, series_id=sender.series("1.2.3"))
    sender.clock -= YEAR
    right = sender.write_reports(1, first=2)
    pigeon = Picky([])
    assert sender.outbox(pigeon, retry=RetryPolicy()).step(sender.clock) is None
    assert pigeon.carried == [*right, *ahead]


def test_a_pause_for_a_pacs_that_was_away_ends_when_the_clock_is_set_right(sender: Sender) -> None:
    uids = sender.write_reports(1)
    pigeon = Picky([])
    pigeon.away = True
    outbox = sender.outbox(pigeon, retry=RetryPolicy())
    sender.clock += YEAR
    outbox.step(sender.clock)
    sender.clock -= YEAR
    pigeon.away = False
    assert outbox.step(sender.clock) is None and pigeon.carried == uids


def test_a_retry_within_the_longest_wait_is_not_due_before_its_time(sender: Sender) -> None:
    uids = sender.write_reports(1)
    pigeon = Picky(uids)
    outbox = sender.outbox(pigeon, retry=RetryPolicy(first_s=60.0, cap_s=60.0))
    assert outbox.step(sender.clock) == sender.clock + 60
    assert outbox.step(sender.clock + 59) == sender.clock + 60 and len(pigeon.tried) == 1
