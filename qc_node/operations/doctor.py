"""The doctor: everything that can be checked before (or while) a node runs, one plain sentence each.

Nothing is left changed: no folder is made, no ledger migrated, no port kept; what is written to see whether it can
be written is removed at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from qc_node.classifiers import catalogue
from qc_node.config import PeerSettings, Settings
from qc_node.domain import QcNodeError
from qc_node.ledger.database import prove_writable, schema_of
from qc_node.ledger.migrations import MIGRATIONS
from qc_node.networks import weights
from qc_node.operations.listener import port_sentence
from qc_node.spool import prove_writable as prove_folder_writable

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
"""SQLite's write-ahead log needs shared memory, which these do not give (sqlite.org/wal.html)."""
LEDGER_PATIENCE_S = 5.0
"""How long a running node may hold the ledger's lock."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Echo = Callable[[PeerSettings], object]
"""Sends a C-ECHO to a peer; raises :class:`QcNodeError` with the reason when there is no success."""


class Diagnosis(NamedTuple):
    """What was looked at: fine or not, and the sentence."""

    ok: bool
    sentence: str


def examine(settings: Settings, echo: Echo) -> list[Diagnosis]:
    """Look at everything and say what was found.

    Parameters
    ----------
    settings
        The configuration in force.
    echo
        How to greet a peer.
    """
    running = is_running(settings.node.data_dir)
    return [
        *_configuration(settings),
        *_data_folder(settings, running),
        *_models(settings),
        *_ports(settings, running),
        *_peers(settings, echo),
    ]


def _configuration(settings: Settings) -> Iterator[Diagnosis]:
    peers, rules = _count(len(settings.peer), "peer"), _count(len(settings.rule), "rule")
    yield Diagnosis(True, f"The configuration is understood ({peers}, {rules}).")
    if not settings.pacs.destination:
        yield Diagnosis(True, "No [pacs] destination is set: reports stay in the data folder.")
    if not settings.peers("accept") and not settings.node.accept_unknown_callers:
        yield Diagnosis(
            False,
            "Nobody may send images: no [[peer]] has the role accept, and [node] accept_unknown_callers is false.",
        )
    if settings.web.host not in LOOPBACK and settings.web.secret is None:
        yield Diagnosis(False, f"[web] host {settings.web.host} is open to the network, which needs [web] secret.")
    for peer in settings.peer:
        if peer.tls:
            yield Diagnosis(False, f"[[peer]] {peer.name} asks for tls, which this version does not speak.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _data_folder(settings: Settings, running: bool) -> Iterator[Diagnosis]:
    folder = settings.node.data_dir.resolve()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        yield Diagnosis(False, f"[node] data_dir {folder} cannot be made: {existing} is not a folder.")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Diagnosis(False, f"[node] data_dir {folder} cannot be written by this user.")
        return
    fault = _write_fault(folder, existing)
    if fault is not None:
        yield Diagnosis(False, fault)
    kind = _file_system(existing)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Diagnosis(
            False, f"[node] data_dir {folder} is on a network file system ({kind}); the ledger needs a local disk."
        )
    free, low = shutil.disk_usage(existing).free / 1e9, settings.disk.low_watermark_gb
    state = (
        "in use by a running node"
        if running
        else "there"
        if existing == folder
        else "to be made at the first start"
    )
    if free < low:
        yield Diagnosis(
            False, f"The data folder {folder} has {free:.1f} GB free; below {low:g} GB images are refused."
        )
    else:
        yield Diagnosis(True, f"The data folder {folder} is {state}, with {free:.0f} GB free.")
    ledger = folder / "ledger.sqlite"
    if ledger.exists():
        yield _ledger(ledger)


def _write_fault(folder: Path, existing: Path) -> str | None:
    """Why an image could not be stored, tried as the receiver does it; in `existing` before the first start."""
    places = folder / "tmp", folder / "images"
    temporary, final = places if all(place.is_dir() for place in places) else (existing, existing)
    try:
        prove_folder_writable(temporary, final)
    except OSError as error:
        return f"[node] data_dir {folder}: no image can be stored in {final}: {error.strerror or error}."
    return None


def _ledger(path: Path) -> Diagnosis:
    try:
        schema = schema_of(path)
    except QcNodeError as error:
        return Diagnosis(False, str(error))
    if schema > len(MIGRATIONS):
        return Diagnosis(False, f"The ledger {path} was written by a newer qc-node (schema {schema}).")
    try:
        prove_writable(path, LEDGER_PATIENCE_S)
    except QcNodeError as error:
        return Diagnosis(False, str(error))
    older = "" if schema == len(MIGRATIONS) else f", will be brought to {len(MIGRATIONS)} at the next start"
    return Diagnosis(True, f"The ledger {path} can be read and written (schema {schema}{older}).")


def _models(settings: Settings) -> Iterator[Diagnosis]:
    for spec in catalogue.specs():
        try:
            identity = weights.verify(settings.classify.models_dir / spec.model_folder)
        except QcNodeError as error:
            yield Diagnosis(False, str(error))
        else:
            yield Diagnosis(
                True, f"The model of {spec.stage} is {identity.name} {identity.version}, as its card says."
            )
    if settings.classify.device.startswith("cuda"):
        from qc_node.engine.registry import choose_device

        try:
            yield Diagnosis(True, f"[classify] device {choose_device(settings.classify.device)} is there.")
        except QcNodeError as error:
            yield Diagnosis(False, str(error))


def _ports(settings: Settings, running: bool) -> Iterator[Diagnosis]:
    for section, host, port in (
        ("node", settings.node.host, settings.node.port),
        ("web", settings.web.host, settings.web.port),
        ("metrics", settings.metrics.host, settings.metrics.port),
    ):
        fault = _listen_fault(section, host, port)
        if fault is None:
            yield Diagnosis(True, f"[{section}] port {port} on {host} is free.")
        elif running and "in use" in fault:
            yield Diagnosis(
                True, f"[{section}] port {port} on {host} is in use, and a node is running on this data folder."
            )
        else:
            yield Diagnosis(False, fault)


def _listen_fault(section: str, host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return port_sentence(section, host, port, error)
    return None


def _peers(settings: Settings, echo: Echo) -> Iterator[Diagnosis]:
    for peer in settings.peer:
        if peer.host is None or peer.port is None:
            continue
        where = f"[[peer]] {peer.name} ({peer.ae_title} at {peer.host} port {peer.port})"
        try:
            echo(peer)
        except QcNodeError as error:
            yield Diagnosis(False, f"[[peer]] {peer.name} does not answer C-ECHO: {error}")
        else:
            yield Diagnosis(True, f"{where} answers C-ECHO.")


def is_running(data_dir: Path) -> bool:
    """Whether a node holds the lock of the data folder."""
    try:
        fd = os.open(data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _file_system(folder: Path) -> str:
    """Kind of the file system that holds `folder`, as in ``/proc/self/mounts``; empty where unknown."""
    best, kind = -1, ""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) > best:
            best, kind = len(point.parts), fields[2]
    return kind
