"""``qc-node review``."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qc_node.cli.shared import LEDGER_NAME, config_option, load_settings
from qc_node.domain import QcNodeError

if TYPE_CHECKING:
    from qc_node.config import Settings
    from qc_node.engine.judging import SeriesOutcome
    from qc_node.ledger import Ledger
    from qc_node.web.settings import WebOptions

ANALYST = "analyst"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", type=int, default=0, help="Web port; default: a free one.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where verdicts and corrections are kept; default: below ~/.local/share/qc-node/review.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the answers and corrections that are kept as CSV, and end.",
)
@config_option
def review(folder: Path, port: int, keep: Path | None, export: Path | None, config: Path | None) -> None:
    """Open the analyst page on a folder of your own.

    What was found and what you corrected is kept: the same folder opened again shows it.  Your folder is only
    read.
    """
    from qc_node.engine.from_disk import keep as keep_series
    from qc_node.ledger import Ledger
    from qc_node.spool import PRIVATE, Spool
    from qc_node.web.app import create_app
    from qc_node.web.server import serve
    from qc_node.web.settings import WebDeps

    settings = load_settings(config)
    root = (keep or kept_in(folder)).expanduser()
    if export is not None:
        _export(folder, root, export)
        return
    root.mkdir(PRIVATE, parents=True, exist_ok=True)
    ledger, spool = Ledger(root / LEDGER_NAME), Spool(root)
    app = create_app(WebDeps(ledger=ledger, spool=spool, web=_web_options(root)))
    server = serve(app, "127.0.0.1", port)
    try:
        click.echo(f"{server.url}/sign-in?next=/review#{_token(ledger)}")
        click.echo(f"Kept in {root}")
        for outcome in _judged(folder.resolve(), settings):
            number = keep_series(ledger, spool, outcome, time.time())
            if number is not None:
                app.state.board.publish(number)
            if outcome.skipped:
                click.echo(f"{outcome.source}: {outcome.skipped}", err=True)
        if sys.stdout.isatty():
            click.echo("All series are judged. Ctrl-C ends.")
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("")
    finally:
        server.stop()
        ledger.close()


def kept_in(folder: Path) -> Path:
    """Where what people say of a folder is kept: below the user's data folder (XDG), never in it."""
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    whole = folder.resolve()
    name = f"{whole.name}-{hashlib.sha256(str(whole).encode()).hexdigest()[:12]}"
    return Path(home).expanduser() / "qc-node" / "review" / name


def _token(ledger: Ledger) -> str:
    """A personal link for the one who sits here; the same reader each time, who keeps the corrections."""
    from qc_node.web.access import readers

    if ledger.readers.by_login(ANALYST) is not None:
        return readers.new_link(ledger, ANALYST, time.time())
    role = readers.Role.EXPERT
    _, token = readers.add(ledger, ANALYST, name="Analyst", site="here", at=time.time(), role=role, by="qc-node review")
    return token


def _export(folder: Path, root: Path, target: Path) -> None:
    """Write ``/review.csv`` of what is kept."""
    from qc_node.ledger import Ledger
    from qc_node.spool import Spool
    from qc_node.web.review import csv_tables, searching
    from qc_node.web.settings import WebDeps

    if not (root / LEDGER_NAME).is_file():
        raise QcNodeError(f"Nothing is kept of {folder} yet; open it with qc-node review first.")
    ledger = Ledger(root / LEDGER_NAME)
    deps = WebDeps(ledger=ledger, spool=Spool(root), web=_web_options(root))
    found = searching.all_entries(deps, searching.ReviewFilter())
    rows = itertools.chain.from_iterable(map(csv_tables.per_answer, found))
    try:
        with target.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(csv_tables.streamed(rows, csv_tables.PER_ANSWER))
    except OSError as error:
        raise QcNodeError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        ledger.close()
    click.echo(f"Written: {target}")


def _web_options(root: Path) -> WebOptions:
    """Pages on loopback with a secret of their own, which show the verdict before anybody voted."""
    from qc_node.config import Settings
    from qc_node.config.settings import NodeSettings, WebSettings
    from qc_node.parts import web_options

    return web_options(Settings(node=NodeSettings(data_dir=root), web=WebSettings(blind=False)))


def _judged(folder: Path, settings: Settings) -> Iterator[SeriesOutcome]:
    from qc_node.engine.classify import classify_paths
    from qc_node.engine.registry import Registry, choose_device
    from qc_node.parts import rules_of

    registry = Registry(settings.classify.models_dir, choose_device(settings.classify.device))
    return classify_paths([folder], None, registry, rules_of(settings), lambda said: click.echo(said, err=True))
