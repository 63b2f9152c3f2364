"""``/operations``: what the node has in hand, what it could not do, and the operator's acts.

The acts are those of ``qc-node outbox again``, ``outbox drop`` and ``judge-again`` (:mod:`qc_node.outbox.acts`):
the same code, the same row of the audit.  No name, number or UID of a patient is on the page; the accession number
of what failed is shown to people who have signed in.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.outbox import acts
from qc_node.web.access.identity import Anyone, Known, deps_of, open_to_look
from qc_node.web.access.readers import Reader, Role
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.pages.row_number import RowNumber
from qc_node.web.settings import WebDeps

router = APIRouter(tags=["operations"])

QUEUES = ("receiving", "queued", "judging", "judged")
"""States of a series that is not done, in the order of the walk."""
LIMIT = 100
"""How many failed series and objects are listed; the counts are of all."""
AUDITED = (*acts.ACTS, "drain", "drained", "drain ended", "relink", "forgotten")


def _may_look(request: Request, reader: Anyone) -> Reader | None:
    """Let through operators, and on bare loopback this machine's user.

    Raises
    ------
    HTTPException
        401 without a reader, 403 for another role.
    """
    if not open_to_look(request) and (reader is None or reader.role is not Role.OPERATOR):
        raise HTTPException(403, "Only readers with the role operator see this page.")
    return reader


def _may_act(reader: Known) -> Reader:
    """Let through operators only: the audit names a person.

    Raises
    ------
    HTTPException
        401 without a reader, 403 for another role.
    """
    if reader.role is not Role.OPERATOR:
        raise HTTPException(403, "Only readers with the role operator do this.")
    return reader


Looks = Annotated[Reader | None, Depends(_may_look)]
Operator = Annotated[Reader, Depends(_may_act)]


@router.get("/operations", response_class=HTMLResponse, include_in_schema=False)
def operations(request: Request, reader: Maybe) -> Response:
    """The page; it fills itself from the API."""
    if reader is None and not open_to_look(request):
        return RedirectResponse("/sign-in?next=/operations", 303)
    _may_look(request, reader)
    return page(request, "operations.html", reader, acts=reader is not None and reader.role is Role.OPERATOR)


@router.get("/api/operations")
def state(request: Request, reader: Looks) -> dict[str, Any]:
    """Everything that the page shows, as one object."""
    return state_of(deps_of(request), named=reader is not None)


class ChosenDeliveries(BaseModel):
    """Which deliveries, by the numbers that the list gives."""

    model_config = ConfigDict(extra="forbid")
    ids: list[RowNumber] = Field(min_length=1, max_length=1000)


@router.post("/api/operations/deliveries/again")
def again(request: Request, body: ChosenDeliveries, reader: Operator) -> dict[str, int]:
    """Send objects again that wait or were refused."""
    return {"again": _act(acts.send_again, deps_of(request), body.ids, reader)}


@router.post("/api/operations/deliveries/all-again")
def all_again(request: Request, reader: Operator) -> dict[str, int]:
    """Send everything again that was refused for good."""
    deps = deps_of(request)
    return {"again": acts.send_refused_again(deps.ledger, reader.reader_id, deps.clock())}


@router.post("/api/operations/deliveries/drop")
def drop(request: Request, body: ChosenDeliveries, reader: Operator) -> dict[str, int]:
    """Never send these objects; what waits behind them goes on."""
    return {"dropped": _act(acts.drop, deps_of(request), body.ids, reader)}


@router.post("/api/operations/series/{series_id}/judge-again")
def judge_again(request: Request, series_id: RowNumber, reader: Operator) -> dict[str, int]:
    """Judge a finished series once more."""
    deps = deps_of(request)
    if not acts.judge_again(deps.ledger, series_id, reader.reader_id, deps.clock()):
        raise HTTPException(409, "This series is not finished, or its images were removed.")
    return {"series": series_id}


def _act(act: Any, deps: WebDeps, ids: list[int], reader: Reader) -> int:
    try:
        done: int = act(deps.ledger, ids, reader.reader_id, deps.clock())
    except QcNodeError as error:
        raise HTTPException(409, str(error)) from error
    return done


def state_of(deps: WebDeps, *, named: bool) -> dict[str, Any]:
    """What is going on; accession numbers only where `named`.

    Times are seconds since 1970, free space is in bytes.
    """
    ledger = deps.ledger
    states, since = ledger.series.unfinished_counts(), ledger.series.waiting_since()
    ready, body = deps.readyz()
    running = deps.running()
    return {
        "now": deps.clock(),
        "ready": ready,
        "faults": [check["sentence"] for check in body.get("checks", ()) if check["code"] != "ok"],
        "associations": running.associations,
        "models": dict(running.models),
        "queues": [{"name": q, "count": states.get(q, 0), "since": since.get(q)} for q in QUEUES],
        "quarantine": ledger.instances.quarantine_count(),
        "disk_free_bytes": deps.spool.free_bytes(),
        "destinations": ledger.deliveries.by_destination(),
        "deliveries": [_hidden(dict(row), named) for row in ledger.deliveries.troubled(LIMIT)],
        "failed": [_hidden(dict(row), named) for row in ledger.series.failed(LIMIT)],
        "audit": _audit(ledger),
    }


def _hidden(row: dict[str, Any], named: bool) -> dict[str, Any]:
    return row if named else {name: value for name, value in row.items() if name != "accession_number"}


def _audit(ledger: Ledger) -> list[dict[str, Any]]:
    """The last acts of operators and of the node; who acted by name."""
    people = {row["reader_id"]: row["name"] for row in ledger.readers.all()}
    return [
        {"id": row["id"], "at": row["at"], "event": row["event"], "by": people.get(row["actor"], row["actor"])}
        for row in ledger.audit.newest_of(AUDITED)
    ]
