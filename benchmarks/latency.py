"""Last image received → report acknowledged, and the memory of all processes while eight senders send.

    python -m benchmarks.latency [--repeats 5] [--skip-memory]

Starts Orthanc as PACS and a node in its own processes, sends invented series over C-STORE and reads the times from
the node's ledger (series.last_received → deliveries.sent_at).  Nothing is asserted; the figures are printed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
from pydicom.uid import generate_uid

from qc_node.config import default_models_dir
from qc_node.demo.datasets import Sample, datasets
from qc_node.demo.samples import SampleHead
from qc_node.demo.samples import samples as demo_samples
from tests.end_to_end.node_process import NodeProcess
from tests.peers import Orthanc, store, wait_for

SENDERS = 8


def mr_175(models: Path) -> Sample:
    """The demonstration's good head, cut to 175 sagittal slices of 256 × 256."""
    sample = next(iter(demo_samples(models)))
    return replace(sample, voxels=fit(sample.voxels, (175, 256, 256), 0))


def ct_300(models: Path) -> Sample:
    """The demonstration's head CT on 300 slices of 512 × 512."""
    sample = list(demo_samples(models))[-1]
    head = SampleHead(models, (0.67, 0.5, 0.5), np.random.default_rng(5))
    voxels = np.clip(np.rint(head.hounsfield()), -1024, 3071).astype(np.int16)
    return replace(sample, voxels=fit(voxels, (300, 512, 512), -1000), affine=head.affine())


def fit(voxels: np.ndarray, shape: tuple[int, int, int], fill: int) -> np.ndarray:
    """Crop or pad about the centre."""
    out = np.full(shape, fill, np.int16)
    source, target = [], []
    for have, want in zip(voxels.shape, shape, strict=True):
        n = min(have, want)
        source.append(slice((have - n) // 2, (have - n) // 2 + n))
        target.append(slice((want - n) // 2, (want - n) // 2 + n))
    out[tuple(target)] = voxels[tuple(source)]
    return out


def write(sample: Sample, folder: Path) -> str:
    """The sample as a fresh series; returns its UID."""
    folder.mkdir(parents=True)
    uid = ""
    for number, ds in enumerate(datasets(sample, datetime.now().astimezone())):
        uid = str(ds.SeriesInstanceUID)
        ds.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)
    return uid


def latency(node: NodeProcess, folder: Path, uid: str) -> dict[str, float]:
    """Send one series; seconds from the last image to the acknowledged report, and by step."""
    assert store([folder], node.port).ok
    ledger = node.ledger()
    sql = (
        "SELECT deliveries.sent_at, series.last_received, verdicts.timings, series.closed_at, verdicts.judged_at"
        " FROM deliveries JOIN reports USING (sop_instance_uid) JOIN series USING (series_id)"
        " JOIN verdicts USING (series_id) WHERE series_uid = ? AND sent_at IS NOT NULL"
    )
    row = wait_for(lambda: ledger.db.row(sql, (uid,)), 120, every=0.02)
    last = row["last_received"]
    return {
        "total": row["sent_at"] - last,
        "close": row["closed_at"] - last,
        "judge": row["judged_at"] - row["closed_at"],
        "report + send": row["sent_at"] - row["judged_at"],
    }


def resident(node: NodeProcess) -> float:
    """Resident memory of the node and everything below it, in GB (shared pages are counted in each)."""
    assert node.process is not None
    root = psutil.Process(node.process.pid)
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e9


def memory(node: NodeProcess, template: Path, scratch: Path) -> float:
    """The largest resident memory while eight senders send a CT each and the classifier works."""
    import pydicom

    folders = []
    for number in range(SENDERS):
        folder = scratch / f"memory-{number}"
        folder.mkdir()
        study, series = generate_uid(), generate_uid()
        for path in template.iterdir():
            ds = pydicom.dcmread(path)
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series, generate_uid()
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.save_as(folder / path.name)
        folders.append(folder)
    senders = [threading.Thread(target=store, args=([folder], node.port)) for folder in folders]
    for sender in senders:
        sender.start()
    peak = 0.0
    ledger = node.ledger()
    while any(s.is_alive() for s in senders) or any(k in ledger.series.counts() for k in ("queued", "judging")):
        peak = max(peak, resident(node))
        time.sleep(0.1)
    return max(peak, resident(node))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    options = parser.parse_args()
    models = default_models_dir()
    scratch = Path(tempfile.mkdtemp(prefix="qc-node-latency-"))
    print("last image received → report acknowledged by Orthanc, seconds", flush=True)
    print(f"{'series':<22}{'median':>8}{'min':>7}{'max':>7}   close  judge  report+send (medians)", flush=True)
    try:
        with Orthanc(scratch / "orthanc") as pacs:
            node = NodeProcess(scratch / "node", (pacs.ae_title, pacs.port)).start()
            try:
                series = {"MR 175 × 256 × 256": mr_175(models), "CT 300 × 512 × 512": ct_300(models)}
                for name, sample in series.items():
                    runs = []
                    for repeat in range(options.repeats + 1):
                        folder = scratch / f"{sample.modality}-{repeat}"
                        uid = write(sample, folder)
                        runs.append(latency(node, folder, uid))
                        if repeat:
                            shutil.rmtree(folder)
                    runs = runs[1:]  # the first warms the caches
                    middle = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
                    totals = [r["total"] for r in runs]
                    print(
                        f"{name:<22}{middle['total']:>8.2f}{min(totals):>7.2f}{max(totals):>7.2f}"
                        f"   {middle['close']:.2f}   {middle['judge']:.2f}   {middle['report + send']:.2f}",
                        flush=True,
                    )
                print(f"resident memory of all processes, idle: {resident(node):.2f} GB", flush=True)
                if not options.skip_memory:
                    peak = memory(node, scratch / "CT-0", scratch)
                    print(f"largest, {SENDERS} senders of 300-slice CTs while classifying: {peak:.2f} GB")
            finally:
                node.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
