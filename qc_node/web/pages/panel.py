"""``/panel``: three buttons beside any viewer, and the API that takes their votes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qc_node.classifiers import catalogue
from qc_node.dicom.uids import is_uid
from qc_node.domain import QcNodeError, VoteChannel
from qc_node.ledger.rows import CaseRow
from qc_node.web.access.identity import Anyone, Known, current_reader, deps_of, known_reader, may_look
from qc_node.web.access.readers import Reader
from qc_node.web.access.security import RateLimiter
from qc_node.web.broadcast import Broadcaster, First, Full
from qc_node.web.pages import phrases
from qc_node.web.pages.rendering import page
from qc_node.web.settings import WebDeps
from qc_node.web.votes import cases, casting

router = APIRouter()

Handle = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{22}$")]
Uid = Annotated[str, Field(max_length=64, pattern=r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))+$")]
Maybe = Annotated[Reader | None, Depends(current_reader)]


class VoteIn(BaseModel):
    """One vote.

    Pages name the ``case`` and ``presentation`` that were on the screen; programs may name a study
    instead.  The same ``key`` a second time changes nothing and answers what the first time answered.
    """

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", description="idempotency key")
    vote: casting.Choice
    reasons: list[casting.VoteReason] = Field(default_factory=list, max_length=8)
    case: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{22}$")
    presentation: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{22}$")
    reader: str | None = Field(None, max_length=22, description="who pressed the key; refused when another")
    study_instance_uid: Uid | None = None
    series_instance_uid: Uid | None = None
    accession_number: str | None = Field(None, max_length=64)
    modality: str | None = Field(None, pattern=r"^[A-Z0-9_]{2,16}$")
    age_ms: float = Field(0, ge=0, description="how long ago the key went down")
    ms_to_vote: int | None = Field(None, ge=0, le=86_400_000)
    withdraws: str | None = Field(None, max_length=64, description="key of the vote taken back")

    @model_validator(mode="after")
    def _names_something(self) -> VoteIn:
        if self.case is None and self.study_instance_uid is None and self.accession_number is None:
            raise ValueError("a vote names a case, a study_instance_uid or an accession_number")
        if self.case is not None and self.presentation is None:
            raise ValueError("a vote on a case names its presentation")
        return self


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
        raise HTTPException(422, "web.fhircast_hubs lists no FHIRcast hub.")
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
        raise HTTPException(404, "This link does not name a study here.")
    return page(request, "panel.html", reader, case=handle, how="panel")


@router.get("/panel-events", include_in_schema=False)
async def panel_events(request: Request, reader: Annotated[Reader, Depends(known_reader)]) -> StreamingResponse:
    """What the PACS opens and closes for this reader, and votes from this reader's other windows."""
    broadcaster: Broadcaster = request.app.state.broadcaster
    follower = request.app.state.follower
    first = {"reader": reader.reader_id, "context": follower.current(reader.reader_id) if follower else None}
    return event_stream(broadcaster, f"reader:{reader.reader_id}", first=first)


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


@router.post("/api/cases/{handle}/show", tags=["panel"])
def show(request: Request, handle: Handle, reader: Known, how: str = "panel") -> dict[str, Any]:
    """Put a case before the reader who asks; records that it was presented."""
    if how not in ("panel", "fhircast", "search", "prompt"):
        raise HTTPException(422, "how is panel, fhircast, search or prompt.")
    try:
        return cases.show(deps_of(request), handle, reader, how)
    except QcNodeError as error:
        raise HTTPException(404, str(error)) from error


@router.get("/api/cases/{handle}", tags=["panel"])
def case(request: Request, handle: Handle, reader: Known) -> dict[str, Any]:
    """What a case is called; this does not count as presenting it."""
    try:
        return cases.summary(deps_of(request), handle)
    except QcNodeError as error:
        raise HTTPException(404, str(error)) from error


@router.get("/api/recent", tags=["panel"])
def recent(request: Request, reader: Known) -> dict[str, Any]:
    """The studies that moved last, and those for which a vote is asked."""
    deps = deps_of(request)
    asked = [
        {**cases.summary(deps, cases.open_study(deps, p["study_uid"])), "asked": True}
        for p in deps.ledger.prompts.open_for(reader.reader_id)
    ]
    return {"recent": cases.recent(deps), "asked": asked}


class SearchIn(BaseModel):
    """What the reader typed: an accession number or a UID."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=64)


@router.post("/api/search", tags=["panel"])
def search(request: Request, body: SearchIn, reader: Known) -> dict[str, Any]:
    """Find a study (POST, because addresses end up in logs)."""
    deps = deps_of(request)
    try:
        return {"found": [cases.summary(deps, handle) for handle in cases.search(deps, body.text)]}
    except QcNodeError as error:
        raise HTTPException(422, str(error)) from error


@router.post("/api/votes", tags=["votes"], status_code=201)
def vote(request: Request, response: Response, body: VoteIn, reader: Known) -> dict[str, Any]:
    """Take one vote.

    Answers 201 for a new one, 200 for the same key again, 401 without sign-in, 403 from another site,
    409 when it does not fit what was shown, 422 when malformed, 429 when too fast.
    """
    deps = deps_of(request)
    limiter: RateLimiter = request.app.state.limiter
    if not limiter.allow(f"votes:{reader.reader_id}", deps.web.votes_per_minute):
        raise HTTPException(429, "Too many votes; wait a minute.")
    if body.reader is not None and body.reader != reader.reader_id:
        raise HTTPException(409, "Somebody else is signed in now than when this vote was cast.")
    case, how = _case_of(deps, body)
    summary = cases.summary(deps, case["handle"])
    case = {**case, "accession_number": summary["accession_number"]}
    try:
        row, new = casting.cast(
            deps,
            reader,
            case,
            key=body.key,
            vote=body.vote,
            modality=cases.modality_of(deps, case),
            series_uid=cases.series_uid_of(deps, case),
            source=how,
            reasons=list(dict.fromkeys(body.reasons)),
            age_ms=body.age_ms,
            ms_to_vote=body.ms_to_vote,
            presentation=body.presentation,
            withdraws=body.withdraws,
        )
    except casting.Refused as refused:
        raise HTTPException(refused.status, str(refused)) from refused
    if not new:
        response.status_code = 200
    opinions = cases.opinions(deps, case)
    if opinions and case["study_uid"]:
        deps.ledger.readers.saw_verdict(reader.reader_id, [case["study_uid"]], deps.clock())
    out = {"duplicate": not new, "vote": casting.public(row), "opinions": opinions}
    mine = casting.standing(deps, case, reader.reader_id)
    out["mine"] = None if mine is None else casting.public(mine)
    if new:
        told = {"case": case["handle"], "mine": out["mine"]}
        request.app.state.broadcaster.publish(f"reader:{reader.reader_id}", "vote", told)
    return out


def _case_of(deps: WebDeps, body: VoteIn) -> tuple[CaseRow, VoteChannel]:
    """The case that a vote is on, and how it came."""
    if body.case is not None:
        handle, how = body.case, VoteChannel.PANEL
        shown = deps.ledger.cases.presentation(body.presentation or "")
        if shown is not None and shown["how"] == "fhircast":
            how = VoteChannel.FHIRCAST
    else:
        how = VoteChannel.API
        wanted = cases.Launch(body.study_instance_uid, body.series_instance_uid, body.accession_number)
        if body.accession_number is not None:
            try:
                cases.parse_launch({"accession": body.accession_number})
            except QcNodeError as error:
                raise HTTPException(422, str(error)) from error
        try:
            handles = cases.resolve(deps, wanted)
        except QcNodeError as error:
            raise HTTPException(422, str(error)) from error
        if len(handles) != 1:
            raise HTTPException(409, "Several studies have this accession number; name a study_instance_uid.")
        handle = handles[0]
    case = deps.ledger.cases.get(handle)
    if case is None:
        raise HTTPException(404, "This vote does not name a study here.")
    if body.modality is not None and case["modality"] is None:
        case = {**case, "modality": body.modality}
    return case, how


@router.get("/api/series/{uid}", tags=["series"])
def series(request: Request, uid: str, reader: Anyone) -> dict[str, Any]:
    """What the node knows of one series, as ``classify --json`` prints it, and how far it got.

    Where several studies have a series with this UID, it is the one that received last.
    """
    if not is_uid(uid):
        raise HTTPException(422, "This is not a DICOM UID.")
    deps = deps_of(request)
    row = deps.ledger.series.get(uid)
    if row is None:
        raise HTTPException(404, "This series is not known here.")
    given = deps.ledger.verdicts.of(row["series_id"], row["run"])
    verdict = given[0] if given else None
    if reader is not None and verdict is not None:
        deps.ledger.readers.saw_verdict(reader.reader_id, [row["study_uid"]], deps.clock())
    out: dict[str, Any] = {
        "series_instance_uid": uid,
        "study_instance_uid": row["study_uid"],
        "modality": row["modality"],
        "instances": row["instances"],
        "state": row["state"],
        "run": row["run"],
        "stage": row["stage"],
        "skipped": row["sentence"] if row["state"] in ("skipped", "failed") else None,
        "model": None,
        "results": {},
        "header": {},
        "warnings": [],
        "summary": row["sentence"],
        "notes": phrases.notes(deps.ledger.series.events(row["series_id"])),
        "timings_s": {},
    }
    if verdict is not None:
        model = verdict["verdict"].model
        out |= {
            "stage": verdict["stage"],
            "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
            "results": catalogue.results_json([one["verdict"] for one in given]),
            "header": _header(verdict["claims"]),
            "warnings": verdict["warnings"],
            "summary": catalogue.in_words([one["verdict"] for one in given], verdict["warnings"]),
            "timings_s": verdict["timings"],
        }
    return out


def _header(claims: dict[str, Any]) -> dict[str, Any]:
    words = bool(claims.get("gadolinium_words"))
    return {"gadolinium_words": words, "claims": {k: v for k, v in claims.items() if k != "gadolinium_words"}}


@router.get("/thumbnails/{name}", include_in_schema=False)
def thumbnail(
    request: Request,
    reader: Annotated[Reader | None, Depends(may_look)],
    name: Annotated[str, Path(pattern=r"^[0-9a-f]{32}-[a-z0-9_-]{1,40}\.png$")],
) -> Response:
    """One picture; its name is a digest that the spool chose."""
    try:
        data = deps_of(request).spool.path(f"thumbnails/{name}").read_bytes()
    except OSError as error:
        raise HTTPException(404, "This picture is not kept any more.") from error
    return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=86400, immutable"})


def _to_sign_in(target: str) -> RedirectResponse:
    return RedirectResponse(f"/sign-in?next={quote(target, safe='')}", 303)
