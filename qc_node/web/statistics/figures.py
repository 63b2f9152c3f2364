"""What a department sees of its votes.  Pure functions over facts; no reader is ranked.

The results of Juneja et al. (an acceptance study of three buttons in routine reading) for one's own site:
studies by modality, reader and centre, acceptance rate, cumulative curve, time to vote, reasons, agreement.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qc_node.domain.agreement import weighted_kappa
from qc_node.web.statistics.fact_table import LEVELS, FactTable, Integers, Shown, VoteFact, counts, fact_table

__all__ = ["LEVELS", "Agreement", "Shown", "Statistics", "VoteFact", "compute", "standing", "summarise"]

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
WORDS = tuple(LEVELS)
TECHNOLOGISTS = ("technologist",)
"""Roles whose votes are shown apart: they see the patient, the radiologists the purpose."""


def standing(log: Iterable[VoteFact]) -> list[VoteFact]:
    """The votes of a log that stand, in the order of the log.

    Of each reader on each subject the last one not taken back stands.  The order is that of the votes, not
    of their receipt: a vote that waited in a browser without network does not overrule one cast after it.
    A withdrawn change lets the vote before it stand again.  For a few lines; :attr:`FactTable.standing` does
    the same for a whole log.
    """
    log = list(log)
    gone = {f.replaces for f in log if f.vote == "withdrawn"}
    left = (f for f in log if f.vote != "withdrawn" and f.id not in gone)
    last = {(f.reader, f.subject, f.series): f for f in sorted(left, key=lambda f: (f.voted_at, f.id))}
    return sorted(last.values())


def quartiles(values: Sequence[float]) -> tuple[float, float, float] | None:
    """First quartile, median and third quartile (linear interpolation); None without values."""
    if not values:
        return None
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.25), at(0.5), at(0.75)


@dataclass(frozen=True)
class Agreement:
    """How far two ratings of the same studies agree; kappa is None where it is not defined."""

    studies: int
    same: int
    kappa_linear: float | None
    kappa_quadratic: float | None


def agreement(pairs: Iterable[tuple[int, int]], *, levels: int = 3, symmetric: bool = False) -> Agreement:
    """Agreement of pairs of levels.

    With `symmetric` pairs count in both orders, so that kappa does not depend on who is called the first
    rater.
    """
    return _agreement(Counter(pairs), levels=levels, symmetric=symmetric)


def _agreement(table: Counter[tuple[int, int]], *, levels: int = 3, symmetric: bool = False) -> Agreement:
    count, same = sum(table.values()), sum(n for (a, b), n in table.items() if a == b)
    if symmetric:
        table = table + Counter({(b, a): n for (a, b), n in table.items()})
    return Agreement(count, same, weighted_kappa(table, levels, 1), weighted_kappa(table, levels, 2))


@dataclass(frozen=True)
class Statistics:
    """All figures of one site.  Counters are over the votes that stand; times are days since ``start``.

    Attributes
    ----------
    rows
        Rows of the log; ``changed`` and ``withdrawn`` of them took something back.
    cumulative
        ``(day, votes until the end of that day)`` for every day from the first to the last.
    presented, voted
        Distinct (reader, study) pairs that were shown, and those of them that got a vote.
    by_role
        Votes of each level by role at the time of the vote: a technologist's says something else than others'.
    acceptance
        By reader ``{"presented", "voted", "rate"}``.
    acceptance_weeks
        By reader ``[(week, presented, voted)]``.
    seconds_to_vote
        Quartiles of the time from showing to the first vote on a study.
    """

    start: float | None = None
    end: float | None = None
    rows: int = 0
    votes: int = 0
    changed: int = 0
    withdrawn: int = 0
    studies: int = 0
    by_vote: dict[str, int] = field(default_factory=dict)
    by_modality: dict[str, int] = field(default_factory=dict)
    by_reader: dict[str, int] = field(default_factory=dict)
    by_site: dict[str, int] = field(default_factory=dict)
    by_source: dict[str, int] = field(default_factory=dict)
    by_role: dict[str, dict[str, int]] = field(default_factory=dict)
    vote_by_modality: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    cumulative: list[tuple[int, int]] = field(default_factory=list)
    presented: int = 0
    voted: int = 0
    acceptance: dict[str, dict[str, float]] = field(default_factory=dict)
    acceptance_weeks: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    seconds_to_vote: tuple[float, float, float] | None = None
    blind_share: float | None = None
    between_readers: Agreement | None = None
    with_model: Agreement | None = None

    @property
    def days(self) -> int:
        """Days from the first vote to the last, both counted."""
        return len(self.cumulative)


def compute(
    log: Sequence[VoteFact], shown: Sequence[Shown] = (), model: Mapping[str, int] | None = None
) -> Statistics:
    """All figures of a log (see :func:`summarise`)."""
    return summarise(fact_table(log, shown), model)


def summarise(
    table: FactTable,
    model: Mapping[str, int] | None = None,
    *,
    since: float = -math.inf,
    roles: Collection[str] | None = None,
    reader: str | None = None,
) -> Statistics:
    """All figures, or those of a time, of some roles, of one reader.

    Parameters
    ----------
    table
        The whole vote log, and what was presented; a vote without a presentation counts as presented, too.
    model
        Level 0-2 of the machine's opinion by subject, where it has one on this scale.
    """
    rows = table.chosen(since, roles, reader)
    presented, weeks, acceptance = _acceptance(table, rows, table.chosen_shown(since, roles, reader))
    times = table.voted_at[rows]
    lines = _lines(table, since, roles, reader)
    withdrawn = int(np.count_nonzero(table.level[lines] == len(WORDS)))
    ms = table.ms[rows]
    return Statistics(
        start=float(times.min()) if len(rows) else None,
        end=float(times.max()) if len(rows) else None,
        rows=len(lines),
        votes=len(rows),
        changed=int(np.count_nonzero(table.replaces[lines])) - withdrawn,
        withdrawn=withdrawn,
        studies=len(np.unique(table.subject.codes[rows])),
        by_vote=_by_vote(table.level[rows]),
        by_modality=counts(table.modality, rows),
        by_reader=counts(table.reader, rows),
        by_site=counts(table.site, rows),
        by_source=counts(table.source, rows),
        by_role=_split(table.role.names, table.role.codes[rows], table.level[rows]),
        vote_by_modality=_split(table.modality.names, table.modality.codes[rows], table.level[rows]),
        reasons=_reasons(table, rows),
        cumulative=cumulative(times),
        presented=presented,
        voted=int(sum(row["voted"] for row in acceptance.values())),
        acceptance=acceptance,
        acceptance_weeks=weeks,
        seconds_to_vote=quartiles((np.sort(ms[ms >= 0]) / 1000).tolist()),
        blind_share=float(np.mean(~table.visible[rows])) if len(rows) else None,
        between_readers=_between_readers(table, rows),
        with_model=_with_model(table, rows, model or {}),
    )


def _lines(table: FactTable, since: float, roles: Collection[str] | None, reader: str | None) -> Integers:
    """All lines of the log of that time, those that do not stand any more among them."""
    keep = table.voted_at >= since
    keep &= table.role.are(np.arange(len(table)), roles)
    if reader is not None:
        keep &= table.reader.codes == table.reader.code(reader)
    return np.flatnonzero(keep)


def _by_vote(levels: Integers) -> dict[str, int]:
    found = np.bincount(levels, minlength=len(WORDS))
    return {word: n for word, n in sorted(zip(WORDS, found.tolist(), strict=True)) if n}


def _split(names: Sequence[str], codes: Integers, levels: Integers) -> dict[str, dict[str, int]]:
    """For each name how many votes of each level."""
    found = np.bincount(codes * len(WORDS) + levels, minlength=len(names) * len(WORDS)).reshape(-1, len(WORDS))
    return {
        name: {word: n for word, n in sorted(zip(WORDS, row, strict=True)) if n}
        for name, row in sorted(zip(names, found.tolist(), strict=True))
        if any(row)
    }


def _reasons(table: FactTable, rows: Integers) -> dict[str, int]:
    found: Counter[str] = Counter()
    for text, count in counts(table.reasons, rows).items():
        for reason in json.loads(text):
            found[reason] += count
    return dict(sorted(found.items()))


def cumulative(times: Sequence[float] | np.ndarray) -> list[tuple[int, int]]:
    """``(day, votes so far)`` for every day; days are of 24 h in UTC, the first one is 0."""
    if not len(times):
        return []
    days = (np.asarray(times, np.float64) // DAY_S).astype(np.int64)
    totals = np.cumsum(np.bincount(days - days.min()))
    return [(day, int(total)) for day, total in enumerate(totals)]


def _acceptance(
    table: FactTable, rows: Integers, shown: Integers
) -> tuple[int, dict[str, list[tuple[int, int, int]]], dict[str, dict[str, float]]]:
    """Number of (reader, study) pairs presented, and presented against voted by reader and week."""
    width_of = max(1, len(table.subject.names))
    put = table.pairs(table.shown_reader[shown], table.shown_subject[shown])
    voted, last = np.unique(
        table.pairs(table.reader.codes[rows], table.subject.codes[rows])[::-1], return_index=True
    )
    order = np.argsort(put)
    place = np.searchsorted(put, voted, sorter=order)
    was_put = np.zeros(len(voted), bool)
    inside = place < len(put)
    was_put[inside] = put[order[place[inside]]] == voted[inside]
    got = np.zeros(len(put) + np.count_nonzero(~was_put), bool)
    got[order[place[was_put]]] = True
    got[len(put) :] = True
    pairs = np.concatenate([put, voted[~was_put]])
    if not len(pairs):
        return 0, {}, {}
    when = np.concatenate([table.shown_at[shown], table.voted_at[rows][::-1][last][~was_put]])
    week = ((when - when.min() // DAY_S * DAY_S) // WEEK_S).astype(np.int64)
    width = int(week.max()) + 1
    cells = pairs // width_of * width + week
    size = len(table.reader.names) * width
    n_presented = np.bincount(cells, minlength=size).reshape(-1, width)
    n_voted = np.bincount(cells[got], minlength=size).reshape(-1, width)
    weeks, rates = {}, {}
    for n, name in sorted(enumerate(table.reader.names), key=lambda one: one[1]):
        total, voted_of = int(n_presented[n].sum()), int(n_voted[n].sum())
        if total:
            weeks[name] = [
                (int(w), int(n_presented[n, w]), int(n_voted[n, w])) for w in np.flatnonzero(n_presented[n])
            ]
            rates[name] = {"presented": total, "voted": voted_of, "rate": voted_of / total}
    return len(pairs), weeks, rates


def _opinions(table: FactTable, rows: Integers) -> tuple[Integers, Integers]:
    """Subject and level of each reader's last standing vote on a subject."""
    key = table.pairs(table.reader.codes[rows], table.subject.codes[rows])
    pairs, last = np.unique(key[::-1], return_index=True)
    return pairs % max(1, len(table.subject.names)), table.level[rows][::-1][last]


def _between_readers(table: FactTable, rows: Integers) -> Agreement | None:
    """Pooled agreement of every two readers who voted on the same subject."""
    subjects, levels = _opinions(table, rows)
    size = len(WORDS)
    n = np.bincount(subjects * size + levels, minlength=len(table.subject.names) * size).reshape(-1, size)
    table_of = {(a, a): int((n[:, a] * (n[:, a] - 1) // 2).sum()) for a in range(size)}
    table_of |= {(a, b): int((n[:, a] * n[:, b]).sum()) for a in range(size) for b in range(a + 1, size)}
    found = _agreement(Counter({pair: count for pair, count in table_of.items() if count}), symmetric=True)
    return found if found.studies else None


def _with_model(table: FactTable, rows: Integers, model: Mapping[str, int]) -> Agreement | None:
    """Agreement of votes that were cast blind with the machine."""
    opinion = np.array([model.get(name, -1) for name in table.subject.names], np.int64)
    blind = rows[~table.visible[rows]]
    if not len(blind):
        return None
    said, theirs = table.level[blind], opinion[table.subject.codes[blind]]
    found = Counter(zip(said[theirs >= 0].tolist(), theirs[theirs >= 0].tolist(), strict=True))
    return _agreement(found) if found else None


def with_others(table: FactTable, reader: str, since: float = -math.inf) -> Agreement | None:
    """Agreement of one reader with all others together, nobody named.

    Technologists are others to technologists only, so that like is compared with like.
    """
    rows = table.chosen(since, None, None)
    mine = table.reader.codes[rows] == table.reader.code(reader)
    technologist = table.role.are(rows, TECHNOLOGISTS)
    alike = technologist == bool(technologist[mine].any())
    own = np.full(len(table.subject.names), -1, np.int64)
    own[table.subject.codes[rows[mine]]] = table.level[rows[mine]]
    theirs = rows[~mine & alike]
    known = own[table.subject.codes[theirs]]
    pairs = Counter(zip(known[known >= 0].tolist(), table.level[theirs][known >= 0].tolist(), strict=True))
    return _agreement(pairs) if pairs else None


def as_dict(statistics: Statistics) -> dict[str, Any]:
    """JSON-ready."""
    out = {name: getattr(statistics, name) for name in statistics.__dataclass_fields__}
    for name in ("between_readers", "with_model"):
        found: Agreement | None = out[name]
        if found is not None:
            out[name] = agreement_as_dict(found)
    return out | {"days": statistics.days}


def agreement_as_dict(found: Agreement) -> dict[str, Any]:
    """JSON-ready."""
    return {name: getattr(found, name) for name in found.__dataclass_fields__}
