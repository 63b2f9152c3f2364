"""``/stats``: what was collected and how far raters agree."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from qc_node.web.access.identity import Anyone, deps_of, open_to_look
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.statistics import figures
from qc_node.web.statistics.overview import overview, plots_of
from qc_node.web.votes import exchange

router = APIRouter(tags=["statistics"])


@router.get("/stats", response_class=HTMLResponse, include_in_schema=False)
def stats(request: Request, reader: Maybe) -> Response:
    """The statistics page."""
    if reader is None and not open_to_look(request):
        return RedirectResponse("/sign-in?next=/stats", 303)
    found = overview(deps_of(request).ledger, reader.reader_id if reader else None)
    return page(request, "stats.html", reader, found=found, plots=plots_of(found.all))


@router.get("/api/stats")
def stats_json(request: Request, reader: Anyone) -> dict[str, Any]:
    """All figures as JSON; readers are pseudonyms."""
    found = overview(deps_of(request).ledger)
    return figures.as_dict(found.all) | {"prompts": found.prompts}


@router.get("/stats/{name}.svg", include_in_schema=False)
def plot(request: Request, name: str, reader: Anyone) -> Response:
    """One plot."""
    svg = plots_of(overview(deps_of(request).ledger).all).get(name)
    if svg is None:
        raise HTTPException(404, "There is no such plot.")
    return Response(svg, media_type="image/svg+xml")


@router.get("/stats/votes.csv", include_in_schema=False)
def votes_csv(request: Request, reader: Anyone) -> Response:
    """The votes that stand, pseudonymous, with soft labels."""
    rows = exchange.export_rows(deps_of(request).ledger)
    text = exchange.csv_text(rows, [*exchange.COLUMNS, *exchange.SOFT])
    return Response(
        text, media_type="text/csv", headers={"content-disposition": 'attachment; filename="votes.csv"'}
    )
