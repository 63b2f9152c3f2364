"""Votes as soft labels: what the exports of votes carry beside the votes themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qc_node.training.raters.consensus import MISSING, dawid_skene

LEVELS = 3
"""Good, acceptable, poor."""


def soft_labels(ratings: Sequence[tuple[str, str, int]]) -> Mapping[str, Sequence[float]]:
    """Probability of each level by item, after Dawid and Skene, with each rater's severity accounted for.

    Parameters
    ----------
    ratings
        ``(item, rater, level 0-2)``.
    """
    if not ratings:
        return {}
    items = {item: n for n, item in enumerate(dict.fromkeys(r[0] for r in ratings))}
    raters = {rater: n for n, rater in enumerate(dict.fromkeys(r[1] for r in ratings))}
    votes = np.full((len(items), len(raters)), MISSING, np.int64)
    for item, rater, level in ratings:
        votes[items[item], raters[rater]] = level
    labels = dawid_skene(votes, LEVELS).labels
    return {item: labels[n].tolist() for item, n in items.items()}
