"""Control charts of scanners: which there are, and the measures of the newest series on one of them.

A page shows one scanner and protocol, across its software versions, each with its own usual range; only the newest
series are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from qc_node.web.measurements import SeriesMeasures, past, usual_range
from qc_node.web.statistics import plots
from qc_node.web.statistics.control_plot import ChartPoint, Stretch, control_chart
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
    """One measure of one protocol, ready to be drawn.

    Attributes
    ----------
    lacking
        How many series of the newest software are missing before anything is called unusual.
    """

    measure: Measure
    stretches: tuple[Stretch, ...]
    lacking: int

    @property
    def title(self) -> str:
        """With a capital letter, and its unit."""
        unit = unit_words(self.measure.unit)
        return sentence(self.measure.title).rstrip(".") + (f" ({unit})" if unit else "")

    @property
    def says(self) -> str:
        """That there are too few series yet; empty where there are enough."""
        return too_few_sentence(self.lacking)

    @property
    def unusual(self) -> int:
        """How many of its points are unusual."""
        return sum(bool(point.word) for stretch in self.stretches for point in stretch.points)

    def lines(self) -> list[dict[str, Any]]:
        """The chart as a table, newest series first."""
        return [
            {
                "at": point.at,
                "value": number(point.value),
                "usual": ""
                if stretch.low is None or stretch.high is None
                else f"{number(stretch.low)} – {number(stretch.high)}",
                "word": point.word,
            }
            for stretch in reversed(self.stretches)
            for point in reversed(stretch.points)
        ]

    @cached_property
    def drawn(self) -> tuple[str, str]:
        """For wide and for narrow windows."""
        said = {"software": _("new software"), "order": _("series, the newest on the right")}
        wide, narrow = (
            control_chart(self.stretches, title=self.title, unit="", width=width, **said)
            for width in (plots.WIDE, plots.NARROW)
        )
        return wide, narrow


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
    found = [] if chosen is None else measure_charts(_rows(ledger, chosen))
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


def _rows(ledger: Ledger, protocol: Protocol) -> list[list[MeasuredRow]]:
    """The newest series of each software version of a protocol, oldest version first; :data:`SHOWN` of them."""
    found: list[list[MeasuredRow]] = []
    left = SHOWN
    for chart in protocol.charts:
        rows = ledger.control_charts.newest(chart["chart_id"], normal.WINDOW)
        found.append(rows)
        left -= len(rows)
        if left <= 0:
            break
    return found[::-1]


def measure_charts(versions: Sequence[Sequence[MeasuredRow]]) -> list[MeasureChart]:
    """Every measure that some series has, with what is usual in each software version."""
    read = [[SeriesMeasures(row) for row in rows] for rows in versions]
    learnt = [_usual(rows) for rows in versions]
    names = [name for name, measure in MEASURES.items() if measure.charted and _has(read, name)]
    lacking = max(0, normal.ENOUGH - len(versions[-1])) if versions else 0
    return [MeasureChart(MEASURES[name], _stretches(read, learnt, name), lacking) for name in names]


def _has(read: Sequence[Sequence[SeriesMeasures]], name: str) -> bool:
    return any(name in one.values for version in read for one in version)


Usual = Mapping[str, tuple[float, float, float]]
"""Low, centre and high by name of the measure."""


def _usual(rows: Sequence[MeasuredRow]) -> Usual:
    """What is usual of the newest series of one software version."""
    if not rows:
        return {}
    known = past(rows)
    newest = {name: value for one in known for name, value in one.values.items()}
    found = normal.compare(newest, None, known, MEASURES).baselines  # the range for a patient of any size
    limits = {name: usual_range(baseline, MEASURES[name]) for name, baseline in found.items()}
    return {name: (low, found[name].centre, high) for name, (low, high) in limits.items()}


def _stretches(
    read: Sequence[Sequence[SeriesMeasures]], learnt: Sequence[Usual], name: str
) -> tuple[Stretch, ...]:
    out, left = [], SHOWN
    for rows, usual in zip(reversed(read), reversed(learnt), strict=True):
        points = [_point(one, name) for one in rows if name in one.values][-left:] if left > 0 else []
        left -= len(points)
        if points:
            low, centre, high = usual.get(name, (None, None, None))
            out.append(Stretch(points, low, centre, high))
    return tuple(reversed(out))


def _point(one: SeriesMeasures, name: str) -> ChartPoint:
    kinds = [unusual.kind for unusual in one.unusual if unusual.measure == name]
    word = "" if not kinds else "drift" if kinds[0] == "drift" else "unusual"
    return ChartPoint(one.row["at"], one.values[name], word)
