"""A patient is forgotten: found, removed beside a working node, and what arrives later is new."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest

from qc_node.config.settings import default_models_dir
from qc_node.dicom.part10 import StoredObject
from qc_node.domain import QcNodeError
from qc_node.ledger import Received
from qc_node.ledger.erasing import FORGOTTEN, STOPPED
from qc_node.operations.forgetting import ARRIVING_S, Asked, models_that_name, records_of
from qc_node.outbox.sending import Destination, Outbox
from qc_node.outbox.transport.interface import TransportOutcome, TransportStatus
from qc_node.receiver.recovery import recover
from qc_node.web.access import readers
from qc_node.web.statistics.overview import overview
from qc_node.web.votes.exchange import export_rows, import_rows
from tests.engine.test_worker import SmallClassifier
from tests.operations.patients import NOW, Patients, interrupted


@pytest.fixture
def folder(tmp_path: Path) -> Patients:
    """Two patients, two series each; reported and voted on."""
    folder = Patients(tmp_path)
    for patient in ("P100", "P200"):
        for _ in range(2):
            row = folder.take(patient)
        folder.judge()
        folder.report()
        folder.vote(row)
        folder.vote(row, "meier", "poor")
    return folder


# -- what goes ---------------------------------------------------------------------------------------
def test_no_byte_of_the_data_folder_names_a_forgotten_patient(folder: Patients) -> None:
    assert len(folder.left("P100")) > 20 and len(folder.words["P100"]) > 10
    record = folder.forget("P100")
    assert folder.left("P100") == []
    assert len(folder.left("P200")) > 20
    said = {
        "studies": 2,
        "series": 2,
        "images": 12,
        "reports": 2,
        "network inputs": 2,
        "thumbnails": 2,
        "votes": 2,
    }
    assert {kind: record.counts[kind] for kind in said} == said
    assert record.files == 12 + 2 + 2 + 2


def test_the_other_patient_keeps_every_file(folder: Patients) -> None:
    before = set(folder.files())
    mine = set()
    for row in folder.ledger.db.rows("SELECT study_uid FROM studies"):
        for series in folder.ledger.series.of_study(row["study_uid"]):
            if series["series_uid"] in folder.words["P200"]:
                mine |= {*folder.ledger.instances.paths_of_series(series["series_id"])}
    folder.forget("P100")
    after = set(folder.files())
    assert mine <= after and len(after) == len(before) / 2
    assert recover(folder.spool, folder.ledger) == 0


def test_a_study_is_forgotten_by_its_uid(folder: Patients) -> None:
    row = folder.take("P300")
    folder.words["P300"] |= {row["study_uid"]}
    folder.judge()
    folder.forget(studies=(row["study_uid"],))
    assert folder.left("P300") == []


def test_corrected_identifiers_go_with_their_study(folder: Patients) -> None:
    row = folder.take("P300")
    folder.words["P300"] |= {row["study_uid"], "P301", "Corrected^Patient"}
    folder.judge()
    identity = {"PatientID": "P301", "PatientName": "Corrected^Patient"}
    folder.ledger.relinks.add(row["study_uid"], None, identity, [("P300", "")], "admin", 1.0)
    folder.forget(studies=(row["study_uid"],))
    assert folder.left("P300") == []
    assert folder.ledger.db.value("SELECT count(*) FROM relinks") == 0


def test_votes_count_as_before_and_are_exported_as_forgotten(folder: Patients, tmp_path: Path) -> None:
    before = overview(folder.ledger).all
    folder.forget("P100")
    after = overview(folder.ledger).all
    assert (after.votes, after.studies, after.by_vote, after.by_reader, after.reasons, after.acceptance) == (
        before.votes,
        before.studies,
        before.by_vote,
        before.by_reader,
        before.reasons,
        before.acceptance,
    )
    assert after.between_readers == before.between_readers
    rows = list(export_rows(folder.ledger, whole_log=True))
    gone = [row for row in rows if row["study_instance_uid"].startswith(FORGOTTEN)]
    assert len(rows) == 4 and len(gone) == 2 and len({row["study_instance_uid"] for row in gone}) == 1
    elsewhere = Patients(tmp_path / "elsewhere")
    given = [("row", {name: str(value) for name, value in row.items() if value is not None}) for row in rows]
    assert import_rows(elsewhere.ledger, given, now=NOW, add_readers=True).votes == 4


def test_the_link_of_a_case_leads_nowhere_afterwards(folder: Patients) -> None:
    handles = {row["handle"] for row in folder.ledger.db.rows("SELECT * FROM presentations")}
    folder.forget("P100", "P200")
    assert handles and all(folder.ledger.cases.get(handle) is None for handle in handles)


# -- who it is ---------------------------------------------------------------------------------------
def test_a_patient_is_found_when_no_file_is_left(folder: Patients) -> None:
    for row in folder.ledger.db.rows("SELECT path FROM instances UNION SELECT path FROM reports"):
        folder.spool.remove(row["path"])
    assert len(folder.find("P100").scope.studies) == 2
    assert folder.find("P10").absent == ["patient 1"]


def test_a_patient_of_an_older_ledger_is_found_by_an_image_or_a_report(folder: Patients) -> None:
    folder.ledger.db.conn.execute("UPDATE studies SET patient = NULL")
    assert len(folder.find("P100").scope.studies) == 2
    for row in folder.ledger.db.rows("SELECT path FROM instances"):
        folder.spool.remove(row["path"])
    assert len(folder.find("P100").scope.studies) == 2, "by the reports"
    for row in folder.ledger.db.rows("SELECT path FROM reports"):
        folder.spool.remove(row["path"])
    found = folder.find("P100")
    assert found.absent == ["patient 1"] and found.untold == 4


def test_a_series_that_nobody_has_looked_at_yet_is_found(folder: Patients) -> None:
    waiting = folder.take("P100")
    assert waiting["study_uid"] in folder.find("P100").scope.studies


def test_a_pseudonym_under_a_lost_key_is_not_trusted(folder: Patients) -> None:
    (folder.spool.root / "patient-key").unlink()
    assert len(folder.find("P100").scope.studies) == 2, "by the files"


def test_the_pseudonym_says_nothing_without_the_key(folder: Patients, tmp_path: Path) -> None:
    other = Patients(tmp_path / "other")
    other.take("P100")
    other.judge()
    mine, theirs = (
        {row["patient"] for row in f.ledger.db.rows("SELECT patient FROM studies")} for f in (folder, other)
    )
    assert len(mine) == 2 and len(theirs) == 1 and mine.isdisjoint(theirs)
    assert (folder.spool.root / "patient-key").stat().st_mode & 0o777 == 0o600


def test_one_number_of_two_issuers_is_not_forgotten_without_the_issuer(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    rows = {issuer: folder.take("PID-41", issuer=issuer) for issuer in ("NORTH", "SOUTH")}
    rows[""] = folder.take("PID-41")
    folder.judge()
    with pytest.raises(QcNodeError, match=r"3 issuers.*--issuer"):
        folder.find("PID-41")
    for issuer, row in rows.items():
        assert folder.find("PID-41", issuer=issuer).scope.studies == (row["study_uid"],)
    assert folder.find("PID-41", issuer="EAST").absent == ["patient 1"]


def test_of_a_study_that_two_patients_share_only_the_series_of_one_go(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    one = folder.take("PID-41")
    two = folder.take("PID-42", study=one["study_uid"])
    folder.words["PID-41"].discard(one["study_uid"])
    folder.words["PID-41"].discard("ACCESSIONPID-41")
    folder.judge()
    folder.report()
    found = folder.find("PID-42")
    assert found.scope.series == (two["series_id"],) and found.shared == [one["study_uid"]]
    folder.forget("PID-42")
    assert folder.left("PID-42") == [] and folder.find("PID-42").absent == ["patient 1"]
    assert [row["series_id"] for row in folder.ledger.series.of_study(one["study_uid"])] == [one["series_id"]]
    folder.forget("PID-41")
    assert folder.left("PID-41") == []


def test_a_key_object_tells_whose_its_study_is(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    row = folder.take("PID-41")
    folder.judge()
    objects = store_object(folder, row["study_uid"], "PID-41")
    record = folder.forget("PID-41")
    assert record.counts["other objects"] == 1 and not folder.spool.path(objects).exists()


def store_object(folder: Patients, study: str, patient: str) -> str:
    """An object that opens no series, of a patient."""
    ds = pydicom.dcmread(next((folder.root).glob("*/0000.dcm")))
    ds.StudyInstanceUID, ds.PatientID, ds.SOPInstanceUID = study, patient, "1.2.3.4.5.6.7"
    name = folder.spool.image_name(study, "1.2.3", "1.2.3.4.5.6.7")
    path = folder.root / "object.dcm"
    ds.save_as(path)
    folder.spool.store(name, path.read_bytes())
    got = Received("1.2.3.4.5.6.7", "1.2", "1.2.3", study, "1.2", "KO", "PACS", name, 9, 9.0, opens_series=False)
    folder.ledger.instances.add([got])
    return name


def test_quarantine_goes_where_it_names_the_patient_and_stays_where_it_does_not(folder: Patients) -> None:
    mine, other = (
        next(p for p in folder.root.glob("*/0000.dcm") if n in p.read_bytes()) for n in (b"P100", b"P200")
    )
    for data in (mine.read_bytes(), other.read_bytes(), b"no DICOM at all"):
        folder.ledger.instances.quarantine(folder.spool.quarantine(data, ".dcm"), "broken", "SCANNER", 5.0)
    assert folder.find("P100").unreadable == 1
    record = folder.forget("P100")
    assert record.counts["quarantined"] == 1 and folder.left("P100") == []
    assert len(folder.ledger.instances.quarantined()) == len(folder.files("quarantine")) == 2


# -- the record --------------------------------------------------------------------------------------
def test_the_record_names_nobody_and_still_proves_it(folder: Patients) -> None:
    folder.forget("P100")
    begun, done = (row for row in folder.ledger.audit.after(0) if row["event"].startswith("forg"))
    assert (begun["event"], done["event"], done["actor"], done["at"]) == ("forgetting", "forgotten", "me", NOW)
    said = json.loads(done["detail"])
    assert said["counts"]["images"] == 12 and len(said["inputs"]) == 2
    assert not [word for word in folder.words["P100"] if word in begun["detail"] + done["detail"]]
    key = folder.spool.patient_key()
    assert [row["id"] for row in records_of(folder.ledger, Asked(("P100",)), key)] == [done["id"]]
    assert [row["id"] for row in records_of(folder.ledger, Asked(("P100",), "NORTH"), key)] == [done["id"]]
    assert (
        records_of(folder.ledger, Asked(("P200",)), key) == records_of(folder.ledger, Asked(("P100",)), b"k") == []
    )


def test_a_model_whose_training_list_names_an_input_is_named(folder: Patients, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for card in default_models_dir().glob("*/card.json"):
        (models / card.parent.name).mkdir()
        (models / card.parent.name / "card.json").write_bytes(card.read_bytes())
    assert models_that_name(models, ["ab" * 32]) == ()
    (models / "ct" / "training.json").write_text(json.dumps({"inputs": ["ab" * 32]}))
    (name,) = models_that_name(models, ["cd" * 32, "ab" * 32])
    assert name.startswith("ct-slices ")


def test_reports_that_left_are_listed_and_those_that_wait_are_never_sent(folder: Patients) -> None:
    first, *others = [row["id"] for row in folder.ledger.deliveries.unfinished()]
    folder.ledger.deliveries.sent(first, 30.0)
    uid = folder.ledger.db.value("SELECT sop_instance_uid FROM deliveries WHERE id = ?", (first,))
    record = folder.forget("P100", alone=True)
    assert [(s.sop_instance_uid, s.destination, s.arrived) for s in record.sent if s.arrived] == [
        (uid, "PACS", True)
    ]
    waiting = [row["id"] for row in folder.ledger.deliveries.next_pending("PACS", NOW)]
    assert waiting == others[1:], "those of the other patient"


# -- beside a working node ---------------------------------------------------------------------------
def test_a_series_that_is_being_judged_leaves_nothing_behind(tmp_path: Path) -> None:
    classifier = SmallClassifier()
    folder = Patients(tmp_path, classifier)
    folder.take("PID-41")
    interrupted(classifier, "judge", lambda: folder.forget("PID-41"))
    folder.judge()
    assert folder.left("PID-41") == [] and folder.files() == []
    told = [event for event in folder.told if event["event"] != "measuring"]
    assert [event.get("state") for event in told] == [None, "forgotten"]
    assert folder.ledger.db.value("SELECT count(*) FROM verdicts") == 0


def test_a_series_whose_images_go_while_it_is_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    folder.take("PID-41")
    interrupted(folder.ledger.series, "note_claims", lambda: folder.forget("PID-41"))
    folder.judge()
    assert folder.left("PID-41") == [] and folder.files() == []


def test_a_series_whose_files_have_gone_and_whose_rows_have_not_yet_did_not_fail(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    folder.take("PID-41")

    def half_way() -> None:
        scope = folder.find("PID-41").scope
        folder.erasing.stop(scope)
        folder.spool.remove_all(folder.erasing.held(scope).files)

    interrupted(folder.ledger.instances, "paths_of_series", half_way)
    folder.judge()
    told = [event for event in folder.told if event["event"] != "measuring"]
    assert [event.get("state") for event in told] == [None, "forgotten"]


def test_no_verdict_is_given_to_a_later_series_in_its_place(tmp_path: Path) -> None:
    classifier = SmallClassifier()
    folder = Patients(tmp_path, classifier)
    folder.take("PID-41")

    def forget_and_take_another() -> None:
        folder.forget("PID-41")
        folder.take("PID-42")

    interrupted(classifier, "judge", forget_and_take_another)
    assert folder.worker.step() == 1
    (other,) = folder.ledger.db.rows("SELECT * FROM series")
    assert (other["state"], other["run"]) == ("queued", 1)
    assert folder.ledger.verdicts.get(other["series_id"]) is None


@pytest.mark.parametrize("moment", ["before its bytes", "between its bytes and its row"])
def test_a_report_that_is_being_written_is_not_written(tmp_path: Path, moment: str) -> None:
    folder = Patients(tmp_path)
    folder.take("PID-41")
    folder.judge()
    owner, method = {
        "before its bytes": (folder.spool, "report_name"),
        "between its bytes and its row": (folder.ledger.deliveries, "post"),
    }[moment]
    interrupted(owner, method, lambda: folder.forget("PID-41"))
    folder.writer.step()
    assert folder.left("PID-41") == [] and folder.files() == []
    assert folder.ledger.deliveries.counts() == {}


class Interrupting:
    """A PACS that takes everything; something happens while it does."""

    name = "PACS"

    def __init__(self, meanwhile: Any) -> None:
        self.meanwhile = meanwhile
        self.got: list[str] = []

    def store(self, objects: Sequence[StoredObject]) -> Iterator[TransportOutcome]:
        for one in objects:
            self.got.append(one.sop_instance_uid)
            if self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                meanwhile()
            yield TransportOutcome(TransportStatus.STORED, "")

    def echo(self) -> float:
        return 0.0


def test_a_report_that_is_on_its_way_is_listed_and_disturbs_nobody(folder: Patients) -> None:
    records = []
    pacs = Interrupting(lambda: records.append(folder.forget("P100")))
    outbox = Outbox(folder.ledger, folder.spool, [Destination(pacs, storage_commitment=False)], wall=lambda: NOW)
    mine = folder.ledger.deliveries.next_pending("PACS", NOW)[0]["sop_instance_uid"]
    while outbox.step(NOW) is not None:
        pass
    (record,) = records
    assert mine in {s.sop_instance_uid for s in record.sent} and pacs.got[0] == mine
    assert folder.ledger.deliveries.counts() == {"sent": 2}, "those of the other patient"


def test_an_image_that_arrives_meanwhile_goes_too_and_one_that_arrives_later_is_new(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    row = folder.take("PID-41")
    folder.judge()

    def late(uid: str) -> str:
        """One more image of the series, as the receiver stores it."""
        name = folder.spool.image_name(row["study_uid"], row["series_uid"], uid)
        folder.spool.store(name, b"an image of NamePID-41")
        got = Received(uid, "1", row["series_uid"], row["study_uid"], "1", "CT", "SCANNER", name, 1, 70.0)
        folder.ledger.instances.add([got])
        return name

    original = folder.spool.remove_all
    arrived: list[str] = []

    def remove_all(names: Any) -> int:
        done = original(names)
        if not arrived:
            arrived.append(late("1.2.3.9"))
        return done

    folder.spool.remove_all = remove_all  # type: ignore[method-assign]
    folder.forget("PID-41")
    assert arrived and folder.left("PID-41") == [] and folder.files("images") == []
    later = late("1.2.3.10")
    assert folder.spool.has(later)
    new = folder.ledger.series.get(row["series_uid"])
    assert (
        new is not None and new["series_id"] > row["series_id"] and (new["state"], new["run"]) == ("receiving", 1)
    )


def test_a_file_that_waits_for_its_row_is_left_to_the_receiver_and_an_old_one_goes(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    row = folder.take("PID-41")
    names = [folder.spool.image_name(row["study_uid"], row["series_uid"], uid) for uid in ("1.2.8", "1.2.9")]
    for name, age in zip(names, (ARRIVING_S / 2, ARRIVING_S * 2), strict=True):
        folder.spool.store(name, b"an image")
        os.utime(folder.spool.path(name), (NOW - age, NOW - age))
    folder.forget("PID-41")
    assert folder.files("images") == [names[0]]


def test_without_a_node_no_file_of_the_series_stays(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    row = folder.take("PID-41")
    folder.judge()
    folder.spool.store(folder.spool.image_name(row["study_uid"], row["series_uid"], "1.2.8"), b"NamePID-41")
    folder.spool.store(folder.spool.training_name(f"{row['study_uid']}/{row['series_uid']}", 1), b"NamePID-41")
    temp = folder.spool.temp()
    temp.write(b"NamePID-41")
    assert len(folder.left("PID-41")) > 3
    folder.forget("PID-41", alone=True)
    assert folder.left("PID-41") == [] and folder.files() == []


def test_a_report_that_a_kill_left_without_a_row_goes(tmp_path: Path) -> None:
    folder = Patients(tmp_path)
    folder.take("PID-41")
    folder.judge()

    def killed(*args: Any, **kwargs: Any) -> bool:
        raise KeyboardInterrupt

    folder.ledger.deliveries.post = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        folder.writer.step()
    assert len(folder.files("reports")) == 1
    folder.forget("PID-41")
    assert folder.files("reports") == []


def test_what_is_being_forgotten_is_neither_judged_nor_sent(folder: Patients) -> None:
    row = folder.take("P100")
    scope = folder.find("P100").scope
    folder.erasing.stop(scope)
    assert folder.state(row["series_uid"]) == ("failed", STOPPED)
    assert folder.worker.step() == 0
    assert folder.ledger.deliveries.counts() == {"dropped": 2, "pending": 2}


def test_a_reader_who_is_disabled_keeps_the_votes_on_forgotten_studies(folder: Patients) -> None:
    folder.forget("P100")
    readers.disable(folder.ledger, "bode", NOW)
    assert overview(folder.ledger).all.votes == 4
