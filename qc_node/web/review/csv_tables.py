"""Tables of reviewed series, row by row: one line per answer, or one per series with every answer as a column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qc_node.classifiers import catalogue
from qc_node.ledger.rows import VerdictRow
from qc_node.web.pages import phrases
from qc_node.web.review.entries import ReviewedSeries
from qc_node.web.votes.exchange import harmless, to_iso

PER_ANSWER = (
    "judged_at",
    "scanner",
    "modality",
    "stage",
    "series_instance_uid",
    "claimed",
    "ordered",
    "verdict",
    "detail",
    "question",
    "found",
    "probability",
    "label",
    "labelled_by",
    "warnings",
    "missing",
)
LINES = 200
"""Lines that are sent at a time."""


def per_answer(entry: ReviewedSeries) -> Iterator[dict[str, Any]]:
    """Each answer of an entry: what was claimed, ordered, found, and what people say."""
    verdict = entry.verdict
    if verdict is None:
        return
    for question, finding in entry.answers:
        label = entry.labels.get(question.value)
        yield {
            "judged_at": to_iso(verdict["judged_at"]),
            "scanner": entry.scanner,
            "modality": entry.series["modality"],
            "stage": verdict["stage"],
            "series_instance_uid": entry.series["series_uid"],
            "claimed": phrases.claimed(entry.claims),
            "ordered": " · ".join(entry.ordered),
            "verdict": entry.card.headline,
            "detail": entry.card.detail,
            "question": question.value,
            "found": finding.key if finding else None,
            "probability": finding.probability if finding else None,
            "label": label["label"] if label else None,
            "labelled_by": entry.names.get(label["reader_id"]) if label else None,
            "warnings": " ".join(entry.warnings),
            "missing": " ".join(entry.missing),
        }


def series_columns() -> tuple[str, ...]:
    """The columns of the table with one line per series; they grow with the questions of the classifiers."""
    answers: list[str] = []
    for question in catalogue.questions():
        name = question.value
        answers.append(name)
        if not question.follows:
            answers += [f"{name}_probability_{answer}" for answer in question.answers]
        answers += [f"{name}_reason"] if question.explains else []
    people = [f"{q.value}_label" for q in catalogue.questions() if not q.follows]
    return (
        *("series_instance_uid", "study_instance_uid", "modality", "station", "calling_ae", "series_description"),
        *("protocol_name", "ordered", "images", "state", "not_judged_because", "stage"),
        *answers,
        *("coverage_regions", "coverage_top", "coverage_bottom", "coverage_truncated", "abstained"),
        *people,
        *("labelled_by", "reviewed", "warnings", "missing", "notes", "unusual", "tone", "attention", "summary"),
        *("model_name", "model_version", "model_sha256", "first_received", "last_received", "judged_at"),
    )


def per_series(entry: ReviewedSeries) -> dict[str, Any]:
    """One entry with every answer of every classifier that judged it."""
    series = entry.series
    out: dict[str, Any] = {
        "series_instance_uid": series["series_uid"],
        "study_instance_uid": series["study_uid"],
        "modality": series["modality"],
        "station": entry.scanner,
        "calling_ae": series["calling_ae"],
        "series_description": entry.claims.get("series_description"),
        "protocol_name": entry.claims.get("protocol_name"),
        "ordered": " · ".join(entry.ordered),
        "images": series["instances"],
        "state": series["state"],
        "not_judged_because": series["sentence"],
        "first_received": to_iso(series["first_received"]),
        "last_received": to_iso(series["last_received"]),
        "reviewed": int(entry.reviewed),
        "warnings": " ".join(entry.warnings),
        "missing": " ".join(entry.missing),
        "notes": " ".join(entry.notes),
        "unusual": " ".join(entry.said_of_measures),
        "labelled_by": " ".join(
            dict.fromkeys(entry.names.get(label["reader_id"], "") for label in entry.labels.values())
        ),
    }
    out |= {f"{question}_label": label["label"] for question, label in entry.labels.items()}
    for verdict in reversed(entry.given):  # the routed classifier's last, so that model and times are its own
        out |= _judged(verdict)
    if entry.given:
        abstained = [
            f"{f.question.value}: {f.abstained}" for v in entry.given for f in v["verdict"].findings if f.abstained
        ]
        out |= {
            "abstained": " ".join(abstained),
            "tone": entry.card.tone.value,
            "attention": int(entry.card.attention),
            "summary": catalogue.in_words([v["verdict"] for v in entry.given], entry.given[0]["warnings"]),
        }
    return out


def _judged(row: VerdictRow) -> dict[str, Any]:
    verdict = row["verdict"]
    out: dict[str, Any] = {
        "stage": row["stage"],
        "judged_at": to_iso(row["judged_at"]),
        "model_name": verdict.model.name,
        "model_version": verdict.model.version,
        "model_sha256": verdict.model.sha256,
    }
    for finding in verdict.findings:
        name = finding.question.value
        out[name] = finding.key
        out |= {f"{name}_probability_{answer}": round(p, 4) for answer, p in finding.probabilities.items()}
        if finding.question.explains and finding.reason is not None:
            out[f"{name}_reason"] = finding.reason.value
    if (coverage := verdict.coverage) is not None:
        out |= {
            "coverage_regions": " ".join(region.value for region in coverage.regions),
            "coverage_top": coverage.top,
            "coverage_bottom": coverage.bottom,
            "coverage_truncated": int(coverage.truncated),
        }
    return out


def streamed(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """A table as CSV, some lines at a time; no cell can be run as a formula by a spreadsheet."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow([harmless(row.get(name)) for name in columns])
        if number % LINES == 0:
            yield stream.getvalue()
            stream.seek(0)
            stream.truncate()
    yield stream.getvalue()
