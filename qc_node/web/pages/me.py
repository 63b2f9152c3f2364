"""``/me``: a reader's own figures, seen by nobody else, and how far the department has come.  Nobody is ranked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from qc_node.web.access.identity import Known, deps_of
from qc_node.web.access.readers import Reader
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import page
from qc_node.web.pages.stats import collected_of
from qc_node.web.statistics import figures, own, plots
from qc_node.web.statistics.collecting import KnownFacts

router = APIRouter(tags=["statistics"])


@router.get("/me", response_class=HTMLResponse, include_in_schema=False)
def me(request: Request, reader: Maybe) -> Response:
    """One's own page; there is none without a reader."""
    if reader is None:
        return RedirectResponse("/sign-in?next=/me", 303)
    found = _found(request, reader)
    drawn = (own.plot(found, width) for width in (plots.WIDE, plots.NARROW))
    return page(request, "me.html", reader, found=found, plot=tuple(drawn))


@router.get("/api/me/figures")
def me_json(request: Request, reader: Known) -> dict[str, Any]:
    """One's own figures, and the department's sum."""
    found = _found(request, reader)
    return {
        "pseudonym": reader.pseudonym,
        "own": figures.as_dict(found.own),
        "with_others": None if found.with_others is None else figures.agreement_as_dict(found.with_others),
        "department": {
            "votes": found.department,
            "last_30_days": found.department_lately,
            "goal": found.goal,
            "share_of_goal": found.share_of_goal,
        },
    }


def _found(request: Request, reader: Reader) -> own.OwnFigures:
    now = deps_of(request).clock()

    def make(facts: KnownFacts) -> own.OwnFigures:
        return own.own_figures(facts, reader.pseudonym, now)

    return collected_of(request).answer(("own", reader.reader_id, int(now // 3600)), make)
