"""One supervised child process that speaks JSON lines: the parent's end, and the child's.

A child is a module of this program, started by ``exec``: it inherits nothing but the descriptors it is given.  On
its standard input it gets one JSON object per line, first its settings (a command line would show them to every
user of the machine); end of file there means that the parent is gone.  On its standard output it says one JSON
object per line, each with an ``event``; ``ready`` means that it works.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import qc_node

Message = Mapping[str, Any]

STEADY_S = 60.0
"""A child that lived for so long did not fail at its start: the pause before the next one begins anew."""
WATCH_S = 0.5
"""How often the watchdog looks."""
JOIN_S = 5.0
"""How long the supervising thread may take to notice that its child has ended."""


class ChildProcess:
    """Starts a module as a child and starts it again whenever it ends unasked.

    Parameters
    ----------
    module
        What ``python -m`` runs.
    settings
        The first line that the child reads.
    on_message
        Called with each message of the child, in the supervising thread; what it raises is logged.
    name
        Of the thread, and of the child in log lines: "classifier", "receiving".
    log
        Where starts that fail and unreadable lines go.
    on_end
        Called with the exit code (negative for a signal, None when it could not be started) each time a child
        ends without having been asked to.
    may_start
        Asked in the supervising thread before each start; while it says no, no child is started.
    is_stuck
        Asked twice a second while the child lives; when it says so the child is killed.
    pauses_s
        First and longest pause before the next start; doubled from start to start.
    pass_fds, environment
        Descriptors that the child inherits, and variables set for it.
    """

    def __init__(
        self,
        module: str,
        settings: Message,
        on_message: Callable[[Message], None],
        *,
        name: str,
        log: logging.Logger,
        on_end: Callable[[int | None], None] = lambda code: None,
        may_start: Callable[[], bool] = lambda: True,
        is_stuck: Callable[[], bool] | None = None,
        pauses_s: tuple[float, float] = (0.5, 30.0),
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._module = module
        self._settings = settings
        self._on_message = on_message
        self._name = name
        self._log = log
        self._on_end = on_end
        self._may_start = may_start
        self._is_stuck = is_stuck
        self._pauses_s = pauses_s
        self._pass_fds = tuple(pass_fds)
        self._environment = dict(environment or {})
        self.ready = threading.Event()
        """Set while a child is there that has said ``ready``."""
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    # -- life ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the child and the thread that looks after it; do not wait for it to be ready."""
        self._thread.start()

    def say(self, message: Message) -> None:
        """Send one message; a child that is just not there gets none."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._writing, contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()

    def change_settings(self, settings: Message) -> None:
        """What the next child reads first; one that lives is told by :meth:`say`, in words of its own."""
        self._settings = settings

    def ask_to_end(self, farewell: Message | None = None) -> None:
        """Ask the child to end, by a last message or else by SIGTERM, and start no other."""
        with self._starting:
            self._stopping.set()
        if farewell is not None:
            self.say(farewell)
        elif self._process is not None:
            self._process.terminate()

    def end(self, within_s: float) -> None:
        """Wait for a child that was asked to end; kill it when it takes longer than `within_s`."""
        process = self._process
        if process is not None:
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    # -- what others ask -----------------------------------------------------------------------------
    @property
    def pid(self) -> int | None:
        """Process id of the living child."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def alive(self) -> bool:
        """Whether a child is there that has said that it is ready."""
        return self.ready.is_set() and self.pid is not None

    # -- inside --------------------------------------------------------------------------------------
    def _supervise(self) -> None:
        first_s, longest_s = self._pauses_s
        pause_s = first_s
        while not self._stopping.is_set():
            if not self._allowed():
                self._stopping.wait(first_s)
                continue
            started = time.monotonic()
            code = self._run_guarded()
            self.ready.clear()
            if self._stopping.is_set():
                return
            self._guarded(self._on_end, code)
            if time.monotonic() - started > STEADY_S:
                pause_s = first_s
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, longest_s)

    def _allowed(self) -> bool:
        try:
            return self._may_start()
        except Exception:
            self._log.exception("the %s process cannot be started yet", self._name)
            return False

    def _run_guarded(self) -> int | None:
        """One child; where the machine lacks threads to look after it, it ends, and not the supervision."""
        try:
            return self._run_once()
        except Exception:
            self._log.exception("the %s process could not be looked after", self._name)
            return self._put_down()

    def _put_down(self) -> int | None:
        process = self._process
        if process is None:
            return None
        process.kill()
        return process.wait()

    def _run_once(self) -> int | None:
        process = self._launch()
        if process is None:
            return None
        assert process.stdin is not None and process.stdout is not None
        try:
            if self._is_stuck is not None:
                name = f"{self._name}-watch"
                threading.Thread(
                    target=self._watch, args=(process, self._is_stuck), name=name, daemon=True
                ).start()
            self._listen(process.stdout)
        except BaseException:
            process.kill()  # nobody listens to it any more
            raise
        finally:
            process.stdout.close()
            code = process.wait()
            with self._writing, contextlib.suppress(OSError):
                process.stdin.close()
        return code

    def _launch(self) -> subprocess.Popen[bytes] | None:
        """Start one child and tell it its settings; None when that is not wanted any more, or not possible."""
        with self._starting:
            if self._stopping.is_set():
                return None
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=self._pass_fds,
                    env=_environment(self._environment),
                )
            except OSError as error:
                self._log.error("the %s process could not be started: %s", self._name, error.strerror or error)
                return None
            self.say(self._settings)
            return self._process

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                if line.endswith(b"\n"):  # else the child was killed in the middle of a line
                    self._log.warning("the %s process said something unreadable", self._name)
                continue
            if message.get("event") == "ready":
                self.ready.set()
            self._guarded(self._on_message, message)

    def _guarded(self, call: Callable[[Any], None], value: object) -> None:
        try:
            call(value)
        except Exception:
            self._log.exception("what the %s process said could not be handled", self._name)

    def _watch(self, process: subprocess.Popen[bytes], is_stuck: Callable[[], bool]) -> None:
        while process.poll() is None:
            if is_stuck():
                process.kill()
                return
            time.sleep(WATCH_S)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """The parent's environment; the child imports the same ``qc_node``, wherever that came from."""
    environment = {**os.environ, **more}
    root = str(Path(qc_node.__file__).resolve().parent.parent)
    if root != sysconfig.get_path("purelib"):
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    return environment


class ParentProcess:
    """The child's end.

    From now on whatever a library prints goes to standard error, because it must not look like a message.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal, a reload: the parent's business
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._writing = threading.Lock()

    def say(self, message: Message) -> None:
        """Send one message, from any thread; that the parent is gone is no error here."""
        line = json.dumps(message).encode() + b"\n"
        with self._writing, contextlib.suppress(OSError):
            while line:
                line = line[os.write(self._out, line) :]

    def hear(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the parent is gone.

        Nothing beyond its line is read, so :mod:`select` tells whether there is another.
        """
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = os.read(0, 1)
            if not byte:
                return None
            line += byte
        message: dict[str, Any] = json.loads(line)
        return message
