"""A simulated year of the catalogue's own measures of MR, CT and X-ray: the bars hold for each of them.

Limits were chosen on scanners 1 to 30; these are others.
"""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.measures import normal
from qc_node.measures.catalogue import MEASURES
from qc_node.measures.normal import PastSeries, compare
from tests.measures import year
from tests.measures.catalogue_year import LEVELS, MODALITIES

CV = 0.15
MATURE = 300
"""Series of a chart before a fault sets in: two months."""


def found(modality: str, fault: str, scanners: range, within: int) -> float:
    """Share of charts in which noise, or what follows from it, calls within so many series."""
    measuring = MODALITIES[modality]
    charts = [chart for scanner in scanners for chart in year.scanner_year(scanner, CV, 70, measuring)]
    changed = [year.with_fault(chart, fault, MATURE) for chart in charts]
    seen = [year.seen(chart, MATURE, MATURE + within) for chart in changed]
    return float(np.mean([one.delay(1.0, *measuring.noisy) <= within for one in seen]))


def monthly_alarms(modality: str, scanners: range, days: int) -> float:
    """Alarms per scanner and month over all its charts."""
    charts = [c for number in scanners for c in year.scanner_year(number, CV, days, MODALITIES[modality])]
    months = len(scanners) * (days - normal.ENOUGH / year.A_DAY) / year.DAYS_OF_MONTH
    return sum(len(year.seen(chart).alarms()) for chart in charts) / months


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_charted_measure_has_a_level(modality: str) -> None:
    measures = MODALITIES[modality].measures
    assert set(LEVELS[modality]) == set(measures)
    assert set(MODALITIES[modality].noisy) <= set(measures)
    values = year.scanner_year(40, CV, 40, MODALITIES[modality])[0].values
    low, high = (np.array([getattr(one, end) for one in measures.values()]) for end in ("low", "high"))
    assert np.all((values >= low) & (values <= high))


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_lost_coil_element_or_a_third_of_the_dose_is_found_within_five_series(modality: str) -> None:
    assert found(modality, year.COIL, range(40, 45), 5) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_fifth_more_noise_is_found_within_forty_series(modality: str) -> None:
    assert found(modality, year.STEP, range(42, 44), 40) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
def test_false_alarms_are_few(modality: str) -> None:
    """Two scanners for a month: too short for the bar of one, which the nightly year shows."""
    assert monthly_alarms(modality, range(40, 42), 38) <= 2.0


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_software_update_is_no_alarm(modality: str) -> None:
    """All that noise moves is a third off after it: the new chart calls as if it were not."""
    chart = year.scanner_year(45, CV, 20, MODALITIES[modality])[0]
    after = chart.changed(np.full(len(chart.values), 4 / 3))
    first = after.past()[0]
    new = compare(first.values, first.body_size, [], MEASURES)
    assert (new.unusual, new.lacking) == ((), normal.ENOUGH)
    assert year.seen(after).alarms() == year.seen(chart).alarms()


ZERO = np.zeros(200)
SELDOM = np.where(np.arange(200) % 50 == 7, 0.1, 0.0)
TINY = np.abs(np.random.default_rng(3).normal(0.04, 0.02, 200))
SHARES = [("wave_level", ZERO), ("wave_level", SELDOM), ("line_level", ZERO), ("line_level", TINY)] + [
    (name, values)
    for name, values in (("ghost_along_rows", TINY), ("clipped_share", SELDOM), ("slice_jump", TINY))
]


def after(name: str, usual: np.ndarray, share: float, series: int) -> list[str]:
    """What the last of so many series with `share` more says, with its kind."""
    values = [*usual, *(np.median(usual) + np.full(series, share))]
    past = [PastSeries({name: float(value)}) for value in values]
    return [one.kind for one in compare(past[-1].values, None, past[:-1], MEASURES).unusual]


@pytest.mark.parametrize(("name", "usual"), SHARES)
def test_an_artefact_of_one_percent_that_stays_is_found_within_five_series(name: str, usual: np.ndarray) -> None:
    assert any(after(name, usual, 1.0, series) for series in range(1, 6))


@pytest.mark.parametrize(("name", "usual"), SHARES)
def test_one_of_a_twentieth_of_a_percent_calls_nobody(name: str, usual: np.ndarray) -> None:
    assert not any(after(name, usual, 0.05, series) for series in (1, 3, 5, 10, 20, 40, 80))


def test_where_there_never_was_one_a_single_series_of_one_percent_calls() -> None:
    assert after("wave_level", ZERO, 1.0, 1) == ["outlier"]
    assert after("wave_level", ZERO, 0.5, 1) == []
    assert after("line_level", np.full(200, 3.0) + np.random.default_rng(1).normal(0, 0.8, 200), 1.0, 1) == []


@pytest.mark.parametrize("name", ["slice_shift", "target_miss", "clipped_share", "cut_outline"])
def test_next_to_nothing_after_nothing_calls_nobody(name: str) -> None:
    """Without a least spread the first value that is not 0 would lie a million spreads off."""
    assert not any(after(name, ZERO, 0.04, series) for series in (1, 5, 40))


def test_a_share_that_is_zero_more_often_than_not_does_not_drift() -> None:
    """Its mean lies beyond its median all the time."""
    rng = np.random.default_rng(5)
    cut = np.where(rng.random(400) < 0.4, rng.exponential(2.0, 400), 0.0)
    past = [PastSeries({"cut_outline": float(value)}) for value in cut]
    calls = [compare(past[n].values, None, past[:n], MEASURES).unusual for n in range(100, 400)]
    assert sum(map(bool, calls)) <= 5


def test_more_of_it_does() -> None:
    rng = np.random.default_rng(5)
    cut = np.where(rng.random(200) < 0.4, rng.exponential(2.0, 200), 0.0)
    assert after("cut_outline", cut, 6.0, 5) == ["drift"]


def test_noise_of_ct_and_of_mr_is_compared_as_an_amount_and_a_deviation_index_as_it_is() -> None:
    rng = np.random.default_rng(2)
    names = ("noise_hu", "noise_percent", "noise_air_percent", "grain", "target_miss")
    table = np.exp(rng.normal(1, 0.2, (100, len(names))))
    learnt = normal.learn_table(table, np.full(100, np.nan), {name: MEASURES[name] for name in names}, 100)
    assert list(learnt.logarithms) == [True, True, True, True, False]


def test_the_centre_of_a_share_is_given_in_percent() -> None:
    shares = 3 * np.exp(np.random.default_rng(4).normal(0, 0.2, 200))
    past = [PastSeries({"line_level": float(value)}) for value in shares]
    baseline = compare({"line_level": 3.0}, None, past, MEASURES).baselines["line_level"]
    assert baseline.centre == pytest.approx(3.0, rel=0.05)
    assert baseline.spread == pytest.approx(0.6, rel=0.25)


@pytest.mark.nightly
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_year_of_five_scanners_calls_at_most_once_a_month(modality: str) -> None:
    assert monthly_alarms(modality, range(50, 55), 365) <= 1.0


@pytest.mark.nightly
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(("fault", "within"), [(year.COIL, 5), (year.STEP, 40)])
def test_faults_on_many_scanners(modality: str, fault: str, within: int) -> None:
    assert found(modality, fault, range(60, 75), within) >= 0.9
