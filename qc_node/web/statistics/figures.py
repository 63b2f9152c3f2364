"""What a department sees of its votes.  Pure functions over facts; no reader is ranked.

The results of Juneja et al. (an acceptance study of three buttons in routine reading) for one's own site:
studies by modality, reader and centre, acceptance rate, cumulative curve, time to vote, reasons, agreement.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from qc_node.domain.agreement import weighted_kappa

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
LEVELS = {"good": 0, "acceptable": 1, "poor": 2}


class VoteFact(NamedTuple):
    """One row of the vote log, as :meth:`qc_node.ledger.votes.Votes.facts` gives it."""

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


class Shown(NamedTuple):
    """One study that was put before one reader for the first time."""

    reader: str
    subject: str
    site: str
    modality: str
    at: float


def standing(log: Iterable[VoteFact]) -> list[VoteFact]:
    """The votes of a log that stand, in the order of the log.

    Of each reader on each subject the last one not taken back stands.  The order is that of the votes, not
    of their receipt: a vote that waited in a browser without network does not overrule one cast after it.
    A withdrawn change lets the vote before it stand again.
    """
    log = list(log)
    gone = {f.replaces for f in log if f.vote == "withdrawn"}
    if gone:
        log = [f for f in log if f.vote != "withdrawn" and f.id not in gone]
    # 100,000 rows must stay quick, hence positions: [1:4] is reader, subject, series; 8 is voted_at, 0 is id.
    log.sort(key=itemgetter(8, 0))
    return sorted({f[1:4]: f for f in log}.values())


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
    table = Counter(pairs)
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
    """All figures.

    Parameters
    ----------
    log
        The whole vote log in order of receipt.
    shown
        First presentation of each study to each reader; a vote without one counts as presented, too.
    model
        Level 0-2 of the machine's opinion by subject, where it has one on this scale.
    """
    facts = standing(log)
    presented, weeks, acceptance = _acceptance(facts, shown)
    times = [f.voted_at for f in facts]
    counted = {
        name: Counter(map(attrgetter(name), facts)) for name in ("vote", "modality", "reader", "site", "source")
    }
    vote_by_modality: dict[str, dict[str, int]] = {}
    for (modality, vote), count in sorted(Counter(map(attrgetter("modality", "vote"), facts)).items()):
        vote_by_modality.setdefault(modality, {})[vote] = count
    reasons: Counter[str] = Counter()
    for text, count in Counter(map(attrgetter("reasons"), facts)).items():
        reasons.update(dict.fromkeys(json.loads(text), count))
    withdrawn = sum(f.vote == "withdrawn" for f in log)
    return Statistics(
        start=min(times, default=None),
        end=max(times, default=None),
        rows=len(log),
        votes=len(facts),
        changed=sum(f.replaces is not None for f in log) - withdrawn,
        withdrawn=withdrawn,
        studies=len(set(map(attrgetter("subject"), facts))),
        by_vote=_sorted(counted["vote"]),
        by_modality=_sorted(counted["modality"]),
        by_reader=_sorted(counted["reader"]),
        by_site=_sorted(counted["site"]),
        by_source=_sorted(counted["source"]),
        vote_by_modality=vote_by_modality,
        reasons=_sorted(reasons),
        cumulative=cumulative(times),
        presented=presented,
        voted=int(sum(row["voted"] for row in acceptance.values())),
        acceptance=acceptance,
        acceptance_weeks=weeks,
        seconds_to_vote=quartiles([f.ms_to_vote / 1000 for f in facts if f.ms_to_vote is not None]),
        blind_share=sum(not f.verdict_visible for f in facts) / len(facts) if facts else None,
        between_readers=_between_readers(facts),
        with_model=_with_model(facts, model or {}),
    )


def cumulative(times: Sequence[float]) -> list[tuple[int, int]]:
    """``(day, votes so far)`` for every day; days are of 24 h in UTC, the first one is 0."""
    if not times:
        return []
    days = Counter(int(t // DAY_S) for t in times)
    first, last = min(days), max(days)
    out, total = [], 0
    for day in range(first, last + 1):
        total += days[day]
        out.append((day - first, total))
    return out


def _acceptance(
    facts: Sequence[VoteFact], shown: Sequence[Shown]
) -> tuple[int, dict[str, list[tuple[int, int, int]]], dict[str, dict[str, float]]]:
    """Number of (reader, study) pairs presented, and presented against voted by reader and week."""
    voted = {(f.reader, f.subject): f.voted_at for f in facts}
    pairs = voted | {(s.reader, s.subject): s.at for s in reversed(shown)}
    if not pairs:
        return 0, {}, {}
    start = min(pairs.values()) // DAY_S * DAY_S

    def by_week(keys: Iterable[tuple[str, str]]) -> Counter[tuple[str, int]]:
        return Counter([(key[0], int((pairs[key] - start) // WEEK_S)) for key in keys])

    presented_in = by_week(pairs)
    voted_in = by_week(voted) if shown else presented_in
    weeks: dict[str, list[tuple[int, int, int]]] = {}
    for (reader, week), count in sorted(presented_in.items()):
        weeks.setdefault(reader, []).append((week, count, voted_in[reader, week]))
    rates = {}
    for reader, rows in weeks.items():
        presented, got = sum(r[1] for r in rows), sum(r[2] for r in rows)
        rates[reader] = {"presented": presented, "voted": got, "rate": got / presented}
    return len(pairs), weeks, rates


def _between_readers(facts: Sequence[VoteFact]) -> Agreement | None:
    """Pooled agreement of every two readers who voted on the same subject."""
    several = {s for s, count in Counter(map(attrgetter("subject"), facts)).items() if count > 1}
    by_subject: dict[str, dict[str, int]] = defaultdict(dict)
    for f in facts:
        if f.subject in several:
            by_subject[f.subject][f.reader] = LEVELS[f.vote]
    pairs = (pair for votes in by_subject.values() for pair in combinations(votes.values(), 2))
    found = agreement(pairs, symmetric=True)
    return found if found.studies else None


def _with_model(facts: Sequence[VoteFact], model: Mapping[str, int]) -> Agreement | None:
    """Agreement of votes that were cast blind with the machine."""
    pairs = [(LEVELS[f.vote], model[f.subject]) for f in facts if f.subject in model and not f.verdict_visible]
    return agreement(pairs) if pairs else None


def _sorted(counter: Counter[str]) -> dict[str, int]:
    """By name, so that nobody is ranked."""
    return dict(sorted(counter.items()))


def as_dict(statistics: Statistics) -> dict[str, Any]:
    """JSON-ready."""
    out = {name: getattr(statistics, name) for name in statistics.__dataclass_fields__}
    for name in ("between_readers", "with_model"):
        found: Agreement | None = out[name]
        if found is not None:
            out[name] = {n: getattr(found, n) for n in found.__dataclass_fields__}
    return out | {"days": statistics.days}
