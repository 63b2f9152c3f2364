"""``qc-node readers``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qc_node.cli.readers import ROLES
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.web.access.readers import Role
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
    with pytest.raises(QcNodeError, match="no enabled reader"):
        run("readers", "link", "mbh")
    assert Ledger(tmp_path / "ledger.sqlite").readers.count_enabled() == 0


def test_a_link_begins_with_the_address_of_the_proxy(run: Run, config: Path) -> None:
    with config.open("a") as file:
        file.write('[web]\npublic_base = "https://qc.example"\n')
    assert "https://qc.example/sign-in#" in run("readers", "add", "mbh", "--name", "x", "--site", "y")


def test_the_command_knows_every_role() -> None:
    assert list(ROLES) == list(Role)
