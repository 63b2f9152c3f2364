"""Ordinal logistic regression on metrics: one weight per metric for all thresholds.

Proportional odds (McCullagh 1980), fitted threshold by threshold as in Cao et al. 2020, ridge-penalised, on soft
labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

SCALINGS = ("training sites", "each site")

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def scaled(values: FloatArray, sites: npt.ArrayLike, training: Mask, scaling: str) -> FloatArray:
    """Metrics by median and interquartile range, with long tails drawn in (inverse hyperbolic sine).

    Parameters
    ----------
    training
        ``(n,)`` rows from which ``training sites`` takes median and spread; ``each site`` takes a site's own.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {SCALINGS}, not {scaling!r}")
    where = np.asarray(sites)
    groups = (
        [(training, np.ones(where.size, bool))]
        if scaling == "training sites"
        else [(where == site, where == site) for site in np.unique(where)]
    )
    out = np.zeros_like(values)
    for source, target in groups:
        low, middle, high = np.quantile(values[source], [0.25, 0.5, 0.75], axis=0)
        # Half of the scans may agree to six digits (voxel size); a tenth of the SD keeps the rest in view.
        spread = np.maximum((high - low) / 1.349, values[source].std(0) / 10)
        # A metric that is one number here (matrix size, voxel size of a protocol) says nothing: zero.
        told = spread > 1e-9 * (1 + np.abs(middle))
        out[target] = np.where(told, np.arcsinh((values[target] - middle) / np.where(told, spread, 1.0)), 0.0)
    return out


@dataclass(frozen=True)
class Ordinal:
    """P(grade > k) = sigmoid(x . weights + offsets[k]), k = 0 .. n_classes - 2."""

    weights: FloatArray
    offsets: FloatArray

    def above(self, x: FloatArray) -> FloatArray:
        """``(n, n_metrics)`` scaled metrics to ``(n, n_classes - 1)`` P(grade > k), falling with k."""
        return np.asarray(special.expit((x @ self.weights)[:, None] + self.offsets), dtype=np.float64)


def fit_ordinal(x: FloatArray, labels: FloatArray, ridge: float, start: Ordinal | None = None) -> Ordinal:
    """Newton's method on the penalised log loss, which is convex.

    Parameters
    ----------
    x, labels
        ``(n, d)`` scaled metrics and ``(n, n_classes)`` soft labels; rows of zeros do not count.
    ridge
        Half of it times the squared length of the weights is added to the sum of losses over scans.
    start
        Where to begin; the fit of a neighbouring ridge saves half of the time.
    """
    known = labels.sum(1) > 0
    x, truth = x[known], 1.0 - np.cumsum(labels[known], axis=1)[:, :-1]
    d, k = x.shape[1], truth.shape[1]
    # The offsets are as good as free; the trace of a penalty keeps them finite where a grade never occurs.
    penalty = np.concatenate([np.full(d, ridge), np.full(k, 1e-3)])

    def loss_of(theta: FloatArray) -> float:
        z = (x @ theta[:d])[:, None] + theta[d:]
        return float((np.logaddexp(0, z) - truth * z).sum() + 0.5 * (penalty * theta**2).sum())

    theta = np.zeros(d + k) if start is None else np.concatenate([start.weights, start.offsets])
    loss = loss_of(theta)
    for _ in range(100):
        p = special.expit((x @ theta[:d])[:, None] + theta[d:])
        wrong, curved = p - truth, p * (1 - p)
        gradient = np.concatenate([x.T @ wrong.sum(1), wrong.sum(0)]) + penalty * theta
        hessian = np.diag(penalty)
        hessian[:d, :d] += (x * curved.sum(1)[:, None]).T @ x
        hessian[:d, d:] += x.T @ curved
        hessian[d:, :d] += curved.T @ x
        hessian[d:, d:] += np.diag(curved.sum(0))
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while (new := loss_of(theta - length * step)) > loss and length > 1e-6:
            length /= 2
        theta, gain, loss = theta - length * step, loss - new, new
        if gain < 1e-7 * (1 + abs(loss)):
            break
    return Ordinal(theta[:d], theta[d:])
