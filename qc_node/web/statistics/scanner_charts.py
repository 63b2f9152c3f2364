"""Control charts of scanners: which there are, and the measures of the newest series on one of them.

A page shows one scanner and protocol, across its software versions, each with its own usual range; only the newest
series are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from qc_node.domain.measure import Measure
from qc_node.domain.measure_words import number, too_few_sentence, unit_words
from qc_node.domain.wording import sentence
from qc_node.ledger import Ledger
from qc_node.ledger.packing import plain
from qc_node.ledger.rows import ChartOffered, MeasuredRow
from qc_node.measures import normal
from qc_node.measures.catalogue import MEASURES
from qc_node.measures.charts import ChartedSeries, ChartSegment, control_chart
from qc_node.web.measurements import SeriesMeasures
from qc_node.web.statistics import plots
from qc_node.web.statistics.control_plot import drawn_chart
from qc_node.web.texts import _

SHOWN = 100
"""Series on a chart."""
COUNTED = 1000
"""Series of a chart are counted up to here."""
AT_ONCE = 4
"""Measures that are drawn where nobody chose one."""

StationName = Callable[[str], str]
"""What people call a scanner."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol of a scanner: its charts, one for each software version, newest first."""

    name: str
    charts: tuple[ChartOffered, ...]

    @property
    def chart_id(self) -> int:
        """By which it is chosen."""
        return self.charts[0]["chart_id"]

    @property
    def series(self) -> int:
        """How many series it has, about."""
        return sum(chart["n"] for chart in self.charts)


@dataclass(frozen=True)
class MeasureChart:
    """One measure of one protocol, ready to be shown."""

    measure: Measure
    segments: tuple[ChartSegment, ...]

    @property
    def title(self) -> str:
        """With a capital letter, and its unit."""
        unit = unit_words(self.measure.unit)
        return sentence(self.measure.title).rstrip(".") + (f" ({unit})" if unit else "")

    @property
    def says(self) -> str:
        """That there are too few series yet; empty where there are enough."""
        return too_few_sentence(self.segments[-1].lacking)

    @property
    def unusual(self) -> int:
        """How many of its points are unusual."""
        return sum(bool(point.kind) for segment in self.segments for point in segment.points)

    def lines(self) -> list[dict[str, Any]]:
        """The chart as a table, newest series first."""
        return [
            {
                "at": point.at,
                "value": number(point.value),
                "usual": _range(segment),
                "z": "" if point.z is None else f"{point.z:+.1f}",
                "kind": point.kind,
            }
            for segment in reversed(self.segments)
            for point in reversed(segment.points)
        ]

    @cached_property
    def drawn(self) -> tuple[str, str]:
        """For wide and for narrow windows."""
        said = {"software": _("new software"), "order": _("series, the newest on the right")}
        wide, narrow = (
            drawn_chart(self.segments, title=self.title, unit="", width=width, **said)
            for width in (plots.WIDE, plots.NARROW)
        )
        return wide, narrow


def _range(segment: ChartSegment) -> str:
    if segment.low is None or segment.high is None:
        return ""
    return f"{number(segment.low)} – {number(segment.high)}"


@dataclass(frozen=True)
class ScannerCharts:
    """What the page shows: what can be chosen, what is chosen, and its charts."""

    scanners: Sequence[str] = ()
    scanner: str = ""
    protocols: Sequence[Protocol] = ()
    protocol: Protocol | None = None
    measures: Sequence[Measure] = ()
    measure: str = ""
    charts: Sequence[MeasureChart] = ()


def scanner_charts(
    ledger: Ledger, called: StationName, scanner: str = "", chart: int = 0, measure: str = ""
) -> ScannerCharts:
    """The charts of a scanner by what people call it; where it has none, those of the first that has some.

    Parameters
    ----------
    chart
        A chart of the protocol; 0, or one of another scanner: the protocol of the newest series.
    measure
        One of the measures; empty: those with the most unusual series.
    """
    stations: dict[str, list[str]] = {}
    for station in ledger.control_charts.stations():
        stations.setdefault(called(station), []).append(station)
    scanners = sorted(stations)
    if not scanners:
        return ScannerCharts()
    scanner = scanner if scanner in stations else scanners[0]
    protocols = _protocols(ledger, stations[scanner])
    chosen = next((p for p in protocols if any(c["chart_id"] == chart for c in p.charts)), None)
    chosen = chosen or (protocols[0] if protocols else None)
    found = [] if chosen is None else measure_charts(_series(ledger, chosen), MEASURES.values())
    known = [one.measure for one in found]
    drawn = [one for one in found if one.measure.name == measure]
    if not drawn:
        measure, drawn = "", sorted(found, key=lambda one: -one.unusual)[:AT_ONCE]
    return ScannerCharts(scanners, scanner, protocols, chosen, known, measure, drawn)


def _protocols(ledger: Ledger, stations: Sequence[str]) -> list[Protocol]:
    """What the stations of one scanner have charts of, newest series first."""
    groups: dict[tuple[str, str], list[ChartOffered]] = {}
    for station in stations:
        for chart in ledger.control_charts.of_station(station, COUNTED):
            groups.setdefault((chart["modality"], chart["protocol"]), []).append(chart)
    newest = {charts[0]["newest_series"]: key for key, charts in groups.items()}
    claims = {row["series_id"]: row["claims"] for row in ledger.search.listed(list(newest))}
    return [Protocol(_name(claims.get(number, "{}"), key), tuple(groups[key])) for number, key in newest.items()]


def _name(claims: Any, key: tuple[str, str]) -> str:
    """What the newest series of a protocol is called; codes where it has no name."""
    said: Mapping[str, Any] = json.loads(plain(claims))
    name = said.get("protocol_name") or said.get("series_description") or key[1].replace("|", ", ")
    return f"{key[0]} · {name}"


def _series(ledger: Ledger, protocol: Protocol) -> list[ChartedSeries]:
    """The newest series of a protocol, those of each software version together, oldest version first."""
    found: list[list[ChartedSeries]] = []
    for chart in protocol.charts:
        rows = ledger.measured.history(chart["chart_id"], normal.WINDOW)
        found.append([_charted(row, chart["software"]) for row in rows])
        if sum(map(len, found)) >= SHOWN:
            break
    return [one for rows in reversed(found) for one in rows]


def _charted(row: MeasuredRow, software: str) -> ChartedSeries:
    read = SeriesMeasures(row)
    kinds = {one.measure: one.kind for one in read.unusual}
    return ChartedSeries(row["at"], row["series_id"], software, read.values, row["body_size"], kinds)


def measure_charts(series: Sequence[ChartedSeries], measures: Iterable[Measure]) -> list[MeasureChart]:
    """The charts of those measures that some of the series have; the newest :data:`SHOWN` points of each."""
    having = {name for one in series for name in one.values}
    charts = (control_chart(one, series) for one in measures if one.charted and one.name in having)
    return [MeasureChart(chart.measure, newest(chart.segments, SHOWN)) for chart in charts]


def newest(segments: Sequence[ChartSegment], count: int) -> tuple[ChartSegment, ...]:
    """The last `count` points, with the segments that hold them."""
    kept: list[ChartSegment] = []
    for segment in reversed(segments):
        points = segment.points[-count:] if count > 0 else ()
        count -= len(points)
        if points:
            kept.append(replace(segment, points=points, first_at=points[0].at))
    return tuple(reversed(kept))
