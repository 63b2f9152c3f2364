"""Closes what is complete, as :mod:`qc_node.completion.decide` says.

Every timer is a row in the ledger, so a restart forgets nothing.  What this process saw arrive is aged by the
steady clock: a wall clock that is set, either way, neither holds a series open nor closes one that still arrives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from qc_node.completion.asking import PacsQuestions
from qc_node.completion.decide import (
    AskPacs,
    CompletionPolicy,
    OpenSeries,
    Wait,
    decide,
    decide_study,
)
from qc_node.domain import SteadyTimes
from qc_node.domain.steady import JUMP_S
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow, StudyRow

Name = TypeVar("Name", str, int)
ARRIVING_S = 0.5
"""A series that got an instance so recently is still arriving."""


def _open_series(row: SeriesRow, opened_at: float, last_received: float) -> OpenSeries:
    return OpenSeries(
        calling_ae=row["calling_ae"],
        instances=row["instances"],
        opened_at=opened_at,
        last_received=last_received,
        expected=row["expected"],
        expected_rule=row["expected_rule"],
        pacs_count=row["pacs_count"],
        pacs_count_since=row["pacs_count_since"],
        pacs_asked_at=row["pacs_asked_at"],
    )


class Completion:
    """Closes what is due.

    Parameters
    ----------
    settings
        When series and studies count as complete.
    questions
        Asks the PACS, and answers by a row; nothing here waits for it.
    on_closed
        Called with ``"series"`` or ``"study"`` and the UID, after the ledger knows.
    """

    def __init__(
        self,
        settings: CompletionPolicy,
        ledger: Ledger,
        *,
        questions: PacsQuestions | None = None,
        on_closed: Callable[[str, str], None] = lambda kind, uid: None,
    ) -> None:
        self._ledger = ledger
        self._questions = questions
        self._on_closed = on_closed
        self._times = SteadyTimes()
        self._opened: dict[int, tuple[int, float]] = {}
        self._unsaved = math.inf
        self.apply(settings)

    def step(self, now: float, steady: float | None = None) -> float | None:
        """Close what is due at `now`; returns when the next timer runs out, None when nothing is open.

        Safe to repeat, and to be killed at any point.

        Parameters
        ----------
        now
            Seconds since the epoch.
        steady
            Seconds of a clock that nobody sets (:func:`time.monotonic`); None: `now` is such a clock.
        """
        steady = now if steady is None else steady
        longest_s = self._settings.longest_s
        until = math.inf if self._clock_was_set(now, steady) else now
        self._unsaved = math.inf
        for row in self._ledger.series.due(until, longest_s):
            self._settle(row, now, steady)
        for study in self._ledger.studies.due(until, longest_s):
            self._settle_study(study, now, steady)
        timers = [t for t in (self._ledger.series.next_due(), self._ledger.studies.next_due()) if t is not None]
        if timers and min(timers) <= now:  # rows that something still arrives for
            return min(self._unsaved, now + ARRIVING_S / 2)
        return min(timers, default=None)

    def apply(self, settings: CompletionPolicy) -> None:
        """Go on with these times; the next step looks at everything that is open."""
        self._settings = settings if self._questions is not None else replace(settings, ask_pacs=False)
        self._offset: float | None = None

    def _clock_was_set(self, now: float, steady: float) -> bool:
        """Whether timers of before mean another time now; so in a new process, which cannot know."""
        before, self._offset = self._offset, now - steady
        return before is None or abs(self._offset - before) > JUMP_S

    def _set_timer(
        self,
        save: Callable[[Name, float, float], None],
        name: Name,
        row: SeriesRow | StudyRow,
        until: float,
        now: float,
        age_s: float,
    ) -> None:
        """Persist a timer, but not between two images: each write costs a sync that the receiver needs.

        The row then stays due, so the next step, or the next process, decides anew.  A row from the future comes
        each time; its timer is written once.
        """
        set_before = row["due_at"] is not None and row["due_at"] > now and abs(row["due_at"] - until) < ARRIVING_S
        if 0 <= age_s < ARRIVING_S:
            self._unsaved = min(self._unsaved, until)
        elif not set_before:
            save(name, row["last_received"], until)

    def _settle(self, row: SeriesRow, now: float, steady: float) -> None:
        """Close the series, or set its timer and perhaps have the PACS asked."""
        series_id = row["series_id"]
        last = self._times.of(("last", series_id), row["last_received"], now, steady)
        opened_at = self._times.of(("opened", series_id), self._opened_at(row), now, steady)
        rests_until = self._questions.rests_until(now) if self._questions is not None else 0.0
        decision = decide(_open_series(row, opened_at, last), now, self._settings, rests_until)
        if isinstance(decision, Wait | AskPacs):
            self._set_timer(self._ledger.series.set_due, series_id, row, decision.until, now, now - last)
        elif self._ledger.series.close(series_id, row["last_received"], decision.rule, now):
            self._forget(series_id)
            self._on_closed("series", row["series_uid"])
        if isinstance(decision, AskPacs) and self._questions is not None:
            self._questions.put(series_id)

    def _forget(self, series_id: int) -> None:
        self._times.forget(("last", series_id))
        self._times.forget(("opened", series_id))
        self._opened.pop(series_id, None)

    def _opened_at(self, row: SeriesRow) -> float:
        """When the first instance of this run came, looked up once."""
        run, at = self._opened.get(row["series_id"], (0, 0.0))
        if run != row["run"]:
            at = float(row["first_received"]) if row["run"] == 1 else self._reopened_at(row)
            self._opened[row["series_id"]] = row["run"], at
        return at

    def _reopened_at(self, row: SeriesRow) -> float:
        """When the first instance came after the series was closed."""
        events = self._ledger.series.events(row["series_id"])
        closed = max((e["at"] for e in events if e["event"] == "closed"), default=row["first_received"])
        arrivals = (i["received_at"] for i in self._ledger.instances.of_series(row["series_id"]))
        return float(min((at for at in arrivals if at > closed), default=row["last_received"]))

    def _settle_study(self, study: StudyRow, now: float, steady: float) -> None:
        study_uid = study["study_uid"]
        last = self._times.of(("study", study_uid), study["last_received"], now, steady)
        timers = [
            row["due_at"] or 0.0 for row in self._ledger.series.of_study(study_uid) if row["state"] == "receiving"
        ]
        decision = decide_study(last, timers, now, self._settings)
        if isinstance(decision, Wait):
            self._set_timer(self._ledger.studies.set_due, study_uid, study, decision.until, now, now - last)
        elif self._ledger.studies.close(study_uid, study["last_received"], decision.rule, now):
            self._times.forget(("study", study_uid))
            self._on_closed("study", study_uid)
