"""The expert protocol: gradings, tier, consensus, kappa, ratings.tsv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger, Received
from qc_node.web.pages.annotate import export_ratings, import_ratings
from qc_node.web.votes import gradings
from qc_node.web.votes.exchange import write_csv
from qc_node.web.votes.gradings import Grading, consensus
from tests.report.sources import source
from tests.web.conftest import Browse, Browser, Clinic, brain

GRADINGS = st.one_of(
    st.just(Grading(True)),
    st.builds(Grading, st.just(False), st.booleans(), *(st.integers(0, 2) for _ in range(3))),
)


def test_a_grading_is_whole_or_a_reject() -> None:
    assert Grading(False, True, 0, 1, 0).tier == 2 and Grading(True).tier is None
    for bad in ((True, False, 0, 0, 0), (False, None, 0, 0, 0), (False, True, 0, 3, 0), (False, True, None, 0, 0)):
        with pytest.raises(QcNodeError):
            Grading(*bad)


def grades_of(grading: Grading) -> list[int]:
    return [g for g in (grading.motion, grading.contrast, grading.noise) if g is not None]


@settings(deadline=None)
@given(GRADINGS, GRADINGS)
def test_consensus_is_that_of_the_paper(a: Grading, b: Grading) -> None:
    found = consensus([a, b])
    assert found == consensus([b, a])
    if a.straight_reject != b.straight_reject:
        assert found is None
    elif a.straight_reject:
        assert found == Grading(True)
    else:
        assert found is not None and a.tier is not None and b.tier is not None
        assert found.tier == max(a.tier, b.tier)
        assert found.gadolinium == (a.gadolinium or b.gadolinium)
        assert grades_of(found) == [max(x) for x in zip(grades_of(a), grades_of(b), strict=True)]
        assert len(grades_of(found)) == 3


@pytest.fixture
def experts(clinic: Clinic, browse: Browse) -> list[Browser]:
    for n in range(4):
        clinic.receive(f"1.{n + 1}", f"1.{n + 1}.1")
        clinic.judge(f"1.{n + 1}.1", brain())
    browsers = []
    for n in range(3):
        _, token = clinic.reader(f"e{n}", name=f"E {n}", role="expert")
        browser = browse()
        browser.sign_in(token)
        browsers.append(browser)
    return browsers


def grade(
    browser: Browser,
    number: int,
    key: int,
    reject: bool = False,
    grades: Sequence[int] = (0, 0, 0),
    gadolinium: bool = False,
    **more: Any,
) -> httpx.Response:
    body = {"key": f"grading-{key}", "straight_reject": reject, **more}
    if not reject:
        body |= {"gadolinium": gadolinium} | dict(zip(("motion", "contrast", "noise"), grades, strict=True))
    answer: httpx.Response = browser.post(f"/api/annotate/{number}", json=body)
    return answer


def test_two_raters_blind_to_each_other_then_consensus(clinic: Clinic, experts: list[Browser]) -> None:
    a, b, c = experts
    assert a.get("/api/annotate").json()["todo"] == [1, 2, 3, 4]
    assert grade(a, 1, 1, grades=(1, 0, 0)).json()["saved"]["tier"] == 2
    grade(a, 2, 2, reject=True)
    seen = b.get("/api/annotate/1").json()
    assert seen["mine"] is None and seen["both"] is None, "nothing of the other rater"
    assert len(seen["pictures"]) == 3
    grade(b, 1, 1, grades=(0, 2, 0), gadolinium=True)
    grade(b, 2, 2, grades=(1, 1, 0))
    work = a.get("/api/annotate").json()
    assert (work["todo"], work["done"], work["queue"], work["labels"]) == ([3, 4], [1, 2], [2], 1)
    assert c.get("/api/annotate").json()["todo"] == [3, 4], "two raters are enough"
    assert grade(c, 1, 1).status_code == 409
    both = c.get("/api/annotate/2").json()["both"]
    assert [g["straight_reject"] for g in both] == [True, False]
    assert grade(a, 2, 9, grades=(2, 2, 2), kind="consensus").status_code == 409, "one of the two ratings only"
    assert grade(a, 2, 3, grades=(1, 1, 0), kind="consensus").status_code == 201
    assert a.get("/api/annotate").json()["queue"] == []
    state = gradings.board(clinic.ledger.gradings.current())
    assert state.labels == {"1.1.1": Grading(False, True, 1, 2, 0), "1.2.1": Grading(False, False, 1, 1, 0)}
    assert "Expert protocol" in a.get("/stats").text


def test_what_one_rater_has_begun_comes_first(experts: list[Browser]) -> None:
    a, b, _ = experts
    grade(a, 3, 1)
    assert b.get("/api/annotate").json()["todo"] == [3, 1, 2, 4]


def test_back_and_change_keeps_both_rows(clinic: Clinic, experts: list[Browser]) -> None:
    a, *_ = experts
    grade(a, 1, 1, grades=(1, 0, 0))
    grade(a, 1, 2, grades=(2, 0, 0))
    assert a.get("/api/annotate/1").json()["mine"]["tier"] == 3
    assert grade(a, 1, 2, grades=(2, 0, 0)).json()["duplicate"]
    assert clinic.ledger.db.value("SELECT count(*) FROM gradings") == 2
    assert len(clinic.ledger.gradings.current()) == 1


def test_only_experts_grade(clinic: Clinic, browse: Browse, experts: list[Browser]) -> None:
    _, token = clinic.reader("rad", name="Rad")
    browser = browse()
    assert browser.get("/api/annotate").status_code == 401
    browser.sign_in(token)
    assert browser.get("/api/annotate").status_code == 403 and grade(browser, 1, 1).status_code == 403
    assert grade(experts[0], 1, 1, grades=(3, 0, 0)).status_code == 422
    assert grade(experts[0], 99, 1).status_code == 404


def test_kappa_by_characteristic(clinic: Clinic, experts: list[Browser]) -> None:
    a, b, _ = experts
    for n, (x, y) in enumerate([((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (1, 0, 1)), ((2, 2, 0), (2, 1, 0))], 1):
        grade(a, n, n, grades=x)
        grade(b, n, n, grades=y)
    found = gradings.kappas(gradings.board(clinic.ledger.gradings.current()))
    assert found["motion"].kappa_quadratic == 1.0 and found["motion"].studies == 3
    contrast = found["contrast"].kappa_quadratic
    assert found["contrast"].same == 2 and contrast is not None and 0 < contrast < 1
    assert found["straight_reject"].kappa_quadratic is None, "nobody rejected anything"


def test_ratings_out_and_in(clinic: Clinic, experts: list[Browser], tmp_path: Path) -> None:
    a, b, _ = experts
    grade(a, 1, 1, grades=(1, 0, 0))
    grade(b, 1, 1, grades=(0, 1, 0), gadolinium=True)
    grade(a, 2, 2, reject=True)
    text, sidecar = export_ratings(clinic.ledger)
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert [(r["kind"], r["tier"]) for r in rows] == [
        ("rating", "2"),
        ("rating", "2"),
        ("rating", "n/a"),
        ("consensus", "2"),
    ]
    assert rows[3]["gadolinium"] == "1" and '"Levels"' in sidecar and "E 0" not in text
    other = Ledger(tmp_path / "other.db")
    for row in clinic.ledger.readers.all():
        other.readers.add(
            row["reader_id"], **{k: row[k] for k in ("login", "name", "site", "role", "pseudonym")}, at=1.0
        )
    assert import_ratings(other, text, "ratings.tsv") == 3
    assert import_ratings(other, text, "ratings.tsv") == 0
    assert export_ratings(other)[0] == text
    mine = a.get("/annotate/ratings.tsv").text
    assert mine.count("\n") == 5


def test_a_grading_says_whether_the_verdict_had_been_seen(clinic: Clinic, experts: list[Browser]) -> None:
    a, b, _ = experts
    grade(a, 1, 1)
    assert b.post("/api/review/search", json={"numbers": [1]}).json()["total"] == 1
    grade(b, 1, 1, grades=(1, 0, 0))
    for n in (2, 3):
        grade(a, n, n)
        grade(b, n, n)
    rows = clinic.ledger.gradings.current()
    assert [row["verdict_visible"] for row in rows] == [0, 1, 0, 0, 0, 0]
    text, sidecar = export_ratings(clinic.ledger)
    lines = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert [(line["kind"], line["verdict_visible"]) for line in lines] == [
        ("rating", "0"),
        ("rating", "1"),
        *[("rating", "0")] * 4,
        ("consensus", "1"),
        *[("consensus", "0")] * 2,
    ]
    assert "verdict_visible" in sidecar
    all_of_them = gradings.kappas(gradings.board(rows))["motion"]
    blind = gradings.kappas(gradings.board(gradings.blind(rows)))["motion"]
    assert (all_of_them.studies, all_of_them.same, blind.studies, blind.same) == (3, 2, 2, 2)


def test_what_one_rater_saw_later_does_not_change_what_was_blind(clinic: Clinic, experts: list[Browser]) -> None:
    a, *_ = experts
    grade(a, 1, 1)
    a.post("/api/review/search", json={})
    grade(a, 1, 2, grades=(1, 0, 0))
    seen = [row["verdict_visible"] for row in clinic.ledger.db.rows("SELECT * FROM gradings ORDER BY id")]
    assert seen == [0, 1], "each as it was then; the newest counts"


def test_a_table_of_earlier_versions_comes_in(clinic: Clinic, experts: list[Browser], tmp_path: Path) -> None:
    a, *_ = experts
    grade(a, 1, 1, grades=(1, 0, 0))
    old = "\n".join(line.rpartition("\t")[0] for line in export_ratings(clinic.ledger)[0].splitlines()) + "\n"
    assert old.endswith("Z\n") or old.endswith("+00:00\n")
    (rated,) = gradings.read_ratings(old, "ratings.tsv")
    assert rated.verdict_visible is None and rated.grading.motion == 1


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("motion", "3", "0, 1 or 2"),
        ("tier", "1", "does not follow"),
        ("rater", "nobody", "unknown rater"),
        ("timestamp", "", "no timestamp"),
        ("noise", "n/a", "needs gadolinium"),
        ("motion", "x", "line 2"),
    ],
)
def test_bad_ratings_are_named_and_nothing_comes_in(
    clinic: Clinic, experts: list[Browser], column: str, value: str, sentence: str
) -> None:
    a, *_ = experts
    grade(a, 1, 1, grades=(1, 0, 0))
    rows = list(csv.DictReader(io.StringIO(export_ratings(clinic.ledger)[0]), delimiter="\t"))
    rows[0][column] = value
    stream = io.StringIO()
    write_csv(rows, gradings.TSV, stream)
    text = stream.getvalue().replace(",", "\t")
    with pytest.raises(QcNodeError, match=sentence):
        import_ratings(clinic.ledger, text, "ratings.tsv")
    with pytest.raises(QcNodeError, match="lacks the column"):
        import_ratings(clinic.ledger, "rater\n", "ratings.tsv")


def test_scrolling_through_stored_slices(clinic: Clinic, experts: list[Browser]) -> None:
    a, *_ = experts
    names = []
    for n in (2, 0, 1):
        ds = source()
        ds.SOPInstanceUID = f"1.7.1.{n + 1}"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5 * n], [1, 0, 0, 0, 1, 0]
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10
        pixels[:2] = 400 * n
        ds.PixelData = pixels.tobytes()
        name = f"images/{n}.dcm"
        ds.save_as(clinic.spool.root / name, enforce_file_format=True)
        names.append(
            Received(str(ds.SOPInstanceUID), "1", "1.7.1", "1.7", "1", "MR", "MR", name, 1, clinic.clock.now)
        )
    clinic.ledger.instances.add(names)
    clinic.judge("1.7.1", brain())
    number = clinic.verdict("1.7.1")["id"]
    assert a.get(f"/api/annotate/{number}").json()["slices"] == 3
    tops = []
    for n in range(3):
        answer = a.get(f"/api/annotate/{number}/slices/{n}.png")
        assert answer.headers["content-type"] == "image/png"
        tops.append(int(np.asarray(Image.open(io.BytesIO(answer.content)))[0, 0]))
    assert tops == sorted(tops) and tops[0] < tops[2], "in order of position, not of arrival"
    assert a.get(f"/api/annotate/{number}/slices/3.png").status_code == 404
    assert a.get("/api/annotate/1").json()["slices"] == 0, "no images, no scrolling"
