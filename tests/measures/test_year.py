"""A simulated year (:mod:`tests.measures.year`): faults are found in time, and nobody is called for nothing.

Limits were chosen on scanners 1 to 30, and one (of shares that are mostly 0) on 40 to 43; all others are new.
"""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.domain.measure import Better
from qc_node.measures import normal
from tests.measures import year

CV = 0.15
MATURE = 300
"""Series of a chart before a fault sets in: two months."""


def delays(fault: str, scanners: range, within: int) -> list[float]:
    """Series until noise, or what follows from it, calls, of every chart; infinite beyond `within`."""
    charts = [chart for scanner in scanners for chart in year.scanner_year(scanner, CV, 70)]
    changed = [year.with_fault(chart, fault, MATURE) for chart in charts]
    return [year.seen(chart, MATURE, MATURE + within).delay(1.0, *year.NOISY) for chart in changed]


def monthly_alarms(scanners: range, days: int, first: int = normal.ENOUGH) -> float:
    """Alarms per scanner and month over all its charts."""
    charts = [chart for scanner in scanners for chart in year.scanner_year(scanner, CV, days)]
    months = len(scanners) * (days - first / year.A_DAY) / year.DAYS_OF_MONTH
    return sum(len(year.seen(chart, first).alarms()) for chart in charts) / months


def test_the_year_is_as_it_says() -> None:
    charts = year.scanner_year(40, CV, 365)
    assert len(charts) == 8
    assert {chart.values.shape for chart in charts} == {(1825, 25)}
    assert sum(one.better is not Better.NEITHER for one in year.MEASURES.values()) == 14
    columns = [year.NAMES.index(name) for name in ("noise", "snr", "cjv")]
    noise, snr, cjv = (np.log(charts[0].values[:, column]) for column in columns)
    assert noise.std() == pytest.approx(CV, rel=0.12)
    assert np.corrcoef(noise, snr)[0, 1] < -0.5
    assert np.corrcoef(noise, np.log(charts[0].sizes / 25), rowvar=False).shape == (2, 2)
    far = (cjv - np.median(cjv)) / cjv.std()
    assert 3 < float((far**4).mean()) < 30  # tails heavier than normal
    known = ~np.isnan(charts[0].sizes)
    assert 0.92 < known.mean() < 0.98
    assert np.isnan(year.scanner_year(44, CV, 10)[0].sizes).all()


@pytest.mark.slow
def test_a_lost_coil_element_is_found_within_five_series() -> None:
    assert np.mean(np.array(delays(year.COIL, range(40, 45), 5)) <= 5) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("fault", [year.STEP, year.RAMP])
def test_a_fifth_more_noise_is_found_within_forty_series(fault: str) -> None:
    assert np.mean(np.array(delays(fault, range(42, 44), 40)) <= 40) >= 0.9


@pytest.mark.slow
def test_at_most_one_false_alarm_per_scanner_and_month() -> None:
    assert monthly_alarms(range(40, 48), 45) <= 1.0


def test_a_software_update_is_no_alarm() -> None:
    """Noise and all that follows from it is a third off after it: the new chart calls as if it were not."""
    for chart in year.scanner_year(45, CV, 30)[:3]:
        after = chart.changed(np.full(len(chart.values), 4 / 3))
        first = after.past()[0]
        new = normal.compare(first.values, first.body_size, [], year.MEASURES)
        assert (new.unusual, new.lacking) == ((), normal.ENOUGH)
        assert year.seen(after).alarms() == year.seen(chart).alarms()


def test_on_one_chart_the_same_change_would_be_one() -> None:
    chart = year.scanner_year(45, CV, 70)[0]
    third_more = np.where(np.arange(len(chart.values)) >= MATURE, 4 / 3, 1.0)
    assert year.seen(chart.changed(third_more), MATURE, MATURE + 20).alarms()


@pytest.mark.nightly
def test_a_year_of_five_scanners() -> None:
    assert monthly_alarms(range(50, 55), 365) <= 1.0


@pytest.mark.nightly
@pytest.mark.parametrize(("fault", "within"), [(year.COIL, 5), (year.STEP, 40), (year.RAMP, 40)])
def test_faults_on_many_scanners(fault: str, within: int) -> None:
    assert np.mean(np.array(delays(fault, range(60, 80), within)) <= within) >= 0.9
