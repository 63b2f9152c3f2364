"""``qc-node outbox``, ``judge-again`` and ``send``: what the node delivers, and what can be asked for again."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qc_node.cli.shared import LazyGroup, config_option, ledger_of, load_settings, progress_bar, table
from qc_node.domain.errors import QcNodeError

if TYPE_CHECKING:
    from qc_node.ledger.rows import ReportDelivery


@click.group(cls=LazyGroup)
def outbox() -> None:
    """Look at what was not delivered, send it again, or let it be."""


@outbox.command("list")
@config_option
def list_unfinished(config: Path | None) -> None:
    """Everything that waits for a destination or was refused for good."""
    unfinished = ledger_of(load_settings(config)).deliveries.unfinished()
    rows = [
        (
            str(row["id"]),
            row["destination"],
            row["kind"],
            row["state"],
            str(row["attempts"]),
            row["last_error"] or _waits_for(row, unfinished),
        )
        for row in unfinished
    ]
    if rows:
        table(("id", "destination", "kind", "state", "attempts", "last error"), rows)
    else:
        click.echo("Everything has been delivered.")


def _waits_for(row: ReportDelivery, unfinished: Sequence[ReportDelivery]) -> str:
    """Why an object was never tried: an earlier one of its series has not arrived."""
    for other in unfinished:
        if other["id"] >= row["id"]:
            return ""
        same = other["destination"] == row["destination"] and other["series_id"] == row["series_id"] is not None
        if same and other["state"] == "pending":
            return f"Waits until {other['id']} has been sent."
    return ""


@outbox.command("again")
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="Everything that was refused for good.")
@config_option
def send_again(ids: tuple[int, ...], every: bool, config: Path | None) -> None:
    """Put refused objects back into the queue; a running node sends them at once."""
    from qc_node.outbox import acts

    if bool(ids) == every:
        raise click.UsageError("Give the ids that `qc-node outbox list` shows, or --all.")
    ledger, by, at = ledger_of(load_settings(config)), "qc-node outbox again", time.time()
    count = acts.send_refused_again(ledger, by, at) if every else acts.send_again(ledger, ids, by, at)
    click.echo(f"{count} objects are in the queue again.")


@outbox.command("drop")
@click.argument("ids", nargs=-1, type=int, required=True)
@config_option
def drop(ids: tuple[int, ...], config: Path | None) -> None:
    """Never send these objects; what waits behind them goes on.

    Row and file stay.  An object that is on its way at this moment may still arrive, and then counts as sent.
    """
    from qc_node.outbox import acts

    count = acts.drop(ledger_of(load_settings(config)), ids, "qc-node outbox drop", time.time())
    click.echo(f"{count} objects are dropped.")


@click.command("judge-again")
@click.argument("series_uids", nargs=-1, required=True)
@config_option
def judge_again(series_uids: tuple[str, ...], config: Path | None) -> None:
    """Judge series once more, with the models and rules now in force.

    The new report names the old one as its predecessor.
    """
    from qc_node.outbox import acts

    ledger = ledger_of(load_settings(config))
    for uid in series_uids:
        series = ledger.series.get(uid)
        if series is None:
            raise QcNodeError(f"There is no series {uid} in the ledger.")
        if not acts.judge_again(ledger, series["series_id"], "qc-node judge-again", time.time()):
            raise QcNodeError(f"The series {uid} is not finished, or its images were removed by retention.")
    click.echo(f"{len(series_uids)} series are in the queue.")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", "name", required=True, help="Name of a [[peer]] of the configuration.")
@config_option
def send(paths: tuple[Path, ...], name: str, config: Path | None) -> None:
    """Push DICOM files to a configured peer by C-STORE."""
    from qc_node.outbox.files import send_files
    from qc_node.outbox.transport.dimse import DimseTransport
    from qc_node.parts import peer_of

    settings = load_settings(config)
    peer = peer_of(settings, settings.peer_named(name))
    with progress_bar("sending") as progress:
        result = send_files(paths, DimseTransport(peer, re_encode=False), progress)
    for path, sentence in result.failed:
        click.echo(f"{path}: {sentence}", err=True)
    warned = f", {result.warned} of them with a warning" if result.warned else ""
    click.echo(f"{result.sent} objects stored by {peer}{warned}.")
    if not result.ok:
        sys.exit(1)
