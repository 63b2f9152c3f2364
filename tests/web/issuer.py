"""An OpenID provider that lies as it is told, over HTTP on loopback: what no honest one would send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "qc-node", "0123456789abcdef0123456789abcdef"

Json = dict[str, Any]


def left_half(text: str) -> str:
    """``at_hash`` of an access token, OpenID Connect Core 3.1.3.6."""
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def unsigned(claims: Json, alg: str = "none") -> str:
    """A token without a signature; it names the algorithm ``none`` unless told otherwise."""

    def part(value: Json) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': alg, 'kid': 'k1', 'typ': 'JWT'})}.{part(claims)}."


def by_hmac(claims: Json, key: bytes) -> str:
    """A token signed by HMAC with any bytes, which libraries refuse for those of a public key."""
    head, body, _ = unsigned(claims, "HS256").split(".")
    mac = hmac.digest(key, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@cache
def rsa_key(number: int) -> RSAKey:
    """One of several keys; making one takes a second on a busy machine."""
    return RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})


class Issuer:
    """Discovery, keys, token and user info; :attr:`token` makes the ID token from honest claims."""

    def __init__(self) -> None:
        self.key = rsa_key(0)
        self.claims: Json = {"preferred_username": "anna"}
        self.userinfo: Json = {}
        self.token: Callable[[Json], str | None] = self.signed
        self.described: Json = {}
        self.delay_s = 0.0
        self.challenge = ""
        self.nonce = ""
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                time.sleep(issuer.delay_s)
                answers: dict[str, Callable[[], Json]] = {
                    "/.well-known/openid-configuration": issuer.document,
                    "/jwks": lambda: {"keys": [issuer.key.as_dict(private=False)]},
                    "/me": lambda: issuer.userinfo,
                }
                found = answers.get(self.path)
                self._answer(200 if found else 404, found() if found else {})

            def do_POST(self) -> None:
                issuer.asked.append(self.path)
                body = self.rfile.read(int(self.headers["content-length"]))
                form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
                self._answer(*issuer.exchange(form, self.headers.get("authorization", "")))

            def _answer(self, status: int, body: Json) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def document(self) -> Json:
        """The discovery document."""
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/auth",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/jwks",
            "userinfo_endpoint": f"{self.address}/me",
            "end_session_endpoint": f"{self.address}/end",
            **self.described,
        }

    def exchange(self, form: Json, authorization: str) -> tuple[int, Json]:
        """The token endpoint: a code for tokens, where client and PKCE are right (RFC 6749, RFC 7636)."""
        secret = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        fits = base64.urlsafe_b64encode(verifier).decode().rstrip("=") == self.challenge
        if authorization != f"Basic {secret}":
            return 401, {"error": "invalid_client"}
        if form.get("code") != "the-code" or not fits:
            return 400, {"error": "invalid_grant"}
        written = self.token(self.honest())
        more = {} if written is None else {"id_token": written}
        return 200, {"access_token": "the-access-token", "token_type": "Bearer", **more}

    def honest(self) -> Json:
        """What an ID token says when nothing is wrong with it."""
        now = int(time.time())
        return {
            "iss": self.address,
            "sub": "4711",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
            "at_hash": left_half("the-access-token"),
            **self.claims,
        }

    def signed(self, claims: Json, key: RSAKey | OctKey | None = None, alg: str = "RS256") -> str:
        """An ID token, by the issuer's own key unless another is given."""
        key = key or self.key
        return jwt.encode({"alg": alg, "kid": "k1"}, claims, key, algorithms=[alg])
