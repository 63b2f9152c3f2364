"""Series are measured where they are judged or skipped; no measure ever fails one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qc_node.domain.measure import ALL, Measured
from qc_node.engine.judging import SeriesOutcome, outcome_json
from qc_node.engine.measuring import GIVEN_UP, compared
from qc_node.engine.own_faults import MAX_ATTEMPTS
from qc_node.engine.pool import Pool
from qc_node.ledger.rows import MeasuredRow
from tests.engine.measures_of_tests import Measures
from tests.engine.test_worker import Bench, SmallClassifier
from tests.ledger.makers import number_of
from tests.part_settings import worker_settings


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, SmallClassifier())


def topogram(ds: Any) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def measured(bench: Bench, uid: str) -> MeasuredRow | None:
    row = bench.ledger.series.get(uid)
    assert row is not None
    return bench.ledger.measured.of(row["series_id"], row["run"])


def values(bench: Bench, uid: str) -> dict[str, float]:
    row = measured(bench, uid)
    assert row is not None
    return dict(json.loads(row["measures"]))


def test_the_volume_of_a_judged_series_is_measured_and_not_decoded_twice(bench: Bench, measures: Measures) -> None:
    uid = bench.receive("a")
    bench.worker.step()
    assert bench.state(uid) == ("judged", None)
    ((_, volume),) = measures.seen
    assert volume is not None
    row = measured(bench, uid)
    assert row is not None and row["chart_id"] is not None
    mean = values(bench, uid)["mean_grey"]
    assert mean == pytest.approx(float(volume.voxels.mean()), rel=1e-4)
    assert json.loads(row["unmeasured"]) == {"ghost": "A CT has no ghosts."}
    told = bench.told[-1]
    assert told["measures"] == {"mean_grey": {"value": float(volume.voxels.mean()), "unit": "{grey value}"}}
    assert (told["modality"], told["station"], told["timings"].keys() >= {"measure"}) == ("CT", "CT7", True)


def test_a_series_that_no_classifier_wants_is_measured_and_stays_skipped(bench: Bench) -> None:
    uid = bench.receive("a", change=topogram)
    bench.worker.step()
    state, sentence = bench.state(uid)
    assert state == "skipped" and sentence and "a localizer" in sentence
    assert values(bench, uid)["mean_grey"] > 0
    assert bench.told[-1]["state"] == "skipped" and bench.told[-1]["measures"]


def test_an_ultrasound_has_a_sentence_and_no_chart_entry_of_values(bench: Bench) -> None:
    def ultrasound(ds: Any) -> None:
        ds.Modality, ds.SOPClassUID = "US", "1.2.840.10008.5.1.4.1.1.6.1"

    uid = bench.receive("a", change=ultrasound)
    bench.worker.step()
    row = measured(bench, uid)
    assert row is not None and row["measures"] == "{}"
    assert json.loads(row["unmeasured"]) == {ALL: "Ultrasound is kept and can be voted on, and not measured."}


@pytest.mark.parametrize("change", [None, topogram])
def test_a_measure_that_falls_over_fails_no_series(bench: Bench, measures: Measures, change: Any) -> None:
    measures.error = ZeroDivisionError("of a patient called Doe")
    uid = bench.receive("a", change=change)
    bench.worker.step()
    assert bench.state(uid)[0] == ("skipped" if change else "judged")
    row = measured(bench, uid)
    assert row is not None
    assert json.loads(row["unmeasured"]) == {ALL: "This series could not be measured (ZeroDivisionError)."}


def test_a_header_that_cannot_be_read_leaves_values_without_a_chart(
    bench: Bench, measures: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.modules["qc_node.series.headers.acquisition"], "technique_of", lambda opened: 1 / 0)
    uid = bench.receive("a")
    bench.worker.step()
    row = measured(bench, uid)
    assert row is not None and row["chart_id"] is None and json.loads(row["measures"])


def test_a_machine_without_memory_for_a_measure_waits_and_gives_up_the_measure_only(
    bench: Bench, measures: Measures
) -> None:
    measures.error = MemoryError()
    uid = bench.receive("a")
    for _ in range(MAX_ATTEMPTS - 1):
        bench.worker.step()
        assert bench.state(uid)[0] == "queued"
        bench.worker._trouble._until = 0.0
    bench.worker.step()
    assert bench.state(uid) == ("judged", None)
    row = measured(bench, uid)
    assert row is not None and json.loads(row["unmeasured"]) == {ALL: GIVEN_UP}


def test_nothing_is_measured_where_that_is_off(tmp_path: Path, measures: Measures) -> None:
    bench = Bench(tmp_path, SmallClassifier())
    bench.worker.apply(worker_settings(tmp_path / "data", measures=False))
    uid = bench.receive("a")
    bench.worker.step()
    assert measures.seen == [] and measured(bench, uid) is None
    assert bench.told[-1]["measures"] == {} and "measure" not in bench.told[-1]["timings"]


# -- other series of the scanner -----------------------------------------------------------------------
def brighter(by: int) -> Any:
    def change(ds: Any) -> None:
        import numpy as np

        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2").astype(int) + by).clip(0, 4095).astype("<u2").tobytes()

    return change


def test_what_is_far_from_earlier_series_of_the_scanner_is_unusual(bench: Bench, measures: Measures) -> None:
    for name in ("a", "b", "c"):
        bench.receive(name)
        bench.worker.step()
    assert [len(past) for past in measures.past] == [0, 1, 2]
    assert bench.told[-1]["unusual"] == []
    measures.kernel = "B70"
    uid = bench.receive("d", change=brighter(900))
    bench.worker.step()
    (unusual,) = bench.told[-1]["unusual"]
    assert unusual["measure"] == "mean_grey" and unusual["z"] > 1 and unusual["baseline"]["series"] == 3
    assert bench.told[-1]["departures"][0]["usual"] == "B30"
    row = measured(bench, uid)
    assert row is not None and json.loads(row["unusual"]) == [unusual]
    assert json.loads(row["findings"]) == [{"kind": "noise", "sentence": "mean_grey is far from usual."}]


def test_new_software_begins_a_baseline_and_keeps_the_protocol(bench: Bench, measures: Measures) -> None:
    for name in ("a", "b", "c"):
        measures.software = "VE12" if name == "c" else "VE11"
        bench.receive(name)
        bench.worker.step()
    assert len(measures.past[-1]) == 0, "values of the old software say nothing"
    assert len(measures.earlier[-1]) == 2, "what is prescribed stays"


def test_another_definition_of_the_measures_begins_a_baseline(bench: Bench, measures: Measures) -> None:
    for name in ("a", "b"):
        bench.receive(name)
        bench.worker.step()
        measures.version += 1
    assert [len(past) for past in measures.past] == [0, 0]


def test_a_series_that_is_judged_again_is_not_compared_with_itself_and_keeps_its_place(
    bench: Bench, measures: Measures
) -> None:
    first, second = (bench.receive(name) for name in ("a", "bb"))
    bench.worker.step()
    bench.worker.step()
    number = number_of(bench.ledger, first)
    before = measured(bench, first)
    assert before is not None and bench.ledger.series.judge_again(number, 2000.0)
    bench.worker._wall = lambda: 3000.0
    bench.worker.step()
    row = measured(bench, first)
    assert row is not None and (row["run"], row["at"]) == (2, before["at"])
    assert len(measures.past[-1]) == 1
    chart = row["chart_id"]
    assert chart is not None
    history = bench.ledger.measured.history(chart, 9)
    assert {(r["series_id"], r["run"]) for r in history} == {(number, 2), (number_of(bench.ledger, second), 1)}


def test_a_series_that_is_judged_again_is_not_compared_with_what_came_after_it(
    bench: Bench, measures: Measures
) -> None:
    uids = []
    for name, now in (("a", 0.0), ("b", 100.0), ("c", 200.0)):
        uids.append(bench.receive(name))
        bench.worker._wall = partial(float, now)
        bench.worker.step()
    assert bench.ledger.series.judge_again(number_of(bench.ledger, uids[1]), 2000.0)
    bench.worker._wall = lambda: 3000.0
    bench.worker.step()
    assert [len(past) for past in measures.past] == [0, 1, 2, 1]
    assert len(measures.earlier[-1]) == 1


def test_a_run_that_is_repeated_leaves_one_row(bench: Bench) -> None:
    uid = bench.receive("a")
    bench.worker.step()
    before = measured(bench, uid)
    with bench.ledger.db.transaction() as conn:  # as a kill between two transactions leaves it
        conn.execute("UPDATE series SET state = 'queued'")
    bench.worker.step()
    after = measured(bench, uid)
    assert before is not None and after is not None
    changing = ("measured_id", "seconds")
    assert {k: v for k, v in before.items() if k not in changing} == {
        k: v for k, v in after.items() if k not in changing
    }
    assert bench.ledger.db.value("SELECT count(*) FROM measured") == 1


def test_a_report_that_is_written_again_takes_the_measures_along(bench: Bench) -> None:
    uid = bench.receive("a")
    bench.worker.step()
    before, number = measured(bench, uid), number_of(bench.ledger, uid)
    bench.ledger.deliveries.post([], [], 20.0, reported=(number, 1))
    with bench.ledger.db.transaction() as conn:
        conn.execute(
            "INSERT INTO reports (sop_instance_uid, sop_class_uid, series_id, study_uid, run, kind, path,"
            " created_at) SELECT '1.2', '1', series_id, study_uid, 1, 'sr', 'reports/x', 1 FROM series"
        )
    assert bench.ledger.relinks.report_again(number, 30.0)
    after = measured(bench, uid)
    assert before is not None and after is not None and after["run"] == 2
    assert (after["measures"], after["at"], after["chart_id"]) == (
        before["measures"],
        before["at"],
        before["chart_id"],
    )


# -- around it -----------------------------------------------------------------------------------------
def test_measuring_is_not_taken_for_a_worker_that_is_stuck(tmp_path: Path, bench: Bench) -> None:
    now = [0.0]
    pool = Pool(
        worker_settings(tmp_path / "data"), bench.ledger, lambda event: None, stuck_s=180.0, steady=lambda: now[0]
    )
    named = {"series_id": 1, "series_uid": "1", "run": 1}

    def wait(seconds: float) -> bool:
        """Look every second, as the watchdog does; whether the worker was taken for stuck."""
        stuck = False
        for _ in range(int(seconds)):
            now[0] += 1.0
            stuck = stuck or pool._stuck()
        return stuck

    pool._hear({"event": "started", **named})
    assert not wait(150)
    pool._hear({"event": "measuring", **named})
    assert not wait(150), "each has its own time"
    assert wait(60), "and an end"


def test_the_line_of_classify_has_the_keys_of_the_contract(bench: Bench) -> None:
    from qc_node.domain import HeaderClaims

    blank = SeriesOutcome("here", None, "CT", 1, HeaderClaims(), skipped="no")
    line = outcome_json(blank)
    assert line["schema"] == 2
    assert (line["measures"], line["unmeasured"]) == ({}, {})
    assert line["unusual"] == line["departures"] == line["findings"] == []
    assert compared(blank, bench.ledger, 1, 9) is blank
    told = outcome_json(SeriesOutcome("x", None, "CT", 1, HeaderClaims(), measured=Measured({"mean_grey": 3.5})))
    assert told["measures"] == {"mean_grey": {"value": 3.5, "unit": "{grey value}"}}
    json.dumps(told)


def test_what_a_classifier_found_of_the_tissues_reaches_the_measures(
    bench: Bench, measures: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = object()
    prepare = SmallClassifier.prepare

    def with_levels(self: SmallClassifier, volume: Any) -> Any:
        made = prepare(self, volume)
        made.tissue_levels = levels  # type: ignore[attr-defined]
        return made

    bench.receive("a")
    bench.worker.step()
    monkeypatch.setattr(SmallClassifier, "prepare", with_levels)
    bench.receive("bb")
    bench.worker.step()
    assert measures.levels == [None, levels]
