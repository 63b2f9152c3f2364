"""The vote log as columns: 50,000 votes are counted in some milliseconds, so no page waits for its figures.

A text is a number here (its place in the list of names), so that every count is one over small integers, and a
new vote adds a row instead of having everything read again.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = {"good": 0, "acceptable": 1, "poor": 2}
WITHDRAWN_LEVEL = 3

Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]


class VoteFact(NamedTuple):
    """One row of the vote log, as :meth:`qc_node.ledger.history.History.votes` gives it."""

    id: int
    reader: str
    subject: str
    series: str
    site: str
    modality: str
    vote: str
    reasons: str
    voted_at: float
    ms_to_vote: int | None
    source: str
    verdict_visible: int
    replaces: int | None
    role: str = "radiologist"


class Shown(NamedTuple):
    """One study that was put before one reader; of several times the first counts."""

    reader: str
    subject: str
    site: str
    modality: str
    at: float
    role: str = "radiologist"


@dataclass(frozen=True)
class Coded:
    """A column of texts: the names in order of coming, and for each row the place of its text among them."""

    names: Sequence[str]
    codes: Integers

    def code(self, name: str) -> int:
        """The place of a name; -1 where no row has it."""
        return self.names.index(name) if name in self.names else -1

    def are(self, rows: Integers, names: Collection[str] | None) -> Truths:
        """Which of these rows have one of the names; all of them without names."""
        if names is None:
            return np.ones(len(rows), bool)
        wanted = np.array([name in names for name in self.names], bool)
        return wanted[self.codes[rows]] if len(wanted) else np.zeros(len(rows), bool)


class _Words:
    """Texts as numbers, given in order of coming."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}

    def __getitem__(self, text: str) -> int:
        return self.place.setdefault(text, len(self.place))


class FactLog:
    """What was read so far, row by row, as numbers; grows."""

    TEXTS = ("reader", "subject", "item", "site", "modality", "reasons", "source", "role")

    def __init__(self) -> None:
        self.words = {name: _Words() for name in self.TEXTS}
        self._codes = {name: array("q") for name in self.TEXTS}
        self._ids, self._levels, self._ms, self._replaces = array("q"), array("q"), array("q"), array("q")
        self._visible, self._voted_at = array("q"), array("d")
        self._row: dict[int, int] = {}
        self._shown_row: dict[tuple[int, int], int] = {}
        self._shown_reader, self._shown_subject, self._shown_role = array("q"), array("q"), array("q")
        self._shown_at = array("d")

    def note_vote(self, fact: VoteFact) -> None:
        """One line of the log; one that is known already may have got other reasons."""
        words = self.words
        if fact.id in self._row:
            self._codes["reasons"][self._row[fact.id]] = words["reasons"][fact.reasons]
            return
        self._row[fact.id] = len(self._ids)
        for name, text in zip(
            self.TEXTS,
            (
                fact.reader,
                fact.subject,
                fact.series,
                fact.site,
                fact.modality,
                fact.reasons,
                fact.source,
                fact.role,
            ),
            strict=True,
        ):
            self._codes[name].append(words[name][text])
        self._ids.append(fact.id)
        self._levels.append(LEVELS.get(fact.vote, WITHDRAWN_LEVEL))
        self._ms.append(-1 if fact.ms_to_vote is None else fact.ms_to_vote)
        self._replaces.append(fact.replaces or 0)
        self._visible.append(fact.verdict_visible)
        self._voted_at.append(fact.voted_at)

    def note_shown(self, fact: Shown) -> None:
        """One presentation; of a study to a reader the first one stays."""
        key = self.words["reader"][fact.reader], self.words["subject"][fact.subject]
        row = self._shown_row.get(key)
        if row is not None:
            self._shown_at[row] = min(self._shown_at[row], fact.at)
            return
        self._shown_row[key] = len(self._shown_at)
        self._shown_reader.append(key[0])
        self._shown_subject.append(key[1])
        self._shown_role.append(self.words["role"][fact.role])
        self._shown_at.append(fact.at)

    def table(self) -> FactTable:
        """Everything so far; what is noted later does not change it."""
        return FactTable(self)

    def column(self, name: str) -> Coded:
        """One column of texts."""
        return Coded(tuple(self.words[name].place), np.array(self._codes[name], np.int64))

    def numbers(self) -> tuple[Integers, Integers, Integers, Integers, Integers, NDArray[np.float64]]:
        """Number, level, milliseconds, number replaced, whether the verdict was visible, and time of each line."""
        whole = (self._ids, self._levels, self._ms, self._replaces, self._visible)
        ids, levels, ms, replaces, visible = (np.array(values, np.int64) for values in whole)
        return ids, levels, ms, replaces, visible, np.array(self._voted_at, np.float64)

    def shown(self) -> tuple[Integers, Integers, Integers, NDArray[np.float64]]:
        """Reader, subject, role and time of each presentation."""
        whole = (self._shown_reader, self._shown_subject, self._shown_role)
        reader, subject, role = (np.array(values, np.int64) for values in whole)
        return reader, subject, role, np.array(self._shown_at, np.float64)


def fact_table(log: Iterable[VoteFact], shown: Iterable[Shown] = ()) -> FactTable:
    """The columns of a vote log in order of receipt, and of presentations in any order."""
    made = FactLog()
    for vote in log:
        made.note_vote(vote)
    for one in shown:
        made.note_shown(one)
    return made.table()


class FactTable:
    """Columns of a vote log and of what was presented, at one moment."""

    def __init__(self, log: FactLog) -> None:
        self.ids, self.level, self.ms, self.replaces, visible, self.voted_at = log.numbers()
        self.visible = visible != 0
        self.shown_reader, self.shown_subject, self.shown_role, self.shown_at = log.shown()
        self.reader, self.subject, self.item = (log.column(name) for name in ("reader", "subject", "item"))
        self.site, self.modality, self.reasons = (log.column(name) for name in ("site", "modality", "reasons"))
        self.source, self.role = log.column("source"), log.column("role")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def standing(self) -> Integers:
        """The rows of the votes that stand, in the order of the log.

        Of each reader on each subject the last one not taken back stands.  The order is that of the votes, not
        of their receipt: a vote that waited in a browser without network does not overrule one cast after it.
        A withdrawn change lets the vote before it stand again.
        """
        taken_back = self.replaces[self.level == WITHDRAWN_LEVEL]
        rows = np.flatnonzero((self.level != WITHDRAWN_LEVEL) & ~np.isin(self.ids, taken_back))
        rows = rows[np.lexsort((self.ids[rows], self.voted_at[rows]))]
        key = self.pairs(self.reader.codes[rows], self.subject.codes[rows])
        key = key * max(1, len(self.item.names)) + self.item.codes[rows]
        _, last = np.unique(key[::-1], return_index=True)
        return np.sort(rows[::-1][last])

    def pairs(self, reader: Integers, subject: Integers) -> Integers:
        """One number for each reader and subject."""
        return reader * max(1, len(self.subject.names)) + subject

    def chosen(self, since: float, roles: Collection[str] | None, reader: str | None) -> Integers:
        """The standing votes cast since then, by people in one of the roles, or by one person."""
        rows = self.standing
        keep = self.voted_at[rows] >= since
        keep &= self.role.are(rows, roles)
        if reader is not None:
            keep &= self.reader.codes[rows] == self.reader.code(reader)
        return rows[keep]

    def chosen_shown(self, since: float, roles: Collection[str] | None, reader: str | None) -> Integers:
        """The presentations that :meth:`chosen` would take."""
        keep = self.shown_at >= since
        keep &= Coded(self.role.names, self.shown_role).are(np.arange(len(self.shown_at)), roles)
        if reader is not None:
            keep &= self.shown_reader == self.reader.code(reader)
        return np.flatnonzero(keep)


def counts(column: Coded, rows: Integers) -> dict[str, int]:
    """How many of these rows have each text; by name, so that nobody is ranked."""
    found = np.bincount(column.codes[rows], minlength=len(column.names)).tolist()
    return {name: n for name, n in sorted(zip(column.names, found, strict=True)) if n}
