"""Metrics of what is measured; their labels stay few, whatever headers say.

Scanners after the first hundred are ``other``; measures are those that are compared with what is normal.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from qc_node.domain.technique import PARAMETERS
from qc_node.ledger import Ledger

OTHER = "other"
MODALITIES = ("MR", "CT", "CR", "DX", "MG")
"""Values of the label ``modality``: those that are measured."""
OUTCOMES = ("measured", "nothing")
"""Values of the label ``outcome``; ``nothing``: no measure had a value."""
KINDS = ("outlier", "drift")
MOST_STATIONS = 100
"""Scanners beyond this many are ``other``."""
DRIFT_S = 14 * 86_400.0
"""A drift that no series has shown for so long is not counted any more."""


class MeasureMetrics:
    """The metrics ``qc_node_measure…``, ``qc_node_unusual_total``, ``qc_node_departures_total``, ``…drifting``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"qc_node_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"qc_node_{name}", text, labels, registry=registry)

        self._stations: set[str] = set()
        self._measured = counter("measured", "Series that were looked at to be measured", "modality", "outcome")
        self._newest = gauge("measure", "What the newest series measured", "station", "modality", "measure")
        self._unusual = counter("unusual", "Measures that were far from normal", "station", "measure", "kind")
        self._departures = counter("departures", "Parameters that were not as usual", "station", "parameter")
        self._drifting = gauge("drifting", "Protocols of which a measure drifts", "station", "measure")
        for modality in MODALITIES:
            for outcome in OUTCOMES:
                self._measured.labels(modality, outcome)

    def finished(self, event: Mapping[str, Any]) -> None:
        """Count what was measured, as the worker's ``finished`` tells; nothing where it did not look."""
        modality = event["modality"]
        if event["state"] not in ("judged", "skipped") or modality not in MODALITIES:
            return
        station = self._station(event["station"])
        self._measured.labels(modality, OUTCOMES[0 if event["measures"] else 1]).inc()
        for name, found in event["measures"].items():
            if name in charted():
                self._newest.labels(station, modality, name).set(found["value"])
        for one in event["unusual"]:
            kind = one["kind"] if one["kind"] in KINDS else OTHER
            self._unusual.labels(station, _measure(one["measure"]), kind).inc()
        for one in event["departures"]:
            parameter = one["parameter"] if one["parameter"] in PARAMETERS else OTHER
            self._departures.labels(station, parameter).inc()

    def observe(self, ledger: Ledger, now: float) -> None:
        """Set what the ledger says of drifts (`now` in seconds since the epoch)."""
        self._drifting.clear()
        for row in ledger.control_charts.drifting(now - DRIFT_S):
            for name in drifting_measures(row["unusual"]):
                self._drifting.labels(self._station(row["station"]), _measure(name)).inc()

    def _station(self, station: str) -> str:
        """A scanner as a label."""
        if len(self._stations) < MOST_STATIONS:
            self._stations.add(station)
        return station if station in self._stations else OTHER


def drifting_measures(unusual: str) -> frozenset[str]:
    """Names of the measures that drift, from what is unusual as the ledger keeps it."""
    return frozenset(one["measure"] for one in json.loads(unusual) if one["kind"] == "drift")


@cache
def charted() -> Collection[str]:
    """Measures that are compared with what is normal."""
    from qc_node.measures.catalogue import MEASURES

    return frozenset(name for name, measure in MEASURES.items() if measure.charted)


def _measure(name: str) -> str:
    return name if name in charted() else OTHER
