"""Between rename and row: a crash loses and doubles nothing."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MRImageStorage

from qc_node.dicom.part10 import encode_head
from qc_node.ledger import Ledger
from qc_node.ledger.instances import Instances
from qc_node.receiver.recovery import recover
from qc_node.receiver.store import Request, Store
from qc_node.spool import Spool
from tests.ledger.makers import number_of
from tests.peers import wait_for
from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import WirePeer, encode, image

MR = (MRImageStorage, [ExplicitVRLittleEndian])


def take(store: Store, **changes: object) -> tuple[str, int]:
    ds = image(**changes)
    incoming = store.receive(Request(MRImageStorage, str(ds.SOPInstanceUID), ExplicitVRLittleEndian, "MRI"))
    incoming.write(memoryview(encode(ds)))
    return str(ds.SOPInstanceUID), incoming.finish().status


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Spool(tmp_path), Ledger(tmp_path / "ledger.sqlite"), 0, lambda: 1000.0)


class Killed(BaseException):
    """What a SIGKILL is to the code: nothing after it runs."""


def test_a_file_without_row_is_adopted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Instances, "add", die)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        ds = image(ImagesInAcquisition="7")
        incoming = store.receive(Request(MRImageStorage, str(ds.SOPInstanceUID), ExplicitVRLittleEndian, "MRI"))
        incoming.write(memoryview(encode(ds)))
        with pytest.raises(Killed):
            incoming.finish()
    (name,) = store.spool.images_on_disk()
    assert not store.ledger.instances.known(str(ds.SOPInstanceUID))

    assert recover(store.spool, store.ledger, lambda: 2000.0) == 1
    (row,) = store.ledger.instances.of_series(number_of(store.ledger, str(ds.SeriesInstanceUID)))
    assert (row["path"], row["calling_ae"], row["received_at"]) == (name, "MRI", 2000.0)
    assert row["transfer_syntax_uid"] == ExplicitVRLittleEndian and row["sop_class_uid"] == MRImageStorage
    series = store.ledger.series.get(str(ds.SeriesInstanceUID))
    assert series is not None and (series["instances"], series["expected"]) == (1, 7)
    assert recover(store.spool, store.ledger) == 0
    assert take(store, SOPInstanceUID=ds.SOPInstanceUID) == (ds.SOPInstanceUID, 0)
    assert len(list(store.spool.images_on_disk())) == 1


def test_half_written_files_are_swept(store: Store) -> None:
    temp = store.spool.temp()
    temp.write(b"half")
    assert store.spool.sweep() == 1
    assert not list((store.spool.root / "tmp").iterdir())


@pytest.mark.parametrize(
    "content", [b"", b"no DICOM at all", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\2\0" * 9]
)
def test_a_file_that_cannot_be_read_goes_into_quarantine(content: bytes, store: Store) -> None:
    store.spool.store(f"images/{'0' * 32}/{'1' * 32}.dcm", content)
    assert recover(store.spool, store.ledger) == 0
    assert not list(store.spool.images_on_disk())
    (row,) = store.ledger.instances.quarantined()
    assert row["reason"].startswith("Found without a ledger row") and store.spool.path(row["path"]).exists()


def cut_off_version(store: Store, ds: Dataset, age_s: float = 0.0) -> str:
    """A file of `ds` without a row, so much older than it is."""
    head = encode_head(MRImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian, "MRI")
    name = store.spool.image_name("1.9", "1.8", ds.SOPInstanceUID)
    store.spool.store(name, head + encode(ds))
    if age_s:  # a time that is set is rounded, and may come before that of a file of the same moment
        written = store.spool.path(name).stat().st_mtime - age_s
        os.utime(store.spool.path(name), (written, written))
    return name


@pytest.mark.parametrize("content", ["the same", "older"])
def test_a_copy_of_a_known_instance_is_dropped(content: str, store: Store) -> None:
    ds = image()
    uid, _ = take(store, **{element.keyword: element.value for element in ds})
    if content == "older":
        cut_off_version(store, image(SOPInstanceUID=uid), age_s=100.0)
    else:
        cut_off_version(store, ds)
    assert recover(store.spool, store.ledger) == 0
    assert [store.ledger.instances.path_of(uid)] == list(store.spool.images_on_disk())


def test_a_version_that_a_power_cut_left_without_its_row_takes_the_place_of_the_earlier_one(store: Store) -> None:
    uid, _ = take(store, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    corrected = image(
        SOPInstanceUID=uid, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", PatientID="SOMEBODY ELSE"
    )
    name = cut_off_version(store, corrected)
    assert recover(store.spool, store.ledger) == 1
    assert [store.ledger.instances.path_of(uid)] == [name] == list(store.spool.images_on_disk())
    series = store.ledger.series.get("1.2.3")
    assert series is not None
    assert [e["detail"] for e in store.ledger.series.events(series["series_id"])] == ["patient"]
    assert recover(store.spool, store.ledger) == 0


def test_a_deflated_file_is_adopted_too(store: Store) -> None:
    ds = image()
    head = encode_head(MRImageStorage, ds.SOPInstanceUID, DeflatedExplicitVRLittleEndian, "MRI")
    name = store.spool.image_name(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    store.spool.store(name, head + encode(ds, DeflatedExplicitVRLittleEndian))
    assert recover(store.spool, store.ledger) == 1
    assert store.ledger.instances.path_of(ds.SOPInstanceUID) == name


def test_a_ledger_that_cannot_be_written_refuses_and_keeps_no_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Instances, "add", full)
        uid, status = take(store)
    assert status == 0xA700 and not list(store.spool.images_on_disk())
    assert take(store, SOPInstanceUID=uid)[1] == 0


def test_an_object_that_is_sent_again_while_the_ledger_is_locked_is_kept_or_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender gave up waiting and sent it anew; then the first attempt fails, and takes its file away."""
    original, calls = Instances.add, 0
    ds = image()
    same = {name: str(ds[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    statuses: list[int] = []

    def attempt() -> None:
        statuses.append(take(store, **same)[1])

    def add(self: Instances, *args: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls > 1:
            wait_for(lambda: statuses)  # the first attempt has ended, and done what it does with its file
            return original(self, *args)
        again.start()
        wait_for(lambda: len(store._queue) == 1)  # its bytes have the same name by now
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(Instances, "add", add)
    again = threading.Thread(target=attempt)
    attempt()
    again.join()
    assert statuses[0] in (0, 0xA700) and len(statuses) == 2
    there = bool(list(store.spool.images_on_disk()))
    assert there or 0 not in statuses, "answered with success, and no bytes are kept"
    assert take(store, **same)[1] == 0 and list(store.spool.images_on_disk())


def test_one_transaction_carries_the_rows_of_many_threads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, gate, original = [], threading.Event(), Instances.add

    def add(self: Instances, items: list[object], *there: Any) -> list[bool]:
        sizes.append(len(items))
        gate.wait(10)  # the first one holds the ledger until the others queue up
        return original(self, items, *there)  # type: ignore[arg-type]

    monkeypatch.setattr(Instances, "add", add)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(take(store)[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(store._queue) + sum(sizes) < 8:
        assert len(results) == 0
    gate.set()
    for thread in threads:
        thread.join()
    assert results == [0] * 8 and sum(sizes) == 8 and len(sizes) == 2
    assert len(store.ledger.db.rows("SELECT * FROM instances")) == 8


@pytest.mark.parametrize(
    ("follow", "expected"), [(False, ["bytes", "name", "folder", "row"]), (True, ["name", "both", "row"])]
)
def test_bytes_and_name_are_durable_before_the_row(
    follow: bool, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qc_node.spool.names_follow_bytes", lambda folder: follow)
    store = Store(Spool(tmp_path), Ledger(tmp_path / "ledger.sqlite"), 0, lambda: 1000.0)
    order: list[str] = []

    def noted(word: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any) -> Any:
            order.append(word)
            return do(*args)

        return noting

    monkeypatch.setattr(os, "fdatasync", noted("bytes", os.fdatasync))
    monkeypatch.setattr(os, "fsync", noted("both" if follow else "folder", os.fsync))
    monkeypatch.setattr(os, "replace", noted("another file replaced", os.replace))
    monkeypatch.setattr(os, "link", noted("name", os.link))
    monkeypatch.setattr(Instances, "add", noted("row", Instances.add))
    take(store, SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")
    order.clear()
    assert take(store, SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")[1] == 0
    assert order == expected


def test_a_restarted_receiver_knows_what_it_has(start_receiver: StartReceiver, tmp_path: Path) -> None:
    ds = image()
    for _ in range(2):
        receiver = start_receiver(folder=tmp_path / "same")
        with WirePeer(receiver.port) as peer:
            peer.associate(MR)
            assert peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds)) == 0
            peer.release()
        receiver.service.stop(1.0)
    assert len(receiver.stored()) == len(receiver.files()) == 1


# -- while the receiver takes images ---------------------------------------------------------------------
def now_or_later(store: Store, name: str) -> float:
    """A moment after the file got its name."""
    seen = store.spool.identity(name)
    assert seen is not None
    return seen.changed + 1.0


def test_what_is_younger_than_the_process_is_left_to_the_receiver(store: Store) -> None:
    sent = image()
    uid, _ = take(store, **{element.keyword: element.value for element in sent})
    broken, temp = f"images/{'0' * 32}/{'1' * 32}.dcm", store.spool.temp()
    store.spool.store(broken, b"no DICOM at all")
    copy = store.spool.image_name("1.9", "1.8", uid)
    head = encode_head(MRImageStorage, uid, ExplicitVRLittleEndian, "MRI")
    store.spool.store(copy, head + encode(sent))
    ds = image()
    whole = store.spool.image_name(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    head = encode_head(MRImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian, "MRI")
    store.spool.store(whole, head + encode(ds))
    later = now_or_later(store, whole)

    assert recover(store.spool, store.ledger, lambda: later, before=0.0) == 0
    assert all(map(store.spool.has, (broken, copy, whole))) and temp.path.exists()
    assert recover(store.spool, store.ledger, lambda: later, before=later) == 1
    assert store.ledger.instances.path_of(str(ds.SOPInstanceUID)) == whole
    assert not store.spool.has(broken) and not store.spool.has(copy) and not temp.path.exists()


def test_with_a_clock_that_was_set_back_files_are_taken_in_and_none_is_deleted(store: Store) -> None:
    ds = image()
    whole = store.spool.image_name(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    head = encode_head(MRImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian, "MRI")
    broken, temp = f"images/{'0' * 32}/{'1' * 32}.dcm", store.spool.temp()
    store.spool.store(broken, b"no DICOM at all")
    store.spool.store(whole, head + encode(ds))
    started = now_or_later(store, whole)
    assert recover(store.spool, store.ledger, lambda: started - 7200.0, before=started) == 1
    assert store.spool.has(broken) and temp.path.exists(), "the next start, or the sweep, looks at them again"


@pytest.mark.parametrize("content", ["broken", "copy"])
def test_a_file_that_the_receiver_puts_in_the_place_of_one_that_is_put_away_stays(
    content: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = image()
    uid, _ = take(store, **{element.keyword: element.value for element in sent})
    name = store.spool.image_name("1.9", "1.8", uid)
    head = encode_head(MRImageStorage, uid, ExplicitVRLittleEndian, "MRI")
    old = b"no DICOM at all" if content == "broken" else head + encode(sent)
    store.spool.store(name, old)
    rename = Path.rename

    def later(self: Path, target: Path) -> Path:
        store.spool.store(name, b"what was answered")  # between the last look and the rename
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", later)
    recover(store.spool, store.ledger)
    assert store.spool.path(name).read_bytes() == b"what was answered"
    assert store.ledger.instances.quarantined() == []


def test_recovery_and_reception_side_by_side_lose_and_double_nothing(store: Store) -> None:
    cut_off = [image(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3") for _ in range(40)]
    for ds in cut_off:
        head = encode_head(MRImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian, "MRI")
        store.spool.store(store.spool.image_name("1.2", "1.2.3", ds.SOPInstanceUID), head + encode(ds))
    started = time.time()
    results: list[int] = []

    def send() -> None:
        for ds in cut_off:  # their sender got no answer and sends them again
            same = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "SOPInstanceUID": ds.SOPInstanceUID}
            results.append(take(store, **same)[1])
            results.append(take(store, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")[1])

    sender = threading.Thread(target=send)
    sender.start()
    recover(store.spool, store.ledger, before=started)
    sender.join()
    assert results == [0] * 80
    assert recover(store.spool, store.ledger) == 0
    rows = store.ledger.instances.of_series(number_of(store.ledger, "1.2.3"))
    assert sorted(row["path"] for row in rows) == sorted(store.spool.images_on_disk()) and len(rows) == 80
    series = store.ledger.series.get("1.2.3")
    assert series is not None and series["instances"] == 80


def test_a_recovery_ends_when_the_node_stops(store: Store) -> None:
    ds = image()
    head = encode_head(MRImageStorage, ds.SOPInstanceUID, ExplicitVRLittleEndian, "MRI")
    name = store.spool.image_name(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    store.spool.store(name, head + encode(ds))
    assert recover(store.spool, store.ledger, stop=lambda: True) == 0 and store.spool.has(name)


def test_a_kill_before_an_old_version_was_removed_leaves_it_to_the_next_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid, _ = take(store, PatientID="WRONG1")
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "remove", lambda *_: None)
        assert take(store, SOPInstanceUID=uid, PatientID="RIGHT1")[1] == 0
    assert len(list(store.spool.images_on_disk())) == 2
    assert recover(store.spool, store.ledger) == 0
    assert list(store.spool.images_on_disk()) == [store.ledger.instances.path_of(uid)]


def test_the_row_of_other_content_is_on_the_disk_before_the_old_file_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut takes the row, and nobody can see any more that the content is another one."""
    flushed: list[bool] = []
    transaction = store.ledger.db.transaction

    def noting(*, flush: bool = True) -> Any:
        flushed.append(flush)
        return transaction(flush=flush)

    monkeypatch.setattr(store.ledger.db, "transaction", noting)
    uid, _ = take(store, PatientID="WRONG1")
    take(store, SOPInstanceUID=uid, PatientID="RIGHT1")
    assert flushed == [False, True]
