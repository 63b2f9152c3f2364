"""How unlike everything that the networks were trained on an image is.

A network answers with the same confidence on an image of a kind that it never saw: what it says there is worth
nothing, whichever way it goes.  So the measured numbers are compared with those of the training images first:
Mahalanobis distance under a shrunk covariance (Ledoit & Wolf 2004; for networks Lee et al. 2018), here per number,
so that an image from the middle of the training images lies at 1 or below.

An image that is too far away is *undetermined* where the networks would take it for a proper one; being unlike is
never a reason to reject, because a new scanner is unlike too.  Rejects by the networks stay: of simulated straight
rejects of protocols left out an eighth lie beyond the limit, and hardly a wrong reject does.  The limit is set on
proper images of protocols left out (:mod:`qc_node.training.brain_mri.training.unlike`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

FILE = "novelty.safetensors"
"""File of the model folder."""
UNLIKE = "The image is unlike the images this model was trained on."
MOST_SD = 6.0
"""Numbers are clipped at so many SDs, so that one absurd number alone does not decide."""

FloatArray = npt.NDArray[np.float64]


class Novelty:
    """Distance from the training images.

    Parameters
    ----------
    mean, scale
        ``(d,)``: of the training images' numbers.
    whiten
        ``(k, d)``: takes standardised numbers to coordinates of unit variance.
    """

    def __init__(self, mean: FloatArray, scale: FloatArray, whiten: FloatArray) -> None:
        self.mean = mean
        self.scale = scale
        self.whiten = whiten

    def distance(self, features: npt.NDArray[np.floating]) -> FloatArray:
        """``(n, d)`` numbers -> ``(n,)`` distances, 0 and up; 1 or below for most training images."""
        x = np.clip((features.astype(np.float64) - self.mean) / self.scale, -MOST_SD, MOST_SD)
        z = x @ self.whiten.T
        return np.asarray(np.sqrt((z * z).mean(1)), dtype=np.float64)

    def tensors(self) -> dict[str, Tensor]:
        """As they are shipped."""
        import torch

        return {k: torch.from_numpy(getattr(self, k)).float() for k in ("mean", "scale", "whiten")}


def of_tensors(tensors: Mapping[str, Tensor], n_features: int) -> Novelty:
    """From the tensors of a model folder.

    Raises
    ------
    ValueError
        They do not belong to vectors of `n_features` numbers.
    """
    try:
        mean, scale, whiten = (tensors[k].double().numpy() for k in ("mean", "scale", "whiten"))
    except KeyError as error:
        raise ValueError(f"{error} is missing") from None
    if mean.shape != (n_features,) or scale.shape != mean.shape or whiten.shape[1:] != mean.shape:
        raise ValueError("the shapes do not fit the measured numbers")
    return Novelty(mean, scale, whiten)
