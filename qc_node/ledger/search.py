"""Finding series among all that ever came: identifiers by an index, all else newest first, a stretch at a time.

Nobody asks for "all series that say chest" in one statement: a ledger of years would be gone through while a
page waits.  Who searches takes stretches (:meth:`SeriesSearch.end_of_stretch`), from the newest series on, until
there is enough to show or the time is up, and goes on from there when asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from qc_node.ledger.database import Database
from qc_node.ledger.rows import FoundSeries, NumberRow, PlaceRow, ScannerNameRow

Place = tuple[float, int]
"""Where a series stands in the list: when its last image came, and its number."""

NEWEST: Place = (1e18, 1 << 62)
OLDEST: Place = (-1e18, -1)

_LISTED = (
    "SELECT series.*, studies.accession_number, studies.description AS study_description, studies.missing,"
    " studies.notes"
    " FROM series"
)
_STUDY = " CROSS JOIN studies ON studies.study_uid = series.study_uid"
_BY_TIME = " INDEXED BY idx_series_last_received"
_STRETCH = (
    "series.last_received <= ?1 AND series.last_received >= ?3"
    " AND (series.last_received, series.series_id) < (?1, ?2)"
    " AND (series.last_received, series.series_id) >= (?3, ?4)"
)
_NEWEST_FIRST = " ORDER BY series.last_received DESC, series.series_id DESC"


@dataclass(frozen=True, slots=True)
class SeriesWanted:
    """What a column of the ledger can say of the series that are looked for; None is no condition.

    Attributes
    ----------
    numbers
        Only these (``series_id``), found by an identifier.
    scanner
        Only series of this station, and those whose station the ledger does not know.
    since, until
        When the last image came, seconds since the epoch; `until` is not among it.
    """

    modality: str | None = None
    stage: str | None = None
    states: tuple[str, ...] = ()
    scanner: str | None = None
    since: float | None = None
    until: float | None = None
    numbers: tuple[int, ...] | None = None

    @property
    def in_order_of_time(self) -> bool:
        """Whether the index of arrival alone answers, so that counting reads no row."""
        named = (self.modality, self.stage, self.scanner, self.numbers)
        return not self.states and all(value is None for value in named)


class SeriesSearch:
    """Queries over all series."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def named(self, word: str, most: int = 2000) -> list[int]:
        """Numbers of the series whose accession number, study or series UID is, or begins with, `word`.

        Each by its index.  Empty also where more than `most` begin so: that is no name of anything.
        """
        end = word + "\U0010ffff"
        found: set[int] = set()
        for sql in (
            "SELECT series_id FROM series WHERE series_uid >= ? AND series_uid < ? LIMIT ?",
            "SELECT series_id FROM series WHERE study_uid >= ? AND study_uid < ? LIMIT ?",
            "SELECT series_id FROM studies CROSS JOIN series ON series.study_uid = studies.study_uid"
            " WHERE accession_number >= ? AND accession_number < ? LIMIT ?",
        ):
            found |= {row["series_id"] for row in self._db.rows(sql, (word, end, most + 1), of=NumberRow)}
            if len(found) > most:
                return []
        return sorted(found)

    def end_of_stretch(self, wanted: SeriesWanted, before: Place, size: int) -> Place:
        """The place of the last of the next `size` series, wanted or not; the end where fewer are left."""
        if wanted.numbers is not None:
            return OLDEST
        row = self._db.row(
            f"SELECT last_received, series_id FROM series{_BY_TIME} WHERE {_STRETCH}{_NEWEST_FIRST}"
            " LIMIT 1 OFFSET ?",
            (*_upper(wanted, before), *_lower(wanted, OLDEST), size - 1),
            of=PlaceRow,
        )
        return OLDEST if row is None else (row["last_received"], row["series_id"])

    def between(self, wanted: SeriesWanted, before: Place, last: Place, limit: int = -1) -> list[FoundSeries]:
        """The wanted series older than `before`, down to `last`, newest first."""
        where, values = _where(wanted)
        source = "" if wanted.numbers is not None else _BY_TIME
        sql = f"{_LISTED}{source}{_STUDY} WHERE {_STRETCH}{where}{_NEWEST_FIRST} LIMIT ?"
        values = [*_upper(wanted, before), *_lower(wanted, last), *values, limit]
        return self._db.rows(sql, values, of=FoundSeries)

    def count(self, wanted: SeriesWanted, before: Place, last: Place, most: int = -1) -> int:
        """How many :meth:`between` gives; `most` where there are more."""
        where, values = _where(wanted)
        source = "" if wanted.numbers is not None else _BY_TIME
        sql = f"SELECT count(*) FROM (SELECT 1 FROM series{source} WHERE {_STRETCH}{where} LIMIT ?)"
        return int(self._db.value(sql, [*_upper(wanted, before), *_lower(wanted, last), *values, most]))

    def listed(self, numbers: Iterable[int]) -> list[FoundSeries]:
        """The series of these numbers, newest first."""
        return self.between(SeriesWanted(numbers=tuple(numbers)), NEWEST, OLDEST)

    def scanners(self) -> list[str]:
        """Every station, and every AE title that sent series without one; each by one step in an index."""
        steps = (
            "WITH RECURSIVE s(name) AS (SELECT min({0}) FROM series UNION ALL"
            " SELECT (SELECT min({0}) FROM series WHERE {0} > s.name) FROM s WHERE s.name IS NOT NULL)"
            " SELECT name FROM s WHERE name IS NOT NULL"
        )
        found: set[str] = set()
        for column in ("station", "calling_ae"):
            found |= {row["name"] for row in self._db.rows(steps.format(column), of=ScannerNameRow)}
        return sorted(found)


def _where(wanted: SeriesWanted) -> tuple[str, list[object]]:
    parts: list[str] = []
    values: list[object] = []
    if wanted.numbers is not None:
        parts.append("series.series_id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(wanted.numbers))
    for column, value in (("modality", wanted.modality), ("stage", wanted.stage)):
        if value is not None:
            parts.append(f"series.{column} = ?")
            values.append(value)
    if wanted.scanner is not None:
        parts.append("(series.station = ? OR series.station IS NULL)")
        values.append(wanted.scanner)
    if wanted.states:
        parts.append("series.state IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(wanted.states))
    return "".join(f" AND {part}" for part in parts), values


def _upper(wanted: SeriesWanted, before: Place) -> Place:
    return before if wanted.until is None else min(before, (wanted.until, -1))


def _lower(wanted: SeriesWanted, last: Place) -> Place:
    return last if wanted.since is None else max(last, (wanted.since, -1))
