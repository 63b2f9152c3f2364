"""Forgetting a patient: whose a study is, what goes in which order, and the record of it.

Order, so that a kill at any point can be completed by the same command and nothing comes back by itself:

1. nothing new begins (series *failed*, deliveries *dropped*), and a row of the audit says what is under way;
2. files go, and their folders are synced: a file without a row would be taken in at the next start;
3. rows go, in one transaction with what arrived meanwhile and with the record of the deletion;
4. the ledger's free pages and its write-ahead log are emptied.

What arrives later is a new reception.  The record holds no identity: each patient and study is an HMAC under the
node's ``patient-key`` and a salt of the record, so that who has the number can be shown that it was forgotten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from qc_node.classifiers import catalogue
from qc_node.dicom.patient import PatientIdentity, key_mark, keyed_digest, means, pseudonym, read_identity
from qc_node.domain import QcNodeError
from qc_node.engine.pseudonyms import note_patient
from qc_node.engine.registry import cards
from qc_node.ledger import Ledger
from qc_node.ledger.audit import FORGOTTEN_EVENT
from qc_node.ledger.erasing import Erasing, Held, Scope, SentObject
from qc_node.ledger.rows import AuditRow, FiledSeries
from qc_node.spool import Spool

BEGUN = "forgetting"
"""The event of the audit that says what is under way; the record is :data:`FORGOTTEN_EVENT`."""

ARRIVING_S = 600.0
"""A file without a row that is younger may be of an object that is arriving while the node runs."""
CLOCK_SET_S = 86_400.0
"""A file may be dated before a row that is older, where somebody set the clock back in between."""

Progress = Callable[[int, int], None]
"""Called with how many series were looked at, and of how many."""


@dataclass(frozen=True)
class Asked:
    """Who is to be forgotten: patients by Patient ID, studies by UID.

    ``issuer`` is Issuer of Patient ID of all `patients`: None where the operator names none, empty for images that
    have none.
    """

    patients: tuple[str, ...] = ()
    issuer: str | None = None
    studies: tuple[str, ...] = ()

    def digests(self, key: bytes, salt: bytes) -> list[str]:
        """What a record says of them."""
        named = [keyed_digest(key, salt, "patient", patient) for patient in self.patients]
        if self.issuer is not None:
            named += [keyed_digest(key, salt, "issued", patient, self.issuer) for patient in self.patients]
        return named + [keyed_digest(key, salt, "study", uid) for uid in self.studies]


@dataclass
class Found:
    """What a search found.

    Attributes
    ----------
    scope
        What is to be forgotten.
    absent
        Which of the patients and studies are not here, counted from 1 in the order of asking.
    shared
        Studies that hold another patient too; of these single series go.
    other
        Studies that once named the patient and now name another one; they stay.
    untold
        Series of which neither image, report nor pseudonym says whose they are.
    unreadable
        Quarantined files that say nothing of a patient.
    """

    scope: Scope = field(default_factory=Scope)
    absent: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    untold: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class Record:
    """What was done: the number of its row in the audit, what was there, files that were removed, models."""

    number: int
    counts: dict[str, int]
    files: int
    sent: tuple[SentObject, ...]
    models: tuple[str, ...]


# -- whose is it -------------------------------------------------------------------------------------
class Search:
    """Finds what belongs to patients and studies; reads rows and headers, changes nothing."""

    def __init__(self, ledger: Ledger, spool: Spool, key: bytes) -> None:
        self._patients = ledger.patients
        self._ledger = ledger
        self._spool = spool
        self._key = key

    def find(self, asked: Asked, erasing: Erasing, progress: Progress = lambda done, of: None) -> Found:
        """Find everything.

        Raises
        ------
        QcNodeError
            A Patient ID was issued by several issuers and none was named.
        """
        found = Found()
        untold = self._untold(asked, found, progress) if asked.patients else {}
        quarantined = list(self._quarantined(found))
        studies = dict.fromkeys(asked.studies)
        series: list[int] = []
        objects: list[int] = []
        for number, patient in enumerate(asked.patients, 1):
            wanted = means(self._key, patient, asked.issuer)
            whole, mine, others = self._of_patient(wanted, untold, found)
            studies |= dict.fromkeys(whole)
            series += mine
            objects += others
            if not (whole or mine or others or any(name.startswith(wanted) for _, name, _ in quarantined)):
                found.absent.append(f"patient {number}")
        names = [means(self._key, patient, asked.issuer) for patient in asked.patients]
        lying = [
            (number, uid)
            for number, name, uid in quarantined
            if uid in studies or any(name.startswith(wanted) for wanted in names)
        ]
        for number, uid in enumerate(asked.studies, 1):
            if uid not in {study for _, study in lying} and not erasing.held(Scope(studies=(uid,))).anything:
                found.absent.append(f"study {number}")
        found.scope = Scope(tuple(studies), tuple(series), tuple(objects), tuple(number for number, _ in lying))
        return found

    def _of_patient(
        self, wanted: str, untold: dict[str, set[str]], found: Found
    ) -> tuple[list[str], list[int], list[int]]:
        """Whole studies, and single series and objects, of the patient whose pseudonyms begin as `wanted`."""
        candidates = dict.fromkeys(row["study_uid"] for row in self._patients.studies_of(wanted))
        candidates |= {uid: None for uid, names in untold.items() if any(n.startswith(wanted) for n in names)}
        self._check_issuer(wanted, candidates, untold)
        whole: list[str] = []
        series: list[int] = []
        objects: list[int] = []
        for uid in candidates:
            part = self._part(uid, wanted, found)
            if part is None:
                whole.append(uid)
            else:
                series += part[0]
                objects += part[1]
        return whole, series, objects

    def _untold(self, asked: Asked, found: Found, progress: Progress) -> dict[str, set[str]]:
        """Studies without a pseudonym whose files name one of the patients, with the pseudonyms of these."""
        wanted = [means(self._key, patient, asked.issuer) for patient in asked.patients]
        out: dict[str, set[str]] = {}
        for study_uid, name in self._read_untold(found, progress):
            if any(name.startswith(beginning) for beginning in wanted):
                out.setdefault(study_uid, set()).add(name)
        return out

    def _read_untold(self, found: Found, progress: Progress) -> Iterator[tuple[str, str]]:
        mark, done, last = key_mark(self._key), 0, 0
        of = self._patients.untold_count(mark)
        while rows := self._patients.untold_series(mark, last):
            for row in rows:
                name = self._series_name(row["series_id"])
                found.untold += name is None and row["patient"] is None
                done, last = done + 1, row["series_id"]
                progress(done, max(of, done))
                if name is not None:
                    yield row["study_uid"], name
        last = 0
        while objects := self._patients.untold_objects(mark, last):
            for thing in objects:
                last = thing["instance_id"]
                name = self._name_in(thing["path"])
                if name is not None:
                    yield thing["study_uid"], name

    def _part(self, study_uid: str, wanted: str, found: Found) -> tuple[list[int], list[int]] | None:
        """The series and objects of a study that are the patient's; None when the whole study is."""
        noted = (self._patients.of(study_uid) or "").split()
        rows, things = self._patients.series_of(study_uid), self._patients.objects_of(study_uid)
        series = {row["series_id"]: self._belongs(self._name_of(row, noted), wanted) for row in rows}
        objects = {o["instance_id"]: self._belongs(self._name_in(o["path"]), wanted) for o in things}
        mine = [number for number, yes in series.items() if yes], [n for n, yes in objects.items() if yes]
        if set(series.values()) | set(objects.values()) <= ({True, None} if len(noted) < 2 else {True}):
            return None
        found.untold += sum(yes is None for yes in series.values())
        if any(mine):
            found.shared.append(study_uid)
        elif None not in series.values():
            found.other.append(study_uid)
        return mine

    @staticmethod
    def _belongs(name: str | None, wanted: str) -> bool | None:
        return None if name is None else name.startswith(wanted)

    def _name_of(self, row: FiledSeries, noted: Sequence[str]) -> str | None:
        """Whose a series is: what its files say, else what was noted of its study where that is one patient."""
        name = self._series_name(row["series_id"])
        return noted[0] if name is None and len(noted) == 1 else name

    def _series_name(self, series_id: int) -> str | None:
        """Whose a series is by the first of its files that can be read."""
        read = (read_identity(self._spool.path(path)) for path in self._patients.files_of(series_id))
        return self._name(next((who for who in read if who is not None), None))

    def _name_in(self, path: str) -> str | None:
        return self._name(read_identity(self._spool.path(path)))

    def _name(self, who: PatientIdentity | None) -> str | None:
        return None if who is None else pseudonym(self._key, who.patient_id, who.issuer) or None

    def _check_issuer(self, wanted: str, studies: Iterable[str], untold: dict[str, set[str]]) -> None:
        names = {name for uid in studies for name in (self._patients.of(uid) or "").split()}
        names |= {name for uid in studies for name in untold.get(uid, ())}
        issued = {name for name in names if name.startswith(wanted)}
        if len(issued) > 1:
            raise QcNodeError(
                f"This Patient ID was given by {len(issued)} issuers, so it may be of several people; name one"
                ' with --issuer (--issuer "" for images that name none).'
            )

    def _quarantined(self, found: Found) -> Iterator[tuple[int, str, str]]:
        """Number, pseudonym and study of what lies in quarantine and names somebody."""
        for row in self._ledger.instances.quarantined():
            if self._spool.has(row["path"]):
                who = read_identity(self._spool.path(row["path"]))
                found.unreadable += who is None
                if who is not None:
                    yield row["id"], pseudonym(self._key, who.patient_id, who.issuer), who.study_uid


# -- doing it ----------------------------------------------------------------------------------------
class Forgetting:
    """Carries it out.

    Parameters
    ----------
    alone
        No node uses the data folder, and none can start.
    models_dir
        Where the cards of the models are.
    """

    def __init__(
        self, ledger: Ledger, spool: Spool, erasing: Erasing, *, alone: bool, models_dir: Path, key: bytes
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._erasing = erasing
        self._alone = alone
        self._models_dir = models_dir
        self._key = key

    def carry_out(self, asked: Asked, found: Found, actor: str, now: float, salt: bytes) -> Record:
        """Steps 1 to 3 of the module's order."""
        scope = found.scope
        held = self._erasing.held(scope)
        inputs = sorted(self._digests(held.inputs))
        models = models_that_name(self._models_dir, inputs)
        detail = {
            "salt": salt.hex(),
            "who": self._who(asked, scope, salt),
            "inputs": inputs,
            "models": list(models),
        }
        self._erasing.stop(scope)
        self._ledger.audit.add(BEGUN, actor, now, detail)
        removed = self._remove(scope, held, now)
        with self._ledger.db.transaction():
            done = self._erasing.held(scope)
            removed += self._remove(scope, done, now)
            self._erasing.erase(scope)
            counts = {kind: n for kind, n in done.counts.items() if n}
            record = self._ledger.audit.add(FORGOTTEN_EVENT, actor, now, {**detail, "counts": counts})
        for study_uid in found.shared:
            self._note_the_rest(study_uid)
        if self._alone:
            self._spool.sweep()
        return Record(record, counts, removed, self._sent(held, done), models)

    def _note_the_rest(self, study_uid: str) -> None:
        """Of a study of which a part went, note again whose the rest is."""
        for row in self._ledger.patients.series_of(study_uid):
            for path in islice(self._ledger.patients.files_of(row["series_id"]), 1):
                note_patient(self._ledger, self._spool, study_uid, path)

    def _who(self, asked: Asked, scope: Scope, salt: bytes) -> list[str]:
        """Digests of the patients that were named and of every study that goes as a whole."""
        studies = tuple(dict.fromkeys((*asked.studies, *scope.studies)))
        return sorted(Asked(asked.patients, asked.issuer, studies).digests(self._key, salt))

    def _sent(self, before: Held, after: Held) -> tuple[SentObject, ...]:
        """What has left, or may have: what waited may be on its way while a node runs."""
        waiting = [] if self._alone else [s for s in before.sent if not s.arrived]
        known = {(s.sop_instance_uid, s.destination) for s in after.sent}
        return after.sent + tuple(s for s in waiting if (s.sop_instance_uid, s.destination) not in known)

    def _digests(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if self._spool.has(name):
                with self._spool.path(name).open("rb") as file:
                    yield hashlib.file_digest(file, "sha256").hexdigest()

    # -- files ---------------------------------------------------------------------------------------
    def _remove(self, scope: Scope, held: Held, now: float) -> int:
        return self._spool.remove_all({*held.files, *self._strays(scope, now)})

    def _strays(self, scope: Scope, now: float) -> Iterator[str]:
        """Files of these series that no row knows: a process was killed before it could write one."""
        young = float("inf") if self._alone else now - ARRIVING_S
        stages = [spec.stage for spec in catalogue.specs()]
        for study_uid in self._studies_of(scope):
            for row in self._series_of(scope, study_uid):
                yield from self._spool.images_of(study_uid, row["series_uid"], young)
                for run in range(1, row["run"] + 1):
                    for suffix in ("", *(f".{stage}" for stage in stages)):
                        yield from self._spool.kept_of(f"{study_uid}/{row['series_uid']}{suffix}", run)
                yield from self._unposted(study_uid, row)

    def _studies_of(self, scope: Scope) -> list[str]:
        rows = [self._ledger.series.by_id(number) for number in scope.series]
        return list(dict.fromkeys((*scope.studies, *(row["study_uid"] for row in rows if row is not None))))

    def _series_of(self, scope: Scope, study_uid: str) -> list[FiledSeries]:
        rows = self._ledger.patients.series_of(study_uid)
        return [row for row in rows if study_uid in scope.studies or row["series_id"] in scope.series]

    def _unposted(self, study_uid: str, row: FiledSeries) -> Iterator[str]:
        """Reports that were written and not put in the outbox: judged, and not reported."""
        verdict = self._ledger.verdicts.get(row["series_id"], row["run"])
        written = self._ledger.deliveries.reports_of(row["series_id"])
        if verdict is None or any(report["run"] == row["run"] for report in written):
            return
        for name in self._spool.reports_since(verdict["judged_at"] - CLOCK_SET_S):
            who = read_identity(self._spool.path(name))
            if who is not None and who.study_uid == study_uid and not self._ledger.deliveries.knows_file(name):
                yield name


def models_that_name(models_dir: Path, digests: Sequence[str]) -> tuple[str, ...]:
    """Models whose card or training list names one of these SHA-256 digests of kept network inputs."""
    found = []
    for folder, card in cards(models_dir) if digests else ():
        lists = [path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.json")]
        if any(digest in text for digest in digests for text in lists):
            found.append(f"{card.name} {card.version}")
    return tuple(found)


def records_of(ledger: Ledger, asked: Asked, key: bytes) -> list[AuditRow]:
    """Records of deletions that were of one of these patients and studies."""
    out = []
    for row in ledger.audit.of(FORGOTTEN_EVENT):
        said = json.loads(row["detail"])
        if set(asked.digests(key, bytes.fromhex(said["salt"]))) & set(said["who"]):
            out.append(row)
    return out
