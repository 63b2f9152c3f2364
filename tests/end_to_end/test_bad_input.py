"""Bad input: each is one sentence that names what is wrong, an exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pydicom
import pytest

from qc_node.config import default_models_dir
from tests.end_to_end.node_process import ct_sample, write_series
from tests.peers.process import find_free_port

pytestmark = pytest.mark.slow


def qc_node(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "qc_node", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={**os.environ, **(env or {})},
    )
    assert "Traceback" not in done.stderr
    return done


def one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("qc-node: ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def config(folder: Path, text: str) -> Path:
    path = folder / "qc-node.toml"
    path.write_text(f'{text}\n[node]\ndata_dir = "{folder / "data"}"\nport = {find_free_port()}\n')
    return path


def test_an_unknown_configuration_key(tmp_path: Path) -> None:
    done = qc_node("run", "--config", config(tmp_path, "[completion]\nquiet = 5"))
    one_sentence(done, "line 2", "quiet", "quiet_s")


def test_a_wrong_type_from_the_environment(tmp_path: Path) -> None:
    done = qc_node("run", "--config", config(tmp_path, ""), env={"QC_NODE_WEB__PORT": "eighty"})
    one_sentence(done, "QC_NODE_WEB__PORT")


@pytest.mark.parametrize("fault", ["missing", "altered", "no card"])
def test_weights_that_are_missing_or_altered(tmp_path: Path, fault: str) -> None:
    models = tmp_path / "models"
    shutil.copytree(default_models_dir(), models)
    card = json.loads((models / "ct" / "card.json").read_text())
    victim = models / "ct" / card["files"][0]["name"]
    if fault == "missing":
        victim.unlink()
    elif fault == "altered":
        victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    else:
        (models / "ct" / "card.json").unlink()
    ports = f"[web]\nport = {find_free_port()}\n[metrics]\nport = {find_free_port()}"
    path = config(tmp_path, f'[classify]\nmodels_dir = "{models}"\n{ports}')
    name = "card.json" if fault == "no card" else victim.name
    one_sentence(qc_node("run", "--config", path), name)
    one_sentence(qc_node("models", "verify", "--config", path), name)
    done = qc_node("doctor", "--config", path)
    assert done.returncode == 1 and name in done.stdout


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        path = config(tmp_path, f"[web]\nport = {port}\n[metrics]\nport = {find_free_port()}")
        one_sentence(qc_node("run", "--config", path), str(port))


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    one_sentence(qc_node("run", "--config", config(tmp_path, "")), str(tmp_path / "data"))


def test_paths_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = qc_node("classify", tmp_path / "nowhere", tmp_path / "empty")
    assert done.returncode == 1
    assert "nowhere" in done.stderr and "empty" in done.stderr


def test_wrong_usage_is_exit_code_2() -> None:
    assert qc_node("classify").returncode == 2
    assert qc_node("nonsense").returncode == 2
    assert qc_node("send", "x").returncode == 2


def test_series_that_cannot_be_judged_say_why_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name in ("one slice", "two patients", "no pixels", "good"):
        for path in write_series(ct_sample(6, 64, seed=len(name)), tmp_path / name):
            ds = pydicom.dcmread(path)
            if name == "two patients" and ds.InstanceNumber % 2:
                ds.PatientID = ds.PatientName = "ELSE"
            if name == "no pixels":
                del ds.PixelData
            ds.save_as(path)
            if name == "one slice" and ds.InstanceNumber > 1:
                path.unlink()
    (tmp_path / "garbage.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    names = ("one slice", "two patients", "no pixels", "good", "garbage.dcm")
    done = qc_node("classify", "--json", *(tmp_path / name for name in names))
    assert done.returncode == 1 and "garbage.dcm" in done.stderr
    lines = {
        Path(line["source"]).parts[len(tmp_path.parts)]: line for line in map(json.loads, done.stdout.splitlines())
    }
    assert "slice" in lines["one slice"]["skipped"]
    assert "patient" in lines["two patients"]["skipped"].lower() and "ELSE" not in lines["two patients"]["skipped"]
    assert "Pixel Data" in lines["no pixels"]["skipped"]
    assert lines["good"]["stage"] == "ct" and lines["good"]["results"]["body_part"]


def test_a_zip_bomb_is_one_sentence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.dcm", b"\0" * 50_000_000)
    done = qc_node("classify", tmp_path / "bomb.zip")
    assert done.returncode == 1
    assert "bomb.zip" in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_answers_for_every_command() -> None:
    from qc_node.cli.main import main_group

    for name in main_group.list_commands(None):  # type: ignore[arg-type]
        done = qc_node(name, "--help")
        assert done.returncode == 0 and "Usage:" in done.stdout, name
