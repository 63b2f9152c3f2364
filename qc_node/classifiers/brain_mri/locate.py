"""Where the head lies, and by how many independent means that is known.

The average head is registered to the image as it is; that is enough for most.  Where it fits badly, or where the
head so placed would be cut off, stripped or turned, a brain mask is asked
(:mod:`qc_node.classifiers.brain_mri.brain_mask`), and from its place the average head is fitted to a copy evened
inside the outline of the head.  Without a mask the outline gives the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.brain_mri import brain_mask, checks, evidence, outline, preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.domain import Reason

Matrix = npt.NDArray[np.float64]

WORTH_REFINING_NCC = 0.6
"""Below, at 8 mm, the image as it is will not fit well at 4 mm either, and other means are asked."""
TURNED_GAIN = 0.12
"""So much better the average head must fit turned to be called wrongly oriented."""
TURNED_NCC = 0.45
TURNED_FIT = 0.03
"""So much better the mask must fit with the image turned."""
EVENED_WARNING = "The image is so uneven that the head was found on an evened copy."


@dataclass(frozen=True)
class Located:
    """The place of the head, ``(4, 4)`` from the average head's frame to the image, and what speaks for it."""

    matrix: Matrix
    measures: checks.Measures
    warnings: tuple[str, ...] = ()


class Locator:
    """Finds heads like one average head."""

    def __init__(self, head: preprocess.AverageHead, second: brain_mask.SecondOpinion | None = None) -> None:
        self.head = head
        self.second = second
        self.targets = outline.outline_targets(head)

    def __call__(self, grid: reg.Grid, measures: checks.Measures) -> Located:
        """The place of the head in an image whose values are finite."""
        plain = preprocess.align(grid, self.head.targets, fine_from=WORTH_REFINING_NCC)
        coarse = reg.shrink(grid, 4.0)
        solid = outline.outline(coarse)
        m = replace(
            measures,
            ncc=plain.ncc,
            at=checks.at_place(coarse, plain.matrix, self.head),
            cut_above=outline.cut_above(coarse, solid),
        )
        if not evidence.unplain(m):
            return Located(plain.matrix, m)
        even = outline.evened_inside(coarse, solid)
        found = self.second(coarse, solid) if self.second is not None else None
        if plain.ncc >= evidence.AS_IS_NCC and m.at is not None and evidence.fault(m.at) is Reason.ORIENTATION:
            found = self._upright(coarse, plain.matrix, found) or found
        evened = self._evened(coarse, solid, even, found)
        by_mask = None
        if found is not None and found.matrix is not None:
            by_mask = checks.at_place(coarse, found.matrix, self.head)
        m = replace(m, evened_ncc=evened.ncc, mask=found, by_mask=by_mask)
        place = evidence.place_of(m)
        if place is evidence.Place.EVENED:
            at = checks.at_place(even, evened.matrix, self.head)
            return Located(evened.matrix, replace(m, at=at), (EVENED_WARNING,))
        if place is evidence.Place.MASK and found is not None and found.matrix is not None:
            return Located(found.matrix, replace(m, at=by_mask))
        if place is not evidence.Place.AS_IS:
            m = replace(m, turned=self._turned(grid, coarse, plain.ncc, found))
        return Located(plain.matrix, m)

    def _evened(
        self, coarse: reg.Grid, solid: outline.Mask, even: reg.Grid, found: brain_mask.BrainFound | None
    ) -> reg.Alignment:
        """The average head on the evened copy, from the mask, or from the outline where there is no mask."""
        if found is not None and found.matrix is not None and found.fit >= evidence.NO_BRAIN_FIT:
            return outline.refined(even, self.targets, found.matrix)
        return outline.place(coarse, solid, even, self.targets)

    def _upright(
        self, coarse: reg.Grid, matrix: Matrix, found: brain_mask.BrainFound | None
    ) -> brain_mask.BrainFound | None:
        """What the mask shows with the image turned as `matrix` says, if it fits better so; else None."""
        if self.second is None:
            return None
        turned = self.second.turned(coarse, matrix)
        better = turned.fit > (found.fit if found is not None else 0.0) + TURNED_FIT
        return turned if better and turned.fit >= evidence.BRAIN_FIT else None

    def _turned(self, grid: reg.Grid, coarse: reg.Grid, ncc: float, found: brain_mask.BrainFound | None) -> bool:
        """Whether the head lies turned by 90 or 180 degrees: by grey values and by the mask."""
        turned = preprocess.align(grid, self.head.targets, upside_down=True)
        if turned.ncc < max(ncc + TURNED_GAIN, TURNED_NCC):
            return False
        return self._upright(coarse, turned.matrix, found) is not None
