"""``qc-node readers``."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qc_node.cli.shared import LazyGroup, config_option, ledger_made, load_settings

if TYPE_CHECKING:
    from qc_node.config import Settings

ROLES = ("radiologist", "technologist", "expert", "physicist", "operator")
"""As :class:`qc_node.web.access.readers.Role` has them, which is not imported for a page of help."""


@click.group(cls=LazyGroup)
def readers() -> None:
    """Those who may vote: add, list, disable, enable, change."""


@readers.command("add")
@click.argument("login")
@click.option("--name", required=True, help='How the pages greet: "Dr. M. Bode".')
@click.option("--site", required=True, help="Centre, as statistics name it.")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="radiologist",
    show_default=True,
    help="Experts also grade by the protocol; operators act on the page Operations.",
)
@click.option("--pin", is_flag=True, help="Ask for a PIN (6 to 12 digits) besides the personal link.")
@click.option("--dicom-name", help="How key objects spell the person: Bode^Mechthild.")
@config_option
def add_reader(
    login: str,
    name: str,
    site: str,
    role: str,
    pin: bool,
    dicom_name: str | None,
    config: Path | None,
) -> None:
    """Add a reader and print the personal link, which is shown only now."""
    from qc_node.web.access import readers as roll

    secret = click.prompt("PIN", hide_input=True, confirmation_prompt=True) if pin else None
    settings = load_settings(config)
    with closing(ledger_made(settings)) as ledger:
        reader, token = roll.add(
            ledger, login, name=name, site=site, role=role, at=time.time(), pin=secret, dicom_name=dicom_name
        )
    click.echo(f"Added {reader.name} ({reader.site}, {reader.role.value}) as {reader.pseudonym}.")
    click.echo(roll.personal_link(_base(settings), token))


@readers.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@config_option
def list_readers(as_json: bool, config: Path | None) -> None:
    """List every reader, disabled ones included."""
    from qc_node.web.access import readers as roll

    with closing(ledger_made(load_settings(config))) as ledger:
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


@readers.command("disable")
@click.argument("login")
@config_option
def disable_reader(login: str, config: Path | None) -> None:
    """Shut a reader out at once; the votes stay."""
    from qc_node.web.access import readers as roll

    with closing(ledger_made(load_settings(config))) as ledger:
        reader = roll.disable(ledger, login, time.time())
    click.echo(f"{reader.name} cannot sign in any more; the votes stay.")


@readers.command("enable")
@click.argument("login")
@config_option
def enable_reader(login: str, config: Path | None) -> None:
    """Let a disabled reader in again and print a new personal link; the old one stays dead."""
    from qc_node.web.access import readers as roll

    settings = load_settings(config)
    with closing(ledger_made(settings)) as ledger:
        reader, token = roll.enable(ledger, login, time.time())
    click.echo(f"{reader.name} may sign in again.")
    click.echo(roll.personal_link(_base(settings), token))


@readers.command("rename")
@click.argument("login")
@click.option("--name", help='How the pages greet: "Dr. M. Bode-Hofmann".')
@click.option("--dicom-name", help="How key objects spell the person: Bode-Hofmann^Mechthild.")
@click.option("--login", "new_login", help="What to type at sign-in from now on; single sign-on names it too.")
@config_option
def rename_reader(
    login: str, name: str | None, dicom_name: str | None, new_login: str | None, config: Path | None
) -> None:
    """Call a reader something else; the votes stay this person's.

    Example: qc-node readers rename mbh --name "Dr. M. Bode-Hofmann"
    """
    from qc_node.web.access import readers as roll

    if name is None and dicom_name is None and new_login is None:
        raise click.UsageError("Say what to change: --name, --dicom-name or --login.")
    with closing(ledger_made(load_settings(config))) as ledger:
        reader = roll.change(
            ledger,
            login,
            time.time(),
            by="qc-node readers rename",
            name=name,
            dicom_name=dicom_name,
            new_login=new_login,
        )
    click.echo(f"{reader.login} is {reader.name}.")


@readers.command("role")
@click.argument("login")
@click.argument("role", type=click.Choice(ROLES))
@config_option
def give_role(login: str, role: str, config: Path | None) -> None:
    """Give a reader another role, at once; earlier votes keep theirs."""
    from qc_node.web.access import readers as roll

    with closing(ledger_made(load_settings(config))) as ledger:
        reader = roll.change(ledger, login, time.time(), by="qc-node readers role", role=role)
    click.echo(f"{reader.name} is a {reader.role.value}; earlier votes keep the role that they were cast with.")


@readers.command("site")
@click.argument("login")
@click.argument("site")
@config_option
def give_site(login: str, site: str, config: Path | None) -> None:
    """Say at which centre a reader works now, as statistics name it; earlier votes keep theirs."""
    from qc_node.web.access import readers as roll

    with closing(ledger_made(load_settings(config))) as ledger:
        reader = roll.change(ledger, login, time.time(), by="qc-node readers site", site=site)
    click.echo(f"{reader.name} works at {reader.site}; earlier votes keep the site that they were cast with.")


@readers.command("pin")
@click.argument("login")
@click.option("--remove", is_flag=True, help="Take the PIN away: only the personal link is left.")
@config_option
def give_pin(login: str, remove: bool, config: Path | None) -> None:
    """Ask for a new PIN (6 to 12 digits); the old one and all sessions end."""
    from qc_node.web.access import readers as roll

    secret = None if remove else click.prompt("PIN", hide_input=True, confirmation_prompt=True)
    with closing(ledger_made(load_settings(config))) as ledger:
        reader = roll.set_pin(ledger, login, secret, time.time())
    has = "has no PIN any more" if remove else "has a new PIN"
    click.echo(f"{reader.name} {has} and is signed out everywhere.")


@readers.command("link")
@click.argument("login")
@config_option
def new_link(login: str, config: Path | None) -> None:
    """Print a new personal link; the old one and its sessions end."""
    from qc_node.web.access import readers as roll

    settings = load_settings(config)
    with closing(ledger_made(settings)) as ledger:
        token = roll.new_link(ledger, login, time.time())
    click.echo(roll.personal_link(_base(settings), token))


def _base(settings: Settings) -> str:
    web = settings.web
    return web.public_base or f"http://{web.host}:{web.port}"
