"""What a familiar image is, learnt from a pack; and how far from it an image may be and still be answered.

The distance (:mod:`qc_node.classifiers.brain_mri.novelty`) is fitted without a protocol and measured on its proper
images, for every protocol in turn; the limit lies above nearly all of them.  So a new scanner alone is not unlike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.brain_mri.novelty import MOST_SD, Novelty
from qc_node.training.brain_mri.training import left_out, packed

FloatArray = npt.NDArray[np.float64]

KEPT = 0.98
"""Share of the proper images of a protocol left out that must stay familiar, in the worst protocol too."""


def familiar_rows(pack: packed.Pack, without: Sequence[str] = ()) -> npt.NDArray[np.int64]:
    """Rows that make up what is familiar: every image but stripped twins, of the protocols not left out."""
    use = pack.targets["reject"] >= 0
    for group in without:
        use[left_out.rows_of(pack, group)] = False
    return np.flatnonzero(use)


def fit(features: npt.NDArray[np.floating]) -> Novelty:
    """The distance from images with these numbers ``(n, d)``: covariance shrunk as Ledoit & Wolf (2004) do it."""
    from sklearn.covariance import ledoit_wolf

    numbers = features.astype(np.float64)
    mean, scale = numbers.mean(0), numbers.std(0) + 1e-3
    x = np.clip((numbers - mean) / scale, -MOST_SD, MOST_SD)
    covariance, _ = ledoit_wolf(x)
    values, vectors = np.linalg.eigh(covariance)
    return Novelty(mean, scale, vectors.T / np.sqrt(np.maximum(values, 1e-9))[:, None])


def distances(pack: packed.Pack, without: Sequence[str] = ()) -> dict[str, FloatArray]:
    """Per protocol the distances of its proper images, by a measure that never saw it.

    Parameters
    ----------
    without
        Protocols that take part in nothing.
    """
    out = {}
    for group in left_out.groups_of(pack):
        if group in without:
            continue
        rows = left_out.rows_of(pack, group)
        proper = rows[pack.targets["reject"][rows] == 0]
        out[group] = fit(pack.features[familiar_rows(pack, (*without, group))]).distance(pack.features[proper])
    return out


def limit(pack: packed.Pack, without: Sequence[str] = ()) -> float:
    """The distance below which :data:`KEPT` of the proper images of every protocol left out lie."""
    found = [float(np.quantile(d, KEPT)) for d in distances(pack, without).values() if d.size]
    return round(max(found), 3)
