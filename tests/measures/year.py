"""A simulated year of a department: what charts see when nothing is wrong, and when something is.

Five scanners, eight protocols, five series a day of each protocol: 40 charts, 150 series a month each.  Ten
patients a day and scanner; each has four protocols, so charts of one scanner share their patients.  Of 25 measures
14 have a better direction.  The logarithm (or the value, for HU and shares) of a measure is

    level(scanner, protocol) + cv * (size + sex + patient + series) + day + season

- **cv**: the between-patient coefficient of variation, that of everything in the brackets.
- **size**: a third of the variance of the measures with size; body size is log-normal (17 %).  Two of the five
  scanners do not state it, the others state it for 95 % of patients, in 1 % ten times too small.
- **sex**: 5 % of the variance.
- **patient, series**: four factors and a rest, each from Student's t with 6 degrees of freedom (heavy tails), half
  of the variance of the factors belonging to the patient; twice as spread in 2 % of series (hard patients).
  Noise, SNR and contrast hang together through the factors.
- **day**: a slow wander of the scanner (autoregressive, 0.8 a day) of 1.5 %; **season**: 1.5 % up and down.
- One measure is a share that is 0 in nine of ten series; values of one measure are missing in a fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures import cusum, normal
from qc_node.measures.normal import PastSeries

Array = npt.NDArray[np.float64]
INF = float("inf")

SCANNERS, PROTOCOLS, A_DAY, DAYS_OF_MONTH = 5, 8, 5, 30
DEGREES = 6.0
DAY_WANDER, SEASON = 0.015, 0.015
FACTORS = 4
HARD = 0.02
HARDER = float(np.sqrt(1 + 3 * HARD))


def _measure(
    name: str, better: Better, unit: Unit = Unit.ONE, low: float = 0.0, high: float = INF, size: bool = False
) -> Measure:
    return Measure(
        name, name.replace("_", " "), unit, better, low, high, frozenset({"MR"}), "simulated", with_size=size
    )


L, H, N = Better.LOWER, Better.HIGHER, Better.NEITHER
MEASURES = {
    one.name: one
    for one in (
        _measure("noise", L, Unit.GREY, size=True),
        _measure("noise_wavelet", L, Unit.GREY, size=True),
        _measure("snr", H, size=True),
        _measure("snr_tissue", H, size=True),
        _measure("cnr", H, size=True),
        _measure("cjv", L),
        _measure("non_uniformity", L, Unit.PERCENT, 0, 100),
        _measure("ghost_rows", L, Unit.PERCENT, 0, 100),
        _measure("ghost_columns", L, Unit.PERCENT, 0, 100),
        _measure("edge_width", L, Unit.MM),
        _measure("stripes", L),
        _measure("motion", L, Unit.MM),
        _measure("clipped", L, Unit.ONE, 0, 1),
        _measure("water_off", L, Unit.HU, -1000, 3000),
        _measure("coverage", N, Unit.MM, size=True),
        _measure("entropy", N),
        _measure("slope", N, Unit.ONE, -10, 10),
        _measure("empty", N, Unit.ONE, 0, 1),
        *(_measure(f"tissue_{number}", N, Unit.CM, size=number < 3) for number in range(7)),
    )
}
"""25 measures with the kinds of range that real ones have; 14 of them call."""

NAMES = tuple(MEASURES)
NOISY = {"noise": 1.0, "noise_wavelet": 1.0, "snr": -1.0, "snr_tissue": -1.0, "cnr": -1.0}
"""What more noise moves, by which power."""


@dataclass(frozen=True, eq=False)
class Measuring:
    """What is measured of every series.

    Attributes
    ----------
    measures
        M of them.
    noisy
        What more noise moves, by which power.
    values
        From a generator, deviates ``(T, M)``, the variation between patients and the number of the protocol to
        values ``(T, M)``.
    """

    measures: Mapping[str, Measure]
    noisy: Mapping[str, float]
    values: Callable[[np.random.Generator, Array, float, int], Array]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.measures)

    @cached_property
    def loadings(self) -> Array:
        """``(FACTORS, M)``: how measures hang on the factors; the noisy ones together, the rest by chance."""
        rng = np.random.default_rng(20_261_126)
        loads = rng.normal(0, 0.35, (FACTORS, len(self.names)))
        for name, power in self.noisy.items():
            loads[:, self.names.index(name)] = [0.75 * power, 0.2, 0.1 * power, 0.0]
        return np.asarray(loads / np.maximum(np.sqrt((loads**2).sum(axis=0) / 0.8), 1.0))

    @cached_property
    def by_size(self) -> Array:
        """How a deviate follows the patient's size ``(M,)``; a third of the variance where it does."""
        signs = [(-1 if one.better is H else 1) if one.with_size else 0 for one in self.measures.values()]
        return np.asarray(np.sqrt(1 / 3) * np.array(signs))


@dataclass(frozen=True, eq=False)
class Chart:
    """All series of one scanner and protocol.

    Attributes
    ----------
    values
        ``(T, M)`` in the order of time.
    sizes
        ``(T,)``; NaN where the header does not state it.
    measuring
        What the columns are.
    """

    values: Array
    sizes: Array
    measuring: Measuring

    def changed(self, factors: Array) -> Chart:
        """The same with noise times `factors` ``(T,)``, and what follows from noise."""
        values = self.values.copy()
        for name, power in self.measuring.noisy.items():
            values[:, self.measuring.names.index(name)] *= factors**power
        return Chart(values, self.sizes, self.measuring)

    def past(self) -> list[PastSeries]:
        return [
            PastSeries(
                {
                    name: float(value)
                    for name, value in zip(self.measuring.names, row, strict=True)
                    if not np.isnan(value)
                },
                None if np.isnan(size) else float(size),
            )
            for row, size in zip(self.values, self.sizes, strict=True)
        ]


def _student(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(rng.standard_t(DEGREES, shape) * np.sqrt((DEGREES - 2) / DEGREES))


def scanner_year(seed: int, cv: float, days: int = 365, measuring: Measuring | None = None) -> list[Chart]:
    """The eight charts of one scanner, `days` long; the seed is its number."""
    measuring = measuring or INVENTED
    rng = np.random.default_rng(seed)
    patients = 2 * A_DAY * days
    size, sex = rng.normal(0, 0.17, patients), rng.choice([-1.0, 1.0], patients)
    person, day = _student(rng, patients, FACTORS), _wander(rng, days, len(measuring.names))
    stated = _stated(rng, 25 * np.exp(size)) if states_size(seed) else np.full(patients, np.nan)
    charts = []
    for protocol in range(PROTOCOLS):
        who = np.arange(patients).reshape(days, 2, A_DAY)[:, protocol % 2].ravel()
        deviates = _deviates(rng, measuring, size[who], sex[who], person[who])
        season = SEASON * np.sin(np.arange(len(who)) * 2 * np.pi / 365 / A_DAY)
        deviates += (np.repeat(day, A_DAY, axis=0) + season[:, None]) / cv
        charts.append(Chart(measuring.values(rng, deviates, cv, protocol), stated[who], measuring))
    return charts


def _stated(rng: np.random.Generator, sizes: Array) -> Array:
    luck = rng.random(len(sizes))
    return np.where(luck < 0.05, np.nan, np.where(luck > 0.99, sizes / 10, sizes))


def _wander(rng: np.random.Generator, days: int, measures: int) -> Array:
    steps = rng.normal(0, DAY_WANDER * np.sqrt(1 - 0.8**2), (days, measures))
    walk = np.zeros((days, measures))
    walk[0] = rng.normal(0, DAY_WANDER, measures)
    for number in range(1, days):
        walk[number] = 0.8 * walk[number - 1] + steps[number]
    return walk


def _deviates(rng: np.random.Generator, measuring: Measuring, size: Array, sex: Array, person: Array) -> Array:
    """Standard deviations from the level ``(T, M)``; their variance is 1."""
    loadings, big = measuring.loadings, measuring.by_size
    factors = np.sqrt(0.5) * (person + _student(rng, len(size), FACTORS))
    own = np.sqrt(np.maximum(1 - (loadings**2).sum(axis=0), 0)) * _student(rng, len(size), len(big))
    rest = (factors @ loadings + own) * np.where(rng.random(len(size)) < HARD, 2.0, 1.0)[:, None] / HARDER
    deviates = big * (size / 0.17)[:, None] + np.sqrt(0.05) * sex[:, None] + np.sqrt(0.95 - big**2) * rest
    return np.asarray(deviates)


def _values(rng: np.random.Generator, deviates: Array, cv: float, _protocol: int) -> Array:
    """Values of the invented measures, in their units."""
    log_spread = np.sqrt(np.log(1 + cv**2))
    level = np.exp(rng.normal(2, 0.3, len(NAMES)))
    values = level * np.exp(log_spread * deviates)
    for name, one in MEASURES.items():
        column = NAMES.index(name)
        if one.unit is Unit.PERCENT:
            values[:, column] = np.clip(10 * (1 + cv * deviates[:, column]), 0, 100)
        elif one.low < 0:
            values[:, column] = 3 * deviates[:, column]
        elif one.high <= 1:
            values[:, column] = np.clip(0.3 + 0.3 * cv * deviates[:, column], 0, 1)
    rare = rng.random(len(values)) < 0.1
    values[:, NAMES.index("clipped")] = np.where(rare, np.minimum(rng.exponential(0.01, len(values)), 1), 0)
    values[rng.random(len(values)) < 0.2, NAMES.index("motion")] = np.nan
    return np.asarray(values)


INVENTED = Measuring(MEASURES, NOISY, _values)


@dataclass(frozen=True, eq=False)
class Seen:
    """What :func:`qc_node.measures.normal.evidence` has of each series of a chart, as shares of the limits.

    Attributes
    ----------
    first
        The number of the first of T series in its chart.
    shares
        ``(T, 3, M)``: of the limit of a single series, of the fast and of the slow sum; 1 calls.
    names
        M of them.
    """

    first: int
    shares: Array
    names: tuple[str, ...]

    def of(self, *names: str) -> Array:
        """The largest share among some measures, ``(T,)``."""
        chosen = [self.names.index(name) for name in names or self.names]
        return np.asarray(self.shares[:, :, chosen].max(axis=(1, 2)))

    def alarms(self, limit: float = 1.0) -> list[int]:
        """Series at which somebody is called: calls within twenty series of the last one are the same."""
        called = self.first + np.flatnonzero(self.of() >= limit)
        return [int(now) for now, gap in zip(called, np.diff(called, prepend=-99), strict=True) if gap > 20]

    def delay(self, limit: float = 1.0, *names: str) -> float:
        """How many series until one calls, from 1; infinite where none does."""
        called = np.flatnonzero(self.of(*names) >= limit)
        return float(called[0] + 1) if len(called) else INF


def seen(chart: Chart, first: int = normal.ENOUGH, last: int | None = None) -> Seen:
    """Each series of a chart from `first` on, compared with what came before it, as a node does."""
    rows = [_shares(chart, number) for number in range(first, last or len(chart.values))]
    return Seen(first, np.array(rows), chart.measuring.names)


def _shares(chart: Chart, number: int) -> Array:
    start = max(0, number - normal.WINDOW)
    values, sizes = chart.values[start : number + 1], chart.sizes[start : number + 1]
    learnt = normal.learn_table(values, sizes, chart.measuring.measures, normal.baseline_length(number - start))
    found = normal.evidence(learnt)
    return np.array([found.single, found.fast / cusum.FAST.limit, found.slow / cusum.SLOW.limit])


def with_fault(chart: Chart, fault: str, onset: int) -> Chart:
    """The same with one of :data:`FAULTS` from series `onset` on."""
    return chart.changed(FAULTS[fault](np.arange(len(chart.values)) - onset))


FAULTS: dict[str, Callable[[npt.NDArray[np.int_]], Array]] = {
    "lost coil element, noise +60 %": lambda t: np.where(t >= 0, 1.6, 1.0),
    "step of noise +20 %": lambda t: np.where(t >= 0, 1.2, 1.0),
    "ramp of noise to +20 % in 20 series": lambda t: 1 + 0.2 * np.clip((t + 1) / 20, 0, 1),
    "ramp of noise to +20 % in 40 series": lambda t: 1 + 0.2 * np.clip((t + 1) / 40, 0, 1),
    "one series with noise x 2": lambda t: np.where(t == 0, 2.0, 1.0),
    "one series with noise x 3": lambda t: np.where(t == 0, 3.0, 1.0),
    "one series with noise x 5": lambda t: np.where(t == 0, 5.0, 1.0),
}
"""Noise as a factor by the number of the series from the onset on; what follows from noise moves with it."""

COIL, STEP, RAMP = tuple(FAULTS)[:3]


def states_size(scanner: int) -> bool:
    """Whether a scanner's headers tell how big patients are: three of five do."""
    return scanner % SCANNERS < 3
