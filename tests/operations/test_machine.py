"""What the doctor says of clock, time zone, file system, flushes and encryption, with what it measured."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qc_node.filesystems import file_system_of
from qc_node.operations import machine
from qc_node.operations.diagnosis import Diagnosis, Level
from qc_node.operations.machine import (
    Sync,
    clock,
    encryption,
    file_systems,
    flush_times,
    flushes,
    kernel_sync,
    time_zone,
)

NOON = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC."""
KEPT = Sync(True, 0.004)


def only(found: Iterator[Diagnosis]) -> Diagnosis:
    (diagnosis,) = found
    return diagnosis


@pytest.mark.parametrize("now", [0.0, 946_684_800.0, 1_700_000_000.0, 4_200_000_000.0])
def test_a_clock_that_cannot_be_is_a_fault(now: float) -> None:
    found = only(clock(now, None, KEPT))
    assert found.level is Level.FAULT and "which cannot be" in found.sentence


def test_a_clock_that_is_kept_says_how_far_it_may_be_off() -> None:
    found = only(clock(NOON, NOON - 5, KEPT))
    assert found == (Level.OK, "The clock says 2027-01-15 08:00:00 UTC and is kept by NTP (at most 4 ms off).")


def test_a_clock_that_nobody_keeps_is_a_warning_and_one_that_is_not_known_a_question() -> None:
    assert only(clock(NOON, None, Sync(False, 16.0))).level is Level.WARNING
    assert only(clock(NOON, None, None)).level is Level.QUESTION


def test_a_clock_that_was_set_back_shows_in_the_ledger() -> None:
    found = only(clock(NOON, NOON + 3600, KEPT))
    assert found.level is Level.WARNING and "an image that came 60 min later" in found.sentence
    assert only(clock(NOON, NOON + 30, KEPT)).level is Level.OK


def test_the_kernel_is_asked_and_nothing_is_changed() -> None:
    before = time.time()
    told = kernel_sync()
    assert told is None or told.max_error_s >= 0
    assert abs(time.time() - before) < 60


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("Europe/Berlin", Level.OK, "09:00 (CET, UTC+01:00)"),
        ("America/New_York", Level.OK, "03:00 (EST, UTC-05:00)"),
        ("UTC", Level.QUESTION, "08:00 (UTC, UTC+00:00)"),
    ],
)
def test_the_time_zone_is_named_and_utc_is_asked_about(
    name: str, level: Level, words: str, zone: pytest.MonkeyPatch
) -> None:
    zone.setenv("TZ", name)
    time.tzset()
    found = time_zone(NOON)
    assert found.level is level and words in found.sentence


# -- disk ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [
        ("nfs4", Level.FAULT, "network file system (nfs4)"),
        ("tmpfs", Level.WARNING, "in memory (tmpfs)"),
        ("overlay", Level.WARNING, "inside a container (overlay)"),
    ],
)
def test_what_a_file_system_means_is_said(
    kind: str, level: Level, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "file_system_of", lambda folder: (kind, "source"))
    found = only(file_systems(tmp_path, tmp_path))
    assert found.level is level and words in found.sentence and str(tmp_path) in found.sentence


def test_a_folder_in_memory_is_found_out() -> None:
    shm = Path("/dev/shm")
    if file_system_of(shm)[0] != "tmpfs":
        pytest.skip("this machine has no tmpfs at /dev/shm")
    assert "in memory (tmpfs)" in only(file_systems(shm, shm)).sentence


def test_a_ledger_on_another_file_system_is_a_warning(tmp_path: Path) -> None:
    other = Path("/proc/version")
    (tmp_path / "ledger.sqlite").symlink_to(other)
    found = [d for d in file_systems(tmp_path, tmp_path) if "on another file system" in d.sentence]
    assert [d.level for d in found] == [Level.WARNING]


@pytest.mark.parametrize(
    ("each_s", "level", "words"),
    [
        (4e-6, Level.WARNING, "takes 4 µs (median of 15), which no disk can do"),
        (0.004, Level.OK, "takes 4.00 ms (median of 15)."),
        (0.1, Level.WARNING, "no more than 10 images a second"),
    ],
)
def test_what_a_flush_costs_is_said_and_one_that_costs_nothing_doubted(
    each_s: float, level: Level, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "file_system_of", lambda folder: ("ext4", "/dev/sda1"))
    ticks = itertools.count()
    taken = flush_times(tmp_path, clock=lambda: next(ticks) * each_s, sync=lambda fd: None)
    found = flushes(tmp_path, taken)
    assert found.level is level and words in found.sentence


def test_the_real_flush_is_of_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    synced: list[int] = []

    def sync(fd: int) -> None:
        os.fdatasync(fd)
        synced.append(os.fstat(fd).st_size)

    assert len(flush_times(tmp_path, sync=sync)) == 15
    assert synced == [4096 * n for n in range(1, 16)], "new pages each time: an unchanged file needs no flush"
    assert list(tmp_path.iterdir()) == []


# -- encryption ------------------------------------------------------------------------------------------
def block_device(sys: Path, name: str, uuid: str | None = None, slaves: tuple[Path, ...] = ()) -> Path:
    """A folder as the kernel shows a block device."""
    folder = sys / "dev" / "block" / name
    (folder / "slaves").mkdir(parents=True)
    if uuid is not None:
        (folder / "dm").mkdir()
        (folder / "dm" / "uuid").write_text(uuid + "\n")
        (folder / "dm" / "name").write_text(f"volume-{name}\n")
    for slave in slaves:
        (folder / "slaves" / slave.name).symlink_to(slave)
    return folder


def test_an_encrypted_volume_is_found_through_lvm(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    disk = block_device(tmp_path, "8:1")
    crypt = block_device(tmp_path, "253:0", "CRYPT-LUKS2-0123456789-luks", (disk,))
    block_device(tmp_path, f"{os.major(device)}:{os.minor(device)}", "LVM-abcdef", (crypt,))
    found = encryption(tmp_path, sys=tmp_path)
    assert found.level is Level.OK and "dm-crypt volume volume-253:0" in found.sentence


def test_a_plain_disk_is_a_question_with_a_recipe(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    block_device(tmp_path, f"{os.major(device)}:{os.minor(device)}", "LVM-abcdef")
    for sys in (tmp_path, tmp_path / "nowhere", Path("/sys")):
        found = encryption(tmp_path, sys=sys)
        assert (found.level is Level.QUESTION and "Encryption at rest" in found.sentence) or sys == Path("/sys")
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    assert "## Encryption at rest" in page
