"""``/live``: the technologist board, pushed by server-sent events."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from qc_node.web.access.identity import Anyone, open_to_look
from qc_node.web.board import CHANNEL, Board
from qc_node.web.pages.panel import Maybe, event_stream
from qc_node.web.pages.rendering import page

router = APIRouter(tags=["board"])


@router.get("/live", response_class=HTMLResponse, include_in_schema=False)
def live(request: Request, reader: Maybe) -> Response:
    """The board."""
    if reader is None and not open_to_look(request):
        return RedirectResponse("/sign-in?next=/live", 303)
    return page(request, "live.html", reader)


@router.get("/live/events", include_in_schema=False)
async def live_events(request: Request, reader: Anyone) -> StreamingResponse:
    """First everything (``hello``), then what changes: cards (``card``), what to know of the node (``notice``)."""
    board: Board = request.app.state.board
    first = await run_in_threadpool(_everything, board)
    return event_stream(request.app.state.broadcaster, CHANNEL, first=first)


@router.get("/api/board")
def cards(request: Request, reader: Anyone) -> dict[str, Any]:
    """Every scanner's card, and what to know of the node itself."""
    return _everything(request.app.state.board)


def _everything(board: Board) -> dict[str, Any]:
    notice = board.notice()
    return {"cards": board.cards(), **({"notice": notice} if notice else {})}


@router.post("/api/alarms/{alarm_id}/acknowledge")
def acknowledge(request: Request, alarm_id: int, reader: Anyone) -> dict[str, Any]:
    """Somebody has seen it; on a board without sign-in the board itself is named."""
    board: Board = request.app.state.board
    if not board.acknowledge(alarm_id, reader.reader_id if reader else "board"):
        raise HTTPException(404, "This alarm is not open.")
    return {"acknowledged": alarm_id}
