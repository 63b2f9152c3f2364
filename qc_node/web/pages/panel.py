"""``/panel``: three buttons beside any viewer, and the viewer that it follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from qc_node.domain import QcNodeError
from qc_node.web.access.identity import Known, current_reader, deps_of, known_reader
from qc_node.web.access.readers import Reader
from qc_node.web.broadcast import HEARTBEAT_S, Broadcaster, First, Full
from qc_node.web.fhircast.follower import NOT_FOLLOWING
from qc_node.web.pages.rendering import page
from qc_node.web.texts import _
from qc_node.web.votes import cases

router = APIRouter()

Handle = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{22}$")]
Maybe = Annotated[Reader | None, Depends(current_reader)]


@router.get("/panel", response_class=HTMLResponse, include_in_schema=False)
def panel(request: Request, reader: Maybe) -> Response:
    """The panel; a launch URL's parameters are answered 303 to an opaque address."""
    if request.query_params:
        return launch(request, reader)
    if reader is None:
        return _to_sign_in("/panel")
    return page(request, "panel.html", reader, case=None, how="panel")


@router.get("/launch", include_in_schema=False)
@router.get("/IHEInvokeImageDisplay", include_in_schema=False)
def launch(request: Request, reader: Maybe) -> Response:
    """Open the panel for a study that a PACS names (IHE Invoke Image Display style)."""
    deps = deps_of(request)
    if "hub.topic" in request.query_params:
        if reader is None:
            return _to_sign_in(f"{request.url.path}?{request.url.query}")
        _follow(request, reader)
    try:
        wanted = cases.parse_launch(dict(request.query_params))
        handles = [] if wanted is None else cases.resolve(deps, wanted)
    except QcNodeError as error:
        raise HTTPException(422, str(error)) from error
    if not handles:
        return RedirectResponse("/panel", 303)
    if len(handles) > 1:
        # One accession number, several studies: nobody but the reader knows which one is on the screen.
        return RedirectResponse("/panel/choose/" + ".".join(handles[:20]), 303)
    return RedirectResponse(f"/panel/{handles[0]}", 303)


def _follow(request: Request, reader: Reader) -> None:
    """Subscribe the FHIRcast topic that a launch URL names (``hub.url``, ``hub.topic``)."""
    follower = request.app.state.follower
    if follower is None:
        raise HTTPException(422, _("web.fhircast_hubs lists no FHIRcast hub."))
    hubs = deps_of(request).web.fhircast_hubs
    hub = request.query_params.get("hub.url") or hubs[0]
    try:
        follower.follow(reader.reader_id, hub, request.query_params["hub.topic"])
    except QcNodeError as error:
        raise HTTPException(422, str(error)) from error


@router.get("/panel/choose/{handles}", response_class=HTMLResponse, include_in_schema=False)
def choose(
    request: Request, reader: Maybe, handles: Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{22,460}$")]
) -> Response:
    """Several studies under one accession number: choose one."""
    if reader is None:
        return _to_sign_in(request.url.path)
    try:
        found = [cases.summary(deps_of(request), handle) for handle in handles.split(".")]
    except QcNodeError as error:
        raise HTTPException(404, str(error)) from error
    return page(request, "choose.html", reader, found=found)


@router.get("/panel/{handle}", response_class=HTMLResponse, include_in_schema=False)
def panel_for(request: Request, handle: Handle, reader: Maybe) -> Response:
    """The panel on one study."""
    if reader is None:
        return _to_sign_in(f"/panel/{handle}")
    if deps_of(request).ledger.cases.get(handle) is None:
        raise HTTPException(404, _("This link does not name a study here."))
    return page(request, "panel.html", reader, case=handle, how="panel")


@router.get("/panel-events", include_in_schema=False)
async def panel_events(request: Request, reader: Annotated[Reader, Depends(known_reader)]) -> StreamingResponse:
    """What the viewer opens and closes for this reader, and votes from this reader's other windows."""
    broadcaster: Broadcaster = request.app.state.broadcaster

    def first() -> dict[str, Any]:
        return {"reader": reader.reader_id, "beat_s": HEARTBEAT_S, "context": _followed(request, reader)}

    return event_stream(broadcaster, f"reader:{reader.reader_id}", first=first)


@router.get("/api/following", tags=["panel"])
def following(request: Request, reader: Known) -> dict[str, Any]:
    """Whether a viewer is followed, how the connection to it is, and what it has open."""
    return _followed(request, reader)


@router.delete("/api/following", tags=["panel"])
def stop_following(request: Request, reader: Known) -> dict[str, Any]:
    """Follow no viewer any more, also after a restart, until one is launched again."""
    follower = request.app.state.follower
    if follower is not None:
        follower.unfollow(reader.reader_id)
    return NOT_FOLLOWING


def _followed(request: Request, reader: Reader) -> dict[str, Any]:
    follower = request.app.state.follower
    found: dict[str, Any] | None = follower.current(reader.reader_id) if follower is not None else None
    return found or NOT_FOLLOWING


def event_stream(broadcaster: Broadcaster, *channels: str, first: First) -> StreamingResponse:
    """Server-sent events as a response; ends at once when too many pages are open."""

    async def events() -> AsyncIterator[str]:
        try:
            async for chunk in broadcaster.stream(*channels, first=first):
                yield chunk
        except Full:
            yield "retry: 15000\n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _to_sign_in(target: str) -> RedirectResponse:
    return RedirectResponse(f"/sign-in?next={quote(target, safe='')}", 303)
