"""Signing in by an OpenID provider: who gets in, and every lie that is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import OctKey

from qc_node.config import Settings, load
from qc_node.config.settings import OidcSettings, WebSettings
from qc_node.domain import QcNodeError
from qc_node.parts import web_options as options_of
from qc_node.web.access import readers, security, single_sign_on
from qc_node.web.access.oidc import TALKING_AT_ONCE
from qc_node.web.settings import OidcOptions
from tests.web.conftest import BASE, SECRET, Browse, Browser, Clinic
from tests.web.issuer import CLIENT_ID, CLIENT_SECRET, Issuer, Json, by_hmac, rsa_key, unsigned
from tests.web.test_browser import RealClock


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.stop()


def oidc_of(issuer: str, **said: Any) -> OidcOptions:
    """The options of a node with this provider, by way of its configuration."""
    section = OidcSettings(issuer=issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, **said)
    options = options_of(Settings(web=WebSettings(secret=SECRET), oidc=section)).oidc
    assert options is not None
    return options


@pytest.fixture
def browser(clinic: Clinic, browse: Browse, issuer: Issuer) -> Browser:
    clinic.clock = RealClock()
    clinic.reader("anna", name="Anna")
    return browse(public_base=BASE, oidc=oidc_of(issuer.address), sign_ins_per_minute=1000)


def begin(browser: Browser, issuer: Issuer, path: str = "/sign-in/oidc?next=/live") -> dict[str, str]:
    """Go to the provider, which notes what it was asked for; the query of the address."""
    sent = browser.get(path)
    assert sent.status_code == 303, sent.text
    address = urlsplit(sent.headers["location"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{issuer.address}/auth"
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    issuer.challenge, issuer.nonce = query["code_challenge"], query["nonce"]
    return query


def come_back(browser: Browser, issuer: Issuer, **more: str) -> Any:
    query = begin(browser, issuer)
    params = {"state": query["state"], "code": "the-code", **more}
    return browser.get("/sign-in/oidc/back", params=params, headers={"accept": "text/html"})


def who(browser: Browser) -> str | None:
    name: str | None = browser.get("/api/me").json().get("name")
    return name


def test_a_reader_signs_in(clinic: Clinic, browser: Browser, issuer: Issuer) -> None:
    assert 'href="/sign-in/oidc?next=/live"' in browser.get("/sign-in?next=/live").text
    query = begin(browser, issuer)
    assert query == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": f"{BASE}/sign-in/oidc/back",
        "scope": "openid profile",
        "state": query["state"],
        "nonce": query["nonce"],
        "code_challenge": query["code_challenge"],
        "code_challenge_method": "S256",
    }
    answer = browser.get("/sign-in/oidc/back", params={"state": query["state"], "code": "the-code"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/live")
    assert who(browser) == "Anna"
    assert single_sign_on.COOKIE not in browser.cookies
    again = browser.get("/sign-in/oidc/back", params={"state": query["state"], "code": "the-code"})
    assert again.status_code == 401, "once"


def test_the_cookie_of_the_beginning_is_seen_by_no_script_and_no_other_page(
    browser: Browser, issuer: Issuer
) -> None:
    cookie = browser.get("/sign-in/oidc").headers["set-cookie"]
    assert (
        "HttpOnly" in cookie
        and "SameSite=lax" in cookie
        and "Path=/sign-in;" in cookie
        and "Max-Age=600" in cookie
    )


def changed(**said: Any) -> Callable[[Issuer, Json], str | None]:
    """An ID token with other claims; None takes one away."""

    def make(issuer: Issuer, claims: Json) -> str:
        return issuer.signed({k: v for k, v in {**claims, **said}.items() if v is not None})

    return make


LIES: dict[str, Callable[[Issuer, Json], str | None]] = {
    "wrong nonce": changed(nonce="another"),
    "no nonce": changed(nonce=None),
    "another's audience": changed(aud="another-client"),
    "audience beside us, and nobody says for whom": changed(aud=["another-client", CLIENT_ID]),
    "for another party": changed(aud=["another-client", CLIENT_ID], azp="another-client"),
    "no audience": changed(aud=None),
    "another issuer": changed(iss="https://evil.example"),
    "no issuer": changed(iss=None),
    "expired": lambda issuer, claims: issuer.signed({**claims, "exp": claims["iat"] - 120}),
    "never expires": changed(exp=None),
    "not valid yet": lambda issuer, claims: issuer.signed({**claims, "nbf": claims["iat"] + 120}),
    "issued tomorrow": lambda issuer, claims: issuer.signed({**claims, "iat": claims["iat"] + 86_400}),
    "nobody's": changed(sub=None),
    "for another access token": changed(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
    "unsigned": lambda issuer, claims: unsigned(claims),
    "signed by somebody else": lambda issuer, claims: issuer.signed(claims, rsa_key(1)),
    "signed by our own secret": lambda issuer, claims: issuer.signed(
        claims, OctKey.import_key(CLIENT_SECRET, {"kid": "k1"}), "HS256"
    ),
    "signed by the public key": lambda issuer, claims: by_hmac(claims, issuer.key.as_pem(private=False)),
    "signature cut off": lambda issuer, claims: issuer.signed(claims).rsplit(".", 1)[0] + ".",
    "claims changed": lambda issuer, claims: ".".join(
        (
            issuer.signed(claims).split(".")[0],
            unsigned({**claims, "preferred_username": "boss"}).split(".")[1],
            "x",
        )
    ),
    "garbage": lambda issuer, claims: "a.b.c",
    "no token": lambda issuer, claims: None,
}


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_is_not_right_signs_nobody_in(
    clinic: Clinic, browser: Browser, issuer: Issuer, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.reader("boss", name="Boss")
    issuer.token = lambda claims: LIES[lie](issuer, claims)
    answer = come_back(browser, issuer)
    assert answer.status_code == 401 and "The answer of the provider is not valid; try again." in answer.text
    assert who(browser) is None
    assert clinic.ledger.db.value("SELECT count(*) FROM sessions") == 0
    assert "a sign-in from testclient failed: single sign-on: " in caplog.text
    assert "eyJ" not in caplog.text and "anna" not in caplog.text


def test_a_minute_between_the_clocks_does_no_harm(browser: Browser, issuer: Issuer) -> None:
    issuer.token = lambda claims: issuer.signed({**claims, "exp": claims["iat"] - 50, "iat": claims["iat"] - 350})
    assert come_back(browser, issuer).status_code == 303
    issuer.token = lambda claims: issuer.signed({**claims, "iat": claims["iat"] + 50})
    assert come_back(browser, issuer).status_code == 303


def test_new_keys_of_the_provider_are_fetched(browser: Browser, issuer: Issuer) -> None:
    assert come_back(browser, issuer).status_code == 303
    issuer.key = rsa_key(1)
    assert come_back(browser, issuer).status_code == 303
    assert issuer.asked.count("/jwks") == 2 and issuer.asked.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize(
    "how", ["other state", "no state", "no cookie", "another browser's", "too late", "forged"]
)
def test_an_answer_to_nothing_that_this_browser_asked(
    clinic: Clinic, browse: Browse, browser: Browser, issuer: Issuer, how: str
) -> None:
    query = begin(browser, issuer)
    state = {"other state": "x" * 32, "no state": ""}.get(how, query["state"])
    if how == "no cookie":
        browser.cookies.clear()
    elif how == "another browser's":
        attacker = browse(browser.app)
        state = begin(attacker, issuer)["state"]
    elif how in ("too late", "forged"):
        begun = [
            query["state"],
            query["nonce"],
            "v",
            "/panel",
            int(time.time()) - (700 if how == "too late" else 0),
        ]
        secret = SECRET if how == "too late" else "another secret of more than thirty-two bytes"
        browser.cookies.clear()
        browser.cookies.set(single_sign_on.COOKIE, str(security.signer(secret, "oidc").dumps(begun)))
    answer = browser.get("/sign-in/oidc/back", params={"state": state, "code": "the-code"})
    assert answer.status_code == 401 and "not begun in this browser" in answer.text
    assert who(browser) is None and "/token" not in issuer.asked


def test_what_the_provider_refused(browser: Browser, issuer: Issuer) -> None:
    refused = come_back(browser, issuer, error="access_denied", error_description="<b>You lost</b>")
    assert refused.status_code == 401 and "You were not signed in at the provider." in refused.text
    assert "You lost" not in refused.text
    assert come_back(browser, issuer, code="").status_code == 401
    assert come_back(browser, issuer, code="another").status_code == 401
    assert come_back(browser, issuer, iss="https://evil.example").status_code == 401
    assert who(browser) is None
    assert come_back(browser, issuer, iss=issuer.address).status_code == 303


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        (
            {"preferred_username": "stranger"},
            "stranger is no reader here; the operator adds one by qc-node readers add.",
        ),
        ({"preferred_username": "gone"}, "gone may not sign in here any more."),
        (
            {"preferred_username": "<b>x"},
            "&lt;b&gt;x is no reader here; the operator adds one by qc-node readers add.",
        ),
        ({"preferred_username": None}, "The provider does not say who you are (preferred_username)."),
        ({"preferred_username": ["anna"]}, "The provider does not say who you are (preferred_username)."),
    ],
)
def test_who_is_signed_in_there_and_not_here_reads_why(
    clinic: Clinic, browser: Browser, issuer: Issuer, claims: Json, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.reader("gone", name="Gone")
    readers.disable(clinic.ledger, "gone", clinic.clock())
    issuer.claims = {k: v for k, v in claims.items() if v is not None}
    issuer.userinfo = {"sub": "4711"}
    answer = come_back(browser, issuer)
    assert answer.status_code == 401 and sentence in answer.text
    assert who(browser) is None and "stranger" not in caplog.text


def test_a_login_that_stands_in_the_user_info_only(browser: Browser, issuer: Issuer) -> None:
    issuer.claims = {}
    issuer.userinfo = {"sub": "4712", "preferred_username": "anna"}
    assert come_back(browser, issuer).status_code == 401, "somebody else's"
    issuer.userinfo = {"sub": "4711", "preferred_username": "ANNA"}
    assert come_back(browser, issuer).status_code == 303
    assert who(browser) == "Anna"


def test_an_address_that_nobody_verified_is_no_login(clinic: Clinic, browse: Browse, issuer: Issuer) -> None:
    clinic.clock = RealClock()
    clinic.reader("anna@hospital.example", name="Anna")
    oidc = oidc_of(issuer.address, claim="email", scopes=("openid", "email"))
    browser = browse(public_base=BASE, oidc=oidc)
    issuer.claims = {"email": "anna@hospital.example", "email_verified": False}
    assert "has not verified" in come_back(browser, issuer).text
    issuer.claims["email_verified"] = True
    assert come_back(browser, issuer).status_code == 303


def test_readers_are_made_of_those_in_the_groups_that_may_vote(
    clinic: Clinic, browse: Browse, issuer: Issuer
) -> None:
    clinic.clock = RealClock()
    roles = {"radiology-experts": "expert", "radiology": "radiologist"}
    browser = browse(
        public_base=BASE, oidc=oidc_of(issuer.address, create_readers=True, site="Potsdam", roles=roles)
    )
    issuer.claims = {"preferred_username": "cleaner", "groups": ["staff"]}
    assert "cleaner is in no group that may vote here." in come_back(browser, issuer).text
    issuer.claims = {"preferred_username": "HOSPITAL\\klee", "groups": "radiology"}
    assert "may hold letters, digits" in come_back(browser, issuer).text
    assert clinic.ledger.readers.all() == []
    issuer.claims = {
        "preferred_username": "klee",
        "name": "Dr. P. Klee",
        "groups": ["radiology", "radiology-experts"],
    }
    assert come_back(browser, issuer).status_code == 303
    (row,) = clinic.ledger.readers.all()
    assert (row["login"], row["name"], row["role"], row["site"]) == ("klee", "Dr. P. Klee", "expert", "Potsdam")
    assert row["pin_hash"] is None and row["token_hash"] is None
    assert [(a["event"], a["actor"]) for a in clinic.ledger.audit.after(0)] == [("reader added", "single sign-on")]
    issuer.claims = {"preferred_username": "klee", "groups": ["staff"]}
    assert come_back(browser, issuer).status_code == 303, "who is a reader stays one until disabled"


def test_signing_out_goes_on_to_the_provider(clinic: Clinic, browser: Browser, issuer: Issuer) -> None:
    come_back(browser, issuer)
    out = browser.post("/sign-out")
    assert out.headers["location"] == "/sign-in?out=provider" and who(browser) is None
    page = browser.get("/sign-in?out=provider").text
    assert 'id="leave" href="/sign-out/provider"' in page
    left = urlsplit(browser.get("/sign-out/provider").headers["location"])
    assert f"{left.scheme}://{left.netloc}{left.path}" == f"{issuer.address}/end"
    assert parse_qs(left.query) == {"client_id": [CLIENT_ID], "post_logout_redirect_uri": [f"{BASE}/sign-in"]}


def test_the_tenth_answer_of_a_minute_is_the_last(clinic: Clinic, browse: Browse, issuer: Issuer) -> None:
    clinic.clock = RealClock()
    browser = browse(public_base=BASE, oidc=oidc_of(issuer.address))
    codes = [come_back(browser, issuer, code="guessed").status_code for _ in range(11)]
    assert codes == [401] * 10 + [429] and issuer.asked.count("/token") == 10


def test_who_came_by_pin_or_whose_provider_has_no_sign_out_stays_here(
    clinic: Clinic, browser: Browser, issuer: Issuer
) -> None:
    browser.sign_in(readers.new_link(clinic.ledger, "anna", clinic.clock()))
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    issuer.described = {"end_session_endpoint": None}
    assert browser.get("/sign-out/provider").headers["location"] == "/sign-in"


def test_without_a_provider_there_is_no_such_way(browse: Browse) -> None:
    browser = browse()
    assert "/sign-in/oidc" not in browser.get("/sign-in").text
    for path in ("/sign-in/oidc", "/sign-in/oidc/back", "/sign-out/provider"):
        assert browser.get(path).status_code in (401, 404), path


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"issuer": "https://evil.example"}, "names itself 'https://evil.example'."),
        ({"authorization_endpoint": None}, "names no authorization_endpoint."),
    ],
)
def test_a_provider_that_is_not_what_it_should_be(
    browser: Browser, issuer: Issuer, described: Json, sentence: str
) -> None:
    issuer.described = described
    answer = browser.get("/sign-in/oidc", headers={"accept": "text/html"})
    assert answer.status_code == 503 and f"The OpenID provider {issuer.address}" in answer.text
    assert sentence in browser.get("/sign-in/oidc").json()["detail"]


def test_a_provider_that_is_down_is_a_sentence_and_pin_still_opens(clinic: Clinic, browse: Browse) -> None:
    clinic.reader("anna", name="Anna", pin="271828")
    gone = Issuer()
    gone.stop()
    browser = browse(public_base=BASE, oidc=oidc_of(gone.address))
    answer = browser.get("/sign-in/oidc")
    assert answer.status_code == 503
    assert answer.json()["detail"] == f"The OpenID provider {gone.address} cannot be used: no connection."
    assert browser.post("/sign-in", data={"login": "anna", "pin": "271828"}).status_code == 303


def test_a_slow_provider_takes_few_threads(browser: Browser, issuer: Issuer) -> None:
    issuer.delay_s = 3.0
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(browser.get("/sign-in/oidc").status_code)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    time.sleep(1.3)
    began = time.monotonic()
    assert browser.get("/api/me").status_code == 200
    assert time.monotonic() - began < 1.0, "the pages have threads left"
    for thread in threads:
        thread.join()
    assert codes.count(303) == TALKING_AT_ONCE and codes.count(503) == 12 - TALKING_AT_ONCE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('issuer = "https://sso.example"', "client_id is needed with issuer"),
        (
            'issuer = "http://sso.example"\nclient_id = "x"',
            "issuer must be https:// (http:// only on this machine)",
        ),
        ('issuer = "http://127.0.0.1.evil.example"\nclient_id = "x"', "issuer must be https://"),
        ('issuer = "https://sso.example"\nclient_id = "x"\nscopes = ["profile"]', "scopes must hold openid"),
        (
            'issuer = "https://sso.example"\nclient_id = "x"\ncreate_readers = true',
            "create_readers needs site, and",
        ),
        ('roles = { staff = "boss" }', "roles"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path: Any, text: str, sentence: str) -> None:
    path = tmp_path / "qc-node.toml"
    path.write_text(f"[oidc]\n{text}\n")
    with pytest.raises(QcNodeError, match=r"\[oidc\] .*") as refused:
        load(path, {})
    assert sentence in str(refused.value)


def test_the_secret_comes_by_the_environment_and_is_shown_nowhere() -> None:
    environ = {
        "QC_NODE_OIDC__ISSUER": "https://sso.example",
        "QC_NODE_OIDC__CLIENT_ID": "qc",
        "QC_NODE_OIDC__CLIENT_SECRET": "hush",
        "QC_NODE_OIDC__ROLES": '{ "radiology staff" = "radiologist" }',
    }
    settings = load(None, environ)
    assert (settings.oidc.client_secret, settings.oidc.roles) == ("hush", {"radiology staff": "radiologist"})
    with pytest.raises(QcNodeError) as refused:
        load(None, {**environ, "QC_NODE_OIDC__CLIENT_SECRET": ""})
    assert "hush" not in str(refused.value)


def test_a_public_client_says_its_name_only(clinic: Clinic, browse: Browse, issuer: Issuer) -> None:
    clinic.clock = RealClock()
    clinic.reader("anna", name="Anna")
    public = replace(oidc_of(issuer.address), client_secret=None)
    answer = come_back(browse(public_base=BASE, oidc=public), issuer)
    assert answer.status_code == 401, "this provider wants the secret, which was not sent"
