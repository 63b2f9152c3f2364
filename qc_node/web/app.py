"""The web application: every page, and what runs behind them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from qc_node.ledger import LedgerDamagedError, LedgerError
from qc_node.web.access import sign_in
from qc_node.web.access.identity import Anyone
from qc_node.web.access.security import Gate, RateLimiter, SecurityHeaders
from qc_node.web.board import Board
from qc_node.web.broadcast import Broadcaster
from qc_node.web.fhircast.follower import Follower
from qc_node.web.pages import annotate, live, me, operations, panel, review, stats
from qc_node.web.pages.panel import Maybe
from qc_node.web.pages.rendering import STATIC, page, static_url
from qc_node.web.settings import Health, PromptPolicy, WebDeps, WebOptions
from qc_node.web.statistics.collecting import Collected
from qc_node.web.votes.follow_up import FollowUp

log = logging.getLogger("qc_node.web")

__all__ = ["Health", "PromptPolicy", "WebDeps", "WebOptions", "create_app"]


def create_app(deps: WebDeps) -> FastAPI:
    """The web application of a node.

    ``app.state.board.publish(series_id)`` (any thread) tells every open board about a series;
    ``app.state.broadcaster.close()`` ends every open stream before the server stops.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.board.catch_up()
        if app.state.follower is not None:
            app.state.follower.resume()
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
        redoc_url=None,
        lifespan=lifespan,
        description="Votes on image quality, verdicts of the node, and the board.",
    )
    app.state.deps = deps
    app.state.limiter = RateLimiter(deps.clock)
    app.state.broadcaster = Broadcaster()
    app.state.collected = Collected(deps.ledger)
    app.state.board = Board(deps, app.state.broadcaster)
    app.state.follower = Follower(deps, app.state.broadcaster) if deps.web.fhircast_hubs else None
    app.state.follow_up = FollowUp(deps, app.state.board.refresh)
    for module in (sign_in, panel, live, review, stats, annotate, me, operations):
        app.include_router(module.router)
    _add_general_routes(app, deps)
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

    @app.get("/help", response_class=HTMLResponse, include_in_schema=False)
    def help_page(request: Request, reader: Maybe) -> HTMLResponse:
        return page(request, "help.html", reader)

    @app.get("/static/{tag}/{name}", include_in_schema=False)
    def static(tag: str, name: Annotated[str, Path(pattern=r"^[a-z_]+\.(css|js|svg)$")]) -> Response:
        if not (STATIC / name).is_file():
            raise HTTPException(404, "There is no such file.")
        fresh = static_url(name) == f"/static/{tag}/{name}"
        age = "public, max-age=31536000, immutable" if fresh else "no-store"
        return FileResponse(STATIC / name, headers={"cache-control": age})

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            answer = page(request, "error.html", None, sentence=str(error.detail), status=error.status_code)
            answer.status_code = error.status_code
            return answer
        return JSONResponse({"detail": error.detail}, error.status_code)

    @app.exception_handler(LedgerDamagedError)
    @app.exception_handler(LedgerError)
    async def unusable(request: Request, error: Exception) -> Response:
        log.error("a page could not be made: %s", error)
        return await plain(request, HTTPException(503, "The ledger cannot be used now; the node's log says why."))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # What was sent is not sent back: it may hold a UID, and it may hold a script.
        places = [".".join(str(p) for p in e["loc"]) + ": " + str(e["msg"]) for e in error.errors()]
        return await plain(request, HTTPException(422, "; ".join(places)[:500]))


def _version() -> str:
    try:
        return version("qc-node")
    except PackageNotFoundError:
        return "0"
