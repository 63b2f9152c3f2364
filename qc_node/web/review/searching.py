"""Search over all series: by accession number or UID at once, by all else newest first, as far as time allows.

An answer never takes longer than its budget by more than one stretch.  Where the list was not gone through to its
end the answer says so (``more_than``, ``back_to``), and ``next`` goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.domain import Question
from qc_node.domain.wording import Tone
from qc_node.ledger.rows import FoundSeries
from qc_node.ledger.search import NEWEST, OLDEST, Place, SeriesWanted
from qc_node.web.review.entries import ReviewedSeries, entries, rows
from qc_node.web.settings import WebDeps

BUDGET_S = 0.15
"""Seconds that one answer may take; a click goes on."""
LOOKED_THROUGH = 50
"""Series whose verdicts are read at a time."""
PASSED_OVER = 5000
"""Series of which only the row is looked at, at a time."""
COUNTED = 100_000
"""Most series that are counted without any filter; beyond that "more than" is all that anybody needs."""
UID_LIKE = re.compile(r"\d+(\.\d+){3,}\.?")
"""What is a UID, or its beginning, and nothing else: where none begins so, no word is looked for either."""
NAME = 4
"""Least characters of an identifier of which only the beginning is given."""


class Worklist(StrEnum):
    """Which series a person works on."""

    ALL = "all"
    MISMATCHES = "mismatches"
    NOT_REVIEWED = "not_reviewed"
    UNDETERMINED = "undetermined"
    SKIPPED = "skipped"
    FAILED = "failed"


class VerdictWanted(StrEnum):
    """What the verdict says."""

    GOOD = "good"
    USABLE = "usable"
    POOR = "poor"
    TIER_1 = "tier1"
    TIER_2 = "tier2"
    TIER_3 = "tier3"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """What is looked for; every condition holds at once.

    `text` is words, of which one may be an accession number, a study or a series UID, or its beginning.  `since`
    and `until` (not included) are seconds since the epoch; `numbers` limits it to these series of the ledger.
    """

    text: str = ""
    show: Worklist = Worklist.ALL
    verdict: VerdictWanted | None = None
    modality: str | None = None
    stage: str | None = None
    scanner: str | None = None
    since: float | None = None
    until: float | None = None
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PreparedSearch:
    """A filter, taken apart: what the columns of the ledger answer, and what an entry must be asked."""

    columns: SeriesWanted
    words: tuple[str, ...]
    asked: ReviewFilter

    @property
    def reads_verdicts(self) -> bool:
        """Whether a series must be looked at as a whole to know if it is wanted."""
        asked = self.asked
        by_state = asked.show in (Worklist.ALL, Worklist.SKIPPED, Worklist.FAILED)
        return bool(self.words) or not by_state or asked.verdict is not None or asked.scanner is not None

    def wants(self, entry: ReviewedSeries) -> bool:
        """Whether an entry, whose columns fit, is wanted."""
        asked = self.asked
        if asked.scanner is not None and entry.scanner != asked.scanner:
            return False
        match asked.show:
            case Worklist.MISMATCHES if not (entry.warnings or entry.missing or entry.notes):
                return False
            case Worklist.NOT_REVIEWED if not entry.given or entry.reviewed:
                return False
            case Worklist.UNDETERMINED if not entry.undetermined:
                return False
        if asked.verdict is not None and not _says(entry, asked.verdict):
            return False
        return all(word in entry.text for word in self.words)


def _says(entry: ReviewedSeries, wanted: VerdictWanted) -> bool:
    match wanted:
        case VerdictWanted.GOOD | VerdictWanted.USABLE | VerdictWanted.POOR:
            return bool(entry.given) and entry.card.tone is Tone(wanted.value)
        case VerdictWanted.REJECT:
            return _answered(entry, Question.STRAIGHT_REJECT) is True
        case _:
            return _answered(entry, Question.TIER) == int(wanted.value[-1])


def _answered(entry: ReviewedSeries, question: Question) -> object:
    found = [f for one in entry.given if (f := one["verdict"].finding(question)) is not None]
    return found[0].value if found else None


def prepare(deps: WebDeps, asked: ReviewFilter) -> PreparedSearch:
    """Look up the identifier among the words, and sort the conditions by who can answer them."""
    words = asked.text.split()
    numbers = None if asked.numbers is None else set(asked.numbers)
    for word in words:
        named = _named(deps, word)
        if named or UID_LIKE.fullmatch(word):
            numbers = set(named) if numbers is None else numbers & set(named)
            words.remove(word)
            break
    states = {Worklist.SKIPPED: ("skipped",), Worklist.FAILED: ("failed",)}.get(asked.show, ())
    columns = SeriesWanted(
        modality=asked.modality,
        stage=asked.stage,
        states=states,
        scanner=asked.scanner,
        since=asked.since,
        until=asked.until,
        numbers=None if numbers is None else tuple(sorted(numbers)),
    )
    return PreparedSearch(columns, tuple(word.lower() for word in words), asked)


def _named(deps: WebDeps, word: str) -> list[int]:
    """The series that a word names; a word without a digit names none."""
    if len(word) < NAME or not any(c.isdigit() for c in word):
        return []
    return deps.ledger.search.named(word) or (deps.ledger.search.named(word.upper()) if word.islower() else [])


def stretches(
    deps: WebDeps, search: PreparedSearch, before: Place, size: int
) -> Iterator[tuple[list[ReviewedSeries], Place]]:
    """Wanted entries, newest first, a stretch at a time, each with the place that it reaches down to.

    No stretch reads the verdicts of more than `size` series; where few have the columns that are wanted, it grows.
    """
    ledger, span = deps.ledger.search, size
    while before > OLDEST:
        last = ledger.end_of_stretch(search.columns, before, span)
        found = ledger.between(search.columns, before, last, size)
        if len(found) == size:
            last = place_of(found[-1])
        elif 2 * len(found) < size:
            span = min(2 * span, PASSED_OVER)
        yield [entry for entry in entries(deps, found) if search.wants(entry)], last
        before = last


def find(
    deps: WebDeps,
    asked: ReviewFilter,
    *,
    limit: int,
    steady: Callable[[], float],
    after: Place = NEWEST,
    budget_s: float = BUDGET_S,
) -> tuple[dict[str, Any], set[str]]:
    """One page of what is looked for, and the studies whose verdicts are on it.

    ``rows``; ``next``: where the next page begins, None at the end; ``total`` and ``more_than``: how many there
    are from here on, or more than so many; ``back_to``: how far back was looked where the list has not ended.
    """
    began = steady()
    search = prepare(deps, asked)
    look = _by_verdict if search.reads_verdicts else _by_column
    shown, total, reached = look(deps, search, after, limit, lambda: steady() - began >= budget_s)
    ended = reached <= OLDEST
    rest = total > len(shown)
    place: Place | None = place_of(shown[-1].series) if rest else None if ended else reached
    answer = {
        "rows": rows(deps, shown),
        "next": None if place is None else [*place],
        "total": total,
        "more_than": not ended,
        "back_to": None if ended else reached[0],
    }
    return answer, {entry.series["study_uid"] for entry in shown if entry.given}


def place_of(series: FoundSeries) -> Place:
    """Where a series stands in the list."""
    return series["last_received"], series["series_id"]


def _by_verdict(
    deps: WebDeps, search: PreparedSearch, before: Place, limit: int, late: Callable[[], bool]
) -> tuple[list[ReviewedSeries], int, Place]:
    shown: list[ReviewedSeries] = []
    total, reached = 0, before
    for found, last in stretches(deps, search, before, LOOKED_THROUGH):
        reached = last
        shown += found[: limit - len(shown)]
        total += len(found)
        if late():
            break
    return shown, total, reached


def _by_column(
    deps: WebDeps, search: PreparedSearch, before: Place, limit: int, late: Callable[[], bool]
) -> tuple[list[ReviewedSeries], int, Place]:
    ledger, columns = deps.ledger.search, search.columns
    found: list[FoundSeries] = []
    total, reached = 0, before
    if columns.in_order_of_time:
        found = ledger.between(columns, before, OLDEST, limit)
        total = ledger.count(columns, before, OLDEST, COUNTED + 1)
        reached = OLDEST if total <= COUNTED else place_of(found[-1])
        return entries(deps, found), min(total, COUNTED), reached
    while reached > OLDEST:
        last = ledger.end_of_stretch(columns, reached, PASSED_OVER)
        if len(found) < limit:
            found += ledger.between(columns, reached, last, limit - len(found))
        total += ledger.count(columns, reached, last)
        reached = last
        if late():
            break
    return entries(deps, found), total, reached


def all_entries(deps: WebDeps, asked: ReviewFilter) -> Iterator[ReviewedSeries]:
    """Every wanted entry, newest first; a table of years never stands in memory as a whole.

    A series that gets images meanwhile moves up and may come twice or not at all; one that is finished does not.
    """
    search = prepare(deps, asked)
    for found, _ in stretches(deps, search, NEWEST, LOOKED_THROUGH):
        yield from found
