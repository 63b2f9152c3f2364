"""A real Prometheus scrapes the node, loads the rules that are shipped, and sees a dead worker."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from qc_node.operations.health import Health, HealthCheck, HealthCode
from qc_node.operations.metrics import Metrics
from tests.part_settings import http_limits
from tests.peers.process import HOST, OwnedProcess, find_free_port, require, wait_for

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


class Prometheus:
    def __init__(self, folder: Path, target_port: int) -> None:
        (program,) = require("prometheus")
        self.port = find_free_port()
        text = (DEPLOY / "prometheus.yml").read_text()
        for shipped, here in (
            ("node:9108", f"{HOST}:{target_port}"),
            ("15s", "1s"),
            ("alerts.yml", str(DEPLOY / "alerts.yml")),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        config = folder / "prometheus.yml"
        config.write_text(text)
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        self.process = OwnedProcess([program, *arguments], folder / "prometheus.log", self.is_ready)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://{HOST}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        result = self.ask("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else None


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
