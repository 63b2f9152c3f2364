"""The command line as a whole: its first page, its errors, its exit codes."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from qc_node.cli import main as cli
from qc_node.cli.main import COMMANDS, main, main_group

HEAVY = ("torch", "pydicom", "SimpleITK", "scipy", "fastapi", "sqlite_utils", "pydantic", "PIL")


def first_line(command: click.Command) -> str:
    return (command.help or "").splitlines()[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_page_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    with click.Context(main_group) as context:
        command = main_group.get_command(context, name)
    assert command is not None and command.name == name
    assert first_line(command) == COMMANDS[name][1]


def test_the_first_page_lists_every_command_in_whole_sentences() -> None:
    page = " ".join(CliRunner().invoke(main_group, ["--help"]).output.partition("Commands:")[2].split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in page and line.endswith(".")
    assert "..." not in page


@pytest.mark.parametrize("group", ["evaluate", "models", "outbox", "readers", "train", "votes"])
def test_a_group_lists_its_commands_in_whole_sentences(group: str) -> None:
    page = CliRunner().invoke(main_group, [group, "--help"]).output.partition("Commands:")[2]
    assert page.strip() and "..." not in page


def test_help_imports_no_heavy_library() -> None:
    code = f"import sys; from qc_node.cli.main import main_group; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, ""),
        (["no-such-command"], 2, "No such command 'no-such-command'"),
        (["outbox", "again"], 2, "Give the ids that `qc-node outbox list` shows, or --all."),
        (["run", "--config", "/nowhere.toml"], 1, "qc-node: The configuration /nowhere.toml cannot be read"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
        sys.exit(0)
    assert left.value.code == code
    printed = capsys.readouterr().err
    assert said in printed and "Traceback" not in printed


def test_an_unexpected_error_is_a_sentence_and_with_debug_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("of something")

    monkeypatch.setattr(cli.main_group, "main", broken)
    for words, shows in ((["doctor"], False), (["doctor", "--debug"], True)):
        with pytest.raises(SystemExit) as left:
            main(words)
        printed = capsys.readouterr().err
        assert left.value.code == 1 and "unexpected ZeroDivisionError: of something" in printed
        assert ("Traceback" in printed) is shows
