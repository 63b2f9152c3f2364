"""Notes whose a study is when one of its files is read: it is found by this when its files are gone."""

from __future__ import annotations

from qc_node.dicom.patient import pseudonym, read_identity
from qc_node.ledger import Ledger
from qc_node.spool import Spool


def read_pseudonym(spool: Spool, name: str) -> str | None:
    """The pseudonym of the patient of the file `name`; None when it cannot be read, empty when it names nobody."""
    who = read_identity(spool.path(name))
    return None if who is None else pseudonym(spool.patient_key(), who.patient_id, who.issuer)


def note_patient(ledger: Ledger, spool: Spool, study_uid: str, name: str) -> None:
    """Note the patient of the file `name` for its study; one that cannot be read says nothing."""
    patient = read_pseudonym(spool, name)
    if patient is not None:
        ledger.patients.note(study_uid, patient)
