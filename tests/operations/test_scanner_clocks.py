"""The clock of a scanner, as far as its images tell: ahead is certain, behind is a bound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.ledger import Ledger, Received
from qc_node.operations.diagnosis import Level
from qc_node.operations.scanner_clocks import PER_SENDER, Lag, findings, lags, made_at
from qc_node.spool import Spool

RECEIVED = 1_800_000_000.0
"""2027-01-15 08:00:00 UTC."""


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def image(path: Path, **tags: str) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    for name, value in tags.items():
        setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("tags", "made"),
    [
        ({"InstanceCreationDate": "20270115", "InstanceCreationTime": "085950"}, RECEIVED - 10),
        ({"InstanceCreationDate": "20270115", "InstanceCreationTime": "085950.75"}, RECEIVED - 10),
        ({"ContentDate": "20270115", "ContentTime": "0859"}, RECEIVED - 60),
        (
            {
                "InstanceCreationDate": "20270115",
                "InstanceCreationTime": "085950",
                "ContentDate": "20270115",
                "ContentTime": "080000",
            },
            RECEIVED - 10,
        ),
        (
            {"ContentDate": "20270115", "ContentTime": "030000", "TimezoneOffsetFromUTC": "-0500"},
            RECEIVED,
        ),
        (
            {"ContentDate": "20270115", "ContentTime": "133000", "TimezoneOffsetFromUTC": "+0530"},
            RECEIVED,
        ),
        ({"ContentDate": "20270115"}, None),
        ({}, None),
    ],
)
def test_when_an_image_was_made(tags: dict[str, str], made: float | None, tmp_path: Path) -> None:
    assert made_at(image(tmp_path / "i.dcm", **tags)) == made


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert made_at(tmp_path / "gone.dcm") is None
    (tmp_path / "none.dcm").write_bytes(b"no DICOM")
    assert made_at(tmp_path / "none.dcm") is None
    path = image(tmp_path / "odd.dcm", ContentDate="20270115", ContentTime="120000")
    path.write_bytes(path.read_bytes().replace(b"20270115", b"2027-1-5"))
    assert made_at(path) is None


def test_an_image_that_came_before_it_was_made_shows_a_clock_that_is_ahead() -> None:
    (found,) = findings([Lag("MR1", 40.0), Lag("MR1", -3590.0), Lag("MR1", 7200.0)])
    assert found.level is Level.WARNING
    assert "The clock of MR1 is ahead of ours" in found.sentence and "60 min after it came" in found.sentence


def test_an_image_that_came_late_is_a_bound_and_no_fault() -> None:
    first, second = findings([Lag("MR1", 4000.0), Lag("CT1", -20.0), Lag("MR1", 12.0)])
    assert first.level is second.level is Level.OK
    assert "CT1 is not ahead of ours, and behind by 0 ms at most" in first.sentence
    assert (
        "MR1 is not ahead of ours, and behind by 12 s at most" in second.sentence and "2 images" in second.sentence
    )


def test_the_newest_series_of_each_sender_are_looked_at(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        for number in range(PER_SENDER + 5):
            for sender in ("MR1", "CT1"):
                name = f"images/{sender}/{number}.dcm"
                made = datetime.fromtimestamp(RECEIVED + number - (30 if sender == "CT1" else -90))
                image(tmp_path / name, ContentDate=f"{made:%Y%m%d}", ContentTime=f"{made:%H%M%S}")
                uid = f"1.{len(sender)}.{ord(sender[0])}.{number}"
                ledger.instances.add(
                    [Received(uid, "1", uid, f"{uid}.1", "1", "MR", sender, name, 1, RECEIVED + number)]
                )
        (tmp_path / f"images/CT1/{PER_SENDER + 4}.dcm").unlink()  # retention was there
        found = list(lags(ledger, spool.root))
    assert {lag.calling_ae: lag.seconds for lag in found} == {"MR1": -90.0, "CT1": 30.0}
    assert len(found) == 2 * PER_SENDER
    warning, fine = sorted(findings(found), key=lambda d: d.level is Level.OK)
    assert "MR1 is ahead" in warning.sentence and "CT1 is not ahead" in fine.sentence
