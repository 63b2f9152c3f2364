"""Retention: what is delivered and old goes, everything else stays, and no row is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from qc_node.domain import Finding, ModelIdentity, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations.retention import DAY_S, HOUR_S, remove_old
from qc_node.reception.recovery import recover
from qc_node.spool import Spool

MR, KO = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.59"
VERDICT = Verdict(
    Stage.CT, ModelIdentity("quality", "1.0", "ab" * 32), (Finding(Question.CONTRAST_ENHANCED, True),)
)


class House:
    """A ledger, a spool, and series at any point of their walk."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool(root)
        self.ledger = Ledger(root / "ledger.sqlite")

    def receive(self, series: str, number: int, at: float, sop_class: str = MR) -> str:
        sop = f"{series}.{number}"
        name = self.spool.image_name("1.2", series, sop)
        self.spool.store(name, b"pixels")
        opens = sop_class == MR
        self.ledger.instances.add(
            [Received(sop, sop_class, series, "1.2", "1.2.840.10008.1.2.1", "MR", "MR1", name, 6, at, opens)]
        )
        return name

    def judge(self, series: str, at: float) -> tuple[str, str]:
        row = self.ledger.series.get(series)
        assert row is not None
        self.ledger.series.close(series, row["last_received"], "quiet", at)
        self.ledger.series.claim(at)
        training, thumbnail = self.spool.training_name(series, 1), self.spool.thumbnail_name(series, 1, "axial")
        for name in (training, thumbnail):
            self.spool.store(name, b"kept")
        self.ledger.verdicts.add(
            series, 1, VERDICT, claims={}, warnings=[], timings={}, source_path="x", at=at, report_after=at,
            training_path=training, thumbnails=[thumbnail],
        )  # fmt: skip
        self.ledger.series.finish(series, 1, "judged", at, stage="ct")
        return training, thumbnail

    def report(self, series: str, at: float) -> str:
        name = self.spool.report_name(f"{series}.9")
        self.spool.store(name, b"report")
        written = WrittenObject(f"{series}.9", "1.2", series, "1.2", 1, "sr", name)
        self.ledger.deliveries.post([written], ["PACS"], at, reported=(series, 1))
        return name

    def deliver(self, at: float) -> None:
        for row in self.ledger.deliveries.next_pending("PACS", at):
            self.ledger.deliveries.sent(row["id"], at)

    def has(self, name: str) -> bool:
        return self.spool.path(name).exists()

    def clean(self, now: float) -> tuple[int, int]:
        return remove_old(self.ledger, self.spool, now, keep_images_h=24, keep_training_days=30)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_images_go_when_old_and_delivered(house: House) -> None:
    images = [house.receive("1.2.3", n, at=0.0) for n in range(3)]
    house.judge("1.2.3", at=10.0)
    report = house.report("1.2.3", at=11.0)
    assert house.clean(100 * HOUR_S) == (0, 0), "the PACS has not taken the report"
    house.deliver(12.0)
    assert house.clean(23 * HOUR_S) == (0, 0), "too young"
    assert house.clean(25 * HOUR_S) == (1, 0)
    assert not any(house.has(name) for name in images)
    assert house.has(report)
    assert len(house.ledger.instances.of_series("1.2.3")) == 3, "rows stay"
    assert house.clean(26 * HOUR_S) == (0, 0)


def test_a_series_on_its_walk_keeps_its_images(house: House) -> None:
    receiving = house.receive("1.2.3", 1, at=0.0)
    judged = house.receive("1.2.4", 1, at=0.0)
    house.judge("1.2.4", at=10.0)
    assert house.clean(1000 * HOUR_S)[0] == 0
    assert house.has(receiving) and house.has(judged)


def test_network_inputs_go_after_their_own_time(house: House) -> None:
    house.receive("1.2.3", 1, at=0.0)
    kept = house.judge("1.2.3", at=0.0)
    house.report("1.2.3", at=1.0)
    house.deliver(2.0)
    assert house.clean(29 * DAY_S) == (1, 0)
    assert all(house.has(name) for name in kept)
    assert house.clean(31 * DAY_S) == (0, 1)
    assert not any(house.has(name) for name in kept)
    assert house.ledger.verdicts.get("1.2.3") is not None, "the verdict stays"


def test_other_objects_go_too_and_do_not_come_back(house: House) -> None:
    old, young = (
        house.receive("1.2.5", 1, at=0.0, sop_class=KO),
        house.receive("1.2.6", 1, at=HOUR_S, sop_class=KO),
    )
    house.clean(24.5 * HOUR_S)
    assert not house.has(old) and house.has(young)
    assert house.ledger.instances.known("1.2.5.1")
    assert [o["sop_instance_uid"] for o in house.ledger.instances.unhandled_objects()] == ["1.2.6.1"]
    assert recover(house.spool, house.ledger) == 0


def test_quarantine_is_an_operators_business(house: House) -> None:
    name = house.spool.quarantine(b"not DICOM")
    house.ledger.instances.quarantine(name, "not DICOM", "MR1", 0.0)
    house.clean(10_000 * HOUR_S)
    assert house.has(name)
