"""Signing in and out: once per browser, not per study."""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Body, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from qc_node.http_server import network_of
from qc_node.web.access import security
from qc_node.web.access.failures import FailedSignIns, Way
from qc_node.web.access.identity import DAY_S, client_address, current_reader, deps_of, session_of
from qc_node.web.access.readers import Reader, reader_from_row
from qc_node.web.broadcast import Broadcaster
from qc_node.web.pages.rendering import page
from qc_node.web.settings import WebOptions
from qc_node.web.texts import _

router = APIRouter(tags=["signing in"])

Maybe = Annotated[Reader | None, Depends(current_reader)]


def safe_next(target: str) -> str:
    """A path of our own to go on to; anything else becomes the panel."""
    ok = target.startswith("/") and not target.startswith(("//", "/\\")) and all(c.isprintable() for c in target)
    return target if ok else "/panel"


def set_session(request: Request, response: Response, reader: Reader, way: Way) -> None:
    """Sign `reader` in for this browser."""
    deps = deps_of(request)
    now = deps.clock()
    if previous := session_of(request):  # else a copy of the old cookie would outlast the new one
        deps.ledger.sessions.end(previous, now, "signed in anew")
    token = secrets.token_urlsafe(32)
    deps.ledger.sessions.start(security.hash_token(token), reader.reader_id, now, way)
    value = security.session_cookie(deps.web.secret, token)
    set_cookie(deps.web, response, security.COOKIE, value, int(deps.web.session_days * DAY_S), "/")


def set_cookie(web: WebOptions, response: Response, name: str, value: str, max_age: int, path: str) -> None:
    """Give the browser a cookie that no script sees, as strict as the place of the panel allows."""
    # In a frame of another site a browser sends only cookies that say None, and those only over https; what such
    # a cookie could be abused for is stopped by the check of the origin.
    framed = bool(web.frame_ancestors) and web.secure_cookies
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        httponly=True,
        samesite="none" if framed else "lax",
        secure=web.secure_cookies,
        path=path,
    )


@router.get("/sign-in", response_class=HTMLResponse, include_in_schema=False)
def sign_in_page(request: Request, reader: Maybe, next: str = "/panel", out: str = "") -> HTMLResponse:
    """The form for login and PIN; the script behind it also reads a personal link's ``#token``.

    With ``out=provider`` the browser comes from signing out, and goes on to the provider's own sign-out.
    """
    return sign_in_form(request, reader, safe_next(next), leaving=out == "provider")


def sign_in_form(
    request: Request, reader: Reader | None, target: str, refused: str = "", *, leaving: bool = False
) -> HTMLResponse:
    """The page to sign in; 401 with the reason when an attempt was refused."""
    oidc = deps_of(request).web.oidc
    label = oidc.label if oidc else ""
    shown = page(
        request,
        "sign_in.html",
        reader,
        next=target,
        refused=refused,
        provider=label,
        leaving=bool(oidc) and leaving,
    )
    if refused:
        shown.status_code = 401
    return shown


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form (``application/x-www-form-urlencoded``), the first of each name."""
    return {k: v[0] for k, v in parse_qs((await request.body()).decode("utf-8", "replace")).items()}


@router.post("/sign-in", include_in_schema=False)
def sign_in(request: Request, form: Annotated[dict[str, str], Depends(form_of)]) -> Response:
    """Sign in by login and PIN.  Answers 303, 401 for anything wrong, 429 after too many attempts.

    Runs in a thread, because a PIN is made slow to check: on the event loop everybody else would wait meanwhile.
    """
    deps = deps_of(request)
    login = form.get("login", "")[:64]
    spend_attempt(request, login)
    row = deps.ledger.readers.by_login(login)
    good = security.pin_matches(form.get("pin", ""), row["pin_hash"] if row else None)
    target = safe_next(form.get("next", "/panel"))
    if row is None or not good or row["disabled_at"] is not None:
        note_failure(request, "pin")
        return sign_in_form(request, None, target, _("Login and PIN do not match."))
    response = RedirectResponse(target, 303)
    set_session(request, response, reader_from_row(row), "pin")
    return response


@router.post("/api/sign-in", include_in_schema=False)
def sign_in_by_link(
    request: Request,
    reader: Maybe,
    token: Annotated[str, Body(max_length=200)],
    instead: Annotated[bool, Body()] = False,
) -> JSONResponse:
    """Sign in by the token of a personal link.

    Somebody else who is signed in here is asked first (409), so that no link sent by a third party can
    make a reader vote under another name.
    """
    spend_attempt(request, "")
    row = deps_of(request).ledger.readers.by_token(security.hash_token(token))
    if row is None or row["disabled_at"] is not None:
        note_failure(request, "link")
        raise HTTPException(401, _("This link is not valid any more; ask for a new one."))
    found = reader_from_row(row)
    if reader is not None and reader.reader_id != found.reader_id and not instead:
        return JSONResponse({"signed_in": reader.name, "link_of": found.name}, 409)
    response = JSONResponse({"name": found.name})
    set_session(request, response, found, "link")
    return response


@router.post("/sign-out", include_in_schema=False)
def sign_out(request: Request) -> RedirectResponse:
    """End the session of this browser, on the server too: a copy of its cookie is worth nothing any more."""
    deps = deps_of(request)
    target = "/sign-in"
    if session := session_of(request):
        row = deps.ledger.sessions.get(session)
        if (
            deps.ledger.sessions.end(session, deps.clock(), "signed out")
            and row
            and row["way"] == "single sign-on"
        ):
            target = "/sign-in?out=provider"  # not there at once: browsers follow no form to another site
        if row:  # what another window shows is not for whoever comes next to this workstation
            broadcaster: Broadcaster = request.app.state.broadcaster
            broadcaster.publish(f"reader:{row['reader_id']}", "signed-out", {"by": "reader"})
    response = RedirectResponse(target, 303)
    response.delete_cookie(security.COOKIE, path="/")
    return response


@router.get("/api/me", tags=["signing in"])
def me(reader: Maybe) -> dict[str, Any]:
    """Who is signed in here."""
    if reader is None:
        return {"reader": None}
    return {"reader": reader.reader_id, "name": reader.name, "site": reader.site, "role": reader.role.value}


def spend_attempt(request: Request, login: str) -> None:
    """Count one attempt to sign in, for this address and for `login`, if one was said.

    Raises
    ------
    HTTPException
        429 when there were too many.
    """
    limiter: security.RateLimiter = request.app.state.limiter
    per_minute = deps_of(request).web.sign_ins_per_minute
    address = network_of(client_address(request))
    keys = [f"sign-in:{address}", *([f"sign-in-as:{login.casefold()}"] if login else [])]
    if not all(limiter.allow(key, per_minute) for key in keys):
        note_failure(request, "too many")
        raise HTTPException(429, _("Too many attempts; wait a minute."))


def note_failure(request: Request, way: Way, why: str = "") -> None:
    """Count and log a sign-in that failed."""
    failures: FailedSignIns = request.app.state.failed_sign_ins
    failures.note(way, client_address(request), why)
