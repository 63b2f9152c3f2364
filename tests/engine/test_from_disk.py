"""What was judged on disk stands where the review page looks."""

from __future__ import annotations

from typing import Any

import numpy as np

from qc_node.domain import HeaderClaims, SeriesKey
from qc_node.domain.measure import ImageFinding, Measured
from qc_node.domain.technique import Technique
from qc_node.engine.classify import row_of
from qc_node.engine.from_disk import keep
from qc_node.engine.judging import SeriesOutcome
from tests.web.conftest import Browse, Clinic, brain, browse, clinic

__all__ = ["browse", "clinic"]


def judged(source: str, series: SeriesKey | None, **more: Any) -> SeriesOutcome:
    picture = {"axial": np.zeros((4, 4), np.uint8)}
    claims = HeaderClaims(series_description="t1")
    return SeriesOutcome(source, series, "MR", 3, claims, warnings=("a warning",), thumbnails=picture, **more)


def test_a_folder_is_put_where_the_review_page_looks(clinic: Clinic, browse: Browse) -> None:
    for item in (
        judged("a/t1", SeriesKey("1.2", "1.2.1"), verdict=brain()),
        judged("b/head.nii.gz", None, verdict=brain(motion=2)),
        judged("c", SeriesKey("1.3", "1.3.1"), skipped="A scout."),
    ):
        assert keep(clinic.ledger, clinic.spool, item, clinic.clock.now) is not None
        assert keep(clinic.ledger, clinic.spool, item, clinic.clock.now) is None, "once"
    rows = browse().get("/api/review").json()["rows"]
    assert [(r["scanner"], r["words"]["headline"], r["images"]) for r in rows] == [
        ("head.nii.gz", "Poor quality", 3),
        ("t1", "Good quality", 3),
    ]
    assert browse().get(rows[0]["mid"][0]["src"]).headers["content-type"] == "image/png"
    skipped = browse().post("/api/review/search", json={"show": "skipped"}).json()["rows"]
    assert [row["words"]["detail"] for row in skipped] == ["A scout."]


def test_other_weights_give_another_run_and_what_people_said_stays(clinic: Clinic, browse: Browse) -> None:
    key = SeriesKey("1.2", "1.2.1")
    number = keep(clinic.ledger, clinic.spool, judged("a/t1", key, verdict=brain()), clinic.clock.now)
    assert number is not None
    reader, _ = clinic.reader()
    clinic.ledger.labels.add(number, 1, "motion", "0", "2", reader.reader_id, clinic.clock.now)
    again = keep(clinic.ledger, clinic.spool, judged("a/t1", key, verdict=brain(noise=1)), clinic.clock.now)
    assert again == number
    (row,) = browse().get("/api/review").json()["rows"]
    assert [(a["found"], a["label"]) for a in row["answers"] if a["question"] in ("motion", "noise")] == [
        ("0", "2"),
        ("1", None),
    ]


def test_measures_of_a_folder_are_kept_also_where_an_earlier_version_kept_none(clinic: Clinic) -> None:
    key = SeriesKey("1.2", "1.2.1")
    plain = judged("a/t1", key, verdict=brain())
    number = keep(clinic.ledger, clinic.spool, plain, clinic.clock.now)
    assert number is not None and clinic.ledger.measured.of(number, 1) is None
    technique = Technique("MR", "MR2", "VE11", {"sequence": "gr"}, {"kernel": "x"})
    found = Measured({"mean_grey": 7.0})
    measured = judged("a/t1", key, verdict=brain(), measured=found, technique=technique)
    assert keep(clinic.ledger, clinic.spool, measured, clinic.clock.now) is None, "the verdict is the same"
    row = clinic.ledger.measured.of(number, 1)
    assert row is not None and row["measures"] == '{"mean_grey": 7.0}' and row["chart_id"] is not None
    skipped = judged("b", SeriesKey("1.3", "1.3.1"), skipped="A scout.", measured=found, technique=technique)
    other = keep(clinic.ledger, clinic.spool, skipped, clinic.clock.now)
    assert other is not None and clinic.ledger.measured.of(other, 1) is not None


def test_the_table_says_how_much_was_measured_what_is_certain_and_why_nothing_was() -> None:
    noisy = ImageFinding("noise", "There is far more noise.")
    values = Measured({"edge_width_mm": 1.2}, {"noise_air": "There is too little air."})
    knee = judged("knee", None, skipped="No T1.", measured=values, findings=(noisy,))
    assert row_of(knee) == ("knee", "MR", "3", "1", "skipped: No T1. There is far more noise.")
    none = judged(
        "knee", None, skipped="No T1.", measured=Measured(unmeasured={"*": "Angiography is not measured."})
    )
    assert row_of(none) == ("knee", "MR", "3", "–", "skipped: No T1. Angiography is not measured.")
