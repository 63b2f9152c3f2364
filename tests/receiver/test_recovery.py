"""Between rename and row: a crash loses and doubles nothing."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MRImageStorage

from qc_node.dicom.part10 import encode_head
from qc_node.ledger import Ledger
from qc_node.ledger.instances import Instances
from qc_node.receiver.recovery import recover
from qc_node.receiver.store import Request, Store
from qc_node.spool import Spool
from tests.ledger.makers import number_of
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
    assert recover(store.spool, store.ledger) == 0
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


def test_a_copy_of_a_known_instance_under_another_series_is_dropped(store: Store) -> None:
    uid, _ = take(store)
    ds = image(SOPInstanceUID=uid)
    head = encode_head(MRImageStorage, uid, ExplicitVRLittleEndian, "MRI")
    store.spool.store(store.spool.image_name("1.9", "1.8", uid), head + encode(ds))
    assert recover(store.spool, store.ledger) == 0
    assert [store.ledger.instances.path_of(uid)] == list(store.spool.images_on_disk())


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
    ("follow", "expected"), [(False, ["bytes", "name", "folder", "row"]), (True, ["name first", "both", "row"])]
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
    monkeypatch.setattr(os, "replace", noted("name", os.replace))
    monkeypatch.setattr(os, "link", noted("name first", os.link))
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
