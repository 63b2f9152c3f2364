"""``qc-node models``."""

from __future__ import annotations

from pathlib import Path

import click

from qc_node.cli.shared import LazyGroup, config_option, load_settings, table


@click.group(cls=LazyGroup)
def models() -> None:
    """List and verify the weights."""


@models.command("list")
@config_option
def list_models(config: Path | None) -> None:
    """Stage, name, version, size and folder of every model."""
    from qc_node.engine.registry import cards

    rows = [
        (
            card.stage,
            card.name,
            card.version,
            f"{sum(f.bytes for f in card.files) / 1e6:.1f} MB",
            folder.as_posix(),
        )
        for folder, card in cards(load_settings(config).classify.models_dir)
    ]
    table(("stage", "name", "version", "size", "folder"), rows)


@models.command("verify")
@config_option
def verify_models(config: Path | None) -> None:
    """Hash every weights file and compare with its card."""
    from qc_node.engine.registry import Registry

    for stage, identity in Registry(load_settings(config).classify.models_dir).verify().items():
        click.echo(f"ok  {stage.value}: {identity.name} {identity.version}, SHA-256 {identity.sha256}")
