"""Every measure, by its name."""

from __future__ import annotations

from collections.abc import Mapping

from qc_node.domain.measure import Measure
from qc_node.measures import collimation, exposure, radiographs, volumes

VERSION = 1
"""Goes up when a measure is measured otherwise: values of two versions are not compared."""

MEASURES: Mapping[str, Measure] = {
    m.name: m
    for m in (
        *(m for part in volumes.PARTS for m in part.measures),
        *collimation.MEASURES,
        *exposure.MEASURES,
        *radiographs.MEASURES,
    )
}
"""In the order of tables."""
