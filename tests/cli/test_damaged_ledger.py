"""Every command that opens a damaged ledger says so in one sentence, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qc_node.cli.main import main
from tests.ledger.damaged import DAMAGES, filled

COMMANDS = {
    "run": ("run",),
    "outbox list": ("outbox", "list"),
    "outbox again": ("outbox", "again", "--all"),
    "outbox drop": ("outbox", "drop", "1"),
    "judge-again": ("judge-again", "1.2.3"),
    "readers list": ("readers", "list"),
    "readers add": ("readers", "add", "ada", "--name", "Ada", "--site", "Here"),
    "readers disable": ("readers", "disable", "ada"),
    "readers link": ("readers", "link", "ada"),
    "votes export": ("votes", "export"),
    "votes stats": ("votes", "stats"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sound") / "ledger.sqlite")


@pytest.fixture
def ledger_file(sound: Path, tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return Path(shutil.copy(sound, tmp_path / "data" / "ledger.sqlite"))


@pytest.fixture
def said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], free_port: Callable[[], int]
) -> Callable[..., tuple[int | str | None, str]]:
    """Runs a command as a shell would; its exit code, and what it writes on standard error."""
    ports = "".join(f"[{section}]\nport = {free_port()}\n" for section in ("web", "metrics"))
    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\nport = {free_port()}\n{ports}')

    def run(*words: str) -> tuple[int | str | None, str]:
        with pytest.raises(SystemExit) as left:
            main([*words, "--config", str(config)])
        return left.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("damage", ["the header", "half of the file", "a folder in its place"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_what_is_damaged(
    command: str, damage: str, ledger_file: Path, said: Callable[..., tuple[int | str | None, str]]
) -> None:
    DAMAGES[damage](ledger_file)
    code, text = said(*COMMANDS[command])
    assert code == 1
    (sentence,) = [line for line in text.splitlines() if line.startswith("qc-node: ")]
    assert f"The ledger {ledger_file} is damaged" in sentence and "qc-node restore" in sentence
    assert "unexpected" not in text and "Traceback" not in text


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_node_does_not_start_with_any_damage(
    damage: str, ledger_file: Path, said: Callable[..., tuple[int | str | None, str]]
) -> None:
    DAMAGES[damage](ledger_file)
    code, text = said("run")
    assert code == 1
    assert text.splitlines()[-1].startswith(f"qc-node: The ledger {ledger_file} is damaged")


def test_an_empty_file_beside_reports_is_no_new_ledger(
    ledger_file: Path, said: Callable[..., tuple[int | str | None, str]]
) -> None:
    ledger_file.write_bytes(b"")
    (ledger_file.parent / "reports").mkdir()
    (ledger_file.parent / "reports" / "0123.dcm").write_bytes(b"x")
    code, text = said("run")
    assert code == 1 and "it is empty, although there are reports beside it" in text
    assert ledger_file.stat().st_size == 0
