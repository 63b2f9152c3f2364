"""Measures as the JSON of the contract: of ``classify``, and of what the worker tells the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qc_node.domain.measure import Measured


def values_json(measured: Measured) -> dict[str, dict[str, Any]]:
    """Each value with its unit in UCUM, by name of the measure."""
    if not measured.values:
        return {}
    units = _units()
    return {name: {"value": value, "unit": units.get(name, "1")} for name, value in measured.values.items()}


def _units() -> Mapping[str, str]:
    from qc_node.measures.catalogue import MEASURES

    return {name: measure.unit.value for name, measure in MEASURES.items()}
