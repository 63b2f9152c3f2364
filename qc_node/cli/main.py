"""The command line: parses, calls, prints.  No logic lives here.

Exit codes: 0 done, 1 something failed and said so, 2 wrong usage.  Heavy libraries are imported inside the
commands that need them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qc_node import __version__
from qc_node.domain import QcNodeError

if TYPE_CHECKING:
    from qc_node.config import Settings
    from qc_node.ledger import Ledger

CONFIG_PLACES = (Path("qc-node.toml"), Path("/etc/qc-node/qc-node.toml"))
"""Where the configuration is looked for when ``--config`` is not given."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


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


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file; default: ./qc-node.toml, then /etc/qc-node/qc-node.toml, else built-in defaults.",
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for.

    ``lazy`` maps a command's name to ``(module, attribute, one line of help)``.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, imported or not."""
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command now."""
        if cmd_name in self.lazy:
            from importlib import import_module

            module, attribute, _ = self.lazy[cmd_name]
            if module.startswith("qc_node.web"):
                from qc_node.cli.hooks import web_hooks

                ctx.find_root().obj = web_hooks(load_settings)
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with their line of help, without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self.lazy:
                rows.append((name, self.lazy[name][2]))
            elif (command := super().get_command(ctx, name)) is not None:
                rows.append((name, command.get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "votes": ("qc_node.cli.votes", "votes", "Export, import and count radiologists' votes."),
        "readers": ("qc_node.cli.votes", "readers", "Add, list and disable those who may vote."),
        "review": ("qc_node.cli.votes", "review", "Open the analyst page on a folder of one's own."),
    },
)
@click.version_option(__version__, prog_name="qc-node")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main_group(debug: bool) -> None:  # debug is read by main()
    """Judge the quality of medical images while the patient is still on the table.

    Start with `qc-node demo`; then write a qc-node.toml (deploy/qc-node.toml explains every option),
    check it with `qc-node doctor` and start the node with `qc-node run`.
    """


@main_group.command()
@click.option("--once", is_flag=True, help="End when the reports are in the PACS.")
@click.option("--open-ports/--fixed-ports", default=True, help="Take free ports, or the configured ones.")
def demo(once: bool, open_ports: bool) -> None:
    """Show the whole walk: a small PACS, the node, three sample series, their reports.

    Everything runs on this machine in a temporary folder. The samples are made by the program; the verdicts
    come from the shipped models.
    """
    from qc_node.demo.show import show

    show(once=once, free_ports=open_ports)


@main_group.command()
@config_option
def run(config: Path | None) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    from qc_node.node import Node

    settings = load_settings(config)
    Node(settings).run()


@main_group.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead of a table.")
@click.option("--modality", type=click.Choice(["MR", "CT"]), help="Modality of NIfTI files, which do not say.")
@config_option
def classify(paths: tuple[Path, ...], as_json: bool, modality: str | None, config: Path | None) -> None:
    """Judge series on disk: DICOM files, folders, zip or tar archives, NIfTI, in any mix."""
    from qc_node.engine.classify import classify_paths, row_of
    from qc_node.engine.judging import outcome_json
    from qc_node.engine.registry import Registry, choose_device
    from qc_node.node import rules_of

    settings = load_settings(config)
    registry = Registry(settings.classify.models_dir, choose_device(settings.classify.device))
    problems: list[str] = []
    with _counter() as progress:
        outcomes = classify_paths(paths, modality, registry, rules_of(settings), problems.append, progress)
        if as_json:
            for outcome in outcomes:
                click.echo(json.dumps(outcome_json(outcome), ensure_ascii=False))
        else:
            rows = [row_of(outcome) for outcome in outcomes]
    if not as_json and rows:
        _table(("series", "modality", "images", "verdict"), rows)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)


@main_group.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", "name", required=True, help="Name of a [[peer]] of the configuration.")
@config_option
def send(paths: tuple[Path, ...], name: str, config: Path | None) -> None:
    """Push DICOM files to a configured peer by C-STORE."""
    from qc_node.dicom import association
    from qc_node.node import peer_of

    settings = load_settings(config)
    peer = peer_of(settings, settings.peer_named(name))
    with _bar("sending") as progress:
        result = association.send(paths, peer, progress)
    for path, sentence in result.failed:
        click.echo(f"{path}: {sentence}", err=True)
    warned = f", {result.warned} of them with a warning" if result.warned else ""
    click.echo(f"{result.sent} objects stored by {peer}{warned}.")
    if not result.ok:
        sys.exit(1)


@main_group.command()
@config_option
def doctor(config: Path | None) -> None:
    """Check configuration, disk, models, ports and peers; one plain sentence per fault."""
    from qc_node.dicom.association import echo
    from qc_node.node import peer_of
    from qc_node.operations import doctor as physician

    settings = load_settings(config)
    checks = physician.run(settings, lambda peer: echo(peer_of(settings, peer)))
    for ok, sentence in checks:
        click.echo(f"{click.style('ok   ', fg='green') if ok else click.style('FAULT', fg='red')}  {sentence}")
    if not all(ok for ok, _ in checks):
        sys.exit(1)


@main_group.group(
    cls=LazyGroup,
    lazy={
        "brain-mri": (
            "qc_node.training.brain_mri.training.train",
            "command",
            "Train the networks of the MRI reading room.",
        ),
        "ct": ("qc_node.training.ct.training.train", "command", "Train the networks of the CT reading room."),
    },
)
def train() -> None:
    """Train the networks of a reading room."""


@main_group.group(
    cls=LazyGroup,
    lazy={
        "brain-mri": (
            "qc_node.training.brain_mri.evaluation.evaluate",
            "command",
            "Measure the MRI reading room.",
        ),
        "ct": ("qc_node.training.ct.evaluation.evaluate", "command", "Measure the CT reading room."),
        "raters": ("qc_node.training.raters.baseline", "command", "Measure what metrics alone make of votes."),
    },
)
def evaluate() -> None:
    """Measure the networks of a reading room on people they never saw."""


@main_group.group()
def models() -> None:
    """List and verify the shipped weights."""


@models.command("list")
@config_option
def models_list(config: Path | None) -> None:
    """Name, version and hash of every model, and how good it is."""
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
    _table(("stage", "name", "version", "size", "folder"), rows)


@models.command("verify")
@config_option
def models_verify(config: Path | None) -> None:
    """Hash every weights file and compare with its card."""
    from qc_node.engine.registry import Registry

    for stage, identity in Registry(load_settings(config).classify.models_dir).verify().items():
        click.echo(f"ok  {stage.value}: {identity.name} {identity.version}, SHA-256 {identity.sha256}")


@main_group.group()
def outbox() -> None:
    """Look at what was not delivered, and send it again."""


@outbox.command("list")
@config_option
def outbox_list(config: Path | None) -> None:
    """Everything that waits for a destination or was refused for good."""
    rows = [
        (
            str(row["id"]),
            row["destination"],
            row["kind"],
            row["state"],
            str(row["attempts"]),
            row["last_error"] or "",
        )
        for row in _ledger(config).deliveries.unfinished()
    ]
    if rows:
        _table(("id", "destination", "kind", "state", "attempts", "last error"), rows)
    else:
        click.echo("Everything has been delivered.")


@outbox.command("again")
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="Everything that was refused for good.")
@config_option
def outbox_again(ids: tuple[int, ...], every: bool, config: Path | None) -> None:
    """Put refused objects back into the line; a running node sends them at once."""
    if bool(ids) == every:
        raise click.UsageError("Give the ids that `qc-node outbox list` shows, or --all.")
    ledger = _ledger(config)
    known = {row["id"]: row["state"] for row in ledger.deliveries.unfinished()}
    for number in ids:
        if number not in known:
            raise QcNodeError(f"There is no unfinished delivery with the id {number}.")
    chosen = [n for n, state in known.items() if n in ids or (every and state == "failed")]
    for number in chosen:
        ledger.deliveries.again(number, time.time())
    click.echo(f"{len(chosen)} objects are in the line again.")


@main_group.command("judge-again")
@click.argument("series_uids", nargs=-1, required=True)
@config_option
def judge_again(series_uids: tuple[str, ...], config: Path | None) -> None:
    """Judge series once more, with the models and rules now in force; the new report names the old one."""
    ledger = _ledger(config)
    for uid in series_uids:
        series = ledger.series.get(uid)
        if series is None:
            raise QcNodeError(f"There is no series {uid} in the ledger.")
        if not ledger.series.judge_again(series["series_id"], time.time()):
            raise QcNodeError(f"The series {uid} is not finished, or its images were removed by retention.")
    click.echo(f"{len(series_uids)} series are in the queue.")


def _ledger(config: Path | None) -> Ledger:
    from qc_node.ledger import Ledger

    path = load_settings(config).node.data_dir / "ledger.sqlite"
    if not path.is_file():
        raise QcNodeError(f"There is no ledger {path}; has the node run with this configuration?")
    return Ledger(path)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns as wide as their content; the last one takes what is left."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header) - 1)]
    for number, row in enumerate([header, *rows]):
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, str(row[-1])])
        click.echo(click.style(line, bold=True) if number == 0 else line)


@contextmanager
def _counter() -> Iterator[Callable[[int, int], None]]:
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
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress callback (done, of all) that draws a bar on a terminal and is silent elsewhere."""
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield progress


def main(argv: list[str] | None = None) -> None:
    """Entry point: run a command and turn errors into one sentence and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]  # allowed before and after the command
    try:
        main_group.main(args=words, prog_name="qc-node", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except QcNodeError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"qc-node: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        click.echo(
            f"qc-node: unexpected {type(error).__name__}: {error} (run again with --debug to see where)", err=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
