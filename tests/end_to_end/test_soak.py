"""The soak's short form: a minute of everything at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.soak import fitted, soak
from qc_node.operations.metrics import Metrics
from tests.part_settings import http_limits
from tests.peers.process import HOST, wait_for
from tests.peers.prometheus import Prometheus, fired

pytestmark = pytest.mark.xdist_group("soak")


@pytest.mark.nightly
@pytest.mark.peer
@pytest.mark.slow
def test_a_minute_of_faults_breaks_no_invariant(tmp_path: Path) -> None:
    result = soak(tmp_path, 1.0, seed=1)
    assert result.tally.violations == []
    assert result.acknowledged > 100 and result.reports > 10
    assert "node killed" in result.tally.faults
    assert {g.process for g in result.growth} == {"node", "classifier", "receiving"}


def test_a_figure_that_rises_is_not_flat_and_one_that_swings_is() -> None:
    rises = fitted("node", "MB", [(float(t), 100.0 + t / 10) for t in range(300)])
    assert rises.per_hour == pytest.approx(360) and rises.rise == pytest.approx(29.9) and rises.verdict == "GROWS"
    swings = fitted("node", "descriptors", [(float(t), 30.0 + 10 * (t % 2)) for t in range(300)])
    assert swings.verdict == "flat"
    leaks = fitted("node", "threads", [(float(t), 10.0 + t // 50) for t in range(300)])
    assert leaks.verdict == "GROWS"


def test_too_few_samples_are_no_proof() -> None:
    few = fitted("node", "MB", [(0.0, 1.0)])
    short = fitted("node", "MB", [(float(t), 100.0 + t) for t in range(60)])
    assert few.verdict == short.verdict == "too short to say"


@pytest.mark.peer
def test_an_alert_that_fires_is_counted(tmp_path: Path) -> None:
    metrics = Metrics(["MR1"], ["PACS"])
    listener = metrics.serve(HOST, 0, limits=http_limits())
    prometheus = Prometheus(tmp_path, listener.port)
    depth = 'qc_node_queue_depth{queue="quarantine"}'
    begin = time.time()
    try:
        with prometheus.process:
            wait_for(lambda: prometheus.value(depth) == 0)
            metrics.queue_depth("quarantine", 50)
            wait_for(lambda: prometheus.value('ALERTS{alertname="QcNodeQuarantine", alertstate="firing"}') == 1)
            found = {one.alert: one.times for one in fired(prometheus, begin, time.time() + 1.0, step=0.5)}
    finally:
        listener.stop()
    assert found == {alert: int(alert == "QcNodeQuarantine") for alert in found} and len(found) > 10
