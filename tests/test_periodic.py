"""A loop goes on whatever its step does, and says each trouble once."""

from __future__ import annotations

import itertools
import logging
import threading
import time

import pytest

from qc_node import periodic
from qc_node.domain import QcNodeError
from qc_node.periodic import Periodic
from tests.peers import wait_for


def test_a_trouble_that_stays_is_one_line_and_one_that_comes_back_is_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = [QcNodeError("The ledger is damaged."), QcNodeError("The ledger is damaged."), None, None]
    told += [QcNodeError("The ledger is damaged.")]
    done = threading.Event()

    def step() -> None:
        if not told:
            done.set()
        elif (error := told.pop(0)) is not None:
            raise error

    loop = Periodic("tested", step, idle_s=0.001)
    with caplog.at_level(logging.ERROR):
        loop.start()
        assert wait_for(done.is_set, 10)
        loop.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the loop tested goes on: The ledger is damaged.",
        "the loop tested goes on: The ledger is damaged.",
    ]
    assert not any(record.exc_info for record in caplog.records), "a sentence needs no traceback"


def test_errors_in_a_row_are_followed_by_longer_and_longer_rests_until_a_step_succeeds() -> None:
    """Woken all the time, as by each image that arrives."""
    outcomes = [False] * 6 + [True] + [False] * 2
    began: list[float] = []
    done = threading.Event()

    def step() -> None:
        loop.wake()
        began.append(time.monotonic())
        if not outcomes:
            done.set()
        elif not outcomes.pop(0):
            raise QcNodeError("The ledger is locked.")

    loop = Periodic("tested", step, idle_s=0.02)
    loop.start()
    assert done.wait(30)
    loop.stop()
    rests = [later - earlier for earlier, later in itertools.pairwise(began)]
    for rest, least in zip(rests[:6], (0.02, 0.04, 0.08, 0.16, 0.32, 0.64), strict=True):
        assert rest >= least
    assert rests[7] < 0.64, "the step that succeeded has brought the rest back to its beginning"


def test_a_rest_after_errors_has_an_end_and_a_stop_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "LONGEST_PAUSE_S", 0.05)
    tries = []

    def step() -> None:
        tries.append(time.monotonic())
        raise QcNodeError("The ledger is locked.")

    loop = Periodic("tested", step, idle_s=0.01)
    loop.start()
    assert wait_for(lambda: len(tries) > 20, 30), "without the end the twentieth came after an hour"
    monkeypatch.setattr(periodic, "LONGEST_PAUSE_S", 3600.0)
    known = len(tries)
    wait_for(lambda: len(tries) > known, 30)
    loop.stop(30)
    assert not loop.alive()
