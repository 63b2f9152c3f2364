"""``qc-node run``, ``doctor`` and ``demo``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from qc_node.cli.shared import config_option, find_config, load_settings


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again.
    """
    from qc_node.config import load
    from qc_node.node import Node

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the node listens to it
    settings = load_settings(config)
    Node(settings).run(lambda: load(find_config(config), os.environ))


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
    from qc_node.operations.doctor import examine
    from qc_node.outbox.transport.dimse import DimseTransport
    from qc_node.parts import peer_of

    settings = load_settings(config)
    checks = examine(
        settings, lambda peer: DimseTransport(peer_of(settings, peer)).echo(), find_config(config), ledger_s
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
