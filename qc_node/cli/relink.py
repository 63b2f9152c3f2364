"""``qc-node relink``: identifiers that were corrected elsewhere and that the images do not bring along."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import click

from qc_node.cli.shared import config_option, ledger_of, load_settings

OPTIONS = {
    "patient_id": "PatientID",
    "issuer": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "accession_number": "AccessionNumber",
}
"""DICOM keywords by option."""


def _date(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value and not (len(value) == 8 and value.isdigit()):
        raise click.BadParameter("is written YYYYMMDD.")
    return value


@click.command()
@click.option("--study-uid", required=True, help="Study Instance UID, as the images name it.")
@click.option("--series-uid", help="Only this series of the study.")
@click.option("--patient-id", help="The right Patient ID.")
@click.option("--issuer", help="The right Issuer of Patient ID.")
@click.option("--patient-name", help="The right name, as in DICOM: Family^Given.")
@click.option("--birth-date", callback=_date, help="The right birth date, YYYYMMDD.")
@click.option("--sex", type=click.Choice(["M", "F", "O", ""]), help="The right sex.")
@click.option("--accession-number", help="The right accession number.")
@click.option("--undo", is_flag=True, help="Reports carry what the images say again.")
@config_option
def relink(study_uid: str, series_uid: str | None, undo: bool, config: Path | None, **said: str | None) -> None:
    """Have reports carry corrected identifiers of a patient or a study.

    For a merge of patients, or a number that was corrected in the PACS only.

    What is not given stays as the images say; "" empties a value.  New reports are written at once, by a running
    node or by the next one.  They name the old ones as their predecessors if the patient is the same; if not, the
    old ones must be removed at the PACS, and this says which.  The images in the node stay as they are, and so do
    votes.
    """
    from qc_node.outbox.relinking import relink as correct
    from qc_node.spool import Spool

    identity = {keyword: said[option] for option, keyword in OPTIONS.items() if said[option] is not None}
    if undo == bool(identity):
        raise click.UsageError("Give at least one corrected identifier, or --undo.")
    settings = load_settings(config)
    ledger = ledger_of(settings)
    done = correct(
        ledger,
        Spool(settings.node.data_dir),
        study_uid,
        series_uid,
        None if undo else {keyword: value for keyword, value in identity.items() if value is not None},
        getpass.getuser(),
        time.time(),
    )
    click.echo(f"{done.again} series get a new report; {done.later} carry the correction from their next one on.")
    for uid in done.wrong:
        click.echo(f"The report {uid} names another patient now: remove it at the PACS.")
