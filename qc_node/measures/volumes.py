"""Everything that is measured of the slices of an MR or CT series.

Each part is measured for itself: one that fails on an odd image leaves a sentence at its own measures, and the
others have their values.  What parts share (regions, planes) is made once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qc_node.domain.measurable import Slices, TissueLevels
from qc_node.domain.measure import ALL, Measure, Measured
from qc_node.domain.technique import Technique
from qc_node.measures import (
    between_slices,
    coverage,
    ct,
    edges,
    ghosts,
    noise,
    patterns,
    shares,
    spectrum,
    t1w,
    uniformity,
)
from qc_node.measures.planes import ImagePlane, planes_of
from qc_node.measures.regions import Regions, regions_of

MR, CT = "MR", "CT"
NOT_MEASURED = "Series of this modality are kept and can be voted on; they are not measured."
OUT_OF_RANGE = "What was measured is no possible value."
MISSED = "It was not measured."


@dataclass(frozen=True, eq=False)
class VolumeLook:
    """One series and what several parts need of it."""

    slices: Slices
    technique: Technique
    modality: str
    levels: TissueLevels | None

    @cached_property
    def regions(self) -> Regions | str:
        """Body and air."""
        return regions_of(self.slices, hounsfield=self.modality == CT)

    @cached_property
    def planes(self) -> tuple[ImagePlane, ...]:
        """Planes through the object."""
        return planes_of(self.slices)

    @cached_property
    def noise(self) -> dict[str, float | str]:
        """Noise of MR, which the contrast of tissues is told by."""
        return noise.of_noise(self.slices, self.regions)

    def tissues(self) -> dict[str, float | str]:
        """Tissues of a T1-weighted head."""
        sigma = self.noise["noise_object"]
        return t1w.of_head(self.levels, None if isinstance(sigma, str) else sigma)


@dataclass(frozen=True, slots=True)
class VolumePart:
    """Measures that are taken together, and how."""

    measures: tuple[Measure, ...]
    take: Callable[[VolumeLook], Mapping[str, float | str]]


PARTS = (
    VolumePart(noise.MEASURES, lambda look: look.noise),
    VolumePart(uniformity.MEASURES, lambda look: uniformity.of_uniformity(look.regions)),
    VolumePart(shares.MEASURES, lambda look: shares.of_shares(look.slices, look.regions)),
    VolumePart(edges.MEASURES, lambda look: edges.of_planes(look.planes)),
    VolumePart(spectrum.MEASURES, lambda look: spectrum.of_planes(look.planes)),
    VolumePart(patterns.MEASURES, lambda look: patterns.of_planes(look.planes)),
    VolumePart(ghosts.MEASURES, lambda look: ghosts.of_planes(look.planes)),
    VolumePart(between_slices.MEASURES, lambda look: between_slices.of_slices(look.slices)),
    VolumePart(coverage.MEASURES, lambda look: coverage.of_slices(look.slices)),
    VolumePart(t1w.MEASURES, VolumeLook.tissues),
    VolumePart(ct.MEASURES, lambda look: ct.of_ct(look.slices, look.technique)),
)


def measure_volume(
    slices: Slices,
    technique: Technique,
    levels: TissueLevels | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """All measures of an MR or CT series.

    Parameters
    ----------
    levels
        What a classifier of T1-weighted heads found of the tissues (``tissue_levels`` of what it prepared);
        without it nothing is said of tissues.
    clock
        Seconds.

    Raises
    ------
    MemoryError
        The machine is too small.
    """
    start = clock()
    modality = technique.modality or slices.volume.modality
    if modality not in (MR, CT):
        return Measured(unmeasured={ALL: NOT_MEASURED}, seconds=clock() - start)
    look = VolumeLook(slices, technique, modality, levels)
    values: dict[str, float] = {}
    unmeasured: dict[str, str] = {}
    for part in PARTS:
        wanted = [m for m in part.measures if modality in m.modalities]
        if not wanted or (part.measures is t1w.MEASURES and levels is None):
            continue
        found = _isolated(part, look)
        for measure in wanted:
            value = within(measure, found.get(measure.name, MISSED))
            if isinstance(value, str):
                unmeasured[measure.name] = value
            else:
                values[measure.name] = value
    return Measured(values, unmeasured, clock() - start)


def _isolated(part: VolumePart, look: VolumeLook) -> Mapping[str, float | str]:
    """What a part measures; a sentence at each of its measures where it fails."""
    try:
        with np.errstate(all="ignore"):
            return part.take(look)
    except MemoryError:
        raise
    except Exception as error:  # an image that nobody thought of: it is this part's alone
        sentence = f"It could not be measured ({type(error).__name__})."
        return {m.name: sentence for m in part.measures}


def within(measure: Measure, value: float | str) -> float | str:
    """The value as a float where the measure may have it, else a sentence."""
    if isinstance(value, str):
        return value
    value = float(value)
    return value if np.isfinite(value) and measure.low <= value <= measure.high else OUT_OF_RANGE
