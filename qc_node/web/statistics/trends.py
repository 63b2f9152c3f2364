"""How votes, verdicts and calls develop: weeks, by scanner and protocol.  Pure functions over facts.

A week begins on Monday, 00:00 UTC.  Technologists' votes are counted apart from everybody else's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from qc_node.web.statistics.collecting import JudgedFact
from qc_node.web.statistics.fact_table import FactTable, Integers
from qc_node.web.statistics.figures import TECHNOLOGISTS, WEEK_S, WORDS

MONDAY_S = 4 * 86_400.0
"""The first Monday of the epoch; 1970 began on a Thursday."""
PERIODS: Mapping[str, float | None] = {"30": 30.0, "90": 90.0, "365": 365.0, "all": None}
"""What a page offers, and how many days each is; None has no beginning."""
TIERS = ("tier_1", "tier_2", "tier_3")
VERDICTS = (*TIERS, "reject", "undetermined", "judged")
READERS_VOTES = tuple(f"vote_{word}" for word in WORDS)
TECHNOLOGISTS_VOTES = tuple(f"technologist_{word}" for word in WORDS)
CALLS = ("calls", "acted")
COUNTS = (*READERS_VOTES, *TECHNOLOGISTS_VOTES, *VERDICTS, *CALLS)
"""What is counted for each week, scanner and protocol.

``vote_good`` are votes of readers who are no technologists; ``judged`` series have a verdict, whatever it says (a
CT has no tier); ``acted`` of the ``calls`` led to an act of somebody, and not only to an acknowledgement.
"""
ACTS = frozenset({"repeated", "patient_moved"})
"""Answers to a call that say that it led to something."""
NOBODY = ""
"""The scanner of votes on studies that the node never received."""


def week_of(at: float) -> int:
    """The number of the week since the first Monday of 1970."""
    return int((at - MONDAY_S) // WEEK_S)


def monday(week: int) -> float:
    """When a week began, in seconds since 1970."""
    return week * WEEK_S + MONDAY_S


class Happened(NamedTuple):
    """Something that is counted: what (one of :data:`COUNTS`), in which week, of which scanner and protocol."""

    what: str
    week: int
    scanner: str
    protocol: str
    times: int = 1


class MadeAt(NamedTuple):
    """Where the images of a study or series were made, and how."""

    scanner: str
    protocol: str


ELSEWHERE = MadeAt(NOBODY, "")


@dataclass(frozen=True)
class Trends:
    """Counts by week, scanner and protocol.

    Attributes
    ----------
    weeks
        Every week of the period, those in which nothing happened among them.
    """

    weeks: Sequence[int] = ()
    cells: Mapping[tuple[int, str, str], Counter[str]] = field(default_factory=dict)

    @property
    def scanners(self) -> list[str]:
        """Every scanner of which something was counted, by name."""
        return sorted({scanner for _, scanner, _ in self.cells} - {NOBODY})

    @property
    def protocols(self) -> list[str]:
        """Every protocol, by name."""
        return sorted({protocol for _, _, protocol in self.cells} - {""})

    def only(self, scanner: str | None, protocol: str | None) -> Trends:
        """What belongs to one scanner, one protocol, or both."""
        kept = {
            key: found
            for key, found in self.cells.items()
            if (scanner is None or key[1] == scanner) and (protocol is None or key[2] == protocol)
        }
        return Trends(self.weeks, kept)

    def by_week(self) -> dict[int, Counter[str]]:
        """The counts of each week, all scanners and protocols together."""
        out = {week: Counter[str]() for week in self.weeks}
        for (week, _, _), found in self.cells.items():
            out[week].update(found)
        return out

    def by_scanner(self) -> dict[str, Counter[str]]:
        """The counts of each scanner over the period, by name; :data:`NOBODY` last."""
        out: dict[str, Counter[str]] = {}
        for _, scanner, _ in sorted(self.cells, key=lambda key: (key[1] == NOBODY, key[1])):
            out.setdefault(scanner, Counter())
        for (_, scanner, _), found in self.cells.items():
            out[scanner].update(found)
        return out

    def total(self) -> Counter[str]:
        """The counts of the whole period."""
        found = Counter[str]()
        for cell in self.cells.values():
            found.update(cell)
        return found

    @property
    def has_technologists(self) -> bool:
        """Whether a technologist voted."""
        return any(name in TECHNOLOGISTS_VOTES for cell in self.cells.values() for name in cell)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each week, scanner and protocol, in this order."""
        return [
            {
                "week": datetime.fromtimestamp(monday(week), UTC).date().isoformat(),
                "scanner": scanner,
                "protocol": protocol,
                **{name: found[name] for name in COUNTS},
            }
            for (week, scanner, protocol), found in sorted(self.cells.items())
        ]


def trends(happened: Iterable[Happened], since: float | None, until: float) -> Trends:
    """Count what happened in the weeks from `since` (by default from the first of it) to `until`."""
    last = week_of(until)
    first = None if since is None else week_of(since)
    cells: dict[tuple[int, str, str], Counter[str]] = {}
    for what, week, scanner, protocol, times in happened:
        if week <= last and (first is None or week >= first):
            cells.setdefault((week, scanner, protocol), Counter())[what] += times
    if first is None:
        first = min((week for week, _, _ in cells), default=last)
    return Trends(range(first, last + 1), cells)


def votes_cast(table: FactTable, rows: Integers, places: Mapping[str, MadeAt]) -> Iterator[Happened]:
    """Standing votes as things that happened; `places` by study, and by series where one had the vote."""
    if not len(rows):
        return
    known = [ELSEWHERE, *sorted(set(places.values()))]
    number = {place: n for n, place in enumerate(known)}
    of_subject = np.array([number[places.get(name, ELSEWHERE)] for name in table.subject.names], np.int64)
    of_item = np.array([number[places.get(name, ELSEWHERE)] for name in table.item.names], np.int64)
    place = of_item[table.item.codes[rows]]
    place = np.where(place > 0, place, of_subject[table.subject.codes[rows]])
    week = ((table.voted_at[rows] - MONDAY_S) // WEEK_S).astype(np.int64)
    what = table.level[rows] + len(WORDS) * table.role.are(rows, TECHNOLOGISTS)
    names = (*READERS_VOTES, *TECHNOLOGISTS_VOTES)
    found, times = np.unique((week * len(known) + place) * len(names) + what, return_counts=True)
    for cell, count in zip(found.tolist(), times.tolist(), strict=True):
        cell, what_code = divmod(cell, len(names))
        week_number, place_code = divmod(cell, len(known))
        scanner, protocol = known[place_code]
        yield Happened(names[what_code], week_number, scanner, protocol, count)


def verdict_given(fact: JudgedFact, place: MadeAt) -> Iterator[Happened]:
    """What a verdict adds to its week."""
    week = week_of(fact.at)
    yield Happened("judged", week, *place)
    if fact.reject:
        yield Happened("reject", week, *place)
    elif fact.undetermined:
        yield Happened("undetermined", week, *place)
    elif fact.tier is not None:
        yield Happened(TIERS[fact.tier - 1], week, *place)
