"""A real Prometheus scrapes the node, loads the rules that are shipped, and sees a dead worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from qc_node.operations.health import Health, HealthCheck, HealthCode
from qc_node.operations.metrics import Metrics
from tests.part_settings import http_limits
from tests.peers.process import HOST, wait_for
from tests.peers.prometheus import DEPLOY, Prometheus


@pytest.mark.peer
def test_prometheus_sees_the_node_and_a_dead_worker(tmp_path: Path) -> None:
    worker = HealthCheck("worker")
    metrics = Metrics(["MR1"], ["PACS"])
    metrics.instance_received("MR1", 0, 0.004)
    health = Health([lambda: HealthCheck("reception")], [lambda: worker])
    listener = metrics.serve(HOST, 0, health, limits=http_limits())
    prometheus = Prometheus(tmp_path, listener.port)
    try:
        with prometheus.process:
            wait_for(lambda: prometheus.value('up{job="qc-node"}') == 1)
            received = 'qc_node_instances_received_total{calling_ae="MR1",status="0x0000"}'
            wait_for(lambda: prometheus.value(received) == 1)
            rules = prometheus.ask("rules")["groups"][0]["rules"]
            assert {r["health"] for r in rules} <= {"ok", "unknown"}
            assert len(rules) == (DEPLOY / "alerts.yml").read_text().count("- alert:")
            assert prometheus.value('ALERTS{alertname="QcNodeWorkerDead"}') is None
            worker = HealthCheck("worker", HealthCode.WORKER_DOWN, "The classifier process is not running.")
            wait_for(lambda: prometheus.value('ALERTS{alertname="QcNodeWorkerDead"}') == 1)
    finally:
        listener.stop()
