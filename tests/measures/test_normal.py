"""One series against what is normal: what is said, from when on, and what is taken out before."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures import normal
from qc_node.measures.normal import Comparison, PastSeries, compare
from tests.measures import year

INF = float("inf")


def measure(
    name: str = "noise", better: Better = Better.LOWER, unit: Unit = Unit.GREY, high: float = INF, **more: bool
) -> Measure:
    return Measure(name, name, unit, better, 0.0, high, frozenset({"MR"}), "test", **more)


NOISE = {"noise": measure()}


def past(values: np.ndarray, name: str = "noise", sizes: np.ndarray | None = None) -> list[PastSeries]:
    stated = [None] * len(values) if sizes is None else [float(size) for size in sizes]
    return [PastSeries({name: float(value)}, size) for value, size in zip(values, stated, strict=True)]


def usual(count: int = 200, seed: int = 1) -> np.ndarray:
    return np.asarray(20 * np.exp(np.random.default_rng(seed).normal(0, 0.15, count)))


def of(value: float, history: list[PastSeries], measures: Mapping[str, Measure] = NOISE) -> Comparison:
    return compare(dict.fromkeys(measures, value), None, history, measures)


def test_a_usual_series_calls_nobody_and_has_its_place() -> None:
    found = of(20.0, past(usual()))
    assert found.unusual == ()
    assert abs(found.z["noise"]) < 0.4
    assert found.baselines["noise"].centre == pytest.approx(20, rel=0.04)
    assert found.baselines["noise"].spread == pytest.approx(3, rel=0.2)


def test_a_series_with_five_times_the_noise_is_unusual() -> None:
    (found,) = of(100.0, past(usual())).unusual
    assert (found.measure, found.kind, found.value, found.since) == ("noise", "outlier", 100.0, 1)
    assert found.z == pytest.approx(np.log(5) / 0.15, rel=0.3)
    assert found.baseline.series == 120


@pytest.mark.parametrize("series", [0, 1, 25, 39, 40])
def test_too_few_series_say_how_many_are_missing(series: int) -> None:
    found = of(1000.0, past(usual(series)))
    assert found.lacking == 40 - series
    assert bool(found.unusual) is (series == 40)


def test_only_the_worse_direction_calls_and_no_measure_without_one() -> None:
    history = past(usual())
    assert of(1.0, history).unusual == ()
    assert of(1.0, history, {"noise": measure(better=Better.HIGHER)}).unusual != ()
    neither = of(1000.0, history, {"noise": measure(better=Better.NEITHER)})
    assert neither.unusual == ()
    assert neither.z["noise"] > 10


def test_a_measure_that_is_not_charted_or_not_known_is_left_out() -> None:
    assert of(1000.0, past(usual()), {"noise": measure(charted=False)}) == Comparison((), 0)
    assert compare({"other": 1.0}, None, past(usual()), NOISE) == Comparison((), 0)


def test_a_measure_with_too_few_values_is_not_judged() -> None:
    history = [PastSeries({}) for _ in range(180)] + past(usual(20))
    assert of(1000.0, history).z == {}


def test_a_step_of_a_fifth_is_a_drift_that_says_since_when() -> None:
    values = usual(240)
    values[-35:] *= 1.2
    (found,) = of(24.0, past(values)).unusual
    assert found.kind == "drift"
    assert 25 <= found.since <= 50
    assert found.z == pytest.approx(1.2, abs=0.4)
    assert found.baseline.centre == pytest.approx(20, rel=0.05)


def test_a_drift_ends_soon_after_the_repair() -> None:
    values = usual(240)
    values[-40:-8] *= 1.6
    assert of(20.0, past(values)).unusual == ()


def test_a_lost_coil_element_shows_within_five_series() -> None:
    values = usual(244)
    values[-4:] *= 1.6
    (found,) = of(32.0, past(values)).unusual
    assert (found.kind, found.since) == ("drift", 5)


def test_two_odd_series_are_no_drift() -> None:
    values = usual(240)
    values[-2:] = 500.0
    assert of(20.0, past(values)).unusual == ()


def test_body_size_is_taken_out_where_it_is_known() -> None:
    rng = np.random.default_rng(4)
    sizes = 25 * np.exp(rng.normal(0, 0.25, 240))
    values = 20 * (sizes / 25) ** 1.5 * np.exp(rng.normal(0, 0.05, 240))
    sized = {"noise": measure(with_size=True)}
    history = past(values, sizes=sizes)
    large = compare({"noise": 20 * 2**1.5}, 50.0, history, sized)
    assert large.unusual == ()
    assert large.baselines["noise"].centre == pytest.approx(20 * 2**1.5, rel=0.1)
    small = compare({"noise": 20 * 2**1.5}, 25.0, history, sized)
    assert small.unusual[0].z > 10
    assert abs(compare({"noise": 20.0}, None, history, sized).z["noise"]) < 0.5


def test_mistyped_sizes_bend_no_line() -> None:
    rng = np.random.default_rng(4)
    sizes = 25 * np.exp(rng.normal(0, 0.25, 240))
    values = 20 * sizes / 25 * np.exp(rng.normal(0, 0.05, 240))
    plain = compare({"noise": 30.0}, 37.5, past(values, sizes=sizes), {"noise": measure(with_size=True)})
    sizes[::20] /= 10
    bent = compare({"noise": 30.0}, 37.5, past(values, sizes=sizes), {"noise": measure(with_size=True)})
    assert bent.z["noise"] == pytest.approx(plain.z["noise"], abs=0.8)


def test_a_share_that_is_mostly_zero_calls_only_when_it_is_large() -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random(240) < 0.1, rng.exponential(0.01, 240), 0)
    clipped = {"clipped": measure("clipped", unit=Unit.ONE, high=1)}
    assert of(0.01, past(values, "clipped"), clipped).unusual == ()
    assert of(0.4, past(values, "clipped"), clipped).unusual != ()


def test_a_value_that_never_varies_may_vary_a_little() -> None:
    history = past(np.full(240, 180.0))
    assert of(185.0, history).unusual == ()
    assert of(360.0, history).unusual != ()


def test_only_the_window_counts() -> None:
    ancient = past(1000 * usual(300, seed=5))
    assert of(30.0, ancient + past(usual(240))) == of(30.0, past(usual(240)))


def test_the_farthest_comes_first_and_each_measure_once() -> None:
    two = {"noise": measure(), "stripes": measure("stripes")}
    history = [PastSeries({"noise": a, "stripes": b}) for a, b in zip(usual(), usual(seed=2), strict=True)]
    found = compare({"noise": 100.0, "stripes": 900.0}, None, history, two).unusual
    assert [one.measure for one in found] == ["stripes", "noise"]


values = st.one_of(st.floats(0, 1e9), st.just(0.0), st.just(float("nan")))


@settings(max_examples=60)
@given(st.lists(values, min_size=40, max_size=60), st.floats(0, 1e9), st.one_of(st.none(), st.floats(0, 300)))
def test_odd_values_never_raise_and_never_give_an_odd_answer(
    history: list[float], value: float, size: float | None
) -> None:
    earlier = [PastSeries({"noise": one}, size if number % 2 else None) for number, one in enumerate(history)]
    with np.errstate(all="raise", under="ignore"):
        found = compare({"noise": value}, size, earlier, {"noise": measure(with_size=True)})
    assert all(np.isfinite(one.z) and np.isfinite(one.baseline.spread) for one in found.unusual)


def test_dictionaries_and_tables_say_the_same() -> None:
    chart = year.scanner_year(5, 0.15, 50)[0]
    history, present = chart.past()[:240], chart.past()[240]
    found = compare(present.values, present.body_size, history, year.MEASURES)
    learnt = normal.learn_table(chart.values[:241], chart.sizes[:241], year.MEASURES, 160)
    assert found.z == {
        name: pytest.approx(learnt.z[-1, number])
        for number, name in enumerate(year.NAMES)
        if not np.isnan(learnt.z[-1, number])
    }


def test_one_series_against_two_hundred_takes_less_than_twenty_milliseconds() -> None:
    history = year.scanner_year(5, 0.15, 50)[0].past()[:201]
    present = history.pop()
    assert len(present.values) >= 24
    taken = []
    for _ in range(10):
        start = time.process_time()
        compare(present.values, present.body_size, history, year.MEASURES)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.02
