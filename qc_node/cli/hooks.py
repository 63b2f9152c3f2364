"""What the counter's commands need from rooms that the counter may not know: settings, models, rater tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from qc_node.cli.votes import Hooks
from qc_node.config import Settings
from qc_node.engine.judging import SeriesOutcome

LEVELS = 3
"""Good, acceptable, poor."""


def web_hooks(load_settings: Callable[[Path | None], Settings]) -> Hooks:
    """Hooks for ``votes``, ``readers`` and ``review``."""

    def classify(folder: Path, on_problem: Callable[[str], None]) -> Iterator[SeriesOutcome]:
        from qc_node.engine.classify import classify_paths
        from qc_node.engine.registry import Registry, choose_device
        from qc_node.node import rules_of

        settings = load_settings(None)
        registry = Registry(settings.classify.models_dir, choose_device(settings.classify.device))
        return classify_paths([folder], None, registry, rules_of(settings), on_problem)

    return Hooks(load_settings=load_settings, classify=classify, soft_labels=soft_labels)


def soft_labels(ratings: Sequence[tuple[str, str, int]]) -> Mapping[str, Sequence[float]]:
    """Probability of each level by item, after Dawid and Skene, with each rater's severity accounted for.

    Parameters
    ----------
    ratings
        ``(item, rater, level 0-2)``.
    """
    from qc_node.training.raters.consensus import MISSING, dawid_skene

    if not ratings:
        return {}
    items = {item: n for n, item in enumerate(dict.fromkeys(r[0] for r in ratings))}
    raters = {rater: n for n, rater in enumerate(dict.fromkeys(r[1] for r in ratings))}
    votes = np.full((len(items), len(raters)), MISSING, np.int64)
    for item, rater, level in ratings:
        votes[items[item], raters[rater]] = level
    labels = dawid_skene(votes, LEVELS).labels
    return {item: labels[n].tolist() for item, n in items.items()}
