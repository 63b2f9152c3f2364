"""From the ledger to statistics, and from statistics to plots."""

from __future__ import annotations

from dataclasses import dataclass

from qc_node.ledger import Ledger
from qc_node.web.statistics import figures, plots
from qc_node.web.statistics.collecting import Collected
from qc_node.web.statistics.figures import Statistics
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
    graded = gradings.board(ledger.gradings.current())
    experts = Experts(gradings.tiers(graded), gradings.kappas(graded), len(graded.queue))
    return Overview(figures.summarise(facts.table, facts.model), mine, asked_for(ledger), with_others, experts)


def asked_for(ledger: Ledger) -> dict[str, int]:
    """How many prompts have each outcome; ``open`` without one."""
    prompts: dict[str, int] = {}
    for prompt in ledger.prompts.all():
        outcome = prompt["outcome"] or "open"
        prompts[outcome] = prompts.get(outcome, 0) + 1
    return prompts


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
