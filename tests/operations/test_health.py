"""Health: each check finds its fault, and only that one."""

from __future__ import annotations

import json
import resource
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qc_node.ledger import Ledger, Received
from qc_node.ledger.database import prove_writable
from qc_node.ledger.deliveries import WrittenObject
from qc_node.operations.health import (
    Health,
    HealthCode,
    RecentObjects,
    disk_probe,
    drain_probe,
    ledger_probe,
    loops_probe,
    objects_probe,
    outbox_probe,
    receiver_probe,
    worker_probe,
)
from qc_node.operations.ledger_watch import LedgerWatch
from qc_node.periodic import Periodic
from qc_node.spool import Spool
from tests.ledger.damaged import overwrite, pages_of, received
from tests.ledger.makers import number_of
from tests.peers import wait_for


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def test_ledger_locked_by_another_writer(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "prove_writable", lambda: prove_writable(ledger.db.path, 0.05))
    assert ledger_probe(ledger)().code is HealthCode.OK
    other = sqlite3.connect(ledger.db.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    check = ledger_probe(ledger)()
    assert check.code is HealthCode.LEDGER_NOT_WRITABLE and "locked" in check.sentence
    other.execute("ROLLBACK")
    other.close()
    assert ledger_probe(ledger)().passed


def test_ledger_gone(ledger: Ledger) -> None:
    ledger.close()
    ledger.db.path.unlink()
    assert ledger_probe(ledger)().code is HealthCode.LEDGER_NOT_WRITABLE
    assert not ledger.db.path.exists()


def test_a_ledger_that_is_damaged_has_a_code_of_its_own(ledger: Ledger) -> None:
    ledger.db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for page in pages_of(ledger.db.path, "quarantine"):
        overwrite(ledger.db.path, page)
    check = ledger_probe(ledger)()
    assert check.code is HealthCode.LEDGER_DAMAGED
    assert str(ledger.db.path) in check.sentence and "qc-node restore" in check.sentence


def test_damage_that_anybody_met_fails_the_check_until_the_restart(ledger: Ledger) -> None:
    ledger.series.event(ledger_with_series(ledger), 1, 1.0, "closed")
    ledger.db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for page in pages_of(ledger.db.path, "events"):
        overwrite(ledger.db.path, page)
    assert ledger_probe(ledger)().passed, "nobody has met it yet, and a row can be written"
    LedgerWatch(ledger, clock=iter((0.0, 61.0, 61.0)).__next__).step()
    check = ledger_probe(ledger)()
    assert check.code is HealthCode.LEDGER_DAMAGED and "malformed" in check.sentence


def ledger_with_series(ledger: Ledger) -> int:
    ledger.instances.add([received(1, 1)])
    return 1


def test_the_whole_ledger_is_looked_at_after_the_start_and_once_a_day(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    now = [0.0]
    monkeypatch.setattr(ledger, "look_for_damage", lambda limit_s: looked.append(now[0]))
    watch = LedgerWatch(ledger, clock=lambda: now[0])
    while now[0] < 3 * 86400:
        watch.step()
        now[0] += 30
    assert looked == [60, 60 + 86400, 60 + 2 * 86400]


def test_disk(spool: Spool) -> None:
    assert disk_probe(spool, 0)().passed
    low = disk_probe(spool, 1e18)()
    assert low.code is HealthCode.DISK_LOW and "GB are free" in low.sentence
    (spool.root / "tmp").rmdir()
    assert disk_probe(spool, 0)().code is HealthCode.SPOOL_NOT_WRITABLE


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process can be written beyond `size` bytes: a disk that takes no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_ledger_that_cannot_grow(ledger: Ledger) -> None:
    assert ledger_probe(ledger)().passed
    with file_size_limit(2000):
        check = ledger_probe(ledger)()
    assert check.code is HealthCode.LEDGER_NOT_WRITABLE and str(ledger.db.path) in check.sentence
    assert ledger_probe(ledger)().passed
    assert ledger.instances.quarantined() == [], "the probe leaves no row"


def test_the_ledger_probe_reaches_the_disk(ledger: Ledger) -> None:
    ledger.series.counts()  # keeps the log of the node open
    before = ledger.db.path.with_name("ledger.sqlite-wal").stat().st_mtime_ns
    assert ledger_probe(ledger)().passed
    assert ledger.db.path.with_name("ledger.sqlite-wal").stat().st_mtime_ns > before


def test_a_disk_that_takes_no_more_although_the_watermark_is_zero(spool: Spool) -> None:
    with file_size_limit(2000):
        check = disk_probe(spool, 0)()
    assert check.code is HealthCode.SPOOL_NOT_WRITABLE and "File too large" in check.sentence
    assert disk_probe(spool, 0)().passed
    assert [p for p in spool.root.rglob("*") if p.is_file() and "ledger" not in p.name] == []


def test_images_on_another_file_system(spool: Spool) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == spool.root.stat().st_dev:
        pytest.skip("this machine has no second file system to try")
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        (spool.root / "images").rmdir()
        (spool.root / "images").symlink_to(other)
        check = disk_probe(spool, 0)()
        assert check.code is HealthCode.SPOOL_NOT_WRITABLE and "cross-device" in check.sentence
        assert list(Path(other).iterdir()) == list((spool.root / "tmp").iterdir()) == []


def test_a_probe_of_the_disk_is_no_image(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    unlink = Path.unlink

    def look(path: Path, missing_ok: bool = False) -> None:
        seen.extend(spool.images_on_disk())
        assert path.exists() and path.parent.name == "images"
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    assert disk_probe(spool, 0)().passed
    assert seen == [], "start-up would take it in"


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0x0110])
def test_objects_that_were_all_refused_for_a_reason_of_ours(status: int) -> None:
    now = 0.0
    recent = RecentObjects(lambda: now, count=3, within_s=60.0)
    probe = objects_probe(recent)
    for _ in range(2):
        recent.note(status)
    assert probe().passed, "two may be an accident"
    recent.note(status)
    assert probe().code is HealthCode.OBJECTS_REFUSED
    recent.note(0x0000)
    assert probe().passed
    for _ in range(3):
        recent.note(status)
    assert not probe().passed
    now = 61.0
    assert probe().passed, "what was long ago says nothing of now"


@pytest.mark.parametrize("status", [0xA900, 0xC210, 0x0122])
def test_objects_refused_for_a_reason_of_the_sender_are_no_fault_of_ours(status: int) -> None:
    recent = RecentObjects(lambda: 0.0, count=3, within_s=60.0)
    for _ in range(9):
        recent.note(status)
    assert objects_probe(recent)().passed


def test_refusals_that_a_probe_explained_are_over_as_soon_as_it_passes(spool: Spool) -> None:
    now = 0.0
    recent = RecentObjects(lambda: now, count=3, within_s=300.0, causes=[disk_probe(spool, 0)])
    probe = objects_probe(recent)
    (spool.root / "tmp").rmdir()
    for _ in range(3):
        now += 0.1
        recent.note(0xA700)
    assert probe().code is HealthCode.OBJECTS_REFUSED
    (spool.root / "tmp").mkdir()
    assert probe().passed, "no sender need come first"
    recent.note(0xA700)
    assert probe().passed, "what is explained and over does not count any more"


def test_refusals_that_no_probe_explains_count_on(spool: Spool) -> None:
    now = 0.0
    recent = RecentObjects(lambda: now, count=3, within_s=300.0, causes=[disk_probe(spool, 0)])
    for _ in range(3):
        now += 2.0
        recent.note(0xA700)
    assert objects_probe(recent)().code is HealthCode.OBJECTS_REFUSED
    (spool.root / "tmp").rmdir()
    assert objects_probe(recent)().code is HealthCode.OBJECTS_REFUSED
    (spool.root / "tmp").mkdir()
    assert objects_probe(recent)().code is HealthCode.OBJECTS_REFUSED, "the disk was well when they were refused"
    recent.note(0x0000)
    assert objects_probe(recent)().passed


def test_reception() -> None:
    assert receiver_probe(lambda: True)().passed
    assert receiver_probe(lambda: False)().code is HealthCode.RECEPTION_DOWN


def add_series(ledger: Ledger, at: float) -> None:
    ledger.instances.add(
        [
            Received(
                "1.2.3",
                "1.2.840.10008.5.1.4.1.1.4",
                "1.2",
                "1",
                "1.2.840.10008.1.2.1",
                "MR",
                "MR1",
                "images/x",
                1,
                at,
            )
        ]
    )
    ledger.series.close(number_of(ledger, "1.2"), at, "quiet", at)


def test_worker_dead_or_stuck(ledger: Ledger) -> None:
    now = 1000.0
    probe = worker_probe(lambda: True, ledger, lambda: now, 180.0)
    assert probe().passed
    add_series(ledger, 0.0)
    assert probe().passed, "a long queue alone is no fault of the worker"
    ledger.series.claim(900.0)
    assert probe().passed
    now = 1081.0
    assert probe().code is HealthCode.WORKER_STUCK
    assert worker_probe(lambda: False, ledger, lambda: now, 180.0)().code is HealthCode.WORKER_DOWN


def test_a_queue_that_nobody_takes_from_shows(ledger: Ledger) -> None:
    rest_s, now = 0.0, 1000.0
    probe = worker_probe(lambda: True, ledger, lambda: now, 180.0, rest_s=lambda: rest_s)
    add_series(ledger, 990.0)
    rest_s = 900.0
    assert probe().passed, "it came just now"
    now = 1035.0
    assert probe().code is HealthCode.WORKER_STUCK and "none was taken" in probe().sentence
    rest_s = 1.0
    assert probe().passed, "a long queue alone is no fault of the worker"


def test_a_fault_of_the_machine_that_holds_the_worker_up_shows(ledger: Ledger) -> None:
    trouble = "The machine does not let the classifier work (Too many open files)."
    probe = worker_probe(lambda: True, ledger, lambda: 0.0, 180.0, trouble=lambda: trouble)
    assert (probe().code, probe().sentence) == (HealthCode.WORKER_HELD_UP, trouble)
    trouble = ""
    assert probe().passed


def test_a_worker_that_loads_its_models_is_no_dead_one_and_one_that_cannot_says_why(ledger: Ledger) -> None:
    fault = ""
    probe = worker_probe(lambda: False, ledger, lambda: 0.0, 180.0, loading=lambda: True, fault=lambda: fault)
    assert probe().code is HealthCode.WORKER_LOADING
    fault = "The model file x is missing."
    assert (probe().code, probe().sentence) == (HealthCode.WORKER_DOWN, fault)


def test_ready_says_which_of_taking_and_delivering_is_there() -> None:
    reception, taking, working = True, True, True

    def said() -> tuple[int, int, bool, bool]:
        health = Health(
            [receiver_probe(lambda: reception)],
            [receiver_probe(lambda: working)],
            taking=[drain_probe(lambda: not taking)],
        )
        answer = json.loads(health.ready().as_json())
        takes = health.answer("/readyz/takes")
        assert takes is not None and health.answer("/elsewhere") is None
        return health.ready().http_status, takes.http_status, answer["takes"], answer["delivers"]

    assert said() == (200, 200, True, True)
    working = False
    assert said() == (503, 200, True, False)
    taking, working = False, True
    assert said() == (503, 503, False, True)
    reception, taking = False, True
    assert said() == (503, 503, False, True)


def test_outbox(ledger: Ledger) -> None:
    clock: Callable[[], float] = lambda: 1000.0  # noqa: E731
    assert outbox_probe(ledger, clock, 300.0)().passed
    ledger.deliveries.post([WrittenObject("1.2.9", "1.2", None, "1", 1, "sr", "reports/x")], ["PACS"], 800.0)
    assert outbox_probe(ledger, clock, 300.0)().passed
    check = outbox_probe(ledger, clock, 100.0)()
    assert check.code is HealthCode.OUTBOX_STUCK and check.sentence.startswith("1 reports")


def test_alive_asks_only_what_a_restart_mends(ledger: Ledger) -> None:
    worker = worker_probe(lambda: False, ledger, lambda: 0.0, 180.0)
    health = Health([receiver_probe(lambda: True)], [worker])
    assert health.alive().http_status == 200
    ready = health.ready()
    assert ready.http_status == 503
    said = json.loads(ready.as_json())
    assert said["status"] == "failing"
    assert [c["code"] for c in said["checks"]] == ["ok", "worker_down"]


def test_a_check_that_breaks_is_a_failed_check() -> None:
    def broken() -> bool:
        raise RuntimeError("1.2.3 of patient X")

    report = Health([receiver_probe(broken)]).alive()
    assert report.http_status == 503
    check = report.checks[0]
    assert (check.name, check.code) == ("reception", HealthCode.CHECK_FAILED)
    assert "patient" not in check.sentence


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_has_ended_is_named() -> None:
    def end() -> None:
        raise SystemExit

    well, gone = Periodic("writing", lambda: None), Periodic("outbox-PACS", end)
    probe = loops_probe(lambda: (well, gone))
    assert probe().passed, "none is started yet"
    well.start()
    gone.start()
    wait_for(lambda: not probe().passed)
    assert (probe().name, probe().code) == ("loops", HealthCode.LOOP_STUCK)
    assert probe().sentence == "The loop outbox-PACS has ended. The log says why."
    well.stop()
