"""What a page needs to draw a control chart of one measure.  Pure; plain values.

Series of one scanner and protocol in the order of time.  A software update opens a new segment with a normal of
its own.  Values are drawn as for a patient of usual size where size was taken out: so they fit between the limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from qc_node.domain.measure import Measure
from qc_node.measures import normal
from qc_node.measures.normal import Learnt, PastSeries

LIMIT = 3.0
"""Spreads from the centre at which the lines of a chart are drawn, as Shewhart did; they do not call."""


@dataclass(frozen=True, slots=True)
class ChartedSeries:
    """One series of a scanner and protocol, as the ledger has it.

    Attributes
    ----------
    at
        Seconds since 1970.
    number
        What a link needs to find it.
    software
        Its software version.
    kinds
        What called when it came, by name of the measure: ``"outlier"`` or ``"drift"``.
    """

    at: float
    number: int
    software: str
    values: Mapping[str, float]
    body_size: float | None = None
    kinds: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """One value on a chart.

    Attributes
    ----------
    value
        As measured.
    drawn
        As for a patient of usual size.
    z
        Spreads from the centre; None while normal is being learnt.
    kind
        ``"outlier"``, ``"drift"``, or empty where it called nobody.
    """

    at: float
    number: int
    value: float
    drawn: float
    z: float | None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ChartSegment:
    """A stretch of one software version.

    Attributes
    ----------
    software
        Its version; where a segment follows another, a mark stands at `first_at`.
    centre, low, high
        What is normal, in the unit of the measure; None while it is being learnt.
    lacking
        How many series are missing before it is known.
    """

    software: str
    first_at: float
    last_at: float
    points: tuple[ChartPoint, ...]
    centre: float | None = None
    low: float | None = None
    high: float | None = None
    lacking: int = 0


@dataclass(frozen=True, slots=True)
class ControlChart:
    """One measure on one scanner in one protocol."""

    measure: Measure
    segments: tuple[ChartSegment, ...]


def control_chart(measure: Measure, series: Sequence[ChartedSeries]) -> ControlChart:
    """The chart of one measure.

    Parameters
    ----------
    series
        In the order of time; those without the measure are left out.
    """
    known = [one for one in series if measure.name in one.values]
    stretches = groupby(known, key=lambda one: one.software)
    return ControlChart(measure, tuple(_segment(measure, list(part)) for _, part in stretches))


def _segment(measure: Measure, series: Sequence[ChartedSeries]) -> ChartSegment:
    plain = ChartSegment(
        series[0].software,
        series[0].at,
        series[-1].at,
        tuple(_point(measure, one) for one in series),
        lacking=max(0, normal.ENOUGH - len(series)),
    )
    if plain.lacking:
        return plain
    past = [PastSeries(one.values, one.body_size) for one in series[-normal.WINDOW :]]
    learnt = normal.learn(past, {measure.name: measure}, normal.baseline_length(len(past)))
    low, centre, high = (learnt.at_usual_size(0, z) for z in (-LIMIT, 0.0, LIMIT))
    older = len(series) - len(past)
    drawn = tuple(_fitted(point, learnt, row) for row, point in enumerate(plain.points[older:]))
    return replace(
        plain,
        points=plain.points[:older] + drawn,
        centre=centre,
        low=max(low, measure.low),
        high=min(high, measure.high),
    )


def _point(measure: Measure, one: ChartedSeries) -> ChartPoint:
    value = one.values[measure.name]
    return ChartPoint(one.at, one.number, value, value, None, (one.kinds or {}).get(measure.name, ""))


def _fitted(point: ChartPoint, learnt: Learnt, row: int) -> ChartPoint:
    z = float(learnt.z[row, 0])
    if np.isnan(z):
        return point
    return replace(point, z=z, drawn=learnt.at_usual_size(0, z))
