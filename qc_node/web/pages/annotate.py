"""``/annotate``: two experts grade by the written protocol, each blind to the other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow, VerdictRow
from qc_node.web import slices
from qc_node.web.access import readers
from qc_node.web.access.identity import Expert, deps_of, expert
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases, gradings
from qc_node.web.votes.gradings import Grading

router = APIRouter(tags=["expert protocol"])

VerdictId = Annotated[int, Path(ge=1)]


class GradingIn(BaseModel):
    """One grading; ``kind`` is ``consensus`` when two raters settled a straight reject together."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    kind: Literal["rating", "consensus"] = "rating"
    straight_reject: bool
    gadolinium: bool | None = None
    motion: Literal[0, 1, 2] | None = None
    contrast: Literal[0, 1, 2] | None = None
    noise: Literal[0, 1, 2] | None = None
    ms: int | None = Field(None, ge=0, le=86_400_000)


@router.get("/annotate", response_class=HTMLResponse, include_in_schema=False)
def annotate(request: Request, reader: Maybe) -> Response:
    """The grading page; experts only."""
    if reader is None:
        return RedirectResponse("/sign-in?next=/annotate", 303)
    return page(request, "annotate.html", expert(reader))


@router.get("/api/annotate")
def worklist(request: Request, reader: Expert) -> dict[str, Any]:
    """What this rater has done and what waits, by verdict number; nothing of what others said."""
    deps = deps_of(request)
    rows = deps.ledger.gradings.gradable()
    number = {row["series_uid"]: row["id"] for row in rows}
    state = gradings.board(deps.ledger.gradings.current())
    mine = [s for s in number if reader.reader_id in state.ratings.get(s, {})]
    return {
        "todo": [number[s] for s in gradings.todo(list(number), state, reader.reader_id)],
        "done": [number[s] for s in mine],
        "queue": [number[s] for s in state.queue if s in number],
        "labels": len(state.labels),
    }


@router.get("/api/annotate/{verdict_id}")
def task(request: Request, verdict_id: VerdictId, reader: Expert) -> dict[str, Any]:
    """One series to grade: pictures, and this rater's own grading.

    What others said is in it only for a series of the consensus queue, whose raters have both spoken.
    """
    deps = deps_of(request)
    verdict, row = _verdict(deps, verdict_id)
    series = row["series_uid"]
    state = gradings.board(deps.ledger.gradings.current())
    mine = state.ratings.get(series, {}).get(reader.reader_id)
    names = {r.reader_id: r.pseudonym for r in readers.list_all(deps.ledger)}
    out: dict[str, Any] = {
        "id": verdict_id,
        "pictures": [p for p in cases.pictures(verdict["thumbnails"]) if p["view"] in cases.MID_PLANES],
        "series": row["series_id"],
        "slices": len(_stack(deps, row).slices),
        "mine": None if mine is None else mine.as_dict(),
        "both": None,
    }
    if series in state.queue:
        both = state.ratings[series]
        out["both"] = [{"rater": names[rater], **grading.as_dict()} for rater, grading in both.items()]
    return out


@router.get("/api/annotate/{verdict_id}/slices/{number}.png", include_in_schema=False)
def slice_picture(
    request: Request, verdict_id: VerdictId, number: Annotated[int, Path(ge=0, le=10_000)], reader: Expert
) -> Response:
    """One stored slice."""
    deps = deps_of(request)
    stack = _stack(deps, _verdict(deps, verdict_id)[1])
    try:
        data = slices.render(deps.spool, stack, number)
    except (IndexError, OSError) as error:
        raise HTTPException(404, "This slice is not kept any more.") from error
    return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


@router.post("/api/annotate/{verdict_id}", status_code=201)
def grade(request: Request, verdict_id: VerdictId, body: GradingIn, reader: Expert) -> dict[str, Any]:
    """Save one grading; a later one of the same rater counts instead, both stay in the log."""
    deps = deps_of(request)
    _, row = _verdict(deps, verdict_id)
    series = row["series_uid"]
    try:
        given = Grading(body.straight_reject, body.gadolinium, body.motion, body.contrast, body.noise)
    except QcNodeError as error:
        raise HTTPException(422, str(error)) from error
    state = gradings.board(deps.ledger.gradings.current())
    raters = state.ratings.get(series, {})
    if body.kind == "consensus":
        if series not in state.queue:
            raise HTTPException(409, "This series does not wait for a consensus.")
        if given not in raters.values():
            raise HTTPException(409, "A consensus is one of the two ratings.")
    elif reader.reader_id not in raters and len(raters) >= gradings.RATERS:
        raise HTTPException(409, "Two raters have graded this series already.")
    new = deps.ledger.gradings.add(
        key=body.key,
        series_uid=series,
        series_id=row["series_id"],
        reader_id=reader.reader_id,
        kind=body.kind,
        straight_reject=given.straight_reject,
        gadolinium=given.gadolinium,
        motion=given.motion,
        contrast=given.contrast,
        noise=given.noise,
        at=deps.clock(),
        ms=body.ms,
        source="annotate",
        verdict_visible=deps.ledger.readers.has_seen_verdict(reader.reader_id, row["study_uid"], deps.clock()),
    )
    return {"saved": given.as_dict(), "duplicate": not new}


@router.get("/annotate/ratings.tsv", include_in_schema=False)
def ratings(request: Request, reader: Expert) -> Response:
    """This rater's own ratings and the labels that two raters gave together; not the other's ratings alone."""
    ledger = deps_of(request).ledger
    state = gradings.board(ledger.gradings.current())
    rows = [
        row
        for row in ledger.gradings.current()
        if row["reader_id"] == reader.reader_id or row["series_uid"] in state.labels
    ]
    text, _ = gradings.write_ratings(rows, _names(ledger))
    headers = {"content-disposition": 'attachment; filename="ratings.tsv"'}
    return Response(text, media_type="text/tab-separated-values", headers=headers)


def import_ratings(ledger: Ledger, text: str, name: str) -> int:
    """Bring in single ratings of a ``ratings.tsv``; returns how many were new.  All or nothing.

    Raises
    ------
    QcNodeError
        A row makes no sense, or its rater is no known reader.
    """
    known = {r.login.casefold(): r for r in readers.list_all(ledger)}
    known |= {r.pseudonym: r for r in readers.list_all(ledger)}
    new = 0
    with ledger.db.transaction():
        for rated in gradings.read_ratings(text, name):
            reader, given = known.get(rated.rater.casefold()), rated.grading
            if reader is None:
                raise QcNodeError(f"{name} names an unknown rater {rated.rater!r}.")
            known_here = ledger.series.get(rated.series)
            new += ledger.gradings.add(
                key=f"tsv-{rated.series[-40:]}-{int(rated.at * 1000)}",
                series_uid=rated.series,
                series_id=None if known_here is None else known_here["series_id"],
                reader_id=reader.reader_id,
                kind="rating",
                straight_reject=given.straight_reject,
                gadolinium=given.gadolinium,
                motion=given.motion,
                contrast=given.contrast,
                noise=given.noise,
                at=rated.at,
                ms=None,
                source="import",
                verdict_visible=rated.verdict_visible,
            )
    return new


def export_ratings(ledger: Ledger) -> tuple[str, str]:
    """All of ``ratings.tsv`` and its sidecar."""
    return gradings.write_ratings(ledger.gradings.current(), _names(ledger))


def _names(ledger: Ledger) -> dict[str, str]:
    return {r.reader_id: r.pseudonym for r in readers.list_all(ledger)}


def _verdict(deps: WebDeps, verdict_id: int) -> tuple[VerdictRow, SeriesRow]:
    verdict = deps.ledger.verdicts.by_id(verdict_id)
    series = None if verdict is None else deps.ledger.series.by_id(verdict["series_id"])
    if verdict is None or series is None or verdict["stage"] != "brain_mri":
        raise HTTPException(404, "This series is not to be graded.")
    return verdict, series


def _stack(deps: WebDeps, series: SeriesRow) -> slices.PictureStack:
    if series["images_removed_at"] is not None:
        return slices.PictureStack((), (0.0, 1.0))
    return slices.read_stack(deps.spool, deps.ledger.instances.paths_of_series(series["series_id"]))
