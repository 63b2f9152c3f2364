"""Launch URLs of viewers and worklists end on an opaque address."""

from __future__ import annotations

import re

import pytest

from qc_node.domain import QcNodeError
from qc_node.web.votes.cases import Launch, parse_launch
from tests.web.conftest import Browse, Clinic


@pytest.mark.parametrize(
    ("query", "launch"),
    [
        ({"StudyInstanceUID": "1.2.3"}, Launch("1.2.3")),
        ({"requestType": "STUDY", "studyUID": "1.2.3"}, Launch("1.2.3")),
        ({"requesttype": "study", "accessionNumber": " A 12 "}, Launch(accession_number="A 12")),
        ({"StudyInstanceUIDs": "1.2.3"}, Launch("1.2.3")),
        ({"SeriesInstanceUID": "1.2.3.1"}, Launch(series_uid="1.2.3.1")),
        ({"theme": "dark"}, None),
        ({"iss": "https://fhir.example", "launch": "xyz", "hub.topic": "t"}, None),
        ({"patientID": "4711", "studyUID": "1.2.3"}, Launch("1.2.3")),
    ],
)
def test_what_is_understood(query: dict[str, str], launch: Launch | None) -> None:
    assert parse_launch(query) == launch


@pytest.mark.parametrize(
    "query",
    [
        {"studyUID": "1.2/3"},
        {"requestType": "PATIENT", "studyUID": "1.2"},
        {"accession": "a\\b"},
        {"accession": "a\x00b"},
    ],
)
def test_what_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(QcNodeError):
        parse_launch(query)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("launch?iss=https%3A%2F%2Ffhir.example&launch=xyz", "SMART on FHIR launches are not supported"),
        ("panel?patientID=4711", "A patient cannot be opened here"),
        ("IHEInvokeImageDisplay?requestType=STUDY&patientID=4711", "A patient cannot be opened here"),
    ],
)
def test_a_launch_that_opens_no_study_says_so(browse: Browse, query: str, sentence: str) -> None:
    answer = browse().get(f"/{query}", headers={"accept": "text/html"})
    assert answer.status_code == 422 and f"<h1>{sentence}" in answer.text
    assert "4711" not in answer.text and "xyz" not in answer.text


def test_launch_answers_303_to_an_opaque_address(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.2.3", "1.2.3.1", accession="A-77")
    browser = browse()
    by_uid = browser.get("/panel?StudyInstanceUID=1.2.3")
    by_number = browser.get("/IHEInvokeImageDisplay?requestType=STUDY&accessionNumber=A-77")
    assert by_uid.status_code == by_number.status_code == 303
    assert by_uid.headers["location"] == by_number.headers["location"]
    assert re.fullmatch(r"/panel/[A-Za-z0-9_-]{22}", by_uid.headers["location"])
    asked = browser.get(by_uid.headers["location"])
    assert asked.headers["location"].startswith("/sign-in?next=%2Fpanel%2F")


def test_one_number_two_studies_asks(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.2.3", "1.2.3.1", accession="A-77", description="Head")
    clinic.receive("1.2.4", "1.2.4.1", accession="A-77", description="Neck")
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    page = browser.get(browser.get("/panel?AccessionNumber=A-77").headers["location"])
    assert "Head" in page.text and "Neck" in page.text
    assert len(re.findall(r'Received\s+<time datetime="20', page.text)) == 2, "what tells two alike apart"
    body = {"key": "key-00000001", "vote": "good", "accession_number": "A-77"}
    assert browser.post("/api/votes", json=body).status_code == 409


def test_a_study_that_was_launched_before_it_arrived(clinic: Clinic, browse: Browse) -> None:
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    case = browser.get("/panel?StudyInstanceUID=1.2.3").headers["location"].split("/")[-1]
    assert not browser.show(case)["known"]
    clinic.receive("1.2.3", "1.2.3.1", accession="A-77", modality="CT")
    shown = browser.show(case)
    assert shown["known"] and shown["accession_number"] == "A-77"
    assert browser.vote(shown, "good", "key-00000001").status_code == 201
    assert clinic.ledger.votes.all()[0]["modality"] == "CT"


def test_search_and_recent(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.2.3", "1.2.3.1", accession="A-77")
    clinic.receive("1.2.4", "1.2.4.1", accession="A-78")
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    listed = [s["accession_number"] for s in browser.get("/api/recent").json()["recent"]]
    assert listed == ["A-78", "A-77"]
    found = browser.post("/api/search", json={"text": " A-77 "}).json()["found"]
    assert [s["accession_number"] for s in found] == ["A-77"]
    assert browser.post("/api/search", json={"text": "1.2.4"}).json()["found"][0]["accession_number"] == "A-78"
