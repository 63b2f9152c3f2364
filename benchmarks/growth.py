"""What a node costs that has received millions of images: the ledger's size, its start, reception, ``/metrics``.

    python -m benchmarks.growth [--received 0,1,5,10] [--removed 0.95] [--runs 5] [--folder /tmp]

For each number of millions a data folder is made whose rows went the way of the node's own (written as the node
writes them, removed by retention's own statements; ``tests/ledger/grown_ledger.py``); what was not removed has a
file.  Then, each in a process of its own:

start
    spool, ledger, recovery and the first answer of ``/metrics``; seconds and the highest resident memory.
node
    ``qc-node run`` until the DICOM port is open; seconds, and the highest memory of the main process by then.
reception
    MR of 135 KB in series of 125 from DCMTK's storescu, each series to a receiver with this ledger and to one that
    began with an empty one, in turn; seconds for 1,000, and the median of the ratios.
metrics
    ``/metrics`` as Prometheus asks for it: the median of ten answers, and the slowest.

Ten million take about 5 GB in the folder while they are made, and some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.reception import HOST, ROOT, SERIES, flush_ms, make_objects, receiving
from tests.end_to_end.node_process import NodeProcess
from tests.ledger.grown_ledger import PER_SERIES, Grown, grow

START = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from statistics import median
from qc_node.ledger import Ledger
from qc_node.operations.metrics import Metrics
from qc_node.receiver.recovery import recover
from qc_node.spool import Spool
loaded = time.perf_counter()
root = Path(sys.argv[1])
spool, ledger = Spool(root), Ledger(root / "ledger.sqlite")
adopted = recover(spool, ledger)
metrics = Metrics(["MRI"], ["PACS"])
asked = []
for _ in range(11):
    moment = time.perf_counter()
    metrics.observe_ledger(ledger, spool, time.time())
    metrics.render()
    asked.append(time.perf_counter() - moment)
    if len(asked) == 1:
        started = time.perf_counter()
status = Path("/proc/self/status").read_text()  # ru_maxrss would count what the parent had
peak = int(status.partition("VmHWM:")[2].split()[0]) / 1000
print(json.dumps({"start": started - began, "loading": loaded - began, "peak": peak, "adopted": adopted,
                  "metrics": sorted(asked[1:])}))
"""

HEADINGS = (
    "received M", "removed M", "bytes per removed", "KB per series beyond 10 B each", "start s", "start MB",
    "node s", "node MB", "reception, empty s", "reception s", "ratio", "/metrics ms", "slowest ms",
)  # fmt: skip


def started(folder: Path) -> dict[str, float]:
    """Seconds and memory of a start in a fresh process."""
    command = [sys.executable, "-c", START, str(folder)]
    answer = subprocess.run(command, env=environment(), capture_output=True, check=True, text=True)
    found = json.loads(answer.stdout)
    assert found["adopted"] == 0
    found["median"], found["slowest"] = median(found["metrics"]), found["metrics"][-1]
    return found  # type: ignore[no-any-return]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TCP_NODELAY": "1"}


def node_started(folder: Path, scratch: Path) -> tuple[float, float]:
    """Seconds until a node takes images, and the highest resident memory of its main process by then, in MB.

    Retention would go on with what the benchmark has left, so it keeps everything for ever.
    """
    keep = {"retention": {"keep_images_h": 1e6, "keep_training_days": 1e5}}
    node = NodeProcess(scratch, None, data_dir=folder, settings=keep)
    began = time.perf_counter()
    try:
        node.start(wait=False)
        assert node.process is not None
        while not listens(node.port):
            assert node.process.poll() is None, node.log.read_text()[-2000:]
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{node.process.pid}/status").read_text(encoding="ascii")
        (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        node.kill()
    return seconds, peak / 1000


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex((HOST, port)) == 0


def reception(folder: Path, scratch: Path, runs: int) -> tuple[float, float, float]:
    """Seconds of taking in 1,000 objects with an empty ledger and with a copy of that of `folder`, and the ratio.

    The copy has a folder of its own without files: what a file system makes of many is not the ledger's.

    Both receivers are up, and each series goes to one and then to the other: whatever else the machine does
    meets both; each is the median over all series of all runs.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    places = {False: scratch / "empty", True: scratch / "grown"}
    for place in places.values():
        place.mkdir()
    shutil.copy(folder / "ledger.sqlite", places[True])
    with receiving("qc-node", places[False], 1, {}) as empty, receiving("qc-node", places[True], 1, {}) as grown:
        for run in range(runs):
            objects = scratch / f"objects-{run}"
            make_objects(objects, "mr")
            os.sync()  # else the first flush pays for all that was written before
            for n, series in enumerate(sorted(objects.iterdir())):
                for to in (False, True) if (n + run) % 2 else (True, False):
                    seconds[to].append(send_series(series, grown if to else empty))
            shutil.rmtree(objects)
    ratios = [two / one for one, two in zip(seconds[False], seconds[True], strict=True)]
    return SERIES * median(seconds[False]), SERIES * median(seconds[True]), median(ratios)


def send_series(series: Path, port: int) -> float:
    """Seconds of one association with all objects of a folder."""
    command = ["storescu", "-aec", "BENCH", "-pdu", "131072", "+sd", HOST, str(port), str(series)]
    began = time.perf_counter()
    subprocess.run(command, env=environment(), capture_output=True, check=True)
    return time.perf_counter() - began


def measured(folder: Path, scratch: Path, received: int, share: float, runs: int) -> list[str]:
    """One line of the table."""
    removed = int(received * share) // PER_SERIES * PER_SERIES
    made = timed(f"{received:,} instances", lambda: grow(folder, removed, received - removed, files=True))
    start = started(folder)
    node_s, node_mb = node_started(folder, scratch / "node")
    empty, grown, ratio = reception(folder, scratch, runs)
    return [
        f"{received / 1e6:g}", f"{removed / 1e6:g}", *sizes(made),
        f"{start['start']:.1f}", f"{start['peak']:.0f}", f"{node_s:.1f}", f"{node_mb:.0f}",
        f"{empty:.2f}", f"{grown:.2f}", f"{ratio:.2f}",
        f"{1000 * start['median']:.1f}", f"{1000 * start['slowest']:.1f}",
    ]  # fmt: skip


def sizes(made: Grown) -> tuple[str, str]:
    """Bytes for each removed instance, all told, and what a series takes beyond ten for each of its images."""
    if not made.removed:
        return "-", "-"
    beyond = (made.bytes_of_removed - 10 * made.removed) / (made.removed / PER_SERIES)
    return f"{made.bytes_of_removed / made.removed:.1f}", f"{beyond / 1024:.2f}"


def timed(what: str, do: Callable[[], Grown]) -> Grown:
    began = time.perf_counter()
    made = do()
    print(f"{what} were made in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--received", default="0,1,5,10", help="millions of received instances")
    parser.add_argument("--removed", type=float, default=0.95, help="share of them that retention has removed")
    parser.add_argument("--runs", type=int, default=5, help="runs of reception")
    parser.add_argument("--folder", type=Path, help="where the ledgers are made (default: the temporary folder)")
    options = parser.parse_args()
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|", flush=True)
    for millions in map(float, options.received.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder, scratch = Path(name) / "data", Path(name) / "scratch"
            folder.mkdir()
            scratch.mkdir()
            line = measured(folder, scratch, int(millions * 1e6), options.removed, options.runs)
            print("| " + " | ".join(line) + " |", flush=True)
            flush = flush_ms(scratch)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{platform.machine()}, {cores} cores, load {load:.1f}, one flush of this disk: {flush:.2f} ms")


if __name__ == "__main__":
    main()
