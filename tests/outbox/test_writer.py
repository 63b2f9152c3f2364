"""Reports leave when they are due: not held by a clock that was set, and never before their patience is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.classifiers.catalogue import in_words
from qc_node.dicom.uids import SR_CLASSES
from qc_node.domain import ClosedBy, Reason, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.rows import ReportRow
from qc_node.outbox.writer import CHARACTER_SET, Writer
from qc_node.report.reading import read_report
from qc_node.series.headers import expected
from qc_node.spool import Spool
from tests.ledger.makers import number_of
from tests.part_settings import writing_settings
from tests.report.sources import as_bytes, mri_verdict, rejected, source

JUDGED = 1_800_000_000.0
CONFIRM_S = 30.0
COUNTED = f"{ClosedBy.PACS}: 3 of 3"
QUIET = f"{ClosedBy.QUIET}: nothing new for 5 s"


class Bench:
    """One judged series whose report waits, and two clocks."""

    def __init__(self, root: Path, flag_object: bool = False) -> None:
        self.spool, self.ledger = Spool(root), Ledger(root / "ledger.sqlite")
        self.flag_object = flag_object
        self.wall, self.steady = JUDGED, 5000.0
        self.header = source()
        self.start()

    def start(self) -> None:
        """The writer of a new process."""
        settings = writing_settings(flag_object=self.flag_object, destinations=("PACS",), confirm_s=CONFIRM_S)
        self.writer = Writer(
            settings, self.ledger, self.spool, lambda: self.wall, steady=lambda: self.steady, words=in_words
        )

    def arrive(self, uid: str = "1.9.1") -> None:
        name = "images/source.dcm"
        if not self.spool.path(name).exists():
            self.header.ensure_file_meta()
            self.header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            self.spool.store(name, as_bytes(self.header))
        one = Received(
            uid,
            str(self.header.SOPClassUID),
            str(self.header.SeriesInstanceUID),
            str(self.header.StudyInstanceUID),
            "1.2.840.10008.1.2.1",
            "MR",
            "MRI",
            name,
            1,
            self.wall,
        )
        self.ledger.instances.add([one])

    @property
    def number(self) -> int:
        return number_of(self.ledger, str(self.header.SeriesInstanceUID))

    def judge(self, verdict: Verdict, rule: str = QUIET, patience_s: float = CONFIRM_S) -> None:
        row = self.ledger.series.by_id(self.number)
        assert row is not None
        assert self.ledger.series.close(self.number, row["last_received"], rule, self.wall)
        self.ledger.series.claim(self.wall)
        self.ledger.verdicts.add(
            self.number,
            row["run"],
            verdict,
            claims={},
            warnings=[],
            timings={},
            source_path="images/source.dcm",
            at=self.wall,
            report_after=self.wall + patience_s,
        )
        self.ledger.series.finish(self.number, row["run"], "judged", self.wall, stage=verdict.stage.value)

    def after(self, seconds: float, jump_s: float = 0.0) -> list[str]:
        """Let time pass, set the wall clock, take a step; the kinds of objects written so far."""
        self.steady += seconds
        self.wall += seconds + jump_s
        self.writer.step()
        return self.written()

    def written(self) -> list[str]:
        return [row["kind"] for row in self.reports()]

    def reports(self) -> list[ReportRow]:
        return self.ledger.deliveries.reports_of(self.number)

    def state(self) -> str:
        row = self.ledger.series.by_id(self.number)
        assert row is not None
        return row["state"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.arrive()
    return made


JUMPS = [-7200.0, -29.0, -10.0, -2.0, 0.0, 2.0, 10.0, 29.0, 7200.0, 365 * 86400.0]


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_waiting_report_is_held_for_its_patience_whatever_is_done_to_the_clock(
    bench: Bench, jump_s: float
) -> None:
    bench.judge(rejected(Reason.COVERAGE))
    assert bench.after(10.0) == []
    assert bench.after(0.0, jump_s) == []
    assert bench.after(18.9) == [], "29 s"
    assert bench.after(2.2) == ["sr"], "31 s"


@pytest.mark.parametrize("ahead_s", [60.0, 7200.0, 365 * 86400.0])
def test_a_report_of_a_wrong_clock_is_held_by_the_next_process_no_longer_than_its_patience(
    bench: Bench, ahead_s: float
) -> None:
    bench.wall += ahead_s
    bench.judge(rejected(Reason.COVERAGE))
    bench.wall -= ahead_s
    bench.start()
    assert bench.after(0.0) == [] and bench.after(29.0) == []
    assert bench.after(2.0) == ["sr"]


def test_a_verdict_without_patience_is_reported_at_once(bench: Bench) -> None:
    bench.judge(rejected(Reason.SKULL_STRIPPED), patience_s=0.0)
    assert bench.after(0.0) == ["sr"] and bench.state() == "reported"


def test_the_ledger_gives_a_verdict_of_the_future(bench: Bench) -> None:
    bench.judge(rejected(Reason.COVERAGE))
    verdicts = bench.ledger.verdicts
    (waiting,) = verdicts.waiting()
    assert waiting["report_after"] == JUDGED + CONFIRM_S
    assert len(verdicts.to_report(JUDGED - 7200)) == 1, "no wall clock may hold it for two hours"
    assert verdicts.to_report(JUDGED - 7200, held=[waiting["id"]]) == []
    assert verdicts.to_report(JUDGED + 1) == []
    assert len(verdicts.to_report(JUDGED + 1, due=[waiting["id"]])) == 1


def test_a_step_says_when_the_next_report_is_due(bench: Bench) -> None:
    assert bench.writer.step() is None
    bench.judge(rejected(Reason.COVERAGE))
    assert bench.writer.step() == JUDGED + CONFIRM_S
    bench.after(10.0, 7200.0)
    assert bench.writer.step() == pytest.approx(bench.wall + 20.0), "not in the past: the loop would never rest"


# -- the flag, which nothing can supersede ---------------------------------------------------------------
CERTAIN = [f"{ClosedBy.HEADER}: {expected.ACQUISITION}", f"{ClosedBy.PACS}: 176 instances, unchanged for 3 s"]
UNCERTAIN = [
    QUIET,
    f"{ClosedBy.HARD_CAP}: open for 600 s",
    f"{ClosedBy.HEADER}: {expected.MULTI_FRAME}",
    f"{ClosedBy.HEADER}: {expected.CONCATENATION}",
    f"{ClosedBy.HEADER}: {expected.CARDIAC}",
]
TIER_3 = mri_verdict(2, 0, 0)


@pytest.fixture
def flagging(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, flag_object=True)
    made.arrive()
    return made


@pytest.mark.parametrize("rule", CERTAIN)
def test_the_flag_leaves_with_the_report_where_the_count_is_certain(flagging: Bench, rule: str) -> None:
    flagging.judge(TIER_3, rule, patience_s=0.0)
    assert sorted(flagging.after(0.0)) == ["kos", "sr"] and flagging.state() == "reported"


@pytest.mark.parametrize("rule", UNCERTAIN)
def test_the_flag_waits_for_late_images_where_the_count_is_not_certain(flagging: Bench, rule: str) -> None:
    flagging.judge(TIER_3, rule, patience_s=0.0)
    assert flagging.after(0.0) == ["sr"], "the report itself does not wait"
    flagging.start()
    assert flagging.after(29.0) == ["sr"]
    assert flagging.after(2.0) == ["sr", "kos"] and flagging.state() == "reported"
    assert flagging.after(60.0) == ["sr", "kos"], "each once"


def test_a_late_image_before_the_verdict_is_final_prevents_its_flag(flagging: Bench) -> None:
    flagging.judge(TIER_3, patience_s=0.0)
    assert flagging.after(20.0) == ["sr"]
    flagging.arrive("1.9.2")
    assert flagging.after(60.0) == ["sr"] and flagging.state() == "receiving"
    flagging.judge(mri_verdict(0, 0, 0), patience_s=0.0)
    assert flagging.after(60.0) == ["sr", "sr"], "the second report, and no flag for what was not so"


def test_a_reject_of_half_a_brain_never_leaves_when_the_other_half_comes(flagging: Bench) -> None:
    """Two enhanced objects 30 s apart: the first one's count is one object's, not the series'."""
    flagging.judge(rejected(Reason.FIELD_OF_VIEW), f"{ClosedBy.HEADER}: {expected.MULTI_FRAME}")
    assert flagging.after(26.0) == []
    flagging.arrive("1.9.2")
    assert flagging.after(10.0) == []
    flagging.judge(mri_verdict(0, 0, 0), f"{ClosedBy.HEADER}: {expected.MULTI_FRAME}", patience_s=0.0)
    assert flagging.after(0.0) == ["sr"] and flagging.state() == "reported"


def test_without_a_flag_a_report_ends_the_run_at_once(bench: Bench) -> None:
    bench.judge(TIER_3, patience_s=0.0)
    assert bench.after(0.0) == ["sr"] and bench.state() == "reported"


@pytest.mark.parametrize(("name", "said"), [(b"M\xfcller", 1), ("Müller".encode(), 0), (b"Doe^Jane", 0)])
def test_text_that_is_copied_as_bytes_is_in_the_history_and_in_the_log_without_the_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: bytes, said: int
) -> None:
    bench = Bench(tmp_path)
    bench.header[0x00100010] = DataElement(0x00100010, "PN", name, validation_mode=config.IGNORE)
    bench.arrive()
    bench.judge(mri_verdict())
    bench.wall += CONFIRM_S + 1
    bench.steady += CONFIRM_S + 1
    bench.writer.step()
    assert len(bench.ledger.deliveries.reports_of(bench.number)) == 1
    events = [e["detail"] for e in bench.ledger.series.events(bench.number) if e["event"] == CHARACTER_SET]
    assert len(events) == said
    assert caplog.text.count("no character set is declared") == said
    assert "ller" not in caplog.text + str(events)


# -- one report for each class of report that a destination takes ----------------------------------------
def deliveries(bench: Bench) -> set[tuple[str, str, str]]:
    rows = bench.ledger.deliveries.of_series(bench.number)
    return {(row["destination"], row["kind"], row["sop_class_uid"]) for row in rows}


def both_classes(bench: Bench) -> None:
    settings = writing_settings(
        destinations=("PACS", "OLD", "RESEARCH"), classes={"OLD": "basic-text"}, confirm_s=CONFIRM_S
    )
    bench.writer.apply(settings)


def test_each_destination_gets_the_report_in_its_class_and_no_other(bench: Bench) -> None:
    both_classes(bench)
    bench.judge(mri_verdict(1), COUNTED, patience_s=0.0)
    assert bench.after(1.0) == ["sr", "sr"]
    assert bench.state() == "reported"
    usual, basic = SR_CLASSES["comprehensive"], SR_CLASSES["basic-text"]
    assert deliveries(bench) == {("PACS", "sr", usual), ("RESEARCH", "sr", usual), ("OLD", "sr", basic)}
    assert bench.after(1.0) == ["sr", "sr"], "and nothing twice"
    said = [read_report(dcmread(bench.spool.path(row["path"]))) for row in bench.reports()]
    assert said[0].verdict == said[1].verdict == mri_verdict(1)
    assert said[0].summary == said[1].summary != ""


def test_a_later_report_replaces_the_one_of_its_own_class(bench: Bench) -> None:
    both_classes(bench)
    bench.judge(mri_verdict(1), COUNTED, patience_s=0.0)
    bench.after(1.0)
    bench.arrive("1.9.2")
    bench.judge(mri_verdict(2), COUNTED, patience_s=0.0)
    bench.after(1.0)
    class_of = {row["sop_instance_uid"]: row["sop_class_uid"] for row in bench.reports()}
    replaced = {row["sop_class_uid"]: row["predecessor"] for row in bench.reports() if row["run"] == 2}
    assert len(class_of) == 4 and len(replaced) == 2
    assert all(class_of[str(before)] == sop_class for sop_class, before in replaced.items())


def test_another_class_in_the_configuration_replaces_what_is_there_and_never_rewrites_it(bench: Bench) -> None:
    bench.judge(mri_verdict(1), COUNTED, patience_s=0.0)
    bench.after(1.0)
    (first,) = bench.reports()
    before = bench.spool.path(first["path"]).read_bytes()
    bench.writer.apply(
        writing_settings(destinations=("PACS",), classes={"PACS": "basic-text"}, confirm_s=CONFIRM_S)
    )
    bench.after(1.0)
    assert [row["sop_instance_uid"] for row in bench.reports()] == [first["sop_instance_uid"]]
    bench.arrive("1.9.2")
    bench.judge(mri_verdict(1), COUNTED, patience_s=0.0)
    bench.after(1.0)
    _, second = bench.reports()
    assert (second["sop_class_uid"], second["predecessor"]) == (
        SR_CLASSES["basic-text"],
        first["sop_instance_uid"],
    )
    assert bench.spool.path(first["path"]).read_bytes() == before
