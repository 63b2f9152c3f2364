"""What was measured as a table: a row for each series, a column for each measure; no patient, no time of day."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from qc_node.domain.technique import PARAMETERS
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ChartedRow

SERIES = ("day", "modality", "station", "software", "protocol", "stage", "version", "body_size")
"""Columns before those of the measures."""
SAID = ("unusual", "departures", "findings")
"""Columns after them: names, joined by commas."""
UIDS = ("study_uid", "series_uid")


@dataclass(frozen=True, slots=True)
class MeasuresWanted:
    """Which rows, and which columns.

    Attributes
    ----------
    since
        Seconds since the epoch.
    station, modality
        What to keep to; empty keeps to nothing.
    parameters
        With what was set for the acquisition; some of it is free text of the header.
    uids
        With the UIDs of study and series.
    """

    since: float = 0.0
    station: str = ""
    modality: str = ""
    parameters: bool = False
    uids: bool = False


def columns(measures: Sequence[str], wanted: MeasuresWanted) -> list[str]:
    """Names of the columns, in order."""
    parameters = [f"set_{name}" for name in PARAMETERS] if wanted.parameters else []
    return [*(UIDS if wanted.uids else ()), *SERIES, *measures, *SAID, *parameters]


def rows(ledger: Ledger, measures: Sequence[str], wanted: MeasuresWanted) -> Iterator[list[str]]:
    """The cells of each row as text, in the order of :func:`columns`; empty where there is no value."""
    names = columns(measures, wanted)
    last = 0
    while found := ledger.measured.after(
        last, since=wanted.since, station=wanted.station, modality=wanted.modality
    ):
        for row in found:
            cells = _cells(row)
            yield [_text(cells.get(name)) for name in names]
        last = found[-1]["measured_id"]


def _cells(row: ChartedRow) -> dict[str, Any]:
    return {
        **json.loads(row["measures"]),
        **{f"set_{name}": value for name, value in json.loads(row["parameters"]).items()},
        **{name: row[name] for name in (*UIDS, *SERIES) if name != "day"},  # type: ignore[literal-required]
        "day": datetime.fromtimestamp(row["at"], UTC).date().isoformat(),
        "unusual": ",".join(one["measure"] for one in json.loads(row["unusual"])),
        "departures": ",".join(one["parameter"] for one in json.loads(row["departures"])),
        "findings": ",".join(one["kind"] for one in json.loads(row["findings"])),
    }


def _text(value: Any) -> str:
    """Without what would end a cell or a row."""
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else " ".join(str(value).split())
