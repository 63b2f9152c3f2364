"""The worker against a real ledger and spool; the classifier is a small one of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from qc_node.classifiers import catalogue
from qc_node.domain import (
    ClosedBy,
    Finding,
    ModelIdentity,
    Question,
    Reason,
    Stage,
    Verdict,
    Volume,
)
from qc_node.engine.own_faults import MAX_ATTEMPTS
from qc_node.engine.pool import Pool
from qc_node.engine.worker import Worker
from qc_node.ledger import Ledger, Received
from qc_node.series.headers import expected
from qc_node.spool import Spool
from tests.end_to_end.node_process import ct_sample, write_series
from tests.ledger.makers import number_of
from tests.part_settings import make_rule, worker_settings
from tests.peers import wait_for

MODEL = ModelIdentity("classifier", "1", "cd" * 32)


@dataclass
class Seen:
    network_input: np.ndarray
    thumbnails: dict[str, np.ndarray]
    mean: float


@dataclass
class SmallClassifier:
    """Says "chest" of what has tissue; falls over a volume whose mean is above `poison`."""

    poison: float = 1e9
    reason: Reason | None = None
    batches: list[int] = field(default_factory=list)
    identity: ModelIdentity = MODEL

    def prepare(self, volume: Volume) -> Seen:
        picture = np.zeros((8, 8), np.uint8)
        return Seen(np.ones((4, 4), np.float16), {"axial": picture}, float(volume.voxels.mean()))

    def judge(self, prepared: Sequence[Seen]) -> list[Verdict]:
        self.batches.append(len(prepared))
        if any(p.mean > self.poison for p in prepared):
            raise ZeroDivisionError("a volume that the network cannot bear")
        findings: tuple[Finding, ...] = (Finding(Question.BODY_PART, "chest", {"chest": 1.0}),)
        if self.reason is not None:
            findings += (Finding(Question.STRAIGHT_REJECT, True, {"yes": 1.0, "no": 0.0}, self.reason),)
        return [Verdict(Stage.CT, MODEL, findings) for _ in prepared]


@dataclass
class OneClassifier:
    one: SmallClassifier

    def classifier(self, stage: Stage) -> SmallClassifier:
        return self.one

    accepts = catalogue.accepts()


class Bench:
    """Ledger, spool, worker, and verbs to fill them."""

    def __init__(self, root: Path, classifier: SmallClassifier, batch: int = 1, confirm_s: float = 30.0) -> None:
        self.spool, self.ledger = Spool(root / "data"), Ledger(root / "data" / "ledger.sqlite")
        self.root = root
        self.told: list[dict[str, Any]] = []
        settings = worker_settings(root / "data", batch=batch, confirm_s=confirm_s)
        self.worker = Worker(
            settings,
            self.ledger,
            self.spool,
            OneClassifier(classifier),  # type: ignore[arg-type]
            lambda m: self.told.append(dict(m)),
            lambda: 1000.0,
        )

    def receive(self, name: str, rule: str = ClosedBy.HEADER, change: Callable[[Any], None] | None = None) -> str:
        """Store and close one series of six slices; returns its UID."""
        uid = ""
        for path in write_series(ct_sample(6, 32, seed=len(name)), self.root / name):
            ds = pydicom.dcmread(path)
            if change:
                change(ds)
                ds.save_as(path)
            uid = str(ds.SeriesInstanceUID)
            spool_name = self.spool.image_name(ds.StudyInstanceUID, uid, ds.SOPInstanceUID)
            self.spool.store(spool_name, path.read_bytes())
            self.ledger.instances.add(
                [
                    Received(
                        ds.SOPInstanceUID,
                        ds.SOPClassUID,
                        uid,
                        ds.StudyInstanceUID,
                        "1.2.840.10008.1.2.1",
                        "CT",
                        "SCANNER",
                        spool_name,
                        1,
                        10.0,
                    )
                ]
            )
        assert self.ledger.series.close(number_of(self.ledger, uid), 10.0, rule, 11.0)
        return uid

    def late(self, uid: str, at: float) -> Received:
        """One more image of a series."""
        row = self.ledger.series.get(uid)
        assert row is not None
        return Received("late", "1", uid, row["study_uid"], "1", "CT", "SCANNER", "images/x", 1, at)

    def state(self, uid: str) -> tuple[str, str | None]:
        row = self.ledger.series.get(uid)
        assert row is not None
        return row["state"], row["sentence"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, SmallClassifier())


def test_a_judged_series_leaves_verdict_claims_input_and_thumbnails(bench: Bench) -> None:
    uid = bench.receive("a")
    assert bench.worker.step() == 1
    assert bench.worker.step() == 0
    assert bench.state(uid) == ("judged", None)
    row = bench.ledger.verdicts.get(number_of(bench.ledger, uid))
    assert row is not None
    assert row["verdict"].model == MODEL
    assert row["claims"]["body_part_examined"] == "CHEST"
    assert set(row["timings"]) == {"read", "preprocess", "measure", "infer", "total"}
    assert bench.spool.path(row["source_path"]).exists() and not Path(row["source_path"]).is_absolute()
    assert row["training_path"] is not None
    kept = np.load(bench.spool.path(row["training_path"]), allow_pickle=False)
    assert list(kept) == ["input"], "nothing but voxels is kept for training"
    assert bench.spool.path(row["thumbnails"][0]).read_bytes().startswith(b"\x89PNG")
    study = bench.ledger.studies.by_accession("ACC1")
    assert [s["description"] for s in study] == ["CT test"]
    assert [m["event"] for m in bench.told] == ["started", "measuring", "finished"]


def test_a_skipped_series_has_a_sentence_and_no_verdict(bench: Bench) -> None:
    def topogram(ds: Any) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    uid = bench.receive("a", change=topogram)
    bench.worker.step()
    state, sentence = bench.state(uid)
    assert state == "skipped" and sentence and "(0008,0008)" in sentence
    assert bench.ledger.verdicts.get(number_of(bench.ledger, uid)) is None


def test_one_bad_series_does_not_take_its_batch_with_it(tmp_path: Path) -> None:
    classifier = SmallClassifier(poison=500.0)
    bench = Bench(tmp_path, classifier, batch=4)

    def bright(ds: Any) -> None:
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") // 4 + 3000).astype("<u2").tobytes()

    good, bad, also_good = bench.receive("a"), bench.receive("bb", change=bright), bench.receive("ccc")
    assert bench.worker.step() == 3
    assert classifier.batches == [3, 1, 1, 1]
    assert [bench.state(u)[0] for u in (good, bad, also_good)] == ["judged", "failed", "judged"]
    assert "ZeroDivisionError" in str(bench.state(bad)[1])


@pytest.mark.parametrize(
    ("rule", "reason", "due"),
    [
        (f"{ClosedBy.QUIET}: nothing new for 5 s", Reason.COVERAGE, 1030.0),
        (f"{ClosedBy.HEADER}: count", Reason.COVERAGE, 1000.0),
        (f"{ClosedBy.PACS}: 6 instances, unchanged for 3 s", Reason.COVERAGE, 1000.0),
        (f"{ClosedBy.HARD_CAP}: open for 600 s", Reason.COVERAGE, 1030.0),
        (f"{ClosedBy.HEADER}: {expected.MULTI_FRAME}", Reason.COVERAGE, 1030.0),
        (f"{ClosedBy.HEADER}: {expected.MULTI_FRAME}", Reason.FIELD_OF_VIEW, 1030.0),
        (f"{ClosedBy.HEADER}: {expected.CONCATENATION}", Reason.TOO_FEW_SLICES, 1030.0),
        (f"{ClosedBy.HEADER}: {expected.CARDIAC}", Reason.NOT_BRAIN, 1030.0),
        (f"{ClosedBy.HEADER}: {expected.MULTI_FRAME}", Reason.SKULL_STRIPPED, 1000.0),
        (f"{ClosedBy.QUIET}: nothing new for 5 s", Reason.SKULL_STRIPPED, 1000.0),
    ],
)
def test_only_a_coverage_reject_without_a_certain_count_waits_for_late_images(
    tmp_path: Path, rule: str, reason: Reason, due: float
) -> None:
    bench = Bench(tmp_path, SmallClassifier(reason=reason))
    uid = bench.receive("a", rule)
    bench.worker.step()
    row = bench.ledger.verdicts.get(number_of(bench.ledger, uid))
    assert row is not None and row["report_after"] == due


def test_a_verdict_on_a_series_that_was_reopened_meanwhile_is_never_reported(bench: Bench) -> None:
    uid = bench.receive("a")
    original = bench.worker._look

    def look(row: Any) -> Any:
        result = original(row)
        bench.ledger.instances.add([bench.late(uid, 20.0)])
        return result

    bench.worker._look = look  # type: ignore[method-assign]
    bench.worker.step()
    assert bench.state(uid)[0] == "receiving"
    assert bench.ledger.verdicts.to_report(1e12) == []


def test_images_that_retention_removed_are_not_judged_in_part(bench: Bench) -> None:
    uid = bench.receive("a")
    bench.worker.step()
    number = number_of(bench.ledger, uid)
    bench.ledger.deliveries.post([], [], 20.0, reported=(number, 1))
    assert bench.ledger.removals.begin(number, 10.0, 50.0)
    bench.ledger.instances.add([bench.late(uid, 60.0)])
    assert bench.ledger.series.close(number_of(bench.ledger, uid), 60.0, ClosedBy.QUIET, 61.0)
    bench.worker.step()
    state, sentence = bench.state(uid)
    assert state == "failed" and "retention" in str(sentence)


def test_a_refusal_to_open_is_the_sentence_of_the_ledger(bench: Bench) -> None:
    def two_patients(ds: Any) -> None:
        ds.PatientID = f"P{ds.InstanceNumber % 2}"
        ds.PatientName = ds.PatientID

    uid = bench.receive("a", change=two_patients)
    bench.worker.step()
    state, sentence = bench.state(uid)
    assert state == "skipped" and sentence and "patient" in sentence.lower()
    assert "P0" not in sentence and "P1" not in sentence


def test_a_worker_goes_on_with_the_rules_and_the_patience_that_it_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier(reason=Reason.COVERAGE), confirm_s=30.0)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    rule = make_rule("CT", body_part="brain")
    told = worker_settings(tmp_path / "elsewhere", batch=9, confirm_s=7.0, rules=(asdict(rule),))
    try:
        bench.worker.apply(told)
    finally:
        root.handlers[:], root.level = before, level
    uid = bench.receive("a", ClosedBy.QUIET)
    bench.worker.step()
    row = bench.ledger.verdicts.get(number_of(bench.ledger, uid))
    assert row is not None and row["report_after"] == 1007.0
    assert any("brain" in warning for warning in row["warnings"]), row["warnings"]


class Death(BaseException):
    """The worker process is gone: nothing catches it."""


class Deadly(SmallClassifier):
    """Takes the worker down with a volume brighter than `poison`."""

    def judge(self, prepared: Sequence[Seen]) -> list[Verdict]:
        if any(p.mean > self.poison for p in prepared):
            self.batches.append(len(prepared))
            raise Death
        return super().judge(prepared)


def bright(ds: Any) -> None:
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") // 4 + 3000).astype("<u2").tobytes()


def work_through(bench: Bench) -> int:
    """Steps until nothing is queued, the worker replaced whenever it dies; returns how often it died."""
    deaths = 0
    for _ in range(20):
        try:
            if not bench.worker.step():
                return deaths
        except Death:
            deaths += 1
            bench.ledger.series.requeue_claimed(MAX_ATTEMPTS, 12.0)
    raise AssertionError("it never ends")


def test_a_series_that_kills_the_worker_fails_alone(tmp_path: Path) -> None:
    classifier = Deadly(poison=500.0)
    bench = Bench(tmp_path, classifier, batch=4)
    names = ("a", "bb", "ccc", "dddd", "eeeee", "ffffff")
    uids = [bench.receive(name, change=bright if name == "bb" else None) for name in names]
    assert work_through(bench) == 1 + MAX_ATTEMPTS, "once with its batch, then alone"
    assert [bench.state(uid)[0] for uid in uids] == ["judged", "failed", *["judged"] * 4]
    assert bench.state(uids[1])[1] == "The classifier stopped 3 times while judging this series."
    assert classifier.batches[0] == 4 and set(classifier.batches[1:-1]) == {1}
    assert classifier.batches[-1] == 2, "what had not been in hand is batched again"


def test_the_innocent_of_a_batch_pass_before_the_guilty_is_tried_again_and_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Deadly(poison=500.0), batch=4)
    uids = [bench.receive(name, change=bright if name == "a" else None) for name in ("a", "bb", "ccc")]
    for _ in range(2):  # with the batch, then alone
        with pytest.raises(Death):
            bench.worker.step()
        bench.ledger.series.requeue_claimed(MAX_ATTEMPTS, 12.0)
    bench.worker.step()
    bench.worker.step()
    assert [bench.state(uid)[0] for uid in uids] == ["queued", "judged", "judged"]


def test_deaths_of_the_node_are_no_attempts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier(), batch=4)
    uids = [bench.receive(name) for name in ("a", "bb")]
    for _ in range(5):
        bench.ledger.series.claim(11.0, 4)
        bench.ledger.series.requeue_claimed(MAX_ATTEMPTS, 12.0, died=False)
    for uid in uids:
        row = bench.ledger.series.get(uid)
        assert row is not None and (row["state"], row["attempts"]) == ("queued", 0)
    assert work_through(bench) == 0
    assert [bench.state(uid)[0] for uid in uids] == ["judged", "judged"]


def test_the_next_run_of_a_series_is_not_doubtful(bench: Bench) -> None:
    uid = bench.receive("a")
    bench.ledger.series.claim(11.0)
    bench.ledger.series.requeue_claimed(MAX_ATTEMPTS, 12.0)
    bench.worker.step()
    number = number_of(bench.ledger, uid)
    bench.ledger.instances.add([bench.late(uid, 20.0)])
    assert bench.ledger.series.close(number, 20.0, ClosedBy.QUIET, 26.0)
    row = bench.ledger.series.by_id(number)
    assert row is not None and (row["claimed_at"], row["attempts"]) == (None, 0)


@pytest.mark.slow
def test_the_pool_counts_a_death_of_the_worker_and_none_of_the_node(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier())
    uid = bench.receive("a")

    def attempts_after(end: Callable[[Pool], None]) -> int:
        pool = Pool(worker_settings(tmp_path / "data", tmp_path / "none"), bench.ledger, lambda event: None)
        bench.ledger.series.claim(11.0)
        end(pool)
        row = bench.ledger.series.get(uid)
        assert row is not None and row["state"] == "queued"
        return row["attempts"]

    def restart(pool: Pool) -> None:
        pool.start()
        pool.stop(0.1)

    assert attempts_after(restart) == 0
    assert attempts_after(lambda pool: pool._ended(-9)) == 1


@pytest.mark.slow
def test_a_worker_without_weights_says_which_file(tmp_path: Path) -> None:
    Spool(tmp_path / "data")
    ledger = Ledger(tmp_path / "data" / "ledger.sqlite")
    pool = Pool(worker_settings(tmp_path / "data", tmp_path / "none"), ledger, lambda event: None)
    try:
        pool.start()
        wait_for(lambda: "brain-mri/card.json" in pool.fault, 60)
        assert not pool.alive()
    finally:
        pool.stop()
