"""The analyst page: claimed against found, confirm or correct, labels for later training."""

from __future__ import annotations

import csv
import io

from tests.web.conftest import Browse, Clinic, brain, ct


def fill(clinic: Clinic) -> None:
    clinic.receive("1.1", "1.1.1", scanner="CT_1", modality="CT")
    clinic.judge(
        "1.1.1",
        ct("chest"),
        warnings=("Ordered: abdomen-pelvis with contrast; found: chest without.",),
        claims={"ordered": ["CT abdomen-pelvis with contrast"], "body_part_examined": "ABDOMEN"},
    )
    clinic.receive("1.2", "1.2.1")
    clinic.judge("1.2.1", brain(motion=1))


def test_rows_show_claimed_ordered_and_found(clinic: Clinic, browse: Browse) -> None:
    fill(clinic)
    brain_row, ct_row = browse().get("/api/review").json()["rows"]
    assert (
        ct_row["claimed"] == "t1_mprage_sag · ABDOMEN" and ct_row["ordered"] == "CT abdomen-pelvis with contrast"
    )
    assert ct_row["warnings"] == ["Ordered: abdomen-pelvis with contrast; found: chest without."]
    assert [a["found"] for a in ct_row["answers"]] == ["chest", "no"]
    assert [p["view"] for p in ct_row["mip"]] == ["axial-mip", "coronal-mip", "sagittal-mip"]
    assert [p["view"] for p in ct_row["mid"]] == ["axial", "coronal", "sagittal"]
    assert [a["found"] for a in brain_row["answers"]] == ["no", "no", "1", "0", "0"]
    assert (ct_row["study_uid"], ct_row["series_uid"], ct_row["accession_number"]) == ("1.1", "1.1.1", None)
    assert (ct_row["scanner"], ct_row["description"]) == ("CT_1", "t1_mprage_sag")


def test_confirm_and_correct_become_labels_and_the_verdict_stays(clinic: Clinic, browse: Browse) -> None:
    fill(clinic)
    reader, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    row = browser.get("/api/review").json()["rows"][1]
    answer = browser.post(
        f"/api/verdicts/{row['id']}/labels",
        json={"labels": {"body_part": "abdomen_pelvis", "contrast_enhanced": "no"}},
    )
    assert answer.status_code == 201
    row = browser.get("/api/review").json()["rows"][1]
    assert row["reviewed"] and [(a["found"], a["label"]) for a in row["answers"]] == [
        ("chest", "abdomen_pelvis"),
        ("no", "no"),
    ]
    assert clinic.verdict("1.1.1")["verdict"] == ct("chest")
    labels = clinic.ledger.labels.all()
    assert [(x["question"], x["found"], x["label"], x["reader_id"]) for x in labels] == [
        ("body_part", "chest", "abdomen_pelvis", reader.reader_id),
        ("contrast_enhanced", "no", "no", reader.reader_id),
    ]
    lines = list(csv.DictReader(io.StringIO(browser.get("/review.csv").text)))
    assert [(x["question"], x["label"]) for x in lines if x["series_instance_uid"] == "1.1.1"] == [
        ("body_part", "abdomen_pelvis"),
        ("contrast_enhanced", "no"),
    ]


def test_labels_need_a_reader_and_a_possible_answer(clinic: Clinic, browse: Browse) -> None:
    fill(clinic)
    browser = browse()
    body = {"labels": {"motion": "1"}}
    assert browser.post("/api/verdicts/2/labels", json=body).status_code == 401
    _, token = clinic.reader()
    browser.sign_in(token)
    assert browser.post("/api/verdicts/2/labels", json={"labels": {"motion": "3"}}).status_code == 422
    assert browser.post("/api/verdicts/2/labels", json={"labels": {"body_part": "chest"}}).status_code == 422
    assert browser.post("/api/verdicts/77/labels", json=body).status_code == 404
    assert clinic.ledger.labels.all() == []


def test_who_reviews_does_not_vote_blind_afterwards(clinic: Clinic, browse: Browse) -> None:
    fill(clinic)
    reader, token = clinic.reader()
    browser = browse()
    browser.sign_in(token)
    browser.get("/api/review")
    assert clinic.ledger.readers.has_seen_verdict(reader.reader_id, "1.2", clinic.clock())
