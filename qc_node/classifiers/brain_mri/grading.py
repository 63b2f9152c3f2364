"""From measured damage to grades, and from what was measured on an image to certain verdicts.

The cut-offs were set by looking at ladders of damage on three training heads and committed on 2026-11-20
(16:52 UTC), before any network was trained or evaluated.  They follow the words of the paper's protocol
(Bottani et al. 2022, section 2.3.1): grade 1 "structures still distinguishable", grade 2 "difficult to
distinguish"; between two grades lies a grey zone in which two careful people would disagree.  Training
leaves the zone out; every evaluation reports with and without it.

Damage is measured on the central slices at 1 mm, inside the brain, against the clean twin:

motion
    RMS difference to the clean twin after rigid realignment, over a quarter of the white-matter level: the
    difference between white and grey matter of an image in which they are well told apart.  Until version
    0.2 it was taken over the clean twin's own difference; pictures of the training people showed that sharp
    images without tissue contrast then counted as severe motion.  The cut-offs stayed, and the change was
    committed (2026-11-21, 15:30 UTC) before anything was trained or evaluated with it.
noise
    SD of the added noise over the white-matter level on slices at 1 mm.  Sampling between voxels averages
    noise, so the number is about half of what the voxels of a 1 mm image have: 0.115 is an SNR of 4-5 there.
contrast
    (white - grey) / white, the relative tissue contrast that is left (smaller is worse).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qc_node.domain import Question


@dataclass(frozen=True, slots=True)
class Cut:
    """Grade 0 up to ``none``, 1 from ``moderate[0]`` to ``moderate[1]``, 2 from ``severe``; gaps are grey.

    For a quantity that falls with severity (contrast) the numbers fall too.
    """

    none: float
    moderate: tuple[float, float]
    severe: float


CUTS: dict[Question, Cut] = {
    Question.MOTION: Cut(0.08, (0.14, 0.28), 0.38),
    Question.CONTRAST: Cut(0.21, (0.175, 0.11), 0.08),
    Question.NOISE: Cut(0.025, (0.04, 0.085), 0.115),
}
"""Cut-offs with grey zones, committed 2026-11-20 (see the pictures in docs/images/brain-mri)."""


def grade_of(question: Question, damage: float) -> int | None:
    """Grade 0-2 of a measured damage; None inside a grey zone or for nan."""
    cut = CUTS[question]
    sign = 1.0 if cut.severe > cut.none else -1.0
    x = sign * damage
    if not np.isfinite(x):
        return None
    if x <= sign * cut.none:
        return 0
    if sign * cut.moderate[0] <= x <= sign * cut.moderate[1]:
        return 1
    return 2 if x >= sign * cut.severe else None


def nearest_grade(question: Question, damage: float) -> int:
    """Grade 0-2 with the grey zone split at its middle: for reporting "with the zone"."""
    cut = CUTS[question]
    sign = 1.0 if cut.severe > cut.none else -1.0
    first, second = (cut.none + cut.moderate[0]) / 2, (cut.moderate[1] + cut.severe) / 2
    return int(sign * damage > sign * first) + int(sign * damage > sign * second)
