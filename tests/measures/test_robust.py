"""Quantiles, spreads and lines of many columns at once: equal to the plain ones, unmoved by odd values."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.measures import cusum, robust

RNG = np.random.default_rng(7)


def test_quantiles_are_numpys_with_missing_values_left_out() -> None:
    values = RNG.normal(0, 1, (53, 6))
    values[RNG.random(values.shape) < 0.2] = np.nan
    ranks = (0.0, 0.1, 0.5, 0.93, 1.0)
    assert np.allclose(robust.quantiles(values, ranks), np.nanquantile(values, ranks, axis=0))


def test_a_column_without_values_has_no_quantile() -> None:
    assert np.isnan(robust.quantiles(np.full((5, 1), np.nan), (0.5,))).all()


def test_the_spread_of_normal_values_is_their_standard_deviation() -> None:
    centre, spread = robust.centre_and_spread(RNG.normal(3, 2, (20_000, 1)), np.zeros(1))
    assert centre[0] == pytest.approx(3, abs=0.05)
    assert spread[0] == pytest.approx(2, rel=0.03)


def test_five_percent_of_absurd_values_hardly_move_centre_and_spread() -> None:
    values = RNG.normal(0, 1, (2000, 1))
    values[:100] = 1e6
    centre, spread = robust.centre_and_spread(values, np.zeros(1))
    assert abs(centre[0]) < 0.15
    assert spread[0] < 1.5


def test_values_that_are_mostly_the_same_have_the_spread_of_the_rest() -> None:
    values = np.where(RNG.random((2000, 1)) < 0.1, RNG.exponential(0.1, (2000, 1)), 0.0)
    assert robust.centre_and_spread(values, np.array([0.001]))[1][0] > 0.03


def test_no_spread_is_below_its_floor() -> None:
    assert robust.centre_and_spread(np.ones((50, 1)), np.array([0.02]))[1][0] == 0.02


def test_the_line_on_size_is_found_among_absurd_values() -> None:
    sizes = RNG.normal(0, 0.2, 400)
    values = np.column_stack([0.8 * sizes + RNG.normal(0, 0.1, 400), RNG.normal(0, 0.1, 400)])
    values[:20, 0] = 50.0
    values[5:60, 1] = np.nan
    slope = robust.slopes(values, sizes)
    assert slope == pytest.approx([0.8, 0.0], abs=0.12)


def test_equal_sizes_have_no_line() -> None:
    assert robust.slopes(RNG.normal(0, 1, (40, 2)), np.zeros(40)).tolist() == [0, 0]


def test_a_cumulative_sum_is_pages() -> None:
    z = RNG.normal(0.4, 1, (60, 1))
    level, since = 0.0, 0
    for value in z[:, 0]:
        level = max(0.0, level + min(max(value, -3.0), 3.0) - 0.6)
        since = since + 1 if level else 0
    total, lasted = cusum.sums(z, cusum.CumulativeSum(0.5, 12, 3), 0.1, np.zeros((1, z.shape[1])))
    assert total[0] == pytest.approx(level)
    assert lasted[0] == max(since, 1)


def test_two_series_alone_never_make_a_drift() -> None:
    z = np.zeros((60, 1))
    z[-2:] = 1000.0
    for kind in (cusum.FAST, cusum.SLOW):
        assert cusum.sums(z, kind, 0.0, np.zeros((1, 1)))[0][0] < kind.limit
