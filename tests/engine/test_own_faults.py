"""Faults of the machine while a sound series is in hand: no series fails of them, and they show."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from qc_node.domain import Verdict
from qc_node.engine.own_faults import OwnTrouble, own_fault
from qc_node.engine.worker import Worker
from qc_node.ledger import database
from qc_node.series.errors import SeriesRefused
from tests.engine.test_worker import Bench, OneClassifier, Seen, SmallClassifier
from tests.part_settings import worker_settings


@dataclass
class Failing(SmallClassifier):
    """Raises `error` while there is one."""

    error: Exception | None = None

    def judge(self, prepared: Sequence[Seen]) -> list[Verdict]:
        if self.error is not None:
            raise self.error
        return super().judge(prepared)


class Timed(Bench):
    """A bench whose worker waits as long as the test says."""

    def __init__(self, root: Path, classifier: SmallClassifier, batch: int = 1) -> None:
        super().__init__(root, classifier, batch)
        self.now = 0.0
        self.worker = Worker(
            worker_settings(root / "data", batch=batch),
            self.ledger,
            self.spool,
            OneClassifier(classifier),  # type: ignore[arg-type]
            lambda m: self.told.append(dict(m)),
            lambda: 1000.0,
            lambda: self.now,
        )

    def later(self) -> int:
        """A step after any pause."""
        self.now += 100.0
        return self.worker.step()

    def attempts(self, uid: str) -> int:
        row = self.ledger.series.get(uid)
        assert row is not None
        return row["attempts"]


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(p.name) for p in Path("/proc/self/fd").iterdir()) + 20, hard)
    )
    held: list[int] = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def locked(bench: Bench) -> Iterator[None]:
    conn = sqlite3.connect(bench.ledger.db.path, isolation_level=None)
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        conn.execute("ROLLBACK")
        conn.close()


def test_no_series_fails_while_there_are_no_descriptors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Timed(tmp_path, SmallClassifier())
    uids = [bench.receive(name) for name in ("a", "bb", "ccc")]
    with no_descriptors():
        for _ in range(5):
            bench.later()
        assert "Too many open files" in bench.worker.trouble
        assert bench.worker.step() == 0, "it waits before the next attempt"
    assert [bench.state(uid) for uid in uids] == [("queued", None)] * 3
    assert sum(bench.attempts(uid) for uid in uids) == 0
    assert len([r for r in caplog.records if "Too many open files" in r.message]) == 1, "said once"
    while bench.later():
        pass
    assert [bench.state(uid)[0] for uid in uids] == ["judged"] * 3 and bench.worker.trouble == ""


def test_a_series_that_takes_all_memory_alone_three_times_has_failed(tmp_path: Path) -> None:
    classifier = Failing(error=MemoryError())
    bench = Timed(tmp_path, classifier)
    uid = bench.receive("a")
    for _ in range(2):
        bench.later()
        assert bench.state(uid)[0] == "queued"
    bench.later()
    state, sentence = bench.state(uid)
    assert state == "failed" and "after 3 attempts" in str(sentence) and "memory" in str(sentence)
    assert bench.told[-1]["event"] == "finished"


def test_memory_that_a_batch_lacks_is_nobodys_attempt(tmp_path: Path) -> None:
    classifier = Failing(error=MemoryError())
    bench = Timed(tmp_path, classifier, batch=2)
    uids = [bench.receive(name) for name in ("a", "bb")]
    bench.later()
    assert [(bench.state(uid)[0], bench.attempts(uid)) for uid in uids] == [("queued", 0)] * 2
    classifier.error = None
    assert [bench.later(), bench.later()] == [1, 1], "one by one"
    assert [bench.state(uid)[0] for uid in uids] == ["judged"] * 2


def test_a_volume_that_finds_no_memory_is_not_skipped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise MemoryError

    bench = Timed(tmp_path, SmallClassifier())
    uid = bench.receive("a")
    with monkeypatch.context() as patched:
        patched.setattr("qc_node.series.volume.stack.decode", decode)
        bench.later()
    assert bench.state(uid) == ("queued", None)
    bench.later()
    assert bench.state(uid)[0] == "judged"


def test_a_lost_gpu_ends_the_worker_and_fails_nothing(tmp_path: Path) -> None:
    bench = Timed(tmp_path, Failing(error=RuntimeError("CUDA error: unspecified launch failure")), batch=2)
    uids = [bench.receive(name) for name in ("a", "bb")]
    for _ in range(4):
        bench.later()
    assert bench.worker.is_spent and "GPU" in bench.worker.trouble
    assert [(bench.state(uid)[0], bench.attempts(uid)) for uid in uids] == [("queued", 0)] * 2


def test_a_ledger_locked_for_long_neither_ends_the_worker_nor_loses_a_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    bench = Timed(tmp_path, SmallClassifier())
    uid = bench.receive("a")
    bench.ledger.db.close()
    with locked(bench):
        assert bench.later() == 0
    finish = bench.worker._finish

    def locked_finish(*args: object) -> None:
        with locked(bench):
            finish(*args)  # type: ignore[arg-type]

    bench.worker._finish = locked_finish  # type: ignore[assignment,method-assign]
    bench.later()
    assert "locked" in bench.worker.trouble
    bench.worker._finish = finish  # type: ignore[method-assign]
    bench.later()
    assert bench.state(uid)[0] == "judged" and bench.worker.trouble == ""


def test_what_cannot_be_given_back_is_given_back_before_the_next_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    bench = Timed(tmp_path, SmallClassifier())
    uid = bench.receive("a")
    bench.ledger.db.close()
    look: Callable[..., object] = bench.worker._look
    conn = sqlite3.connect(bench.ledger.db.path, isolation_level=None)

    def lock_then_look(row: object) -> object:
        conn.execute("BEGIN IMMEDIATE")
        return look(row)

    bench.worker._look = lock_then_look  # type: ignore[assignment,method-assign]
    bench.later()
    assert bench.state(uid)[0] == "judging"
    assert bench.later() == 0, "still locked"
    conn.execute("ROLLBACK")
    conn.close()
    bench.worker._look = look  # type: ignore[assignment,method-assign]
    bench.later()
    assert bench.state(uid)[0] == "judged" and bench.attempts(uid) == 1


class AcceleratorError(RuntimeError):
    """Named as torch names it."""


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (OSError("it ends too early"), False),
        (MemoryError(), True),
        (sqlite3.OperationalError("database is locked"), True),
        (AcceleratorError("CUDA error"), True),
        (RuntimeError("shapes do not match"), False),
        (SeriesRefused("(0028,0010) is absent."), False),
    ],
)
def test_faults_of_the_machine_are_told_from_those_of_a_series(error: Exception, ours: bool) -> None:
    assert (own_fault(error) is not None) is ours
    wrapped = SeriesRefused("a sentence")
    wrapped.__cause__ = error
    assert (own_fault(wrapped) is not None) is ours


def test_the_pause_grows_has_an_end_and_begins_anew() -> None:
    now = 0.0
    trouble = OwnTrouble(lambda: now)
    waits = []
    for _ in range(9):
        trouble.begin("x")
        began = now
        while trouble.waits():
            now += 0.5
        waits.append(now - began)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert trouble.end() and not trouble.end()
    assert trouble.begin("y") and trouble.waits()
