"""How far two raters agree beyond chance: the one kappa, of the statistics page and of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


def weighted_kappa(
    pairs: Iterable[tuple[int, int]] | Mapping[tuple[int, int], int], levels: int = 3, power: int = 2
) -> float | None:
    """Cohen's kappa with weights ``|i - j| ** power`` (0 plain, 1 linear, 2 quadratic).

    Parameters
    ----------
    pairs
        What the two raters said of each item, ``0 .. levels - 1``; or how often each pair of answers came.

    Returns
    -------
    float or None
        1 for full agreement, 0 for that of chance.  None for no pairs, or when chance alone explains everything
        (both raters always gave the same one answer).

    Notes
    -----
    Source: J. Cohen, Psychological Bulletin 70 (1968) 213-220.
    """
    counts = Counter(pairs)
    n = sum(counts.values())
    if n == 0:
        return None
    first, second = [0] * levels, [0] * levels
    for (a, b), count in counts.items():
        first[a] += count
        second[b] += count
    apart = {(a, b): abs(a - b) ** power for a in range(levels) for b in range(levels) if a != b}
    observed = sum(apart.get(pair, 0) * count for pair, count in counts.items()) / n
    chance = sum(weight * first[a] * second[b] for (a, b), weight in apart.items()) / (n * n)
    return None if chance == 0 else 1.0 - observed / chance
