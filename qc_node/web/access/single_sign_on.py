"""Signing in by an OpenID provider: to it, back from it, and out of it."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from itsdangerous import BadData, URLSafeSerializer

from qc_node.domain import QcNodeError
from qc_node.ledger.rows import ReaderRow
from qc_node.web.access import readers, security
from qc_node.web.access.identity import deps_of
from qc_node.web.access.oidc import Provider, ProviderRefusedError
from qc_node.web.access.sign_in import (
    Maybe,
    note_failure,
    safe_next,
    set_cookie,
    set_session,
    sign_in_form,
    spend_attempt,
)
from qc_node.web.settings import OidcOptions
from qc_node.web.texts import _

router = APIRouter(tags=["signing in"], default_response_class=RedirectResponse)

COOKIE = "qc_node_oidc"
PATH = "/sign-in/oidc"
BACK = f"{PATH}/back"
LASTS_S = 600
"""So long somebody may take at the provider."""


@router.get(PATH, include_in_schema=False)
def go_to_provider(request: Request, reader: Maybe, next: str = "/panel") -> Response:
    """Send the browser to the provider; a cookie keeps what the answer must fit to."""
    deps = deps_of(request)
    state, nonce, verifier = (secrets.token_urlsafe(n) for n in (24, 24, 48))
    try:
        address = _provider(request).authorization_url(_own_address(request, BACK), state, nonce, verifier)
    except QcNodeError as error:
        raise HTTPException(503, str(error)) from error
    response = RedirectResponse(address, 303)
    kept = [state, nonce, verifier, safe_next(next), int(deps.clock())]
    set_cookie(deps.web, response, COOKIE, str(_signer(request).dumps(kept)), LASTS_S, "/sign-in")
    return response


@router.get(BACK, include_in_schema=False)
def come_back(
    request: Request, reader: Maybe, state: str = "", code: str = "", error: str = "", iss: str = ""
) -> Response:
    """Sign in whom the provider names, if that is a reader."""
    begun = _begun(request, state)
    if begun is None:
        return _refused(
            request, "/panel", _("This sign-in was not begun in this browser, or took too long; try again.")
        )
    nonce, verifier, target = begun
    if error or not code:
        return _refused(request, target, _("You were not signed in at the provider."))
    spend_attempt(request, "")
    provider = _provider(request)
    try:
        if iss and iss != _options(request).issuer:
            raise ProviderRefusedError("the answer is another provider's")
        said = provider.claims(_own_address(request, BACK), code, nonce, verifier)
    except ProviderRefusedError as refused:
        note_failure(request, "single sign-on", f"single sign-on: {refused}")
        return _refused(request, target, _("The answer of the provider is not valid; try again."))
    except QcNodeError as silent:
        raise HTTPException(503, str(silent)) from silent
    try:
        row = _reader(request, said)
    except QcNodeError as refused:
        note_failure(request, "single sign-on", "single sign-on: an account that may not sign in here")
        return _refused(request, target, str(refused))
    response = RedirectResponse(target, 303)
    set_session(request, response, readers.reader_from_row(row), "single sign-on")
    response.delete_cookie(COOKIE, path="/sign-in")
    return response


@router.get("/sign-out/provider", include_in_schema=False)
def out_of_provider(request: Request, reader: Maybe) -> Response:
    """Go on to the provider's own sign-out, where it has one; it sends the browser back to the sign-in page."""
    try:
        address = _provider(request).end_session_url(_own_address(request, "/sign-in"))
    except QcNodeError as error:
        raise HTTPException(503, str(error)) from error
    return RedirectResponse(address or "/sign-in", 303)


def _options(request: Request) -> OidcOptions:
    options = deps_of(request).web.oidc
    if options is None:
        raise HTTPException(404, _("There is no such page."))
    return options


def _provider(request: Request) -> Provider:
    _options(request)
    provider: Provider = request.app.state.provider
    return provider


def _own_address(request: Request, path: str) -> str:
    """An address of ours as a browser sees it; the provider knows it by registration."""
    base = deps_of(request).web.public_base or f"{request.url.scheme}://{request.headers['host']}"
    return base.rstrip("/") + path


def _signer(request: Request) -> URLSafeSerializer:
    return security.signer(deps_of(request).web.secret, "oidc")


def _begun(request: Request, state: str) -> tuple[str, str, str] | None:
    """``(nonce, verifier, next)`` of what this browser began under `state`."""
    try:
        known, nonce, verifier, target, at = _signer(request).loads(request.cookies.get(COOKIE, ""))
    except (BadData, ValueError, TypeError):
        return None
    fresh = -60 <= deps_of(request).clock() - at <= LASTS_S
    return (nonce, verifier, target) if fresh and secrets.compare_digest(known.encode(), state.encode()) else None


def _refused(request: Request, target: str, sentence: str) -> Response:
    answer = sign_in_form(request, None, target, sentence)
    answer.delete_cookie(COOKIE, path="/sign-in")
    return answer


def _reader(request: Request, said: readers.Claims) -> ReaderRow:
    """The reader whom the claims mean, made where the configuration says so.

    Raises
    ------
    QcNodeError
        They mean nobody who may sign in; one sentence for that person.
    """
    deps, options = deps_of(request), _options(request)
    login = said.get(options.claim)
    if not isinstance(login, str) or not login:
        raise QcNodeError(_("The provider does not say who you are ({claim}).").format(claim=options.claim))
    if options.claim == "email" and said.get("email_verified") is False:
        raise QcNodeError(_("The provider has not verified your e-mail address."))
    row = deps.ledger.readers.by_login(login)
    if row is None and options.create_readers:
        role = options.role_of(said.get(options.role_claim))
        if role is None:
            raise QcNodeError(_("{login} is in no group that may vote here.").format(login=login))
        name = said.get("name")
        made, _token = readers.add(
            deps.ledger,
            login,
            name=name if isinstance(name, str) and name.strip() else login,
            site=options.site,
            role=role,
            at=deps.clock(),
            link=False,
            by="single sign-on",
        )
        row = deps.ledger.readers.get(made.reader_id)
    if row is None:
        raise QcNodeError(
            _("{login} is no reader here; the operator adds one by qc-node readers add.").format(login=login)
        )
    if row["disabled_at"] is not None:
        raise QcNodeError(_("{login} may not sign in here any more.").format(login=login))
    return row
