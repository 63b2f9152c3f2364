"""What was answered 0x0000 is on the disk, also when the ledger knew the image and its file was gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage, MRImageStorage

from qc_node.domain import ClosedBy
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.instances import Instances
from qc_node.ledger.rows import SeriesRow
from qc_node.operations.retention import HOUR_S, remove_old
from qc_node.receiver.recovery import recover
from qc_node.receiver.store import Request, Store
from qc_node.spool import Spool
from tests.receiver.wire_peer import encode, image

STUDY, SERIES = "1.2.3", "1.2.3.4"
UIDS = ("1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3")


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store(Spool(tmp_path), Ledger(tmp_path / "ledger.sqlite"), 0, clock)


def make(uid: str, study: str = STUDY, series: str = SERIES) -> Dataset:
    return image(SOPInstanceUID=uid, StudyInstanceUID=study, SeriesInstanceUID=series)


def take(store: Store, ds: Dataset) -> int:
    incoming = store.receive(Request(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, "MRI"))
    incoming.write(memoryview(encode(ds)))
    return incoming.finish().status


def take_all(store: Store) -> None:
    assert [take(store, make(uid)) for uid in UIDS] == [0, 0, 0]


def series(store: Store, study: str = STUDY) -> SeriesRow:
    row = store.ledger.series.find(study, SERIES)
    assert row is not None
    return row


def finish(store: Store, state: str) -> None:
    """Close the series, have it end as `state`, and for ``reported`` deliver its report."""
    row, ledger, now = series(store), store.ledger, store.clock()
    assert ledger.series.close(row["series_id"], row["last_received"], ClosedBy.QUIET, now)
    (claimed,) = ledger.series.claim(now)
    ended = "judged" if state == "reported" else state
    assert ledger.series.finish(row["series_id"], claimed["run"], ended, now, sentence="a sentence")
    if state == "reported":
        report = WrittenObject("9.9", "1", row["series_id"], STUDY, claimed["run"], "sr", "reports/x.dcm")
        ledger.deliveries.post([report], [], now, reported=(row["series_id"], claimed["run"]))
    assert series(store)["state"] == state


def lose(store: Store) -> None:
    """The folder of all images is gone, as after restoring a ledger without them."""
    shutil.rmtree(store.spool.root / "images")
    (store.spool.root / "images").mkdir()


def current_files(store: Store) -> list[bool]:
    return [store.spool.has(name) for name in store.ledger.instances.paths_of_series(series(store)["series_id"])]


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_images_whose_files_were_lost_are_kept_again_and_their_series_is_judged_again(
    state: str, store: Store
) -> None:
    take_all(store)
    finish(store, state)
    lose(store)
    take_all(store)
    assert current_files(store) == [True, True, True]
    row = series(store)
    assert (row["state"], row["run"], row["instances"], row["images_removed_at"]) == ("receiving", 2, 3, None)
    finish(store, "reported")


def test_a_series_counts_only_what_is_back_and_is_not_judged_without_the_rest(store: Store, clock: Clock) -> None:
    take_all(store)
    finish(store, "failed")
    lose(store)
    clock.now = 2000.0
    counts = []
    for uid in UIDS:
        assert take(store, make(uid)) == 0
        counts.append((series(store)["instances"], series(store)["images_removed_at"] is not None))
    assert counts == [(1, True), (2, True), (3, False)], "what is not complete counts as without images"


def test_a_series_that_waits_for_images_takes_them_without_a_new_run(store: Store) -> None:
    take_all(store)
    lose(store)
    take_all(store)
    row = series(store)
    assert (row["state"], row["run"], row["instances"]) == ("receiving", 1, 3)


def test_images_that_retention_removed_come_back_without_a_new_report_and_can_be_judged_again(
    store: Store, clock: Clock
) -> None:
    take_all(store)
    finish(store, "reported")
    clock.now += 100 * HOUR_S
    assert remove_old(store.ledger, store.spool, clock.now, 72, 90) == (1, 0)
    assert current_files(store) == [], "their rows are condensed"
    number = series(store)["series_id"]
    assert not store.ledger.series.judge_again(number, clock.now)

    for uid in UIDS[:2]:
        assert take(store, make(uid)) == 0
        assert not store.ledger.series.judge_again(number, clock.now), "a part of a series is not judged"
    assert take(store, make(UIDS[2])) == 0
    assert current_files(store) == [True, True, True]
    assert (series(store)["state"], series(store)["run"]) == ("reported", 1)
    assert store.ledger.studies.get(STUDY)["last_received"] == 1000.0  # type: ignore[index]
    assert store.ledger.series.judge_again(number, clock.now)


@pytest.mark.parametrize("back", [1, 3])
def test_retention_removes_what_came_back(back: int, store: Store, clock: Clock) -> None:
    take_all(store)
    finish(store, "reported")
    clock.now += 100 * HOUR_S
    remove_old(store.ledger, store.spool, clock.now, 72, 90)
    for uid in UIDS[:back]:
        assert take(store, make(uid)) == 0
    assert remove_old(store.ledger, store.spool, clock.now + 71 * HOUR_S, 72, 90) == (0, 0)
    assert len(list(store.spool.images_on_disk())) == back
    assert remove_old(store.ledger, store.spool, clock.now + 73 * HOUR_S, 72, 90) == (1, 0)
    assert not list(store.spool.images_on_disk())
    assert remove_old(store.ledger, store.spool, clock.now + 74 * HOUR_S, 72, 90) == (0, 0)


def test_an_image_that_comes_while_retention_is_at_work_stays(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_all(store)
    finish(store, "reported")
    clock.now += 100 * HOUR_S
    begin = store.ledger.removals.begin

    def begun(*args: Any) -> list[int] | None:
        numbers = begin(*args)
        assert take(store, make("1.2.3.4.9")) == 0
        return numbers

    monkeypatch.setattr(store.ledger.removals, "begin", begun)
    remove_old(store.ledger, store.spool, clock.now, 72, 90)
    assert current_files(store) == [True]


def test_a_duplicate_whose_file_is_there_changes_nothing(store: Store, clock: Clock) -> None:
    take_all(store)
    finish(store, "failed")
    before = (series(store), store.ledger.instances.of_series(series(store)["series_id"]))
    clock.now = 2000.0
    take_all(store)
    assert (series(store), store.ledger.instances.of_series(series(store)["series_id"])) == before
    assert len(list(store.spool.images_on_disk())) == 3


def test_an_image_that_comes_back_under_another_study_belongs_to_that_study(store: Store) -> None:
    take_all(store)
    finish(store, "failed")
    lose(store)
    assert take(store, make(UIDS[0], study="1.2.9")) == 0
    moved = series(store, "1.2.9")
    assert (moved["state"], moved["instances"], moved["images_removed_at"]) == ("receiving", 1, None)
    (name,) = store.ledger.instances.paths_of_series(moved["series_id"])
    assert store.spool.has(name)
    left = series(store)
    assert (left["state"], left["instances"], left["images_removed_at"]) == ("failed", 0, 1000.0)
    assert [row["sop_instance_uid"] for row in store.ledger.instances.of_series(left["series_id"])] == list(
        UIDS[1:]
    )


@pytest.mark.parametrize(("handled", "waits", "removable"), [(0, 1, 0), (1, 0, 1), (2, 0, 1)])
def test_an_object_without_series_comes_back_and_is_looked_at_once(
    handled: int, waits: int, removable: int, store: Store
) -> None:
    ds = image(SOPClassUID=KeyObjectSelectionDocumentStorage, Modality="KO")
    uid = str(ds.SOPInstanceUID)
    assert take(store, ds) == 0
    if handled:
        store.ledger.instances.mark_handled(uid)
    if handled == 2:  # by an earlier version
        store.ledger.db.conn.execute("UPDATE objects SET handled = 2")
    lose(store)
    assert take(store, ds) == 0
    assert store.spool.has(store.ledger.instances.path_of(uid) or "")
    assert len(store.ledger.instances.unhandled_objects()) == waits
    current = store.ledger.instances.path_of(uid)
    assert [row["path"] for row in store.ledger.removals.objects(9e9)].count(current or "") == removable


class Killed(BaseException):
    """What a SIGKILL is to the code: nothing after it runs."""


@pytest.mark.parametrize("started_anew", [True, False])
def test_a_kill_between_name_and_row_of_an_image_that_comes_back_loses_nothing(
    started_anew: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_all(store)
    finish(store, "failed")
    gone = store.ledger.instances.path_of(UIDS[1])
    assert gone is not None
    (store.spool.root / gone).unlink()

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Instances, "add", die)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            take(store, make(UIDS[1]))
    if started_anew:
        assert recover(store.spool, store.ledger) == 1
        assert recover(store.spool, store.ledger) == 0
    assert take(store, make(UIDS[1])) == 0
    assert recover(store.spool, store.ledger) == 0, "what the kill left is a copy now"
    assert current_files(store) == [True, True, True] and len(list(store.spool.images_on_disk())) == 3
    assert (series(store)["state"], series(store)["instances"]) == ("receiving", 3), "it is judged again"


def test_a_ledger_that_cannot_be_written_keeps_no_second_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_all(store)
    finish(store, "failed")
    lose(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Instances, "add", full)
        assert take(store, make(UIDS[0])) == 0xA700
    assert not list(store.spool.images_on_disk())
    assert take(store, make(UIDS[0])) == 0 and len(list(store.spool.images_on_disk())) == 1


def test_twins_of_an_image_that_comes_back_make_one_version(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    take_all(store)
    finish(store, "failed")
    lose(store)
    add: Callable[..., bool] = store.add
    inner: list[int] = []

    def while_another_comes(row: object) -> bool:
        if not inner:
            inner.append(0)
            inner.append(take(store, make(UIDS[0])))  # the twin is stored completely before our row is
        return add(row)

    monkeypatch.setattr(store, "add", while_another_comes)
    assert take(store, make(UIDS[0])) == 0 and inner == [0, 0]
    assert [row["version"] for row in store.ledger.instances.versions(UIDS[0])] == [1, 2]
    assert series(store)["instances"] == len(list(store.spool.images_on_disk())) == 1


def test_a_duplicate_costs_one_look_at_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    has = Spool.has
    monkeypatch.setattr(Spool, "has", lambda self, name: looks.append(name) or has(self, name))  # type: ignore[func-returns-value]
    take_all(store)
    assert looks == [], "a new image is not looked for"
    take_all(store)
    assert len(looks) == 3


def test_the_transfer_syntax_and_class_of_the_last_sending_hold(store: Store) -> None:
    assert take(store, make(UIDS[0])) == 0
    lose(store)
    ds = make(UIDS[0])
    incoming = store.receive(Request(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, "OTHER"))
    incoming.write(memoryview(encode(ds)))
    assert incoming.finish().status == 0
    (row,) = store.ledger.instances.of_series(series(store)["series_id"])
    assert (row["calling_ae"], row["sop_class_uid"], row["version"]) == ("OTHER", MRImageStorage, 2)
