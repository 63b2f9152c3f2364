"""Every object of the shared collection: broken, odd, compressed, private.  Stored or refused with a reason."""

from __future__ import annotations

import csv
import logging
import resource
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.filereader import read_partial
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import VERIFICATION, WirePeer, encode, image

pytestmark = [pytest.mark.data, pytest.mark.xdist_group("interoperability-objects")]


@pytest.fixture(scope="module")
def objects(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    folder = tmp_path_factory.mktemp("interoperability")
    with tarfile.open(shared_data / "dicom" / "interoperability.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with (shared_data / "dicom" / "interoperability.csv").open() as table:
        yield [folder / row["file"] for row in csv.DictReader(table)]


def as_sent(path: Path) -> tuple[str, str, str, bytes]:
    """SOP class, SOP instance, transfer syntax and data set bytes of a file, as a sender would take them.

    Like DCMTK's storescu it names the object by its data set, and where that says nothing by the file's meta
    information.
    """
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        meta, start = pydicom.Dataset(), 0
    else:
        with path.open("rb") as file:
            meta = read_partial(file, stop_when=lambda *_: True, force=True).file_meta
            start = (
                144 + meta.FileMetaInformationGroupLength
                if "FileMetaInformationGroupLength" in meta
                else file.tell()
            )
    named = {}
    try:
        ds = pydicom.dcmread(
            path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"]
        )
        named = {k: str(ds[k].value) for k in ("SOPClassUID", "SOPInstanceUID") if ds.get(k)}
    except Exception:
        pass
    return (
        named.get("SOPClassUID") or str(meta.get("MediaStorageSOPClassUID") or MRImageStorage),
        named.get("SOPInstanceUID") or str(meta.get("MediaStorageSOPInstanceUID") or "1.2.3"),
        str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian),
        raw[start:],
    )


def test_every_object_is_stored_or_refused_with_a_reason(
    start_receiver: StartReceiver, objects: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = start_receiver()
    caplog.set_level(logging.INFO)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers: dict[str, int] = {}
    largest = 0
    for path in objects:
        sop_class, sop_instance, syntax, data = as_sent(path)
        largest = max(largest, len(data))
        with WirePeer(receiver.port) as peer:
            results = peer.associate((sop_class, [syntax]), calling="INTEROP")
            assert results[1] == (0, syntax), f"{path.name}: context refused"
            answers[path.name] = peer.store(sop_class, sop_instance, data)
            peer.release()
    stored = [name for name, status in answers.items() if status == 0]
    refused = {name: status for name, status in answers.items() if status}
    assert len(stored) + len(refused) == len(objects) >= 189
    assert len(stored) > 0.8 * len(objects), refused
    assert all(0xC000 <= s <= 0xCFFF or 0xA900 <= s <= 0xA9FF for s in refused.values()), refused

    rows = [row for row in receiver.stored() if row["superseded_at"] is None]  # some share a UID
    assert len(rows) == len({as_sent(p)[1] for p in objects if answers[p.name] == 0})
    for row in rows:
        meta = pydicom.dcmread(receiver.path(row), stop_before_pixels=True).file_meta
        assert meta.TransferSyntaxUID == row["transfer_syntax_uid"]
    reasons = receiver.ledger.instances.quarantined()
    assert len(reasons) == len(refused)
    assert all(r["reason"].endswith(".") and receiver.spool.path(r["path"]).exists() for r in reasons)
    assert not receiver.half_written()

    assert not [r for r in caplog.records if r.exc_info], "a traceback"
    with WirePeer(receiver.port) as peer:
        peer.associate((VERIFICATION, [ImplicitVRLittleEndian]))
        assert peer.echo() == 0
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < 64 << 20, f"memory grew by {grown >> 20} MiB for objects of at most {largest >> 20} MiB"


def test_the_bytes_on_the_disk_are_those_of_the_sender(start_receiver: StartReceiver, objects: list[Path]) -> None:
    receiver = start_receiver()
    for path in objects[::20]:
        sop_class, sop_instance, syntax, data = as_sent(path)
        with WirePeer(receiver.port) as peer:
            peer.associate((sop_class, [syntax]))
            peer.store(sop_class, sop_instance, data)
    for row in receiver.stored():
        kept = receiver.path(row).read_bytes()
        assert any(kept.endswith(as_sent(p)[3]) for p in objects[::20])
        assert UID(row["transfer_syntax_uid"]).is_valid


def test_a_good_object_comes_through_afterwards(start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    ds = image()
    with WirePeer(receiver.port) as peer:
        peer.associate((MRImageStorage, [ExplicitVRLittleEndian]))
        assert peer.store(ds.SOPClassUID, ds.SOPInstanceUID, encode(ds)) == 0
    assert [row["sop_instance_uid"] for row in receiver.stored()] == [ds.SOPInstanceUID]
