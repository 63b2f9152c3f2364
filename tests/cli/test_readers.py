"""``qc-node readers``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qc_node.cli.readers import ROLES
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.web.access.readers import Role
from qc_node.web.access.security import hash_token, pin_matches
from tests.cli.conftest import Run


def test_add_list_disable(run: Run, tmp_path: Path) -> None:
    who = ("--name", "Dr. M. Bode", "--site", "Potsdam")
    added = run("readers", "add", "mbh", *who, "--pin", input="271828\n271828\n")
    assert "http://127.0.0.1:8080/sign-in#" in added
    with pytest.raises(QcNodeError, match="taken"):
        run("readers", "add", "MBH", "--name", "x", "--site", "y")
    listed = json.loads(run("readers", "list", "--json"))
    assert listed["login"] == "mbh" and listed["enabled"]
    assert run("readers", "link", "mbh") != added
    assert "stay" in run("readers", "disable", "mbh")
    assert "disabled" in run("readers", "list")
    with pytest.raises(QcNodeError, match="is disabled; first: qc-node readers enable mbh"):
        run("readers", "link", "mbh")
    assert Ledger(tmp_path / "ledger.sqlite").readers.count_enabled() == 0


def test_what_a_reader_is_can_be_changed(run: Run, tmp_path: Path) -> None:
    run("readers", "add", "mbh", "--name", "Dr. M. Bode", "--site", "Potsdam")
    run("readers", "add", "klee", "--name", "P. Klee", "--site", "Berlin")
    renamed = ("--name", "Dr. M. Bode-Hofmann", "--dicom-name", "Bode-Hofmann^Mechthild", "--login", "mbode")
    assert run("readers", "rename", "mbh", *renamed).strip() == "mbode is Dr. M. Bode-Hofmann."
    assert "expert" in run("readers", "role", "mbode", "expert")
    assert "Berlin" in run("readers", "site", "mbode", "Berlin")
    assert "new PIN" in run("readers", "pin", "mbode", input="271828\n271828\n")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    row = ledger.readers.by_login("mbode")
    assert row is not None
    assert (row["name"], row["dicom_name"]) == ("Dr. M. Bode-Hofmann", "Bode-Hofmann^Mechthild")
    assert (row["role"], row["site"], pin_matches("271828", row["pin_hash"])) == ("expert", "Berlin", True)
    assert "no PIN" in run("readers", "pin", "mbode", "--remove")
    row = ledger.readers.by_login("mbode")
    assert row is not None and row["pin_hash"] is None
    for words, sentence in (
        (("rename", "mbode", "--login", "KLEE"), "is taken"),
        (("rename", "mbode", "--login", "m bode"), "may hold letters"),
        (("rename", "mbode", "--name", " "), "needs a name"),
        (("rename", "nobody", "--name", "x"), "There is no reader 'nobody'; qc-node readers list shows all."),
        (("enable", "mbode"), "is not disabled"),
    ):
        with pytest.raises(QcNodeError, match=sentence):
            run("readers", *words)
    with pytest.raises(QcNodeError, match="6 to 12 digits"):
        run("readers", "pin", "mbode", input="12\n12\n")


def test_a_disabled_reader_can_come_back(run: Run, tmp_path: Path) -> None:
    old = run("readers", "add", "mbh", "--name", "Dr. M. Bode", "--site", "Potsdam").split("#")[1].strip()
    run("readers", "disable", "mbh")
    with pytest.raises(QcNodeError, match="is disabled"):
        run("readers", "pin", "mbh", input="271828\n271828\n")
    new = run("readers", "enable", "mbh").split("#")[1].strip()
    readers = Ledger(tmp_path / "ledger.sqlite").readers
    assert readers.by_token(hash_token(old)) is None
    back = readers.by_token(hash_token(new))
    assert back is not None and back["disabled_at"] is None


def test_each_act_is_audited_and_a_refused_one_is_not(run: Run, tmp_path: Path) -> None:
    run("readers", "add", "mbh", "--name", "Dr. M. Bode", "--site", "Potsdam")
    run("readers", "role", "mbh", "expert")
    run("readers", "site", "mbh", "Berlin")
    run("readers", "rename", "mbh", "--name", "Dr. M. B. Hofmann")
    run("readers", "pin", "mbh", input="271828\n271828\n")
    run("readers", "pin", "mbh", "--remove")
    run("readers", "link", "mbh")
    run("readers", "disable", "mbh")
    run("readers", "disable", "mbh")
    run("readers", "enable", "mbh")
    with pytest.raises(QcNodeError):
        run("readers", "enable", "mbh")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    rows = ledger.audit.after(0)
    assert [(row["event"], row["actor"].removeprefix("qc-node readers ")) for row in rows] == [
        ("reader added", "add"),
        ("reader changed", "role"),
        ("reader changed", "site"),
        ("reader changed", "rename"),
        ("reader with new PIN", "pin"),
        ("reader without PIN", "pin"),
        ("reader with new link", "link"),
        ("reader disabled", "disable"),
        ("reader enabled", "enable"),
    ]
    reader = ledger.readers.all()[0]
    details = [json.loads(row["detail"]) for row in rows]
    assert all(detail["reader"] == reader["reader_id"] for detail in details)
    assert (details[1]["was"], details[1]["is"]) == ({"role": "radiologist"}, {"role": "expert"})
    kept = str([row["detail"] for row in rows])
    assert "271828" not in kept and str(reader["token_hash"]) not in kept


def test_a_link_begins_with_the_address_of_the_proxy(run: Run, config: Path) -> None:
    with config.open("a") as file:
        file.write('[web]\npublic_base = "https://qc.example"\n')
    assert "https://qc.example/sign-in#" in run("readers", "add", "mbh", "--name", "x", "--site", "y")


def test_the_command_knows_every_role() -> None:
    assert list(ROLES) == list(Role)
