"""A simulated year of the measures that there are, of MR, CT and X-ray: people as in :mod:`tests.measures.year`.

Measures are those of the catalogue.  Levels, and spreads where they have one of their own, are of real images: ten
T1w heads of one protocol and nine other MR series, 20 CT volumes, five radiographs (``shared/data``, pydicom; leg,
hip and chest where a measure needs a large image).  Where so few images tell nothing (how often a share is not
zero, exposure indices, the tissues' contrast) it is a guess, marked so.  The eight protocols differ: each has its
own levels, air is blanked in three of MR, two are T1w heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qc_node.domain.measure import Measure
from qc_node.measures.catalogue import MEASURES
from tests.measures.year import Array, Measuring


@dataclass(frozen=True)
class Level:
    """How the values of one measure lie.

    Attributes
    ----------
    centre
        Of a usual series.
    cv
        Coefficient of variation between patients of a positive amount; that of the year where it is None.
    deviation
        Standard deviation of what is no amount; NaN of an amount.
    often
        Share of series that are not zero; these are exponential with mean `deviation`.
    protocols
        Which of the eight have it.
    """

    centre: float
    cv: float | None = None
    deviation: float = np.nan
    often: float = 1.0
    protocols: frozenset[int] = frozenset(range(8))

    def of(self, rng: np.random.Generator, deviates: Array, cv: float, measure: Measure) -> Array:
        """Values ``(T,)`` of deviates ``(T,)``."""
        if self.often < 1:
            found = rng.random(len(deviates)) < self.often
            values = np.where(found, rng.exponential(self.deviation, len(deviates)), 0)
        elif np.isnan(self.deviation):
            level = self.centre * np.exp(rng.normal(0, 0.3))
            values = level * np.exp(np.sqrt(np.log(1 + (self.cv or cv) ** 2)) * deviates)
        else:
            values = self.centre + self.deviation * (deviates + 0.5 * rng.normal())
        return np.clip(values, measure.low, measure.high)


def amount(centre: float, cv: float | None = None, protocols: frozenset[int] = frozenset(range(8))) -> Level:
    return Level(centre, cv, protocols=protocols)


def plain(centre: float, deviation: float, protocols: frozenset[int] = frozenset(range(8))) -> Level:
    return Level(centre, deviation=deviation, protocols=protocols)


def rare(often: float, mean: float) -> Level:
    return Level(0, deviation=mean, often=often)


HEADS, WITH_AIR = frozenset({0, 1}), frozenset({0, 1, 2, 3, 4})
BOTH = {
    "clipped_share": rare(0.1, 0.02),
    "wave_level": rare(0.005, 0.3),  # zero in all images; how often it is not is a guess
    "missing_slices": rare(0.0, 1.0),
    "coverage_lr_mm": amount(256, 0.05),
    "coverage_ap_mm": amount(256, 0.05),
    "coverage_hf_mm": amount(200, 0.05),
}
LEVELS: Mapping[str, Mapping[str, Level]] = {
    "MR": BOTH
    | {
        "noise_air_percent": amount(3.8, protocols=WITH_AIR),
        "noise_percent": amount(5.0),
        "nonuniformity": amount(22.0),
        "edge_width_mm": amount(1.9),
        "spectrum_slope": plain(-2.3, 0.06),
        "entropy_focus": plain(0.85, 0.012),
        "line_level": amount(2.5, 0.3),
        "ghost_along_rows": plain(0.05, 0.05),
        "ghost_along_columns": plain(0.4, 0.84),
        "slice_jump": amount(2.5, 0.3),
        "slice_shift": amount(0.5, 0.37),
        "grey_white_ratio": plain(0.75, 0.03, HEADS),
        "white_grey_cnr": amount(3.0, protocols=HEADS),
        "tissue_overlap": amount(0.6, protocols=HEADS),
    },
    "CT": BOTH
    | {
        "noise_hu": amount(8.2),
        "edge_width_mm": amount(1.5),
        "spectrum_slope": plain(-2.7, 0.2),
        "line_level": amount(0.86, 0.4),
        "slice_jump": amount(0.43, 0.4),
        "slice_shift": amount(0.66, 0.4),
        "air_hu": plain(-990, 5),
        "fat_hu": plain(-103, 8),
        "muscle_hu": plain(50, 6),
        "cut_outline": rare(0.4, 2.0),
        "ctdi_vol": amount(8.0),
    },
    "DX": {
        "grain": amount(0.38),
        "edge_width_mm": amount(0.9),
        "spectrum_slope": plain(-2.7, 0.3),
        "wave_level": rare(0.005, 0.3),
        "line_level": rare(0.2, 0.03),
        "grid_lines": amount(1.14, 0.05),
        "field_level": plain(50, 6),
        "field_share": plain(70, 10),
        "direct_share": plain(30, 8),
        "black_clipped": rare(0.2, 0.5),
        "white_clipped": rare(0.2, 0.5),
        "exposure_index": amount(300, 0.4),  # a guess, as the next
        "deviation_index": plain(0, 1.5),
        "target_miss": plain(0, 1.0),
    },
}
NOISY: Mapping[str, Mapping[str, float]] = {
    "MR": {"noise_air_percent": 1.0, "noise_percent": 1.0, "white_grey_cnr": -1.0},
    "CT": {"noise_hu": 1.0},
    "DX": {"grain": 1.0},
}


def _charted(modality: str) -> dict[str, Measure]:
    return {name: one for name, one in MEASURES.items() if modality in one.modalities and one.charted}


def _measuring(modality: str) -> Measuring:
    measures = _charted(modality)

    def values(rng: np.random.Generator, deviates: Array, cv: float, protocol: int) -> Array:
        levels, names = LEVELS[modality], list(measures)
        columns = [levels[name].of(rng, deviates[:, n], cv, measures[name]) for n, name in enumerate(names)]
        found = np.stack(columns, axis=1)
        if "target_miss" in measures:
            found[:, names.index("target_miss")] = np.abs(found[:, names.index("deviation_index")])
        for n, name in enumerate(names):
            if protocol not in levels[name].protocols:
                found[:, n] = np.nan
        return found

    return Measuring(measures, NOISY[modality], values)


MODALITIES: Mapping[str, Measuring] = {modality: _measuring(modality) for modality in LEVELS}
