"""Moments of the wall clock, kept right by a clock that does not jump."""

from __future__ import annotations

from collections.abc import Container, Hashable

JUMP_S = 1.0
"""A wall clock that differs by less from what the steady clock makes of it was not set: it was corrected."""
AHEAD_S = 5.0
"""A moment that lies ahead by more belongs to a clock that was wrong."""


class SteadyTimes:
    """What the wall clock would have said of past moments, had it always been right as it is now.

    Rows carry wall time, because they must outlive the process.  When the clock is set, a row may lie in the
    future, or hours back though it was written a second ago.  So each moment is noted here, when it is first
    seen, with its age by the steady clock; from then on only that clock ages it.  A moment that is seen first
    in a new process has the age that the wall clock gives it; one that lies ahead by more than :data:`AHEAD_S`
    is taken as now.

    Examples
    --------
    >>> times = SteadyTimes()
    >>> times.of("series 1", 1000.0, now=1000.0, steady=5.0)
    1000.0
    >>> times.of("series 1", 1000.0, now=1000.0 - 7200.0 + 2.0, steady=7.0)  # two seconds later, two hours back
    -6200.0
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, float]] = {}

    def of(self, name: Hashable, at: float, now: float, steady: float) -> float:
        """The moment `at` of `name` by the present wall clock; never ahead by more than :data:`AHEAD_S`.

        Parameters
        ----------
        at
            What the row says, in seconds since the epoch; another value is another moment.
        now, steady
            The wall clock and the steady clock, at the same time.
        """
        known = self._seen.get(name)
        if known is None or known[0] != at:
            known = self._seen[name] = (at, steady - (now - at if at - now <= AHEAD_S else 0.0))
        told = now - (steady - known[1])
        return at if abs(told - at) <= JUMP_S else told

    def forget(self, name: Hashable) -> None:
        """What is over needs no clock."""
        self._seen.pop(name, None)

    def keep(self, names: Container[Hashable]) -> None:
        """Forget everything but these."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
