"""A backup holds what a restore needs, is whole or is not there, and comes back whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qc_node.domain import Finding, ModelIdentity, QcNodeError, Question, Stage, Verdict
from qc_node.ledger import Ledger, LedgerDamagedError, Received, snapshot
from qc_node.ledger.deliveries import WrittenObject
from qc_node.ledger.snapshot import take
from qc_node.operations import restore as restoring
from qc_node.operations.backup import BackedUp, BackupWishes, back_up
from qc_node.operations.backup_folder import BackupFolder
from qc_node.operations.restore import Restored, verify
from qc_node.spool import RESTORING, Spool, lock_folder
from tests.end_to_end.node_process import CRASH_FOLDER, ROOT
from tests.ledger.damaged import overwrite, pages_of
from tests.operations.test_health import file_size_limit
from tests.peers.process import require

STATES = ("receiving", "queued", "failed", "skipped", "reported", "undelivered")
NOW = 2e9
"""A time after that of every file of the tests."""


def quiet(*_: object) -> None:
    """Show no progress."""


class Site:
    """A data folder with one series in each state, as a node leaves it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root)
        self.ledger = Ledger(root / "ledger.sqlite")
        for number, state in enumerate(STATES):
            self.add(state, number)
        (root / "web-secret").write_text("s" * 64)

    def add(self, state: str, number: int, images: int = 2) -> None:
        names = [self.receive(state, number, image) for image in range(images)]
        series_id = self.series_id(state, number)
        if state in ("receiving", "object"):
            return
        row = self.ledger.series.by_id(series_id)
        assert row is not None
        self.ledger.series.close(series_id, row["last_received"], "quiet_time", 50.0)
        if state in ("failed", "skipped"):
            self.ledger.series.claim(51.0, 100)
            self.ledger.series.finish(series_id, 1, state, 52.0, sentence="Because.")
        if state in ("reported", "undelivered"):
            self.ledger.series.claim(51.0, 100)
            self.judge(series_id, number, names[0])
            self.report(series_id, f"1.9.{number}", ("PACS",))
            if state == "reported":
                (delivery,) = [d for d in self.ledger.deliveries.unfinished() if d["series_id"] == series_id]
                self.ledger.deliveries.sent(delivery["id"], 54.0)

    def receive(self, state: str, number: int, image: int) -> str:
        study, series, uid = f"1.{number}", f"1.{number}.{state_number(state)}", f"1.{number}.5.{image}"
        name = self.spool.image_name(study, series, uid)
        self.spool.store(name, f"image {uid}".encode() * 50)
        self.ledger.instances.add(
            [Received(uid, "1.2.840.10008.5.1.4.1.1.4", series, study, "1.2", "MR", "MR1", name, 1, 10.0 + image)]
        )
        return name

    def series_id(self, state: str, number: int) -> int:
        row = self.ledger.series.get(f"1.{number}.{state_number(state)}")
        assert row is not None
        return row["series_id"]

    def judge(self, series_id: int, number: int, source: str) -> None:
        verdict = Verdict(
            Stage.CT, ModelIdentity("m", "1", "ab" * 32), (Finding(Question.CONTRAST_ENHANCED, True),)
        )
        training = self.spool.training_name(f"1.{number}", 1)
        picture = self.spool.thumbnail_name(f"1.{number}", 1, "axial")
        self.spool.store(training, b"input")
        self.spool.store(picture, b"picture")
        self.ledger.verdicts.add(
            series_id,
            1,
            verdict,
            claims={},
            warnings=(),
            timings={},
            source_path=source,
            at=52.0,
            report_after=52.0,
            training_path=training,
            thumbnails=[picture],
            routed=True,
        )
        self.ledger.series.finish(series_id, 1, "judged", 52.0, stage=Stage.CT)

    def report(self, series_id: int, uid: str, destinations: tuple[str, ...]) -> None:
        name = self.spool.report_name(uid)
        self.spool.store(name, b"report " + uid.encode())
        written = WrittenObject(uid, "1.2.840.10008.5.1.4.1.1.88.33", series_id, "1", 1, "sr", name, None)
        self.ledger.deliveries.post([written], destinations, 53.0, reported=(series_id, 1))

    def images(self, *states: str) -> set[str]:
        found = set()
        for number, state in enumerate(STATES):
            if state in states:
                found |= set(self.ledger.instances.paths_of_series(self.series_id(state, number)))
        return found


def state_number(state: str) -> int:
    return sum(state.encode())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.ledger.close()


@pytest.fixture
def backup(site: Site, tmp_path: Path) -> Callable[..., BackedUp]:
    def make(*, at: float = NOW, folder: Path = tmp_path / "backup", **wishes: bool) -> BackedUp:
        return back_up(site.root, folder, BackupWishes(**wishes), at, quiet)

    return make


def restore(folder: Path, into: Path, replace_ledger: bool = False) -> Restored:
    return restoring.restore(folder, into, replace_ledger, NOW, quiet)


def files(root: Path, *tops: str) -> set[str]:
    return {str(p.relative_to(root)) for top in tops for p in (root / top).rglob("*") if p.is_file()}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


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
    assert data["format"] == 1 and data["schema"] == 4 and data["qc_node"] and data["created"].endswith(" UTC")
    assert data["counts"] == {
        "images": 8, "reports": 2, "training": 0, "thumbnails": 0, "absent": 0, "instances": 12, "series": 6
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
    site.ledger.db.conn.execute("PRAGMA user_version = 3")
    manifest = backup().manifest
    assert (manifest.schema, manifest.images) == (3, "all")
    assert files(tmp_path / "backup", "images", "training") == files(site.root, "images", "training")


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
        while written[0] < at + 2:
            pass
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


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    (mount, umount) = require("mount", "umount")
    folder.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("this sandbox does not let tests mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run([umount, "-l", folder], check=False)


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


# -- killed ----------------------------------------------------------------------------------------------
def command(tmp_path: Path, *words: str, crash: str | None = None) -> subprocess.CompletedProcess[str]:
    """``qc-node`` in a process of its own, killed at a point of `crash/`."""
    config = tmp_path / "qc-node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n')
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (CRASH_FOLDER, ROOT)))}
    if crash is not None:
        env |= {
            "QC_TEST_CRASH": crash,
            "QC_TEST_CRASH_FLAG": str(tmp_path / f"crashed-{len(list(tmp_path.iterdir()))}"),
        }
    words = ("-m", "qc_node", *words, "--config", str(config))
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=60, start_new_session=True
    )


MAKING, FILLING = "qc_node.operations.backup:_Making", "qc_node.operations.restore:_Filling"
IN_BACKUP = {
    "the ledger is copied": f"{MAKING}._ledger:after:1",
    "some files are copied": f"{MAKING}._kept_or_copied:before:4",
    "the manifest is due": f"{MAKING}._manifest:after:1",
}
IN_RESTORE = {
    "it is marked": f"{FILLING}._mark:after:1",
    "some files are there": f"{FILLING}._put:before:4",
    "the ledger is due": f"{FILLING}._put_ledger:before:1",
    "the ledger is there": f"{FILLING}._put_ledger:after:1",
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
