"""Which radiographs of a study repeat an earlier one."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from qc_node.series.headers.retakes import ExposedView, Retake, acquired_at, likely_retakes

PA = ("pa", "", "chest")


def pairs(*taken: ExposedView) -> list[tuple[int, int]]:
    return [(r.first, r.second) for r in likely_retakes(taken)]


def test_a_second_image_of_one_view_within_minutes_is_a_retake() -> None:
    (found,) = likely_retakes([ExposedView(1000.0, *PA), ExposedView(1180.0, *PA)])
    assert (found.first, found.second, found.minutes) == (0, 1, 3.0)
    assert found.sentence == "Likely a retake: the same view was taken 3 minutes before."
    assert Retake(0, 1, 0.3).sentence.endswith("1 minute before.")


@pytest.mark.parametrize(
    ("other", "is_one"),
    [
        (ExposedView(1180.0, "pa", "", "chest"), True),
        (ExposedView(1180.0, "lat", "", "chest"), False),
        (ExposedView(1180.0, "pa", "l", "chest"), False),
        (ExposedView(1180.0, "pa", "", "hand"), False),
        (ExposedView(1000.0, *PA), False),  # the raw and the processed image of one exposure
        (ExposedView(1008.0, *PA), False),  # stitched, or dual energy
        (ExposedView(1012.0, *PA), True),
        (ExposedView(1900.0, *PA), True),
        (ExposedView(1901.0, *PA), False),  # a control
        (ExposedView(None, *PA), False),
        (ExposedView(float("nan"), *PA), False),
    ],
)
def test_what_is_a_retake(other: ExposedView, is_one: bool) -> None:
    assert bool(pairs(ExposedView(1000.0, *PA), other)) is is_one
    assert bool(pairs(other, ExposedView(1000.0, *PA))) is is_one


def test_unknown_views_are_not_compared() -> None:
    assert pairs(ExposedView(0.0, "", "", "hand"), ExposedView(60.0, "", "", "hand")) == []
    assert pairs(ExposedView(0.0, "pa", "", ""), ExposedView(60.0, "pa", "", "")) == []


def test_each_repeats_the_latest_in_order_of_time() -> None:
    taken = [ExposedView(400.0, *PA), ExposedView(0.0, *PA), ExposedView(200.0, *PA), ExposedView(200.0, *PA)]
    assert pairs(*taken) == [(1, 2), (3, 0)]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({"AcquisitionDateTime": "20260102101500.25+0100"}, 0.25),
        ({"AcquisitionDate": "20260102", "AcquisitionTime": "101501"}, 1.0),
        ({"AcquisitionDate": "2026.01.02", "AcquisitionTime": "10:15:02"}, 2.0),
        ({"ContentDate": "20260102", "ContentTime": "101503.5"}, 3.5),
        ({"StudyDate": "20260102", "AcquisitionTime": "1015"}, 0.0),
        ({"AcquisitionDateTime": "2026", "ContentDate": "20260102", "ContentTime": "101504"}, 4.0),
        ({"AcquisitionTime": "101500"}, None),
        ({"AcquisitionDate": "20261350", "AcquisitionTime": "101500"}, None),
        ({"AcquisitionDate": "junk", "AcquisitionTime": "noon"}, None),
        ({}, None),
    ],
)
def test_when_an_image_was_acquired(values: dict[str, str], seconds: float | None) -> None:
    start, ds = Dataset(), Dataset()
    start.AcquisitionDate, start.AcquisitionTime = "20260102", "101500"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    found, base = acquired_at(ds), acquired_at(start)
    assert base is not None
    assert found == (None if seconds is None else pytest.approx(base + seconds))
