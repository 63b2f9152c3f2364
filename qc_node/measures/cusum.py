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


FAST = CumulativeSum(1.3, 5.0, 3.5)
"""For what breaks: a coil element that is lost (about +3 spreads) shows within five series."""

SLOW = CumulativeSum(0.6, 11.0, 3.0)
"""For what creeps: a fifth more noise (about +1.2 spreads) shows within forty series."""

_STILL = 8
"""The newest series that must still show a drift: it ends soon after the repair."""


def sums(z: Array, kind: CumulativeSum, slack: float) -> tuple[Array, Array]:
    """The sum at the newest series, and how many series it has been above zero.

    Parameters
    ----------
    z
        ``(N, M)``, spreads from the centre in the worse direction, oldest first; NaN counts nothing.
    slack
        Added to the allowance, for the centre itself is known so well only.

    Returns
    -------
    ``(M,)`` each; the second is at least 1.
    """
    over = np.nan_to_num(np.clip(z, -kind.most, kind.most) - (kind.allowance + slack))
    back = np.cumsum(over[::-1], axis=0)
    since = np.argmax(back, axis=0)
    best = np.take_along_axis(back, since[None, :], axis=0)[0]
    return np.maximum(best, 0.0), since + 1


def lasts(z: Array, since: Array, allowance: float) -> Array:
    """Whether the newest series still show it: their mean is beyond the allowance; ``(M,)`` of bool."""
    recent = z[-_STILL:]
    age = np.arange(len(recent), 0, -1)[:, None]
    inside = (age <= since) & ~np.isnan(recent)
    total = np.where(inside, np.clip(recent, -4.0, 4.0), 0.0).sum(axis=0)
    return np.asarray(total > allowance * np.maximum(inside.sum(axis=0), 1))
