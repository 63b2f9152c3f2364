"""Accession numbers that look like the one that was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_node.web.votes import cases
from qc_node.web.votes.numbers import distance, nearest
from tests.web.conftest import Browse, Clinic

KNOWN = ["MR-204417", "MR-204418", "CT-88120", "MR-204471", "A7"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("MR-204147", ["MR-204417", "MR-204418", "MR-204471"]),
        ("mr 204417", ["MR-204417", "MR-204418", "MR-204471"]),
        ("MR-20441", ["MR-204417", "MR-204418", "MR-204471"]),
        ("88120", ["CT-88120"]),
        ("CT", []),
        ("A8", ["A7"]),
        ("TYPO123", []),
        ("   ", []),
    ],
)
def test_what_is_near(typed: str, found: list[str]) -> None:
    assert nearest(typed, KNOWN) == found


def test_of_equally_near_ones_the_newest_come_first() -> None:
    assert nearest("A-100", [f"A-10{n}" for n in range(9, 0, -1)], limit=3) == ["A-109", "A-108", "A-107"]


def slow(a: str, b: str) -> int:
    """Optimal string alignment by the book, the whole table."""
    d = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1)
    return d[-1][-1]


@given(st.text("012", max_size=7), st.text("012", max_size=7), st.integers(0, 3))
def test_the_band_gives_the_distance_of_the_whole_table(a: str, b: str, most: int) -> None:
    true = slow(a, b)
    assert distance(a, b, most) == (true if true <= most else None)


def test_a_typed_number_that_nothing_names_becomes_no_study(clinic: Clinic, browse: Browse) -> None:
    clinic.receive("1.2.3", "1.2.3.1", accession="MR-204417")
    clinic.receive("1.2.4", "1.2.4.1", accession="MR-204418")
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    for typed in ("TYPO123", "1.2.999", "MR-204477"):
        answer = browser.post("/api/search", json={"text": typed}).json()
        assert answer["found"] == []
    assert [s["accession_number"] for s in answer["near"]] == ["MR-204417", "MR-204418"]
    made = clinic.ledger.db.value("SELECT count(*) FROM cases WHERE study_uid IS NULL OR study_uid = '1.2.999'")
    assert made == 0 and clinic.ledger.history.presented() == []
    assert browser.post("/api/search", json={"text": "a\\b"}).status_code == 422


def test_what_a_viewer_or_a_program_named_can_be_typed(clinic: Clinic, browse: Browse) -> None:
    _, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    launched = browser.get("/panel?AccessionNumber=X-1").headers["location"].split("/")[-1]
    assert browser.post("/api/search", json={"text": "X-1"}).json()["found"] == [], "it was never on a screen"
    browser.show(launched)
    named = cases.open_study(clinic.deps(), "1.2.9", accession_number="X-2")
    program = {"key": "key-00000001", "vote": "good", "accession_number": "X-3"}
    assert browser.post("/api/votes", json=program).status_code == 201
    for typed in ("X-1", "X-2", "X-3", "1.2.9"):
        assert len(browser.post("/api/search", json={"text": typed}).json()["found"]) == 1, typed
    assert browser.post("/api/search", json={"text": "1.2.9"}).json()["found"][0]["case"] == named
    old = clinic.ledger.cases.open("t" * 22, "accession:TYPO1", 1.0, accession_number="TYPO1")
    browser.show(old, "search")
    assert browser.post("/api/search", json={"text": "TYPO1"}).json()["found"] == [], "typed before this rule"
