"""What is believed of a file system, and that it is true: a power cut on a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from qc_node.filesystems import file_system_of, names_follow_bytes
from qc_node.ledger import Ledger
from qc_node.receiver.recovery import recover
from qc_node.receiver.store import Incoming, Request, Store
from qc_node.spool import Spool
from tests.receiver.wire_peer import encode, image


def mounts(tmp_path: Path, kind: str, source: str, folder: Path) -> Path:
    """A table of mounts in which `folder` is on a file system of this kind."""
    device = folder.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(
        "24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw\n"
        f"42 27 {os.major(device)}:{os.minor(device)} / /data rw,relatime shared:1 - {kind} {source} rw\n"
    )
    return table


def test_the_kind_of_a_file_system_is_read_from_the_mounts(tmp_path: Path) -> None:
    table = mounts(tmp_path, "nfs4", "server:/export", tmp_path)
    assert file_system_of(tmp_path, table) == ("nfs4", "server:/export")
    assert file_system_of(tmp_path, tmp_path / "none") == ("", "")


@pytest.mark.parametrize(
    ("kind", "journal", "expected"),
    [("xfs", None, True), ("ext4", "5584", True), ("ext4", "<none>", False), ("ext4", None, False),
     ("ext2", "5584", False), ("btrfs", None, False), ("overlay", None, False), ("nfs4", None, False)],
)  # fmt: skip
def test_a_name_follows_its_bytes_only_where_a_journal_says_so(
    tmp_path: Path, kind: str, journal: str | None, expected: bool
) -> None:
    state = tmp_path / "sys"
    if journal is not None:
        (state / "disk1").mkdir(parents=True)
        (state / "disk1" / "journal_task").write_text(f"{journal}\n")
    assert names_follow_bytes(tmp_path, mounts(tmp_path, kind, "/dev/disk1", tmp_path), state) is expected


def mounted(image_file: Path, place: Path) -> bool:
    """Whether the file system in `image_file` could be mounted."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", image_file, place], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def disk(image_file: Path, place: Path) -> Iterator[Path]:
    if os.geteuid() or not mounted(image_file, place):
        pytest.skip("a loop device cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def journaled(tmp_path: Path) -> Path:
    """An image of an empty ext4 with a journal."""
    if shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        pytest.skip("mkfs.ext4 is not installed")
    made = tmp_path / "disk.img"
    with made.open("wb") as file:
        file.truncate(64 << 20)
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(["mkfs.ext4", "-q", "-F", made], check=True, env=env)
    return made


def begin(store: Store, uid: str) -> Incoming:
    ds = image(SOPInstanceUID=uid, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    incoming = store.receive(Request(MRImageStorage, uid, ExplicitVRLittleEndian, "MRI"))
    incoming.write(memoryview(encode(ds)))
    return incoming


@pytest.mark.slow
def test_what_was_answered_survives_a_power_cut_after_one_flush(
    journaled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = [f"1.2.3.{number}" for number in range(1, 13)]
    with disk(journaled, tmp_path / "before") as root:
        assert names_follow_bytes(root)
        store = Store(Spool(root / "data"), Ledger(root / "data" / "ledger.sqlite"), 0, lambda: 2e9)
        with monkeypatch.context() as patch:  # each of these would be one more flush of the disk
            begin(store, "1.2.3.99").finish()  # makes the folder of the series
            patch.setattr("qc_node.spool.fsync_folder", lambda folder: pytest.fail("the folder was flushed"))
            patch.setattr(os, "fdatasync", lambda fd: pytest.fail("the bytes were flushed alone"))
            assert [begin(store, uid).finish().status for uid in uids] == [0] * len(uids)
        (root / "data" / "unsynced").write_bytes(bytes(4096))
        begin(store, "1.2.3.98")  # on its way in
        shutil.copyfile(
            journaled, tmp_path / "after.img"
        )  # what the disk holds, and nothing that only memory holds
        store.ledger.close()
        store.close()
    with disk(tmp_path / "after.img", tmp_path / "after") as root:
        assert not (root / "data" / "unsynced").exists(), "this was no power cut"
        spool, ledger = Spool(root / "data"), Ledger(root / "data" / "ledger.sqlite")
        recover(spool, ledger)
        rows = [ledger.instances.newest(uid) for uid in uids]
        paths = [spool.path(row["path"]) for row in rows if row is not None]
        whole = len(encode(image(SOPInstanceUID=uids[0], StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")))
        assert len(paths) == len(uids) and all(path.stat().st_size > whole for path in paths)
        assert ledger.instances.newest("1.2.3.98") is None and ledger.instances.quarantined() == []
        ledger.close()


def test_a_file_that_a_power_cut_shortened_is_not_taken_in(tmp_path: Path) -> None:
    store = Store(Spool(tmp_path), Ledger(tmp_path / "ledger.sqlite"), 0, lambda: 1000.0)
    assert begin(store, "1.2.3.1").finish().status == 0
    (name,) = store.spool.images_on_disk()
    store.ledger.db.conn.executescript("PRAGMA foreign_keys=OFF; DELETE FROM instances; DELETE FROM series;")
    os.truncate(store.spool.path(name), store.spool.path(name).stat().st_size - 1)
    assert recover(store.spool, store.ledger) == 0
    (row,) = store.ledger.instances.quarantined()
    assert "incomplete" in row["reason"] and list(store.spool.images_on_disk()) == []


def test_a_flush_that_fails_leaves_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temp = Spool(tmp_path).temp()
    temp.write(b"bytes")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with suppress(OSError):
            temp.commit(tmp_path / "images" / "a.dcm", names_follow=True)
    assert not (tmp_path / "images" / "a.dcm").exists()
    temp.commit(tmp_path / "images" / "a.dcm", names_follow=True)
    assert (tmp_path / "images" / "a.dcm").read_bytes() == b"bytes" and not temp.path.exists()


def test_a_file_that_is_there_is_replaced_only_by_durable_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, order = tmp_path / "images" / "a.dcm", []
    Spool(tmp_path)
    final.write_bytes(b"answered for")
    temp = Spool(tmp_path).temp()
    temp.write(b"again")
    monkeypatch.setattr(os, "fdatasync", lambda fd: order.append(final.read_bytes()))
    temp.commit(final, names_follow=True)
    assert order == [b"answered for"] and final.read_bytes() == b"again"
