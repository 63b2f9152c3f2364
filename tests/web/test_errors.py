"""Whatever is wrong, people get a page with a way on and programs a sentence; nothing of a request is logged."""

from __future__ import annotations

import re
import sqlite3

import pytest
from fastapi import FastAPI

from qc_node.ledger import LedgerError
from qc_node.web.app import create_app
from tests.web.conftest import BASE, Browse, Browser, Clinic

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def ways_on(page: str) -> list[str]:
    """Where the links in the body of a page lead."""
    return re.findall(r'href="([^"]+)"', page.split("<main")[1].split("</main>")[0])


def offers_to_sign_in(page: str) -> bool:
    return "/sign-in" in page.replace('action="/sign-out"', "")


@pytest.fixture
def failing(clinic: Clinic) -> FastAPI:
    """The pages, and two of their own that fail: with a name in the message, and for want of the ledger."""
    app = create_app(clinic.deps(public_base=BASE))

    @app.get("/broken")
    def broken() -> None:
        raise ValueError("Doe^John 1.2.840.99 cannot be drawn")

    @app.get("/api/broken")
    def broken_too() -> None:
        raise sqlite3.ProgrammingError("Doe^John")

    @app.get("/no-ledger")
    def no_ledger() -> None:
        raise LedgerError("The ledger cannot be written: disk I/O error.")

    return app


@pytest.fixture
def signed_in(clinic: Clinic, browse: Browse, failing: FastAPI) -> Browser:
    _, token = clinic.reader()
    browser = browse(failing)
    browser.sign_in(token)
    return browser


@pytest.mark.parametrize(
    "address", ["/nothing", "/static/x/none.css", "/panel/choose/" + "x" * 22, "/panel/" + "x" * 22]
)
def test_an_unknown_page_has_the_look_of_the_others_and_a_way_on(signed_in: Browser, address: str) -> None:
    answer = signed_in.get(address, headers=HTML)
    assert answer.status_code == 404 and answer.text.count("<h1>") == 1
    assert "pages.css" in answer.text and "M. Bode" in answer.text and "Sign out" in answer.text
    assert ways_on(answer.text) == ["/panel"] and not offers_to_sign_in(answer.text)


def test_the_signed_out_are_offered_to_sign_in_and_come_back(browse: Browse, failing: FastAPI) -> None:
    stranger = browse(failing)
    unknown = stranger.get("/nothing", headers=HTML)
    assert unknown.status_code == 404 and ways_on(unknown.text) == ["/sign-in"]
    shut = stranger.get("/docs", headers=HTML)
    assert shut.status_code == 401 and ways_on(shut.text) == ["/sign-in?next=/docs"]
    assert ways_on(browse().get("/nothing", headers=HTML).text) == ["/live"], "on bare loopback looking is open"


@pytest.mark.parametrize(
    ("method", "address", "status", "sentence"),
    [
        ("GET", "/api/nothing", 404, "There is no such page."),
        ("GET", "/nothing", 404, "There is no such page."),
        ("DELETE", "/panel", 405, "This address is not for that."),
        ("POST", "/api/votes", 422, "body: Field required"),
        ("GET", "/panel?StudyInstanceUID=1..2", 422, "StudyInstanceUID is not a DICOM UID."),
        ("GET", "/broken", 500, "Something went wrong in the program; the node's log says where."),
        ("GET", "/no-ledger", 503, "The ledger cannot be used now; the node's log says why."),
    ],
)
def test_programs_get_json(signed_in: Browser, method: str, address: str, status: int, sentence: str) -> None:
    answer = signed_in.request(method, address)
    assert (answer.status_code, answer.json()) == (status, {"detail": sentence})


def test_a_refused_method_says_which_is_not(signed_in: Browser) -> None:
    answer = signed_in.delete("/panel", headers=HTML)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "<h1>This address is not for that.</h1>" in answer.text


def test_a_malformed_address_is_a_page_for_people(signed_in: Browser) -> None:
    answer = signed_in.get("/panel/choose/x", headers=HTML)
    assert answer.status_code == 422
    assert "<h1>This address is not complete, or not right.</h1>" in answer.text
    assert "handles: String should" in answer.text


def test_a_form_that_is_refused_is_a_page_too(clinic: Clinic, browse: Browse) -> None:
    browser = browse(sign_ins_per_minute=1)
    form = {"login": "anna", "pin": "271828"}
    wrong = browser.post("/sign-in", data=form, headers=HTML)
    assert wrong.status_code == 401 and "Login and PIN do not match." in wrong.text
    limited = browser.post("/sign-in", data=form, headers=HTML)
    assert limited.status_code == 429 and "<h1>Too many attempts; wait a minute.</h1>" in limited.text
    assert ways_on(limited.text) == ["/live"]


def test_the_programs_own_fault_is_a_page_and_one_line_without_what_was_sent(
    signed_in: Browser, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = signed_in.get("/broken?StudyInstanceUID=1.2.840.99", headers=HTML)
    assert answer.status_code == 500 and "M. Bode" in answer.text
    assert ways_on(answer.text) == ["/broken", "/panel"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    said = [record.getMessage() for record in caplog.records]
    assert said == ["a page failed: ValueError in a library"]
    assert signed_in.get("/api/broken").json() == {
        "detail": "Something went wrong in the program; the node's log says where."
    }
    out, err = capfd.readouterr()
    assert not re.search(r"Doe|1\.2\.840\.99|Traceback", caplog.text + answer.text + out + err)


def test_the_line_names_the_place_in_the_program(
    signed_in: Browser, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("Doe^John")

    monkeypatch.setattr("qc_node.web.votes.cases.resolve", fail)
    assert signed_in.get("/launch?StudyInstanceUID=1.2.3", headers=HTML).status_code == 500
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"a page failed: KeyError in web/pages/panel\.py:\d+ \(launch\)", line)


def test_without_the_ledger_the_page_still_comes(signed_in: Browser) -> None:
    answer = signed_in.get("/no-ledger", headers=HTML)
    assert answer.status_code == 503 and "Try again" in answer.text


def test_the_sign_in_page_is_for_the_signed_out(clinic: Clinic, browse: Browse, signed_in: Browser) -> None:
    clinic.ledger.readers.change(clinic.ledger.readers.all()[0]["reader_id"], name="<b>M. Bode")
    shown = signed_in.get("/sign-in?next=/live").text
    assert "<form id=" not in shown and 'name="pin"' not in shown
    assert "You are signed in as <bdi>&lt;b&gt;M. Bode</bdi>." in shown and 'href="/live"' in shown
    form = browse().get("/sign-in").text
    assert 'name="pin"' in form and "qc-node readers link" in form and "readers add" not in form
