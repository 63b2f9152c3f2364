"""What is normal for a scanner, protocol and software version, and what is far from it.  Pure.

Earlier series of the same chart say what is normal: the older of them are the baseline, the newest are tested
together with the present one, so that the baseline does not follow a drift.  Positive measures are compared as
logarithms (a fifth more is a fifth more, whatever the level; of a share that is nearly 0 it matters less), body
size is taken out by a robust line where it is known.  Only measures with a better direction call, and only in the
worse one.  The limits were chosen on simulated years and are shown on others (``docs/baselines.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qc_node.domain.measure import Baseline, Better, Measure, Unit, Unusual
from qc_node.measures import cusum, robust
from qc_node.measures.robust import Array

WINDOW = 240
"""How many of the newest earlier series of a chart are of use; more change nothing."""

ENOUGH = 40
"""Earlier series before anything is said."""

TESTED = 80
"""The newest series that are tested for a drift, and not yet part of the baseline."""

OUTLIER = 8.0
"""Spreads from the centre at which one series alone is unusual, where the baseline is long."""

TAIL = 2.5
"""And how many times as far as the third farthest series of the baseline; as the farthest where most are equal."""

_SHORT = 20.0
"""A baseline of so many series would double the limit: it knows neither the spread nor the tails well."""

_LONG = 80
"""A baseline of so many series in which a measure never changed tells that it never does."""

_VALUES = 30
"""Values that a measure must have within the baseline."""

_SIZES = 30
"""Known body sizes that a line needs within the baseline."""

_LOG_FLOOR, _SHARE_FLOOR = 0.02, 0.001
"""Least spread of a logarithm (2 %), and of a share or percentage as part of its range above 0."""

_SHARE_START = 0.005
"""As part of its range, added to a share before its logarithm: twice next to nothing is next to nothing."""

_FLOORS = {Unit.HU: 1.0, Unit.DEG: 0.1, Unit.MM: 0.1, Unit.ONE: 0.1}
"""Least spread of other units, where they are compared as they are."""


@dataclass(frozen=True, slots=True)
class PastSeries:
    """An earlier series of the same chart.

    Attributes
    ----------
    values
        By name of the measure.
    body_size
        Relative; None where it is not known.
    """

    values: Mapping[str, float]
    body_size: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One series against what is normal for it.

    Attributes
    ----------
    unusual
        What calls, the farthest first; at most one entry per measure.  Of a drift ``z`` is the mean of the series
        that it has lasted.
    lacking
        How many series are missing before anything is said.
    z
        How far every charted measure is from normal, in spreads; also of those that call nobody.
    baselines
        What is normal, for this body size.
    """

    unusual: tuple[Unusual, ...]
    lacking: int
    z: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What the baseline says of M measures, and where N series lie in it.

    Attributes
    ----------
    names, logarithms, starts, worse
        ``(M,)``: measures, which are compared as logarithms, what is added before, and the worse direction (1, -1;
        0 calls nobody).
    centre, spread
        ``(N, M)`` on the scale of comparison, for each series' size.
    usual
        ``(2, M)``, centre and spread for a patient of usual size.
    z
        ``(N, M)``; NaN where there is no value or too few earlier ones.
    series
        Length of the baseline: the first so many of the N.
    """

    names: tuple[str, ...]
    logarithms: Array
    starts: Array
    worse: Array
    centre: Array
    spread: Array
    usual: Array
    z: Array
    series: int

    def baseline(self, row: int, column: int) -> Baseline:
        """What is normal for one series, in the unit of the measure."""
        centre, spread = float(self.centre[row, column]), float(self.spread[row, column])
        if self.logarithms[column]:
            start = float(self.starts[column])
            started = float(np.exp(centre))
            return Baseline(started - start, started * spread, self.series, logarithmic=True, start=start)
        return Baseline(centre, spread, self.series)

    def at_usual_size(self, column: int, z: float) -> float:
        """The value `z` spreads from the centre for a patient of usual size, in the unit of the measure."""
        centre, spread = self.usual[:, column]
        scaled = float(centre + z * spread)
        return float(np.exp(scaled) - self.starts[column]) if self.logarithms[column] else scaled


def baseline_length(series: int) -> int:
    """How many of so many earlier series, the oldest ones, are the baseline.

    Examples
    --------
    >>> [baseline_length(n) for n in (40, 100, 160, 240)]
    [40, 50, 80, 160]
    """
    return min(series, max(ENOUGH, series // 2, series - TESTED))


def compare(
    values: Mapping[str, float],
    body_size: float | None,
    history: Sequence[PastSeries],
    measures: Mapping[str, Measure],
) -> Comparison:
    """Compare one series with the earlier ones of its chart.

    Parameters
    ----------
    values
        By name of the measure; those not in `measures` or not charted are left out.
    body_size
        Relative; None where it is not known.
    history
        Oldest first; the newest :data:`WINDOW` are used.
    measures
        What the names mean.
    """
    history = history[-WINDOW:]
    if len(history) < ENOUGH:
        return Comparison((), ENOUGH - len(history))
    charted = {name: measures[name] for name in values if name in measures and measures[name].charted}
    if not charted:
        return Comparison((), 0)
    learnt = learn([*history, PastSeries(values, body_size)], charted, baseline_length(len(history)))
    return _said(learnt, values)


def learn(series: Sequence[PastSeries], measures: Mapping[str, Measure], length: int) -> Learnt:
    """What the first `length` series say is normal, and where all of them lie in it.

    Parameters
    ----------
    series
        N of them, oldest first.
    measures
        M of them; all are learnt.
    """
    table = np.array([[one.values.get(name, np.nan) for name in measures] for one in series], dtype=np.float64)
    sizes = np.array([one.body_size or np.nan for one in series], dtype=np.float64)
    return learn_table(table, sizes, measures, length)


def learn_table(raw: Array, sizes: Array, measures: Mapping[str, Measure], length: int) -> Learnt:
    """As :func:`learn`, of values ``(N, M)`` and sizes ``(N,)``; NaN where there is none."""
    names, kinds = tuple(measures), list(measures.values())
    logarithms, starts = _logarithms(raw[:length], kinds), np.array([_start(one) for one in kinds])
    scaled, floor = _scaled(raw, logarithms, starts, length), _floors(raw[:length], kinds, logarithms, starts)
    centre, spread, usual = _normal(scaled, np.log(sizes), kinds, floor, length)
    enough = (~np.isnan(scaled[:length])).sum(axis=0) >= _VALUES
    z = np.where(enough, (scaled - centre) / spread, np.nan)
    worse = np.array([_worse(one) for one in kinds])
    return Learnt(names, logarithms, starts, worse, centre, spread, usual, z, length)


def _worse(measure: Measure) -> float:
    return {Better.LOWER: 1.0, Better.HIGHER: -1.0, Better.NEITHER: 0.0}[measure.better]


def _logarithms(base: Array, kinds: Sequence[Measure]) -> Array:
    """Which measures are compared as logarithms: what is positive, and no logarithm already."""
    amount = np.array([one.low >= 0 and not one.is_logarithm for one in kinds])
    known = np.maximum((~np.isnan(base)).sum(axis=0), 1)
    return np.asarray(amount & ((base > 0).sum(axis=0) >= 0.95 * known))


def _start(measure: Measure) -> float:
    return _SHARE_START * measure.high if _is_share(measure) else 0.0


def _is_share(measure: Measure) -> bool:
    """Whether it is part of a whole; a percentage that may exceed 100 (noise of the signal) is an amount."""
    return (measure.unit is Unit.PERCENT and measure.high <= 100) or (
        measure.unit is Unit.ONE and measure.high <= 1
    )


def _scaled(raw: Array, logarithms: Array, starts: Array, length: int) -> Array:
    """Values on the scale of comparison; an amount of zero counts as half of the smallest of the baseline."""
    least = np.where(raw[:length] > 0, raw[:length], np.inf).min(axis=0) / 2
    least = np.where(starts > 0, 0.0, np.where(np.isfinite(least), least, 1.0))
    logs = np.log(np.where(logarithms, np.where(raw > 0, raw, least) + starts, 1.0))
    return np.asarray(np.where(logarithms, logs, raw) + 0.0 * raw)  # missing stays missing


def _normal(
    scaled: Array, sizes: Array, kinds: Sequence[Measure], floor: Array, length: int
) -> tuple[Array, Array, Array]:
    """Centre and spread for each series ``(N, M)``, by the line on size where its size is known; and the usual."""
    shape = np.ones_like(scaled)
    plain = np.array(robust.centre_and_spread(scaled[:length], floor))
    known = np.isfinite(sizes)
    if known[:length].sum() < _SIZES:
        return plain[0] * shape, plain[1] * shape, plain
    away = _from_usual_size(sizes, length)
    base, with_size, slope = known[:length], np.array([one.with_size for one in kinds]), np.zeros(len(kinds))
    slope[with_size] = robust.slopes(scaled[:length][base][:, with_size], away[:length][base])
    line = away[:, None] * slope
    fitted = np.array(robust.centre_and_spread((scaled - line)[:length][base], floor))
    by_line, usual = known[:, None] & with_size, np.where(with_size, fitted, plain)
    return np.where(by_line, fitted[0] + line, plain[0]), np.where(by_line, fitted[1], plain[1]), usual


def _from_usual_size(sizes: Array, length: int) -> Array:
    """Logarithm of size from its median, bounded so that a mistyped weight bends no line; unknown is usual."""
    middle, spread = robust.centre_and_spread(sizes[:length, None], np.array([1e-3]))
    return np.asarray(np.nan_to_num(np.clip(sizes - middle[0], -3 * spread[0], 3 * spread[0])))


def _floors(base: Array, kinds: Sequence[Measure], logarithms: Array, starts: Array) -> Array:
    """The least spread of each measure, on its scale of comparison."""
    shares = [_SHARE_FLOOR * one.high if _is_share(one) else 0.0 for one in kinds]
    plain = [share or _FLOORS.get(one.unit, 1e-9) for share, one in zip(shares, kinds, strict=True)]
    middle = np.nan_to_num(robust.quantiles(base, (0.5,))[0]) + starts
    of_share = np.array(shares) / np.where(starts > 0, np.maximum(middle, starts), 1.0)
    return np.asarray(np.where(logarithms, np.maximum(_LOG_FLOOR * (starts == 0), of_share), plain))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for the newest series being unusual, for M measures in their worse direction ``(M,)``.

    Attributes
    ----------
    single
        Spreads of this series alone, as a share of the limit for it.
    fast, slow
        Cumulative sums that still last, else 0.
    fast_since, slow_since
        For how many series they have been above zero.
    """

    single: Array
    fast: Array
    slow: Array
    fast_since: Array
    slow_since: Array


def evidence(learnt: Learnt) -> Evidence:
    """What speaks for the last series of `learnt` being unusual."""
    z = np.where(learnt.worse == 0, np.nan, learnt.z * learnt.worse)
    single = np.nan_to_num(z[-1] / _single_limit(np.nan_to_num(z[: learnt.series])))
    base, tested, slack = z[: learnt.series], z[learnt.series :], 1.25 / np.sqrt(learnt.series)
    found = []
    for kind in (cusum.FAST, cusum.SLOW):
        total, since = cusum.sums(tested, kind, slack, base)
        found.append((np.where(cusum.lasts(tested, since, kind.allowance), total, 0.0), since))
    (fast, fast_since), (slow, slow_since) = found
    return Evidence(single, fast, slow, fast_since, slow_since)


def _single_limit(base: Array) -> Array:
    """Spreads at which one series is unusual ``(M,)``, by those of the baseline ``(N, M)``.

    A measure that is mostly one value (a share that is 0 in most series) tells little of its tails: twice as far,
    and more where the baseline is short.  One that never had another value in a long one tells that any is odd.
    """
    ordered = np.sort(base, axis=0)
    never_another = (ordered[0] == ordered[-1]) & (len(base) >= _LONG)
    mostly_same = (ordered[len(base) // 10] == ordered[len(base) // 2]) & ~never_another
    farthest = np.where(mostly_same, ordered[-1], ordered[-3])
    short = np.where(mostly_same, 2 * _SHORT, _SHORT) / len(base)
    limit = np.maximum(OUTLIER * (1 + short), TAIL * farthest)
    return np.asarray(np.where(mostly_same, 2 * limit, limit))


def _said(learnt: Learnt, values: Mapping[str, float]) -> Comparison:
    """What is said of the last series of `learnt`."""
    seen = evidence(learnt)
    drifts = np.where(seen.fast >= cusum.FAST.limit, seen.fast_since, 0)
    drifts = np.maximum(drifts, np.where(seen.slow >= cusum.SLOW.limit, seen.slow_since, 0))
    judged = [int(column) for column in np.flatnonzero(~np.isnan(learnt.z[-1]))]
    baselines = {learnt.names[column]: learnt.baseline(-1, column) for column in judged}
    unusual = []
    for column in judged:
        name, since = learnt.names[column], int(drifts[column])
        if since:
            z = float(np.nanmean(learnt.z[-since:, column]))
            unusual.append(Unusual(name, values[name], z, baselines[name], "drift", since))
        elif seen.single[column] >= 1:
            unusual.append(Unusual(name, values[name], float(learnt.z[-1, column]), baselines[name]))
    unusual.sort(key=lambda one: -abs(one.z))
    return Comparison(
        tuple(unusual), 0, {learnt.names[column]: float(learnt.z[-1, column]) for column in judged}, baselines
    )
