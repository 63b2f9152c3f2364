"""A configuration in a folder of its own, and a function that runs commands with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from qc_node.cli.main import main_group

Run = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "qc-node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path}"\n')
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Runs a command with the configuration; returns what it prints, and lets its errors through."""

    def invoke(*arguments: str, input: str | None = None) -> str:
        words = [*arguments, "--config", str(config)]
        result = CliRunner().invoke(main_group, words, input=input, catch_exceptions=False, standalone_mode=False)
        return result.output

    return invoke
