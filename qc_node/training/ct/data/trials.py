"""What the CT networks are tested on: whole series, parts, and sub-range crops with known coverage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct.anatomy import body_part, readable
from qc_node.classifiers.ct.classifier import PreparedBody
from qc_node.classifiers.ct.projections import COARSE_MM, GRID
from qc_node.domain import BodyPart
from qc_node.training.ct.data.pack import PackItem

AMBIGUOUS_MM = 15.0
"""A crop counts only if its body part stays the same when either end moves by this much."""
LEAST_CROP = 15
"""Slices of 4 mm of the shortest crop: 60 mm."""


@dataclass(frozen=True)
class Case:
    """One thing to judge.

    Attributes
    ----------
    group
        ``"whole"``, ``"part"`` (a real series that shows only part of a region), ``"crop"`` (of a real
        series), ``"simulated whole"`` or ``"simulated crop"``.
    part
        True body part, None where nobody can say.
    enhanced
        1, 0, or -1 where unknown.
    """

    name: str
    person: str
    group: str
    coarse: npt.NDArray[np.int16]
    part: BodyPart | None
    enhanced: int

    def prepared(self) -> PreparedBody:
        """As the classifier wants it, without pictures."""
        edge = np.zeros(len(self.coarse), np.float32)
        return PreparedBody(self.coarse.astype(np.float16), {}, edge)


def index_part(label: str) -> BodyPart:
    """The body part of an INDEX.csv label; every ``other:…`` is other."""
    return BodyPart.OTHER if label.startswith("other") else BodyPart(label)


def crop_part(position: npt.NDArray[np.float32]) -> BodyPart | None:
    """The body part of slices at `position` (mm, one per slice) by the rules, None where it is ambiguous."""
    low, high = float(position[0]) - COARSE_MM / 2, float(position[-1]) + COARSE_MM / 2
    shifts = np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]) * AMBIGUOUS_MM
    found = set(body_part(low + shifts[:, 0], high + shifts[:, 1]).tolist())
    return list(BodyPart)[found.pop()] if len(found) == 1 else None


def cases_of(item: PackItem, crops: int, rng: np.random.Generator) -> Iterator[Case]:
    """The item as a whole (where its label is clear) and `crops` sub-ranges of it."""
    real = item.kind == "real"
    prefix = "" if real else "simulated "
    if real and item.use in ("whole", "part"):
        yield Case(item.name, item.person, item.use, item.coarse, index_part(item.label), item.enhanced)
    elif not real:
        yield Case(item.name, item.person, "simulated whole", item.coarse, crop_part(item.position), item.enhanced)
    on_axis = item.section == -1
    rows = np.flatnonzero(
        readable(item.coarse) & (np.nan_to_num(item.position, nan=1.0) > -8 if on_axis else True)
    )
    if len(rows) < LEAST_CROP + 4:
        return
    first, last = int(rows[0]), int(rows[-1]) + 1
    made = 0
    for _ in range(crops * 6):
        length = int(rng.integers(LEAST_CROP, last - first + 1))
        start = int(rng.integers(first, last - length + 1))
        part = crop_part(item.position[start : start + length]) if on_axis else BodyPart.OTHER
        if part is None:
            continue
        made += 1
        name = f"{item.name}[{start}:{start + length}]"
        yield Case(name, item.person, f"{prefix}crop", item.coarse[start : start + length], part, item.enhanced)
        if made >= crops:
            return


def composed(items: Sequence[PackItem], rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Scans of chest, abdomen and pelvis, which nobody here has whole: a chest set above another trunk.

    The seam lies at the dome of the diaphragm; both pieces keep their own scale.  They are `other` by the
    rules: no single body part holds chest and abdomen.
    """
    chests = [i for i in items if i.section == -1 and i.kind == "real" and _reaches(i, 290, 455)]
    trunks = [i for i in items if i.section == -1 and _reaches(i, 465, 660)]
    for number in range(count if chests and trunks else 0):
        upper, lower = chests[int(rng.integers(len(chests)))], trunks[int(rng.integers(len(trunks)))]
        a = upper.coarse[(upper.position > 275) & (upper.position < 460)]
        b = lower.coarse[lower.position >= 460]
        coarse = np.concatenate([a, b])
        assert coarse.shape[1:] == (GRID, GRID)
        yield Case(f"composed_{number}", upper.person, "simulated whole", coarse, BodyPart.OTHER, -1)


def _reaches(item: PackItem, low: float, high: float) -> bool:
    return bool(np.nanmin(item.position) <= low and np.nanmax(item.position) >= high)
