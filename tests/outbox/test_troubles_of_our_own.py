"""What fails on the node's own side is no object's fault: nothing is given up, or sent over and over."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from qc_node.dicom.part10 import StoredObject
from qc_node.ledger import database
from qc_node.ledger.integrity import LedgerError
from qc_node.outbox.sending import RetryPolicy
from qc_node.outbox.transport.interface import TransportOutcome, TransportStatus
from tests.outbox.conftest import Sender


class Takes:
    """A destination that takes everything, and keeps a list."""

    name = "PACS"

    def __init__(self) -> None:
        self.got: list[str] = []

    def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
        for obj in objects:
            self.got.append(obj.sop_instance_uid)
            yield TransportOutcome(TransportStatus.STORED)

    def echo(self) -> float:
        return 0.0


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """As while a crowd has every one of them; those that are open already still work."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(int(fd) for fd in os.listdir("/proc/self/fd"))  # noqa: PTH208
    with ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 8, hard))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.enter_context(Path(os.devnull).open())
        yield


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """As by another program that keeps the lock."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# -- files that cannot be read now -------------------------------------------------------------------
def test_a_moment_without_descriptors_fails_no_report(sender: Sender) -> None:
    uids = sender.write_reports(20)
    pacs = Takes()
    outbox = sender.outbox(pacs)
    with no_descriptor_left():
        for _ in range(30):
            outbox.step(sender.clock)
    assert sender.counts() == {"pending": 20}, "20 of 20 were failed after one step"
    told = [error for error in sender.errors() if error]
    assert len(told) == RetryPolicy().unwell_after, "then all wait, as where the destination is unwell"
    assert all("cannot be read: Too many open files" in error for error in told)
    assert set(sender.outcomes) == {("PACS", "retry")}
    for _ in range(3):
        sender.clock += 60
        outbox.step(sender.clock)
    assert sorted(pacs.got) == sorted(uids) and sender.counts() == {"sent": 20}


def test_a_file_that_cannot_be_read_waits_longer_each_time_and_is_never_given_up(sender: Sender) -> None:
    """A folder stands in its place: opening it is an error of the system, as EIO and EACCES are."""
    uids = sender.write_reports(1)
    sender.write_reports(1, first=1)
    path = sender.spool.path(sender.spool.report_name(uids[0]))
    kept = path.read_bytes()
    path.unlink()
    path.mkdir()
    pacs = Takes()
    outbox = sender.outbox(pacs, retry=RetryPolicy(first_s=1, cap_s=8, give_up_s=60))
    waits: list[float] = []
    while len(waits) < 20:
        began = sender.clock
        while (due := outbox.step(sender.clock)) == sender.clock:
            pass
        assert due is not None
        waits.append(due - began)
        sender.clock = due
    assert waits[:5] == [1, 2, 4, 8, 8] and sum(waits) > 60
    assert len(pacs.got) == 1 and sender.counts() == {"pending": 1, "sent": 1}, "the other one passes it"
    assert "Is a directory" in (sender.errors()[0] or "")
    path.rmdir()
    path.write_bytes(kept)
    outbox.step(sender.clock)
    assert sender.counts() == {"sent": 2}


def test_what_must_follow_a_report_that_cannot_be_read_does_not_pass_it(sender: Sender) -> None:
    uids = sender.write_reports(3, series_id=sender.series("1.2.3"))
    path = sender.spool.path(sender.spool.report_name(uids[0]))
    kept = path.read_bytes()
    path.unlink()
    path.mkdir()
    pacs = Takes()
    outbox = sender.outbox(pacs)
    for _ in range(5):
        outbox.step(sender.clock)
    assert pacs.got == []
    path.rmdir()
    path.write_bytes(kept)
    sender.clock += 60
    outbox.step(sender.clock)
    assert pacs.got == uids


# -- rows that cannot be written ---------------------------------------------------------------------
@pytest.fixture
def impatient(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> Sender:
    """Its connections wait a moment for the lock in place of half a minute."""
    sender.ledger.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    return sender


def test_nothing_is_sent_while_no_row_can_be_written(impatient: Sender) -> None:
    impatient.write_reports(3)
    pacs = Takes()
    outbox = impatient.outbox(pacs)
    with locked(impatient.ledger.db.path), pytest.raises(LedgerError, match="database is locked"):
        outbox.step(impatient.clock)
    assert pacs.got == [], "8 in 8 s of one object"
    outbox.step(impatient.clock)
    assert len(pacs.got) == 3 and impatient.counts() == {"sent": 3}


def test_an_object_whose_row_could_not_be_written_is_sent_once_more_and_not_before_it_can(
    impatient: Sender,
) -> None:
    """The lock is taken between the proof that a row can be written and the answer of the PACS."""
    uids = impatient.write_reports(2)
    with ExitStack() as lock:

        class LockedMeanwhile(Takes):
            def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
                if not self.got:
                    lock.enter_context(locked(impatient.ledger.db.path))
                yield from super().store(objects)

        pacs = LockedMeanwhile()
        outbox = impatient.outbox(pacs)
        for _ in range(3):
            with pytest.raises(LedgerError):
                outbox.step(impatient.clock)
        assert pacs.got == uids[:1]
    outbox.step(impatient.clock)
    assert pacs.got == [uids[0], *uids] and impatient.counts() == {"sent": 2}
