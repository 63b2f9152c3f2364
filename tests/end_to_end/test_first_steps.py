"""README's own order: its commands, as an ordinary user gives them, end with a node that takes images."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest

from tests.end_to_end.node_process import ROOT, ct_sample, write_series
from tests.peers import require, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.slow]

NOBODY = 65534


def blocks() -> list[list[str]]:
    """The commands of README's blocks, without their comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```sh\n(.+?)```", text, re.DOTALL)
    return [[line.partition("  #")[0].strip() for line in block.splitlines()] for block in found]


class Somebody(NamedTuple):
    """Who runs the commands: what to put before them, and the Python that this user can run."""

    before: list[str]
    python: str

    @property
    def is_nobody(self) -> bool:
        return bool(self.before)


PACKAGES = sysconfig.get_path("purelib")


def ordinary_user() -> Somebody:
    """Not root; where root's Python is closed to others, the system's of the same version with root's packages."""
    if os.geteuid() != 0:
        return Somebody([], sys.executable)
    (setpriv,) = require("setpriv")
    before = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    for python in filter(None, (sys.executable, system)):
        words = [*before, "sh", "-c", f"PYTHONPATH={PACKAGES} {python} -c 'import torch, pydicom'"]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return Somebody(before, python)
    pytest.skip("no Python with the packages is there that anybody but root can run")


@pytest.fixture
def user() -> Somebody:
    return ordinary_user()


@pytest.fixture
def checkout(user: Somebody) -> Iterator[Path]:
    """What a newcomer has after ``make demo``: files that the commands need, and an environment in ``.venv``."""
    folder = Path(tempfile.mkdtemp(prefix="qc-node-readme-"))
    try:
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "deploy/qc-node.toml"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        program = folder / ".venv" / "bin" / "qc-node"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec "{user.python}" -m qc_node "$@"\n')
        program.chmod(0o755)
        (folder / ".venv" / ".ready").touch()
        write_series(ct_sample(8), folder / "FOLDER")
        if user.is_nobody:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_commands_of_the_readme_end_with_a_node_that_takes_images(
    checkout: Path, user: Somebody, free_port: Callable[[], int]
) -> None:
    require("storescu", "make")
    ports = {section: free_port() for section in ("NODE", "WEB", "METRICS")}
    environment = {
        **{f"QC_NODE_{section}__PORT": str(port) for section, port in ports.items()},
        "QC_NODE_DISK__LOW_WATERMARK_GB": "0.001",
        **{name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ},
        "HOME": str(checkout),
        "PYTHONPATH": os.pathsep.join((str(ROOT), PACKAGES)),
    }
    _, own, sending = blocks()
    assert [command.split()[0] for command in own] == [".venv/bin/qc-node", "cp", ".venv/bin/qc-node", "make"]

    def run(command: str) -> str:
        done = subprocess.run(
            [*user.before, "bash", "-c", command],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def ready() -> bool:
        assert node.poll() is None, (checkout / "node.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['WEB']}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    assert "8" in run(own[0]), "one row for the series"
    run(own[1])
    said = run(own[2])
    assert "FAULT" not in said and "No [pacs] destination is set" in said
    with (checkout / "node.log").open("wb") as log:
        node = subprocess.Popen(
            [*user.before, "bash", "-c", f"exec {own[3]}"],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(ready, 120)
        run(sending[0].replace("11112", str(ports["NODE"])))
        (report,) = wait_for(lambda: list((checkout / "qc-node-data" / "reports").glob("*.dcm")), 60)
        assert pydicom.dcmread(report).Modality == "SR"
        assert "FAULT" not in run(own[2]), "and the doctor finds a running node well"
        if user.is_nobody:
            assert {p.stat().st_uid for p in (checkout / "qc-node-data").rglob("*")} == {NOBODY}
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(60)
