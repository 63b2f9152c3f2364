"""``qc-node notify``: whether those who are told can be reached."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from qc_node.cli.shared import LazyGroup, config_option, load_settings
from qc_node.domain.errors import QcNodeError


@click.group(cls=LazyGroup)
def notify() -> None:
    """Try whether those who are told what happened can be reached."""


@notify.command("test")
@click.option("--name", help="Only the target of this name.")
@config_option
def test(name: str | None, config: Path | None) -> None:
    """Tell each target once that this is a test; one line for each."""
    from qc_node import parts
    from qc_node.operations import notify as notifying

    settings = load_settings(config)
    targets = parts.targets(settings, os.environ)
    chosen = [target for target in targets if name in (None, target.name)]
    if not chosen:
        known = ", ".join(target.name for target in targets) or "none is configured"
        raise QcNodeError(f"There is no target to tell (known: {known}).")
    failed = False
    for target in chosen:
        try:
            notifying.tell(target, notifying.trial(time.time(), settings.web.public_base))
        except notifying.NotTaken as trouble:
            failed = True
            click.echo(f"{target.name}: not told. {trouble}")
        else:
            click.echo(f"{target.name}: told.")
    sys.exit(1 if failed else 0)
