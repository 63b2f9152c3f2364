from __future__ import annotations

import os
from pathlib import Path

import pytest

from qc_node.domain import ClosedBy, Finding, ModelIdentity, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations.retention import DAY_S, HOUR_S, remove_old
from qc_node.spool import Spool
from tests.ledger.makers import number_of

VERDICT = Verdict(Stage.CT, ModelIdentity("m", "1", "00"), (Finding(Question.BODY_PART, "chest"),))


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Ledger, Spool]:
    """One reported series with two images, a network input and a thumbnail; its report is still unsent."""
    spool, ledger = Spool(tmp_path), Ledger(tmp_path / "ledger.sqlite")
    for uid in ("a", "b"):
        name = spool.image_name("ST", "S", uid)
        spool.store(name, b"image")
        ledger.instances.add([Received(uid, "1", "S", "ST", "1", "CT", "AE", name, 5, 0.0)])
    ledger.series.close(number_of(ledger, "S"), 0.0, ClosedBy.QUIET, 1.0)
    ledger.series.claim(1.0)
    kept = spool.training_name("S", 1), spool.thumbnail_name("S", 1, "axial")
    for name in kept:
        spool.store(name, b"kept")
    ledger.verdicts.add(
        number_of(ledger, "S"),
        1,
        VERDICT,
        claims={},
        warnings=[],
        timings={},
        source_path="x",
        at=2.0,
        report_after=2.0,
        training_path=kept[0],
        thumbnails=[kept[1]],
    )
    ledger.series.finish(number_of(ledger, "S"), 1, "judged", 2.0)
    report = WrittenObject("r", "1", number_of(ledger, "S"), "ST", 1, "sr", spool.report_name("r"))
    spool.store(report.path, b"report")
    ledger.deliveries.post([report], ["PACS"], 3.0, reported=(number_of(ledger, "S"), 1))
    return ledger, spool


def files(spool: Spool, folder: str) -> int:
    return sum(1 for p in (spool.root / folder).rglob("*") if p.is_file())


def test_images_go_after_delivery_and_never_before(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    later = 100 * HOUR_S
    assert remove_old(ledger, spool, later, 72, 90) == (0, 0)
    assert files(spool, "images") == 2, "the report is not with the PACS yet"
    (delivery,) = ledger.deliveries.next_pending("PACS", later)
    ledger.deliveries.sent(delivery["id"], later)
    assert remove_old(ledger, spool, later, 72, 90) == (1, 0)
    assert files(spool, "images") == 0
    assert len(ledger.instances.of_series(number_of(ledger, "S"))) == 2, "rows are never deleted"
    assert files(spool, "reports") == 1
    assert files(spool, "training") == 1 and files(spool, "thumbnails") == 1, "votes come days later"
    assert remove_old(ledger, spool, later, 72, 90) == (0, 0)


def test_network_input_and_thumbnails_go_when_no_vote_will_come(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    assert remove_old(ledger, spool, 91 * DAY_S, 72, 90)[1] == 1
    assert files(spool, "training") == files(spool, "thumbnails") == 0
    row = ledger.verdicts.get(number_of(ledger, "S"))
    assert row is not None and row["verdict"] == VERDICT


def test_key_objects_go_once_the_node_has_read_them(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    name = spool.image_name("ST", "K", "k")
    spool.store(name, b"key object")
    ledger.instances.add([Received("k", "1", "K", "ST", "1", "KO", "AE", name, 5, 0.0, opens_series=False)])
    remove_old(ledger, spool, 100 * HOUR_S, 72, 90)
    assert spool.path(name).exists()
    ledger.instances.mark_handled("k")
    remove_old(ledger, spool, 100 * HOUR_S, 72, 90)
    assert not spool.path(name).exists() and ledger.instances.known("k")


def test_what_was_refused_does_not_fill_the_disk_for_ever(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    old, new = (spool.path(spool.quarantine(data)) for data in (b"old", b"new"))
    os.utime(old, (DAY_S, DAY_S))
    os.utime(new, (95 * DAY_S, 95 * DAY_S))
    remove_old(ledger, spool, 100 * DAY_S, 72, 90)
    assert not old.exists() and new.exists()
