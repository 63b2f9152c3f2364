"""What is read from one series before any rule, and the thresholds of the rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.abdomen import Organs
from qc_node.classifiers.ct.head import HeadVessels


@dataclass(frozen=True)
class Rules:
    """Thresholds of the card; each default is what an unfitted model would use.

    Attributes
    ----------
    position_temperature
        Slice logits are divided by it before the softmax.
    contrast_scale, contrast_bias
        Logit of "enhanced" below the skull base = scale * pooled logit of the slices + bias, fitted on persons
        that the network never saw.
    head_excess, head_slope
        A head with more than head_excess HU of vessel excess is not called plain; head_slope HU of spread
        over all places count as one logit.  See :func:`~qc_node.classifiers.ct.contrast.head_logit`.
    neck_network, neck_excess, neck_slope
        Where vessels of the neck were measured, the logit below the skull base = neck_network * pooled logit
        of the slices + (vessel excess - neck_excess) / neck_slope, the latter in HU; fitted as above.
    chest_excess, chest_slope
        Where blood between the lungs was measured, its logit = (blood excess - chest_excess) / chest_slope, in HU,
        is added.  Set beforehand, not fitted: half-way between what plain (at most 0) and late portal venous blood
        (70) is above muscle, so that either end is worth 150 to 1.
    aorta_excess, aorta_slope
        The same for the aorta in front of the spine: plain blood has at most 10 HU more than muscle (in a patient
        with much haemoglobin and little muscle), blood minutes after an injection at least 25.
    most_network, most_network_chest
        The slices count for at most most_network, and for at most most_network_chest where anything was measured
        below the neck: a network that has seen ten enhanced trunks is not worth more than 20 to 1.
    contrast_correlation
        Slices that count as one observation.
    least_part
        Below this probability of the best body part the answer is withheld.
    least_contrast, least_contrast_neck
        Below this probability of the better contrast answer it is withheld.  Necks need more: their vessels
        are a voxel or two wide.
    least_fit
        Mean log-likelihood per slice, against a uniform guess, that a body must reach.
    """

    position_temperature: float = 1.0
    contrast_scale: float = 1.0
    contrast_bias: float = 0.0
    head_excess: float = 19.0
    head_slope: float = 2.5
    neck_network: float = 0.5
    neck_excess: float = 33.0
    neck_slope: float = 6.0
    chest_excess: float = 35.0
    chest_slope: float = 7.0
    aorta_excess: float = 17.0
    aorta_slope: float = 3.5
    most_network: float = 3.0
    most_network_chest: float = 3.0
    contrast_correlation: float = 8.0
    least_part: float = 0.5
    least_contrast: float = 0.7
    least_contrast_neck: float = 0.85
    least_fit: float = 0.25


@dataclass(frozen=True)
class Reading:
    """What the networks saw and what was measured in one prepared volume, before any rule.

    Every measure is HU above muscle (in the head: above the surroundings), None where the scan does not offer it.
    """

    sections: npt.NDArray[np.float64]
    """``(Z, CLASSES)`` probabilities."""
    contrast: npt.NDArray[np.float64]
    """``(Z,)`` logits."""
    used: npt.NDArray[np.bool_]
    head: HeadVessels | None = None
    """Bright structures inside the skull."""
    neck: float | None = None
    """Vessels of the neck."""
    chest: float | None = None
    """Blood between the lungs."""
    aorta: float | None = None
    """The aorta above the duodenum."""
    aorta_low: float | None = None
    """The aorta from the duodenum to the bifurcation."""
    organs: Organs | None = None
    """Kidneys, spleen and liver."""
    femoral: float | None = None
    """Vessels of the groins."""
    air: float = 1.0
    """Share of slices that enclose air."""
    skull_ml: float = 0.0
    """Volume inside closed bone."""


def places(sections: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``(Z,)`` mean position on the body axis in mm of ``(Z, CLASSES)`` probabilities; NaN off the body."""
    body = sections[:, : anatomy.SECTIONS]
    mass = body.sum(1)
    mean: npt.NDArray[np.float64] = np.where(mass > 0.5, body @ anatomy.CENTRES / np.maximum(mass, 1e-9), np.nan)
    return mean
