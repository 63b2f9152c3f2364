"""Control charts: segments of software versions, limits, values for a usual size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qc_node.measures.charts import ChartedSeries, control_chart
from tests.measures import year

NOISE, CLIPPED = year.MEASURES["noise"], year.MEASURES["clipped"]


def charted(days: int = 20, software: str = "E11", start: int = 0) -> list[ChartedSeries]:
    past = year.scanner_year(21, 0.15, days)[0].past()
    return [
        ChartedSeries(3600.0 * (start + number), start + number, software, one.values, one.body_size)
        for number, one in enumerate(past)
    ]


def test_a_chart_has_every_value_in_the_order_of_time_and_its_limits() -> None:
    series = charted()
    (segment,) = control_chart(NOISE, series).segments
    assert [point.number for point in segment.points] == list(range(100))
    assert segment.low and segment.centre and segment.high
    assert 0 < segment.low < segment.centre < segment.high
    assert segment.centre**2 == pytest.approx(segment.low * segment.high)  # a logarithm
    assert sum(segment.low < point.drawn < segment.high for point in segment.points) >= 94


def test_values_are_drawn_as_for_a_usual_size_and_kept_as_measured() -> None:
    series = charted()
    (segment,) = control_chart(NOISE, series).segments
    assert [point.value for point in segment.points] == [one.values["noise"] for one in series]
    known = np.array([one.body_size or np.nan for one in series])
    inside = (known > 15) & (known < 40)
    size = np.log(known[inside])
    drawn, measured = (
        np.log([getattr(point, name) for point in segment.points])[inside] for name in ("drawn", "value")
    )
    assert np.corrcoef(size, measured)[0, 1] > 0.4
    assert abs(np.corrcoef(size, drawn)[0, 1]) < 0.25


def test_new_software_opens_a_segment_that_is_learnt_anew() -> None:
    series = charted() + charted(5, "E12", start=100)
    chart = control_chart(NOISE, series)
    before, after = chart.segments
    assert (before.software, after.software, after.first_at) == ("E11", "E12", 360_000.0)
    assert (before.lacking, after.lacking) == (0, 15)
    assert after.centre is after.low is after.high is None
    assert {point.z for point in after.points} == {None}


def test_what_called_is_marked() -> None:
    series = charted()
    series[60] = replace(series[60], kinds={"noise": "drift"})
    (segment,) = control_chart(NOISE, series).segments
    assert [point.number for point in segment.points if point.kind == "drift"] == [60]


def test_limits_stay_within_what_the_measure_can_be() -> None:
    (segment,) = control_chart(CLIPPED, charted()).segments
    assert segment.low == 0.0


def test_series_without_the_measure_are_left_out() -> None:
    series = [ChartedSeries(float(number), number, "E11", {}) for number in range(60)]
    assert control_chart(NOISE, series).segments == ()
