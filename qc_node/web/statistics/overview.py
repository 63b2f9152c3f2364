"""From the ledger to statistics, and from statistics to plots."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qc_node.domain import vote_level
from qc_node.ledger import Ledger
from qc_node.web.access import readers
from qc_node.web.statistics import figures, plots
from qc_node.web.statistics.figures import Shown, Statistics, VoteFact
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


def machine_levels(ledger: Ledger) -> dict[str, int]:
    """The worst level of any judged series by study."""
    out: dict[str, int] = {}
    for row in ledger.verdicts.of_voted_studies():
        level = vote_level(row["verdict"])
        if level is not None:
            out[row["study_uid"]] = max(level, out.get(row["study_uid"], 0))
    return out


@contextmanager
def _without_collector() -> Iterator[None]:
    """Hold the cyclic garbage collector still: 100,000 rows hold no cycle, and looking for one takes a fifth."""
    held = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if held:
            gc.enable()


def overview(ledger: Ledger, own: str | None = None) -> Overview:
    """All figures; `own` is the reader whose personal figures are wished."""
    with _without_collector():
        return _overview(ledger, own)


def _overview(ledger: Ledger, own: str | None) -> Overview:
    names = {r.reader_id: r.pseudonym for r in readers.list_all(ledger)}
    log = [VoteFact(row[0], names[row[1]], *row[2:]) for row in ledger.votes.facts()]
    shown = [Shown(names[row[0]], *row[1:]) for row in ledger.cases.presented()]
    model = machine_levels(ledger)
    prompts: dict[str, int] = {}
    for prompt in ledger.prompts.all():
        outcome = prompt["outcome"] or "open"
        prompts[outcome] = prompts.get(outcome, 0) + 1
    mine, with_others = None, None
    if own is not None and own in names:
        me = names[own]
        mine = figures.compute([f for f in log if f.reader == me], [s for s in shown if s.reader == me], model)
        with_others = _with_others(figures.standing(log), me)
    graded = gradings.board(ledger.gradings.current())
    experts = Experts(gradings.tiers(graded), gradings.kappas(graded), len(graded.queue))
    return Overview(figures.compute(log, shown, model), mine, prompts, with_others, experts)


def _with_others(facts: list[VoteFact], me: str) -> figures.Agreement | None:
    """Agreement of one reader with all others together, nobody named."""
    mine = {f.subject: figures.LEVELS[f.vote] for f in facts if f.reader == me}
    pairs = [(mine[f.subject], figures.LEVELS[f.vote]) for f in facts if f.reader != me and f.subject in mine]
    return figures.agreement(pairs) if pairs else None


def plots_of(found: Statistics) -> dict[str, str]:
    """SVG by name."""
    curve = [(day + 1.0, float(n)) for day, n in found.cumulative]
    weeks = {
        reader: [(week + 1.0, voted / shown) for week, shown, voted in rows]
        for reader, rows in found.acceptance_weeks.items()
    }
    return {
        "cumulative": plots.lines({"votes": [(0.0, 0.0), *curve]}, title="Votes so far", x_label="day"),
        "modality": plots.bars({k: float(v) for k, v in found.by_modality.items()}, title="Votes by modality"),
        "site": plots.bars({k: float(v) for k, v in found.by_site.items()}, title="Votes by centre"),
        "reader": plots.bars({k: float(v) for k, v in found.by_reader.items()}, title="Votes by reader"),
        "reasons": plots.bars({k: float(v) for k, v in found.reasons.items()}, title="Reasons given"),
        "acceptance": plots.lines(
            weeks,
            title="Acceptance rate by reader",
            x_label="week",
            y_label="votes / studies presented",
            top=1.0,
            percent=True,
        ),
    }
