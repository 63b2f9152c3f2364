"""Sending a user's files: as they are, and what fails never stops the others."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from qc_node.dicom.association import MAX_CONTEXTS
from qc_node.dicom.part10 import open_object
from qc_node.domain import QcNodeError
from qc_node.outbox.files import send_files
from qc_node.outbox.transport.dimse import DimseTransport
from tests.dicom.scps import report_file, scripted_scp
from tests.peers.fixtures import PeerAt
from tests.peers.process import find_free_port

ToPort = Callable[[int], DimseTransport]


@pytest.fixture
def to(peer_at: PeerAt) -> ToPort:
    return lambda port: DimseTransport(peer_at(port), re_encode=False)


def test_any_object_arrives_with_its_data_set_byte_for_byte(to: ToPort, tmp_path: Path) -> None:
    names = ["MR_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"]
    for name in names:
        (tmp_path / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    arrived = {}

    def keep(event: Any) -> int:
        which = (event.request.AffectedSOPInstanceUID, event.context.transfer_syntax)
        arrived[which] = event.request.DataSet.getvalue()
        return 0

    progress = []
    with scripted_scp(keep) as port:
        result = send_files([tmp_path], to(port), lambda done, of: progress.append((done, of)))
    assert (result.sent, result.failed) == (5, ())
    assert progress[-1] == (5, 5)
    for name in names:
        obj = open_object(tmp_path / name)
        data = arrived[obj.sop_instance_uid, obj.transfer_syntax_uid]
        assert len(data) > 1000 and obj.path.read_bytes().endswith(data)


def test_files_without_meta_information_are_completed_and_sent_as_they_are(to: ToPort, tmp_path: Path) -> None:
    whole = Path(str(get_testdata_file("MR_small_implicit.dcm"))).read_bytes()
    start = whole.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in whole else whole.index(b"\x08\x00\x08\x00")
    bare = tmp_path / "bare"
    bare.write_bytes(whole[start:])
    arrived: list[bytes] = []

    def keep(event: Any) -> int:
        arrived.append(event.request.DataSet.getvalue())
        return 0

    with scripted_scp(keep) as port:
        assert send_files([bare], to(port)).ok
    assert arrived == [whole[start:]]


def test_what_is_no_dicom_is_named_and_the_rest_is_sent(to: ToPort, tmp_path: Path) -> None:
    good = report_file(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "zipped.dcm").write_bytes(zlib.compress(b"x" * 5000))
    with scripted_scp() as port:
        result = send_files([tmp_path], to(port))
    assert result.sent == 1
    assert {p.name for p, _ in result.failed} == {"notes.txt", "empty.dcm", "zipped.dcm"}
    assert all(str(p) in sentence for p, sentence in result.failed)
    assert good not in [p for p, _ in result.failed]


def test_class_that_the_peer_does_not_take_is_named(to: ToPort, tmp_path: Path) -> None:
    mr = [build_context(MRImageStorage)]
    (tmp_path / "mr.dcm").write_bytes(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
    report_file(tmp_path)
    with scripted_scp(contexts=mr) as port:
        result = send_files([tmp_path], to(port))
    assert result.sent == 1
    ((_, sentence),) = result.failed
    assert "does not take Comprehensive SR Storage in Explicit VR Little Endian" in sentence


def test_peer_that_takes_nothing_of_it_is_said_for_each_file(to: ToPort, tmp_path: Path) -> None:
    files = [report_file(tmp_path, number) for number in range(2)]
    with scripted_scp(contexts=[build_context(MRImageStorage)]) as port:
        result = send_files([tmp_path], to(port))
    assert [p for p, _ in result.failed] == files
    assert all("does not take Comprehensive SR Storage" in sentence for _, sentence in result.failed)


def test_more_than_128_contexts_take_more_associations(to: ToPort, tmp_path: Path) -> None:
    for number in range(MAX_CONTEXTS + 7):
        meta = FileMetaDataset()
        ds = Dataset()
        ds.SOPClassUID = meta.MediaStorageSOPClassUID = UID(f"1.2.826.0.1.3680043.10.999.5.{number}")
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.3680043.10.999.6.{number}")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta = meta
        ds.save_as(tmp_path / f"{number:03}.dcm", enforce_file_format=True)
    associations = []
    ae = AE("PACS")
    for number in range(MAX_CONTEXTS + 7):
        ae.add_supported_context(f"1.2.826.0.1.3680043.10.999.5.{number}", ExplicitVRLittleEndian)
    port = find_free_port()
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda e: 0), (evt.EVT_ACCEPTED, lambda e: associations.append(e.assoc))],
    )
    assert server is not None
    try:
        from pynetdicom import _config

        _config.UNRESTRICTED_STORAGE_SERVICE = True
        result = send_files([tmp_path], to(port))
    finally:
        _config.UNRESTRICTED_STORAGE_SERVICE = False
        server.shutdown()
    assert (result.sent, len(associations)) == (MAX_CONTEXTS + 7, 2)


def test_missing_paths_and_empty_folders_are_named(to: ToPort, tmp_path: Path) -> None:
    for paths, sentence in (([tmp_path / "nowhere"], "no file or folder"), ([tmp_path], "no file to send")):
        with pytest.raises(QcNodeError, match=sentence):
            send_files(paths, to(1))


def test_one_poisonous_object_costs_one_association_and_not_the_rest(to: ToPort, tmp_path: Path) -> None:
    for number in range(4):
        report_file(tmp_path, number)
    poison = open_object(tmp_path / "report-1.dcm").sop_instance_uid

    def store(event: Any) -> int:
        if event.request.AffectedSOPInstanceUID == poison:
            event.assoc.abort()
        return 0

    with scripted_scp(store) as port:
        result = send_files([tmp_path], to(port))
    assert result.sent == 3
    assert [p.name for p, _ in result.failed] == ["report-1.dcm"]


def test_peer_that_is_gone_ends_the_sending_with_a_sentence(to: ToPort, tmp_path: Path) -> None:
    report_file(tmp_path)
    with pytest.raises(QcNodeError, match="cannot be reached"):
        send_files([tmp_path], to(find_free_port()))


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_warning_statuses_mean_stored(to: ToPort, tmp_path: Path, status: int) -> None:
    with scripted_scp(lambda event: status) as port:
        result = send_files([report_file(tmp_path)], to(port))
    assert (result.sent, result.warned, result.failed) == (1, 1, ())
