"""Attempts that must fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qc_node.domain import QcNodeError
from qc_node.web.access import readers, security
from qc_node.web.app import create_app
from qc_node.web.server import serve
from qc_node.web.settings import check_bind, load_or_make_secret
from qc_node.web.votes import cases
from tests.part_settings import web_options
from tests.web.conftest import BASE, SECRET, Browse, Browser, Clinic, brain

STUDY, SERIES = "1.2.3.4", "1.2.3.4.1"

SignedIn = tuple[Browser, readers.Reader, str, str]
"""A browser, whose it is, the personal link, and the case of the study."""


@pytest.fixture
def signed_in(clinic: Clinic, browse: Browse) -> SignedIn:
    clinic.receive(STUDY, SERIES, accession="A-1", description="<script>alert(1)</script>")
    clinic.judge(SERIES, brain(), description="<img src=x onerror=alert(2)>")
    reader, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    return browser, reader, token, cases.open_study(clinic.deps(), STUDY)


def test_vote_without_sign_in(clinic: Clinic, browse: Browse) -> None:
    body = {"key": "key-00000001", "vote": "good", "study_instance_uid": STUDY}
    assert browse().post("/api/votes", json=body).status_code == 401
    assert clinic.ledger.votes.count() == 0


def of_version_0_1(secret: str, payload: str) -> str:
    """A cookie as version 0.1 signed it: those sessions end with the upgrade."""
    mac = hmac.new(secret.encode(), f"session\x00{payload}".encode(), hashlib.sha256).digest()
    return f"{payload}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "forge",
    [
        "other token",
        "never given",
        "other secret",
        "no signature",
        "cut",
        "garbage",
        "other purpose",
        "the ledger's own name",
        "of version 0.1",
        "of version 0.2",
    ],
)
def test_forged_cookie(clinic: Clinic, browse: Browse, signed_in: SignedIn, forge: str) -> None:
    browser, reader, _, _ = signed_in
    genuine = browser.cookies[security.COOKIE]
    payload, signature = genuine.rsplit(".", 1)
    token = security.signer(SECRET, security.SESSION).loads(genuine)
    never_given = security.session_cookie(SECRET, "A" * 43)
    value = {
        "other token": f"{never_given.rsplit('.', 1)[0]}.{signature}",
        "never given": never_given,
        "other secret": security.session_cookie("x" * 40, token),
        "no signature": payload,
        "cut": genuine[:-1],
        "garbage": "é" * 50,
        "other purpose": security.signer(SECRET, "launch").dumps(token),
        "the ledger's own name": security.session_cookie(SECRET, security.hash_token(token)),
        "of version 0.1": of_version_0_1(SECRET, f"{reader.reader_id}:1:{int(clinic.clock())}"),
        "of version 0.2": security.signer(SECRET, "session").dumps([reader.reader_id, 1, int(clinic.clock())]),
    }[forge]
    browser = browse()
    answer = browser.post(
        "/api/votes",
        json={"key": "key-00000001", "vote": "good", "study_instance_uid": STUDY},
        headers={"cookie": f"{security.COOKIE}={value}".encode()},
    )
    assert answer.status_code == 401
    assert clinic.ledger.votes.count() == 0


def test_old_session(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, *_ = signed_in
    assert browser.get("/api/me").json()["reader"]
    clinic.clock.forward(91 * 86_400)
    assert browser.get("/api/me").json()["reader"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": BASE, "sec-fetch-site": "cross-site"},
        {"origin": BASE, "sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_origin(clinic: Clinic, signed_in: SignedIn, headers: dict[str, str]) -> None:
    browser, _, _, case = signed_in
    shown = browser.show(case)
    body = {"key": "key-00000001", "vote": "good", "case": case, "presentation": shown["presentation"]}
    assert browser.post("/api/votes", json=body, headers=headers).status_code == 403
    assert clinic.ledger.votes.count() == 0


def test_no_origin_at_all(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, _, case = signed_in
    del browser.headers["origin"]
    assert browser.post(f"/api/cases/{case}/show").status_code == 403


def test_dns_rebinding(signed_in: SignedIn) -> None:
    browser, *_ = signed_in
    for host in ("evil.example", "127.0.0.1.evil.example:8080", ""):
        assert browser.get("/api/board", headers={"host": host}).status_code == 400


def test_disabled_reader_keeps_history_and_nothing_else(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, reader, token, case = signed_in
    shown = browser.show(case)
    browser.vote(shown, "good", "key-00000001")
    readers.disable(clinic.ledger, "mbh", clinic.clock())
    assert browser.vote(shown, "poor", "key-00000002").status_code == 401
    assert browser.post("/api/sign-in", json={"token": token}).status_code == 401
    bearer = {"authorization": f"Bearer {token}"}
    body = {"key": "key-00000003", "vote": "good", "study_instance_uid": STUDY}
    assert browser.post("/api/votes", json=body, headers=bearer).status_code == 401
    assert [row["reader_id"] for row in clinic.ledger.votes.all()] == [reader.reader_id]


def test_replayed_request(clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, _, case = signed_in
    shown = browser.show(case)
    browser.vote(shown, "poor", "key-00000001")
    browser.vote(shown, "withdrawn", "key-00000002", withdraws="key-00000001")
    replay = browser.vote(shown, "poor", "key-00000001")
    assert replay.status_code == 200 and replay.json()["mine"] is None
    assert clinic.ledger.votes.count() == 2


def test_somebody_elses_presentation(clinic: Clinic, browse: Browse, signed_in: SignedIn) -> None:
    browser, _, _, case = signed_in
    shown = browser.show(case)
    _, token = clinic.reader("other", name="O. Ther")
    thief = browse()
    thief.sign_in(token)
    assert thief.vote(shown, "poor", "key-00000001").status_code == 409
    assert thief.vote(thief.show(case), "poor", "key-00000001", reader=shown["reader"]).status_code == 409


def test_script_in_a_description(browse: Browse, clinic: Clinic, signed_in: SignedIn) -> None:
    browser, _, _, _case = signed_in
    clinic.receive("1.2.3.5", "1.2.3.5.1", accession="A-1", description="<script>alert(3)</script>")
    page = browser.get(browser.get("/launch?AccessionNumber=A-1").headers["location"]).text
    assert "<script>alert" not in page and html.escape("<script>alert(1)</script>") in page
    policy = browser.get("/panel").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy


@pytest.mark.parametrize("page", ["/panel", "/live", "/sign-in", "/docs"])
def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(signed_in: SignedIn, page: str) -> None:
    browser, *_ = signed_in
    answer = browser.get(page)
    assert answer.status_code == 200
    assert "<script>" not in answer.text and "style=" not in answer.text and " on" + "click=" not in answer.text
    assert "http://" not in answer.text and "https://" not in answer.text and "//cdn" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "uid",
    [
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "1.2.3/../../x",
        "1..2",
        "1." * 40,
        "1\n.2",
        "1.2.3%00",
    ],
)
def test_path_in_a_uid(clinic: Clinic, signed_in: SignedIn, uid: str) -> None:
    browser, *_ = signed_in
    assert browser.get(f"/api/series/{uid}".replace("\n", "%0a")).status_code in (404, 422)
    assert browser.get("/panel", params={"StudyInstanceUID": uid}).status_code == 422
    body = {"key": "key-00000001", "vote": "good", "study_instance_uid": uid}
    assert browser.post("/api/votes", json=body).status_code == 422
    assert clinic.ledger.votes.count() == 0


@pytest.mark.parametrize("name", ["..%2fledger.db", "a.png", "../ledger.db", "0" * 32 + "-../x.png"])
def test_path_in_a_thumbnail(signed_in: SignedIn, name: str) -> None:
    browser, *_ = signed_in
    assert browser.get(f"/thumbnails/{name}").status_code in (404, 422)


def test_ten_megabytes(signed_in: SignedIn) -> None:
    browser, *_ = signed_in
    big = b'{"key": "' + b"x" * 10_000_000 + b'"}'
    assert browser.post("/api/votes", content=big).status_code == 413

    def slowly() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 50_000

    assert (
        browser.post("/api/votes", content=slowly(), headers={"content-type": "application/json"}).status_code
        == 413
    )


def test_guessing_pins(clinic: Clinic, browse: Browse) -> None:
    clinic.reader("anna", name="Anna", pin="271828")
    browser = browse()
    codes = [browser.post("/sign-in", data={"login": "anna", "pin": f"{n:06}"}).status_code for n in range(12)]
    assert codes[:10] == [401] * 10 and codes[10:] == [429] * 2
    assert browser.post("/sign-in", data={"login": "anna", "pin": "271828"}).status_code == 429
    clinic.clock.forward(60)
    answer = browser.post("/sign-in", data={"login": "ANNA", "pin": "271828", "next": "//evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/panel")


def test_a_slow_check_of_a_pin_holds_up_nobody_else(
    clinic: Clinic, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.reader("anna", name="Anna", pin="271828")
    started, go_on = threading.Event(), threading.Event()

    def slow_scrypt(pin: str, kept: str) -> bool:
        started.set()
        return go_on.wait(20) and pin == "271828"

    monkeypatch.setattr(security, "pin_matches", slow_scrypt)
    server = serve(create_app(clinic.deps()), "127.0.0.1", 0)

    def ask(path: str, body: bytes | None = None) -> tuple[int, str]:
        request = urllib.request.Request(server.url + path, body, {"origin": server.url})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.url

    try:
        with ThreadPoolExecutor() as pool:
            signing_in = pool.submit(ask, "/sign-in", b"login=anna&pin=271828&next=/live")
            assert started.wait(10)
            assert ask("/healthz")[0] == 200 and ask("/api/board")[0] == 200
            assert not signing_in.done(), "it still waits for the check"
            go_on.set()
            assert signing_in.result() == (200, f"{server.url}/live")
    finally:
        go_on.set()
        server.stop()


def test_a_link_of_somebody_else_asks_first(clinic: Clinic, browse: Browse, signed_in: SignedIn) -> None:
    browser, reader, _, _ = signed_in
    _, other = clinic.reader("other", name="O. Ther")
    assert browser.post("/api/sign-in", json={"token": other}).status_code == 409
    assert browser.get("/api/me").json()["reader"] == reader.reader_id
    assert browser.post("/api/sign-in", json={"token": other, "instead": True}).status_code == 200


def test_too_many_votes(clinic: Clinic, browse: Browse) -> None:
    _, token = clinic.reader()
    browser = browse(votes_per_minute=3)
    browser.sign_in(token)
    codes = [
        browser.post(
            "/api/votes", json={"key": f"key-{n:08}", "vote": "good", "study_instance_uid": "1.2"}
        ).status_code
        for n in range(5)
    ]
    assert codes == [201, 201, 201, 429, 429]


def test_trusted_header_only_from_the_proxy(clinic: Clinic, browse: Browse) -> None:
    clinic.reader("anna", name="Anna")
    named = {"x-remote-user": "anna"}
    assert (
        browse(trusted_user_header="X-Remote-User", trusted_proxies=("testclient",))
        .get("/api/me", headers=named)
        .json()["name"]
        == "Anna"
    )
    assert browse(trusted_user_header="X-Remote-User").get("/api/me", headers=named).json()["reader"] is None
    assert browse().get("/api/me", headers=named).json()["reader"] is None


def test_looking_needs_a_reader_unless_on_bare_loopback(browse: Browse) -> None:
    assert browse().get("/api/board").status_code == 200
    assert browse().get("/api/board", headers={"x-forwarded-for": "10.0.0.7"}).status_code == 401
    assert browse(public_base=BASE).get("/api/board").status_code == 401
    assert browse(host="0.0.0.0").get("/api/board").status_code == 401


def test_opening_to_the_network_needs_readers_and_a_secret() -> None:
    web = web_options(host="0.0.0.0")
    with pytest.raises(QcNodeError, match=r"web\.secret"):
        check_bind(web, 3, secret_configured=False)
    with pytest.raises(QcNodeError, match="reader"):
        check_bind(web, 0, secret_configured=True)
    check_bind(web, 1, secret_configured=True)
    check_bind(web_options(), 0, secret_configured=False)
    with pytest.raises(QcNodeError, match="shorter"):
        web_options(secret="short")


@pytest.mark.parametrize(
    ("frames", "wanted"), [((), "samesite=lax"), (("https://pacs.example",), "samesite=none")]
)
def test_cookies_are_as_strict_as_the_place_of_the_panel_allows(
    clinic: Clinic, browse: Browse, frames: tuple[str, ...], wanted: str
) -> None:
    _, token = clinic.reader()
    browser = browse(public_base="https://qc.example", frame_ancestors=frames)
    answer = browser.post("/api/sign-in", json={"token": token}, headers={"origin": "https://qc.example"})
    cookie = answer.headers["set-cookie"].lower()
    assert wanted in cookie and "httponly" in cookie and "secure" in cookie
    policy = answer.headers["content-security-policy"]
    assert policy.endswith(" ".join(["frame-ancestors 'self'", *frames]))
    assert ("x-frame-options" in answer.headers) is not bool(frames)


def test_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "web.secret"
    assert load_or_make_secret(path) == load_or_make_secret(path)
    assert path.stat().st_mode & 0o077 == 0


def test_tokens_and_pins_are_kept_as_hashes(clinic: Clinic) -> None:
    _, token = clinic.reader(pin="271828")
    kept = str(clinic.ledger.readers.all())
    assert token not in kept and "271828" not in kept


def test_pins_and_links_of_version_0_1_still_open() -> None:
    salt, key = (
        "000102030405060708090a0b0c0d0e0f",
        "6474b6b975d164c697084ba1772aa1ba7d36cb5deb7c4c1cd7c1f3fc3114cdde",
    )
    assert security.pin_matches("271828", f"scrypt${salt}${key}")
    assert not security.pin_matches("271829", f"scrypt${salt}${key}")
    assert security.hash_token("a-personal-link").startswith("b2d555b63b786b9d9cd962ac940ed396b3de3ff43bb0fb05")


def test_no_uid_and_no_accession_number_reaches_a_log(
    clinic: Clinic, browse: Browse, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", logger="qc_node")
    caplog.set_level("DEBUG", logger="uvicorn")
    server = serve(browse().app, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"{server.url}/launch?AccessionNumber=SECRET-77", timeout=5) as answer:
            assert "SECRET-77" not in answer.url
    finally:
        server.stop()
    out, err = capfd.readouterr()
    assert "SECRET-77" not in caplog.text + out + err


def test_port_in_use_is_a_sentence(browse: Browse) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(QcNodeError, match=r"web port 127\.0\.0\.1:\d+ cannot be opened"):
            serve(browse().app, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("number", [1 << 63, 10**30])
def test_a_number_that_no_row_can_have_is_refused_not_a_fault(clinic: Clinic, browse: Browse, number: int) -> None:
    _, token = clinic.reader("ops", role="operator")
    browser = browse()
    browser.sign_in(token)
    asked = [
        browser.get(f"/api/slices/{number}"),
        browser.get(f"/api/slices/{number}/axial/0"),
        browser.post(f"/api/alarms/{number}/acknowledge"),
        browser.post(f"/api/verdicts/{number}/labels", json={"labels": {"motion": "0"}}),
        browser.post(f"/api/operations/series/{number}/judge-again"),
        browser.post("/api/operations/deliveries/again", json={"ids": [number]}),
        browser.post("/api/operations/deliveries/drop", json={"ids": [number]}),
        browser.post("/api/review/search", json={"after": [1e9, number]}),
    ]
    assert [answer.status_code for answer in asked] == [422] * len(asked)


def test_the_api_is_described_to_those_who_may_look(browse: Browse) -> None:
    assert browse().get("/openapi.json").json()["info"]["title"] == "qc-node"
    outside = browse(host="0.0.0.0")
    assert outside.get("/openapi.json").status_code == outside.get("/docs").status_code == 401
