"""Who sends a request: session cookie, bearer token, or a trusted proxy's header."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from qc_node.http_server import network_of, plain_address
from qc_node.ledger.rows import ReaderRow
from qc_node.web.access import security
from qc_node.web.access.readers import Reader, Role, reader_from_row
from qc_node.web.settings import WebDeps
from qc_node.web.texts import _

DAY_S = 86_400.0
CLOCK_SET_BACK_S = 60.0
"""By so much the node's clock may go back under a session."""
PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Headers that show that somebody else than this machine's user may be behind a loopback request."""


def deps_of(request: Request) -> WebDeps:
    """What the application was made with."""
    deps: WebDeps = request.app.state.deps
    return deps


def peer(request: Request) -> str:
    """The address that connected: a client, or the proxy in front of it."""
    return plain_address(request.client.host) if request.client else ""


def by_trusted_proxy(request: Request) -> bool:
    """Whether one of ``web.trusted_proxies`` connected, so that its headers are believed."""
    return peer(request) in deps_of(request).web.trusted_proxies


def client_address(request: Request) -> str:
    """Who asks: behind trusted proxies the last address of X-Forwarded-For that is none of them.

    What stands before it was written by the client, who may write anything.
    """
    if not by_trusted_proxy(request):
        return peer(request)
    trusted = deps_of(request).web.trusted_proxies
    for said in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
        try:
            address = plain_address(str(ipaddress.ip_address(_without_port(said.strip()))))
        except ValueError:
            break
        if address not in trusted:
            return address
    return peer(request)


def _without_port(said: str) -> str:
    if said.startswith("["):
        return said[1:].partition("]")[0]
    return said.partition(":")[0] if said.count(":") == 1 else said


def proxy_user(request: Request) -> str:
    """The login that a trusted proxy names, or nothing.

    Raises
    ------
    HTTPException
        400 when there are two: one of them is not the proxy's.
    """
    header = deps_of(request).web.trusted_user_header
    if header is None or not by_trusted_proxy(request):
        return ""
    named = request.headers.getlist(header)
    if len(named) > 1 or "," in "".join(named):
        raise HTTPException(
            400, _("The proxy names two users; it has to replace the header that a browser sends.")
        )
    return named[0].strip() if named else ""


def current_reader(request: Request) -> Reader | None:
    """The enabled reader who sends this request, or None.

    Raises
    ------
    HTTPException
        429 when this reader, or this address without one, asks too often; 400 when a proxy names two users.
    """
    deps = deps_of(request)
    reader = reader_behind(request)
    limiter: security.RateLimiter = request.app.state.limiter
    key = f"reader:{reader.reader_id}" if reader else f"from:{network_of(client_address(request))}"
    if not limiter.allow(key, deps.web.requests_per_minute):
        raise HTTPException(429, _("Too many requests; wait a minute."))
    return reader


def reader_behind(request: Request) -> Reader | None:
    """The enabled reader who sends this request, whatever the limits; asks the ledger.

    Raises
    ------
    HTTPException
        400 when a proxy names two users.
    """
    deps = deps_of(request)
    table = deps.ledger.readers
    row = None
    authorization = request.headers.get("authorization", "")
    if login := proxy_user(request):
        row = table.by_login(login)
    if row is None and authorization.lower().startswith("bearer "):
        row = table.by_token(security.hash_token(authorization[7:].strip()))
    if row is None and (session_id := session_of(request)):
        row = _signed_in(deps, session_id)
    if row is None or row["disabled_at"] is not None:
        return None
    return reader_from_row(row)


def session_of(request: Request) -> str | None:
    """What the ledger calls the session of this request's cookie, be it open or ended."""
    cookie = request.cookies.get(security.COOKIE)
    return security.read_session(deps_of(request).web.secret, cookie) if cookie else None


def _signed_in(deps: WebDeps, session_id: str) -> ReaderRow | None:
    session = deps.ledger.sessions.get(session_id)
    if session is None or session["ended_at"] is not None:
        return None
    age_s = deps.clock() - session["started_at"]
    if not -CLOCK_SET_BACK_S <= age_s <= deps.web.session_days * DAY_S:
        return None
    return deps.ledger.readers.get(session["reader_id"])


def may_look(request: Request, reader: Annotated[Reader | None, Depends(current_reader)]) -> Reader | None:
    """Let through who may see pages: any reader, and on bare loopback this machine's user.

    Raises
    ------
    HTTPException
        401 otherwise.
    """
    if reader is None and not open_to_look(request):
        raise HTTPException(401, _("Sign in first."))
    return reader


def open_to_look(request: Request) -> bool:
    """Whether looking (never voting) needs no reader: loopback without any proxy."""
    return deps_of(request).web.on_loopback and not any(name in request.headers for name in PROXIED)


def known_reader(reader: Annotated[Reader | None, Depends(current_reader)]) -> Reader:
    """Let through readers only.

    Raises
    ------
    HTTPException
        401 for anybody else.
    """
    if reader is None:
        raise HTTPException(401, _("Sign in first."))
    return reader


def expert(reader: Annotated[Reader, Depends(known_reader)]) -> Reader:
    """Let through experts only.

    Raises
    ------
    HTTPException
        401 without a reader, 403 for another role.
    """
    if reader.role is not Role.EXPERT:
        raise HTTPException(403, _("Only readers with the role expert grade by the protocol."))
    return reader


Anyone = Annotated[Reader | None, Depends(may_look)]
Known = Annotated[Reader, Depends(known_reader)]
Expert = Annotated[Reader, Depends(expert)]
