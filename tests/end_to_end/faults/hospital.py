"""A node, a scripted PACS and a modality; the terrible things that happen to them; a look at what is left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom.dataset import Dataset

from qc_node.config import load
from tests.end_to_end.faults import invariants
from tests.end_to_end.faults.invariants import Bounds, Seen
from tests.end_to_end.faults.modality import Modality
from tests.end_to_end.faults.scripted_pacs import AE_TITLE, Script, ScriptedPacs
from tests.end_to_end.node_process import NodeProcess
from tests.peers.process import require, wait_for

WORKER, RECEIVER = "qc_node.engine.worker", "qc_node.receiver.receiving_process"
TABLES = {
    "instances": "SELECT * FROM instances",
    "series": "SELECT series.*, report_after FROM series LEFT JOIN verdicts AS v"
    " ON v.series_id = series.series_id AND v.run = series.run AND v.routed = 1",
    "studies": "SELECT * FROM studies",
    "reports": "SELECT * FROM reports",
    "deliveries": "SELECT * FROM deliveries",
}


class Hospital:
    """Everything that a scenario needs; made by :func:`node_and_pacs`.

    Attributes
    ----------
    node, pacs, modality
        To do more with than there are verbs for.
    """

    def __init__(self, node: NodeProcess, pacs: ScriptedPacs, *, commitment: bool = False) -> None:
        self.node = node
        self.pacs = pacs
        self.modality = Modality(node.port)
        self._commitment = commitment
        pacs.node_port = node.port

    def another_modality(self, ae_title: str) -> Modality:
        """One more sender; what it was acknowledged counts as well."""
        more = Modality(self.node.port, ae_title)
        more.acknowledged = self.modality.acknowledged
        return more

    # -- traffic -----------------------------------------------------------------------------------------
    def sends(self, *series: Sequence[Dataset], pace_s: float = 0.0) -> None:
        """The modality sends each series to the node until every object of it is acknowledged."""
        for one in series:
            self.archives(one)
            self.modality.sends_until_taken(one, pace_s=pace_s)

    def archives(self, series: Iterable[Dataset]) -> None:
        """The PACS has these images as well (it counts them for C-FIND)."""
        for ds in series:
            uid = str(ds.SeriesInstanceUID)
            self.pacs.images[uid] = self.pacs.images.get(uid, 0) + 1

    # -- terrible things ---------------------------------------------------------------------------------
    def kills_node(self) -> None:
        """``kill -9`` of the node with everything below it, and a new start."""
        self.node.kill()
        self.node.start()

    def kills(self, part: str) -> None:
        """``kill -9`` of one of the node's processes (:data:`WORKER`, :data:`RECEIVER`)."""
        self.child(part).kill()

    def child(self, part: str) -> psutil.Process:
        """The node's process that runs the module `part`; waits for it to be there."""
        return wait_for(lambda: next(iter(self._children(part)), None), 60)

    def _children(self, part: str) -> list[psutil.Process]:
        assert self.node.process is not None
        found = []
        for child in psutil.Process(self.node.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if part in child.cmdline():
                    found.append(child)
        return found

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """SIGSTOP for one of the node's processes: it keeps its sockets and does nothing."""
        child = self.child(part)
        child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            child.send_signal(signal.SIGCONT)

    @contextmanager
    def without_pacs(self) -> Iterator[None]:
        """The PACS is gone and comes back."""
        self.pacs.stop()
        try:
            yield
        finally:
            self.pacs.start()

    @contextmanager
    def ledger_locked(self) -> Iterator[None]:
        """Another program (a backup tool) holds the ledger's write lock."""
        conn = sqlite3.connect(self.node.data_dir / "ledger.sqlite", timeout=30.0, isolation_level=None)
        conn.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            conn.execute("ROLLBACK")
            conn.close()

    @contextmanager
    def full_disk(self, but_for: int) -> Iterator[None]:
        """No more than `but_for` bytes fit on the data folder's file system, a small one (:func:`small_disk`)."""
        place = self.node.data_dir.parent
        ballast = place / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(place).free - but_for))
        try:
            yield
        finally:
            ballast.unlink()

    # -- what is left ------------------------------------------------------------------------------------
    def comes_to_rest(self, within_s: float = 60.0, *, explained: int = 0) -> Seen:
        """Wait until nothing is on its way but `explained` deliveries that wait visibly; then all invariants."""

        def at_rest() -> Seen | None:
            seen = self.look(outbox=False)
            left = invariants.unfinished(seen)
            pending = [sentence for sentence in left if sentence.startswith("delivery")]
            return seen if len(left) == len(pending) == explained and self._settled(seen) else None

        try:
            wait_for(at_rest, within_s, every=0.2)
        except AssertionError:
            seen = self.look()
            left = invariants.unfinished(seen)
            raise AssertionError(f"still on its way: {left}\n{seen.failing}\n{self._log()}") from None
        seen = self.look()
        said = invariants.broken(seen)
        assert not said, "\n".join([*said, self._log()])
        return seen

    def _settled(self, seen: Seen) -> bool:
        """Whether each object that was acknowledged has had its row, and each explained one its attempt."""
        tried = [r for r in seen.tables["deliveries"] if r["state"] == "pending"]
        return all(r["last_error"] or _has_earlier(r, tried) for r in tried)

    def look(self, *, outbox: bool = True) -> Seen:
        """What an inspector sees now, with the node running or not."""
        acknowledged = tuple(self.modality.acknowledged)  # before the rows: these are older than the answer
        tables = self._tables()
        alive = self.node.process is not None and self.node.process.poll() is None
        return Seen(
            at=time.time(),
            acknowledged=acknowledged,
            tables=tables,
            read=self._read,
            held=dict(self.pacs.held),
            altered=tuple(self.pacs.altered),
            failing=self.failing_checks() if alive else {"node": "The node is not running."},
            metrics=samples(self.node.metrics()) if alive else {},
            outbox=self.outbox_list() if outbox and _unfinished(tables["deliveries"]) else {},
            commitment=self._commitment,
            bounds=bounds_of(self.node.config),
        )

    def _tables(self) -> dict[str, list[Mapping[str, Any]]]:
        path = self.node.data_dir / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", timeout=30.0, uri=True)) as conn:
            conn.row_factory = sqlite3.Row
            conn.execute("BEGIN")  # one moment for all tables
            return {name: [dict(row) for row in conn.execute(sql)] for name, sql in TABLES.items()}

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.node.data_dir / name).read_bytes()
        except FileNotFoundError:
            return None

    def failing_checks(self) -> dict[str, str]:
        """Checks of ``/readyz`` that fail, with their sentences."""
        try:
            checks = json.loads(self.node.get("/readyz")[1])["checks"]
        except OSError as error:
            return {"web": f"/readyz does not answer ({error})."}
        return {check["name"]: check["sentence"] for check in checks if check["code"] != "ok"}

    def outbox_list(self) -> dict[int, str]:
        """What ``qc-node outbox list`` says of each unfinished delivery."""
        command = [sys.executable, "-m", "qc_node", "outbox", "list", "--config", str(self.node.config)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        lines = (re.split(r" {2,}", line.strip(), maxsplit=5) for line in said.splitlines())
        return {int(f[0]): f[5] if len(f) > 5 else "" for f in lines if f[0].isdigit()}

    def _log(self) -> str:
        return "the node's log ends:\n" + self.node.log.read_text(errors="replace")[-3000:]


def _unfinished(deliveries: Iterable[Mapping[str, Any]]) -> bool:
    return any(row["state"] in ("pending", "failed") for row in deliveries)


def _has_earlier(row: Mapping[str, Any], pending: Sequence[Mapping[str, Any]]) -> bool:
    return any(other["id"] < row["id"] for other in pending)


def samples(text: str) -> dict[str, float]:
    """``/metrics`` as name with labels to value, as PromQL writes a series."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = float(sample.value)
    return found


def bounds_of(config: Path) -> Bounds:
    """For how long things may wait by this configuration."""
    completion = load(config, {}).completion
    return Bounds(
        receiving=max(completion.quiet_s, completion.hard_cap_s) + 10.0,
        study=completion.hard_cap_s + completion.study_quiet_s + 60.0,
    )


@contextmanager
def node_and_pacs(
    folder: Path,
    script: Script | None = None,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Iterator[Hospital]:
    """A running node whose PACS behaves as `script` says.

    It asks the PACS for counts, or for commitment, where the script offers that.  `settings` change the node's
    configuration by section; `options` go to :class:`~tests.end_to_end.node_process.NodeProcess`.
    """
    pacs = ScriptedPacs(script)
    commitment = pacs.script.commit is not None
    wanted: dict[str, dict[str, Any]] = {
        "completion": {"hard_cap_s": 30.0, "ask_pacs": pacs.script.find is not None},
        "pacs": {"destination": "PACS", "storage_commitment": commitment},
    }
    for section, values in (settings or {}).items():
        wanted[section] = {**wanted.get(section, {}), **values}
    node = NodeProcess(folder, (AE_TITLE, pacs.port), settings=wanted, **options)
    try:
        pacs.start()
        node.start()
        yield Hospital(node, pacs, commitment=wanted["pacs"]["storage_commitment"])
    finally:
        node.stop()
        pacs.stop()


@contextmanager
def small_disk(folder: Path, size: str = "32m") -> Iterator[Path]:
    """A file system of `size`; skips the test where mounting is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount, umount = require("mount", "umount")
    folder.mkdir(parents=True)
    if subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this sandbox does not let tests mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run([umount, "-l", str(folder)], check=False)
