"""A node of one's own in a real process, and small series to send to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from qc_node.demo.series import Sample, datasets
from qc_node.ledger import Ledger
from tests.peers import find_free_port, wait_for

CRASH_FOLDER = Path(__file__).parent / "crash"
ROOT = Path(__file__).resolve().parents[2]
READY_S = 90.0


class NodeProcess:
    """``qc-node run`` with a configuration of its own.

    Parameters
    ----------
    folder
        Configuration, data folder and log; survives :meth:`kill`, so that a restarted node finds everything.
    pacs
        ``(ae_title, port)`` of the PACS on loopback.
    crash
        ``module:Class.method:before|after:N`` where the node is killed, once (see ``crash/``).
    """

    def __init__(
        self,
        folder: Path,
        pacs: tuple[str, int] | None,
        *,
        crash: str | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        data_dir: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.port, self.web_port, self.metrics_port = (find_free_port() for _ in range(3))
        self.config = folder / "qc-node.toml"
        self.crash = crash
        sections: dict[str, dict[str, Any]] = {
            "node": {
                "port": self.port,
                "data_dir": str(self.data_dir),
                "accept_unknown_callers": True,
            },
            "web": {"port": self.web_port},
            "metrics": {"port": self.metrics_port},
            "completion": {"quiet_s": 1.5, "ask_pacs": False, "confirm_s": 1.0, "study_quiet_s": 5.0},
            "disk": {"low_watermark_gb": 0.001},
            "pacs": {"destination": "PACS", "storage_commitment": False} if pacs else {},
        }
        for name, values in (settings or {}).items():
            sections[name] = {**sections.get(name, {}), **values}
        text = "".join(
            f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items())
            for name, values in sections.items()
        )
        if pacs:
            text += (
                f'[[peer]]\nname = "PACS"\nae_title = "{pacs[0]}"\nhost = "127.0.0.1"\nport = {pacs[1]}\n'
                'role = ["send", "accept", "find"]\n'
            )
        self.config.write_text(text)
        self.log = folder / "node.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> NodeProcess:
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if self.crash:
            env |= {
                "PYTHONPATH": os.pathsep.join((str(CRASH_FOLDER), str(ROOT))),
                "QC_TEST_CRASH": self.crash,
                "QC_TEST_CRASH_FLAG": str(self.folder / "crashed"),
            }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qc_node", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        if wait:
            wait_for(self.ready, READY_S)
        return self

    def ready(self) -> bool:
        """Whether the node says that it can take and deliver work."""
        assert self.process is not None
        assert self.process.poll() is None, f"the node ended:\n{self.log.read_text()[-3000:]}"
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.web_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> str:
        return self.get("/metrics", self.metrics_port)[1]

    def ledger(self) -> Ledger:
        return Ledger(self.data_dir / "ledger.sqlite")

    def dead(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def kill(self) -> None:
        """``kill -9`` of the node with everything below it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def terminate(self, timeout: float = 40.0) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


def ct_sample(slices: int = 20, size: int = 64, seed: int = 0) -> Sample:
    """A soft-tissue cylinder with noise in air: quick to send and to judge, of no use to a physician."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    slab = np.where(x**2 + (1.4 * y) ** 2 < 0.6, 40, -1000)
    voxels = (slab[None] + rng.normal(0, 10, (slices, size, size))).astype(np.int16)
    affine = np.diag([400 / size, 400 / size, 5.0, 1.0])
    return Sample(
        "cylinder",
        "CT",
        voxels,
        affine,
        "TEST1",
        "Test^Cylinder",
        f"ACC{seed}",
        "CT test",
        "CT 5.0",
        "CHEST",
        "CT1",
    )


def write_series(sample: Sample, folder: Path) -> list[Path]:
    """The sample as DICOM files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, ds in enumerate(datasets(sample, datetime(2026, 1, 2, 3, 4, 5))):
        paths.append(folder / f"{number:04}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def settle(seconds: float) -> None:
    """Give a mistake the time to show itself (a second report, a lost row)."""
    time.sleep(seconds)
