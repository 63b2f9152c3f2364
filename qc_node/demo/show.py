"""``qc-node demo``: the whole walk on one machine, in a temporary folder."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
from pydicom.dataset import Dataset

from qc_node.classifiers.catalogue import in_words, shared_card
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
from qc_node.signals import SignalInbox
from qc_node.web.access import readers

REPORT_S = 120.0
"""How long to wait for one report before giving up."""
LOAD_S = 300.0
"""How long to wait for the models."""
STUDY_QUIET_S = 5
"""A study of the demonstration is complete so soon, and gets its QC summary."""
PICTURE_S = 60.0
"""How long to wait for that."""


@dataclass(frozen=True)
class JudgedSample:
    """A series that was judged: what it was, its place, and what came of it."""

    sample: Sample
    study_uid: str
    report: Dataset
    attention: bool


def show(once: bool, free_ports: bool = True, seed: int = 1) -> None:
    """Run the demonstration.

    Parameters
    ----------
    once
        End when reports and pictures are in the PACS, else stay until Ctrl-C.
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
    pictures = Path(tempfile.mkdtemp(prefix="qc-node-demo-pictures-"))
    try:
        with _running(folder, free_ports) as (pacs, node):
            shown = _walk(pacs, node, folder, seed)
            _tell(shown)
            _keep_pictures(shown, pacs, pictures)
            _where_to_look(node)
            if not once:
                _stay()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not once or not any(pictures.iterdir()):
            shutil.rmtree(pictures, ignore_errors=True)


@contextmanager
def _running(folder: Path, free_ports: bool) -> Iterator[tuple[DemoPacs, Node]]:
    with _step("Starting a small PACS and the node"):
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


def _walk(pacs: DemoPacs, node: Node, folder: Path, seed: int) -> list[JudgedSample]:
    with _step("Making three sample series"):
        made = list(samples(node.settings.classify.models_dir, seed))
    with _step("Loading the models"):
        _wait_for_models(node)
    return [_judge(pacs, node, folder, number, sample) for number, sample in enumerate(made, start=1)]


def _wait_for_models(node: Node) -> None:
    """Until the classifiers are loaded and warm, so that no series waits for that."""
    end = time.monotonic() + LOAD_S
    while node.pool.loading() or not node.pool.alive():
        if node.pool.fault or time.monotonic() > end:
            raise QcNodeError(node.pool.fault or f"The models were not loaded within {LOAD_S:g} s.")
        time.sleep(0.1)


def _judge(pacs: DemoPacs, node: Node, folder: Path, number: int, sample: Sample) -> JudgedSample:
    """Send one series, wait for its report, and say what it says."""
    paths, study_uid, series_uid = _write(sample, folder / f"series-{number}")
    peer = Peer("node", node.settings.node.ae_title, "127.0.0.1", node.receiver.port, sample.station)
    click.secho(f"Series {number}: {sample.title}", bold=True)
    with _step(f"  sending {len(paths)} images"):
        send_files(paths, DimseTransport(peer, re_encode=False))
    with _step("  last image to report in the PACS"):
        report = pacs.report_for(series_uid, REPORT_S)
    shutil.rmtree(folder / f"series-{number}")
    row = node.ledger.series.get(series_uid)
    if report is None or row is None:
        state = row["state"] if row else "unknown"
        why = row["sentence"] if row and row["sentence"] else f"its state is {state}"
        raise QcNodeError(f"No report came for {sample.title}: {why}")
    given = node.ledger.verdicts.of(row["series_id"], row["run"])
    verdicts, warnings = [one["verdict"] for one in given], given[0]["warnings"]
    click.echo(f"  {in_words(verdicts, warnings)}")
    return JudgedSample(sample, study_uid, report, shared_card(verdicts, warnings).attention)


def _tell(shown: Sequence[JudgedSample]) -> None:
    """One report as a tree: of a series that needs attention, if there is one."""
    chosen = next((one for one in shown if one.attention), shown[0])
    click.echo()
    click.secho(f"The report on the series {chosen.sample.title!r}, as any DICOM system reads it", bold=True)
    click.echo("\n".join("  " + line for line in as_text(chosen.report).splitlines()) + "\n")


def _keep_pictures(shown: Sequence[JudgedSample], pacs: DemoPacs, folder: Path) -> None:
    """The QC summaries as PNG, for whoever has no viewer at hand."""
    from PIL import Image

    click.secho("The QC summary of each study, as any viewer shows it", bold=True)
    for number, one in enumerate(shown, start=1):
        picture = pacs.picture_for(one.study_uid, PICTURE_S)
        if picture is None:
            click.echo(f"  {one.sample.title}: no picture came within {PICTURE_S:g} s.")
            continue
        path = folder / f"summary-{number}.png"
        Image.fromarray(picture.pixel_array).save(path)
        click.echo(f"  {path}   {one.sample.title}")


def _where_to_look(node: Node) -> None:
    settings = node.settings
    base = f"http://127.0.0.1:{settings.web.port}"
    _, token = readers.add(
        node.ledger,
        "demo",
        name="Demo Reader",
        site="DEMO",
        role=readers.Role.EXPERT,
        at=time.time(),
        by="qc-node demo",
    )
    link = readers.personal_link(base, token)
    click.echo()
    click.secho("Where to look", bold=True)
    for what, address in (
        ("panel, three buttons (signs you in)", link),
        ("board for technologists", f"{base}/live"),
        ("analyst page", f"{base}/review"),
        ("grading by the expert protocol", f"{base}/annotate"),
        ("votes and agreement", f"{base}/stats"),
        ("what is measured, scanner by scanner", f"{base}/stats/measures"),
        ("metrics", f"http://127.0.0.1:{settings.metrics.port}/metrics"),
        ("send your own images to", f"{settings.node.ae_title} at 127.0.0.1 port {node.receiver.port}"),
    ):
        click.echo(f"  {what:<38} {address}")


def _write(sample: Sample, folder: Path) -> tuple[list[Path], str, str]:
    """Its files; the UIDs of study and series."""
    folder.mkdir()
    paths = []
    study_uid = series_uid = ""
    for number, ds in enumerate(datasets(sample, datetime.now().astimezone())):
        paths.append(folder / f"{number:04}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
        study_uid, series_uid = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
    return paths, study_uid, series_uid


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
    inbox = SignalInbox((signal.SIGTERM, signal.SIGINT))
    while not inbox.wait(3600.0):
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
