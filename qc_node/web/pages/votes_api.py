"""What the panel and programs call: show a case, find one, take a vote and what is added to it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qc_node.domain import QcNodeError, VoteChannel
from qc_node.ledger.rows import CaseRow, VoteRow
from qc_node.web.access.identity import Known, deps_of
from qc_node.web.access.readers import Reader
from qc_node.web.access.security import RateLimiter
from qc_node.web.settings import WebDeps
from qc_node.web.texts import _
from qc_node.web.votes import additions, cases, casting
from qc_node.web.votes.additions import LONGEST_COMMENT, Confidence, Kind, VerdictAgreement

router = APIRouter()

Handle = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{22}$")]
Uid = Annotated[str, Field(max_length=64, pattern=r"^(0|[1-9]\d*)(\.(0|[1-9]\d*))+$")]
Key = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Comment = Annotated[str, Field(max_length=LONGEST_COMMENT)]
SHOWN_BY = ("panel", "fhircast", "search", "prompt")


class VoteIn(BaseModel):
    """One vote.

    Pages name the ``case`` and ``presentation`` that were on the screen; programs may name a study
    instead.  The same ``key`` a second time changes nothing and answers what the first time answered.
    """

    model_config = ConfigDict(extra="forbid")

    key: Key = Field(description="idempotency key")
    vote: casting.Choice
    reasons: list[casting.VoteReason] = Field(default_factory=list, max_length=8)
    confidence: Confidence | None = Field(None, description="how sure the reader is; a row of its own")
    comment: Comment | None = Field(None, description="free text; a row of its own, exported only when asked for")
    case: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{22}$")
    presentation: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{22}$")
    reader: str | None = Field(None, max_length=22, description="who pressed the key; refused when another")
    study_instance_uid: Uid | None = None
    series_instance_uid: Uid | None = None
    accession_number: str | None = Field(None, max_length=64)
    modality: str | None = Field(None, pattern=r"^[A-Z0-9_]{2,16}$")
    age_ms: float = Field(0, ge=0, description="how long ago the key went down")
    ms_to_vote: int | None = Field(None, ge=0, le=86_400_000)
    ms_since_asked: float | None = Field(
        None, ge=0, description="from asking for the presentation to the key going down, by the page's clock"
    )
    withdraws: str | None = Field(None, max_length=64, description="key of the vote that is undone")

    @model_validator(mode="after")
    def _names_something(self) -> VoteIn:
        if self.case is None and self.study_instance_uid is None and self.accession_number is None:
            raise ValueError("a vote names a case, a study_instance_uid or an accession_number")
        if self.case is not None and self.presentation is None:
            raise ValueError("a vote on a case names its presentation")
        return self


class ActIn(BaseModel):
    """Something added to a vote, or a vote or an addition taken back; a row of its own with its own time."""

    model_config = ConfigDict(extra="forbid")

    key: Key = Field(description="idempotency key")
    of: str = Field(max_length=80, description="key of your vote; of a withdrawal also of an addition")
    kind: Kind
    reasons: list[casting.VoteReason] | None = Field(None, max_length=8, description="all that hold from now on")
    comment: Comment | None = Field(None, description="free text; empty takes it away")
    confidence: Confidence | None = None
    agrees: bool | None = Field(None, description="with the verdict, once it was shown")
    reports: list[Uid] = Field(
        default_factory=list, max_length=100, description="SOP Instance UIDs agreed with; default: the newest"
    )
    case: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{22}$")
    presentation: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{22}$")
    reader: str | None = Field(None, max_length=22, description="who pressed the key; refused when another")
    age_ms: float = Field(0, ge=0, description="how long ago the key went down")

    @model_validator(mode="after")
    def _says_something(self) -> ActIn:
        wanted = {
            Kind.REASONS: self.reasons,
            Kind.COMMENT: self.comment,
            Kind.CONFIDENCE: self.confidence,
            Kind.AGREEMENT: self.agrees,
            Kind.WITHDRAWAL: self.of,
        }
        if wanted[self.kind] is None:
            raise ValueError("what the kind names is missing (reasons, comment, confidence or agrees)")
        return self


class SearchIn(BaseModel):
    """What the reader typed: an accession number or a UID."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=64)


@router.post("/api/cases/{handle}/show", tags=["panel"])
def show(request: Request, handle: Handle, reader: Known, how: str = "panel") -> dict[str, Any]:
    """Put a case before the reader who asks; records that it was presented.

    With ``how=fhircast`` only what the reader's viewer has open now (409 otherwise).
    """
    if how not in SHOWN_BY:
        raise HTTPException(422, "how is panel, fhircast, search or prompt.")
    context_id = _context_of(request, handle, reader) if how == "fhircast" else None
    try:
        return cases.show(deps_of(request), handle, reader, how, context_id)
    except QcNodeError as error:
        raise HTTPException(404, str(error)) from error


def _context_of(request: Request, handle: str, reader: Reader) -> str:
    follower = request.app.state.follower
    screen = follower.screen(reader.reader_id) if follower is not None else None
    if screen is None or screen.context_id is None or handle not in screen.handles:
        raise HTTPException(409, _("This study is not open in your viewer any more."))
    return str(screen.context_id)


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


@router.post("/api/search", tags=["panel"])
def search(request: Request, body: SearchIn, reader: Known) -> dict[str, Any]:
    """Find a study (POST, because addresses end up in logs); `near` are those that may be meant."""
    deps = deps_of(request)
    try:
        found = cases.search(deps, body.text)
    except QcNodeError as error:
        raise HTTPException(422, str(error)) from error
    return {
        "found": [cases.summary(deps, handle) for handle in found.handles],
        "near": [cases.summary(deps, handle) for handle in found.near],
    }


@router.post("/api/votes", tags=["votes"], status_code=201)
def vote(request: Request, response: Response, body: VoteIn, reader: Known) -> dict[str, Any]:
    """Take one vote.

    Answers 201 for a new one, 200 for the same key again, 401 without sign-in, 403 from another site,
    409 when it does not fit what was shown or the viewer had closed the study, 422 when malformed, 429 when too
    fast.
    """
    deps = deps_of(request)
    _may_write(request, reader, body.reader)
    case, how = _case_of(deps, body)
    summary = cases.summary(deps, case["handle"])
    case = {**case, "accession_number": summary["accession_number"]}
    try:
        with deps.ledger.db.transaction():
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
                ms_since_asked=body.ms_since_asked,
                withdraws=body.withdraws,
            )
            _add_what_came_with_it(deps, reader, body, how)
    except casting.Refused as refused:
        raise HTTPException(refused.status, str(refused)) from refused
    return _answer(request, response, reader, case, row, new)


@router.post("/api/votes/acts", tags=["votes"], status_code=201)
def act(request: Request, response: Response, body: ActIn, reader: Known) -> dict[str, Any]:
    """Add reasons, a comment, how sure you are, or agreement with the verdict to a vote of yours; or withdraw.

    The vote keeps its time and stays as blind as it was.  A withdrawal has no time limit and deletes nothing.
    Answers as a vote does, and 404 where there is no such vote of yours.
    """
    deps = deps_of(request)
    _may_write(request, reader, body.reader)
    said = None if body.agrees is None else VerdictAgreement(body.agrees, tuple(body.reports))
    shown = deps.ledger.cases.presentation(body.presentation) if body.presentation is not None else None
    if body.presentation is not None and (shown is None or shown["reader_id"] != reader.reader_id):
        raise HTTPException(409, "This presentation was not for this reader.")
    try:
        row, new = additions.add(
            deps,
            reader,
            key=body.key,
            of=body.of,
            kind=body.kind,
            source=_channel(shown["how"] if shown is not None else None),
            age_ms=body.age_ms,
            presentation=body.presentation,
            reasons=body.reasons or (),
            comment=body.comment or "",
            confidence=body.confidence,
            agreement=said,
        )
    except casting.Refused as refused:
        raise HTTPException(refused.status, str(refused)) from refused
    return _answer(request, response, reader, _case_of_vote(deps, body.case, row), row, new)


def _may_write(request: Request, reader: Reader, meant: str | None) -> None:
    limiter: RateLimiter = request.app.state.limiter
    if not limiter.allow(f"votes:{reader.reader_id}", deps_of(request).web.votes_per_minute):
        raise HTTPException(429, "Too many votes; wait a minute.")
    if meant is not None and meant != reader.reader_id:
        raise HTTPException(409, "Somebody else is signed in now than when this vote was cast.")


def _channel(how: str | None) -> VoteChannel:
    """The channel of what came by a presentation shown in this way; without one a program sent it."""
    if how is None:
        return VoteChannel.API
    return VoteChannel.FHIRCAST if how == "fhircast" else VoteChannel.PANEL


def _add_what_came_with_it(deps: WebDeps, reader: Reader, body: VoteIn, how: VoteChannel) -> None:
    """Write the comment and the confidence that came with a vote, as rows of their own."""
    if body.vote is casting.Choice.WITHDRAWN:
        return
    vote = deps.ledger.votes.by_key(reader.reader_id, body.key)
    of = None if vote is None else deps.ledger.votes.get(vote["id"])
    for kind, there in ((Kind.COMMENT, body.comment), (Kind.CONFIDENCE, body.confidence)):
        if there is not None and of is not None:
            additions.add(
                deps,
                reader,
                key=f"{body.key}-{kind}",
                of=of["key"],
                kind=kind,
                source=how,
                age_ms=body.age_ms,
                presentation=body.presentation,
                comment=body.comment or "",
                confidence=body.confidence,
            )


def _answer(
    request: Request, response: Response, reader: Reader, case: CaseRow, row: VoteRow, new: bool
) -> dict[str, Any]:
    """What the reader's page needs now; the other windows of this reader hear the same."""
    deps = deps_of(request)
    if not new:
        response.status_code = 200
    opinions = cases.opinions(deps, case)
    if opinions and case["study_uid"]:
        deps.ledger.readers.saw_verdict(reader.reader_id, [case["study_uid"]], deps.clock())
    mine = casting.standing(deps, case, reader.reader_id)
    now = {"mine": None if mine is None else additions.public(deps, mine), "opinions": opinions}
    if new:
        told = {"case": case["handle"], **now}
        request.app.state.broadcaster.publish(f"reader:{reader.reader_id}", "vote", told)
    return {"duplicate": not new, "vote": additions.public(deps, row), **now}


def _case_of_vote(deps: WebDeps, handle: str | None, row: VoteRow) -> CaseRow:
    """The case that a vote was cast on."""
    case = deps.ledger.cases.get(handle) if handle is not None else None
    same = case is not None and case["study_uid"] == row["study_uid"]
    if case is not None and same and (case["study_uid"] or case["accession_number"] == row["accession_number"]):
        return case
    named = cases.Launch(row["study_uid"], None, row["accession_number"])
    found = deps.ledger.cases.get(cases.resolve(deps, named)[0])
    assert found is not None
    return found


def _case_of(deps: WebDeps, body: VoteIn) -> tuple[CaseRow, VoteChannel]:
    """The case that a vote is on, and how it came."""
    if body.case is not None:
        handle = body.case
        shown = deps.ledger.cases.presentation(body.presentation or "")
        how = _channel(shown["how"] if shown is not None else "panel")
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
