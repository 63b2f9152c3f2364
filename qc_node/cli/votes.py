"""``qc-node votes``, ``qc-node readers`` and ``qc-node review``.

The composition root hands over a :class:`Hooks` as the root context's object, because this package may know
neither configuration nor classifier.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.spool import Spool
from qc_node.web.access import readers as roll
from qc_node.web.pages.annotate import export_ratings, import_ratings
from qc_node.web.pages.folder import Judged, shelve
from qc_node.web.settings import WebDeps, WebOptions, load_or_make_secret
from qc_node.web.statistics import figures
from qc_node.web.statistics.overview import overview, plots_of
from qc_node.web.votes import exchange

LEDGER_NAME = "ledger.sqlite"
"""The ledger's file in the data folder."""


@dataclass(frozen=True)
class Hooks:
    """What only the composition root knows.

    ``load_settings(config)`` gives the settings of the node (``.node.data_dir``, ``.web.host``, ``.web.port``,
    ``.web.public_base`` are read); ``classify(folder, on_problem)`` judges every series below a folder, one after
    the other; ``soft_labels`` are the rater tools of the school.
    """

    load_settings: Callable[[Path | None], Any]
    classify: Callable[[Path, Callable[[str], None]], Iterable[Judged]] | None = None
    soft_labels: exchange.SoftLabels = exchange.share_of_votes


config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Configuration file of the node."
)


def _hooks(ctx: click.Context) -> Hooks:
    hooks = ctx.find_root().obj
    if not isinstance(hooks, Hooks):
        raise QcNodeError("This command was started without the node's settings.")
    return hooks


def _ledger(ctx: click.Context, config: Path | None) -> tuple[Hooks, Any, Ledger]:
    hooks = _hooks(ctx)
    settings = hooks.load_settings(config)
    data_dir: Path = settings.node.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    return hooks, settings, Ledger(data_dir / LEDGER_NAME)


# -- readers -----------------------------------------------------------------------------------------
@click.group("readers")
def readers_group() -> None:
    """Add, list and disable those who may vote."""


@readers_group.command("add")
@click.argument("login")
@click.option("--name", required=True, help='How the pages greet: "Dr. M. Bode".')
@click.option("--site", required=True, help="Centre, as statistics name it.")
@click.option(
    "--role",
    type=click.Choice([r.value for r in roll.Role]),
    default="radiologist",
    show_default=True,
    help="Experts also grade by the protocol.",
)
@click.option("--pin", is_flag=True, help="Ask for a PIN (6 to 12 digits) besides the personal link.")
@click.option("--dicom-name", help="How key objects spell the person: Bode^Mechthild.")
@config_option
@click.pass_context
def add_reader(
    ctx: click.Context,
    login: str,
    name: str,
    site: str,
    role: str,
    pin: bool,
    dicom_name: str | None,
    config: Path | None,
) -> None:
    """Add a reader and print the personal link, which is shown only now."""
    secret = click.prompt("PIN", hide_input=True, confirmation_prompt=True) if pin else None
    _, settings, ledger = _ledger(ctx, config)
    with closing(ledger):
        reader, token = roll.add(
            ledger, login, name=name, site=site, role=role, at=time.time(), pin=secret, dicom_name=dicom_name
        )
    click.echo(f"Added {reader.name} ({reader.site}, {reader.role.value}) as {reader.pseudonym}.")
    click.echo(roll.personal_link(_base(settings), token))


@readers_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@config_option
@click.pass_context
def list_readers(ctx: click.Context, as_json: bool, config: Path | None) -> None:
    """List every reader, disabled ones included."""
    _, _, ledger = _ledger(ctx, config)
    with closing(ledger):
        found = roll.list_all(ledger)
    for r in found:
        row = {
            "login": r.login,
            "name": r.name,
            "site": r.site,
            "role": r.role.value,
            "pseudonym": r.pseudonym,
            "enabled": r.enabled,
        }
        said = f"{r.login:20} {r.name:28} {r.site:18} {r.role.value:12} {r.pseudonym}"
        click.echo(json.dumps(row) if as_json else said + ("" if r.enabled else "  disabled"))


@readers_group.command("disable")
@click.argument("login")
@config_option
@click.pass_context
def disable_reader(ctx: click.Context, login: str, config: Path | None) -> None:
    """Shut a reader out at once; the votes stay."""
    _, _, ledger = _ledger(ctx, config)
    with closing(ledger):
        reader = roll.disable(ledger, login, time.time())
    click.echo(f"{reader.name} cannot sign in any more; the votes stay.")


@readers_group.command("link")
@click.argument("login")
@config_option
@click.pass_context
def new_link(ctx: click.Context, login: str, config: Path | None) -> None:
    """Print a new personal link; the old one and its sessions end."""
    _, settings, ledger = _ledger(ctx, config)
    with closing(ledger):
        token = roll.new_link(ledger, login)
    click.echo(roll.personal_link(_base(settings), token))


def _base(settings: Any) -> str:
    web = settings.web
    return str(getattr(web, "public_base", None) or f"http://{web.host}:{web.port}")


# -- votes -------------------------------------------------------------------------------------------
@click.group("votes")
def votes_group() -> None:
    """Export, import and count votes."""


@votes_group.command("export")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="File; default: the terminal."
)
@click.option(
    "--format", "kind", type=click.Choice(["csv", "jsonl"]), help="Default: from the file's name, else csv."
)
@click.option("--log", "whole_log", is_flag=True, help="Every row ever written, for `votes import` elsewhere.")
@click.option("--ratings", is_flag=True, help="The experts' ratings.tsv instead, with its JSON sidecar.")
@click.option("--blind-only", is_flag=True, help="Leave out votes cast after the machine's opinion was shown.")
@config_option
@click.pass_context
def export_votes(
    ctx: click.Context,
    output: Path | None,
    kind: str | None,
    whole_log: bool,
    ratings: bool,
    blind_only: bool,
    config: Path | None,
) -> None:
    """Write the votes that stand with soft labels, ready for training. Readers are pseudonyms."""
    hooks, _, ledger = _ledger(ctx, config)
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
    columns = list(exchange.COLUMNS) + ([] if whole_log else list(exchange.SOFT))
    as_lines = (kind or ("jsonl" if output and output.suffix in (".jsonl", ".ndjson") else "csv")) == "jsonl"
    with closing(ledger):
        rows = exchange.export_rows(
            ledger, whole_log=whole_log, blind_only=blind_only, soft_labels=hooks.soft_labels
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


@votes_group.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--timezone", help="Of times that name none, such as Europe/Berlin.")
@click.option("--add-readers", is_flag=True, help="Add readers that are not known; they cannot sign in.")
@click.option("--ratings", is_flag=True, help="The files are experts' ratings.tsv.")
@config_option
@click.pass_context
def import_votes(
    ctx: click.Context,
    files: tuple[Path, ...],
    timezone: str | None,
    add_readers: bool,
    ratings: bool,
    config: Path | None,
) -> None:
    """Bring votes in from CSV or JSON lines with their original times; a second time changes nothing."""
    try:
        zone = ZoneInfo(timezone) if timezone else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise QcNodeError(f"There is no time zone {timezone!r}.") from error
    _, _, ledger = _ledger(ctx, config)
    with closing(ledger):
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


@votes_group.command("stats")
@click.option("--json", "as_json", is_flag=True, help="All figures as one JSON object.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder for the plots (SVG).")
@config_option
@click.pass_context
def vote_stats(ctx: click.Context, as_json: bool, plots: Path | None, config: Path | None) -> None:
    """Count votes: by modality, reader and centre, acceptance, time to vote, agreement."""
    _, _, ledger = _ledger(ctx, config)
    with closing(ledger):
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


def summary_lines(found: figures.Statistics) -> list[str]:
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


# -- review ------------------------------------------------------------------------------------------
@click.command("review")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", type=int, default=0, help="Web port; default: a free one.")
@click.pass_context
def review(ctx: click.Context, folder: Path, port: int) -> None:
    """Open the analyst page on a folder of one's own. Everything stays in a temporary folder."""
    from qc_node.web.app import create_app
    from qc_node.web.server import serve

    hooks = _hooks(ctx)
    if hooks.classify is None:
        raise QcNodeError("This command was started without a classifier.")
    with tempfile.TemporaryDirectory(prefix="qc-node-review-") as temporary:
        root = Path(temporary)
        ledger, spool = Ledger(root / LEDGER_NAME), Spool(root)
        web = WebOptions(secret=load_or_make_secret(root / "web-secret"), blind=False)
        app = create_app(WebDeps(ledger=ledger, spool=spool, web=web))
        server = serve(app, "127.0.0.1", port)
        try:
            _, token = roll.add(
                ledger, "analyst", name="Analyst", site="here", at=time.time(), role=roll.Role.EXPERT
            )
            click.echo(f"{server.url}/sign-in?next=/review#{token}")
            for judged in hooks.classify(folder, lambda sentence: click.echo(sentence, err=True)):
                series_id = shelve(ledger, spool, judged, time.time())
                if series_id is not None:
                    app.state.board.publish(series_id)
                elif judged.skipped:
                    click.echo(f"{judged.source}: {judged.skipped}", err=True)
            if sys.stdout.isatty():
                click.echo("All series are judged. Ctrl-C ends.")
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("")
        finally:
            server.stop()
            ledger.close()


votes, readers = votes_group, readers_group
