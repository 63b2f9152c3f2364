"""``qc-node forget``: everything that the node holds of a patient or a study."""

from __future__ import annotations

import getpass
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qc_node.cli.shared import config_option, ledger_of, load_settings, progress_bar
from qc_node.domain.errors import QcNodeError

if TYPE_CHECKING:
    from qc_node.ledger import Ledger
    from qc_node.ledger.erasing import Erasing
    from qc_node.operations.forgetting import Asked, Found, Record
    from qc_node.spool import Spool

REWRITE_BESIDE_NODE_BYTES = 10**9
"""A larger ledger is not rewritten while its node runs: reception would wait for longer than some ten seconds."""

KINDS = {
    "studies": "studies",
    "series": "series",
    "images": "images",
    "other objects": "other objects",
    "reports": "reports",
    "network inputs": "network inputs",
    "kept pictures": "kept pictures",
    "thumbnails": "thumbnails",
    "quarantined": "quarantined files",
}
KEPT = {"votes": "votes", "gradings": "gradings"}


@click.command()
@click.option(
    "--patient-id", "patients", multiple=True, help='Patient ID (0010,0020); "-" asks for it. Repeatable.'
)
@click.option("--issuer", help='Issuer of Patient ID (0010,0021) of these patients; "" for images that name none.')
@click.option("--study-uid", "studies", multiple=True, help="Study Instance UID (0020,000D). Repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--compact", is_flag=True, help="Only rewrite the ledger, so that its free space holds nothing.")
@config_option
def forget(
    patients: tuple[str, ...],
    issuer: str | None,
    studies: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    compact: bool,
    config: Path | None,
) -> None:
    """Remove everything that the node holds of a patient or a study, for ever.

    Images, reports, network inputs, thumbnails, quarantined files and rows go; votes and gradings stay without
    link.  It works beside a running node.  Objects that arrive later are taken in again.
    """
    if bool(patients or studies) == compact:
        raise click.UsageError("Give --patient-id or --study-uid, or --compact alone.")
    _check(patients, studies)
    from qc_node.ledger.erasing import Erasing
    from qc_node.operations.forgetting import Asked
    from qc_node.spool import Spool

    settings = load_settings(config)
    asked = Asked(tuple(map(_asked_for, patients)), None if issuer is None else issuer.strip(), studies)
    with closing(ledger_of(settings)) as ledger, _alone(settings.node.data_dir) as alone:
        spool = Spool(settings.node.data_dir)
        erasing = Erasing(ledger.db, lambda: secrets.token_hex(16))
        if compact:
            _clean(ledger, erasing, alone)
            return
        found = _find(ledger, spool, erasing, asked, alone, dry_run)
        if found is None:
            return
        _say_found(found, erasing)
        if dry_run:
            _say_sent(erasing.held(found.scope).sent)
            click.echo("Nothing was changed.")
            return
        _confirm(yes)
        _forget(ledger, spool, erasing, asked, found, alone, settings.classify.models_dir)


def _check(patients: Sequence[str], studies: Sequence[str]) -> None:
    from qc_node.dicom.uids import is_uid

    if any(not patient.strip() for patient in patients):
        raise click.UsageError("An empty --patient-id names nobody.")
    for number, uid in enumerate(studies, 1):
        if not is_uid(uid):
            raise click.UsageError(f"--study-uid number {number} is not a DICOM UID.")


def _asked_for(patient: str) -> str:
    """A Patient ID; "-" keeps it out of the shell's history and the list of processes."""
    said: str = click.prompt("Patient ID", err=True) if patient == "-" else patient
    return said.strip()


@contextmanager
def _alone(root: Path) -> Iterator[bool]:
    """Whether no node uses the data folder; then none can start meanwhile."""
    from qc_node.spool import lock_folder

    try:
        lock = lock_folder(root)
    except QcNodeError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(lock)


def _find(
    ledger: Ledger, spool: Spool, erasing: Erasing, asked: Asked, alone: bool, dry_run: bool
) -> Found | None:
    """What is to go; None when it went before, and the last step is done once more."""
    from qc_node.operations.forgetting import Search, records_of

    key = spool.patient_key()
    with progress_bar("looking") as progress:
        found = Search(ledger, spool, key).find(asked, erasing, progress)
    if not found.absent:
        return found
    records = records_of(ledger, asked, key)
    if records and len(found.absent) == len(asked.patients) + len(asked.studies):
        for row in records:
            click.echo(f"Forgotten on {_day(row['at'])} (record {row['id']} of the audit); nothing is here.")
        if not dry_run:
            _clean(ledger, erasing, alone)
        return None
    raise QcNodeError(_not_here(found))


def _not_here(found: Found) -> str:
    who = " and ".join(found.absent)
    sentence = f"Nothing is known here of {who}, as given on the command line; nothing was removed."
    if found.untold:
        sentence += (
            f" Of {found.untold} series neither an image nor a report is left that says whose they are;"
            " only --study-uid finds these."
        )
    if found.other:
        sentence += f" {len(found.other)} studies once named the patient and name another one now."
    return sentence


def _say_found(found: Found, erasing: Erasing) -> None:
    counts = erasing.held(found.scope).counts
    click.echo(f"To be forgotten: {_counted(counts, KINDS) or 'rows only'}.")
    if kept := _counted(counts, KEPT):
        click.echo(f"To stay without link: {kept}.")
    for uid in found.shared:
        click.echo(f"The study {uid} holds another patient too: what is about the whole study stays.")
    for uid in found.other:
        click.echo(f"The study {uid} once named the patient and names another one now: it stays.")
    if found.untold:
        click.echo(
            f"Of {found.untold} series neither an image nor a report says whose they are:"
            " only --study-uid finds these."
        )
    if found.unreadable:
        click.echo(
            f"{found.unreadable} quarantined files say nothing of a patient; they go after"
            " [retention] keep_training_days."
        )


def _counted(counts: object, words: dict[str, str]) -> str:
    assert isinstance(counts, dict)
    return ", ".join(f"{counts[kind]} {word}" for kind, word in words.items() if counts.get(kind))


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here; give --yes.")
    click.confirm("Remove all this for ever?", abort=True)


def _forget(
    ledger: Ledger, spool: Spool, erasing: Erasing, asked: Asked, found: Found, alone: bool, models_dir: Path
) -> None:
    from qc_node.operations.forgetting import Forgetting

    forgetting = Forgetting(ledger, spool, erasing, alone=alone, models_dir=models_dir, key=spool.patient_key())
    record = forgetting.carry_out(asked, found, _actor(), time.time(), secrets.token_bytes(16))
    click.echo(f"Forgotten: {_counted(record.counts, KINDS) or 'rows only'}; {record.files} files were removed.")
    click.echo(f"Record {record.number} of the audit says when, by whom and how much, without naming anybody.")
    _say_sent(record.sent)
    _say_rest(record, spool)
    _clean(ledger, erasing, alone)


def _actor() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _say_sent(sent: Sequence[object]) -> None:
    from qc_node.ledger.erasing import SentObject

    there = [s for s in sent if isinstance(s, SentObject)]
    if there:
        click.echo("These reports are at their destinations and have to be removed there (SOP Instance UID):")
    for one in there:
        click.echo(
            f"  {one.sop_instance_uid} {one.destination}" + ("" if one.arrived else " (it may have arrived)")
        )


def _say_rest(record: Record, spool: Spool) -> None:
    if record.models:
        click.echo(f"Models that name a network input of these images: {', '.join(record.models)}.")
    else:
        click.echo("No model here names a network input of these images as training data.")
    click.echo("Objects that arrive later are taken in again: forget them at the senders too.")
    click.echo("Backups and copies of the data folder hold what they held.")
    for name in spool.ledger_copies():
        click.echo(f"{name} is the copy of the ledger that an upgrade made; remove it when you need no way back.")
    click.echo(
        "Metrics and logs name nobody; log lines hold digests of UIDs. Open pages may show a picture for a day."
    )


def _clean(ledger: Ledger, erasing: Erasing, alone: bool) -> None:
    """Empty the free space of the ledger and its log, or say why not."""
    size = ledger.db.path.stat().st_size
    rewrite = alone or size <= REWRITE_BESIDE_NODE_BYTES
    try:
        if not erasing.clean(rewrite=rewrite):
            raise QcNodeError(
                f"The rows are gone, but the log of {ledger.db.path} is being read and may still hold them;"
                " run qc-node forget --compact."
            )
    except sqlite3.Error as error:
        raise QcNodeError(
            f"The rows are gone, but {ledger.db.path} could not be rewritten ({error}), so its free space may"
            " still hold them; run qc-node forget --compact."
        ) from error
    if rewrite:
        click.echo("The ledger was rewritten; its free space holds nothing of them.")
    else:
        click.echo(
            f"The ledger ({size / 1e9:.1f} GB) was not rewritten beside the running node: what earlier versions"
            " left in its free space goes with qc-node forget --compact while the node is stopped."
        )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
