"""Sessions are rows: who signed out, was disabled or got a new PIN is out, whatever cookies were copied."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from qc_node.config import Settings
from qc_node.config.settings import WebSettings
from qc_node.ledger import Ledger
from qc_node.operations.retention import DAY_S, KEEP_SESSIONS_DAYS, remove_old_sessions
from qc_node.parts import web_options as options_of
from qc_node.web.access import readers, security
from tests.ledger.old_ledger import write_fixture
from tests.web.conftest import SECRET, Browse, Browser, Clinic


def who(browser: Browser) -> str | None:
    name: str | None = browser.get("/api/me").json().get("name")
    return name


def thief_of(browser: Browser, browse: Browse) -> Browser:
    """A browser into which somebody has copied the cookie."""
    copied = browse(browser.app)
    copied.cookies = httpx.Cookies({security.COOKIE: browser.cookies[security.COOKIE]})
    return copied


@pytest.fixture
def signed_in(clinic: Clinic, browse: Browse) -> Browser:
    _, token = clinic.reader("mbh", pin="271828")
    browser = browse()
    browser.sign_in(token)
    return browser


def test_a_copied_cookie_is_worth_nothing_after_signing_out(signed_in: Browser, browse: Browse) -> None:
    thief = thief_of(signed_in, browse)
    assert who(thief) == "M. Bode"
    assert signed_in.post("/sign-out").headers["location"] == "/sign-in"
    assert who(thief) is None and who(signed_in) is None
    assert security.COOKIE not in signed_in.cookies


def test_signing_out_ends_this_session_only(clinic: Clinic, signed_in: Browser, browse: Browse) -> None:
    other = browse(signed_in.app)
    other.post("/sign-in", data={"login": "mbh", "pin": "271828"})
    signed_in.post("/sign-out")
    assert who(other) == "M. Bode"


def test_nobody_is_signed_out_by_another_sites_form(signed_in: Browser) -> None:
    assert signed_in.post("/sign-out", headers={"origin": "https://evil.example"}).status_code == 403
    assert who(signed_in) == "M. Bode"


def test_signing_in_again_ends_what_was_before(signed_in: Browser, browse: Browse) -> None:
    thief = thief_of(signed_in, browse)
    signed_in.post("/sign-in", data={"login": "mbh", "pin": "271828"})
    assert (who(signed_in), who(thief)) == ("M. Bode", None)


@pytest.mark.parametrize("act", ["disable", "new link", "end all"])
def test_everybody_is_out_at_once(clinic: Clinic, signed_in: Browser, browse: Browse, act: str) -> None:
    elsewhere = browse(signed_in.app)
    elsewhere.post("/sign-in", data={"login": "mbh", "pin": "271828"})
    if act == "disable":
        readers.disable(clinic.ledger, "mbh", clinic.clock())
    elif act == "new link":
        readers.new_link(clinic.ledger, "mbh", clinic.clock())
    else:
        row = clinic.ledger.readers.by_login("mbh")
        assert row is not None
        assert clinic.ledger.sessions.end_all(row["reader_id"], clinic.clock(), "UserLogout") == 2
        assert clinic.ledger.sessions.end_all(row["reader_id"], clinic.clock(), "UserLogout") == 0
    assert (who(signed_in), who(elsewhere)) == (None, None)


def test_a_session_lasts_as_long_as_configured(clinic: Clinic, browse: Browse) -> None:
    half = options_of(Settings(web=WebSettings(secret=SECRET, session_days=0.5)))
    assert options_of(Settings(web=WebSettings(secret=SECRET))).session_days == 90, "as it was in 0.2.0"
    _, token = clinic.reader()
    browser = browse(session_days=half.session_days)
    browser.sign_in(token)
    cookie = browser.post("/api/sign-in", json={"token": token}).headers["set-cookie"]
    assert "Max-Age=43200;" in cookie
    clinic.clock.forward(12 * 3600 - 5)
    assert who(browser) == "M. Bode"
    clinic.clock.forward(10)
    assert who(browser) is None


def test_the_ledger_holds_nothing_that_opens_a_session(clinic: Clinic, signed_in: Browser) -> None:
    token = security.signer(SECRET, security.SESSION).loads(signed_in.cookies[security.COOKIE])
    kept = b"".join(file.read_bytes() for file in Path(clinic.ledger.db.path).parent.glob("ledger.db*"))
    assert security.hash_token(token).encode() in kept and token.encode() not in kept


def test_old_rows_go_and_open_ones_stay(clinic: Clinic, browse: Browse) -> None:
    _, token = clinic.reader()
    sessions = clinic.ledger.sessions
    browser = browse()
    for _ in range(3):  # two end with the next one
        browser.sign_in(token)
    assert remove_old_sessions(clinic.ledger, clinic.clock() + (KEEP_SESSIONS_DAYS - 1) * DAY_S, 90) == 0
    assert remove_old_sessions(clinic.ledger, clinic.clock() + (KEEP_SESSIONS_DAYS + 1) * DAY_S, 90) == 2
    still = security.read_session(SECRET, browser.cookies[security.COOKIE])
    assert still is not None and sessions.get(still) is not None
    assert remove_old_sessions(clinic.ledger, clinic.clock() + (91 + KEEP_SESSIONS_DAYS) * DAY_S, 90) == 1
    assert sessions.get(still) is None


def test_a_cookie_of_0_2_asks_to_sign_in_anew(clinic: Clinic, browse: Browse) -> None:
    reader, token = clinic.reader()
    browser = browse()
    old = security.signer(SECRET, "session").dumps([reader.reader_id, 1, int(clinic.clock())])
    browser.cookies.set(security.COOKIE, old, domain="127.0.0.1")
    assert who(browser) is None
    browser.sign_in(token)
    assert who(browser) == "M. Bode"


def test_readers_of_an_upgraded_ledger_sign_in(tmp_path: Path, clinic: Clinic, browse: Browse) -> None:
    clinic.ledger = Ledger(write_fixture(tmp_path / "old.sqlite"))
    login = clinic.ledger.readers.all()[0]["login"]
    browser = browse()
    browser.sign_in(readers.new_link(clinic.ledger, login, clinic.clock()))
    assert who(browser) is not None
