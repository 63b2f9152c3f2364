"""``/review``: the analyst page.  Every series that ever came, found by any name; corrections; tables.

What is looked for is never in an address: a search is a POST, since it may name an accession number or a UID, and
addresses end in logs and histories.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qc_node.classifiers import catalogue
from qc_node.ledger.search import NEWEST
from qc_node.web import slices
from qc_node.web.access.identity import Anyone, Known, deps_of, open_to_look
from qc_node.web.access.readers import Reader
from qc_node.web.board import REVIEW
from qc_node.web.pages.panel import Maybe, event_stream
from qc_node.web.pages.rendering import page
from qc_node.web.pages.row_number import LARGEST, RowNumber
from qc_node.web.review import csv_tables, searching
from qc_node.web.review.entries import ReviewedSeries, asked, entries, rows
from qc_node.web.settings import WebDeps
from qc_node.web.texts import _

router = APIRouter(tags=["review"])

LIMIT = 300
PAGE = 50
"""Series that the page shows at a time."""


@router.get("/review", response_class=HTMLResponse, include_in_schema=False)
def review(request: Request, reader: Maybe) -> Response:
    """The analyst page."""
    if reader is None and not open_to_look(request):
        return RedirectResponse("/sign-in?next=/review", 303)
    stages = [(spec.stage.value, spec.stage.value.replace("_", " ")) for spec in catalogue.specs()]
    return page(request, "review.html", reader, stages=stages)


@router.get("/api/review")
def review_rows(
    request: Request, reader: Anyone, limit: Annotated[int, Query(ge=1, le=2000)] = LIMIT
) -> dict[str, Any]:
    """The newest judged series.  Who looks here sees the machine's opinion, which later votes record."""
    deps = deps_of(request)
    newest = [row["series_id"] for row in deps.ledger.verdicts.recent(limit)]
    order = {number: place for place, number in enumerate(newest)}
    found = [entry for entry in entries(deps, deps.ledger.search.listed(newest)) if entry.given]
    found.sort(key=lambda entry: order[entry.series["series_id"]])
    _saw(deps, reader, found)
    return {"rows": rows(deps, found)}


class ReviewSearchIn(BaseModel):
    """What is looked for; every condition holds at once."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field("", max_length=200, description="words; an accession number, a UID, or its beginning")
    show: searching.Worklist = searching.Worklist.ALL
    verdict: searching.VerdictWanted | None = None
    modality: str | None = Field(None, max_length=16)
    stage: str | None = Field(None, max_length=40)
    scanner: str | None = Field(None, max_length=64)
    since: float | None = Field(None, description="seconds since the epoch")
    until: float | None = Field(None, description="seconds since the epoch, not included")
    numbers: list[RowNumber] | None = Field(None, max_length=1000, description="only these series")
    after: tuple[float, Annotated[int, Field(le=LARGEST)]] | None = Field(
        None, description="`next` of the page before"
    )
    limit: int = Field(PAGE, ge=1, le=500)

    def wanted(self) -> searching.ReviewFilter:
        """The filter without its paging."""
        said = self.model_dump(exclude={"after", "limit", "numbers"})
        return searching.ReviewFilter(**said, numbers=None if self.numbers is None else tuple(self.numbers))


@router.post("/api/review/search")
def search(request: Request, body: ReviewSearchIn, reader: Anyone) -> dict[str, Any]:
    """One page of the series that are looked for, newest first.

    ``total`` counts from here on; with ``more_than`` there may be more, older than ``back_to``; ``next`` goes on.
    """
    deps = deps_of(request)
    after = NEWEST if body.after is None else body.after
    answer, studies = searching.find(deps, body.wanted(), limit=body.limit, steady=time.monotonic, after=after)
    if reader is not None and studies:
        deps.ledger.readers.saw_verdict(reader.reader_id, studies, deps.clock())
    return answer


@router.get("/api/review/filters")
def filters(request: Request, reader: Anyone) -> dict[str, Any]:
    """What a filter can be set to here: every scanner that ever sent."""
    deps = deps_of(request)
    called = (deps.web.stations.name(known, known) for known in deps.ledger.search.scanners())
    return {"scanners": sorted(dict.fromkeys(called))}


@router.get("/api/slices/{series_id}")
def stored(request: Request, series_id: RowNumber, reader: Anyone) -> dict[str, Any]:
    """What is kept of the images of a series: planes, slices, windows; or a sentence why nothing is."""
    deps = deps_of(request)
    row = deps.ledger.series.by_id(series_id)
    if row is None:
        raise HTTPException(404, "This series is not known here.")
    if row["images_removed_at"] is not None:
        return {"planes": {}, "sentence": _("The images were removed here after delivery; your PACS has them.")}
    stack = slices.read_stack(deps.spool, deps.ledger.instances.paths_of_series(series_id))
    sentence = "" if stack.slices else _("The images of this series are not kept here, or cannot be shown.")
    return {**slices.describe(stack), "sentence": sentence}


@router.get("/api/slices/{series_id}/{plane}/{number}", include_in_schema=False)
def one_slice(
    request: Request,
    series_id: RowNumber,
    plane: Annotated[str, Path(pattern="^(axial|coronal|sagittal|stored)$")],
    number: Annotated[int, Path(ge=0, le=10_000)],
    reader: Anyone,
) -> Response:
    """One slice as numbers (:mod:`qc_node.web.slices`); the headers say its size, and how many there are."""
    deps = deps_of(request)
    row = deps.ledger.series.by_id(series_id)
    gone = HTTPException(404, "This slice is not kept any more.")
    if row is None or row["images_removed_at"] is not None:
        raise gone
    stack = slices.read_stack(deps.spool, deps.ledger.instances.paths_of_series(series_id))
    try:
        cut, aspect, count = slices.numbers(deps.spool, stack, plane, number)
    except (IndexError, OSError, ValueError) as error:
        raise gone from error
    rows_, columns = cut.shape
    headers = {
        "x-rows": str(rows_),
        "x-columns": str(columns),
        "x-aspect": f"{aspect:.5f}",
        "x-slices": str(count),
    }
    return Response(cut.tobytes(), media_type="application/octet-stream", headers=headers)


@router.get("/review/events", include_in_schema=False)
async def review_events(request: Request, reader: Anyone) -> StreamingResponse:
    """Which series has changed (``series``), by its number and nothing else."""
    return event_stream(request.app.state.broadcaster, REVIEW, first={})


class LabelsIn(BaseModel):
    """Answers of one series, as a person sees them: confirmed or corrected."""

    model_config = ConfigDict(extra="forbid")
    labels: dict[str, str] = Field(min_length=1, max_length=8)


@router.post("/api/verdicts/{verdict_id}/labels", status_code=201)
def label(request: Request, verdict_id: RowNumber, body: LabelsIn, reader: Known) -> dict[str, Any]:
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
    request.app.state.broadcaster.publish(REVIEW, "series", {"series": verdict["series_id"]})
    return {"saved": dict(body.labels), "labelled_by": reader.pseudonym}


@router.get("/review.csv", include_in_schema=False)
def review_csv(request: Request, reader: Anyone) -> Response:
    """One line per question of every judged series: what was claimed, ordered, found, and what people say."""
    deps = deps_of(request)
    found = _seen(deps, reader, searching.all_entries(deps, searching.ReviewFilter()))
    lines = itertools.chain.from_iterable(map(csv_tables.per_answer, found))
    return _table(csv_tables.streamed(lines, csv_tables.PER_ANSWER), "review.csv")


@router.post("/review/series.csv", include_in_schema=False)
async def series_csv(request: Request, reader: Anyone) -> Response:
    """One line per series that is looked for, with every answer as a column.

    A form, so that the browser writes the file while it comes; its field ``search`` is the JSON of a search.
    """
    sent = parse_qs((await request.body()).decode("utf-8", "replace")).get("search", ["{}"])[0]
    try:
        body = ReviewSearchIn.model_validate_json(sent)
    except ValidationError as error:
        raise HTTPException(422, "The search cannot be understood.") from error
    deps = deps_of(request)
    columns = csv_tables.series_columns()
    lines = map(csv_tables.per_series, _seen(deps, reader, searching.all_entries(deps, body.wanted())))
    return _table(csv_tables.streamed(lines, columns), "series.csv")


def _table(lines: Iterator[str], name: str) -> StreamingResponse:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type="text/csv", headers=headers)


def _saw(deps: WebDeps, reader: Reader | None, found: Iterable[ReviewedSeries]) -> None:
    """Note whose verdicts a reader sees, so that later votes and gradings say so."""
    studies = {entry.series["study_uid"] for entry in found if entry.given}
    if reader is not None and studies:
        deps.ledger.readers.saw_verdict(reader.reader_id, studies, deps.clock())


def _seen(deps: WebDeps, reader: Reader | None, found: Iterator[ReviewedSeries]) -> Iterator[ReviewedSeries]:
    """The same entries; a table shows verdicts as a page does."""
    while some := list(itertools.islice(found, csv_tables.LINES)):
        _saw(deps, reader, some)
        yield from some
