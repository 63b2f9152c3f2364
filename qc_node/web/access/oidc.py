"""OpenID Connect: what is said to the provider, and what is believed of its answers.

Authorization code with PKCE, state and nonce; the ID token's signature is checked by the provider's published
keys, and its ``iss``, ``aud``, ``azp``, ``exp``, ``iat``, ``nonce`` and ``at_hash`` by Authlib.  No token is kept.
Needs the extra ``oidc``; nothing of it is imported before somebody signs in this way.

Sources: OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (``iss`` in the answer), RP-Initiated
Logout 1.0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from qc_node.domain import QcNodeError
from qc_node.web.settings import OidcOptions

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key that only the provider has; ``none`` and those by a shared secret are refused."""
TIMEOUT_S = 5.0
CLOCK_SKEW_S = 60
"""By so much the clocks of provider and node may differ."""
KEPT_S = 3600.0
"""So long the provider's description and keys are believed before they are fetched again."""
TALKING_AT_ONCE = 4
"""So many sign-ins may wait for the provider at a time: its slowness must not take every thread of the pages."""
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class ProviderSilentError(QcNodeError):
    """The provider cannot be reached, or is not what it should be; trying again may help."""


class ProviderRefusedError(QcNodeError):
    """What came from the provider, or was given out as its, is not accepted."""


def require_authlib() -> tuple[Any, Any, Any, Any]:
    """``(OAuth2Session, CodeIDToken, jwt, KeySet)`` of Authlib and joserfc.

    Raises
    ------
    QcNodeError
        They are not installed.
    """
    try:
        from authlib.integrations.requests_client import OAuth2Session
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.jwk import KeySet
    except ImportError as error:
        raise QcNodeError("[oidc] needs the extra oidc: pip install 'qc-node[oidc]'.") from error
    return OAuth2Session, CodeIDToken, jwt, KeySet


class Provider:
    """One OpenID provider.  Thread-safe; every method but :meth:`__init__` may ask it over the network.

    Parameters
    ----------
    clock
        Seconds since 1970.
    """

    def __init__(self, options: OidcOptions, clock: Callable[[], float]) -> None:
        self._options = options
        self._clock = clock
        self._talking = threading.BoundedSemaphore(TALKING_AT_ONCE)
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Mapping[str, Any]]] = {}

    # -- the three steps -----------------------------------------------------------------------------
    def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where the browser is sent to sign in.

        Raises
        ------
        ProviderSilentError
            The provider's description cannot be had.
        """
        with self._session(redirect_uri) as session:
            url, _ = session.create_authorization_url(
                self._endpoint("authorization_endpoint"), state=state, nonce=nonce, code_verifier=verifier
            )
        return str(url)

    def claims(self, redirect_uri: str, code: str, nonce: str, verifier: str) -> Mapping[str, Any]:
        """What the provider says of the user who came back with `code`; verified.

        Raises
        ------
        ProviderSilentError
            It cannot be reached.
        ProviderRefusedError
            It refuses the code, or its ID token is not valid.
        """
        with self._session(redirect_uri) as session:
            token = self._exchanged(session, code, verifier)
            said = self._verified(token, nonce)
            if self._options.claim in said or "userinfo_endpoint" not in self.described():
                return said
            more = self._fetch(self._endpoint("userinfo_endpoint"), session)
        if more.get("sub") != said["sub"]:
            raise ProviderRefusedError("its user info is about somebody else than its ID token")
        return {**more, **said}

    def end_session_url(self, back: str) -> str | None:
        """Where the browser ends the provider's own session; None when the provider has no such place.

        Raises
        ------
        ProviderSilentError
            The provider's description cannot be had.
        """
        address = self.described().get("end_session_endpoint")
        if not address:
            return None
        asked = urlencode({"client_id": self._options.client_id, "post_logout_redirect_uri": back})
        return f"{address}{'&' if '?' in str(address) else '?'}{asked}"

    def described(self) -> Mapping[str, Any]:
        """The provider's discovery document.

        Raises
        ------
        ProviderSilentError
            It cannot be had, or names another issuer.
        """
        issuer = self._options.issuer
        found = self._remembered(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ProviderSilentError(f"The OpenID provider {issuer} names itself {found.get('issuer')!r}.")
        return found

    def check(self) -> None:
        """Whether the provider could be used now.

        Raises
        ------
        QcNodeError
            It cannot be reached, has no keys or not all addresses, or the extra is not installed.
        """
        require_authlib()
        for name in ("authorization_endpoint", "token_endpoint"):
            self._endpoint(name)
        if not self._keys():
            raise ProviderSilentError(f"The OpenID provider {self._options.issuer} publishes no keys.")

    # -- one by one ----------------------------------------------------------------------------------
    @contextmanager
    def _session(self, redirect_uri: str) -> Iterator[Any]:
        OAuth2Session, *_ = require_authlib()
        if not self._talking.acquire(timeout=1.0):
            raise ProviderSilentError("Too many sign in at this moment; try again.")
        try:
            options = self._options
            with OAuth2Session(
                options.client_id,
                options.client_secret,
                token_endpoint_auth_method=self._authentication(),
                scope=" ".join(options.scopes),
                redirect_uri=redirect_uri,
                code_challenge_method="S256",
            ) as session:
                session.verify = certificates(options.ca_file)
                yield session
        finally:
            self._talking.release()

    def _authentication(self) -> str:
        if self._options.client_secret is None:
            return "none"
        known = self.described().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return "client_secret_basic" if "client_secret_basic" in known else "client_secret_post"

    def _endpoint(self, name: str) -> str:
        address = self.described().get(name)
        if not isinstance(address, str):
            raise ProviderSilentError(f"The OpenID provider {self._options.issuer} names no {name}.")
        return address

    def _exchanged(self, session: Any, code: str, verifier: str) -> Mapping[str, Any]:
        from authlib.integrations.base_client import OAuthError
        from requests import RequestException

        try:
            token: Mapping[str, Any] = session.fetch_token(
                self._endpoint("token_endpoint"),
                grant_type="authorization_code",
                code=code,
                code_verifier=verifier,
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
        except OAuthError as error:
            raise ProviderRefusedError(f"it refused the code ({str(error.error)[:40]})") from error
        except RequestException as error:
            raise _silent(self._options.issuer, error) from error
        except ValueError as error:
            raise ProviderRefusedError("its answer to the code is not understood") from error
        return token

    def _verified(self, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        from joserfc.errors import JoseError

        _, CodeIDToken, jwt, _ = require_authlib()
        written = token.get("id_token")
        if not isinstance(written, str):
            raise ProviderRefusedError("it sent no ID token")
        try:
            try:
                found = jwt.decode(written, self._keys(), algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                found = jwt.decode(written, self._keys(anew=True), algorithms=ALGORITHMS)  # its keys have changed?
            options = self._options
            claims = CodeIDToken(
                found.claims,
                found.header,
                {
                    "iss": {"essential": True, "value": options.issuer},
                    "aud": {"essential": True, "value": options.client_id},
                },
                {"nonce": nonce, "client_id": options.client_id, "access_token": token.get("access_token")},
            )
            claims.validate(now=int(self._clock()), leeway=CLOCK_SKEW_S)
        except (JoseError, ValueError) as error:
            raise ProviderRefusedError(f"its ID token is not valid ({type(error).__name__})") from error
        if "nonce" not in claims:
            raise ProviderRefusedError("its ID token has no nonce")
        return dict(claims)

    def _keys(self, *, anew: bool = False) -> Any:
        *_, KeySet = require_authlib()
        keys = self._remembered(self._endpoint("jwks_uri"), anew=anew).get("keys", [])
        usable = [key for key in keys if key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"]
        return KeySet.import_key_set({"keys": usable})

    # -- the network ---------------------------------------------------------------------------------
    def _remembered(self, address: str, *, anew: bool = False) -> Mapping[str, Any]:
        now = self._clock()
        with self._lock:
            until, kept = self._kept.get(address, (0.0, {}))
        if not anew and now < until <= now + KEPT_S:
            return kept
        found = self._fetch(address)
        with self._lock:
            self._kept[address] = (now + KEPT_S, found)
        return found

    def _fetch(self, address: str, session: Any = None) -> Mapping[str, Any]:
        require_authlib()
        import requests

        try:
            if session is None:
                answer = requests.get(address, timeout=TIMEOUT_S, verify=certificates(self._options.ca_file))
            else:
                answer = session.get(address, timeout=TIMEOUT_S)
            answer.raise_for_status()
            found = answer.json()
        except requests.RequestException as error:
            raise _silent(self._options.issuer, error) from error
        if not isinstance(found, dict):
            raise ProviderSilentError(f"The OpenID provider {self._options.issuer} answers no JSON object.")
        return found


def certificates(ca_file: Path | None) -> str | bool:
    """What a provider's certificate is checked by: the given file, else what this machine trusts."""
    if ca_file is not None:
        return str(ca_file)
    return str(SYSTEM_CERTIFICATES) if SYSTEM_CERTIFICATES.is_file() else True


def _silent(issuer: str, error: Exception) -> ProviderSilentError:
    from requests import ConnectionError as NoConnection
    from requests import HTTPError, JSONDecodeError, Timeout
    from requests.exceptions import SSLError

    match error:
        case SSLError():
            why = "its certificate is not trusted here ([oidc] ca_file)"
        case Timeout():
            why = f"no answer within {TIMEOUT_S:g} s"
        case NoConnection():
            why = "no connection"
        case HTTPError() if error.response is not None:
            why = f"it answers {error.response.status_code}"
        case JSONDecodeError():
            why = "its answer is no JSON"
        case _:
            why = type(error).__name__
    return ProviderSilentError(f"The OpenID provider {issuer} cannot be used: {why}.")
