"""Is the node alive, and is it able to take and deliver work?

Checks return values; whoever asks (``/healthz``, ``/readyz``, ``/metrics``, ``doctor``) decides how to show
them.  *Alive* means that a restart would not help; *ready* means that images can come in, be judged and
go out.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger, LedgerDamagedError
from qc_node.periodic import Periodic
from qc_node.spool import Spool


class HealthCode(StrEnum):
    """What a check found."""

    OK = "ok"
    """Nothing to complain about."""
    LEDGER_NOT_WRITABLE = "ledger_not_writable"
    """No row can be written: the SQLite file is locked, read-only, full or gone.  Nothing may be acknowledged."""
    LEDGER_DAMAGED = "ledger_damaged"
    """The SQLite file is damaged: what it says cannot be relied on, and a restart does not mend it."""
    DISK_LOW = "disk_low"
    """Less free space than ``[disk] low_watermark_gb``: images are refused with 0xA700."""
    SPOOL_NOT_WRITABLE = "spool_not_writable"
    """No image can be written, synced and given its name in the data folder."""
    RECEPTION_DOWN = "reception_down"
    """Nobody listens on the DICOM port, or whoever does hangs."""
    OBJECTS_REFUSED = "objects_refused"
    """The last objects were all refused for a reason of ours, such as 0xA700."""
    WORKER_DOWN = "worker_down"
    """The classifier process is not there, or cannot begin: weights that are missing or altered, no such GPU."""
    WORKER_LOADING = "worker_loading"
    """The classifier process verifies and loads its models; images are taken, and series wait for it."""
    WORKER_STUCK = "worker_stuck"
    """Series wait, and none has been taken for too long."""
    WORKER_HELD_UP = "worker_held_up"
    """The classifier meets a fault of the machine (memory, descriptors, disk, ledger, GPU); series wait."""
    OUTBOX_STUCK = "outbox_stuck"
    """The oldest report has waited for too long: the destination does not take it."""
    LOOP_STUCK = "loop_stuck"
    """A loop of the node has ended, fails again and again, or does not come to the end of a step."""
    DRAINING = "draining"
    """An operator wants the node to finish and take nothing new (``qc-node drain``)."""
    CHECK_FAILED = "check_failed"
    """The check itself could not be carried out."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check: a short name, what was found, and a sentence for people (empty when all is well)."""

    name: str
    code: HealthCode = HealthCode.OK
    sentence: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.code is HealthCode.OK


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All checks of one question; ``takes`` tells of ``/readyz`` how many come first that taking images needs."""

    checks: tuple[HealthCheck, ...]
    takes: int | None = None

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def http_status(self) -> int:
        """200, or 503 (Service Unavailable)."""
        return 200 if self.ok else 503

    def as_json(self) -> str:
        """``{"status": "ok"|"failing", "checks": [{"name", "code", "sentence"}]}``.

        ``/readyz`` also has ``takes`` and ``delivers``: whether images can come in, and whether they can be judged
        and reports go out.
        """
        said: dict[str, object] = {"status": "ok" if self.ok else "failing"}
        if self.takes is not None:
            said["takes"] = all(check.passed for check in self.checks[: self.takes])
            said["delivers"] = all(check.passed for check in self.checks[self.takes :])
        said["checks"] = [{"name": c.name, "code": c.code.value, "sentence": c.sentence} for c in self.checks]
        return json.dumps(said)


Probe = Callable[[], HealthCheck]

LOOK_S = 1.0
"""How often the cause of refusals is looked for while they go on, in seconds."""


class Health:
    """The node's checks, asked afresh each time.

    Parameters
    ----------
    vital
        Checks that only a restart can mend; they make ``/healthz``.
    working
        What judging and delivering needs.
    taking
        What taking images needs beside the vital ones; all together they make ``/readyz``.
    """

    def __init__(
        self, vital: Sequence[Probe], working: Sequence[Probe] = (), taking: Sequence[Probe] = ()
    ) -> None:
        self._vital = tuple(vital)
        self._taking = (*self._vital, *taking)
        self._working = tuple(working)

    def alive(self) -> HealthReport:
        """What ``/healthz`` says."""
        return HealthReport(tuple(_ask(probe) for probe in self._vital))

    def takes(self) -> HealthReport:
        """What ``/readyz/takes`` says: can images come in, whether or not they can be judged at once?"""
        return HealthReport(tuple(_ask(probe) for probe in self._taking))

    def ready(self) -> HealthReport:
        """What ``/readyz`` says."""
        checks = tuple(_ask(probe) for probe in (*self._taking, *self._working))
        return HealthReport(checks, takes=len(self._taking))

    def answer(self, path: str) -> HealthReport | None:
        """What is said at an address; None where there is nothing."""
        asked = {"/healthz": self.alive, "/readyz": self.ready, "/readyz/takes": self.takes}.get(path)
        return None if asked is None else asked()


def _ask(probe: Probe) -> HealthCheck:
    try:
        return probe()
    except Exception as error:
        name = getattr(probe, "check_name", "check")
        return HealthCheck(name, HealthCode.CHECK_FAILED, f"The check could not be made ({type(error).__name__}).")


def _named(name: str, ask: Callable[[], tuple[HealthCode, str] | None]) -> Probe:
    def probe() -> HealthCheck:
        fault = ask()
        return HealthCheck(name) if fault is None else HealthCheck(name, *fault)

    probe.check_name = name  # type: ignore[attr-defined]
    return probe


# -- the checks ------------------------------------------------------------------------------------------
def receiver_probe(listening: Callable[[], bool]) -> Probe:
    """``reception``: connections to the DICOM port are taken."""

    def ask() -> tuple[HealthCode, str] | None:
        return None if listening() else (HealthCode.RECEPTION_DOWN, "Nobody takes connections on the DICOM port.")

    return _named("reception", ask)


def ledger_probe(ledger: Ledger) -> Probe:
    """``ledger``: a row can be written, and nothing has shown that the file is damaged."""

    def ask() -> tuple[HealthCode, str] | None:
        if ledger.damage is not None:
            return HealthCode.LEDGER_DAMAGED, ledger.damage
        try:
            ledger.prove_writable()
        except LedgerDamagedError as error:
            return HealthCode.LEDGER_DAMAGED, str(error)
        except QcNodeError as error:
            return HealthCode.LEDGER_NOT_WRITABLE, str(error)
        return None

    return _named("ledger", ask)


def disk_probe(spool: Spool, low_watermark_bytes: float) -> Probe:
    """``disk``: what is done with an image can be done, and more is free than the watermark."""

    def ask() -> tuple[HealthCode, str] | None:
        try:
            spool.prove_writable()
        except OSError as error:
            return HealthCode.SPOOL_NOT_WRITABLE, f"The data folder cannot be written: {error.strerror or error}."
        free = spool.free_bytes()
        if free < low_watermark_bytes:
            return (
                HealthCode.DISK_LOW,
                f"Only {free / 1e9:.1f} GB are free; below {low_watermark_bytes / 1e9:g} GB images are refused.",
            )
        return None

    return _named("disk", ask)


class RecentObjects:
    """How the last objects were answered, and whether that still says something.

    While objects are refused the `causes` are looked at.  Refusals that one of them explained are over as soon as
    all of them pass; others, whose cause nobody knows, only with a success or after `within_s`.

    Parameters
    ----------
    clock
        Monotonic seconds.
    count
        So many refusals without a success between them are no accident.
    within_s
        Only answers of the last so many seconds count: a sender that stays away proves nothing.
    causes
        Checks that do what is done with an object.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        count: int = 5,
        within_s: float = 300.0,
        causes: Sequence[Probe] = (),
    ) -> None:
        self._clock = clock
        self._within_s = within_s
        self._causes = tuple(causes)
        self._answers: deque[tuple[float, int]] = deque(maxlen=count)
        self._looked_at = -math.inf
        self._explained_at = -math.inf

    def note(self, status: int) -> None:
        """An object was answered with `status`."""
        now = self._clock()
        self._answers.append((now, status))
        if is_ours(status) and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            if not self._causes_pass():
                self._explained_at = now

    def all_refused(self) -> bool:
        """Whether the last objects were all refused for a reason of ours that may still be there."""
        since = self._clock() - self._within_s
        answers = list(self._answers)
        if len(answers) < (self._answers.maxlen or 0) or not all(
            at >= since and is_ours(status) for at, status in answers
        ):
            return False
        if self._explained_at >= answers[0][0] and self._causes_pass():
            self._answers.clear()
            return False
        return True

    def _causes_pass(self) -> bool:
        return all(_ask(probe).passed for probe in self._causes)


def is_ours(status: int) -> bool:
    """Whether a C-STORE status says that the fault is with us: out of resources, or processing failure."""
    return status & 0xFF00 == 0xA700 or status == 0x0110


def objects_probe(recent: RecentObjects) -> Probe:
    """``objects``: not all of the last objects were refused for a reason of ours."""

    def ask() -> tuple[HealthCode, str] | None:
        if not recent.all_refused():
            return None
        return (
            HealthCode.OBJECTS_REFUSED,
            "The last objects were all refused as out of resources; the log says why.",
        )

    return _named("objects", ask)


UNTAKEN_S = 30.0
"""A classifier at rest looks at the queue every second; nobody's series waits for so many while it is well."""


def worker_probe(
    alive: Callable[[], bool],
    ledger: Ledger,
    clock: Callable[[], float],
    stuck_s: float,
    loading: Callable[[], bool] = lambda: False,
    fault: Callable[[], str] = lambda: "",
    trouble: Callable[[], str] = lambda: "",
    rest_s: Callable[[], float] = lambda: 0.0,
) -> Probe:
    """``worker``: the classifier is there, takes what is queued, and judges none for longer than `stuck_s`.

    Where it is not, `loading` tells whether it is about to be, and `fault` why it cannot be.  `trouble` is what of
    the machine's keeps it from judging, `rest_s` for how many seconds it has neither taken nor ended a series.
    """

    def ask() -> tuple[HealthCode, str] | None:
        if not alive():
            if not fault() and loading():
                sentence = "The models are being verified and loaded; images are taken, and series wait."
                return HealthCode.WORKER_LOADING, sentence
            return HealthCode.WORKER_DOWN, fault() or "The classifier process is not running."
        if trouble():
            return HealthCode.WORKER_HELD_UP, trouble()
        waiting = ledger.series.waiting_since()
        judging, queued = waiting.get("judging"), waiting.get("queued")
        if judging is None and queued is not None and min(clock() - queued, rest_s()) > UNTAKEN_S:
            return HealthCode.WORKER_STUCK, f"Series wait, and none was taken for more than {UNTAKEN_S:g} s."
        if judging is not None and clock() - judging > stuck_s:
            return HealthCode.WORKER_STUCK, f"One series has been judged for more than {stuck_s:g} s."
        return None

    return _named("worker", ask)


def drain_probe(draining: Callable[[], bool]) -> Probe:
    """``drain``: no operator wants the node to take nothing new."""

    def ask() -> tuple[HealthCode, str] | None:
        if not draining():
            return None
        sentence = "The node takes nothing new (qc-node drain); a start, or qc-node drain --cancel, ends that."
        return HealthCode.DRAINING, sentence

    return _named("drain", ask)


def outbox_probe(ledger: Ledger, clock: Callable[[], float], stuck_s: float) -> Probe:
    """``outbox``: no report has waited for its destination longer than `stuck_s`.

    One that the destination does not take while it takes others is no fault of the node's; an alert tells of it.
    """

    def ask() -> tuple[HealthCode, str] | None:
        oldest = ledger.deliveries.oldest_held_up()
        if oldest is None or clock() - oldest <= stuck_s:
            return None
        waiting = ledger.deliveries.unfinished_counts().get("pending", 0)
        return (
            HealthCode.OUTBOX_STUCK,
            f"{waiting} reports wait for their destination, the oldest for {(clock() - oldest) / 60:.0f} min.",
        )

    return _named("outbox", ask)


def loops_probe(loops: Callable[[], Iterable[Periodic]]) -> Probe:
    """``loops``: each of the node's loops runs, and comes to the end of its steps."""

    def ask() -> tuple[HealthCode, str] | None:
        said = [f"The loop {loop.name} {fault}." for loop in loops() if (fault := loop.fault()) is not None]
        return (HealthCode.LOOP_STUCK, f"{' '.join(said)} The log says why.") if said else None

    return _named("loops", ask)
