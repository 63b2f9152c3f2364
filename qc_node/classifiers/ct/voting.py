"""Soft voting over planes (Yoo et al. 2022, equation 1) and over slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def soft_vote(probabilities: Sequence[Array]) -> Array:
    """Mean of the members' probabilities; its largest class is the paper's ensemble answer.

    Parameters
    ----------
    probabilities
        One array ``(..., classes)`` per plane, each summing to 1 over the classes.

    Raises
    ------
    ValueError
        If there is no member or their shapes differ.
    """
    stack = np.stack([np.asarray(p, np.float64) for p in probabilities])
    mean: Array = stack.mean(0)
    return mean


def pooled_logit(logits: Array, weights: Array, correlation: float) -> float:
    """Evidence of many slices as one logit.

    The weighted mean says how clear the slices are; neighbouring slices repeat each other, so the number
    that counts is the number of slices divided by `correlation`, to the power one half.

    Parameters
    ----------
    logits, weights
        ``(Z,)``; weights at least 0.
    correlation
        Slices that count as one observation.
    """
    total = float(weights.sum())
    if total <= 0:
        return 0.0
    mean = float((np.clip(logits, -6.0, 6.0) * weights).sum() / total)
    return mean * float(np.sqrt(max(1.0, total / correlation)))
