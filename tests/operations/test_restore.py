"""A backup comes back whole or not at all, and only where nothing is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.operations.backup import BackedUp
from qc_node.spool import RESTORING, Spool, lock_folder
from tests.operations.site import Site, command, contents, files, restore, small_disk


# -- putting it back -------------------------------------------------------------------------------------
def test_what_was_backed_up_comes_back_byte_for_byte(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup(all_images=True, training=True)
    done = restore(tmp_path / "backup", tmp_path / "new")
    tops = ("images", "reports", "training", "thumbnails")
    assert files(tmp_path / "new", *tops) == files(site.root, *tops)
    old, new = contents(site.root), contents(tmp_path / "new")
    assert all(new[name] == old[name] for name in [*files(site.root, *tops), "web-secret"])
    assert done.set_aside is None and not (tmp_path / "new" / RESTORING).exists()
    with closing(Ledger(tmp_path / "new" / "ledger.sqlite")) as ledger:
        sql = "SELECT * FROM instances"
        assert ledger.db.rows(sql) == site.ledger.db.rows(sql)
        assert ledger.deliveries.counts() == {"pending": 1, "sent": 1}
    assert Spool(tmp_path / "new").tighten() == 0, "the rights are those that a node gives"


def test_an_altered_or_missing_file_is_found_before_anything_is_written(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    name = tmp_path / "backup" / sorted(files(tmp_path / "backup", "images"))[-1]
    sound = name.read_bytes()
    name.write_bytes(sound[:-1] + b"?")
    with pytest.raises(QcNodeError, match=f"is damaged: {name} is not what was backed up"):
        restore(tmp_path / "backup", tmp_path / "new")
    name.unlink()
    with pytest.raises(QcNodeError, match=f"is not whole: {name} cannot be read"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["images/../../evil", "../evil", "/etc/evil", "images//x", "quarantine/x"])
def test_a_backup_from_elsewhere_writes_nowhere_else(
    name: str, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    path = tmp_path / "backup" / "manifest.json"
    data = json.loads(path.read_text())
    listed = tmp_path / "backup" / data["folder"] / "files.jsonl"
    line = json.dumps({"name": name, "bytes": 0, "sha256": hashlib.sha256().hexdigest()}) + "\n"
    listed.write_text(line)
    data["list"] |= {"bytes": len(line), "sha256": hashlib.sha256(line.encode()).hexdigest()}
    path.write_text(json.dumps(data))
    with pytest.raises(QcNodeError, match=r"none of ours|leads elsewhere"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_data_folder_in_use_is_left_alone(site: Site, backup: Callable[..., BackedUp], tmp_path: Path) -> None:
    backup()
    before = contents(site.root)
    with pytest.raises(QcNodeError, match=r"is not empty \(images\).*--into.*--replace-ledger"):
        restore(tmp_path / "backup", site.root)
    fd = lock_folder(site.root)
    try:
        with pytest.raises(QcNodeError, match="in use by another qc-node"):
            restore(tmp_path / "backup", site.root, replace_ledger=True)
    finally:
        os.close(fd)
    after = contents(site.root)
    after.pop("lock")
    assert after == before


def test_an_empty_data_folder_is_taken_as_a_service_manager_makes_it(
    backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    (tmp_path / "new" / "tmp").mkdir(parents=True)
    assert restore(tmp_path / "backup", tmp_path / "new").copied == 11


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_puts_back_belongs_to_the_service(backup: Callable[..., BackedUp], tmp_path: Path) -> None:
    backup()
    (tmp_path / "new").mkdir()
    os.chown(tmp_path / "new", 12345, 12345)
    restore(tmp_path / "backup", tmp_path / "new")
    assert {(p.stat().st_uid, p.stat().st_gid) for p in (tmp_path / "new").rglob("*")} == {(12345, 12345)}


def test_a_damaged_ledger_is_set_aside_and_the_files_stay(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    site.add("receiving", 50)  # came after the backup
    site.ledger.close()
    (site.root / "ledger.sqlite").write_bytes(b"no database" * 1000)
    (site.root / "ledger.sqlite-wal").write_bytes(b"its log")
    before = files(site.root, "images", "training")
    done = restore(tmp_path / "backup", site.root, replace_ledger=True)
    assert done.set_aside is not None and done.set_aside.read_bytes().startswith(b"no database")
    assert Path(f"{done.set_aside}-wal").read_bytes() == b"its log"
    assert not (site.root / "ledger.sqlite-wal").exists(), "never a log beside another ledger"
    assert files(site.root, "images", "training") == before
    with closing(Ledger(site.root / "ledger.sqlite")) as ledger:
        assert ledger.series.counts()["receiving"] == 1


def test_a_disk_without_room_is_found_before_anything_is_written(
    site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    with small_disk(tmp_path / "small", "300k") as small:
        with pytest.raises(QcNodeError, match=r"The backup needs .* GB are free"):
            restore(tmp_path / "backup", small / "data")
        assert list(small.iterdir()) == []


def test_there_is_no_backup_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(QcNodeError, match="There is no backup in"):
        restore(tmp_path, tmp_path / "new")


# -- killed
MAKING, FILLING = "qc_node.operations.backup:_Making", "qc_node.operations.restore:_Filling"
IN_RESTORE = {
    "it is marked": f"{FILLING}._mark:after:1",
    "some files are there": f"{FILLING}._put:before:4",
    "the ledger is due": f"{FILLING}._put_ledger:before:1",
    "the ledger is there": f"{FILLING}._put_ledger:after:1",
}


@pytest.mark.slow
@pytest.mark.parametrize("point", IN_RESTORE)
def test_a_restore_that_is_killed_starts_no_node_and_goes_on_when_run_again(
    point: str, site: Site, backup: Callable[..., BackedUp], tmp_path: Path
) -> None:
    backup()
    into = ("--into", str(tmp_path / "new"))
    killed = command(tmp_path, "restore", str(tmp_path / "backup"), *into, crash=IN_RESTORE[point])
    assert killed.returncode == -9, killed.stderr
    with pytest.raises(QcNodeError, match="holds a restore that was not finished; run `qc-node restore`"):
        Spool(tmp_path / "new")
    again = command(tmp_path, "restore", str(tmp_path / "backup"), *into)
    assert again.returncode == 0 and "is as it was at 2033" in again.stdout, again.stderr
    assert files(tmp_path / "new", "images", "reports") == files(tmp_path / "backup", "images", "reports")
    with closing(Ledger(tmp_path / "new" / "ledger.sqlite")) as ledger:
        assert len(ledger.db.rows("SELECT * FROM instances")) == 12
    assert not list((tmp_path / "new" / "tmp").iterdir())
