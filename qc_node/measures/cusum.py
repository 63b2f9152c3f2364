"""Whether the last series together have moved: cumulative sums of many measures at once.  Pure.

A cumulative sum adds up by how much each series exceeds an allowance, and starts anew whenever it falls below zero
(Page 1954, Biometrika 41).  Each series counts with a bounded number of spreads, so that no single one, however
odd, makes a drift: three or more must agree (Lucas and Crosier 1982, Communications in Statistics 11: the robust
form).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qc_node.measures.robust import Array


@dataclass(frozen=True, slots=True)
class CumulativeSum:
    """One speed of looking.

    Attributes
    ----------
    allowance
        Spreads that a series may be off without adding anything.
    limit
        Sum at which the series together have moved.
    most
        Spreads that one series counts at most.
    """

    allowance: float
    limit: float
    most: float


FAST = CumulativeSum(1.3, 4.5, 3.5)
"""For what breaks: a coil element that is lost (about +3 spreads) shows within five series."""

SLOW = CumulativeSum(0.6, 11.0, 3.0)
"""For what creeps: a fifth more noise (about +1.2 spreads) shows within forty series."""

_STILL = 8
"""The newest series that must still show a drift: it ends soon after the repair."""

_CHANCE = 0.1
"""By how many spreads the moments of a baseline may differ from its quantiles for nothing."""


def sums(z: Array, kind: CumulativeSum, slack: float, base: Array) -> tuple[Array, Array]:
    """The sum at the newest series, and how many series it has been above zero.

    Parameters
    ----------
    z
        ``(N, M)``, spreads from the centre in the worse direction, oldest first; NaN counts nothing.
    slack
        Added to the allowance, for the centre itself is known so well only.
    base
        ``(B, M)``, the same of the baseline.

    Returns
    -------
    ``(M,)`` each; the second is at least 1.
    """
    lopsided, scale = _bounded_moments(base, kind.most)
    counted = (np.clip(z, -kind.most, kind.most) - lopsided) / scale
    over = np.nan_to_num(counted - (kind.allowance + slack))
    back = np.cumsum(over[::-1], axis=0)
    since = np.argmax(back, axis=0)
    best = np.take_along_axis(back, since[None, :], axis=0)[0]
    return np.maximum(best, 0.0), since + 1


def _bounded_moments(base: Array, most: float) -> tuple[Array, Array]:
    """Mean, at least 0, and standard deviation, at least 1, of what counts of a baseline ``(N, M)``.

    A share that is 0 in most series and more in some lies beyond its median, and farther than its spread says, all
    the time; that is no drift.  A tenth of a spread is chance and left out.
    """
    known = ~np.isnan(base)
    count = np.maximum(known.sum(axis=0), 1)
    bounded = np.where(known, np.clip(base, -most, most), 0.0)
    mean = bounded.sum(axis=0) / count
    deviation = np.sqrt((known * (bounded - mean) ** 2).sum(axis=0) / count)
    return np.where(mean > _CHANCE, mean, 0.0), np.where(deviation > 1 + _CHANCE, deviation, 1.0)


def lasts(z: Array, since: Array, allowance: float) -> Array:
    """Whether the newest series still show it: their mean is beyond the allowance; ``(M,)`` of bool."""
    recent = z[-_STILL:]
    age = np.arange(len(recent), 0, -1)[:, None]
    inside = (age <= since) & ~np.isnan(recent)
    total = np.where(inside, np.clip(recent, -4.0, 4.0), 0.0).sum(axis=0)
    return np.asarray(total > allowance * np.maximum(inside.sum(axis=0), 1))
