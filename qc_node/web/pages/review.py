"""``/review``: the analyst page. Every judged series with its pictures, claimed against found; corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from qc_node.classifiers import catalogue
from qc_node.domain import Finding, Question, Verdict
from qc_node.ledger.rows import LabelRow
from qc_node.web.access.identity import Anyone, Known, deps_of, open_to_look
from qc_node.web.pages import phrases
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases, exchange

router = APIRouter(tags=["review"])

LIMIT = 300
COLUMNS = (
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


def asked(verdict: Verdict) -> list[Question]:
    """The questions that a person may correct, in order; what follows from other answers is not among them."""
    return [question for question in catalogue.questions_of(verdict) if not question.follows]


def probability(finding: Finding | None) -> float | None:
    """Probability of the given answer."""
    return None if finding is None or finding.key is None else finding.probabilities.get(finding.key)


def _answer(
    question: Question, finding: Finding | None, label: LabelRow | None, names: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "question": question.value,
        "name": question.title,
        "found": finding.key if finding else None,
        "probability": probability(finding),
        "choices": list(question.answers),
        "label": label["label"] if label else None,
        "labelled_by": names.get(label["reader_id"]) if label else None,
    }


def rows(deps: WebDeps, limit: int = LIMIT) -> list[dict[str, Any]]:
    """The newest judged series, newest first, as the page and the CSV show them."""
    names = {row["reader_id"]: row["pseudonym"] for row in deps.ledger.readers.all()}
    out = []
    for verdict in deps.ledger.verdicts.recent(limit):
        series = deps.ledger.series.by_id(verdict["series_id"])
        if series is None or series["run"] != verdict["run"]:
            continue
        labels = {label["question"]: label for label in deps.ledger.labels.of(verdict["series_id"])}
        given = deps.ledger.verdicts.of(verdict["series_id"], verdict["run"])
        said = phrases.verdict_card(given)
        answers = [
            _answer(question, one["verdict"].finding(question), labels.get(question.value), names)
            for one in given
            for question in asked(one["verdict"])
        ]
        pictures = cases.pictures(verdict["thumbnails"])
        out.append(
            {
                "id": verdict["id"],
                "series_uid": series["series_uid"],
                "study_uid": series["study_uid"],
                "at": verdict["judged_at"],
                "scanner": series["calling_ae"],
                "modality": series["modality"],
                "stage": verdict["stage"],
                "images": series["instances"],
                "claimed": phrases.claimed(verdict["claims"]),
                "ordered": " · ".join(dict.fromkeys(verdict["claims"].get("ordered", []))),
                "words": said.as_dict(),
                "answers": answers,
                "warnings": list(dict.fromkeys(verdict["warnings"])),
                "missing": list(deps.ledger.studies.missing(series["study_uid"])),
                "notes": phrases.notes(deps.ledger.series.events(series["series_id"])),
                "mip": [p for p in pictures if "mip" in p["view"]],
                "mid": [p for p in pictures if "mip" not in p["view"]],
                "reviewed": _reviewed(answers),
            }
        )
    return out


def _reviewed(answers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether somebody answered what was answered; of an undetermined series, whether somebody answered at all."""
    labelled = [a["label"] is not None for a in answers]
    return any(labelled) and all(done for done, a in zip(labelled, answers, strict=True) if a["found"] is not None)


@router.get("/review", response_class=HTMLResponse, include_in_schema=False)
def review(request: Request, reader: Maybe) -> Response:
    """The analyst page."""
    if reader is None and not open_to_look(request):
        return RedirectResponse("/sign-in?next=/review", 303)
    return page(request, "review.html", reader)


@router.get("/api/review")
def review_rows(
    request: Request, reader: Anyone, limit: Annotated[int, Query(ge=1, le=2000)] = LIMIT
) -> dict[str, Any]:
    """The newest judged series.  Who looks here sees the machine's opinion, which later votes record."""
    deps = deps_of(request)
    found = rows(deps, limit)
    if reader is not None and found:
        deps.ledger.readers.saw_verdict(reader.reader_id, {row["study_uid"] for row in found}, deps.clock())
    hidden = ("series_uid", "study_uid")
    return {"rows": [{k: v for k, v in row.items() if k not in hidden} for row in found]}


class LabelsIn(BaseModel):
    """Answers of one series, as a person sees them: confirmed or corrected."""

    model_config = ConfigDict(extra="forbid")
    labels: dict[str, str] = Field(min_length=1, max_length=8)


@router.post("/api/verdicts/{verdict_id}/labels", status_code=201)
def label(request: Request, verdict_id: int, body: LabelsIn, reader: Known) -> dict[str, Any]:
    """Confirm or correct answers; they are kept as labels for later training, the verdict stays as it was."""
    deps = deps_of(request)
    verdict = deps.ledger.verdicts.by_id(verdict_id)
    if verdict is None:
        raise HTTPException(404, "This verdict is not known here.")
    given = deps.ledger.verdicts.of(verdict["series_id"], verdict["run"])
    asked_of = {q.value: (q, one["verdict"]) for one in given for q in asked(one["verdict"])}
    for name, said in body.labels.items():
        if name not in asked_of:
            raise HTTPException(422, f"{name[:40]} is not asked of this series.")
        question, _ = asked_of[name]
        if said not in question.answers:
            raise HTTPException(422, f"{name} is one of {', '.join(question.answers)}.")
    with deps.ledger.db.transaction():
        for name, said in body.labels.items():
            question, said_by = asked_of[name]
            finding = said_by.finding(question)
            deps.ledger.labels.add(
                verdict["series_id"],
                verdict["run"],
                name,
                finding.key if finding else None,
                said,
                reader.reader_id,
                deps.clock(),
            )
    return {"saved": dict(body.labels), "labelled_by": reader.pseudonym}


@router.get("/review.csv", include_in_schema=False)
def review_csv(request: Request, reader: Anyone) -> Response:
    """One line per question: what was claimed, ordered, found, and what people say."""
    flat = []
    for row in rows(deps_of(request), 2000):
        for said in row["answers"]:
            flat.append(
                {
                    "judged_at": exchange.to_iso(row["at"]),
                    "scanner": row["scanner"],
                    "modality": row["modality"],
                    "stage": row["stage"],
                    "series_instance_uid": row["series_uid"],
                    "claimed": row["claimed"],
                    "ordered": row["ordered"],
                    "verdict": row["words"]["headline"],
                    "detail": row["words"]["detail"],
                    "question": said["question"],
                    "found": said["found"],
                    "probability": said["probability"],
                    "label": said["label"],
                    "labelled_by": said["labelled_by"],
                    "warnings": " ".join(row["warnings"]),
                    "missing": " ".join(row["missing"]),
                }
            )
    text = exchange.csv_text(flat, COLUMNS)
    return Response(
        text, media_type="text/csv", headers={"content-disposition": 'attachment; filename="review.csv"'}
    )
