"""The web application: every page, and what runs behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from qc_node.web.access import sign_in, single_sign_on
from qc_node.web.access.failures import FailedSignIns
from qc_node.web.access.identity import Anyone
from qc_node.web.access.oidc import Provider
from qc_node.web.access.security import Gate, RateLimiter, SecurityHeaders
from qc_node.web.board import Board
from qc_node.web.broadcast import Broadcaster
from qc_node.web.errors import Unfailing, add_error_pages
from qc_node.web.fhircast.follower import Follower
from qc_node.web.pages import annotate, live, me, operations, panel, review, series_api, stats, votes_api
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import STATIC, page, static_url
from qc_node.web.settings import Health, PromptPolicy, WebDeps, WebOptions
from qc_node.web.statistics.collecting import Collected
from qc_node.web.texts import _
from qc_node.web.votes.calling import VoteCalls
from qc_node.web.votes.follow_up import FollowUp

__all__ = ["Health", "PromptPolicy", "WebDeps", "WebOptions", "create_app"]


def create_app(deps: WebDeps) -> FastAPI:
    """The web application of a node.

    ``app.state.board.publish(series_id)`` (any thread) tells every open board about a series;
    ``app.state.broadcaster.close()`` ends every open stream before the server stops.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(app.state.board.catch_up)
        await run_in_threadpool(deps.ledger.contexts.close_all, deps.clock(), "restart")
        if app.state.follower is not None:
            await run_in_threadpool(app.state.follower.resume)
        app.state.follow_up.start()
        app.state.collected.warm()
        yield
        app.state.follow_up.stop()
        if app.state.follower is not None:
            app.state.follower.stop()
        app.state.broadcaster.close()

    app = FastAPI(
        title="qc-node",
        version=_version(),
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        lifespan=lifespan,
        description="Votes on image quality, verdicts of the node, and the board.",
    )
    app.state.deps = deps
    app.state.limiter = RateLimiter(deps.clock)
    app.state.provider = Provider(deps.web.oidc, deps.clock) if deps.web.oidc else None
    app.state.failed_sign_ins = FailedSignIns(deps.clock, deps.on_failed_sign_in)
    app.state.broadcaster = Broadcaster()
    app.state.collected = Collected(deps.ledger)
    app.state.board = Board(deps, app.state.broadcaster)
    app.state.follower = Follower(deps, app.state.broadcaster) if deps.web.fhircast_hubs else None
    app.state.follow_up = FollowUp(deps, app.state.board.refresh, VoteCalls(deps, app.state.board).step)
    of_votes = (panel, votes_api, series_api, annotate, me)
    for module in (sign_in, single_sign_on, *of_votes, live, review, stats, operations):
        app.include_router(module.router)
    _add_general_routes(app, deps)
    add_error_pages(app)
    app.add_middleware(Unfailing)
    app.add_middleware(Gate, web=deps.web)
    app.add_middleware(SecurityHeaders, web=deps.web)
    return app


def _add_general_routes(app: FastAPI, deps: WebDeps) -> None:
    @app.get("/", include_in_schema=False)
    def home() -> RedirectResponse:
        return RedirectResponse("/panel", 303)

    @app.get("/healthz", tags=["health"])
    def healthz() -> JSONResponse:
        """Whether the node is alive."""
        ok, body = deps.healthz()
        return JSONResponse(dict(body), 200 if ok else 503)

    @app.get("/readyz", tags=["health"])
    def readyz() -> JSONResponse:
        """Whether the node can take and deliver work."""
        ok, body = deps.readyz()
        return JSONResponse(dict(body), 200 if ok else 503)

    @app.get("/readyz/takes", tags=["health"])
    def takes() -> JSONResponse:
        """Whether the node takes images, be its models loaded or not."""
        ok, body = deps.takes()
        return JSONResponse(dict(body), 200 if ok else 503)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def docs(request: Request, reader: Anyone) -> HTMLResponse:
        return page(request, "docs.html", reader, api=app.openapi())

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(reader: Anyone) -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/help", response_class=HTMLResponse, include_in_schema=False)
    def help_page(request: Request, reader: Maybe) -> HTMLResponse:
        return page(request, "help.html", reader)

    @app.get("/static/{tag}/{name}", include_in_schema=False)
    def static(tag: str, name: Annotated[str, Path(pattern=r"^[a-z_]+\.(css|js|svg)$")]) -> Response:
        if not (STATIC / name).is_file():
            raise HTTPException(404, _("There is no such file."))
        fresh = static_url(name) == f"/static/{tag}/{name}"
        age = "public, max-age=31536000, immutable" if fresh else "no-store"
        return FileResponse(STATIC / name, headers={"cache-control": age})


def _version() -> str:
    try:
        return version("qc-node")
    except PackageNotFoundError:
        return "0"
