"""`qc-node run` with something wrong: one sentence, exit code 1, no traceback, and nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qc_node import weights
from qc_node.stage.registry import FOLDERS


@pytest.fixture
def run(tmp_path: Path, free_port: Callable[[], int]) -> Callable[..., str]:
    """A function that runs the node with `environ` on top, expects it to refuse, and returns its last line."""

    def call(*arguments: str, **environ: str) -> str:
        defaults = {f"QC_NODE_{section}__PORT": str(free_port()) for section in ("NODE", "WEB", "METRICS")}
        defaults |= {"QC_NODE_NODE__DATA_DIR": str(tmp_path / "data"), "QC_NODE_DISK__LOW_WATERMARK_GB": "0"}
        result = subprocess.run(
            [sys.executable, "-m", "qc_node", *(arguments or ("run",))],
            env=os.environ | defaults | environ, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert result.returncode == 1, result.stderr
        assert "Traceback" not in result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("qc-node: ") and last.endswith(".") and "unexpected" not in last
        return last

    return call


@contextmanager
def taken() -> Iterator[str]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield str(s.getsockname()[1])


def test_a_misspelt_key(run: Callable[..., str], tmp_path: Path) -> None:
    config = tmp_path / "qc-node.toml"
    config.write_text("[node]\nprot = 104\n")
    assert "line 2: unknown key [node] prot (did you mean port?)" in run("run", "--config", str(config))


def test_a_configuration_that_is_not_there(run: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere.toml cannot be read" in run("run", "--config", str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize("section", ["WEB", "METRICS"])
def test_a_port_in_use(run: Callable[..., str], section: str) -> None:
    with taken() as port:
        last = run(**{f"QC_NODE_{section}__PORT": port})
    assert port in last and "in use" in last


def test_the_data_folder_cannot_be_made(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "data folder" in run(QC_NODE_NODE__DATA_DIR=str(tmp_path / "file" / "data"))


def test_no_models(run: Callable[..., str], tmp_path: Path) -> None:
    assert "There is no model card" in run(QC_NODE_CLASSIFY__MODELS_DIR=str(tmp_path))


def test_a_model_that_was_altered(run: Callable[..., str], tmp_path: Path) -> None:
    for stage, folder in FOLDERS.items():
        directory = tmp_path / "models" / folder
        directory.mkdir(parents=True)
        (directory / "net.safetensors").write_bytes(b"weights")
        weights.write_card(directory, "net", "1.0", stage.value, ["net.safetensors"], {})
        (directory / "net.safetensors").write_bytes(b"other weights")
    last = run("models", "verify", QC_NODE_CLASSIFY__MODELS_DIR=str(tmp_path / "models"))
    assert "is not the one its card describes" in last


def test_pages_open_to_the_network_without_a_secret(run: Callable[..., str]) -> None:
    assert "web.secret" in run(QC_NODE_WEB__HOST="0.0.0.0")
