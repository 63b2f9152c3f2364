"""A data folder with a series in each state, a backup of it, and small disks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qc_node.domain import Finding, ModelIdentity, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations import restore as restoring
from qc_node.operations.restore import Restored
from qc_node.spool import Spool
from tests.end_to_end.node_process import CRASH_FOLDER, ROOT
from tests.peers.process import require

STATES = ("receiving", "queued", "failed", "skipped", "reported", "undelivered")
NOW = 2e9
"""A time after that of every file of the tests."""


def quiet(*_: object) -> None:
    """Show no progress."""


class Site:
    """A data folder with one series in each state, as a node leaves it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root)
        self.ledger = Ledger(root / "ledger.sqlite")
        for number, state in enumerate(STATES):
            self.add(state, number)
        (root / "web-secret").write_text("s" * 64)

    def add(self, state: str, number: int, images: int = 2) -> None:
        names = [self.receive(state, number, image) for image in range(images)]
        series_id = self.series_id(state, number)
        if state in ("receiving", "object"):
            return
        row = self.ledger.series.by_id(series_id)
        assert row is not None
        self.ledger.series.close(series_id, row["last_received"], "quiet_time", 50.0)
        if state in ("failed", "skipped"):
            self.ledger.series.claim(51.0, 100)
            self.ledger.series.finish(series_id, 1, state, 52.0, sentence="Because.")
        if state in ("reported", "undelivered"):
            self.ledger.series.claim(51.0, 100)
            self.judge(series_id, number, names[0])
            self.report(series_id, f"1.9.{number}", ("PACS",))
            if state == "reported":
                (delivery,) = [d for d in self.ledger.deliveries.unfinished() if d["series_id"] == series_id]
                self.ledger.deliveries.sent(delivery["id"], 54.0)

    def receive(self, state: str, number: int, image: int) -> str:
        study, series, uid = f"1.{number}", f"1.{number}.{state_number(state)}", f"1.{number}.5.{image}"
        name = self.spool.image_name(study, series, uid)
        self.spool.store(name, f"image {uid}".encode() * 50)
        self.ledger.instances.add(
            [Received(uid, "1.2.840.10008.5.1.4.1.1.4", series, study, "1.2", "MR", "MR1", name, 1, 10.0 + image)]
        )
        return name

    def series_id(self, state: str, number: int) -> int:
        row = self.ledger.series.get(f"1.{number}.{state_number(state)}")
        assert row is not None
        return row["series_id"]

    def judge(self, series_id: int, number: int, source: str) -> None:
        verdict = Verdict(
            Stage.CT, ModelIdentity("m", "1", "ab" * 32), (Finding(Question.CONTRAST_ENHANCED, True),)
        )
        training = self.spool.training_name(f"1.{number}", 1)
        picture = self.spool.thumbnail_name(f"1.{number}", 1, "axial")
        self.spool.store(training, b"input")
        self.spool.store(picture, b"picture")
        self.ledger.verdicts.add(
            series_id,
            1,
            verdict,
            claims={},
            warnings=(),
            timings={},
            source_path=source,
            at=52.0,
            report_after=52.0,
            training_path=training,
            thumbnails=[picture],
            routed=True,
        )
        self.ledger.series.finish(series_id, 1, "judged", 52.0, stage=Stage.CT)

    def report(self, series_id: int, uid: str, destinations: tuple[str, ...]) -> None:
        name = self.spool.report_name(uid)
        self.spool.store(name, b"report " + uid.encode())
        written = WrittenObject(uid, "1.2.840.10008.5.1.4.1.1.88.33", series_id, "1", 1, "sr", name, None)
        self.ledger.deliveries.post([written], destinations, 53.0, reported=(series_id, 1))

    def images(self, *states: str) -> set[str]:
        found = set()
        for number, state in enumerate(STATES):
            if state in states:
                found |= set(self.ledger.instances.paths_of_series(self.series_id(state, number)))
        return found


def state_number(state: str) -> int:
    return sum(state.encode())


def restore(folder: Path, into: Path, replace_ledger: bool = False) -> Restored:
    return restoring.restore(folder, into, replace_ledger, NOW, quiet)


def files(root: Path, *tops: str) -> set[str]:
    return {str(p.relative_to(root)) for top in tops for p in (root / top).rglob("*") if p.is_file()}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    (mount, umount) = require("mount", "umount")
    folder.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("this sandbox does not let tests mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run([umount, "-l", folder], check=False)


def command(tmp_path: Path, *words: str, crash: str | None = None) -> subprocess.CompletedProcess[str]:
    """``qc-node`` in a process of its own, killed at a point of `crash/`."""
    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n')
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (CRASH_FOLDER, ROOT)))}
    if crash is not None:
        env |= {
            "QC_TEST_CRASH": crash,
            "QC_TEST_CRASH_FLAG": str(tmp_path / f"crashed-{len(list(tmp_path.iterdir()))}"),
        }
    words = ("-m", "qc_node", *words, "--config", str(config))
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=60, start_new_session=True
    )
