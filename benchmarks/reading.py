"""Reading a series: qc-node against SimpleITK's ImageSeriesReader (GDCM) and dcm2niix on the same files.

Run ``python -m benchmarks.reading`` (``make bench`` does).  Each reader works in a process of its own; the
readers take turns, and medians are printed with the ratio to SimpleITK and the peak memory above that of the
imported libraries.  The real series come from the shared images where they are; the 300 x 512 x 512 CT is made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
READERS = ("qc-node", "SimpleITK", "dcm2niix")


def read_qc_node(folder: Path) -> tuple[int, ...]:
    from qc_node.series.volume.stack import open_series

    return open_series(sorted(folder.iterdir())).volume().shape


def read_simpleitk(folder: Path) -> tuple[int, ...]:
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return tuple(reversed(reader.Execute().GetSize()))


def one(reader: str, folder: Path, repeats: int) -> dict[str, object]:
    """Read `folder` several times in this process; seconds of each, peak memory above the imports."""
    read = {"qc-node": read_qc_node, "SimpleITK": read_simpleitk}[reader]
    if reader == "qc-node":
        import pydicom.pixels  # noqa: F401

    else:
        import SimpleITK  # noqa: F401
    before = peak_mb(reset=True)
    seconds: list[float] = []
    cpu: list[float] = []
    shape: tuple[int, ...] = ()
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        shape = read(folder)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"seconds": seconds, "cpu": cpu, "peak_mb": peak_mb() - before, "shape": shape}


def peak_mb(reset: bool = False) -> float:
    """Peak resident memory of this process (Linux); `reset` begins anew at what it holds now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def in_a_process(reader: str, folder: Path, repeats: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.reading", "--one", reader, str(folder), str(repeats)]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(out)
    return result


def dcm2niix(folder: Path) -> float:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        subprocess.run(["dcm2niix", "-z", "n", "-o", out, str(folder)], check=True, capture_output=True)
        return time.perf_counter() - start


def make_ct(folder: Path, slices: int = 300) -> Path:
    """A CT of noise over a cylinder, 512 x 512, explicit little endian."""
    sys.path.insert(0, str(ROOT))
    from tests.series.makers import make_series

    rng = np.random.default_rng(1)
    j, i = np.mgrid[-256:256, -256:256]
    body = np.where(i * i + j * j < 200 * 200, 1064, 24)
    noise = rng.normal(0, 15, (4, 512, 512))
    data = np.stack([np.clip(body + noise[k % 4], 0, 4095) for k in range(slices)]).astype("<u2")
    make_series(folder, data, "CT", (0.7, 0.7, 1.0), stored=12)
    return folder


def folders(scratch: Path, data: Path) -> dict[str, Path]:
    found = {}
    for name in ("siemens_trio_adi_s5", "ct_crlm1004_2", "ct_ts_dicom_0"):
        archive = data / "dicom" / f"{name}.tar.xz"
        if archive.is_file():
            with tarfile.open(archive) as t:
                t.extractall(scratch, filter="data")
            found[name] = scratch / name
    found["made CT 300x512x512"] = make_ct(scratch / "made")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("READER", "FOLDER", "REPEATS"))
    parser.add_argument("--turns", type=int, default=5, help="how often the readers take turns")
    parser.add_argument("--repeats", type=int, default=3, help="readings in one process; the first is cold")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], Path(args.one[1]), int(args.one[2]))))
        return
    data = Path(os.environ.get("QC_NODE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    readers = [r for r in READERS if r != "dcm2niix" or shutil.which("dcm2niix")]
    print("| series | reader | median s | ratio to SimpleITK | best s | CPU s | ratio | peak MB added | shape |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in folders(Path(scratch), data).items():
            seconds: dict[str, list[float]] = {r: [] for r in readers}
            cpu: dict[str, list[float]] = {r: [] for r in readers}
            peaks: dict[str, float] = {}
            shapes: dict[str, list[int]] = {}
            for _ in range(args.turns):
                for reader in readers:
                    if reader == "dcm2niix":
                        seconds[reader].append(dcm2niix(folder))
                        continue
                    result = in_a_process(reader, folder, args.repeats)
                    seconds[reader] += result["seconds"]
                    cpu[reader] += result["cpu"]
                    peaks[reader] = max(peaks.get(reader, 0.0), float(str(result["peak_mb"])))
                    shapes[reader] = result["shape"]
            for reader in readers:
                cells = [name, reader]
                for values in (seconds, cpu):
                    if not values[reader]:
                        cells += [""] * 2
                        continue
                    median = statistics.median(values[reader])
                    cells += [f"{median:.3f}", f"{median / statistics.median(values['SimpleITK']):.2f}"]
                    if values is seconds:
                        cells.append(f"{min(values[reader]):.3f}")
                cells.append(f"{peaks[reader]:.0f}" if reader in peaks else "")
                cells.append("x".join(map(str, shapes.get(reader, ()))))
                print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
