"""``/live``: the technologist board, pushed by server-sent events, and what came of its calls."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel

from qc_node.domain.attention import SEEN, AlarmAnswer
from qc_node.ledger.rows import AnsweredVote
from qc_node.web import calls
from qc_node.web.access.identity import Anyone, Known, deps_of, open_to_look
from qc_node.web.board import Board, room_channel
from qc_node.web.pages.panel import Maybe, event_stream
from qc_node.web.pages.rendering import page
from qc_node.web.pages.row_number import RowNumber
from qc_node.web.settings import WebDeps
from qc_node.web.texts import _

router = APIRouter(tags=["board"])

Wanted = Annotated[str | None, Query(max_length=64)]
"""A scanner or a room; nothing: everything."""
LOOK_BACK_DAYS = 366


@router.get("/live", response_class=HTMLResponse, include_in_schema=False)
def live(request: Request, reader: Maybe, scanner: Wanted = None) -> Response:
    """The board."""
    if reader is None and not open_to_look(request):
        here = "/live" if scanner is None else f"/live?scanner={quote(scanner)}"
        return RedirectResponse(f"/sign-in?next={quote(here)}", 303)
    return page(request, "live.html", reader, wanted=scanner)


@router.get("/live/events", include_in_schema=False)
async def live_events(request: Request, reader: Anyone, scanner: Wanted = None) -> StreamingResponse:
    """First everything (``hello``), then what changes: cards (``card``), what to know of the node (``notice``).

    In silence ``beat``, every ten seconds.
    """
    board: Board = request.app.state.board
    first = partial(board.everything, scanner)
    return event_stream(request.app.state.broadcaster, room_channel(scanner), first=first)


@router.get("/api/board")
def cards(request: Request, reader: Anyone, scanner: Wanted = None) -> dict[str, Any]:
    """Every scanner's card (or those of one scanner or room), and what to know of the node itself."""
    board: Board = request.app.state.board
    return board.everything(scanner)


class Acknowledged(BaseModel):
    """What was done about a call."""

    answer: AlarmAnswer | None = None


@router.post("/api/alarms/{alarm_id}/acknowledge")
def acknowledge(
    request: Request, alarm_id: RowNumber, reader: Anyone, done: Acknowledged | None = None
) -> dict[str, Any]:
    """Somebody has seen it, and may say what was done; on a board without sign-in the board itself is named."""
    board: Board = request.app.state.board
    answer = None if done is None else done.answer
    if not board.acknowledge(alarm_id, reader.reader_id if reader else "board", answer):
        raise HTTPException(404, _("This alarm is not open."))
    return {"acknowledged": alarm_id, "answer": answer}


@router.get("/api/calls")
def counted(
    request: Request, reader: Anyone, days: Annotated[int, Query(ge=1, le=calls.LONGEST_DAYS)] = 7
) -> dict[str, Any]:
    """How many calls each scanner had a day, and what they led to; the newest day first."""
    deps = deps_of(request)
    budget = deps.web.calls_per_day
    return {"budget": budget, "calls": [one.as_dict(budget) for one in calls.calls(deps, days)]}


@router.get("/api/votes/answers")
def answers(
    request: Request, reader: Known, days: Annotated[int, Query(ge=1, le=LOOK_BACK_DAYS)] = 30
) -> dict[str, Any]:
    """What the technologists answered to the poor votes of the reader who asks, newest first."""
    deps = deps_of(request)
    rows = deps.ledger.alarms.answers_of(reader.reader_id, deps.clock() - 86_400 * days)
    return {"answers": [_answer(deps, row) for row in rows]}


@router.get("/api/votes/{key}/answer")
def answer_to(request: Request, key: str, reader: Known) -> dict[str, Any]:
    """What the technologists answered to one poor vote of the reader who asks."""
    deps = deps_of(request)
    rows = deps.ledger.alarms.answers_of(reader.reader_id, 0.0)
    row = next((row for row in rows if row["vote_key"] == key), None)
    if row is None:
        raise HTTPException(404, _("This vote called nobody."))
    return _answer(deps, row)


def _answer(deps: WebDeps, row: AnsweredVote) -> dict[str, Any]:
    given = row["answer"] or (SEEN if row["answered_at"] is not None else None)
    return {
        "vote": row["vote_key"],
        "scanner": deps.web.stations.name(row["station"], row["calling_ae"]),
        "called_at": row["raised_at"],
        "answered_at": row["answered_at"],
        "answer": given,
        "sentence": _answered(given),
    }


def _answered(given: str | None) -> str:
    match given:
        case AlarmAnswer.REPEATED:
            return _("The series was repeated.")
        case AlarmAnswer.PATIENT_MOVED:
            return _("The patient moved.")
        case AlarmAnswer.NOTED:
            return _("The technologists have noted it.")
        case None:
            return _("The technologists have been told; nobody has answered yet.")
    return _("The technologists have seen it.")
