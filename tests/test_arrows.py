"""Arrows point one way: import-linter's contracts hold, and they speak of every package."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


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


def packages() -> list[str]:
    package = ROOT / "qc_node"
    return sorted(f"qc_node.{p.name}" for p in package.iterdir() if (p / "__init__.py").is_file())


def named() -> set[str]:
    """Everything that a contract speaks of; a line of layers holds names below ``qc_node``, parted by bars."""
    found = {
        m
        for c in CONTRACTS["contracts"]
        for key in ("source_modules", "forbidden_modules", "modules")
        for m in c.get(key, ())
    }
    layers = [layer for c in CONTRACTS["contracts"] for layer in c.get("layers", ())]
    return found | {f"qc_node.{name.strip()}" for layer in layers for name in layer.split("|")}


@pytest.mark.parametrize("package", packages())
def test_every_package_is_in_a_contract(package: str) -> None:
    assert package in named(), f"{package} is in no contract of pyproject.toml"
