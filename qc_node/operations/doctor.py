"""The doctor: everything that can be checked before (or while) a node runs, one plain sentence each.

Nothing is left changed: no folder is made, no ledger migrated, no port kept; what is written to see whether it can
be written is removed at once.  A whole look at a large ledger takes time, and ends when that is over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path

from qc_node.classifiers import catalogue
from qc_node.config import PeerSettings, Settings
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.database import prove_writable, schema_of
from qc_node.ledger.integrity import Checked, damaged, quick_check
from qc_node.ledger.migrations import MIGRATIONS
from qc_node.networks import weights
from qc_node.operations import machine, notify, offers, scanner_clocks
from qc_node.operations.diagnosis import Diagnosis, fault, fine, warning
from qc_node.operations.listener import port_sentence
from qc_node.spool import has_reports, refuse_unfinished

LEDGER_S = 60.0
"""How long the pages of the ledger are looked at, unless the operator says otherwise."""
LEDGER_PATIENCE_S = 5.0
"""How long a running node may hold the ledger's lock."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Echo = Callable[[PeerSettings], object]
"""Sends a C-ECHO to a peer; raises :class:`QcNodeError` with the reason when there is no success."""
Negotiate = Callable[[PeerSettings], Collection[str]]
"""Which SOP classes of :data:`qc_node.operations.offers.WORDS` a peer accepts; raises as :data:`Echo` does."""


def examine(
    settings: Settings,
    echo: Echo,
    negotiate: Negotiate,
    config: Path | None = None,
    ledger_s: float = LEDGER_S,
    provider: Callable[[], object] | None = None,
) -> list[Diagnosis]:
    """Look at everything and say what was found.

    Parameters
    ----------
    settings
        The configuration in force.
    echo
        How to greet a peer.
    negotiate
        How to ask a destination what it takes.
    config
        The file that the configuration came from, or None.
    ledger_s
        Seconds after which a look through the whole ledger ends unfinished.
    provider
        Asks the OpenID provider of ``[oidc]`` for its description; raises :class:`QcNodeError` with the reason.
    """
    running = is_running(settings.node.data_dir)
    return [
        *_configuration(settings, config),
        *_machine(settings),
        *_data_folder(settings, running, ledger_s),
        *_models(settings),
        *_ports(settings, running),
        *_peers(settings, echo, negotiate),
        *_provider(settings, provider),
    ]


def _configuration(settings: Settings, config: Path | None) -> Iterator[Diagnosis]:
    peers, rules = _count(len(settings.peer), "peer"), _count(len(settings.rule), "rule")
    yield fine(f"The configuration is understood ({peers}, {rules}).")
    if not settings.pacs.destination:
        yield fine("No [pacs] destination is set: reports stay in the data folder.")
    if not settings.peers("accept") and not settings.node.accept_unknown_callers:
        yield fault(
            "Nobody may send images: no [[peer]] has the role accept, and [node] accept_unknown_callers is false.",
        )
    if settings.web.host not in LOOPBACK and settings.web.secret is None:
        yield fault(f"[web] host {settings.web.host} is open to the network, which needs [web] secret.")
    if not settings.node.data_dir.is_absolute() and config is not None and config.resolve().parent != Path.cwd():
        yield warning(
            f"[node] data_dir {settings.node.data_dir} is relative, so each command looks in its own working"
            " directory: write an absolute path."
        )
    for peer in settings.peer:
        if peer.tls:
            yield fault(f"[[peer]] {peer.name} asks for tls, which this version does not speak.")
    for target in settings.notify:
        if (trouble := notify.hindrance(target.url, os.environ)) is not None:
            yield fault(f"[[notify]] {target.name} cannot be told. {trouble}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _machine(settings: Settings) -> Iterator[Diagnosis]:
    ledger, now = settings.node.data_dir / "ledger.sqlite", time.time()
    newest: float | None = None
    clocks: list[Diagnosis] = []
    if _is_current(ledger):
        try:
            with closing(Ledger(ledger)) as opened:
                newest = max((row["last_received"] for row in opened.series.recent(1)), default=None)
                clocks = list(scanner_clocks.findings(scanner_clocks.lags(opened, settings.node.data_dir)))
        except QcNodeError:
            clocks = []  # said of the ledger below
    yield from machine.clock(now, newest, machine.kernel_sync())
    yield machine.time_zone(now)
    yield from clocks


def _is_current(ledger: Path) -> bool:
    """Whether the ledger can be opened without being upgraded."""
    try:
        return ledger.is_file() and schema_of(ledger) == len(MIGRATIONS)
    except QcNodeError:
        return False


def _data_folder(settings: Settings, running: bool, ledger_s: float) -> Iterator[Diagnosis]:
    folder = settings.node.data_dir.resolve()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        yield fault(f"[node] data_dir {folder} cannot be made: {existing} is not a folder.")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield fault(f"[node] data_dir {folder} cannot be written by this user.")
        return
    yield from _disk(folder, existing)
    yield _room(folder, existing, running, settings.disk.low_watermark_gb)
    try:
        refuse_unfinished(folder)
    except QcNodeError as error:
        yield fault(str(error))
    ledger = folder / "ledger.sqlite"
    if ledger.exists():
        yield from _ledger(ledger, ledger_s)
    elif has_reports(folder):
        yield warning(f"There are reports in {folder} and no ledger: the next start begins one without votes.")


def _disk(folder: Path, existing: Path) -> Iterator[Diagnosis]:
    faults = list(machine.write_faults(folder, existing))
    yield from map(fault, faults)
    yield from machine.file_systems(folder, existing)
    if not faults:
        yield machine.flushes(existing, machine.flush_times(existing))
    yield machine.encryption(existing)


def _room(folder: Path, existing: Path, running: bool, low: float) -> Diagnosis:
    free = shutil.disk_usage(existing).free / 1e9
    if free < low:
        return fault(f"The data folder {folder} has {free:.1f} GB free; below {low:g} GB images are refused.")
    here = "there" if existing == folder else "to be made at the first start"
    state = "in use by a running node" if running else here
    return fine(f"The data folder {folder} is {state}, with {free:.0f} GB free.")


def _ledger(path: Path, limit_s: float) -> Iterator[Diagnosis]:
    try:
        schema = schema_of(path)
        if schema > len(MIGRATIONS):
            yield fault(f"The ledger {path} was written by a newer qc-node (schema {schema}).")
            return
        found = quick_check(path, limit_s)
        if found.problems:
            raise damaged(path, found.problems[0])
        prove_writable(path, LEDGER_PATIENCE_S)  # last: nothing is written into a damaged one
    except QcNodeError as error:
        yield fault(str(error))
        return
    older = "" if schema == len(MIGRATIONS) else f", will be brought to {len(MIGRATIONS)} at the next start"
    yield fine(f"The ledger {path} can be read and written (schema {schema}{older}).")
    yield _looked_through(found, limit_s)


def _looked_through(found: Checked, limit_s: float) -> Diagnosis:
    if found.finished:
        return fine(f"Every page of the ledger is sound, as far as SQLite can see ({found.seconds:.1f} s).")
    return warning(
        f"The pages of the ledger were looked at for {limit_s:g} s and not to the end; `qc-node doctor"
        f" --ledger-s {10 * max(limit_s, 1):g}` looks longer, and a running node looks at all once a day."
    )


def _models(settings: Settings) -> Iterator[Diagnosis]:
    for spec in catalogue.specs():
        try:
            identity = weights.verify(settings.classify.models_dir / spec.model_folder)
        except QcNodeError as error:
            yield fault(str(error))
        else:
            yield fine(f"The model of {spec.stage} is {identity.name} {identity.version}, as its card says.")
    if settings.classify.device.startswith("cuda"):
        from qc_node.engine.registry import choose_device

        try:
            yield fine(f"[classify] device {choose_device(settings.classify.device)} is there.")
        except QcNodeError as error:
            yield fault(str(error))


def _ports(settings: Settings, running: bool) -> Iterator[Diagnosis]:
    for section, host, port in (
        ("node", settings.node.host, settings.node.port),
        ("web", settings.web.host, settings.web.port),
        ("metrics", settings.metrics.host, settings.metrics.port),
    ):
        reason = _listen_fault(section, host, port)
        if reason is None:
            yield fine(f"[{section}] port {port} on {host} is free.")
        elif running and "in use" in reason:
            yield fine(f"[{section}] port {port} on {host} is in use, and a node is running on this data folder.")
        else:
            yield fault(reason)


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


def _peers(settings: Settings, echo: Echo, negotiate: Negotiate) -> Iterator[Diagnosis]:
    destinations = {settings.pacs.destination, *settings.pacs.also}
    for peer in settings.peer:
        if peer.host is None or peer.port is None:
            continue
        where = f"[[peer]] {peer.name} ({peer.ae_title} at {peer.host} port {peer.port})"
        try:
            echo(peer)
        except QcNodeError as error:
            yield fault(f"[[peer]] {peer.name} does not answer C-ECHO: {error}")
        else:
            yield fine(f"{where} answers C-ECHO.")
            if peer.name in destinations:
                yield from _offers(settings, peer, negotiate)


def _offers(settings: Settings, peer: PeerSettings, negotiate: Negotiate) -> Iterator[Diagnosis]:
    try:
        taken = negotiate(peer)
    except QcNodeError as error:
        yield warning(f"[[peer]] {peer.name} does not say what it takes: {error}")
    else:
        yield from offers.advice(settings, peer, taken)


def _provider(settings: Settings, ask: Callable[[], object] | None) -> Iterator[Diagnosis]:
    issuer = settings.oidc.issuer
    if issuer is None or ask is None:
        return
    if settings.web.public_base is None and settings.web.host not in LOOPBACK:
        yield warning(
            "[oidc] needs [web] public_base: the provider sends people back to registered addresses only."
        )
    try:
        ask()
    except QcNodeError as error:
        yield fault(str(error))
    else:
        yield fine(f"The OpenID provider {issuer} answers.")


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
