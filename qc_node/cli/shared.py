"""What several commands need: settings, ledger, lazy loading, tables, progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qc_node.domain.errors import QcNodeError

if TYPE_CHECKING:
    from qc_node.config import Settings
    from qc_node.ledger import Ledger

CONFIG_PLACES = (Path("qc-node.toml"), Path("/etc/qc-node/qc-node.toml"))
"""Where the configuration is looked for when ``--config`` is not given."""

LEDGER_NAME = "ledger.sqlite"
"""The ledger's file in the data folder."""

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file; default: ./qc-node.toml, then /etc/qc-node/qc-node.toml, else built-in defaults.",
)


# -- settings and ledger -----------------------------------------------------------------------------
def find_config(config: Path | None) -> Path | None:
    """The configuration file that is in force; None means defaults and environment only."""
    if config is not None:
        return config
    return next((place for place in CONFIG_PLACES if place.is_file()), None)


def load_settings(config: Path | None) -> Settings:
    """Settings of `config`, or of the usual place, with the environment on top.

    From here on libraries are quiet: their warnings quote what stands in a header.
    """
    from qc_node.config import load
    from qc_node.operations import logs

    logs.configure("text", "warning")
    return load(find_config(config), os.environ)


def ledger_of(settings: Settings) -> Ledger:
    """The ledger of a node that has run before.

    Raises
    ------
    QcNodeError
        There is none.
    """
    from qc_node.ledger import Ledger

    path = settings.node.data_dir / LEDGER_NAME
    if not path.exists():
        raise QcNodeError(f"There is no ledger {path.absolute()}; has the node run with this configuration?")
    return Ledger(path)


def ledger_made(settings: Settings) -> Ledger:
    """The ledger, made when there is none: readers are added before the node runs for the first time."""
    from qc_node.ledger import Ledger
    from qc_node.spool import PRIVATE, refuse_unfinished

    refuse_unfinished(settings.node.data_dir)
    settings.node.data_dir.mkdir(PRIVATE, parents=True, exist_ok=True)
    return Ledger(settings.node.data_dir / LEDGER_NAME)


# -- loading commands when they are asked for --------------------------------------------------------
class LazyGroup(click.Group):
    """A group that lists its commands in whole sentences, and imports some only when they are asked for.

    ``lazy`` maps a command's name to ``(module:attribute, first line of its help)``.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, imported or not."""
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command now."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.lazy[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with their line of help, without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self.lazy:
                rows.append((name, self.lazy[name][1]))
            elif (command := super().get_command(ctx, name)) is not None:
                rows.append((name, command.get_short_help_str(100)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


# -- printing ----------------------------------------------------------------------------------------
def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns as wide as their content; the last one takes what is left."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header) - 1)]
    for number, row in enumerate([header, *rows]):
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, str(row[-1])])
        click.echo(click.style(line, bold=True) if number == 0 else line)


@contextmanager
def running_count() -> Iterator[Callable[[int, int], None]]:
    """A progress callback (files, series) that keeps one line of a terminal up to date."""
    shown = sys.stderr.isatty()
    last = 0.0

    def progress(files: int, series: int) -> None:
        nonlocal last
        if shown and time.monotonic() - last > 0.1:
            last = time.monotonic()
            click.echo(f"\r\033[K{files} files read, {series} series judged", nl=False, err=True)

    yield progress
    if shown:
        click.echo("\r\033[K", nl=False, err=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress callback (done, of all) that draws a bar on a terminal and is silent elsewhere."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield progress
