"""A series as the review page shows it: who made it, what was claimed, ordered and found, and what people say."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

from qc_node.classifiers import catalogue
from qc_node.domain import Finding, Question, Verdict
from qc_node.domain.measure import ALL
from qc_node.domain.wording import Card
from qc_node.ledger.packing import plain
from qc_node.ledger.rows import EventRow, FoundSeries, LabelRow, VerdictRow
from qc_node.web import measurements
from qc_node.web.measurements import SeriesMeasures
from qc_node.web.pages import phrases
from qc_node.web.settings import WebDeps
from qc_node.web.stations import Stations
from qc_node.web.votes import cases

UNJUDGED = ("skipped", "failed")


@dataclass(frozen=True)
class ReviewedSeries:
    """One series with everything that is known of its present run; nothing is asked of the ledger any more."""

    series: FoundSeries
    given: Sequence[VerdictRow]
    labels: Mapping[str, LabelRow]
    """The newest label of each question."""
    events: Sequence[EventRow]
    names: Mapping[str, str]
    """Pseudonyms of readers."""
    stations: Stations = field(default_factory=Stations)
    """What scanners are called."""
    measured: SeriesMeasures | None = None

    @property
    def verdict(self) -> VerdictRow | None:
        """The routed classifier's verdict; None where there is none (yet)."""
        return self.given[0] if self.given else None

    @cached_property
    def claims(self) -> Mapping[str, Any]:
        """What the header claims, judged or not."""
        if self.verdict is not None:
            return self.verdict["claims"]
        found: dict[str, Any] = json.loads(plain(self.series["claims"]))
        return found

    @property
    def scanner(self) -> str:
        """Who made the series."""
        return scanner_of(self.series["station"], self.claims, self.series["calling_ae"])

    @property
    def called(self) -> str:
        """What people call the scanner."""
        return self.stations.name(self.scanner, self.series["calling_ae"])

    @cached_property
    def card(self) -> Card:
        """The verdict in words, or why there is none."""
        if self.given:
            return phrases.verdict_card(self.given)
        return phrases.state_card(self.series["state"], self.series["sentence"])

    @cached_property
    def warnings(self) -> list[str]:
        """What does not fit header or order; for a judged series that failed later, why."""
        said = list(dict.fromkeys(self.verdict["warnings"])) if self.verdict is not None else []
        late = self.series["sentence"] if self.given and self.series["state"] in UNJUDGED else None
        return [*said, late] if late else said

    @cached_property
    def missing(self) -> list[str]:
        """What the study lacks."""
        return list(json.loads(self.series["missing"] or "[]"))

    @cached_property
    def notes(self) -> list[str]:
        """What people must know: images that came again, and what the study has otherwise than usual."""
        return [*phrases.notes(self.events), *json.loads(self.series["notes"] or "[]")]

    @property
    def answers(self) -> list[tuple[Question, Finding | None]]:
        """Each question that a person may answer, with what was found."""
        return [(q, one["verdict"].finding(q)) for one in self.given for q in asked(one["verdict"])]

    @property
    def undetermined(self) -> bool:
        """Whether the machine left something open that it was asked."""
        return any(f.value is None for one in self.given for f in one["verdict"].findings)

    @property
    def reviewed(self) -> bool:
        """Whether somebody answered what was answered; of an undetermined series, whether anybody answered."""
        done = [(q.value in self.labels, found) for q, found in self.answers]
        known = all(labelled for labelled, f in done if f is not None and f.key is not None)
        return any(labelled for labelled, _ in done) and known

    @cached_property
    def text(self) -> str:
        """All that a word is looked for in, in small letters."""
        said = self.card
        claims = (self.claims.get(name) for name in ("series_description", "protocol_name", "study_description"))
        parts = [
            *(self.series["accession_number"], self.called, self.scanner, self.series["calling_ae"]),
            self.series["modality"],
            *(self.series["study_description"], *claims, phrases.claimed(self.claims), *self.ordered),
            *(said.headline, said.detail, said.sure, said.action, *self.warnings, *self.missing, *self.notes),
            *self.said_of_measures,
        ]
        return " ".join(str(part) for part in parts if part).lower()

    @property
    def ordered(self) -> list[str]:
        """What was ordered, each once."""
        return list(dict.fromkeys(self.claims.get("ordered", [])))

    def row(self, viewer_url: str | None = None) -> dict[str, Any]:
        """JSON-ready: what the page draws."""
        series, verdict = self.series, self.verdict
        pictures = cases.pictures(verdict["thumbnails"]) if verdict is not None else []
        return {
            "id": verdict["id"] if verdict is not None else None,
            "series": series["series_id"],
            "series_uid": series["series_uid"],
            "study_uid": series["study_uid"],
            "accession_number": series["accession_number"],
            "at": verdict["judged_at"] if verdict is not None else series["last_received"],
            "state": series["state"],
            "scanner": self.called,
            "modality": series["modality"],
            "stage": verdict["stage"] if verdict is not None else None,
            "images": series["instances"],
            "images_removed": series["images_removed_at"] is not None,
            "description": self.claims.get("series_description") or series["study_description"] or "",
            "claimed": phrases.claimed(self.claims),
            "ordered": " · ".join(self.ordered),
            "words": self.card.as_dict(),
            "answers": [self._answer(question, found) for question, found in self.answers],
            "warnings": self.warnings,
            "missing": self.missing,
            "notes": self.notes,
            "measured": self._measured(),
            "mip": [p for p in pictures if "mip" in p["view"]],
            "mid": [p for p in pictures if "mip" not in p["view"]],
            "reviewed": self.reviewed,
            "viewer": viewer_address(viewer_url, series),
        }

    def _measured(self) -> dict[str, Any] | None:
        """How much was measured, and what of it is worth a line; the table is asked for when somebody opens it."""
        if self.measured is None:
            return None
        count, why = len(self.measured.values), self.measured.unmeasured.get(ALL, "")
        return {"count": count, "sentence": why, **self.measured.lines()}

    @property
    def said_of_measures(self) -> list[str]:
        """What is certain, unusual, or was set otherwise, in words."""
        return [] if self.measured is None else [s for some in self.measured.lines().values() for s in some]

    def _answer(self, question: Question, found: Finding | None) -> dict[str, Any]:
        label = self.labels.get(question.value)
        return {
            "question": question.value,
            "name": question.title,
            "found": found.key if found else None,
            "probability": found.probability if found else None,
            "choices": list(question.answers),
            "label": label["label"] if label else None,
            "labelled_by": self.names.get(label["reader_id"]) if label else None,
        }


def asked(verdict: Verdict) -> list[Question]:
    """The questions that a person may correct, in order; what follows from other answers is not among them."""
    return [question for question in catalogue.questions_of(verdict) if not question.follows]


def scanner_of(station: str | None, claims: Mapping[str, Any], calling_ae: str) -> str:
    """Who made a series: its station; where the ledger does not know it, the station that the header names."""
    return station or str(claims.get("station_name") or "") or calling_ae


def viewer_address(template: str | None, series: FoundSeries) -> str | None:
    """The address of a series in the department's viewer (`[web] viewer_url`), each value percent-encoded.

    None where none is configured, or where it wants an accession number and the study has none.
    """
    if template is None or ("{accession_number}" in template and not series["accession_number"]):
        return None
    values = {
        "study_uid": series["study_uid"],
        "series_uid": series["series_uid"],
        "accession_number": series["accession_number"] or "",
    }
    return re.sub(r"\{(\w+)\}", lambda found: quote(values[found[1]], safe=""), template)


def entries(deps: WebDeps, found: Sequence[FoundSeries]) -> list[ReviewedSeries]:
    """What is known of these series, in their order; five questions to the ledger, however many they are."""
    ledger = deps.ledger
    numbers = [row["series_id"] for row in found]
    given: dict[int, list[VerdictRow]] = defaultdict(list)
    labels: dict[int, dict[str, LabelRow]] = defaultdict(dict)
    events: dict[int, list[EventRow]] = defaultdict(list)
    for verdict in ledger.verdicts.of_present_runs(numbers):
        given[verdict["series_id"]].append(verdict)
    for label in ledger.labels.of_many(numbers):
        labels[label["series_id"]][label["question"]] = label
    for event in ledger.series.events_of_many(numbers):
        events[event["series_id"]].append(event)
    names = {row["reader_id"]: row["pseudonym"] for row in ledger.readers.all()}
    measured = measurements.of_series(ledger, numbers)
    return [
        ReviewedSeries(
            row,
            given[row["series_id"]],
            labels[row["series_id"]],
            events[row["series_id"]],
            names,
            deps.web.stations,
            measured.get(row["series_id"]),
        )
        for row in found
    ]


def rows(deps: WebDeps, found: Iterable[ReviewedSeries]) -> list[dict[str, Any]]:
    """The entries as the page draws them."""
    return [entry.row(deps.web.viewer_url) for entry in found]
