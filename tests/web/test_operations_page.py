"""``/operations``: what waits and what failed, and acts that are those of the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from qc_node.cli.outbox import drop, send_again
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.outbox import acts
from qc_node.web.app import create_app
from qc_node.web.settings import Running
from tests.web.conftest import Browse, Browser, Clinic, brain

SENTENCE = "ARCHIVE answered 0xA900 (data set does not match SOP class)."


def written(clinic: Clinic, study: str, kind: str = "sr", series: str | None = None) -> int:
    """One object of the node's own for the destination ARCHIVE; the number of its delivery."""
    uid = f"2.25.{study.replace('.', '')}{kind}".replace("sr", "1").replace("kos", "2")
    about = clinic.number(series or f"{study}.1")
    clinic.ledger.deliveries.post(
        [WrittenObject(uid, "1.2.840.10008.5.1.4.1.1.88.33", about, study, 1, kind, f"reports/{uid}")],
        ["ARCHIVE"],
        clinic.clock.now,
    )
    return clinic.ledger.deliveries.of_series(about)[-1]["id"]


@pytest.fixture
def troubled(clinic: Clinic) -> dict[str, int]:
    """Three studies: a report that was refused, one tried in vain, and one behind it that was never tried."""
    for study in ("1.1", "1.2"):
        clinic.receive(study, f"{study}.1", accession=f"MR-{study}")
        clinic.judge(f"{study}.1", brain())
    refused, vain, held = written(clinic, "1.1"), written(clinic, "1.2"), written(clinic, "1.2", "kos")
    clinic.ledger.deliveries.failed(refused, SENTENCE)
    clinic.clock.forward(60)
    clinic.ledger.deliveries.retry(vain, clinic.clock.now + 60, "ARCHIVE is not there.")
    clinic.receive("1.3", "1.3.1", scanner="CT_2", modality="CT", accession="CT-7")
    number = clinic.number("1.3.1")
    row = clinic.ledger.series.by_id(number)
    assert row is not None and clinic.ledger.series.close(number, row["last_received"], "test", clinic.clock.now)
    clinic.ledger.series.finish(
        number, 1, "failed", clinic.clock.now, sentence="The pixel data cannot be decoded."
    )
    return {"refused": refused, "vain": vain, "held": held, "series": number}


def delivery_state(clinic: Clinic, number: int) -> str:
    rows = [row for uid in ("1.1.1", "1.2.1") for row in clinic.ledger.deliveries.of_series(clinic.number(uid))]
    return next(row["state"] for row in rows if row["id"] == number)


def operator(clinic: Clinic, browse: Browse, **web: Any) -> Browser:
    _, token = clinic.reader("ops", name="Otto Operator", role="operator")
    browser = browse(**web)
    browser.sign_in(token)
    return browser


def audit(ledger: Ledger) -> list[tuple[str, Any]]:
    rows = (row for row in ledger.audit.after(0) if not row["event"].startswith("reader"))
    return [(row["event"], json.loads(row["detail"])) for row in rows]


def test_the_page_tells_what_is_in_hand(clinic: Clinic, browse: Browse, troubled: dict[str, int]) -> None:
    found = operator(clinic, browse).get("/api/operations").json()
    (archive,) = found["destinations"]
    assert (archive["waiting"], archive["failed"], archive["held"]) == (2, 1, 1)
    assert archive["failing_since"] == archive["oldest"] <= clinic.clock.now - 60
    assert [(d["id"], d["state"], d["last_error"]) for d in found["deliveries"]] == [
        (troubled["refused"], "failed", SENTENCE),
        (troubled["vain"], "pending", "ARCHIVE is not there."),
    ]
    (failed,) = found["failed"]
    assert failed["sentence"] == "The pixel data cannot be decoded." and failed["accession_number"] == "CT-7"
    assert {q["name"]: q["count"] for q in found["queues"]}["judged"] == 2
    assert found["disk_free_bytes"] > 0 and found["quarantine"] == 0 and found["ready"] is True


def test_what_the_process_knows_is_there_too(clinic: Clinic, browse: Browse) -> None:
    deps = replace(
        clinic.deps(),
        running=lambda: Running(2, {"ct": "ct-slices 1.2.0"}),
        readyz=lambda: (False, {"checks": [{"code": "disk_low", "sentence": "The disk is full."}]}),
    )
    found = browse(create_app(deps)).get("/api/operations").json()
    assert found["models"] == {"ct": "ct-slices 1.2.0"} and found["associations"] == 2
    assert found["ready"] is False and found["faults"] == ["The disk is full."]


def test_nobody_reads_an_accession_number_without_signing_in(
    clinic: Clinic, browse: Browse, troubled: dict[str, int]
) -> None:
    answer = browse().get("/api/operations")
    assert answer.status_code == 200
    assert "accession" not in answer.text and "CT-7" not in answer.text and "1.2.1" not in answer.text


def test_the_act_on_the_page_is_the_command(
    clinic: Clinic, browse: Browse, troubled: dict[str, int], tmp_path: Path
) -> None:
    browser = operator(clinic, browse)
    number = troubled["refused"]
    assert browser.post("/api/operations/deliveries/again", json={"ids": [number]}).json() == {"again": 1}
    assert delivery_state(clinic, number) == "pending"
    assert browser.post("/api/operations/deliveries/drop", json={"ids": [number]}).json() == {"dropped": 1}
    assert delivery_state(clinic, number) == "dropped"
    by_page = audit(clinic.ledger)
    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "cli"}"\n')
    (tmp_path / "cli").mkdir()
    other = Clinic(Ledger(tmp_path / "cli" / "ledger.sqlite"), clinic.spool, clinic.clock)
    other.receive("1.1", "1.1.1")
    other.judge("1.1.1", brain())
    same = written(other, "1.1")
    other.ledger.deliveries.failed(same, SENTENCE)
    for command in (send_again, drop):
        done = CliRunner().invoke(command, [str(same), "--config", str(config)])
        assert done.exit_code == 0, done.output
    by_command = audit(other.ledger)
    assert by_page == [(acts.AGAIN, {"deliveries": [number]}), (acts.DROPPED, {"deliveries": [number]})]
    assert [event for event, _ in by_command] == [event for event, _ in by_page]
    assert by_command[0][1].keys() == by_page[0][1].keys()
    assert {row["actor"] for row in other.ledger.audit.after(0) if not row["event"].startswith("reader")} == {
        "qc-node outbox again",
        "qc-node outbox drop",
    }
    shown = browser.get("/api/operations").json()["audit"]
    assert [(row["event"], row["by"]) for row in shown] == [
        (acts.DROPPED, "Otto Operator"),
        (acts.AGAIN, "Otto Operator"),
    ]


def test_all_that_was_refused_goes_again(clinic: Clinic, browse: Browse, troubled: dict[str, int]) -> None:
    browser = operator(clinic, browse)
    assert browser.post("/api/operations/deliveries/all-again").json() == {"again": 1}
    assert browser.post("/api/operations/deliveries/all-again").json() == {"again": 0}
    assert audit(clinic.ledger) == [(acts.AGAIN, {"deliveries": [troubled["refused"]]})], (
        "nothing done, nothing noted"
    )


def test_a_failed_series_is_judged_again_once(clinic: Clinic, browse: Browse, troubled: dict[str, int]) -> None:
    browser, number = operator(clinic, browse), troubled["series"]
    assert browser.post(f"/api/operations/series/{number}/judge-again", json={}).status_code == 200
    row = clinic.ledger.series.by_id(number)
    assert row is not None and (row["state"], row["run"]) == ("queued", 2)
    assert browser.post(f"/api/operations/series/{number}/judge-again", json={}).status_code == 409
    assert audit(clinic.ledger) == [(acts.JUDGE_AGAIN, {"series": number})]


def test_what_is_not_there_is_said_and_nothing_is_done(
    clinic: Clinic, browse: Browse, troubled: dict[str, int]
) -> None:
    browser = operator(clinic, browse)
    answer = browser.post("/api/operations/deliveries/drop", json={"ids": [troubled["vain"], 999]})
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "There is no unfinished delivery with the id 999.",
    )
    assert delivery_state(clinic, troubled["vain"]) == "pending"
    assert audit(clinic.ledger) == []
    with pytest.raises(QcNodeError, match="no unfinished delivery"):
        acts.send_again(clinic.ledger, [999], "somebody", 1.0)


@pytest.mark.parametrize("role", ["radiologist", "technologist", "expert", "physicist"])
def test_only_an_operator_acts(clinic: Clinic, browse: Browse, troubled: dict[str, int], role: str) -> None:
    _, token = clinic.reader("other", name="Other", role=role)
    browser = browse()
    for expected in (401, 403):
        for act in ("again", "drop", "all-again"):
            answer = browser.post(f"/api/operations/deliveries/{act}", json={"ids": [troubled["vain"]]})
            assert answer.status_code == expected, (act, answer.text)
        answer = browser.post(f"/api/operations/series/{troubled['series']}/judge-again", json={})
        assert answer.status_code == expected
        if expected == 401:
            browser.sign_in(token)
    assert audit(clinic.ledger) == []


def test_on_the_network_only_operators_look(clinic: Clinic, browse: Browse) -> None:
    web = {"public_base": "https://qc.example"}
    _, token = clinic.reader("other", name="Other")
    browser = browse(**web)
    assert browser.get("/operations").headers["location"] == "/sign-in?next=/operations"
    assert browser.get("/api/operations").status_code == 401
    bearer = {"authorization": f"Bearer {token}"}
    assert browser.get("/operations", headers=bearer).status_code == 403
    assert browser.get("/api/operations", headers=bearer).status_code == 403
    _, theirs = clinic.reader("ops", name="Otto", role="operator")
    bearer = {"authorization": f"Bearer {theirs}"}
    page = browser.get("/operations", headers=bearer)
    assert page.status_code == 200 and 'href="/operations"' in page.text
    assert 'href="/operations"' not in browser.get("/stats", headers={"authorization": f"Bearer {token}"}).text


def test_another_sites_page_cannot_act(clinic: Clinic, browse: Browse, troubled: dict[str, int]) -> None:
    browser = operator(clinic, browse)
    answer = browser.post(
        "/api/operations/deliveries/drop",
        json={"ids": [troubled["vain"]]},
        headers={"origin": "https://evil.example"},
    )
    assert answer.status_code == 403
    assert delivery_state(clinic, troubled["vain"]) == "pending"
