"""Durable reception side by side: qc-node, Orthanc and DCMTK's storescp take the same objects in the same run.

    python -m benchmarks.reception [--runs 5] [--kind mr,ct] [--associations 1,8] [--processes 1] [--flush-ms 4]

The objects are made here (1,000 MR of 135 KB, 400 CT of 0.5 MB).  The sender is always DCMTK's storescu, which
sends PDUs as long as the receiver allows; TCP_NODELAY=1 for every DCMTK-based process, without which each looks
twenty times slower.  Runs are interleaved and each begins with an empty store.

Before they answer, Orthanc syncs once (the bytes); so does qc-node where the file system's journal takes the
name along (XFS, ext4 with a journal), and twice elsewhere (bytes, folder); storescp never, and it keeps no
index.  On a disk whose cache flush is slow that decides at one association, and not the program: the last line
says what one flush costs here. ``--flush-ms`` simulates such a disk: every fsync and fdatasync of every
receiver waits so much longer (a library that is preloaded; needs a C compiler).  ``--journal`` puts the stores
on an ext4 with a journal, made for it in a file (needs root and a loop device).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
SERIES = 8

NODE = """
import logging, sys, signal
from pathlib import Path
from qc_node.signals import SignalInbox
from qc_node.receiver.service import Receiver, ReceiverSettings
settings = ReceiverSettings(ae_title="BENCH", host="127.0.0.1", port=int(sys.argv[2]), peers={},
                            accept_unknown=True, low_watermark_bytes=0, processes=int(sys.argv[3]),
                            max_associations=64, max_associations_per_peer=64, on_changed="replace")
ends = SignalInbox((signal.SIGTERM,))
receiver = Receiver(settings, Path(sys.argv[1]), lambda event: None, logging.getLogger("bench"))
receiver.start()
ends.wait(3600.0)
receiver.stop(5)
"""


SLOW_FLUSH = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static void rest(void) { struct timespec t = {0, FLUSH_NS}; nanosleep(&t, 0); }
#define SLOW(name) int name(int fd) { rest(); return ((int (*)(int))dlsym(RTLD_NEXT, #name))(fd); }
SLOW(fsync)
SLOW(fdatasync)
"""


def slow_flush(folder: Path, milliseconds: float) -> dict[str, str]:
    """What the environment of a receiver needs for its disk to be slow."""
    if not milliseconds:
        return {}
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SLOW_FLUSH)
    flag = f"-DFLUSH_NS={int(milliseconds * 1e6)}L"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", flag, str(source), "-o", str(library), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


@contextlib.contextmanager
def journaled(folder: Path, megabytes: int = 2048) -> Iterator[Path]:
    """An ext4 with a journal, mounted below `folder`."""
    image, place = folder / "ext4.img", folder / "ext4"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def make_objects(folder: Path, kind: str) -> int:
    """Write the objects of one kind into one folder per series; returns how many."""
    rng = np.random.default_rng(1)
    count, shape, sop_class = (
        (1000, (256, 256), MRImageStorage) if kind == "mr" else (400, (512, 512), CTImageStorage)
    )
    study = generate_uid()
    for series in range(SERIES):
        place = folder / f"{series}"
        place.mkdir(parents=True)
        series_uid = generate_uid()
        for number in range(count // SERIES):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            meta.MediaStorageSOPClassUID = sop_class
            meta.MediaStorageSOPInstanceUID = generate_uid()
            path = place / f"{number:04}.dcm"
            ds = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
            ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
            ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series_uid
            ds.Modality = kind.upper()
            ds.PatientName, ds.PatientID = "Bench^Mark", "BENCH"
            ds.StudyDate = ds.SeriesDate = "20260101"
            ds.SeriesNumber, ds.InstanceNumber = series + 1, number + 1
            ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number]
            ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
            private = ds.private_block(0x29, "BENCH HEADER", create=True)
            private.add_new(0x10, "OB", rng.bytes(3000))
            ds.Rows, ds.Columns = shape
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
            ds.PixelData = rng.integers(0, 4096, shape, dtype=np.uint16).tobytes()
            pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return count // SERIES * SERIES


def free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


def command(receiver: str, folder: Path, port: int, processes: int) -> list[str]:
    """How to start a receiver that keeps what it gets in `folder`."""
    if receiver == "qc-node":
        return [sys.executable, "-c", NODE, str(folder), str(port), str(processes)]
    if receiver == "orthanc":
        config = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomPort": port,
            "HttpPort": free_port(),
            "DicomAet": "BENCH",
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(config))
        return [shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(folder / "orthanc.json")]
    return ["storescp", "--fork", "-pdu", "131072", "+B", "-od", str(folder), "-aet", "BENCH", str(port)]


@contextlib.contextmanager
def receiving(receiver: str, folder: Path, processes: int, extra: dict[str, str]) -> Iterator[int]:
    """A running receiver; yields its port."""
    port = free_port()
    env = {**os.environ, "TCP_NODELAY": "1", "PYTHONPATH": str(ROOT), **extra}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command(receiver, folder, port, processes), env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(300):
            with socket.socket() as s:
                if s.connect_ex((HOST, port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{receiver} did not start: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.5)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def send(objects: Path, port: int, associations: int) -> float:
    """Send all objects; returns the seconds it took."""
    folders = [str(objects / str(n)) for n in range(SERIES)]
    groups = [folders] if associations == 1 else [folders[n::associations] for n in range(associations)]
    env = {**os.environ, "TCP_NODELAY": "1"}
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            ["storescu", "-aec", "BENCH", "-pdu", "131072", "+sd", HOST, str(port), *group],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for group in groups
    ]
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise RuntimeError(f"storescu ended with {codes}")
    return time.perf_counter() - began


def flush_ms(folder: Path) -> float:
    """Median cost of making 4 KB durable."""
    times = []
    with (folder / "flush").open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kind", default="mr,ct")
    parser.add_argument("--associations", default="1,8")
    parser.add_argument("--processes", type=int, default=1, help="receiving processes of qc-node")
    parser.add_argument("--receivers", default="qc-node,orthanc,storescp")
    parser.add_argument("--folder", type=Path, help="where the stores are made (default: the temporary folder)")
    parser.add_argument("--flush-ms", type=float, default=0.0, help="make each flush so much slower")
    parser.add_argument("--journal", action="store_true", help="keep the stores on an ext4 with a journal")
    options = parser.parse_args()
    receivers = options.receivers.split(",")
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        slow = slow_flush(root, options.flush_ms)
        stores = stack.enter_context(journaled(root)) if options.journal else root
        print(
            f"{'objects':<18}{'assoc.':>7}"
            + "".join(f"{r + ' s':>12}" for r in receivers)
            + "".join(f"{'/ ' + r:>12}" for r in receivers[1:])
            + f"{'qc-node/s':>12}"
        )
        for kind in options.kind.split(","):
            objects = root / kind
            count = make_objects(objects, kind)
            size = sum(f.stat().st_size for f in objects.rglob("*.dcm")) / count
            for associations in map(int, options.associations.split(",")):
                seconds: dict[str, list[float]] = {r: [] for r in receivers}
                for _ in range(options.runs):
                    for receiver in receivers:
                        place = Path(tempfile.mkdtemp(dir=stores))
                        with receiving(receiver, place, options.processes, slow) as port:
                            seconds[receiver].append(send(objects, port, associations))
                        shutil.rmtree(place)
                median = {r: statistics.median(s) for r, s in seconds.items()}
                ours = median[receivers[0]]
                print(
                    f"{f'{count} x {size / 1000:.0f} KB {kind.upper()}':<18}{associations:>7}"
                    + "".join(f"{median[r]:>12.2f}" for r in receivers)
                    + "".join(f"{median[r] / ours:>11.2f}x" for r in receivers[1:])
                    + f"{count / ours:>12.0f}",
                    flush=True,
                )
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        added = f" + {options.flush_ms:g} ms simulated" if slow else ""
        print(f"one flush of this disk: {flush_ms(stores):.2f} ms{added}; {load}")


if __name__ == "__main__":
    main()
