"""``/review``: the analyst page. Every judged series with its pictures, claimed against found; corrections."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from qc_node.domain import BINARY, GRADED, BodyPart, Question, Stage, Verdict
from qc_node.web.access.identity import Anyone, Known, deps_of, open_to_look
from qc_node.web.pages import phrases
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases, exchange

router = APIRouter(tags=["review"])

LIMIT = 300
QUESTIONS = {
    Stage.BRAIN_MRI: (Question.STRAIGHT_REJECT, Question.GADOLINIUM, *GRADED),
    Stage.CT: (Question.BODY_PART, Question.CONTRAST_ENHANCED),
}
NAMES = {
    Question.STRAIGHT_REJECT: "Straight reject",
    Question.GADOLINIUM: "Gadolinium",
    Question.MOTION: "Motion",
    Question.CONTRAST: "Contrast",
    Question.NOISE: "Noise",
    Question.BODY_PART: "Body part",
    Question.CONTRAST_ENHANCED: "Enhanced",
}
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


def choices(question: Question) -> list[str]:
    """The answers that a label may give."""
    if question in BINARY:
        return ["yes", "no"]
    return ["0", "1", "2"] if question in GRADED else [part.value for part in BodyPart]


def answer(verdict: Verdict, question: Question) -> str | None:
    """The machine's answer in the words of :func:`choices`; None where it gave none."""
    finding = verdict.finding(question)
    if finding is None or finding.value is None:
        return None
    return ("yes" if finding.value else "no") if question in BINARY else str(finding.value)


def probability(verdict: Verdict, question: Question) -> float | None:
    """Probability of the given answer."""
    finding = verdict.finding(question)
    said = answer(verdict, question)
    return None if finding is None or said is None else finding.probabilities.get(said)


def rows(deps: WebDeps, limit: int = LIMIT) -> list[dict[str, Any]]:
    """The newest judged series, newest first, as the page and the CSV show them."""
    names = {row["reader_id"]: row["pseudonym"] for row in deps.ledger.readers.all()}
    out = []
    for verdict in deps.ledger.verdicts.recent(limit):
        series = deps.ledger.series.by_id(verdict["series_id"])
        if series is None or series["run"] != verdict["run"]:
            continue
        labels = {label["question"]: label for label in deps.ledger.labels.of(verdict["series_id"])}
        said = phrases.verdict_words(verdict["verdict"], verdict["warnings"])
        answers = []
        for question in QUESTIONS[verdict["verdict"].stage]:
            label = labels.get(question.value)
            answers.append(
                {
                    "question": question.value,
                    "name": NAMES[question],
                    "found": answer(verdict["verdict"], question),
                    "probability": probability(verdict["verdict"], question),
                    "choices": choices(question),
                    "label": label["label"] if label else None,
                    "labelled_by": names.get(label["reader_id"]) if label else None,
                }
            )
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
                "mip": [p for p in pictures if "mip" in p["view"]],
                "mid": [p for p in pictures if "mip" not in p["view"]],
                "reviewed": all(a["label"] is not None for a in answers if a["found"] is not None),
            }
        )
    return out


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
    labels: dict[Question, str] = Field(min_length=1, max_length=8)


@router.post("/api/verdicts/{verdict_id}/labels", status_code=201)
def label(request: Request, verdict_id: int, body: LabelsIn, reader: Known) -> dict[str, Any]:
    """Confirm or correct answers; they are kept as labels for later training, the verdict stays as it was."""
    deps = deps_of(request)
    verdict = deps.ledger.verdicts.by_id(verdict_id)
    if verdict is None:
        raise HTTPException(404, "This verdict is not known here.")
    for question, said in body.labels.items():
        if question not in QUESTIONS[verdict["verdict"].stage]:
            raise HTTPException(422, f"{question.value} is not asked of this series.")
        if said not in choices(question):
            raise HTTPException(422, f"{question.value} is one of {', '.join(choices(question))}.")
    with deps.ledger.db.transaction():
        for question, said in body.labels.items():
            deps.ledger.labels.add(
                verdict["series_id"],
                verdict["run"],
                question.value,
                answer(verdict["verdict"], question),
                said,
                reader.reader_id,
                deps.clock(),
            )
    return {"saved": {q.value: said for q, said in body.labels.items()}, "labelled_by": reader.pseudonym}


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
