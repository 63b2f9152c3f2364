"""``qc-node votes``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from qc_node.cli.readers import ROLES
from qc_node.cli.shared import LazyGroup, config_option, ledger_made, load_settings
from qc_node.domain.errors import QcNodeError

if TYPE_CHECKING:
    from qc_node.web.statistics.figures import Statistics


@click.group(cls=LazyGroup)
def votes() -> None:
    """Export, import and count votes."""


@votes.command("export")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File; default: the terminal."
)
@click.option(
    "--format", "kind", type=click.Choice(["csv", "jsonl"]), help="Default: from the file's name, else csv."
)
@click.option("--log", "whole_log", is_flag=True, help="Every row ever written, for `votes import` elsewhere.")
@click.option("--ratings", is_flag=True, help="The experts' ratings.tsv instead, with its JSON sidecar.")
@click.option("--blind-only", is_flag=True, help="Leave out votes cast after the machine's opinion was shown.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="Only votes cast in this role.")
@click.option("--comments", is_flag=True, help="With the comments: free text, which may name a patient.")
@config_option
def export_votes(
    output: Path | None,
    kind: str | None,
    whole_log: bool,
    ratings: bool,
    blind_only: bool,
    roles: tuple[str, ...],
    comments: bool,
    config: Path | None,
) -> None:
    """Write the votes that stand with soft labels, ready for training. Readers are pseudonyms."""
    from qc_node.training.raters.labels import soft_labels
    from qc_node.web.pages.annotate import export_ratings
    from qc_node.web.votes import exchange

    ledger = ledger_made(load_settings(config))
    if ratings:
        with closing(ledger):
            text, sidecar = export_ratings(ledger)
        if output is None:
            click.echo(text, nl=False)
            return
        output.write_text(text, encoding="utf-8")
        output.with_suffix(".json").write_text(sidecar, encoding="utf-8")
        click.echo(f"{text.count(chr(10)) - 1} ratings.", err=True)
        return
    columns = [*exchange.COLUMNS, *(exchange.COMMENT if comments else ())]
    columns += [] if whole_log else exchange.SOFT
    as_lines = (kind or ("jsonl" if output and output.suffix in (".jsonl", ".ndjson") else "csv")) == "jsonl"
    with closing(ledger):
        rows = exchange.export_rows(
            ledger,
            whole_log=whole_log,
            blind_only=blind_only,
            comments=comments,
            roles=roles,
            soft_labels=soft_labels,
        )
        with click.open_file(str(output) if output else "-", "w", encoding="utf-8") as stream:
            count = (
                _write_lines(rows, stream) if as_lines else exchange.write_csv(rows, columns, cast(TextIO, stream))
            )
    click.echo(f"{count} votes.", err=True)


def _write_lines(rows: Iterable[dict[str, Any]], stream: Any) -> int:
    count = 0
    for row in rows:
        stream.write(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n")
        count += 1
    return count


@votes.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--timezone", help="Of times that name none, such as Europe/Berlin.")
@click.option("--add-readers", is_flag=True, help="Add readers that are not known; they cannot sign in.")
@click.option("--ratings", is_flag=True, help="The files are experts' ratings.tsv.")
@config_option
def import_votes(
    files: tuple[Path, ...],
    timezone: str | None,
    add_readers: bool,
    ratings: bool,
    config: Path | None,
) -> None:
    """Bring votes in from CSV or JSON lines with their original times; a second time changes nothing."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from qc_node.web.pages.annotate import import_ratings
    from qc_node.web.votes import exchange

    try:
        zone = ZoneInfo(timezone) if timezone else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise QcNodeError(f"There is no time zone {timezone!r}.") from error
    with closing(ledger_made(load_settings(config))) as ledger:
        for path in files:
            if ratings:
                count = import_ratings(ledger, path.read_text(encoding="utf-8-sig"), path.name)
                click.echo(f"{path.name}: {count} ratings.")
                continue
            with path.open(encoding="utf-8-sig", newline="") as stream:
                done = exchange.import_rows(
                    ledger,
                    exchange.read_rows(stream, path.name),
                    now=time.time(),
                    zone=zone,
                    add_readers=add_readers,
                )
            click.echo(
                f"{path.name}: {done.votes} votes, {done.presented} presentations,"
                f" {done.known_before} known before, {len(done.readers_added)} readers added."
            )


@votes.command("stats")
@click.option("--json", "as_json", is_flag=True, help="All figures as one JSON object.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder for the plots (SVG).")
@config_option
def vote_stats(as_json: bool, plots: Path | None, config: Path | None) -> None:
    """Count votes: by modality, reader and centre, acceptance, time to vote, agreement."""
    from qc_node.web.statistics import figures
    from qc_node.web.statistics.overview import overview, plots_of

    with closing(ledger_made(load_settings(config))) as ledger:
        found = overview(ledger)
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        for name, svg in plots_of(found.all).items():
            (plots / f"{name}.svg").write_text(svg, encoding="utf-8")
    if as_json:
        click.echo(json.dumps(figures.as_dict(found.all) | {"prompts": found.prompts}))
        return
    for line in summary_lines(found.all):
        click.echo(line)


def summary_lines(found: Statistics) -> list[str]:
    """The statistics as a page of text."""
    out = [
        f"{found.votes} votes on {found.studies} studies by {len(found.by_reader)} readers in {len(found.by_site)}"
        f" centres over {found.days} days ({found.changed} changed, {found.withdrawn} taken back)."
    ]
    for name, counts in (
        ("vote", found.by_vote),
        ("modality", found.by_modality),
        ("centre", found.by_site),
        ("reader", found.by_reader),
        ("source", found.by_source),
        ("reason", found.reasons),
    ):
        if counts:
            out.append(f"By {name}: " + ", ".join(f"{key} {n}" for key, n in counts.items()))
    if found.presented:
        out.append(
            f"Acceptance: {found.voted} of {found.presented} studies presented"
            f" ({found.voted / found.presented:.1%})"
        )
        for reader, row in found.acceptance.items():
            out.append(f"  {reader}: {row['voted']:.0f} of {row['presented']:.0f} ({row['rate']:.1%})")
    if found.seconds_to_vote:
        low, middle, high = found.seconds_to_vote
        out.append(f"Time to vote: median {middle:.1f} s (quartiles {low:.1f} to {high:.1f} s)")
    for name, agreement in (("Between readers", found.between_readers), ("With the model", found.with_model)):
        if agreement is not None:
            kappa = "not defined" if agreement.kappa_quadratic is None else f"{agreement.kappa_quadratic:.2f}"
            out.append(f"{name}: {agreement.same} of {agreement.studies} alike, quadratic kappa {kappa}")
    return out
