"""``qc-node measures``."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from qc_node.cli.shared import LazyGroup, config_option, ledger_made, load_settings


@click.group(cls=LazyGroup)
def measures() -> None:
    """Export what was measured of every series."""


@measures.command("export")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File; default: the terminal."
)
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="Only series measured on this day (UTC) or later."
)
@click.option("--station", default="", help="Only series of this scanner, as its images call it.")
@click.option("--modality", default="", help="Only series of this modality, such as CT.")
@click.option("--parameters", is_flag=True, help="With what was set; coil and contrast agent are free text.")
@click.option("--with-uids", is_flag=True, help="With the UIDs of study and series, which lead to a patient.")
@config_option
def export_measures(
    output: Path | None,
    since: datetime | None,
    station: str,
    modality: str,
    parameters: bool,
    with_uids: bool,
    config: Path | None,
) -> None:
    """Write what was measured as TSV: a row for each series, a column for each measure. No patient is named."""
    from qc_node.engine.measures_table import MeasuresWanted, columns, rows
    from qc_node.measures.catalogue import MEASURES

    first = since.replace(tzinfo=UTC).timestamp() if since else 0.0
    wanted = MeasuresWanted(first, station, modality.upper(), parameters, with_uids)
    names, count = tuple(MEASURES), 0
    with (
        closing(ledger_made(load_settings(config))) as ledger,
        click.open_file(str(output) if output else "-", "w", encoding="utf-8") as stream,
    ):
        stream.write("\t".join(columns(names, wanted)) + "\n")
        for cells in rows(ledger, names, wanted):
            stream.write("\t".join(cells) + "\n")
            count += 1
    click.echo(f"{count} series.", err=True)
