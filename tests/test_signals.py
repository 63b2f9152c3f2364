"""Signals end a wait at once, whatever the main thread is doing, and take no lock."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

WAITS = """
import signal, sys, time
from qc_node.signals import SignalInbox
inbox = SignalInbox((signal.SIGTERM, signal.SIGHUP))
print("ready", flush=True)
hups = 0
while signal.SIGTERM not in (came := inbox.wait(0.0 if len(sys.argv) > 1 else 60.0)):
    hups += signal.SIGHUP in came
print("ended", hups, flush=True)
"""


def waiting(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WAITS, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_a_signal_ends_a_long_wait_at_once() -> None:
    process = waiting()
    began = time.monotonic()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "ended 1\n" and time.monotonic() - began < 5


@pytest.mark.parametrize("turn", range(5))
def test_signals_in_the_middle_of_any_step_of_a_wait_are_no_deadlock(turn: int) -> None:
    """An event that a handler sets stands still after some hundreds of these: it waits for itself."""
    process = waiting("busy")
    for _ in range(400):
        process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[0]
    assert said.startswith("ended ") and process.returncode == 0
