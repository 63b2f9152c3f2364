"""A backup holds what a restore needs, and is whole or is not there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger, LedgerDamagedError, Received, snapshot
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.migrations import MIGRATIONS
from qc_node.ledger.snapshot import take
from qc_node.operations.backup import BackedUp
from qc_node.operations.backup_folder import BackupFolder
from qc_node.operations.restore import verify
from tests.ledger.damaged import overwrite, pages_of
from tests.operations.site import NOW, Site, command, files, quiet, small_disk
from tests.operations.test_health import file_size_limit
from tests.peers import wait_for


# -- what is in it ---------------------------------------------------------------------------------------
def test_the_images_that_something_is_still_owed_for_are_in_it(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    done = backup()
    owed = site.images("receiving", "queued", "failed", "undelivered")
    assert len(owed) == 8 and files(tmp_path / "backup", "images") == owed
    assert files(tmp_path / "backup", "reports") == files(site.root, "reports") != set()
    assert files(tmp_path / "backup", "training", "thumbnails") == set()
    assert done.manifest.images == "needed" and done.manifest.counts["absent"] == 0


def test_everything_is_in_it_on_demand(site: Site, backup: Callable[..., BackedUp], tmp_path: Path) -> None:
    backup(all_images=True, training=True)
    tops = ("images", "reports", "training", "thumbnails")
    assert files(tmp_path / "backup", *tops) == files(site.root, *tops)


def test_an_object_in_which_nobody_has_looked_for_votes_is_in_it(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    names = []
    for number in range(2):
        names.append(site.spool.image_name("1.2", "1.2.77", f"1.2.77.{number}"))
        site.spool.store(names[-1], b"key object")
        site.ledger.instances.add(
            [Received(f"1.2.77.{number}", "1", "1.2.77", "1.2", "1.2", "KO", "MR1", names[-1], 1, 9.0, False)]
        )
    site.ledger.instances.mark_handled("1.2.77.0")
    backup()
    assert names[1] in files(tmp_path / "backup", "images") and names[0] not in files(
        tmp_path / "backup", "images"
    )


def test_the_manifest_says_what_is_there_and_names_nobody(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    manifest = backup().manifest
    data = json.loads((tmp_path / "backup" / "manifest.json").read_text())
    assert (
        data["format"] == 1
        and data["schema"] == len(MIGRATIONS)
        and data["qc_node"]
        and data["created"].endswith(" UTC")
    )
    assert data["counts"] == {
        "images": 8, "reports": 2, "training": 0, "thumbnails": 0, "absent": 0,
        "unreadable": 0, "instances": 12, "series": 6
    }  # fmt: skip
    listed = list(BackupFolder(tmp_path / "backup").entries(manifest))
    assert [entry.name for entry in listed] == sorted(entry.name for entry in listed)
    for entry in listed:
        found = (tmp_path / "backup" / entry.name).read_bytes()
        assert (len(found), hashlib.sha256(found).hexdigest()) == (entry.bytes, entry.sha256)
        assert len(Path(entry.name).stem) == 32, "a digest, and no UID"
    assert {entry.name for entry in manifest.own} == {"ledger.sqlite", "web-secret"}


def test_nobody_else_can_read_it(site: Site, backup: Callable[..., BackedUp], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        backup()
    finally:
        os.umask(before)
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_copy_of_the_ledger_is_whole_and_needs_no_log(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    manifest = backup().manifest
    copy = tmp_path / "backup" / manifest.folder / "ledger.sqlite"
    assert [p.name for p in copy.parent.glob("ledger*")] == ["ledger.sqlite"]
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("SELECT count(*) FROM instances").fetchone() == (12,)


def test_a_file_that_retention_took_meanwhile_is_counted(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    gone = sorted(site.images("queued"))[0]
    site.spool.remove(gone)
    assert backup().manifest.counts["absent"] == 1
    assert gone not in files(tmp_path / "backup", "images")
    assert verify(tmp_path / "backup", quiet).counts["images"] == 7


def test_a_ledger_of_another_version_is_backed_up_with_everything(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    site.ledger.db.conn.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    manifest = backup().manifest
    assert (manifest.schema, manifest.images) == (len(MIGRATIONS) - 1, "all")
    assert files(tmp_path / "backup", "images", "training") == files(site.root, "images", "training")


def test_a_file_that_the_disk_does_not_give_is_named_and_the_rest_is_kept(site: Site, tmp_path: Path) -> None:
    bad = site.root / sorted(site.images("queued"))[0]
    bad.unlink()
    bad.mkdir()  # reading it fails, as from a bad sector
    done = command(tmp_path, "backup", str(tmp_path / "backup"))
    assert done.returncode == 1 and f"{bad} cannot be read, and is not in the backup." in done.stderr
    manifest = verify(tmp_path / "backup", quiet)
    assert (manifest.counts["images"], manifest.counts["unreadable"]) == (7, 1)


def test_a_terminal_is_shown_what_is_being_done(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{site.root}"\n')
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "qc_node", "backup", str(tmp_path / "backup"), "--config", str(config)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, timeout=60)
    os.close(theirs)
    assert done.returncode == 0 and b"\r" not in done.stdout
    assert re.search(rb"\r\x1b\[K\d+ files, \d\.\d\d GB copied", os.read(ours, 4096))
    os.close(ours)


# -- while others write ----------------------------------------------------------------------------------
def test_the_ledger_is_copied_as_it_was_when_the_copy_began_whatever_is_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "STEP_PAGES", 500)
    path, stop, written = tmp_path / "ledger.sqlite", threading.Event(), [0]
    with closing(Ledger(path)) as ledger, ledger.db.transaction() as conn:
        conn.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
            " INSERT INTO quarantine (path, reason, calling_ae, received_at)"
            " SELECT i, hex(zeroblob(200)), '', 0 FROM n"
        )

    def write() -> None:
        with closing(Ledger(path)) as ledger:
            while not stop.is_set():
                ledger.instances.quarantine("p", "r", "", 1.0)
                written[0] += 1

    writer = threading.Thread(target=write)
    during: list[int] = []

    def progress(done: int, total: int) -> None:
        """Between two steps of the copy somebody else writes."""
        at = written[0]
        wait_for(lambda: written[0] >= at + 2, 60, every=0.001)
        during.append(done)

    writer.start()
    try:
        take(path, tmp_path / "copy.sqlite", progress)
    finally:
        stop.set()
        writer.join()
    assert len(during) > 3 and during == sorted(during), "a writer does not make it begin anew"
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as conn:
        rows = conn.execute("SELECT count(*), max(id) FROM quarantine").fetchone()
    assert rows[0] == rows[1] and 60000 <= rows[0] <= 60000 + written[0] - 2 * len(during)


# -- again and again -------------------------------------------------------------------------------------
def test_a_second_backup_copies_what_is_new_and_drops_what_is_no_longer_needed(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    first = backup()
    assert (first.copied, first.kept) == (10, 0)
    inode = {name: (tmp_path / "backup" / name).stat().st_ino for name in files(tmp_path / "backup", "images")}
    (delivery,) = site.ledger.deliveries.unfinished()
    site.ledger.deliveries.sent(delivery["id"], 60.0)
    site.add("receiving", 40)
    second = backup(at=NOW + 1)
    assert (second.copied, second.kept) == (2, 8)
    now = files(tmp_path / "backup", "images")
    assert not now & site.images("undelivered"), "a delivered report needs no image"
    assert all((tmp_path / "backup" / name).stat().st_ino == inode[name] for name in now & set(inode))
    assert verify(tmp_path / "backup", quiet) == second.manifest
    stamps = [p.name for p in (tmp_path / "backup").iterdir() if p.name.startswith("20")]
    assert stamps == [second.manifest.folder], "the ledger of the first one is gone"


def test_a_file_that_was_lost_from_the_backup_is_copied_again(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    (tmp_path / "backup" / sorted(site.images("queued"))[0]).unlink()
    assert backup(at=NOW + 1).copied == 1
    assert verify(tmp_path / "backup", quiet).counts["images"] == 8


def test_an_earlier_list_that_was_altered_is_not_relied_on(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    first = backup().manifest
    (tmp_path / "backup" / first.folder / "files.jsonl").write_text("{}\n")
    assert backup(at=NOW + 1).copied == 10


def test_a_damaged_ledger_takes_no_good_backups_place(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    first = backup().manifest
    site.ledger.db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for page in pages_of(site.root / "ledger.sqlite", "instances"):
        overwrite(site.root / "ledger.sqlite", page)
    with pytest.raises(LedgerDamagedError, match=str(site.root)):
        backup(at=NOW + 1)
    assert verify(tmp_path / "backup", quiet) == first
    assert len([p for p in (tmp_path / "backup").iterdir() if p.name.startswith("20")]) == 1


def test_a_folder_of_other_things_is_not_taken(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(QcNodeError, match="holds something that is no backup"):
        backup(folder=tmp_path / "pictures")
    with pytest.raises(QcNodeError, match="must not lie in each other"):
        backup(folder=site.root / "images")
    with pytest.raises(QcNodeError, match="must not lie in each other"):
        backup(folder=site.root)


def test_two_backups_at_once_are_one_and_a_sentence(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    with (
        BackupFolder(tmp_path / "backup").making(),
        pytest.raises(QcNodeError, match="Another backup is being written"),
    ):
        backup()


def test_a_disk_that_takes_no_more_leaves_the_backup_before(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    first = backup().manifest
    site.spool.store(site.spool.report_name("1.77"), b"x" * 3_000_000)
    site.ledger.deliveries.post(
        [WrittenObject("1.77", "1", None, "1", 1, "sr", site.spool.report_name("1.77"), None)], (), 60.0
    )
    with file_size_limit(2_000_000), pytest.raises(QcNodeError) as told:
        backup(at=NOW + 1)
    assert f"could not be made (File too large); it still holds the one of {first.when}." in str(told.value)
    assert verify(tmp_path / "backup", quiet) == first
    assert backup(at=NOW + 2).copied == 1


def test_a_full_disk_is_one_sentence_and_no_half_backup(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    for image in range(2, 40):
        name = site.receive("receiving", 0, image)
        (site.root / name).write_bytes(os.urandom(50_000))
    with small_disk(tmp_path / "small", "1500k") as small:
        with pytest.raises(QcNodeError, match=r"could not be made \(no room is left\); it holds no backup\.$"):
            backup(folder=small)
        assert not (small / "manifest.json").exists() and not list(small.glob("20*"))
        with pytest.raises(QcNodeError, match="There is no backup"):
            verify(small, quiet)


# -- killed ----------------------------------------------------------------------------------------------
MAKING, FILLING = "qc_node.operations.backup:_Making", "qc_node.operations.restore:_Filling"
IN_BACKUP = {
    "the ledger is copied": f"{MAKING}._ledger:after:1",
    "some files are copied": f"{MAKING}._kept_or_copied:before:4",
    "the manifest is due": f"{MAKING}._manifest:after:1",
}


@pytest.mark.slow
@pytest.mark.parametrize("point", IN_BACKUP)
def test_a_backup_that_is_killed_leaves_none_or_the_one_before(
    point: str, site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    killed = command(tmp_path, "backup", str(tmp_path / "backup"), crash=IN_BACKUP[point])
    assert killed.returncode == -9, killed.stderr
    with pytest.raises(QcNodeError, match="There is no backup"):
        verify(tmp_path / "backup", quiet)
    first = backup().manifest
    site.add("receiving", 60, images=4)
    assert command(tmp_path, "backup", str(tmp_path / "backup"), crash=IN_BACKUP[point]).returncode == -9
    assert verify(tmp_path / "backup", quiet) == first
    done = command(tmp_path, "backup", str(tmp_path / "backup"))
    assert done.returncode == 0 and "12 images" in done.stdout, done.stderr
    assert verify(tmp_path / "backup", quiet).counts["images"] == 12
    assert not list((tmp_path / "backup" / "tmp").glob("*.part"))


@pytest.mark.slow
def test_the_commands_say_what_they_did_and_exit_with_what_it_was(site: Site, tmp_path: Path) -> None:
    done = command(tmp_path, "backup", str(tmp_path / "backup"))
    assert done.returncode == 0 and "the ledger with 6 series, 2 reports, 8 images; 10 files copied" in done.stdout
    assert "is on the disk of the data folder" in done.stderr
    checked = command(tmp_path, "restore", str(tmp_path / "backup"), "--check")
    assert checked.returncode == 0 and "is whole" in checked.stdout
    refused = command(tmp_path, "restore", str(tmp_path / "backup"))
    assert refused.returncode == 1 and refused.stderr.startswith("qc-node: The data folder")
    assert refused.stderr.count("\n") == 1
    assert command(tmp_path, "restore").returncode == 2
    shutil.rmtree(tmp_path / "backup")
    assert command(tmp_path, "restore", str(tmp_path / "backup")).returncode == 1


def test_the_lock_of_a_backup_goes_with_its_process(tmp_path: Path) -> None:
    with BackupFolder(tmp_path / "b").making(), (tmp_path / "b" / "lock").open() as file, pytest.raises(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with BackupFolder(tmp_path / "b").making():
        assert list((tmp_path / "b" / "tmp").iterdir()) == []
