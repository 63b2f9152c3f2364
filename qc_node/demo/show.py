"""``qc-node demo``: the whole walk on one machine, in a temporary folder."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click

from qc_node.classifiers.catalogue import in_words
from qc_node.config import Settings, load
from qc_node.demo.datasets import Sample, datasets
from qc_node.demo.pacs import DemoPacs
from qc_node.demo.samples import samples
from qc_node.dicom.association import Peer
from qc_node.domain import QcNodeError
from qc_node.node import Node
from qc_node.operations import logs
from qc_node.outbox.files import send_files
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.report.tree import as_text
from qc_node.web.access import readers

REPORT_S = 120.0
"""How long to wait for one report before giving up."""
STUDY_QUIET_S = 5
"""A study of the demonstration is complete so soon, and gets its QC summary."""


def show(once: bool, free_ports: bool = True, seed: int = 1) -> None:
    """Run the demonstration.

    Parameters
    ----------
    once
        End when the reports are in the PACS, else stay until Ctrl-C.
    free_ports
        Take free ports instead of the configured defaults.
    seed
        Chooses the invented heads.

    Raises
    ------
    QcNodeError
        A port is in use, the weights are missing, or a report did not come.
    """
    logs.configure("text", "warning")
    folder = Path(tempfile.mkdtemp(prefix="qc-node-demo-"))
    try:
        with _running(folder, free_ports) as (pacs, node):
            _walk(pacs, node, folder, seed)
            if not once:
                _stay()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(folder: Path, free_ports: bool) -> Iterator[tuple[DemoPacs, Node]]:
    with _step("Starting a small PACS and the node with its models"):
        pacs = DemoPacs().start()
        node = Node(demo_settings(folder, pacs.port, free_ports))
        try:
            node.start()
        except BaseException:
            pacs.stop()
            raise
    try:
        yield pacs, node
    finally:
        click.echo("Stopping.")
        node.stop()
        pacs.stop()


def demo_settings(folder: Path, pacs_port: int, free_ports: bool) -> Settings:
    """Settings of a node on loopback whose PACS is the demonstration's."""
    config = folder / "qc-node.toml"
    ports = dict(zip(("node", "web", "metrics"), _free_ports(3), strict=True)) if free_ports else {}
    lines = [f'[node]\ndata_dir = "{folder / "data"}"\naccept_unknown_callers = true']
    lines += [
        f"[{section}]\nport = {port}" if section != "node" else f"port = {port}" for section, port in ports.items()
    ]
    lines += [
        '[pacs]\ndestination = "DEMOPACS"\nstorage_commitment = false\nsummary = "all"',
        f"[completion]\nstudy_quiet_s = {STUDY_QUIET_S}",
        "[disk]\nlow_watermark_gb = 0.1",
        f'[[peer]]\nname = "DEMOPACS"\nae_title = "DEMOPACS"\nhost = "127.0.0.1"\nport = {pacs_port}\n'
        'role = ["send", "find"]',
    ]
    config.write_text("\n".join(lines) + "\n")
    return load(config, {})


def _walk(pacs: DemoPacs, node: Node, folder: Path, seed: int) -> None:
    settings = node.settings
    for number, sample in enumerate(samples(settings.classify.models_dir, seed), start=1):
        paths, series_uid = _write(sample, folder / f"series-{number}")
        peer = Peer("node", settings.node.ae_title, "127.0.0.1", node.receiver.port, sample.station)
        with _step(f"Sending series {number}: {sample.title} ({len(paths)} images)"):
            send_files(paths, DimseTransport(peer, re_encode=False))
            sent = time.monotonic()
            report = pacs.report_for(series_uid, REPORT_S)
        if report is None:
            row = node.ledger.series.get(series_uid)
            why = (
                row["sentence"]
                if row and row["sentence"]
                else f"its state is {row['state'] if row else 'unknown'}"
            )
            raise QcNodeError(f"No report came for {sample.title}: {why}")
        judged = node.ledger.series.get(series_uid)
        stored = None if judged is None else node.ledger.verdicts.get(judged["series_id"])
        assert stored is not None
        seconds = time.monotonic() - sent
        click.secho(f"  {in_words([stored['verdict']], stored['warnings'])}", bold=True)
        click.echo(f"  report in the PACS {seconds:.1f} s after the last image")
        click.echo("\n" + "\n".join("    " + line for line in as_text(report).splitlines()) + "\n")
        shutil.rmtree(folder / f"series-{number}")
    _where_to_look(node)


def _where_to_look(node: Node) -> None:
    settings = node.settings
    base = f"http://127.0.0.1:{settings.web.port}"
    _, token = readers.add(node.ledger, "demo", name="Demo Reader", site="DEMO", at=time.time(), by="qc-node demo")
    link = readers.personal_link(base, token)
    click.secho("Where to look", bold=True)
    for what, address in (
        ("panel, three buttons (signs you in)", link),
        ("board for technologists", f"{base}/live"),
        ("analyst page", f"{base}/review"),
        ("metrics", f"http://127.0.0.1:{settings.metrics.port}/metrics"),
        ("send your own images to", f"{settings.node.ae_title} at 127.0.0.1 port {node.receiver.port}"),
    ):
        click.echo(f"  {what:<38} {address}")


def _write(sample: Sample, folder: Path) -> tuple[list[Path], str]:
    folder.mkdir()
    paths = []
    series_uid = ""
    for number, ds in enumerate(datasets(sample, datetime.now().astimezone())):
        paths.append(folder / f"{number:04}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
        series_uid = str(ds.SeriesInstanceUID)
    return paths, series_uid


@contextmanager
def _step(what: str) -> Iterator[None]:
    click.echo(f"{what} … ", nl=False)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        click.echo("failed")
        raise
    click.echo(f"{time.monotonic() - start:.1f} s")


def _stay() -> None:
    click.echo("\nCtrl-C ends the demonstration.")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.wait(1.0):
        pass


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
