"""``qc-node review``."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qc_node.cli.shared import LEDGER_NAME, config_option, load_settings

if TYPE_CHECKING:
    from qc_node.config import Settings
    from qc_node.engine.judging import SeriesOutcome
    from qc_node.web.settings import WebOptions


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", type=int, default=0, help="Web port; default: a free one.")
@config_option
def review(folder: Path, port: int, config: Path | None) -> None:
    """Open the analyst page on a folder of your own.

    Everything stays in a temporary folder that goes with the command.
    """
    from qc_node.engine.from_disk import keep
    from qc_node.ledger import Ledger
    from qc_node.spool import Spool
    from qc_node.web.access import readers
    from qc_node.web.app import create_app
    from qc_node.web.server import serve
    from qc_node.web.settings import WebDeps

    settings = load_settings(config)
    with tempfile.TemporaryDirectory(prefix="qc-node-review-") as temporary:
        root = Path(temporary)
        ledger, spool = Ledger(root / LEDGER_NAME), Spool(root)
        app = create_app(WebDeps(ledger=ledger, spool=spool, web=_web_options(root)))
        server = serve(app, "127.0.0.1", port)
        try:
            _, token = readers.add(
                ledger,
                "analyst",
                name="Analyst",
                site="here",
                at=time.time(),
                role=readers.Role.EXPERT,
                by="qc-node review",
            )
            click.echo(f"{server.url}/sign-in?next=/review#{token}")
            for outcome in _judged(folder, settings):
                uid = keep(ledger, spool, outcome, time.time())
                if uid is not None:
                    app.state.board.publish(uid)
                elif outcome.skipped:
                    click.echo(f"{outcome.source}: {outcome.skipped}", err=True)
            if sys.stdout.isatty():
                click.echo("All series are judged. Ctrl-C ends.")
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("")
        finally:
            server.stop()
            ledger.close()


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
