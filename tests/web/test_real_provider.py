"""In and out by a certified OpenID provider, in a real Chromium: two sites, their cookies and redirects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qc_node.config import Settings
from qc_node.config.settings import OidcSettings, WebSettings
from qc_node.parts import web_options as options_of
from qc_node.web.app import create_app
from qc_node.web.server import ServerHandle, serve
from tests.peers import require
from tests.peers.openid import CLIENT_ID, CLIENT_SECRET, OpenidProvider
from tests.peers.process import find_free_port
from tests.web.browser import Chromium
from tests.web.conftest import SECRET, Clinic
from tests.web.test_browser import RealClock

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    require("chromium")
    require("chromedriver")
    browser = Chromium()
    yield browser
    browser.quit()


@pytest.fixture
def server(clinic: Clinic, tmp_path: Path) -> Iterator[ServerHandle]:
    """The pages at 127.0.0.1, the provider at localhost: another site, for a browser."""
    clinic.clock = RealClock()
    clinic.reader("anna", name="Anna")
    port = find_free_port()
    with OpenidProvider(tmp_path, f"http://127.0.0.1:{port}") as provider:
        oidc = OidcSettings(
            issuer=provider.issuer,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            label="clinic's account",
            create_readers=True,
            site="Potsdam",
            roles={"radiology-experts": "expert"},
        )
        options = options_of(Settings(web=WebSettings(secret=SECRET), oidc=oidc))
        running = serve(create_app(clinic.deps(oidc=options.oidc)), "127.0.0.1", port)
        yield running
        running.stop()


def sign_in(chromium: Chromium, server: ServerHandle, login: str) -> None:
    """Press our button, and be `login` at the provider (whose page takes any password)."""
    chromium.open(f"{server.url}/sign-in?next=/live")
    chromium.click("a[href^='/sign-in/oidc']")
    chromium.until("return location.hostname === 'localhost' && Boolean(document.querySelector('[name=login]'))")
    chromium.script("document.querySelector('[name=login]').value = arguments[0]", login)
    chromium.script("document.querySelector('[name=password]').value = 'x'")
    chromium.script("document.querySelector('form').submit()")
    chromium.until("return document.body.innerText.includes('Authorize') || location.hostname === '127.0.0.1'")
    if chromium.script("return location.hostname") == "localhost":  # it asks whether we may know the name
        chromium.script("document.querySelector('form').submit()")
    chromium.until("return location.hostname === '127.0.0.1'")


def name_at(chromium: Chromium) -> str | None:
    """Who is signed in, as the page's own server says."""
    chromium.script("fetch('/api/me').then((a) => a.json()).then((me) => { window.me = me; })")
    chromium.until("return Boolean(window.me)")
    name: str | None = chromium.script("return window.me.name ?? null")
    return name


def test_in_by_the_provider_and_out_of_both(chromium: Chromium, server: ServerHandle, clinic: Clinic) -> None:
    sign_in(chromium, server, "anna")
    chromium.until("return location.pathname === '/live'")
    assert name_at(chromium) == "Anna"
    assert clinic.ledger.db.value("SELECT way FROM sessions WHERE ended_at IS NULL") == "single sign-on"
    chromium.resize(800, 900)
    chromium.click("form[action='/sign-out'] button")
    chromium.until("return location.hostname === 'localhost'")  # the provider asks whether to sign out there
    chromium.until("return Boolean(document.querySelector('button[name=logout], button[value=yes]'))")
    chromium.click("button[name=logout], button[value=yes]")
    chromium.until("return location.hostname === '127.0.0.1' && location.pathname === '/sign-in'")
    assert name_at(chromium) is None
    assert clinic.ledger.db.value("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0
    sign_in(chromium, server, "expert-klee")  # the provider knows nobody any more, so it asks again
    chromium.until("return location.pathname === '/live'")
    row = clinic.ledger.readers.by_login("expert-klee")
    assert row is not None and (row["name"], row["role"], row["site"]) == ("Dr. Expert-klee", "expert", "Potsdam")


def test_a_stranger_reads_why(chromium: Chromium, server: ServerHandle, clinic: Clinic) -> None:
    sign_in(chromium, server, "cleaner")
    chromium.until_text("main [role=alert]", "cleaner is in no group that may vote here.")
    assert name_at(chromium) is None and clinic.ledger.readers.by_login("cleaner") is None
