"""``qc-node classify``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qc_node.cli.shared import config_option, load_settings, running_count, table


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead of a table.")
@click.option("--modality", type=click.Choice(["MR", "CT"]), help="Modality of NIfTI files, which do not say.")
@config_option
def classify(paths: tuple[Path, ...], as_json: bool, modality: str | None, config: Path | None) -> None:
    """Judge series on disk: DICOM, folders, zip or tar archives, NIfTI.

    In any mix. What cannot be read is named at the end, and the rest is judged.
    """
    from qc_node.engine.classify import classify_paths, row_of
    from qc_node.engine.judging import outcome_json
    from qc_node.engine.registry import Registry, choose_device
    from qc_node.parts import rules_of

    settings = load_settings(config)
    registry = Registry(settings.classify.models_dir, choose_device(settings.classify.device))
    problems: list[str] = []
    rows: list[tuple[str, ...]] = []
    with running_count() as progress:
        for outcome in classify_paths(
            paths,
            modality,
            registry,
            rules_of(settings),
            problems.append,
            progress,
            measures=settings.measures.enabled,
        ):
            if as_json:
                click.echo(json.dumps(outcome_json(outcome), ensure_ascii=False))
            else:
                rows.append(row_of(outcome))
    if rows:
        table(("series", "modality", "images", "measures", "verdict"), rows)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
