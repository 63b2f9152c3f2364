"""Arrows point one way: import-linter's contracts hold, and they speak of every part of the program."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
EVERYBODY = {"qc_node.cli.main", "qc_node.node", "qc_node.demo"}
"""Those who may know everyone."""


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    arguments = ["--config", str(config), "--no-cache"]
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_no_import_breaks_a_contract() -> None:
    result = lint_imports(ROOT / "pyproject.toml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Contracts: {len(CONTRACTS['contracts'])} kept, 0 broken." in result.stdout


def test_a_broken_arrow_would_be_found(tmp_path: Path) -> None:
    config = tmp_path / "arrows.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "qc_node"\n'
        '[[tool.importlinter.contracts]]\nname = "spool knows nobody"\ntype = "forbidden"\n'
        'source_modules = ["qc_node.spool"]\nforbidden_modules = ["qc_node.domain"]\n'
    )
    result = lint_imports(config)
    assert result.returncode == 1 and "qc_node.spool -> qc_node.domain" in result.stdout


def parts() -> list[str]:
    """Every part of the program: packages and modules right below the root."""
    package = ROOT / "qc_node"
    found = [p.stem for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    return sorted(name for name in found if not name.startswith("__"))


def floors() -> list[list[str]]:
    """The floors of the contract of arrows, from the top."""
    (contract,) = (c for c in CONTRACTS["contracts"] if c["type"] == "layers")
    assert contract["exhaustive"]
    return [[name.strip() for name in floor.split("|")] for floor in contract["layers"]]


def test_every_part_stands_on_one_floor() -> None:
    named = [name for floor in floors() for name in floor]
    assert sorted(named) == parts()
    assert len(set(named)) == len(named)


def test_classifiers_are_independent_of_each_other() -> None:
    (contract,) = (c for c in CONTRACTS["contracts"] if c["type"] == "independence")
    folders = (ROOT / "qc_node" / "classifiers").iterdir()
    assert sorted(contract["modules"]) == sorted(
        f"qc_node.classifiers.{p.name}" for p in folders if (p / "spec.py").is_file()
    )
