"""Prometheus as it is deployed, on loopback."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.process import HOST, OwnedProcess, find_free_port, require

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


class Prometheus:
    """A real Prometheus that scrapes one node each second and evaluates the rules that are shipped.

    Parameters
    ----------
    folder
        Configuration, data and log.
    target_port
        Where ``/metrics`` is, on loopback.
    """

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
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP interface."""
        url = f"http://{HOST}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """The first value of an instant query, None where there is none."""
        result = self.ask("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else None


@dataclass(frozen=True)
class Fired:
    """How often an alert fired, for how many seconds in all, and how long it was about to (pending)."""

    alert: str
    severity: str
    times: int
    seconds: float
    pending: float


def fired(prometheus: Prometheus, begin: float, end: float, step: float = 2.0) -> list[Fired]:
    """Every shipped alert with what Prometheus saw of it between two moments (seconds since the epoch)."""
    expression = "max by (alertname, alertstate) (ALERTS)"
    answer = prometheus.ask("query_range", query=expression, start=str(begin), end=str(end), step=str(step))
    at = {
        (line["metric"]["alertname"], line["metric"]["alertstate"]): [
            float(moment) for moment, _ in line["values"]
        ]
        for line in answer["result"]
    }

    def of(rule: dict[str, Any]) -> Fired:
        firing, pending = (at.get((rule["name"], state), []) for state in ("firing", "pending"))
        times = sum(1 for n, moment in enumerate(firing) if n == 0 or moment - firing[n - 1] > 1.5 * step)
        return Fired(rule["name"], rule["labels"]["severity"], times, len(firing) * step, len(pending) * step)

    return [of(rule) for rule in prometheus.ask("rules")["groups"][0]["rules"]]
