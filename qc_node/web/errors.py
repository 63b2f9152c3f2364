"""What the pages answer when something is wrong: people a page with a way on, programs JSON with a sentence."""

from __future__ import annotations

import logging
import traceback
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qc_node.ledger import LedgerDamagedError, LedgerError
from qc_node.web.access.identity import reader_behind
from qc_node.web.access.readers import Reader
from qc_node.web.pages.rendering import page
from qc_node.web.texts import _

log = logging.getLogger("qc_node.web")

PACKAGE = Path(__file__).resolve().parents[1]


def add_error_pages(app: FastAPI) -> None:
    """Answer every error of `app` in the look of the pages, or as JSON."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        given = str(error.detail)
        # Starlette's own words for an address or a method that nobody serves
        sentence = _own_words(status) if given == HTTPStatus(status).phrase else given
        return await answer(request, status, sentence, headers=dict(error.headers or {}))

    @app.exception_handler(LedgerDamagedError)
    @app.exception_handler(LedgerError)
    async def unusable(request: Request, error: Exception) -> Response:
        log.error("a page could not be made: %s", error)
        return await answer(request, 503, _("The ledger cannot be used now; the node's log says why."))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # What was sent is not sent back: it may hold a UID, and it may hold a script.
        places = [".".join(str(p) for p in e["loc"]) + ": " + str(e["msg"]) for e in error.errors()]
        return await answer(
            request, 422, "; ".join(places)[:500], _("This address is not complete, or not right.")
        )


async def answer(
    request: Request,
    status: int,
    sentence: str,
    headline: str | None = None,
    *,
    headers: dict[str, str] | None = None,
) -> Response:
    """One error: a page for a browser that goes to an address, JSON for everybody else.

    `headline` stands on the page above the sentence, which is small then.
    """
    headers = headers or {}
    if not wants_page(request):
        return JSONResponse({"detail": sentence}, status, headers)
    # An error by the ledger is told without asking the ledger who is there.
    reader = None if status in (401, 503) else await run_in_threadpool(_who, request)
    shown = page(
        request,
        "error.html",
        reader,
        sentence=headline or sentence,
        detail=sentence if headline else "",
        status=status,
        again=request.method == "GET" and status in (429, 500, 503),
    )
    shown.status_code = status
    shown.headers.update(headers)
    return shown


def wants_page(request: Request) -> bool:
    """Whether a browser goes to an address, or sends a form; scripts and programs do not ask for HTML."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def _own_words(status: int) -> str:
    match status:
        case 404:
            return _("There is no such page.")
        case 405:
            return _("This address is not for that.")
        case _:
            return HTTPStatus(status).phrase


def _who(request: Request) -> Reader | None:
    try:
        return reader_behind(request)
    except Exception:  # whatever made the error may be in the way here too
        return None


class Unfailing:
    """Answers 500 where the program itself is at fault, and logs one line that holds nothing of the request.

    The message of an exception may quote what was sent or what a header says, so only its kind and the place in
    the program are told.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; catch what comes out of it."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            log.error("a page failed: %s in %s", type(error).__name__, _place(error.__traceback__))
            if not begun:
                sentence = _("Something went wrong in the program; the node's log says where.")
                shown = await answer(Request(scope, receive), 500, sentence)
                await shown(scope, receive, send)


def _place(trace: TracebackType | None) -> str:
    """The innermost line of ours that an exception went through."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if PACKAGE in Path(frame.filename).parents and frame.name != "__call__"]
    if not ours:
        return "a library"
    return f"{Path(ours[-1].filename).relative_to(PACKAGE)}:{ours[-1].lineno} ({ours[-1].name})"
