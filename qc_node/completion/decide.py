"""When is a series, a study complete?  Pure functions of what the ledger knows and of the clock.

DICOM has no "end of series".  In falling order of trust: the header's own count, a count that the PACS repeats,
a quiet time, a hard cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qc_node.domain import ClosedBy
from qc_node.series.headers import expected

PACS_INTERVAL_S = 3.0
"""A PACS that is still receiving agrees with a partial count; two queries this far apart must say the same."""

CLOCK_BACK_S = 5.0
"""A clock that went back by more than this would keep a quiet series open: it is closed instead."""


@dataclass(frozen=True)
class CompletionPolicy:
    """When series and studies count as complete; times in seconds.

    Attributes
    ----------
    quiet_s, quiet_s_by_ae
        A series without a new instance for so long is closed; by calling AE title where one needs longer.
    hard_cap_s
        A series is closed so long after its first instance even while more come in.
    study_quiet_s
        A study whose series are all closed is closed after so long without a new instance.
    ask_pacs
        Whether the PACS is asked for its count.
    pacs_first_ask_s
        Silence before the PACS is asked for the first time.
    settle_s
        Silence before a count is believed that may be the count of a part of the series.
    pacs_rest_s
        A PACS that did not answer is left alone for so long.
    """

    quiet_s: float
    hard_cap_s: float
    study_quiet_s: float
    ask_pacs: bool
    quiet_s_by_ae: Mapping[str, float]
    pacs_first_ask_s: float = 0.5
    settle_s: float = 1.0
    pacs_rest_s: float = 30.0

    def quiet_of(self, calling_ae: str) -> float:
        """The quiet time of one sender."""
        return self.quiet_s_by_ae.get(calling_ae, self.quiet_s)

    @property
    def longest_s(self) -> float:
        """No series and no study waits longer for its next decision."""
        return max(self.quiet_s, *self.quiet_s_by_ae.values(), self.hard_cap_s, self.study_quiet_s)


@dataclass(frozen=True, slots=True)
class OpenSeries:
    """What the ledger knows of a series that is still open; times in seconds since the epoch.

    Attributes
    ----------
    instances
        How many there are.
    expected, expected_rule
        How many there should be by the header, and what in it says so; None when it does not say.
    opened_at, last_received
        When the first instance of this run came, and the last one.
    pacs_count, pacs_count_since, pacs_asked_at
        What the PACS said last, since when it says so, and when it was asked last; None before it was.  A count
        of None since some time: it did not say.
    """

    calling_ae: str
    instances: int
    opened_at: float
    last_received: float
    expected: int | None = None
    expected_rule: str | None = None
    pacs_count: int | None = None
    pacs_count_since: float | None = None
    pacs_asked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close, and note this rule; it begins with a :class:`~qc_node.domain.ClosedBy`."""

    rule: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide anew at this time, or when something arrives."""

    until: float


@dataclass(frozen=True, slots=True)
class AskPacs:
    """Ask the PACS now; decide anew when its answer is in the ledger, and at this time in any case."""

    until: float


Decision = Close | Wait | AskPacs


def decide(series: OpenSeries, now: float, policy: CompletionPolicy, pacs_rests_until: float = 0.0) -> Decision:
    """What to do with an open series.

    Parameters
    ----------
    now
        Seconds since the epoch.
    pacs_rests_until
        The PACS is not asked before, because it did not answer somebody else.
    """
    last = series.last_received
    waits: list[float] = []

    if series.expected is not None and series.expected == series.instances:
        believed_at = last + (policy.settle_s if series.expected_rule in expected.WEAK else 0.0)
        if now >= believed_at or now < last:
            return Close(f"{ClosedBy.HEADER}: {series.expected_rule}")
        waits.append(believed_at)

    if _pacs_agrees(series):
        return Close(f"{ClosedBy.PACS}: {series.pacs_count} instances, unchanged for {PACS_INTERVAL_S:.0f} s")

    quiet_s = policy.quiet_of(series.calling_ae)
    if now >= last + quiet_s or now < last - CLOCK_BACK_S:
        return Close(_quiet(quiet_s))
    waits.append(last + quiet_s)

    if now >= series.opened_at + policy.hard_cap_s:
        return Close(f"{ClosedBy.HARD_CAP}: open for {policy.hard_cap_s:g} s")
    waits.append(series.opened_at + policy.hard_cap_s)

    if policy.ask_pacs:
        ask_at = max(_next_question(series, now, policy), pacs_rests_until)
        if ask_at <= now:
            return AskPacs(min(waits))
        waits.append(ask_at)
    return Wait(min(waits))


def _quiet(seconds: float) -> str:
    return f"{ClosedBy.QUIET}: nothing new for {seconds:g} s"


def _pacs_agrees(series: OpenSeries) -> bool:
    """Whether two answers at least three seconds apart, both after our last instance, name our count."""
    since, asked = series.pacs_count_since, series.pacs_asked_at
    return (
        since is not None
        and asked is not None
        and series.pacs_count == series.instances
        and since >= series.last_received
        and asked - since >= PACS_INTERVAL_S
    )


def _next_question(series: OpenSeries, now: float, policy: CompletionPolicy) -> float:
    first = series.last_received + policy.pacs_first_ask_s
    if series.pacs_asked_at is None:
        return first
    unsaid = series.pacs_count is None and series.pacs_count_since is not None  # without both: an image came since
    rest = policy.pacs_rest_s if unsaid else PACS_INTERVAL_S
    return max(first, min(series.pacs_asked_at, now) + rest)


def decide_study(
    last_received: float, open_timers: Iterable[float], now: float, policy: CompletionPolicy
) -> Close | Wait:
    """What to do with an open study.

    Parameters
    ----------
    last_received
        When its last instance came.
    open_timers
        When each of its series that are still open is looked at again.
    """
    due = last_received + policy.study_quiet_s
    if last_received - CLOCK_BACK_S > now:
        due = now
    timers = list(open_timers)
    if timers:
        return Wait(max(due, now + 1.0, min(timers)))
    return Wait(due) if now < due else Close(_quiet(policy.study_quiet_s))
