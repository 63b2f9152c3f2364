"""Where white matter, grey matter and fluid are expected in a head, for the measures of its tissues."""

from __future__ import annotations

import numpy as np

from qc_node.classifiers.brain_mri.preprocess import AverageHead
from qc_node.classifiers.brain_mri.registration import Matrix
from qc_node.measures.t1w import ExpectedTissues

BRAIN = 0.6
"""Share of people who have brain at a place that is used."""
STRIDE = 8
"""Every eighth place of the 2 mm grid is enough."""


class TissuePlaces:
    """Places in the brain of one average head."""

    def __init__(self, head: AverageHead) -> None:
        k, j, i = (at[::STRIDE] for at in np.nonzero(head.channels[1] > BRAIN))
        self._points = np.stack([i, j, k], 1) @ head.affine[:3, :3].T + head.affine[:3, 3]
        # Channels: white matter, grey matter, ventricle.
        self._shares = np.ascontiguousarray(head.channels[2:5, k, j, i].T)

    def __call__(self, matrix: Matrix) -> ExpectedTissues:
        """The places in an image, by the transform from the frame of the average head to it."""
        return ExpectedTissues(self._points @ matrix[:3, :3].T + matrix[:3, 3], self._shares)
