"""A data folder with several patients in it, as receiver, worker, writer and readers leave it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom

from qc_node.config.settings import default_models_dir
from qc_node.ledger import NewVote
from qc_node.ledger.erasing import Erasing
from qc_node.ledger.rows import SeriesRow
from qc_node.operations.forgetting import Asked, Forgetting, Found, Record, Search
from qc_node.outbox.writer import Writer
from qc_node.web.access import readers
from tests.engine.test_worker import Bench, SmallClassifier
from tests.part_settings import writing_settings

NOW = 2_000_000_000.0


class Patients(Bench):
    """Series of patients, judged, reported, voted on."""

    def __init__(self, root: Path, classifier: SmallClassifier | None = None) -> None:
        super().__init__(root, classifier or SmallClassifier())
        settings = writing_settings(destinations=("PACS",), sr_class="comprehensive")
        self.writer = Writer(settings, self.ledger, self.spool, lambda: 2000.0)
        self.erasing = Erasing(self.ledger.db, lambda: secrets.token_hex(16))
        self.words: dict[str, set[str]] = {}

    def take(self, patient: str, study: str = "", issuer: str | None = None) -> SeriesRow:
        """A complete series of a patient; all that names it is noted in :attr:`words`."""
        words = self.words.setdefault(patient, set())

        def change(ds: Any) -> None:
            ds.PatientID, ds.PatientName, ds.PatientBirthDate = patient, f"Name{patient}^X", "19010203"
            ds.AccessionNumber = f"ACCESSION{patient}"
            ds.StudyInstanceUID = study or ds.StudyInstanceUID
            if issuer is not None:
                ds.IssuerOfPatientID = issuer
            words.update(map(str, (patient, f"Name{patient}", ds.SeriesInstanceUID, ds.SOPInstanceUID)))
            if not study:
                words.update((str(ds.StudyInstanceUID), f"ACCESSION{patient}"))

        row = self.ledger.series.get(self.receive(secrets.token_hex(4), change=change))
        assert row is not None
        return row

    def judge(self) -> None:
        """Judge all that waits."""
        while self.worker.step():
            pass

    def report(self) -> None:
        """Write the reports that are due."""
        self.writer.step()
        for patient, words in self.words.items():
            for row in self.ledger.db.rows("SELECT * FROM reports"):
                ds = pydicom.dcmread(self.spool.path(row["path"]))
                if ds.PatientID == patient:
                    words |= {str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID)}

    def vote(self, row: SeriesRow, login: str = "bode", level: str = "good") -> None:
        """A reader is shown the study and votes on the series."""
        known = self.ledger.readers.by_login(login)
        if known is None:
            readers.add(self.ledger, login, name=login, site="A", role="radiologist", at=1.0)
            known = self.ledger.readers.by_login(login)
            assert known is not None
        handle = self.ledger.cases.open(
            secrets.token_urlsafe(16), f"study:{row['study_uid']}", 5.0, study_uid=row["study_uid"]
        )
        shown = secrets.token_urlsafe(16)
        self.ledger.cases.present(shown, handle, known["reader_id"], "A", "CT", 5.0, "panel", context_id=handle)
        vote = NewVote(
            key=f"{row['series_uid']}-{login}",
            reader_id=known["reader_id"],
            role="radiologist",
            site="A",
            modality="CT",
            vote=level,
            voted_at=20.0,
            received_at=20.0,
            source="panel",
            study_uid=row["study_uid"],
            series_uid=row["series_uid"],
            reasons=("motion",),
            presentation=shown,
        )
        self.ledger.votes.add([vote])

    # -- forgetting ----------------------------------------------------------------------------------
    def find(self, *patients: str, issuer: str | None = None, studies: tuple[str, ...] = ()) -> Found:
        key = self.spool.patient_key()
        return Search(self.ledger, self.spool, key).find(Asked(patients, issuer, studies), self.erasing)

    def forget(self, *patients: str, studies: tuple[str, ...] = (), alone: bool = False) -> Record:
        """Search and carry out, as the command does."""
        found = self.find(*patients, studies=studies)
        assert found.absent == []
        record = self.forgetting(alone).carry_out(Asked(patients, None, studies), found, "me", NOW, b"salt")
        assert self.erasing.clean(rewrite=True)
        return record

    def forgetting(self, alone: bool = False) -> Forgetting:
        return Forgetting(
            self.ledger,
            self.spool,
            self.erasing,
            alone=alone,
            models_dir=default_models_dir(),
            key=self.spool.patient_key(),
        )

    def left(self, patient: str) -> list[str]:
        """Where in the data folder a patient can still be read."""
        found = []
        for path in sorted(p for p in self.spool.root.rglob("*") if p.is_file()):
            data = path.read_bytes()
            found += [
                f"{path.relative_to(self.spool.root)}: {w}" for w in self.words[patient] if w.encode() in data
            ]
        return found

    def files(self, *folders: str) -> list[str]:
        """Files of these folders of the data folder, or of all that hold patients."""
        folders = folders or ("images", "reports", "training", "thumbnails", "quarantine", "tmp")
        return sorted(
            str(p.relative_to(self.spool.root)) for f in folders for p in (self.spool.root / f).rglob("*.*")
        )


def interrupted(owner: Any, method: str, before: Callable[[], object]) -> None:
    """Let something happen once, just before a method of an object is called."""
    original, left = getattr(owner, method), [before]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()()
        return original(*args, **kwargs)

    setattr(owner, method, call)
