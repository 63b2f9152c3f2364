"""The node's side of the classifiers: what is in hand, what is owed to the queue, who stands still."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import psutil
import pytest

from qc_node.engine.pool import Pool
from qc_node.ledger import database
from tests.engine.test_worker import Bench, SmallClassifier
from tests.part_settings import worker_settings
from tests.peers import wait_for


class Watched:
    """A pool that hears what the test says, by a clock that the test moves."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root, SmallClassifier())
        self.now = 0.0
        settings = worker_settings(root / "data", root / "none")
        self.pool = Pool(settings, self.bench.ledger, lambda event: None, steady=lambda: self.now)

    def hears(self, kind: str, number: int = 1, **more: Any) -> None:
        self.pool._hear(
            {"event": kind, "series_id": number, "series_uid": f"1.{number}", "run": 1, "state": "judged", **more}
        )

    def stuck_within(self, seconds: float) -> bool:
        """Let time go by as the watchdog sees it."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            if self.pool._stuck():
                return True
        return False


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_hang_after_the_first_of_a_batch_is_seen(watched: Watched) -> None:
    for number in (1, 2):
        watched.hears("started", number)
    assert not watched.stuck_within(170.0)
    watched.hears("finished", 2)
    assert not watched.stuck_within(170.0), "each that is finished restarts the clock"
    assert watched.stuck_within(30.0)


def test_a_series_that_was_given_back_is_not_in_hand(watched: Watched) -> None:
    watched.hears("started")
    watched.hears("given_back")
    assert not watched.stuck_within(1000.0)


def test_a_worker_at_rest_that_says_nothing_is_stuck_and_one_that_beats_is_not(watched: Watched) -> None:
    assert not watched.stuck_within(1000.0), "it loads its models"
    watched.hears("ready")
    for _ in range(50):
        assert not watched.stuck_within(5.0)
        watched.hears("beat", trouble="")
    assert watched.stuck_within(90.0)


def test_a_node_that_stood_still_itself_blames_nobody(watched: Watched) -> None:
    watched.hears("ready")
    watched.now += 3600.0
    assert not watched.pool._stuck()


def test_trouble_lasts_until_something_works(watched: Watched) -> None:
    watched.hears("beat", trouble="The GPU does not work.")
    watched.hears("ready")
    assert watched.pool.trouble == "The GPU does not work.", "a new worker alone proves nothing"
    watched.hears("finished")
    assert watched.pool.trouble == ""


def test_what_a_dead_worker_had_goes_back_as_soon_as_the_ledger_lets_us(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    bench, pool = watched.bench, watched.pool
    uid = bench.receive("a")
    bench.ledger.series.claim(11.0)
    bench.ledger.db.close()
    lock = sqlite3.connect(bench.ledger.db.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    pool._ended(-9)
    assert not pool._settle(), "no other worker is started before"
    assert "locked" in pool.fault and bench.state(uid)[0] == "judging"
    lock.execute("ROLLBACK")
    lock.close()
    assert pool._settle() and bench.state(uid)[0] == "queued"
    row = bench.ledger.series.get(uid)
    assert row is not None and row["attempts"] == 1
    bench.ledger.series.claim(12.0)
    assert pool._settle() and bench.state(uid)[0] == "judging", "owed once"


@pytest.mark.slow
def test_a_classifier_that_stands_still_at_rest_is_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier())
    pool = Pool(worker_settings(tmp_path / "data", "models"), bench.ledger, lambda event: None, silent_s=8.0)
    pool.start()
    try:
        wait_for(pool.alive, 120)
        first = pool.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        wait_for(lambda: not psutil.pid_exists(first), 60)
        wait_for(lambda: pool.pid not in (None, first), 60)
    finally:
        pool.stop(0.0)
