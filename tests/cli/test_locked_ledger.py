"""A command that meets a ledger which another program keeps locked says so in one sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qc_node.cli.main import main
from qc_node.ledger import Ledger, database


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data folder of a node that was asked to drain, so that the next start has a row to write."""
    folder = tmp_path / "data"
    folder.mkdir()
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.audit.add("drain", "cli", 1.0, {})
    ledger.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield folder


@pytest.mark.parametrize(
    "words",
    [("run",), ("readers", "add", "ada", "--name", "Ada", "--site", "Here")],
    ids=lambda words: words[0],
)
def test_a_locked_ledger_is_one_sentence(
    words: tuple[str, ...],
    locked: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    free_port: Callable[[], int],
) -> None:
    ports = "".join(f"[{section}]\nport = {free_port()}\n" for section in ("web", "metrics"))
    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{locked}"\nport = {free_port()}\n{ports}')
    with pytest.raises(SystemExit) as left:
        main([*words, "--config", str(config)])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("qc-node:")]
    assert left.value.code == 1
    assert len(said) == 1 and "database is locked" in said[0] and "ledger.sqlite" in said[0]
    assert "unexpected" not in said[0]
