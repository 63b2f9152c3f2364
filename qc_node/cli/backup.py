"""``qc-node backup`` and ``restore``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from qc_node.cli.shared import config_option, load_settings

REDRAW_S = 0.2
MOST_NAMED = 5


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--all-images", is_flag=True, help="Every received image on the disk, and not only those still owed."
)
@click.option("--training", is_flag=True, help="Network inputs and thumbnails too.")
@config_option
def backup(folder: Path, all_images: bool, training: bool, config: Path | None) -> None:
    """Make or renew a backup in FOLDER while the node runs.

    The ledger, the reports, and the images that are not yet judged or whose report is not yet delivered.  A second
    time into the same folder only what is new is copied.
    """
    from qc_node.operations.backup import BackupWishes, back_up

    settings = load_settings(config)
    with _line() as line:
        done = back_up(
            settings.node.data_dir,
            folder,
            BackupWishes(all_images, training),
            time.time(),
            lambda files, size: line(f"{files} files, {size / 1e9:.2f} GB copied"),
        )
    counts, manifest = done.manifest.counts, done.manifest
    click.echo(
        f"Backup of {manifest.when} in {folder}: the ledger with {counts['series']} series, {counts['reports']}"
        f" reports, {counts['images']} images; {done.copied} files copied, {done.kept} there already,"
        f" {manifest.bytes / 1e9:.2f} GB in all."
    )
    if counts["absent"]:
        click.echo(f"{counts['absent']} files that rows name were not on the disk.", err=True)
    for name in done.unreadable[:MOST_NAMED]:
        click.echo(f"{settings.node.data_dir / name} cannot be read, and is not in the backup.", err=True)
    if folder.stat().st_dev == settings.node.data_dir.stat().st_dev:
        click.echo(
            f"{folder} is on the disk of the data folder; copy it elsewhere, or it is lost with it.", err=True
        )
    if done.unreadable:
        click.echo(f"{len(done.unreadable)} files cannot be read: look at the disk of the data folder.", err=True)
        sys.exit(1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), help="Data folder; else [node] data_dir."
)
@click.option("--replace-ledger", is_flag=True, help="Set the ledger that is there aside; keep the files.")
@click.option("--check", is_flag=True, help="Verify the backup, and put nothing back.")
@config_option
def restore(folder: Path, into: Path | None, replace_ledger: bool, check: bool, config: Path | None) -> None:
    """Put the backup in FOLDER back, while no node runs.

    Every file is verified first.  The data folder must be empty; with --replace-ledger it may be one whose
    ledger is damaged.
    """
    from qc_node.operations.restore import restore as put_back
    from qc_node.operations.restore import verify

    settings = load_settings(config)
    data_dir = into or settings.node.data_dir
    with _line() as line:

        def progress(what: str, done: int, total: int) -> None:
            line(f"{what}: {done / 1e9:.2f} of {total / 1e9:.2f} GB")

        if check:
            manifest = verify(folder, progress)
        else:
            done = put_back(folder, data_dir, replace_ledger, time.time(), progress)
    if check:
        click.echo(f"The backup of {manifest.when} in {folder} is whole ({manifest.bytes / 1e9:.2f} GB).")
        return
    click.echo(f"{data_dir} is as it was at {done.manifest.when}; {done.copied} files were copied.")
    if done.set_aside is not None:
        click.echo(f"The ledger that was there is now {done.set_aside}.")


@contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    """Keeps one line of a terminal up to date; silent elsewhere."""
    shown = sys.stderr.isatty()
    last = 0.0

    def draw(text: str) -> None:
        nonlocal last
        if shown and time.monotonic() - last > REDRAW_S:
            last = time.monotonic()
            click.echo(f"\r\033[K{text}", nl=False, err=True)

    yield draw
    if shown:
        click.echo("\r\033[K", nl=False, err=True)
