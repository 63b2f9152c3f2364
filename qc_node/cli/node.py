"""``qc-node run``, ``drain``, ``doctor`` and ``demo``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import click

from qc_node.cli.shared import config_option, find_config, ledger_of, load_settings
from qc_node.domain.errors import QcNodeError


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again.
    """
    from qc_node.intake import opened

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the node listens to it
    settings = load_settings(config)
    with opened(settings) as intake:
        from qc_node.config import load
        from qc_node.node import Node  # while images are taken already

        Node(settings, intake).run(lambda: load(find_config(config), os.environ))


@click.command()
@click.option(
    "--timeout", default=600.0, show_default=True, type=click.FloatRange(min=0), help="Longest wait in seconds."
)
@click.option("--cancel", is_flag=True, help="Let the node take images again.")
@config_option
def drain(timeout: float, cancel: bool, config: Path | None) -> None:
    """Have the running node take nothing new and finish; say when it may be stopped.

    New associations are refused as transient. Series are completed, judged and reported, reports are sent. The
    next start takes images again.
    """
    from qc_node.operations import drain as draining
    from qc_node.operations.doctor import is_running

    settings = load_settings(config)
    ledger, folder = ledger_of(settings), settings.node.data_dir
    if not is_running(folder):
        raise QcNodeError(f"No node runs on the data folder {folder}.")
    if cancel:
        draining.cancel(ledger, time.time())
        click.echo("The node takes images again.")
        return
    request = draining.ask(ledger, time.time())
    draining.wait(ledger, request, timeout, is_running=lambda: is_running(folder), tell=click.echo)
    click.echo("Drained: nothing is left to do. The node may be stopped; it takes nothing until the next start.")


MARKS = {
    "ok": ("ok   ", "green"),
    "question": ("ASK  ", "cyan"),
    "warning": ("WARN ", "yellow"),
    "fault": ("FAULT", "red"),
}
"""What stands before a sentence of the doctor, by its level."""


@click.command()
@click.option(
    "--ledger-s", type=click.FloatRange(min=0), default=60, help="Longest look at the ledger, in seconds."
)
@config_option
def doctor(ledger_s: float, config: Path | None) -> None:
    """Check configuration, clock, disk, ledger, models, ports and peers.

    One plain sentence for everything that was looked at; nothing is changed. Exit code 1 when there is a fault;
    warnings and questions are for a person to look at.
    """
    from qc_node.dicom.association import accepted
    from qc_node.operations.doctor import examine
    from qc_node.operations.offers import WORDS
    from qc_node.outbox.transport.dimse import DimseTransport
    from qc_node.parts import oidc_options, peer_of
    from qc_node.web.access.oidc import Provider

    settings = load_settings(config)
    oidc = oidc_options(settings)
    checks = examine(
        settings,
        lambda peer: DimseTransport(peer_of(settings, peer)).echo(),
        lambda peer: accepted(peer_of(settings, peer), WORDS),
        find_config(config),
        ledger_s,
        provider=Provider(oidc, time.time).check if oidc else None,
    )
    for check in checks:
        mark, colour = MARKS[check.level]
        click.echo(f"{click.style(mark, fg=colour)}  {check.sentence}")
    if not all(check.ok for check in checks):
        sys.exit(1)


@click.command()
@click.option("--once", is_flag=True, help="End when the reports are in the PACS.")
@click.option("--open-ports/--fixed-ports", default=True, help="Take free ports, or the configured ones.")
def demo(once: bool, open_ports: bool) -> None:
    """Show the whole way of a series on this machine, with made-up images.

    A small PACS, the node, three sample series and their reports, in a temporary folder. The samples are made by
    the program; the verdicts come from the shipped models.
    """
    from qc_node.demo.show import show

    show(once=once, free_ports=open_ports)
