"""Closes what is complete, as :mod:`qc_node.completion.decide` says.

Every timer is a row in the ledger, so a restart forgets nothing.
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
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow, StudyRow

Name = TypeVar("Name", str, int)
ARRIVING_S = 0.5
"""A series that got an instance so recently is still arriving."""


def _open_series(row: SeriesRow, opened_at: float) -> OpenSeries:
    return OpenSeries(
        calling_ae=row["calling_ae"],
        instances=row["instances"],
        opened_at=opened_at,
        last_received=row["last_received"],
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
        self._settings = settings if questions is not None else replace(settings, ask_pacs=False)
        self._ledger = ledger
        self._questions = questions
        self._on_closed = on_closed
        self._unsaved = math.inf

    def step(self, now: float) -> float | None:
        """Close what is due at `now`; returns when the next timer runs out, None when nothing is open.

        Safe to repeat, and to be killed at any point.
        """
        self._unsaved = math.inf
        for row in self._ledger.series.due(now):
            self._settle(row, now)
        for study in self._ledger.studies.due(now):
            self._settle_study(study, now)
        timers = [t for t in (self._ledger.series.next_due(), self._ledger.studies.next_due()) if t is not None]
        if timers and min(timers) <= now:  # rows that something still arrives for
            return min(self._unsaved, now + ARRIVING_S / 2)
        return min(timers, default=None)

    def _set_timer(
        self, save: Callable[[Name, float, float], None], name: Name, last: float, until: float, now: float
    ) -> None:
        """Persist a timer, but not between two images: each write costs a sync that the receiver needs.

        The row then stays due, so the next step, or the next process, decides anew.
        """
        if 0 <= now - last < ARRIVING_S:
            self._unsaved = min(self._unsaved, until)
        else:
            save(name, last, until)

    def _settle(self, row: SeriesRow, now: float) -> None:
        """Close the series, or set its timer and perhaps have the PACS asked."""
        series_id, last = row["series_id"], row["last_received"]
        rests_until = self._questions.rests_until(now) if self._questions is not None else 0.0
        decision = decide(_open_series(row, self._opened_at(row)), now, self._settings, rests_until)
        if isinstance(decision, Wait | AskPacs):
            self._set_timer(self._ledger.series.set_due, series_id, last, decision.until, now)
        elif self._ledger.series.close(series_id, last, decision.rule, now):
            self._on_closed("series", row["series_uid"])
        if isinstance(decision, AskPacs) and self._questions is not None:
            self._questions.put(series_id)

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
        timers = [
            row["due_at"] or 0.0 for row in self._ledger.series.of_study(study_uid) if row["state"] == "receiving"
        ]
        decision = decide_study(last, timers, now, self._settings)
        if isinstance(decision, Wait):
            self._set_timer(self._ledger.studies.set_due, study_uid, last, decision.until, now)
        elif self._ledger.studies.close(study_uid, last, decision.rule, now):
            self._on_closed("study", study_uid)
