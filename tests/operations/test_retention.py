from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qc_node.domain import ClosedBy, Finding, ModelIdentity, Question, Stage, Verdict
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations.retention import DAY_S, HOUR_S, Pace, remove_old
from qc_node.receiver.recovery import recover
from qc_node.spool import Spool
from tests.end_to_end.node_process import CRASH_FOLDER
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
    assert ledger.instances.of_series(number_of(ledger, "S")) == [], "rows of images are condensed"
    series, verdict = ledger.series.get("S"), ledger.verdicts.get(number_of(ledger, "S"))
    assert series is not None and (series["instances"], series["state"]) == (2, "reported")
    assert verdict is not None and verdict["verdict"] == VERDICT and verdict["thumbnails"], "what was judged stays"
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
    assert not spool.path(name).exists() and ledger.instances.newest("k") is None, "its row is gone, too"
    spool.store(name, b"key object")
    ledger.instances.add([Received("k", "1", "K", "ST", "1", "KO", "AE", name, 5, 9e9, opens_series=False)])
    assert ledger.instances.unhandled_objects() == [], "what was looked at once is not looked at again"


def test_what_was_refused_does_not_fill_the_disk_for_ever(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    for data, days in ((b"old", 1), (b"again", 1), (b"again", 95), (b"new", 95)):
        name = spool.quarantine(data)
        ledger.instances.quarantine(name, "a sentence", "AE", days * DAY_S)
        os.utime(spool.path(name), (days * DAY_S, days * DAY_S))
    remove_old(ledger, spool, 100 * DAY_S, 72, 90)
    left = [row["path"] for row in ledger.instances.quarantined()]
    assert left == [spool.quarantine(data) for data in (b"again", b"new")], "what came again stays"
    assert files(spool, "quarantine") == 2


# -- as much as there is, and not at once ----------------------------------------------------------------
def fill(ledger: Ledger, spool: Spool, count: int, images: int = 1) -> None:
    """So many skipped series of so many images each, received at the second of their number."""
    for n in range(count):
        for k in range(images):
            name = spool.image_name("ST", f"S{n}", f"{n}.{k}")
            spool.store(name, b"image")
            ledger.instances.add([Received(f"{n}.{k}", "1", f"S{n}", "ST", "1", "DX", "AE", name, 5, float(n))])
        number = number_of(ledger, f"S{n}")
        ledger.series.close(number, float(n), ClosedBy.QUIET, float(n))
        ledger.series.claim(float(n))
        assert ledger.series.finish(number, 1, "skipped", float(n), sentence="This is a localizer.")


@pytest.fixture
def empty(tmp_path: Path) -> tuple[Ledger, Spool]:
    return Ledger(tmp_path / "ledger.sqlite"), Spool(tmp_path)


def test_one_step_removes_all_that_is_due(empty: tuple[Ledger, Spool]) -> None:
    ledger, spool = empty
    fill(ledger, spool, 250)
    assert remove_old(ledger, spool, 72 * HOUR_S + 240, 72, 90) == (240, 0)
    assert files(spool, "images") == 10
    assert remove_old(ledger, spool, 72 * HOUR_S + 240, 72, 90) == (0, 0)


def test_series_that_cannot_go_yet_hold_up_no_other(empty: tuple[Ledger, Spool]) -> None:
    ledger, spool = empty
    fill(ledger, spool, 150)
    for n in range(120):
        number = number_of(ledger, f"S{n}")
        report = WrittenObject(f"r{n}", "1", number, "ST", 1, "sr", f"reports/{n}")
        ledger.deliveries.post([report], ["PACS"], 3.0)
    assert remove_old(ledger, spool, 100 * HOUR_S, 72, 90) == (30, 0)


def test_a_pause_of_three_times_its_length_follows_each_step_and_the_node_can_stop_in_it(
    empty: tuple[Ledger, Spool],
) -> None:
    ledger, spool = empty
    fill(ledger, spool, 4, images=3)
    pauses: list[float] = []
    clock = itertools.count(0.0, 0.5)  # each look at it is half a second later: every step takes that long

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 5  # the node stops

    pace = Pace(wait, lambda: next(clock))
    assert remove_old(ledger, spool, 100 * HOUR_S, 72, 90, pace) == (2, 0)
    assert pauses == [1.5] * 5
    assert remove_old(ledger, spool, 100 * HOUR_S, 72, 90) == (2, 0), "the next one goes on"
    assert files(spool, "images") == 0


@pytest.mark.parametrize("clock", [0.0, 200 * HOUR_S])
def test_an_image_that_comes_late_to_a_series_without_images_goes_in_its_time(
    clock: float, kept: tuple[Ledger, Spool]
) -> None:
    ledger, spool = kept
    (delivery,) = ledger.deliveries.next_pending("PACS", 4.0)
    ledger.deliveries.sent(delivery["id"], 5.0)
    remove_old(ledger, spool, 100 * HOUR_S, 72, 90)
    late = spool.image_name("ST", "S", "c")
    spool.store(late, b"image")
    # in the first case the clock was set back since retention marked the series
    ledger.instances.add([Received("c", "1", "S", "ST", "1", "CT", "AE", late, 5, clock)])
    number = number_of(ledger, "S")
    assert remove_old(ledger, spool, clock + 100 * HOUR_S, 72, 90)[0] == 0, "it waits to be judged"
    ledger.series.close(number, clock, ClosedBy.QUIET, clock)
    ledger.series.claim(clock)
    ledger.series.finish(number, 2, "failed", clock, sentence="Images of this series are gone.")
    assert remove_old(ledger, spool, clock + 71 * HOUR_S, 72, 90)[0] == 0
    assert remove_old(ledger, spool, clock + 73 * HOUR_S, 72, 90)[0] == 1
    assert files(spool, "images") == 0 and ledger.instances.of_series(number) == []
    verdict = ledger.verdicts.get(number)
    assert verdict is not None and verdict["verdict"] == VERDICT


def test_a_series_that_is_judged_again_at_the_moment_keeps_its_images(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    (delivery,) = ledger.deliveries.next_pending("PACS", 4.0)
    ledger.deliveries.sent(delivery["id"], 5.0)
    number = number_of(ledger, "S")
    (due,) = ledger.removals.due(100.0)
    assert ledger.series.judge_again(number, 50.0)  # an operator, after retention has looked
    assert ledger.removals.begin(number, due["last_received"], 101.0) is None
    assert files(spool, "images") == 2


def test_superseded_versions_go_with_their_series(kept: tuple[Ledger, Spool]) -> None:
    ledger, spool = kept
    (delivery,) = ledger.deliveries.next_pending("PACS", 4.0)
    ledger.deliveries.sent(delivery["id"], 5.0)
    second = spool.image_name("ST", "S", "a", 2)
    spool.store(second, b"corrected")
    ledger.instances.add([Received("a", "1", "S", "ST", "1", "CT", "AE", second, 9, 1.0, version=2)])
    remove_old(ledger, spool, 100 * HOUR_S, 72, 90)
    assert files(spool, "images") == 0 and ledger.instances.versions("a") == []


# -- killed on the way -----------------------------------------------------------------------------------
KILL_POINTS = (
    "qc_node.ledger.removals:Removals.begin:after:1",
    "qc_node.spool:Spool.remove:after:1",
    "qc_node.spool:Spool.remove:after:3",
    "qc_node.ledger.removals:Removals.condense:before:1",
    "qc_node.ledger.removals:Removals.condense:after:1",
    "qc_node.ledger.removals:Removals.end:before:1",
    "qc_node.ledger.removals:Removals.end:after:1",
    "qc_node.ledger.removals:Removals.forget_object:before:1",
    "qc_node.ledger.removals:Removals.forget_object:after:1",
    "qc_node.ledger.verdicts:Verdicts.forget_training:before:1",
    "qc_node.ledger.verdicts:Verdicts.forget_training:after:1",
    "qc_node.ledger.removals:Removals.forget_refused:before:1",
)
REMOVE = """
import sys
from pathlib import Path
from qc_node.ledger import Ledger
from qc_node.operations.retention import remove_old
from qc_node.spool import Spool
root = Path(sys.argv[1])
remove_old(Ledger(root / "ledger.sqlite"), Spool(root), 100 * 86400.0, 72, 90)
"""


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_kill_at_any_point_of_a_removal_leaves_nothing_behind(
    point: str, kept: tuple[Ledger, Spool], tmp_path: Path
) -> None:
    ledger, spool = kept
    (delivery,) = ledger.deliveries.next_pending("PACS", 4.0)
    ledger.deliveries.sent(delivery["id"], 5.0)
    key = spool.image_name("ST", "K", "k")
    spool.store(key, b"key object")
    ledger.instances.add([Received("k", "1", "K", "ST", "1", "KO", "AE", key, 5, 0.0, opens_series=False)])
    ledger.instances.mark_handled("k")
    refused = spool.quarantine(b"refused")
    ledger.instances.quarantine(refused, "a sentence", "AE", 1.0)
    os.utime(spool.path(refused), (1.0, 1.0))
    ledger.close()

    command = [sys.executable, "-c", REMOVE, str(tmp_path)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(CRASH_FOLDER), *sys.path]),
        "QC_TEST_CRASH": point,
        "QC_TEST_CRASH_FLAG": str(tmp_path / "crashed"),
    }
    killed = subprocess.run(command, env=env, start_new_session=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert recover(spool, ledger) == 0, "nothing is taken in again"
    assert subprocess.run(command, env=env, check=False, timeout=60).returncode == 0
    assert [files(spool, folder) for folder in ("images", "training", "thumbnails", "quarantine")] == [0, 0, 0, 0]
    assert (
        ledger.db.value("SELECT count(*) FROM instances") == ledger.db.value("SELECT count(*) FROM objects") == 0
    )
    assert ledger.instances.quarantined() == []
    assert ledger.removals.due_again(9e9) == [] and ledger.removals.objects(9e9) == []
    back = spool.image_name("ST", "S", "a")
    spool.store(back, b"image")
    ledger.instances.add([Received("a", "1", "S", "ST", "1", "CT", "AE", back, 5, 9e6)])
    series = ledger.series.get("S")
    assert series is not None and (series["state"], series["run"], series["instances"]) == ("reported", 1, 1)
    assert series["images_removed_at"] is not None, "the other image is not back"
