"""Reports go to the patient whom the images name now, or whom an operator named; what is wrong is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from click import UsageError
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.cli.main import main_group
from qc_node.domain import ClosedBy, QcNodeError, Reason, Verdict
from qc_node.engine.opening import blank_outcome
from qc_node.ledger import Ledger
from qc_node.ledger.rows import SeriesRow
from qc_node.operations.retention import HOUR_S, remove_old
from qc_node.outbox.relinking import Relinked, relink
from qc_node.outbox.writer import Writer
from qc_node.receiver.store import Request, Store
from qc_node.report.identifiers import evidence_of
from qc_node.series.volume.stack import open_series
from qc_node.spool import Spool
from qc_node.web.pages.phrases import notes
from tests.part_settings import writing_settings
from tests.receiver.wire_peer import encode, image
from tests.report.sources import mri_verdict, rejected

STUDY, SERIES = "1.2.3", "1.2.3.4"
UIDS = ("1.2.3.4.1", "1.2.3.4.2")
WRONG = {"PatientID": "WRONG1", "PatientName": "Wrong^Patient", "AccessionNumber": "A1"}
RIGHT = {"PatientID": "RIGHT1", "PatientName": "Right^Patient", "AccessionNumber": "A2"}


class Site:
    """A node without its loops: images in, verdicts by hand, reports out."""

    def __init__(self, root: Path, flag_object: bool = False) -> None:
        self.now = 1_800_000_000.0
        self.spool, self.ledger = Spool(root), Ledger(root / "ledger.sqlite")
        self.store = Store(self.spool, self.ledger, 0, lambda: self.now)
        settings = writing_settings(destinations=("PACS",), confirm_s=30.0, flag_object=flag_object)
        self.writer = Writer(settings, self.ledger, self.spool, lambda: self.now)

    def take(self, identity: dict[str, str], uids: tuple[str, ...] = UIDS, **changes: Any) -> None:
        for number, uid in enumerate(uids):
            named = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, **identity, **changes}
            ds = image(SOPInstanceUID=uid, InstanceNumber=number, SeriesNumber=5, **named)
            incoming = self.store.receive(Request(ds.SOPClassUID, uid, ExplicitVRLittleEndian, "MRI"))
            incoming.write(memoryview(encode(ds)))
            assert incoming.finish().status == 0

    def series(self, study: str = STUDY) -> SeriesRow:
        row = self.ledger.series.find(study, SERIES)
        assert row is not None
        return row

    def judge(self, verdict: Verdict | None = None, study: str = STUDY) -> None:
        """Close the series and give its verdict, by the header that the worker would take."""
        row = self.series(study)
        number = row["series_id"]
        assert self.ledger.series.close(number, row["last_received"], ClosedBy.HEADER, self.now)
        self.ledger.series.claim(self.now)
        opened = open_series([self.spool.path(name) for name in self.ledger.instances.paths_of_series(number)])
        self.ledger.verdicts.add(
            number,
            row["run"],
            verdict or mri_verdict(),
            claims=blank_outcome(opened).claims.as_dict(),
            warnings=[],
            timings={},
            source_path=str(opened.header_path.relative_to(self.spool.root)),
            at=self.now,
            report_after=self.now,
        )
        assert self.ledger.series.finish(number, row["run"], "judged", self.now)

    def report(self, verdict: Verdict | None = None, study: str = STUDY, sent: bool = True) -> Dataset:
        """Judge and report; the report, which the PACS then has."""
        self.judge(verdict, study)
        return self.written(study, sent)

    def written(self, study: str = STUDY, sent: bool = True) -> Dataset:
        """Take a step of the writer; the report that it wrote."""
        self.now += 1
        before = self.reports(study)
        self.writer.step()
        (ds,) = [ds for ds in self.reports(study) if ds.SOPInstanceUID not in {b.SOPInstanceUID for b in before}]
        if sent:
            self.send()
        self.now += 1
        return ds

    def reports(self, study: str = STUDY, kind: str = "sr") -> list[Dataset]:
        rows = self.ledger.deliveries.reports_of(self.series(study)["series_id"])
        return [pydicom.dcmread(self.spool.path(row["path"])) for row in rows if row["kind"] == kind]

    def send(self) -> None:
        for row in self.ledger.deliveries.unfinished():
            self.ledger.deliveries.sent(row["id"], self.now)

    def states(self) -> dict[str, str]:
        sql = "SELECT sop_instance_uid, state FROM deliveries ORDER BY id"
        return {row["sop_instance_uid"]: row["state"] for row in self.ledger.db.rows(sql)}

    def notes(self, study: str = STUDY) -> list[str]:
        return notes(self.ledger.series.events(self.series(study)["series_id"]))

    def relink(self, series_uid: str | None = None, **identity: str) -> Relinked:
        return relink(self.ledger, self.spool, STUDY, series_uid, identity or None, "admin", self.now)

    def retain(self) -> None:
        """Retention removes the images."""
        self.now += 100 * HOUR_S
        assert remove_old(self.ledger, self.spool, self.now, 72, 90)[0] == 1
        assert not list(self.spool.images_on_disk())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def predecessor(ds: Dataset) -> str | None:
    if "PredecessorDocumentsSequence" not in ds:
        return None
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def patient(ds: Dataset) -> dict[str, str]:
    return {keyword: str(ds[keyword].value) for keyword in WRONG}


# -- the images bring the correction along -----------------------------------------------------------
def test_a_corrected_patient_gets_a_report_without_predecessor_and_the_old_one_is_named(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.take(RIGHT)
    new = site.report()
    assert (patient(old), patient(new)) == (WRONG, RIGHT)
    assert predecessor(new) is None and new.SOPInstanceUID != old.SOPInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID, "a series cannot be of two patients"
    (note,) = [n for n in site.notes() if "is about another patient" in n]
    assert f"The report {old.SOPInstanceUID}" in note
    everything = json.dumps(site.notes())
    assert not any(value in everything for value in (*WRONG.values(), *RIGHT.values()))


def test_the_next_report_on_the_right_patient_names_its_predecessor_and_says_nothing_anew(site: Site) -> None:
    site.take(WRONG)
    site.report()
    site.take(RIGHT)
    first = site.report()
    site.take(RIGHT, (*UIDS, "1.2.3.4.3"))
    second = site.report()
    assert predecessor(second) == first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert len([n for n in site.notes() if "is about another patient" in n]) == 1


def test_new_pixels_of_the_same_patient_give_a_report_that_names_its_predecessor(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.take(WRONG, PixelData=b"\1" * 512)
    new = site.report()
    assert predecessor(new) == old.SOPInstanceUID != new.SOPInstanceUID
    assert new.SeriesInstanceUID == old.SeriesInstanceUID and patient(new) == WRONG
    assert not [n for n in site.notes() if "is about another patient" in n]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"PatientName": "Right^Spelling"}, True),
        ({"PatientID": "wrong1"}, True),
        ({"IssuerOfPatientID": "HOSPITAL"}, True),
        ({"AccessionNumber": "A9"}, True),
        ({"PatientID": ""}, False),
    ],
)
def test_the_patient_id_says_who_is_the_same(changes: dict[str, str], same: bool, site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.take(WRONG | changes)
    assert (predecessor(site.report()) == old.SOPInstanceUID) is same


def test_a_patient_who_was_right_after_all_gets_a_new_report(site: Site) -> None:
    site.take(WRONG)
    first = site.report()
    site.take(RIGHT)
    second = site.report()
    site.take(WRONG)
    third = site.report()
    assert len({ds.SOPInstanceUID for ds in (first, second, third)}) == 3, (
        "the first one may be gone from the PACS"
    )
    assert patient(third) == WRONG and site.states()[third.SOPInstanceUID] == "sent"
    assert predecessor(third) is None
    assert [n for n in site.notes() if str(second.SOPInstanceUID) in n]


def test_a_wrong_report_that_waits_is_never_sent(site: Site) -> None:
    site.take(WRONG)
    old = site.report(sent=False)
    site.take(RIGHT)
    new = site.report(sent=False)
    assert site.states() == {old.SOPInstanceUID: "dropped", new.SOPInstanceUID: "pending"}


def test_a_flag_of_the_wrong_patient_is_named_too(tmp_path: Path) -> None:
    site = Site(tmp_path, flag_object=True)
    site.take(WRONG)
    site.report(rejected(Reason.COVERAGE))
    site.take(RIGHT)
    site.report(rejected(Reason.COVERAGE))
    flags = site.reports(kind="kos")
    assert [patient(flag) for flag in flags] == [WRONG, RIGHT]
    assert [n for n in site.notes() if str(flags[0].SOPInstanceUID) in n]
    assert len({flag.SeriesInstanceUID for flag in flags}) == 2


def test_half_a_corrected_series_is_of_no_patient_and_gets_no_report(site: Site) -> None:
    site.take(WRONG)
    site.report()
    site.take(RIGHT, UIDS[:1])
    names = site.ledger.instances.paths_of_series(site.series()["series_id"])
    opened = open_series([site.spool.path(name) for name in names])
    with pytest.raises(QcNodeError, match=r"Patient ID \(0010,0020\) takes 2 values in one series"):
        opened.volume()
    assert site.series()["state"] == "receiving"
    site.take(RIGHT, UIDS[1:])
    assert patient(site.report()) == RIGHT


def test_images_that_come_back_corrected_after_retention_are_judged_again(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.retain()
    site.take(RIGHT, UIDS[:1])
    site.writer.step()
    assert site.series()["state"] == "reported", "a part of it says nothing yet"
    site.take(RIGHT, UIDS[1:])
    site.writer.step()
    row = site.series()
    assert (row["state"], row["run"]) == ("queued", 2)
    assert "other content (patient)" in site.notes()[0]
    site.ledger.db.conn.execute("UPDATE series SET state = 'receiving'")
    new = site.report()
    assert (patient(new), predecessor(new)) == (RIGHT, None) and new.SOPInstanceUID != old.SOPInstanceUID
    assert [n for n in site.notes() if str(old.SOPInstanceUID) in n]


def test_images_that_come_back_the_same_are_looked_at_once(site: Site) -> None:
    site.take(WRONG)
    site.report()
    site.retain()
    site.take(WRONG)
    assert len(site.ledger.series.came_back()) == 1
    site.writer.step()
    assert site.series()["state"] == "reported" and not site.ledger.series.came_back()
    site.retain()
    site.take(RIGHT)
    site.writer.step()
    assert site.series()["state"] == "queued", "and again when they come back once more"


def test_another_study_of_the_same_images_has_reports_of_its_own(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.take(RIGHT, StudyInstanceUID="1.2.9")
    new = site.report(study="1.2.9")
    assert (new.StudyInstanceUID, predecessor(new)) == ("1.2.9", None)
    assert new.SOPInstanceUID != old.SOPInstanceUID and new.SeriesInstanceUID != old.SeriesInstanceUID
    assert {ref.sop_instance_uid for ref in evidence_of(new)} == set(UIDS)
    assert [n for n in site.notes() if str(old.SOPInstanceUID) in n]


def test_what_must_be_removed_at_the_pacs_stays_when_retention_takes_the_history(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.take(RIGHT)
    site.report()
    site.retain()
    assert [n for n in site.notes() if str(old.SOPInstanceUID) in n]


def test_images_that_never_changed_have_the_uid_of_before(site: Site, tmp_path: Path) -> None:
    site.take(WRONG)
    first = site.report()
    other = Site(tmp_path / "other")
    other.take(WRONG)
    for name in list(other.spool.images_on_disk()):
        (other.spool.root / name).unlink()
    other.take(WRONG)
    assert other.report().SOPInstanceUID == first.SOPInstanceUID, "came back is not changed"


# -- an operator brings it ---------------------------------------------------------------------------
def test_a_relinked_study_gets_a_new_report_at_once(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    done = site.relink(**RIGHT)
    assert (done.again, done.later) == (1, 0)
    assert done.wrong == (old.SOPInstanceUID,)
    new = site.written()
    assert patient(new) == RIGHT and predecessor(new) is None
    assert new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.PatientBirthDate == old.PatientBirthDate, "what was not given stays"
    assert evidence_of(new) == evidence_of(old) and new.SeriesNumber == old.SeriesNumber
    assert site.series()["state"] == "reported"
    study = site.ledger.studies.get(STUDY)
    assert study is not None and study["accession_number"] == "A2"
    events = [row["event"] for row in site.ledger.audit.after(0)]
    assert events == ["relink"]
    said = json.dumps([dict(row) for row in site.ledger.audit.after(0)]) + json.dumps(site.notes())
    assert not any(value in said for value in (*WRONG.values(), *RIGHT.values()))
    assert STUDY not in site.ledger.audit.after(0)[0]["detail"], "the audit outlives what is forgotten"


def test_another_accession_number_of_the_same_patient_names_the_predecessor(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    assert site.relink(AccessionNumber="A9").wrong == ()
    new = site.written()
    assert (new.AccessionNumber, predecessor(new)) == ("A9", old.SOPInstanceUID)
    assert new.SeriesInstanceUID == old.SeriesInstanceUID


def test_later_images_carry_the_correction_too(site: Site) -> None:
    site.take(WRONG)
    assert site.relink(**RIGHT) == Relinked(0, 1, ())
    assert patient(site.report()) == RIGHT
    site.take(WRONG, (*UIDS, "1.2.3.4.3"))
    assert patient(site.report()) == RIGHT


def test_a_relink_is_undone_by_another_one_or_taken_back(site: Site) -> None:
    site.take(WRONG)
    reports = [site.report()]
    site.relink(**RIGHT)
    reports.append(site.written())
    site.relink(**WRONG)
    reports.append(site.written())
    site.relink(PatientID="THIRD")
    reports.append(site.written())
    site.relink()
    reports.append(site.written())
    assert [ds.PatientID for ds in reports] == ["WRONG1", "RIGHT1", "WRONG1", "THIRD", "WRONG1"]
    assert len({ds.SOPInstanceUID for ds in reports}) == 5
    assert reports[-1].AccessionNumber == "A1"


def test_reports_are_rebuilt_from_what_is_stored_when_the_images_are_gone(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.retain()
    assert site.relink(**RIGHT).again == 1
    new = site.written()
    assert patient(new) == RIGHT and evidence_of(new) == evidence_of(old)
    assert (new.SeriesNumber, new.StudyInstanceUID) == (old.SeriesNumber, old.StudyInstanceUID)
    assert new.ContentSequence[-1] == old.ContentSequence[-1], "the same measurements"
    site.relink()
    assert patient(site.written()) == WRONG


def test_images_that_name_a_third_patient_meanwhile_are_not_corrected(site: Site) -> None:
    site.take(WRONG)
    site.relink(**RIGHT)
    site.take(WRONG | {"PatientID": "THIRD"})
    assert site.report().PatientID == "THIRD"
    site.take(WRONG, PixelData=b"\1" * 512)
    assert site.report().PatientID == "RIGHT1", "a repaired pixel is none"


def test_one_series_of_a_study_can_be_corrected_alone(site: Site) -> None:
    site.take(WRONG)
    site.report()
    site.take(WRONG, ("1.2.3.5.1",), SeriesInstanceUID="1.2.3.5")
    assert site.relink(SERIES, **RIGHT).again == 1
    other = site.ledger.series.find(STUDY, "1.2.3.5")
    assert other is not None and site.ledger.relinks.of(STUDY, "1.2.3.5") == []


def test_a_failed_series_whose_earlier_report_is_wrong_says_so(site: Site) -> None:
    site.take(WRONG)
    old = site.report()
    site.take(WRONG, PixelData=b"\1" * 512)
    row = site.series()
    site.ledger.series.close(row["series_id"], row["last_received"], ClosedBy.QUIET, site.now)
    site.ledger.series.claim(site.now)
    site.ledger.series.finish(row["series_id"], row["run"], "failed", site.now, sentence="a sentence")
    done = site.relink(**RIGHT)
    assert (done.again, done.later) == (0, 1) and done.wrong == (old.SOPInstanceUID,)
    assert site.series()["state"] == "failed"


def test_a_step_that_a_kill_repeats_writes_nothing_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.take(WRONG)
    site.report()
    site.take(RIGHT)
    site.judge()

    class Killed(BaseException):
        """What a SIGKILL is to the code."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(site.ledger.deliveries, "post", die)
        with pytest.raises(Killed):
            site.writer.step()
    assert patient(site.written()) == RIGHT
    assert len([n for n in site.notes() if "is about another" in n]) == 1
    assert len(list((site.spool.root / "reports").iterdir())) == 2, "the same object both times"


def test_what_cannot_be_relinked_is_said_in_a_sentence(site: Site) -> None:
    with pytest.raises(QcNodeError, match=r"no study 1\.2\.3 in the ledger"):
        site.relink(**RIGHT)
    site.take(WRONG)
    with pytest.raises(QcNodeError, match=r"no series 9\.9 of the study"):
        site.relink("9.9", **RIGHT)
    with pytest.raises(QcNodeError, match="Nothing was corrected"):
        site.relink()


@pytest.fixture
def command(site: Site, tmp_path: Path) -> Callable[..., str]:
    """Runs ``qc-node relink`` for the study of the site."""
    from click.testing import CliRunner

    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}"\n')

    def run(*words: str) -> str:
        words = ("relink", "--study-uid", STUDY, *words, "--config", str(config))
        return CliRunner().invoke(main_group, words, catch_exceptions=False, standalone_mode=False).output

    return run


def test_the_command_relinks_and_says_what_must_be_removed(site: Site, command: Callable[..., str]) -> None:
    site.take(WRONG)
    old = site.report()
    said = command("--patient-id", "RIGHT1", "--patient-name", "Right^Patient", "--birth-date", "19700102")
    assert "1 series get a new report" in said and f"The report {old.SOPInstanceUID}" in said
    site.now = site.series()["last_received"] + 4e9
    new = site.written()
    assert (new.PatientID, new.PatientName, new.PatientBirthDate) == ("RIGHT1", "Right^Patient", "19700102")
    assert "1 series get a new report" in command("--undo")
    for wrong in ((), ("--undo", "--patient-id", "X"), ("--patient-id", "X", "--birth-date", "1.2.1970")):
        with pytest.raises(UsageError):
            command(*wrong)
