"""The supervised child: what is said arrives, who dies comes back, who is told to go goes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import psutil
import pytest

from qc_node.process import ChildProcess, Message
from tests.peers import wait_for

CHILD = "tests.obedient_child"
log = logging.getLogger("qc_node.test_process")


class Supervised:
    """A child with everything that it said."""

    def __init__(self, settings: Message, **options: Any) -> None:
        self.said: list[Message] = []
        self.ends: list[int | None] = []
        usual: dict[str, Any] = {
            "name": "obedient",
            "log": log,
            "on_end": self.ends.append,
            "pauses_s": (0.05, 0.2),
        }
        self.child = ChildProcess(CHILD, settings, self.said.append, **(usual | options))
        self.child.start()

    def events(self, kind: str) -> list[Message]:
        return [message for message in self.said if message["event"] == kind]

    def pids(self) -> list[int]:
        """Of all children so far, as they said themselves."""
        return [message["pid"] for message in self.events("ready")]


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(settings: Message | None = None, **options: Any) -> Supervised:
        started.append(Supervised(settings or {}, **options))
        return started[-1]

    yield start
    for one in started:
        one.child.ask_to_end()
        one.child.end(0.0)


def test_what_is_said_arrives_in_order(supervise: Callable[..., Supervised]) -> None:
    one = supervise()
    assert one.child.ready.wait(20) and one.child.alive()
    assert one.child.pid == one.pids()[0]
    for number in range(100):
        one.child.say({"number": number, "text": "zwölf\n"})
    wait_for(lambda: len(one.events("heard")) == 100)
    assert [m["message"]["number"] for m in one.events("heard")] == list(range(100))
    assert one.events("heard")[0]["message"]["text"] == "zwölf\n"


def test_no_user_of_the_machine_reads_the_settings(supervise: Callable[..., Supervised]) -> None:
    one = supervise({"secret": "xyzzy-271828"})
    assert one.child.ready.wait(20)
    process = psutil.Process(one.child.pid)
    assert CHILD in process.cmdline()
    assert "xyzzy" not in " ".join([*process.cmdline(), *process.environ().values()])


def test_a_killed_child_is_started_again(supervise: Callable[..., Supervised]) -> None:
    one = supervise()
    assert one.child.ready.wait(20)
    os.kill(one.pids()[0], signal.SIGKILL)
    wait_for(lambda: len(one.pids()) == 2 and one.child.alive())
    assert one.ends == [-signal.SIGKILL]
    assert one.child.pid == one.pids()[1] != one.pids()[0]


def test_the_pause_before_the_next_start_grows_and_has_an_end(supervise: Callable[..., Supervised]) -> None:
    ends: list[float] = []
    supervise({"fails": 3}, on_end=lambda code: ends.append(time.monotonic()), pauses_s=(0.4, 0.8))
    wait_for(lambda: len(ends) == 5, 30)
    gaps = [after - before for before, after in pairwise(ends)]
    assert gaps[0] >= 0.4 and gaps[1] >= 0.8 and gaps[2] >= 0.8 and 0.8 <= gaps[3] < 3.2


def test_a_child_that_cannot_be_started_is_an_end_and_is_tried_again(
    supervise: Callable[..., Supervised], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        one = supervise()
        wait_for(lambda: len(one.ends) >= 2)
    assert one.child.ready.wait(20)
    assert set(one.ends) == {None}
    assert "the obedient process could not be started: No such file or directory" in caplog.text


def test_no_child_is_started_while_it_may_not_be(supervise: Callable[..., Supervised]) -> None:
    asked: list[bool] = []
    allowed = threading.Event()

    def may_start() -> bool:
        asked.append(allowed.is_set())
        if len(asked) == 2:
            raise OSError("asked in vain")
        return allowed.is_set()

    one = supervise(may_start=may_start)
    wait_for(lambda: len(asked) > 3)
    assert one.child.pid is None and one.ends == []
    allowed.set()
    assert one.child.ready.wait(20)


def test_a_stuck_child_is_killed_and_replaced(supervise: Callable[..., Supervised]) -> None:
    stuck = threading.Event()
    ends: list[int | None] = []
    one = supervise(is_stuck=lambda: stuck.is_set() and not ends, on_end=ends.append)
    assert one.child.ready.wait(20)
    time.sleep(1.2)
    assert ends == []
    stuck.set()
    wait_for(lambda: ends == [-signal.SIGKILL])
    wait_for(lambda: len(one.pids()) == 2)


def test_a_child_that_cannot_be_watched_is_killed_and_another_one_started(
    supervise: Callable[..., Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def no_more_threads(thread: threading.Thread) -> None:
        if thread.name == "obedient-watch" and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    one = supervise(is_stuck=lambda: False)
    wait_for(one.child.alive)
    assert len(refused) == 2 and one.ends == [-signal.SIGKILL] * 2
    assert one.pids()[-1] == one.child.pid


def test_a_child_may_finish_what_it_does_before_it_ends(supervise: Callable[..., Supervised]) -> None:
    one = supervise()
    assert one.child.ready.wait(20)
    one.child.ask_to_end({"leave": 0.7})
    one.child.end(10)
    assert one.events("left") and one.ends == [] and one.child.pid is None and not one.child.alive()


def test_a_child_that_does_not_end_in_time_is_killed(supervise: Callable[..., Supervised]) -> None:
    one = supervise({"deaf": True})
    assert one.child.ready.wait(20)
    began = time.monotonic()
    one.child.ask_to_end()
    one.child.end(0.5)
    assert 0.5 <= time.monotonic() - began < 4
    assert not psutil.pid_exists(one.pids()[0]) and one.ends == [], "asked to end: no other is started"


def test_a_half_line_of_a_killed_child_is_no_message_and_a_bad_line_is_told(
    supervise: Callable[..., Supervised], caplog: pytest.LogCaptureFixture
) -> None:
    one = supervise()
    assert one.child.ready.wait(20)
    one.child.say({"torn": 1})
    wait_for(lambda: len(one.pids()) == 2)
    assert caplog.text.count("said something unreadable") == 1
    one.child.say({"still": "here"})
    wait_for(lambda: one.events("heard"))


def test_a_listener_that_fails_does_not_end_the_supervision(
    supervise: Callable[..., Supervised], caplog: pytest.LogCaptureFixture
) -> None:
    one = supervise()
    assert one.child.ready.wait(20)
    one.child._on_message = lambda message: 1 / 0  # type: ignore[assignment]
    one.child.say({"a": 1})
    wait_for(lambda: "ZeroDivisionError" in caplog.text)
    one.child._on_message = one.said.append
    one.child.say({"a": 2})
    wait_for(lambda: [m["message"]["a"] for m in one.events("heard")] == [2])


def test_a_child_ends_when_its_parent_is_gone() -> None:
    script = textwrap.dedent(f"""
        import logging, time
        from qc_node.process import ChildProcess
        log = logging.getLogger()
        say = lambda message: print(message["pid"], flush=True)
        ChildProcess({CHILD!r}, {{"deaf": True}}, say, name="x", log=log).start()
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([child], 10)
    assert not alive
