"""CPU time and peak memory from the file of a DX of 3000 x 2500 to what is measured of it, by transfer syntax.

Run ``python -m benchmarks.radiograph``.  The picture is made: smooth shadows with noise of 8 grey values in 14
bits, which compresses about as a chest does.  Each syntax is read in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.reading import ROOT, peak_mb
from qc_node.series.raw_header import syntax_name

SYNTAXES = (ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless)


def made(rows: int, columns: int) -> npt.NDArray[np.uint16]:
    j, i = np.mgrid[0:rows, 0:columns]
    shadows = 8000 + 5000 * np.sin(j / 400) * np.cos(i / 300)
    noise = np.random.default_rng(1).normal(0, 8, (rows, columns))
    picture: npt.NDArray[np.uint16] = np.clip(shadows + noise, 0, 16383).astype("<u2")
    return picture


def one(path: Path, repeats: int) -> dict[str, object]:
    from qc_node.domain.measurable import Radiograph
    from qc_node.series.headers.acquisition import technique_of
    from qc_node.series.measurable import measurable
    from qc_node.series.volume.stack import open_series

    before = peak_mb(reset=True)
    seconds: list[tuple[float, float, float]] = []
    for _ in range(repeats):
        start = time.process_time()
        opened = open_series([path])
        header = time.process_time()
        technique_of(opened)
        technique = time.process_time()
        found = measurable(opened)
        seconds.append((header - start, technique - header, time.process_time() - technique))
        assert isinstance(found, tuple) and isinstance(found[0], Radiograph)
    return {"seconds": seconds, "peak_mb": peak_mb() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.repeats)))
        return
    from tests.series.makers import make_radiograph

    print(
        "| transfer syntax | file MB | open CPU ms | technique CPU ms | pixels CPU ms (median, best) | peak MB |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for syntax in SYNTAXES:
            path = make_radiograph(Path(folder) / "a.dcm", made(3000, 2500), stored=14, syntax=syntax)
            command = [
                sys.executable,
                "-m",
                "benchmarks.radiograph",
                "--one",
                str(path),
                "--repeats",
                str(args.repeats),
            ]
            result = json.loads(
                subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            )
            opened, technique, pixels = (
                [1000 * step for step in steps] for steps in zip(*result["seconds"], strict=True)
            )
            print(
                f"| {syntax_name(syntax)} | {path.stat().st_size / 1e6:.1f} | {statistics.median(opened):.1f}"
                f" | {statistics.median(technique):.1f} | {statistics.median(pixels):.0f}, {min(pixels):.0f}"
                f" | {result['peak_mb']:.0f} |"
            )


if __name__ == "__main__":
    main()
