"""Cookies, PINs, personal links, limits and headers.  Pure functions and ASGI layers; no routes.

Threats that the tests attempt: vote without sign-in, forged cookie, another site's origin, disabled reader,
script in a description, path in a UID, large body, replayed request, DNS rebinding, guessed PIN.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qc_node.web.settings import LOOPBACK, WebOptions

COOKIE = "qc_node_session"
SESSION = "sign-in"
"""What session cookies are signed for; up to 0.2.0 it was another word, and they named the reader themselves."""
ACCESSION = re.compile(r"[^\\\x00-\x1f\x7f]{1,64}")
"""An accession number (SH, but longer ones exist): no backslash, no control characters."""

_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


def new_handle() -> str:
    """128 random bits that fit into a URL."""
    return secrets.token_urlsafe(16)


# -- what readers sign in with -----------------------------------------------------------------------
def hash_token(token: str) -> str:
    """What is kept of a personal link (256 random bits need no salt)."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_pin(pin: str, salt: bytes | None = None) -> str:
    """What is kept of a PIN: scrypt with a salt of its own."""
    salt = os.urandom(16) if salt is None else salt
    key = hashlib.scrypt(pin.encode(), salt=salt, dklen=32, **_SCRYPT)
    return f"scrypt${salt.hex()}${key.hex()}"


def pin_matches(pin: str, kept: str | None) -> bool:
    """Whether `pin` is the one; takes as long when there is none, so that logins cannot be found by time."""
    _, salt, _ = (kept or f"scrypt${'00' * 16}$").split("$")
    return hmac.compare_digest(hash_pin(pin, bytes.fromhex(salt)), kept or "")


# -- sessions ----------------------------------------------------------------------------------------
def signer(secret: str, purpose: str) -> URLSafeSerializer:
    """Signs JSON values by HMAC-SHA-256, so that each holds for one purpose only."""
    return URLSafeSerializer(
        secret, salt=purpose, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
    )


def session_cookie(secret: str, token: str) -> str:
    """The value of a session cookie: a random token, signed, so that a new secret ends every session."""
    return str(signer(secret, SESSION).dumps(token))


def read_session(secret: str, value: str) -> str | None:
    """What the ledger calls the session of a genuine cookie (:func:`hash_token` of its token)."""
    try:
        token = signer(secret, SESSION).loads(value)
    except BadData:
        return None
    return hash_token(token) if isinstance(token, str) else None


# -- origins -----------------------------------------------------------------------------------------
def host_allowed(web: WebOptions, host: str) -> bool:
    """Whether a Host header names us; on loopback this stops DNS rebinding."""
    if web.public_base is not None and host == urlsplit(web.public_base).netloc:
        return True
    name = urlsplit(f"//{host}").hostname or ""
    return name in LOOPBACK if web.host in LOOPBACK else web.public_base is None


def origin_allowed(web: WebOptions, origin: str | None, site: str | None, host: str) -> bool:
    """Whether a request that changes something comes from our own pages.

    `origin` and `site` are the Origin and Sec-Fetch-Site headers, which a script cannot forge; a browser
    sends at least one of them with every POST.
    """
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is None:
        return site is not None
    if web.public_base is not None:
        base = urlsplit(web.public_base)
        if origin == f"{base.scheme}://{base.netloc}":
            return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc == host


class RateLimiter:
    """Token buckets in memory, one per key; thread-safe."""

    def __init__(self, clock: Callable[[], float], max_keys: int = 10_000) -> None:
        self._clock = clock
        self._max = max_keys
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def allow(self, key: str, per_minute: int) -> bool:
        """Take one token from the bucket of `key`, which fills at `per_minute` and holds as many."""
        now = self._clock()
        with self._lock:
            tokens, then = self._buckets.pop(key, (float(per_minute), now))
            tokens = min(float(per_minute), tokens + max(0.0, now - then) * per_minute / 60.0)
            allowed = tokens >= 1.0
            self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
            while len(self._buckets) > self._max:
                self._buckets.pop(next(iter(self._buckets)))
        return allowed


# -- ASGI layers -------------------------------------------------------------------------------------
class SecurityHeaders:
    """Adds the headers to every answer; nothing inline, nothing from other hosts, nothing cached."""

    def __init__(self, app: ASGIApp, web: WebOptions) -> None:
        self.app = app
        ancestors = " ".join(("'self'", *web.frame_ancestors))
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
            f" font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
        )
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            # With no-referrer a browser would name the origin of our own forms "null".
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        ]
        if not web.frame_ancestors:
            self._headers.append((b"x-frame-options", b"SAMEORIGIN"))
        if web.secure_cookies:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add headers to what comes back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers + self._headers}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Gate:
    """Refuses wrong hosts (400), other origins (403) and large bodies (413) before anything reads them."""

    def __init__(self, app: ASGIApp, web: WebOptions) -> None:
        self.app = app
        self.web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge the headers, then count the bytes of the body while it comes in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not host_allowed(self.web, host):
            await _refuse(send, 400, "This address is not one of this node's own.")
            return
        # A bearer token is never sent by a browser on its own, so with one there is nothing to forge.
        bearer = "cookie" not in headers and headers.get("authorization", "").lower().startswith("bearer ")
        reads = scope["method"] in ("GET", "HEAD", "OPTIONS")
        ours = origin_allowed(self.web, headers.get("origin"), headers.get("sec-fetch-site"), host)
        if not (reads or bearer or ours):
            await _refuse(send, 403, "This request came from another site's page.")
            return
        limit = self.web.max_body_bytes
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            await _refuse(send, 413, f"The body is larger than {limit} bytes.")
            return
        seen = 0
        too_large = False

        async def counted() -> Message:
            nonlocal seen, too_large
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                too_large = True
                return {"type": "http.disconnect"}
            return message

        refused = False

        async def watched(message: Message) -> None:
            # Whatever the application says about a body that was cut off, the reason is its size.
            nonlocal refused
            if not too_large:
                await send(message)
            elif not refused:
                refused = True
                await _refuse(send, 413, f"The body is larger than {limit} bytes.")

        await self.app(scope, counted, watched)


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = ('{"detail": "' + sentence + '"}').encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
