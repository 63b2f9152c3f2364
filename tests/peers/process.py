"""Processes that a test owns: started on a free port, stopped by their own handle, output kept in a file."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

import pytest

T = TypeVar("T")

HOST = "127.0.0.1"


def environment(**more: str) -> dict[str, str]:
    """The environment for a peer.

    DCMTK and Orthanc leave Nagle's algorithm on by default; without ``TCP_NODELAY=1`` each C-STORE waits 40 ms.
    """
    return {**os.environ, "TCP_NODELAY": "1", **more}


def _candidates() -> Iterator[int]:
    """Ports below those that the kernel gives to outgoing connections; each test process has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = range(15_000 + worker, 32_000, workers)
    start = random.randrange(len(mine))  # somebody else may be testing on this machine
    return itertools.cycle([*mine[start:], *mine[:start]])


_ports = _candidates()


def find_free_port() -> int:
    """A loopback TCP port that nobody listens on, and that this test run gives to nobody else for long."""
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind((HOST, port))
            return port
    raise AssertionError("a thousand ports in a row are taken")


def require(*programs: str) -> list[str]:
    """The full paths of `programs`; skips the test when one is missing, fails it where peers are required."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    paths = {name: shutil.which(name, path=search) for name in programs}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        sentence = f"{', '.join(missing)} is not installed"
        if os.environ.get("QC_NODE_REQUIRE_PEERS") == "1":
            pytest.fail(f"{sentence}, and QC_NODE_REQUIRE_PEERS=1 demands every peer")
        pytest.skip(f"{sentence} (Debian: make peers)")
    return [path for path in paths.values() if path]


def wait_for(fn: Callable[[], T | None], timeout: float = 30.0, every: float = 0.05) -> T:
    """Call `fn` until its answer is true, and return that answer; an :class:`AssertionError` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        answer = fn()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        time.sleep(every)


def is_listening(port: int, host: str = HOST) -> bool:
    """Whether somebody accepts TCP connections at `port`."""
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((host, port)) == 0


class OwnedProcess:
    """One child process.  Use as a context manager, or call :meth:`start` and :meth:`stop`.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File that takes standard output and error; shown when the start fails.
    ready
        Called until it is true; the start fails when the process ends before, or after `timeout` s.
    """

    def __init__(
        self, command: Sequence[str], log: Path, ready: Callable[[], bool], *, timeout: float = 60.0
    ) -> None:
        self.command = list(command)
        self.log = log
        self._ready = ready
        self._timeout = timeout
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.popen is not None and self.popen.poll() is None

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )
        try:
            wait_for(lambda: not self.running or self._ready(), self._timeout)
        except BaseException:
            self.stop()
            raise
        if not self.running:
            raise AssertionError(f"{self.command[0]} ended at once:\n{self.output()[-3000:]}")

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 15.0) -> None:
        """End the process and what it forked: `sig` first, SIGKILL after `timeout` s."""
        if self.popen is None:
            return
        if self.running:
            os.killpg(self.popen.pid, sig)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.popen.pid, signal.SIGKILL)
                self.popen.wait()
        self.popen = None

    def freeze(self) -> None:
        """Stop the process's clock: it keeps its sockets and answers nothing."""
        assert self.popen is not None
        os.killpg(self.popen.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self.popen is not None
        os.killpg(self.popen.pid, signal.SIGCONT)

    def output(self) -> str:
        """What the process has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
