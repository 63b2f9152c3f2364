"""Notes whose a study is when one of its files is read: it is found by this when its files are gone."""

from __future__ import annotations

from qc_node.dicom.patient import pseudonym, read_identity
from qc_node.ledger import Ledger
from qc_node.spool import Spool


def note_patient(ledger: Ledger, spool: Spool, study_uid: str, name: str) -> None:
    """Note the patient of the file `name` for its study; one that cannot be read says nothing."""
    who = read_identity(spool.path(name))
    if who is not None:
        ledger.patients.note(study_uid, pseudonym(spool.patient_key(), who.patient_id, who.issuer))
