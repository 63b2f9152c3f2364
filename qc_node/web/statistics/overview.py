"""From the ledger to statistics, and from statistics to plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from qc_node.ledger import Ledger
from qc_node.web.statistics import figures, plots
from qc_node.web.statistics.collecting import Collected, KnownFacts
from qc_node.web.statistics.figures import DAY_S, Statistics
from qc_node.web.statistics.trends import (
    ACTS,
    ELSEWHERE,
    Happened,
    MadeAt,
    Trends,
    monday,
    trends,
    verdict_given,
    votes_cast,
    week_of,
)
from qc_node.web.texts import _
from qc_node.web.votes import gradings


@dataclass(frozen=True)
class Experts:
    """Where the expert protocol stands: labels by kind, kappa by characteristic, series to settle."""

    labels: dict[str, int]
    kappas: dict[str, figures.Agreement]
    queue: int


@dataclass(frozen=True)
class Overview:
    """Statistics with readers named by pseudonym, and those of one reader."""

    all: Statistics
    own: Statistics | None
    prompts: dict[str, int]
    own_with_others: figures.Agreement | None
    experts: Experts


def overview(ledger: Ledger, own: str | None = None) -> Overview:
    """All figures; `own` is the reader whose personal figures are wished."""
    return overview_of(Collected(ledger), own)


def overview_of(collected: Collected, own: str | None = None) -> Overview:
    """All figures of what was collected up to now."""
    facts, ledger = collected.facts(), collected.ledger
    mine, with_others = None, None
    me = facts.names.get(own or "")
    if me is not None:
        mine = figures.summarise(facts.table, facts.model, reader=me)
        with_others = figures.with_others(facts.table, me)
    return Overview(all_figures(collected), mine, asked_for(ledger), with_others, experts_of(ledger))


def all_figures(collected: Collected) -> Statistics:
    """All figures of everybody."""
    return collected.answer("all", lambda facts: figures.summarise(facts.table, facts.model))


def experts_of(ledger: Ledger) -> Experts:
    """Where the expert protocol stands now."""
    graded = gradings.board(ledger.gradings.current())
    return Experts(gradings.tiers(graded), gradings.kappas(graded), len(graded.queue))


def asked_for(ledger: Ledger) -> dict[str, int]:
    """How many prompts have each outcome; ``open`` without one."""
    prompts: dict[str, int] = {}
    for prompt in ledger.prompts.all():
        outcome = prompt["outcome"] or "open"
        prompts[outcome] = prompts.get(outcome, 0) + 1
    return prompts


ScannerName = Callable[[str, str], str]
"""What people call a scanner, from its station (empty where nobody noted one) and the AE title that called."""


def trends_of(collected: Collected, days: float | None, now: float, called: ScannerName) -> Trends:
    """Weeks of the last `days` (None: of all time) up to `now`."""
    since = None if days is None else monday(week_of(now - days * DAY_S))

    def make(facts: KnownFacts) -> Trends:
        places = _places(facts, collected.ledger, called)
        rows = facts.table.chosen(-math.inf if since is None else since, None, None)
        happened = chain(
            votes_cast(facts.table, rows, places.by_uid),
            chain.from_iterable(
                verdict_given(fact, places.by_series.get(fact.series_id, ELSEWHERE)) for fact in facts.judged
            ),
            _calls(collected.ledger, since, places.by_series),
        )
        return trends(happened, since, now)

    return collected.answer(("trends", since, week_of(now), collected.ledger.history.calls_mark()), make)


class _Places(NamedTuple):
    by_uid: dict[str, MadeAt]
    by_series: dict[int, MadeAt]


def _places(facts: KnownFacts, ledger: Ledger, called: ScannerName) -> _Places:
    """Scanner and protocol by study and series UID, and by series number; a study is where its first series is."""
    protocol = {fact.series_id: fact.protocol for fact in facts.judged}
    by_uid: dict[str, MadeAt] = {}
    by_series: dict[int, MadeAt] = {}
    for series_id, study_uid, series_uid, station, calling_ae in ledger.history.stations():
        place = MadeAt(called(station, calling_ae), protocol.get(series_id, ""))
        by_series[series_id] = by_uid[series_uid] = place
        if not by_uid.get(study_uid, ELSEWHERE).protocol:
            by_uid[study_uid] = place
    return _Places(by_uid, by_series)


def _calls(ledger: Ledger, since: float | None, places: dict[int, MadeAt]) -> Iterator[Happened]:
    for series_id, raised_at, answer in ledger.history.calls(since or 0.0):
        place, week = places.get(series_id, ELSEWHERE), week_of(raised_at)
        yield Happened("calls", week, *place)
        if answer in ACTS:
            yield Happened("acted", week, *place)


def acceptance_lines(found: Statistics, own: str | None = None) -> dict[str, list[tuple[float, float]]]:
    """Share voted of what was presented, by week: of each reader, or of all of them where they are too many.

    More than eight lines cannot be told apart; then there are the department, the range in which the middle half
    of its readers lies, and oneself.
    """
    weeks = {
        reader: {week: (shown, voted) for week, shown, voted in rows}
        for reader, rows in found.acceptance_weeks.items()
    }
    each = {reader: [(w + 1.0, v / s) for w, (s, v) in of.items()] for reader, of in weeks.items()}
    if len(each) <= len(plots.STYLES):
        return each
    department, low, high = [], [], []
    for week in sorted({week for of in weeks.values() for week in of}):
        cells = [of[week] for of in weeks.values() if week in of]
        department.append((week + 1.0, sum(v for _, v in cells) / sum(s for s, _ in cells)))
        quarters = figures.quartiles([v / s for s, v in cells])
        assert quarters is not None
        low.append((week + 1.0, quarters[0]))
        high.append((week + 1.0, quarters[2]))
    said = {_("All readers"): department, _("A quarter of readers is below"): low, _("A quarter is above"): high}
    return said | ({_("You"): each[own]} if own in each else {})


def plots_of(found: Statistics, width: int = plots.WIDE, own: str | None = None) -> dict[str, str]:
    """SVG by name; `own` is the pseudonym of the person who looks."""
    days_per, unit = plots.time_unit(found.days)
    curve = [((day + 1.0) / days_per, float(n)) for day, n in found.cumulative]
    units = {"days": _("days"), "weeks": _("weeks"), "months": _("months"), "years": _("years")}

    def bars(title: str, counts: dict[str, int]) -> str:
        return plots.bars({k: float(v) for k, v in counts.items()}, title=title, width=width)

    return {
        "cumulative": plots.lines(
            {"votes": [(0.0, 0.0), *curve]}, title=_("Votes so far"), x_label=units[unit], width=width
        ),
        "modality": bars(_("Votes by modality"), found.by_modality),
        "site": bars(_("Votes by centre"), found.by_site),
        "reader": bars(_("Votes by reader"), found.by_reader),
        "reasons": bars(_("Reasons given"), found.reasons),
        "acceptance": plots.lines(
            acceptance_lines(found, own),
            title=_("Acceptance rate by reader"),
            x_label=_("weeks"),
            y_label=_("votes / studies presented"),
            top=1.0,
            percent=True,
            width=width,
        ),
    }


def trend_plots(found: Trends, width: int = plots.WIDE) -> dict[str, str]:
    """SVG by name: what happened each week."""
    weeks = found.by_week()
    axis = plots.monday_ticks([monday(week) for week in found.weeks], width)

    def drawn(title: str, names: Mapping[str, tuple[str, plots.Style]]) -> str:
        several = {
            word: [(float(n), float(of[name])) for n, of in enumerate(weeks.values())]
            for word, (name, _style) in names.items()
        }
        styles = {word: style for word, (_name, style) in names.items()}
        return plots.lines(
            several,
            title=title,
            x_label=_("week from; the last one is not over"),
            width=width,
            styles=styles,
            x_ticks=axis,
        )

    levels = plots.LEVEL_STYLES
    good, usable, poor = levels["good"], levels["acceptable"], levels["poor"]
    return {
        "readers": drawn(
            _("Votes of radiologists"),
            {
                _("good"): ("vote_good", good),
                _("acceptable"): ("vote_acceptable", usable),
                _("poor"): ("vote_poor", poor),
            },
        ),
        "technologists": drawn(
            _("Votes of technologists"),
            {
                _("good"): ("technologist_good", good),
                _("acceptable"): ("technologist_acceptable", usable),
                _("poor"): ("technologist_poor", poor),
            },
        ),
        "verdicts": drawn(
            _("Verdicts"),
            {
                _("tier 1"): ("tier_1", good),
                _("tier 2"): ("tier_2", usable),
                _("tier 3"): ("tier_3", poor),
                _("rejected"): ("reject", plots.Style(plots.INK, "8 3 2 3", "diamond")),
                _("undetermined"): ("undetermined", plots.Style(plots.OPEN, "12 4")),
            },
        ),
        "calls": drawn(
            _("Calls on the board"),
            {_("raised"): ("calls", plots.STYLES[0]), _("acted upon"): ("acted", plots.STYLES[2])},
        ),
    }
