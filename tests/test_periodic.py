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


class Minutes:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now * 60


def test_a_loop_that_works_or_is_not_wanted_has_no_fault() -> None:
    done = threading.Event()
    loop = Periodic("tested", done.set, idle_s=0.001)
    assert loop.fault() is None, "not started yet"
    loop.start()
    assert wait_for(done.is_set, 10)
    assert loop.fault() is None
    loop.stop()
    assert not loop.alive() and loop.fault() is None, "it was asked to end"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_whose_thread_is_gone_says_so() -> None:
    def end() -> None:
        raise SystemExit

    loop = Periodic("tested", end)
    loop.start()
    assert wait_for(lambda: loop.fault() == "has ended", 10)


def test_a_loop_that_fails_for_long_says_so_until_a_step_succeeds() -> None:
    clock, broken, steps = Minutes(), [True], [0]

    def step() -> None:
        steps[0] += 1
        if broken[0]:
            raise KeyError("what nobody thought of")

    loop = Periodic("tested", step, idle_s=0.001, steady=clock)
    loop.start()
    wait_for(lambda: steps[0] > 1)
    clock.now = 4
    assert loop.fault() is None, "it may mend itself"
    clock.now = 6
    assert loop.fault() == "has failed for 6 min"
    broken[0] = False
    wait_for(lambda: loop.fault() is None)
    loop.stop()


def test_a_loop_that_does_not_come_to_the_end_of_a_step_says_so_unless_the_step_does() -> None:
    clock, begun, go_on = Minutes(), threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        go_on.wait(30)

    loop = Periodic("tested", step, steady=clock)
    loop.start()
    assert wait_for(begun.is_set, 10)
    clock.now = 90
    assert loop.fault() == "has been at one step for 90 min"
    loop.beat()
    assert loop.fault() is None
    go_on.set()
    loop.stop()
