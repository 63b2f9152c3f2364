"""What pages say of what was measured of a series: sentences, a table, JSON.

Everything is read from rows of the ledger; what is normal is asked of :mod:`qc_node.measures.normal`, which the
worker asked, too, when it measured the series.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qc_node.domain.attention import Cause, of_measures
from qc_node.domain.measure import ALL, Baseline, Departure, ImageFinding, Measure, Measured, Unusual
from qc_node.domain.measure_words import (
    departure_sentence,
    new_software_sentence,
    number,
    too_few_sentence,
    unit_words,
    unusual_sentence,
)
from qc_node.domain.wording import sentence
from qc_node.engine.measures_json import values_json
from qc_node.ledger import Ledger
from qc_node.ledger.rows import MeasuredRow, SoftwareRow
from qc_node.measures import normal
from qc_node.measures.catalogue import MEASURES
from qc_node.measures.charts import LIMIT

DRIFT = "drift"


@dataclass(frozen=True)
class SeriesMeasures:
    """What was measured of one run of a series."""

    row: MeasuredRow

    @cached_property
    def values(self) -> dict[str, float]:
        """By name of the measure."""
        return dict(json.loads(self.row["measures"]))

    @cached_property
    def unmeasured(self) -> dict[str, str]:
        """Why a measure has no value, by its name."""
        return dict(json.loads(self.row["unmeasured"]))

    @cached_property
    def unusual(self) -> tuple[Unusual, ...]:
        """What is unusual for the scanner."""
        return tuple(map(Unusual.from_dict, json.loads(self.row["unusual"])))

    @cached_property
    def departures(self) -> tuple[Departure, ...]:
        """Parameters that are not what the protocol usually has."""
        return tuple(Departure(**one) for one in json.loads(self.row["departures"]))

    @cached_property
    def findings(self) -> tuple[ImageFinding, ...]:
        """What is certain of the image by itself."""
        return tuple(ImageFinding(**one) for one in json.loads(self.row["findings"]))

    @property
    def drifts(self) -> frozenset[str]:
        """Names of the measures that drift."""
        return frozenset(one.measure for one in self.unusual if one.kind == DRIFT)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Why it calls somebody."""
        return of_measures(self.unusual, self.findings, MEASURES)

    def lines(self, station: str = "") -> dict[str, list[str]]:
        """Sentences for people of the department: what is certain, unusual, or was set otherwise.

        `station` is what people call the scanner; empty where it is said beside them.
        """
        return {
            "findings": [one.sentence for one in self.findings],
            "unusual": [unusual_sentence(one, title_of(one.measure), station) for one in self.unusual],
            "departures": [departure_sentence(one, quote=True) for one in self.departures],
        }

    def as_json(self) -> dict[str, Any]:
        """As ``classify --json`` prints it."""
        return {
            "measures": values_json(Measured(self.values)),
            "unmeasured": self.unmeasured,
            "unusual": [one.as_dict() for one in self.unusual],
            "departures": [one.as_dict() for one in self.departures],
            "findings": [one.as_dict() for one in self.findings],
        }


NOTHING: dict[str, Any] = {"measures": {}, "unmeasured": {}, "unusual": [], "departures": [], "findings": []}
"""What :meth:`SeriesMeasures.as_json` says of a series that was not measured."""


def title_of(name: str) -> str:
    """A measure in a sentence; one of another version by its name."""
    measure = MEASURES.get(name)
    return name.replace("_", " ") if measure is None else measure.title


def of_series(ledger: Ledger, series: Iterable[int]) -> dict[int, SeriesMeasures]:
    """What was measured of the present run of these series, by their number; one question to the ledger."""
    return {row["series_id"]: SeriesMeasures(row) for row in ledger.control_charts.measured_of(list(series))}


def last_of_series(ledger: Ledger, series: Iterable[int]) -> dict[int, SeriesMeasures]:
    """As :func:`of_series`; of a series that is judged again, what was measured before."""
    rows = ledger.control_charts.last_measured_of(list(series))
    return {row["series_id"]: SeriesMeasures(row) for row in rows}


# -- scanners -------------------------------------------------------------------------------------------
NEW_SOFTWARE_S = 7 * 86_400.0
"""For how long a card says that its scanner has new software."""


def drift_sentences(unusual: str) -> list[str]:
    """The drifts among what is unusual (JSON, as the ledger keeps it), in words."""
    found = map(Unusual.from_dict, json.loads(unusual))
    return [unusual_sentence(one, title_of(one.measure)) for one in found if one.kind == DRIFT]


def new_software(versions: Sequence[SoftwareRow], now: float) -> SoftwareRow | None:
    """The version that replaced another one within :data:`NEW_SOFTWARE_S` before `now`.

    Parameters
    ----------
    versions
        Of one scanner, newest first.
    """
    if not versions or now - versions[0]["since"] > NEW_SOFTWARE_S:
        return None
    newest = versions[0]
    replaced = any(one["modality"] == newest["modality"] and one["software"] for one in versions[1:])
    return newest if replaced and newest["software"] else None


def begun(ledger: Ledger, series_id: int, station: str, since: float) -> list[str]:
    """What begins with a series that was measured after `since`: drifts that the one before had not, software."""
    found = of_series(ledger, [series_id]).get(series_id)
    if found is None or found.row["chart_id"] is None or found.row["at"] < since:
        return []
    earlier = ledger.control_charts.earlier(found.row, 1)
    if not earlier:
        chart = ledger.control_charts.chart(found.row["chart_id"])
        versions = [] if chart is None else ledger.control_charts.software([chart["station"]])
        new = new_software(versions, found.row["at"])
        first = (
            new is not None
            and chart is not None
            and (new["software"], new["since"])
            == (
                chart["software"],
                chart["opened_at"],
            )
        )
        return [new_software_sentence(station)] if first else []
    known = SeriesMeasures(earlier[-1]).drifts
    new_ones = [one for one in found.unusual if one.kind == DRIFT and one.measure not in known]
    return [unusual_sentence(one, title_of(one.measure), station) for one in new_ones]


# -- beside what is normal -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class MeasureLine:
    """One measure of one series as a line of a table.

    Attributes
    ----------
    low, high
        The usual range; None where it is not known (yet).
    z
        Spreads from the centre, None likewise.
    """

    measure: Measure
    value: float
    low: float | None = None
    high: float | None = None
    z: float | None = None
    unusual: Unusual | None = None

    @property
    def word(self) -> str:
        """How the value is."""
        if self.unusual is not None:
            return DRIFT if self.unusual.kind == DRIFT else "unusual"
        if self.z is None:
            return ""
        return "usual" if abs(self.z) <= LIMIT else "high" if self.z > 0 else "low"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; numbers as people read them."""
        known = self.low is not None and self.high is not None
        return {
            "measure": self.measure.name,
            "title": sentence(self.measure.title).rstrip("."),
            "value": number(self.value),
            "unit": unit_words(self.measure.unit),
            "usual": f"{number(self.low or 0)} – {number(self.high or 0)}" if known else "",
            "z": "" if self.z is None else f"{self.z:+.1f}",
            "word": self.word,
        }


def usual_range(baseline: Baseline, measure: Measure) -> tuple[float, float]:
    """From where to where a measure usually lies, within what it can be."""
    return max(measure.low, baseline.at(-LIMIT)), min(measure.high, baseline.at(LIMIT))


def past(rows: Sequence[MeasuredRow]) -> list[normal.PastSeries]:
    """Rows of one chart as what is normal is learnt from."""
    return [normal.PastSeries(SeriesMeasures(row).values, row["body_size"]) for row in rows]


def table_of(ledger: Ledger, found: SeriesMeasures) -> dict[str, Any]:
    """Every measure of a series beside what is usual on its scanner; JSON-ready."""
    row = found.row
    charted = row["chart_id"] is not None
    history = past(ledger.control_charts.earlier(row, normal.WINDOW)) if charted else []
    compared = normal.compare(found.values, row["body_size"], history, MEASURES)
    unusual = {one.measure: one for one in found.unusual}
    lines = []
    for name, value in found.values.items():
        if (measure := MEASURES.get(name)) is not None:
            baseline = compared.baselines.get(name)
            low, high = (None, None) if baseline is None else usual_range(baseline, measure)
            lines.append(MeasureLine(measure, value, low, high, compared.z.get(name), unusual.get(name)))
    return {
        "rows": [line.as_dict() for line in lines],
        "unmeasured": [
            {"title": "" if name == ALL else sentence(title_of(name)).rstrip("."), "sentence": why}
            for name, why in found.unmeasured.items()
        ],
        "lacking": too_few_sentence(compared.lacking) if charted and found.values else "",
    }
