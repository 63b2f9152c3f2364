"""What was measured, as metrics: whatever a header says, labels stay few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qc_node.domain.measure import Baseline, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger, Received
from qc_node.ledger.measured import NewMeasured
from qc_node.measures.catalogue import MEASURES
from qc_node.operations import measure_metrics as module
from qc_node.operations.measure_metrics import MOST_STATIONS
from qc_node.operations.metrics import Metrics
from qc_node.spool import Spool
from tests.ledger.makers import number_of
from tests.operations.test_metrics import samples, value

CHARTED = next(name for name, measure in MEASURES.items() if measure.charted)
DRIFT = Unusual(CHARTED, 2.0, 3.0, Baseline(1.0, 0.3, 60), "drift", 20)


def finished(**said: Any) -> dict[str, Any]:
    measures = {CHARTED: {"value": 2.5, "unit": "1"}}
    usual = {"state": "judged", "modality": "MR", "station": "MR2", "measures": measures}
    return {**usual, "unusual": [], "departures": [], **said}


def test_a_measured_series_is_counted() -> None:
    metrics = Metrics()
    departure = {"parameter": "echo_time", "value": "95", "usual": "30", "share": 1.0}
    metrics.measures.finished(finished(unusual=[DRIFT.as_dict()], departures=[departure]))
    assert value(metrics, "qc_node_measured_total", modality="MR", outcome="measured") == 1
    assert value(metrics, "qc_node_measure", station="MR2", modality="MR", measure=CHARTED) == 2.5
    assert value(metrics, "qc_node_unusual_total", station="MR2", measure=CHARTED, kind="drift") == 1
    assert value(metrics, "qc_node_departures_total", station="MR2", parameter="echo_time") == 1


@pytest.mark.parametrize(
    ("said", "outcome"),
    [({"measures": {}}, "nothing"), ({"state": "skipped"}, "measured"), ({"state": "failed"}, "")],
)
def test_what_was_not_measured_is_told_from_what_nobody_looked_at(said: dict[str, Any], outcome: str) -> None:
    metrics = Metrics()
    metrics.measures.finished(finished(**said))
    counted = {
        label: value(metrics, "qc_node_measured_total", modality="MR", outcome=label)
        for label in ("measured", "nothing")
    }
    assert {label for label, n in counted.items() if n} == ({outcome} if outcome else set())


def test_a_modality_without_measures_is_not_counted() -> None:
    metrics = Metrics()
    metrics.measures.finished(finished(modality="US", measures={}))
    assert not any(labels for (name, labels), n in samples(metrics).items() if "measured" in name and n)


def test_labels_stay_few_whatever_comes() -> None:
    metrics = Metrics()
    for n in range(MOST_STATIONS + 50):
        odd = {**DRIFT.as_dict(), "measure": f"m{n}", "kind": f"k{n}"}
        departure = {"parameter": f"p{n}", "value": "1", "usual": "2", "share": 1.0}
        metrics.measures.finished(finished(station=f"S{n}", unusual=[odd], departures=[departure]))
    found = samples(metrics)
    for name in ("qc_node_measure", "qc_node_unusual_total", "qc_node_departures_total"):
        labels = [dict(labels) for (sample, labels) in found if sample == name]
        assert len(labels) == MOST_STATIONS + 1 and {one["station"] for one in labels} >= {"S0", "other"}
        assert not any(v.startswith(("m1", "k1", "p1")) for one in labels for v in one.values())


def test_a_drift_lasts_until_a_series_is_as_before(tmp_path: Path) -> None:
    ledger, spool, metrics = Ledger(tmp_path / "ledger.sqlite"), Spool(tmp_path / "data"), Metrics()

    def drifting(n: int, unusual: tuple[Unusual, ...], now: float) -> list[float]:
        ledger.instances.add(
            [Received(f"1.{n}.1.1", "1.2", f"1.{n}.1", f"1.{n}", "1.2", "MR", "A", f"images/{n}", 1, now)]
        )
        technique = Technique("MR", "MR2", "V1", {"sequence": "gr"})
        number = number_of(ledger, f"1.{n}.1")
        ledger.measured.add(NewMeasured(number, 1, Measured({CHARTED: 2.0}), technique, 1, unusual), now)
        metrics.observe_ledger(ledger, spool, now + 1)
        return [v for (name, _), v in samples(metrics).items() if name == "qc_node_drifting"]

    assert drifting(1, (DRIFT,), 1e6) == [1]
    assert drifting(2, (DRIFT,), 1e6 + 9) == [1], "a chart drifts once"
    assert drifting(3, (), 1e6 + 20) == []
    assert drifting(4, (DRIFT,), 1e6 + 30) == [1]
    metrics.observe_ledger(ledger, spool, 1e6 + 30 + module.DRIFT_S + 1)
    assert not any(name == "qc_node_drifting" for name, _ in samples(metrics)), "nobody scans this any more"


def test_drifts_are_read_as_the_ledger_keeps_them() -> None:
    outlier = Unusual("m", 2.0, 9.0, Baseline(1.0, 0.1, 60))
    assert module.drifting_measures(json.dumps([DRIFT.as_dict(), outlier.as_dict()])) == {CHARTED}
