"""``/stats``: what was collected, how far raters agree, and how it develops by scanner and protocol."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from qc_node.web.access.identity import Anyone, deps_of, open_to_look
from qc_node.web.access.readers import Role
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.pages.row_number import LARGEST
from qc_node.web.settings import WebDeps
from qc_node.web.statistics import figures, plots
from qc_node.web.statistics.collecting import Collected, KnownFacts
from qc_node.web.statistics.overview import all_figures, asked_for, experts_of, plots_of, trend_plots, trends_of
from qc_node.web.statistics.scanner_charts import StationName, scanner_charts
from qc_node.web.statistics.trends import COUNTS, PERIODS, Trends, monday
from qc_node.web.votes import exchange

router = APIRouter(tags=["statistics"])

Period = Annotated[Literal["30", "90", "365", "all"], Query()]
Who = Annotated[Literal["radiologists", "technologists"], Query()]
Chosen = Annotated[str, Query(max_length=200)]
ROLES = {
    "radiologists": frozenset(role.value for role in Role if role.value not in figures.TECHNOLOGISTS),
    "technologists": frozenset(figures.TECHNOLOGISTS),
}
"""Whose votes are counted together: a technologist sees the patient, everybody else the images."""


def collected_of(request: Request) -> Collected:
    """What the application has read of the ledger so far."""
    found: Collected = request.app.state.collected
    return found


@router.get("/stats", response_class=HTMLResponse, include_in_schema=False)
def stats(
    request: Request,
    reader: Maybe,
    period: Period = "90",
    who: Who = "radiologists",
    scanner: Chosen = "",
    protocol: Chosen = "",
    charts_of: Chosen = "",
    chart: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    measure: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The statistics page."""
    if reader is None and not open_to_look(request):
        return RedirectResponse("/sign-in?next=/stats", 303)
    collected = collected_of(request)
    now = deps_of(request).clock()
    days = PERIODS[period]
    since = -math.inf if days is None else now - days * figures.DAY_S
    # the figures of a period move with the clock; of the same hour they are the same to everybody
    hour = since if days is None else since // 3600 * 3600
    found = collected.answer(("of a period", hour, who), lambda facts: _summary(facts, hour, who))
    whole = trends_of(collected, days, now, deps_of(request).web.stations.name)
    part = whole.only(scanner or None, protocol or None)
    return page(
        request,
        "stats.html",
        reader,
        found=found,
        ever=all_figures(collected),
        experts=experts_of(deps_of(request).ledger),
        prompts=asked_for(deps_of(request).ledger),
        plots=_both(lambda width: plots_of(found, width, reader.pseudonym if reader else None)),
        trends=part,
        trend_plots=_both(lambda width: trend_plots(part, width)),
        scanners=whole.scanners,
        protocols=whole.protocols,
        periods=tuple(PERIODS),
        period=period,
        who=who,
        scanner=scanner,
        protocol=protocol,
        monday=monday,
        control=scanner_charts(
            deps_of(request).ledger, _called(deps_of(request)), charts_of or scanner, chart, measure
        ),
    )


def _called(deps: WebDeps) -> StationName:
    return lambda station: deps.web.stations.name(station, station)


def _summary(facts: KnownFacts, since: float, who: str) -> figures.Statistics:
    return figures.summarise(facts.table, facts.model, since=since, roles=ROLES[who])


def _both(draw: Any) -> dict[str, tuple[str, str]]:
    """Each plot for wide and for narrow windows."""
    wide, narrow = draw(plots.WIDE), draw(plots.NARROW)
    return {name: (wide[name], narrow[name]) for name in wide}


@router.get("/api/stats")
def stats_json(request: Request, reader: Anyone) -> dict[str, Any]:
    """All figures as JSON; readers are pseudonyms."""
    return figures.as_dict(all_figures(collected_of(request))) | {"prompts": asked_for(deps_of(request).ledger)}


@router.get("/api/stats/trends")
def trends_json(
    request: Request, reader: Anyone, period: Period = "90", scanner: Chosen = "", protocol: Chosen = ""
) -> dict[str, Any]:
    """Counts by week, scanner and protocol; no reader is in them."""
    found = _trends(request, period, scanner, protocol)
    return {"period": period, "counts": list(COUNTS), "rows": found.rows()}


@router.get("/stats/trends.csv", include_in_schema=False)
def trends_csv(
    request: Request, reader: Anyone, period: Period = "90", scanner: Chosen = "", protocol: Chosen = ""
) -> Response:
    """The same as a table: one line for each week, scanner and protocol."""
    rows = _trends(request, period, scanner, protocol).rows()
    return _csv(exchange.csv_text(rows, ["week", "scanner", "protocol", *COUNTS]), "trends.csv")


def _trends(request: Request, period: str, scanner: str, protocol: str) -> Trends:
    found = trends_of(
        collected_of(request), PERIODS[period], deps_of(request).clock(), deps_of(request).web.stations.name
    )
    return found.only(scanner or None, protocol or None)


@router.get("/stats/{name}.svg", include_in_schema=False)
def plot(request: Request, name: str, reader: Anyone) -> Response:
    """One plot."""
    svg = plots_of(all_figures(collected_of(request))).get(name)
    if svg is None:
        raise HTTPException(404, "There is no such plot.")
    return Response(svg, media_type="image/svg+xml")


@router.get("/stats/votes.csv", include_in_schema=False)
def votes_csv(request: Request, reader: Anyone) -> Response:
    """The votes that stand, pseudonymous, with soft labels."""
    rows = exchange.export_rows(deps_of(request).ledger)
    return _csv(exchange.csv_text(rows, [*exchange.COLUMNS, *exchange.SOFT]), "votes.csv")


def _csv(text: str, name: str) -> Response:
    return Response(text, media_type="text/csv", headers={"content-disposition": f'attachment; filename="{name}"'})
