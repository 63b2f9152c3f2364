"""When is a series, a study complete?

DICOM has no "end of series".  In falling order of trust: the header's own count, a count that the PACS repeats,
a quiet time, a hard cap.  :func:`decide` is a pure function of a ledger row and the clock;
:class:`Completion` carries out what it says.  Every timer is a row in the ledger, so a restart forgets nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict, TypeVar

from qc_node.domain import ClosedBy
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow, StudyRow
from qc_node.series.headers import expected

Name = TypeVar("Name", str, int)
AskPacsFor = Callable[[str, str], int | None]
"""(study UID, series UID) to the number of instances that the PACS has; None when it does not say."""

PACS_INTERVAL_S = 3.0
"""A PACS that is still receiving agrees with a partial count; two queries this far apart must say the same."""

ARRIVING_S = 0.5
"""A series that got an instance so recently is still arriving."""

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

    quiet_s: float = 5.0
    hard_cap_s: float = 600.0
    study_quiet_s: float = 300.0
    ask_pacs: bool = True
    quiet_s_by_ae: Mapping[str, float] = field(default_factory=dict)
    pacs_first_ask_s: float = 0.5
    settle_s: float = 1.0
    pacs_rest_s: float = 30.0

    def quiet_of(self, calling_ae: str) -> float:
        """The quiet time of one sender."""
        return self.quiet_s_by_ae.get(calling_ae, self.quiet_s)


@dataclass(frozen=True, slots=True)
class Close:
    """Close by this rule."""

    rule: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide anew at this time, or when something arrives."""

    until: float


@dataclass(frozen=True, slots=True)
class AskPacs:
    """Ask the PACS now, note its answer in the row, and decide anew."""


@dataclass(frozen=True, slots=True)
class PacsAnswer:
    """The PACS was asked and the row knows what it said; it is not asked again at once."""

    count: int | None


Decision = Close | Wait | AskPacs


class OpenSeries(TypedDict):
    """What a decision needs of an open series: columns of its row, and when this run's first instance came."""

    instances: int
    expected: int | None
    expected_rule: str | None
    opened_at: float
    last_received: float
    pacs_count: int | None
    pacs_count_since: float | None
    pacs_asked_at: float | None
    calling_ae: str


def decide(
    row: OpenSeries, now: float, settings: CompletionPolicy, pacs_answer: PacsAnswer | None = None
) -> Decision:
    """What to do with an open series.

    Parameters
    ----------
    row
        The series in the ledger.
    now
        Seconds since the epoch.
    pacs_answer
        Given when the PACS has just been asked; None when not.  A count of None means that it did not say.
    """
    last = row["last_received"]
    waits: list[float] = []

    if row["expected"] is not None and row["expected"] == row["instances"]:
        believed_at = last + (settings.settle_s if row["expected_rule"] in expected.WEAK else 0.0)
        if now >= believed_at or now < last:
            return Close(f"{ClosedBy.HEADER}: {row['expected_rule']}")
        waits.append(believed_at)

    if _pacs_agrees(row):
        return Close(f"{ClosedBy.PACS}: {row['pacs_count']} instances, unchanged for {PACS_INTERVAL_S:.0f} s")

    quiet_s = settings.quiet_of(row["calling_ae"])
    if now >= last + quiet_s or now < last - CLOCK_BACK_S:
        return Close(f"{ClosedBy.QUIET}: nothing new for {quiet_s:g} s")
    waits.append(last + quiet_s)

    if now >= row["opened_at"] + settings.hard_cap_s:
        return Close(f"{ClosedBy.HARD_CAP}: open for {settings.hard_cap_s:g} s")
    waits.append(row["opened_at"] + settings.hard_cap_s)

    if settings.ask_pacs:
        ask_at = _next_question(row, now, settings, pacs_answer)
        if ask_at <= now and pacs_answer is None:
            return AskPacs()
        waits.append(ask_at)
    return Wait(min(waits))


def _pacs_agrees(row: OpenSeries) -> bool:
    """Whether two answers at least three seconds apart, both after our last instance, name our count."""
    since, asked = row["pacs_count_since"], row["pacs_asked_at"]
    return (
        since is not None
        and asked is not None
        and row["pacs_count"] == row["instances"]
        and since >= row["last_received"]
        and asked - since >= PACS_INTERVAL_S
    )


def _next_question(row: OpenSeries, now: float, settings: CompletionPolicy, answer: PacsAnswer | None) -> float:
    first = float(row["last_received"]) + settings.pacs_first_ask_s
    asked = row["pacs_asked_at"] if answer is None else now
    if asked is None:
        return first
    rest = settings.pacs_rest_s if answer is not None and answer.count is None else PACS_INTERVAL_S
    return float(max(first, min(asked, now) + rest))


def _open_series(row: SeriesRow, opened_at: float) -> OpenSeries:
    return {
        "instances": row["instances"],
        "expected": row["expected"],
        "expected_rule": row["expected_rule"],
        "opened_at": opened_at,
        "last_received": row["last_received"],
        "pacs_count": row["pacs_count"],
        "pacs_count_since": row["pacs_count_since"],
        "pacs_asked_at": row["pacs_asked_at"],
        "calling_ae": row["calling_ae"],
    }


class Completion:
    """Closes what is due.

    Parameters
    ----------
    ask_pacs
        Called with study and series UID; must come back within seconds.
    on_closed
        Called with ``"series"`` or ``"study"`` and the UID, after the ledger knows.
    """

    def __init__(
        self,
        settings: CompletionPolicy,
        ledger: Ledger,
        *,
        ask_pacs: AskPacsFor | None = None,
        on_closed: Callable[[str, str], None] = lambda kind, uid: None,
    ) -> None:
        self._settings = settings if ask_pacs is not None else replace(settings, ask_pacs=False)
        self._ledger = ledger
        self._ask = ask_pacs
        self._on_closed = on_closed
        self._pacs_rests_until = 0.0
        self._unsaved = math.inf

    def step(self, now: float) -> float | None:
        """Close what is due at `now`; returns when the next timer runs out, None when nothing is open.

        Safe to repeat, and to be killed at any point.
        """
        self._unsaved = math.inf
        to_ask = [row for row in self._ledger.series.due(now) if not self._settle(row, now, None)]
        for row in to_ask:
            self._question(row, now)
        for study in self._ledger.studies.due(now):
            self._settle_study(study, now)
        timers = [t for t in (self._ledger.series.next_due(), self._ledger.studies.next_due()) if t is not None]
        if timers and min(timers) <= now:  # rows that something still arrives for
            return min(self._unsaved, now + ARRIVING_S / 2)
        return min(timers, default=None)

    def _set_timer(
        self, save: Callable[[Name, float, float], None], name: Name, last: float, until: float, now: float
    ) -> None:
        """Persist a timer, but not between two images: each write costs a sync that reception needs.

        The row then stays due, so the next step, or the next process, decides anew.
        """
        if 0 <= now - last < ARRIVING_S:
            self._unsaved = min(self._unsaved, until)
        else:
            save(name, last, until)

    def _settle(self, row: SeriesRow, now: float, answer: PacsAnswer | None) -> bool:
        """Close the series or set its timer; False when the PACS must be asked first."""
        series_id, last = row["series_id"], row["last_received"]
        if answer is None and now < self._pacs_rests_until:
            answer = PacsAnswer(None)
        decision = decide(_open_series(row, self._opened_at(row)), now, self._settings, answer)
        if isinstance(decision, AskPacs):
            return False
        if isinstance(decision, Wait):
            self._set_timer(self._ledger.series.set_due, series_id, last, decision.until, now)
        elif self._ledger.series.close(series_id, last, decision.rule, now):
            self._on_closed("series", row["series_uid"])
        return True

    def _question(self, row: SeriesRow, now: float) -> None:
        assert self._ask is not None
        if now < self._pacs_rests_until:
            count = None
        else:
            count = self._ask(row["study_uid"], row["series_uid"])
            if count is None:
                self._pacs_rests_until = now + self._settings.pacs_rest_s
        self._ledger.series.set_pacs_count(row["series_id"], count, now)
        current = self._ledger.series.by_id(row["series_id"])
        if current is not None and current["state"] == "receiving":
            self._settle(current, now, PacsAnswer(count))

    def _opened_at(self, row: SeriesRow) -> float:
        """When the first instance of this run came: for a re-opened series, the first after it was closed."""
        if row["run"] == 1:
            return float(row["first_received"])
        events = self._ledger.series.events(row["series_id"])
        closed = max((e["at"] for e in events if e["event"] == "closed"), default=row["first_received"])
        arrivals = (i["received_at"] for i in self._ledger.instances.of_series(row["series_id"]))
        return float(min((at for at in arrivals if at > closed), default=row["last_received"]))

    def _settle_study(self, study: StudyRow, now: float) -> None:
        study_uid, last = study["study_uid"], study["last_received"]
        open_timers = [
            row["due_at"] or 0.0 for row in self._ledger.series.of_study(study_uid) if row["state"] == "receiving"
        ]
        due = last + self._settings.study_quiet_s
        if last - CLOCK_BACK_S > now:
            due = now
        if open_timers:
            until = max(due, now + 1.0, min(open_timers))
            self._set_timer(self._ledger.studies.set_due, study_uid, last, until, now)
        elif now < due:
            self._set_timer(self._ledger.studies.set_due, study_uid, last, due, now)
        elif self._ledger.studies.close(
            study_uid, last, f"{ClosedBy.QUIET}: nothing new for {self._settings.study_quiet_s:g} s", now
        ):
            self._on_closed("study", study_uid)
