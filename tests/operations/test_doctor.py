"""The doctor finds each fault, names the key, and changes nothing."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from qc_node.classifiers import catalogue
from qc_node.cli.main import main_group
from qc_node.config import PeerSettings, Settings, load
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.integrity import Checked
from qc_node.networks import weights
from qc_node.operations import doctor, machine
from qc_node.operations.diagnosis import Diagnosis, Level
from qc_node.operations.offers import WORDS
from qc_node.parts import oidc_options
from qc_node.spool import RESTORING
from qc_node.web.access.oidc import Provider
from tests.ledger.damaged import DAMAGES, filled
from tests.operations.test_health import file_size_limit
from tests.web.issuer import Issuer

FOLDERS = {spec.stage: spec.model_folder for spec in catalogue.specs()}


def say_nothing(peer: PeerSettings) -> None:
    """A peer that answers."""


def refuse(peer: PeerSettings) -> None:
    raise QcNodeError("the connection was refused.")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for stage, folder in FOLDERS.items():
        directory = tmp_path / "models" / folder
        directory.mkdir(parents=True)
        (directory / "net.safetensors").write_bytes(b"weights of " + stage.value.encode())
        weights.write_card(directory, f"{folder}-net", "1.0", stage.value, ["net.safetensors"], {})
    return tmp_path / "models"


@pytest.fixture
def settings(tmp_path: Path, models: Path, free_port: Callable[[], int]) -> Callable[..., Settings]:
    ports = {"NODE": free_port(), "WEB": free_port(), "METRICS": free_port()}

    def make(text: str = "", **environ: str) -> Settings:
        path = tmp_path / "qc-node.toml"
        path.write_text('[[peer]]\nname = "MR1"\nae_title = "MR1"\nhost = "127.0.0.1"\nport = 104\n' + text)
        defaults = {f"QC_NODE_{section}__PORT": str(port) for section, port in ports.items()}
        defaults |= {
            "QC_NODE_NODE__DATA_DIR": str(tmp_path / "data"),
            "QC_NODE_CLASSIFY__MODELS_DIR": str(models),
            "QC_NODE_DISK__LOW_WATERMARK_GB": "0",
        }
        return load(path, defaults | environ)

    return make


def take_all(peer: PeerSettings) -> Collection[str]:
    return WORDS


def said(
    settings: Settings,
    *levels: Level,
    echo: doctor.Echo = say_nothing,
    negotiate: doctor.Negotiate = take_all,
    **options: Any,
) -> list[str]:
    checks = doctor.examine(settings, echo, negotiate, **options)
    assert all(c.sentence.endswith((".", "?")) and "\n" not in c.sentence for c in checks)
    return [c.sentence for c in checks if c.level in levels]


def faults(settings: Settings, echo: doctor.Echo = say_nothing) -> list[str]:
    return said(settings, Level.FAULT, echo=echo)


def test_a_healthy_machine(settings: Callable[..., Settings], tmp_path: Path) -> None:
    assert faults(settings()) == []
    assert not (tmp_path / "data").exists(), "the doctor makes no folder"


def test_a_silent_peer(settings: Callable[..., Settings]) -> None:
    (fault,) = faults(settings(), refuse)
    assert "[[peer]] MR1" in fault and "the connection was refused" in fault


def test_altered_and_missing_models(settings: Callable[..., Settings], models: Path) -> None:
    folders = list(FOLDERS.values())
    (models / folders[0] / "net.safetensors").write_bytes(b"other weights")
    (models / folders[1] / "net.safetensors").unlink()
    altered, missing = faults(settings())
    assert "is not the one its card describes" in altered
    assert "is missing" in missing


def test_a_taken_port(settings: Callable[..., Settings]) -> None:
    s = settings()
    with socket.socket() as taken:
        taken.bind((s.node.host, s.node.port))
        taken.listen()
        (fault,) = faults(s)
        assert fault == f"[node] port {s.node.port} on 127.0.0.1 is already in use by another program."


def test_a_running_node_may_hold_its_port(settings: Callable[..., Settings], tmp_path: Path) -> None:
    s = settings()
    (tmp_path / "data").mkdir()
    fd = os.open(tmp_path / "data" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with socket.socket() as ours:
            ours.bind((s.node.host, s.node.port))
            ours.listen()
            assert faults(s) == []
    finally:
        os.close(fd)


def test_little_disk(settings: Callable[..., Settings]) -> None:
    (fault,) = faults(settings(QC_NODE_DISK__LOW_WATERMARK_GB="1000000"))
    assert "GB free; below 1e+06 GB images are refused" in fault


def test_a_data_folder_that_is_a_file(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    (fault,) = faults(settings())
    assert "[node] data_dir" in fault and "is not a folder" in fault


def test_images_on_another_file_system(settings: Callable[..., Settings], tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to try")
    (tmp_path / "data" / "tmp").mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        (tmp_path / "data" / "images").symlink_to(other)
        (fault,) = faults(settings())
        assert "no image can be stored" in fault and "cross-device" in fault


def test_a_disk_and_a_ledger_that_take_no_more(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with closing(Ledger(tmp_path / "data" / "ledger.sqlite")) as of_the_node:
        of_the_node.series.counts()
        with file_size_limit(2000):
            disk, ledger = faults(settings())
    assert "no image can be stored" in disk and "ledger.sqlite cannot be written" in ledger
    assert faults(settings()) == []
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["ledger.sqlite"], "nothing is left behind"


def test_a_network_file_system(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "file_system_of", lambda folder: ("nfs4", "server:/export"))
    (fault,) = faults(settings())
    assert "network file system (nfs4)" in fault


def test_reports_on_another_file_system(settings: Callable[..., Settings], tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to try")
    for name in ("tmp", "images"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        (tmp_path / "data" / "reports").symlink_to(other)
        (fault,) = faults(settings())
        assert "no file can be stored" in fault and "reports" in fault and "cross-device" in fault


def test_a_ledger_from_the_future_is_not_touched(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "ledger.sqlite"
    Ledger(path).close()
    assert faults(settings()) == []
    with sqlite3.connect(path) as conn:
        conn.execute("PRAGMA user_version = 999")
    (fault,) = faults(settings())
    assert "newer qc-node (schema 999)" in fault


def test_a_ledger_that_is_none(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.sqlite").write_bytes(b"not a database, but longer than a header" * 100)
    (fault,) = faults(settings())
    assert "is damaged (file is not a database)" in fault and "qc-node restore" in fault


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_a_ledger_is_a_fault(
    damage: str, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    path = filled(tmp_path / "data" / "ledger.sqlite")
    assert faults(settings()) == []
    DAMAGES[damage](path)
    (fault,) = faults(settings())
    assert fault.startswith(f"The ledger {path} is damaged (") and "qc-node restore" in fault


def test_a_look_at_a_ledger_that_is_not_finished_says_so(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    Ledger(tmp_path / "data" / "ledger.sqlite").close()
    assert any("Every page of the ledger is sound" in line for line in said(settings(), Level.OK))
    monkeypatch.setattr(doctor, "quick_check", lambda path, limit_s: Checked(False, (), limit_s))
    (warning,) = [line for line in said(settings(), Level.WARNING, ledger_s=7) if "pages" in line]
    assert "for 7 s and not to the end" in warning and "--ledger-s 70" in warning


def test_reports_without_a_ledger_are_a_warning(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "data" / "reports").mkdir(parents=True)
    (tmp_path / "data" / "reports" / "a.dcm").write_bytes(b"x")
    assert any("no ledger" in line for line in said(settings(), Level.WARNING))
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["reports"], "the doctor makes nothing"


def test_a_restore_that_was_not_finished(settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / RESTORING).touch()
    (fault,) = faults(settings())
    assert "was not finished" in fault


def test_a_relative_data_folder_of_a_configuration_elsewhere(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings(QC_NODE_NODE__DATA_DIR="data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    told = said(here, Level.WARNING, config=tmp_path / "qc-node.toml")
    assert any("is relative" in line for line in told)
    monkeypatch.chdir(tmp_path)
    told = said(here, Level.WARNING, config=Path("qc-node.toml"))
    assert not any("is relative" in line for line in told)


def test_warnings_and_questions_do_not_fail_the_doctor(settings: Callable[..., Settings], tmp_path: Path) -> None:
    config = tmp_path / "whole.toml"
    s = settings()
    ports = "".join(
        f"[{name}]\nport = {getattr(s, name).port}\n" for name in ("web", "metrics")
    )  # fmt: skip
    config.write_text(
        f'[node]\nport = {s.node.port}\ndata_dir = "data"\n{ports}[disk]\nlow_watermark_gb = 0\n'
        '[[peer]]\nname = "MR1"\nae_title = "MR1"\n'
    )
    result = CliRunner().invoke(main_group, ["doctor", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "WARN   [node] data_dir data is relative" in result.output
    assert not (Path.cwd() / "data").exists()


def test_a_receiver_that_nobody_may_use(settings: Callable[..., Settings]) -> None:
    (fault,) = faults(settings(QC_NODE_PEER="[]"))
    assert "Nobody may send images" in fault


def test_pages_open_to_the_network(settings: Callable[..., Settings]) -> None:
    (fault,) = faults(settings(QC_NODE_WEB__HOST="0.0.0.0"))
    assert "needs [web] secret" in fault


def test_a_gpu_that_is_not_there(settings: Callable[..., Settings]) -> None:
    (fault,) = faults(settings(QC_NODE_CLASSIFY__DEVICE="cuda:77"))
    assert "cuda:77" in fault


def of_provider(settings: Settings, **said: Any) -> list[Diagnosis]:
    """What the doctor says of the OpenID provider, asked by the code that signs people in."""
    options = oidc_options(settings)
    assert options is not None
    provider = Provider(replace(options, **said), lambda: 0.0)
    found = doctor.examine(settings, say_nothing, provider=provider.check)
    return [check for check in found if "OpenID" in check.sentence or "[oidc]" in check.sentence]


def test_an_openid_provider(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer()
    try:
        asked = settings(QC_NODE_OIDC__ISSUER=issuer.address, QC_NODE_OIDC__CLIENT_ID="qc-node")
        (fine,) = of_provider(asked)
        assert fine.ok and fine.sentence == f"The OpenID provider {issuer.address} answers."
        issuer.described = {"token_endpoint": None}
        (fault,) = of_provider(asked)
        assert not fault.ok and "names no token_endpoint" in fault.sentence
        issuer.described = {"issuer": "https://evil.example"}
        assert "names itself 'https://evil.example'" in of_provider(asked)[0].sentence
        open_to_all = settings(
            QC_NODE_OIDC__ISSUER=issuer.address, QC_NODE_OIDC__CLIENT_ID="qc-node", QC_NODE_WEB__HOST="0.0.0.0"
        )
        assert "needs [web] public_base" in of_provider(open_to_all)[0].sentence
    finally:
        issuer.stop()
    (fault,) = of_provider(asked)
    assert fault.sentence == f"The OpenID provider {issuer.address} cannot be used: no connection."
    monkeypatch.setitem(sys.modules, "authlib.integrations.requests_client", None)
    (fault,) = of_provider(asked)
    assert fault.sentence == "[oidc] needs the extra oidc: pip install 'qc-node[oidc]'."


def test_the_command_asks_the_provider(tmp_path: Path, settings: Callable[..., Settings]) -> None:
    settings('[oidc]\nissuer = "http://127.0.0.1:9/realm"\nclient_id = "qc-node"\n')
    said = CliRunner().invoke(main_group, ["doctor", "--config", str(tmp_path / "qc-node.toml")])
    assert said.exit_code == 1
    assert "The OpenID provider http://127.0.0.1:9/realm cannot be used: no connection." in said.output
