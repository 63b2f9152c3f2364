"""What the board's cards show, read from the ledger: one card for each scanner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qc_node.domain import attention
from qc_node.domain.attention import AlarmAnswer, AttentionKind, Calls, Cause
from qc_node.domain.measure_words import new_software_sentence
from qc_node.ledger.rows import AlarmRow, ScannerRow, SeriesRow, SoftwareRow, VerdictRow
from qc_node.web import calls, measurements
from qc_node.web.measurements import SeriesMeasures
from qc_node.web.pages import phrases
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases

SHOW_S = 3 * 86_400.0
"""Scanners that sent nothing for three days leave the board (their open alarms stay)."""
STRIP = 8
"""How many series before the newest one a card shows in small."""


@dataclass(frozen=True)
class _Known:
    """What was read at once of every series on the cards, by its number."""

    given: Mapping[int, Sequence[VerdictRow]]
    measured: Mapping[int, SeriesMeasures]

    def causes(self, series_id: int) -> Sequence[Cause]:
        """Why what was measured calls."""
        return self.measured[series_id].causes if series_id in self.measured else ()

    def lines(self, series_id: int) -> list[str]:
        """What to say of what was measured; nothing where all is as usual."""
        if series_id not in self.measured:
            return []
        return [said for some in self.measured[series_id].lines().values() for said in some]


class Cards:
    """Reads cards; knows no more than the ledger."""

    def __init__(self, deps: WebDeps) -> None:
        self._deps = deps

    def name(self, row: SeriesRow | AlarmRow | ScannerRow) -> str:
        """What people call the scanner of a row."""
        return self._deps.web.stations.name(row["station"], row["calling_ae"])

    def all(self, wanted: str | None = None) -> list[dict[str, Any]]:
        """Every scanner's card (or those of one scanner or room), alarms first, then by name."""
        ledger, shows = self._deps.ledger, self._deps.web.stations.shows
        alarms = [a for a in ledger.alarms.open_ones() if shows(wanted, self.name(a))]
        known: list[ScannerRow] = ledger.series.scanners_since(self._deps.clock() - SHOW_S)
        known += [{"station": a["station"], "calling_ae": a["calling_ae"]} for a in alarms]
        pairs: dict[str, dict[tuple[str | None, str], None]] = {}
        for scanner in known:
            if shows(wanted, self.name(scanner)):
                pairs.setdefault(self.name(scanner), {})[scanner["station"], scanner["calling_ae"]] = None
        series = {name: self._newest(list(some)) for name, some in pairs.items()}
        called = [row for a in alarms if (row := ledger.series.by_id(a["series_id"])) is not None]
        by_id = {row["series_id"]: row for row in (*called, *(r for rows in series.values() for r in rows))}
        given = ledger.verdicts.of_last_runs(by_id)
        known_of = _Known(given, measurements.last_of_series(ledger, by_id))
        renewed, drifting = self._renewed(pairs), self._drifting()
        today = calls.today(self._deps)
        found = []
        for name, rows in series.items():
            mine = [a for a in alarms if self.name(a) == name and a["series_id"] in by_id]
            if rows:
                card = self._card(name, rows, mine, by_id, known_of, today.get(name))
                said = [*([new_software_sentence(name)] if name in renewed else []), *drifting.get(name, ())]
                found.append({**card, "scanner_notes": said})
        return sorted(found, key=lambda c: (not c["alarms"], c["scanner"]))

    def of(self, name: str) -> dict[str, Any] | None:
        """The card of one scanner by its name; None where it has none."""
        return next((card for card in self.all(name) if card["scanner"] == name), None)

    def _drifting(self) -> dict[str, list[str]]:
        """What drifts, in words, by what people call the scanner."""
        found: dict[str, list[str]] = {}
        for row in self._deps.ledger.control_charts.drifting(self._deps.clock() - SHOW_S):
            name = self._deps.web.stations.name(row["station"], row["station"])
            found.setdefault(name, []).extend(
                said for said in measurements.drift_sentences(row["unusual"]) if said not in found[name]
            )
        return found

    def _renewed(self, pairs: Mapping[str, Iterable[tuple[str | None, str]]]) -> set[str]:
        """Scanners that have had new software in the last days, by what people call them."""
        called = {station: name for name, some in pairs.items() for station, _calling in some if station}
        versions: dict[str, list[SoftwareRow]] = {}
        for row in self._deps.ledger.control_charts.software(list(called)):
            versions.setdefault(row["station"], []).append(row)
        now = self._deps.clock()
        return {called[station] for station, of in versions.items() if measurements.new_software(of, now)}

    def _newest(self, pairs: Sequence[tuple[str | None, str]]) -> list[SeriesRow]:
        rows = [row for pair in pairs for row in self._deps.ledger.series.newest_of(*pair, STRIP + 1)]
        return sorted(rows, key=lambda row: row["last_received"], reverse=True)[: STRIP + 1]

    def _card(
        self,
        name: str,
        rows: Sequence[SeriesRow],
        alarms: Sequence[AlarmRow],
        by_id: Mapping[int, SeriesRow],
        known: _Known,
        today: Calls | None,
    ) -> dict[str, Any]:
        budget = self._deps.web.calls_per_day
        return {
            "scanner": name,
            "rooms": list(self._deps.web.stations.rooms(name)),
            "now": self._deps.clock(),
            "newest": self._entry(rows[0], known),
            "recent": [self._small(row, known.given.get(row["series_id"], ())) for row in rows[1:]],
            "alarms": [self._alarm(a, by_id[a["series_id"]], known) for a in alarms],
            "calls": (today or Calls(name, "", 0, {}, 0, {})).as_dict(budget),
        }

    def _alarm(self, alarm: AlarmRow, row: SeriesRow, known: _Known) -> dict[str, Any]:
        return {
            "id": alarm["id"],
            "kind": alarm["kind"],
            "sentence": self._why(alarm, row, known),
            "answers": [answer.value for answer in AlarmAnswer],
            **self._entry(row, known, raised=True),
            "at": alarm["raised_at"],
        }

    def _why(self, alarm: AlarmRow, row: SeriesRow, known: _Known) -> str:
        """Why the alarm was raised, where the words of the verdict do not say it."""
        given = known.given.get(row["series_id"], ())
        match alarm["kind"]:
            case AttentionKind.ORDER:
                causes = attention.of_series([v["verdict"] for v in given], given[0]["warnings"] if given else ())
                return next((c.sentence for c in causes if c.kind is AttentionKind.ORDER), "")
            case AttentionKind.MISSING:
                return " ".join(self._deps.ledger.studies.missing(row["study_uid"]))
            case AttentionKind.FAILED:
                return row["sentence"] or ""
            case AttentionKind.VOTE:
                vote = None if alarm["vote_id"] is None else self._deps.ledger.votes.get(alarm["vote_id"])
                return "" if vote is None else attention.vote_sentence(vote["reasons"])
            case AttentionKind.UNUSUAL:
                return " ".join(cause.sentence for cause in known.causes(row["series_id"]))
        return ""

    def _entry(self, row: SeriesRow, known: _Known, raised: bool = False) -> dict[str, Any]:
        """What a card shows of one series.

        Under an alarm (`raised`) the words stay those of the verdict that raised it while the series is judged
        anew: "being judged" is no reason to call anybody.
        """
        said, at, verdict = self._words(row, known.given.get(row["series_id"], ()), raised)
        claims = verdict["claims"] if verdict is not None else {}
        warnings = attention.mismatches(verdict["warnings"]) if verdict is not None else ()
        return {
            "series": row["series_id"],
            "description": claims.get("series_description") or f"{row['modality']} series",
            "modality": row["modality"],
            "images": row["instances"],
            "at": at,
            "words": said.as_dict(),
            "picture": _picture(verdict),
            "missing": list(self._deps.ledger.studies.missing(row["study_uid"])),
            "mismatches": [w for w in warnings if w not in said.detail],
            "notes": phrases.notes(self._deps.ledger.series.events(row["series_id"])),
            "measured": known.lines(row["series_id"]),
        }

    def _small(self, row: SeriesRow, given: Sequence[VerdictRow]) -> dict[str, Any]:
        said, at, verdict = self._words(row, given, raised=False)
        return {
            "series": row["series_id"],
            "at": at,
            "words": {"headline": said.headline, "tone": said.tone.value, "shape": said.as_dict()["shape"]},
            "picture": _picture(verdict),
        }

    @staticmethod
    def _words(row: SeriesRow, given: Sequence[VerdictRow], raised: bool) -> tuple[Any, float, VerdictRow | None]:
        """What to say of a series, since when, and its verdict where that is what is said."""
        if given and (raised or given[0]["run"] == row["run"]) and row["state"] != "failed":
            return phrases.verdict_card(given), given[0]["judged_at"], given[0]
        card = phrases.state_card(row["state"], row["sentence"])
        return card, row["closed_at"] or row["last_received"], None


def _picture(verdict: VerdictRow | None) -> str | None:
    pictures = cases.pictures(verdict["thumbnails"]) if verdict is not None else []
    return pictures[0]["src"] if pictures else None
