"""Calling other application entities: what they refuse is said in one sentence, and no wait is without end."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.presentation import AllStoragePresentationContexts, build_context

from qc_node.dicom.association import MAX_CONTEXTS, PeerError, Timeouts, Trouble, call, echo, send
from qc_node.dicom.file_meta import open_object
from qc_node.domain import QcNodeError
from tests.peers.process import find_free_port
from tests.report.sources import as_bytes, report

SHORT = Timeouts(1.0, 1.0, 1.0, 1.0)


@contextmanager
def scripted_scp(store=lambda event: 0x0000, *, contexts=AllStoragePresentationContexts, **options):
    """A pynetdicom SCP whose C-STORE answers come from `store`."""
    ae = AE("PACS")
    for context in contexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context("1.2.840.10008.1.1")
    for name, value in options.items():
        setattr(ae, name, value)
    port = find_free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield port
    finally:
        server.shutdown()


@contextmanager
def raw_tcp(behave):
    """A TCP server that treats every connection with `behave(socket)`."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            kept = []
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                kept.append(connection)
                behave(connection)
            for connection in kept:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()


def trickle(connection: socket.socket) -> None:
    """An endless answer, a byte at a time: every timeout that starts anew with each byte is deceived."""
    with suppress(OSError):
        connection.sendall(b"\x02\x00\x00\x00\x10\x00")
        for _ in range(600):
            connection.sendall(b"x")
            time.sleep(0.1)


def report_file(tmp_path: Path, number: int = 0) -> Path:
    path = tmp_path / f"report-{number}.dcm"
    path.write_bytes(as_bytes(report(rules_digest=str(number))))
    return path


# -- C-ECHO ------------------------------------------------------------------------------------------
def test_echo_answers_with_the_time_it_took(peer_at):
    with scripted_scp() as port:
        assert 0 < echo(peer_at(port)) < 60


@pytest.mark.peer
def test_echo_to_orthanc(peer_at, orthanc):
    assert echo(peer_at(orthanc.port, "ORTHANC")) > 0


def test_nobody_there(peer_at):
    port = find_free_port()
    with pytest.raises(PeerError, match=rf"PACS \(PACS at 127.0.0.1:{port}\) cannot be reached: .*refused") as e:
        echo(peer_at(port))
    assert e.value.trouble is Trouble.UNREACHABLE


def test_name_that_does_not_resolve(peer_at):
    from dataclasses import replace

    with pytest.raises(PeerError, match="cannot be reached") as e:
        echo(replace(peer_at(104), host="no-such-host.invalid"))
    assert e.value.trouble is Trouble.UNREACHABLE


def test_wrong_ae_title_is_said_with_the_reason_of_the_peer(peer_at):
    with (
        scripted_scp(require_called_aet=True) as port,
        pytest.raises(PeerError, match="refused the association") as e,
    ):
        echo(peer_at(port, "WRONG"))
    assert e.value.trouble is Trouble.REJECTED
    assert "AE title not recognised" in str(e.value)


@pytest.mark.parametrize(
    "behave",
    [
        lambda s: None,
        lambda s: s.sendall(b"\x02\x00\x00\x00\x00\xff"),
        lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda s: s.close(),
        lambda s: threading.Thread(target=trickle, args=(s,)).start(),
    ],
    ids=["silent", "stalls in the middle of a PDU", "speaks something else", "hangs up", "trickles"],
)
def test_peer_that_makes_no_association_is_left_within_bounded_time(peer_at, behave):
    with raw_tcp(behave) as port:
        start = time.monotonic()
        with pytest.raises(PeerError) as e:
            echo(peer_at(port, timeouts=SHORT))
        assert time.monotonic() - start < 30
    assert e.value.trouble in (Trouble.SILENT, Trouble.ABORTED, Trouble.UNREACHABLE)
    assert str(e.value).startswith("Peer PACS (PACS at 127.0.0.1:")


# -- C-STORE -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (0xA700, Trouble.BUSY),
        (0xA710, Trouble.BUSY),
        (0xA900, Trouble.REFUSED),
        (0xC000, Trouble.REFUSED),
        (0x0122, Trouble.REFUSED),
        (0x0124, Trouble.REFUSED),
    ],
)
def test_failure_statuses_say_whether_the_peer_or_the_object_is_at_fault(peer_at, tmp_path, status, trouble):
    def refuse(event):
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = "not today"
        return answer

    obj = open_object(report_file(tmp_path))
    contexts = [(obj.sop_class_uid, obj.transfer_syntax_uid)]
    with (
        scripted_scp(refuse) as port,
        pytest.raises(PeerError, match=rf"0x{status:04X} \(not today\)") as e,
        call(peer_at(port), contexts) as line,
    ):
        line.store(obj)
    assert e.value.trouble is trouble
    assert e.value.concerns_the_object == (trouble is Trouble.REFUSED)


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_warning_statuses_mean_stored(peer_at, tmp_path, status):
    with scripted_scp(lambda event: status) as port:
        result = send([report_file(tmp_path)], peer_at(port))
    assert (result.sent, result.warned, result.failed) == (1, 1, ())


def test_peer_that_answers_too_late_is_left(peer_at, tmp_path):
    held = threading.Event()
    obj = open_object(report_file(tmp_path))
    with scripted_scp(lambda event: (held.wait(10) and 0) or 0) as port:
        with (
            pytest.raises(PeerError) as e,
            call(peer_at(port, timeouts=SHORT), [(obj.sop_class_uid, obj.transfer_syntax_uid)]) as line,
        ):
            line.store(obj)
        held.set()
    assert e.value.trouble in (Trouble.SILENT, Trouble.ABORTED)


# -- sending a user's files --------------------------------------------------------------------------
def test_any_object_arrives_with_its_data_set_byte_for_byte(peer_at, tmp_path):
    names = ["MR_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"]
    for name in names:
        (tmp_path / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    arrived = {}

    def keep(event):
        which = (event.request.AffectedSOPInstanceUID, event.context.transfer_syntax)
        arrived[which] = event.request.DataSet.getvalue()
        return 0

    progress = []
    with scripted_scp(keep) as port:
        result = send([tmp_path], peer_at(port), lambda done, of: progress.append((done, of)))
    assert (result.sent, result.failed) == (5, ())
    assert progress[-1] == (5, 5)
    for name in names:
        obj = open_object(tmp_path / name)
        data = arrived[obj.sop_instance_uid, obj.transfer_syntax_uid]
        assert len(data) > 1000 and obj.path.read_bytes().endswith(data)


def test_files_without_meta_information_are_completed_and_sent_as_they_are(peer_at, tmp_path):
    whole = Path(str(get_testdata_file("MR_small_implicit.dcm"))).read_bytes()
    start = whole.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in whole else whole.index(b"\x08\x00\x08\x00")
    bare = tmp_path / "bare"
    bare.write_bytes(whole[start:])
    arrived = []
    with scripted_scp(lambda e: arrived.append(e.request.DataSet.getvalue()) or 0) as port:
        assert send([bare], peer_at(port)).ok
    assert arrived == [whole[start:]]


def test_what_is_no_dicom_is_named_and_the_rest_is_sent(peer_at, tmp_path):
    good = report_file(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "zipped.dcm").write_bytes(zlib.compress(b"x" * 5000))
    with scripted_scp() as port:
        result = send([tmp_path], peer_at(port))
    assert result.sent == 1
    assert {p.name for p, _ in result.failed} == {"notes.txt", "empty.dcm", "zipped.dcm"}
    assert all(str(p) in sentence for p, sentence in result.failed)
    assert good not in [p for p, _ in result.failed]


def test_class_that_the_peer_does_not_take_is_named(peer_at, tmp_path):
    mr = [build_context("1.2.840.10008.5.1.4.1.1.4")]
    (tmp_path / "mr.dcm").write_bytes(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
    report_file(tmp_path)
    with scripted_scp(contexts=mr) as port:
        result = send([tmp_path], peer_at(port))
    assert result.sent == 1
    ((_, sentence),) = result.failed
    assert "does not take Comprehensive SR Storage in Explicit VR Little Endian" in sentence


def test_peer_that_takes_nothing_of_it_is_said_for_each_file(peer_at, tmp_path):
    files = [report_file(tmp_path, number) for number in range(2)]
    with scripted_scp(contexts=[build_context("1.2.840.10008.5.1.4.1.1.4")]) as port:
        result = send([tmp_path], peer_at(port))
    assert [p for p, _ in result.failed] == files
    assert all("does not take Comprehensive SR Storage" in sentence for _, sentence in result.failed)


def test_more_than_128_contexts_take_more_associations(peer_at, tmp_path):
    for number in range(MAX_CONTEXTS + 7):
        meta = FileMetaDataset()
        ds = Dataset()
        ds.SOPClassUID = meta.MediaStorageSOPClassUID = f"1.2.826.0.1.3680043.10.999.5.{number}"
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.999.6.{number}"
        meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        ds.file_meta = meta
        ds.save_as(tmp_path / f"{number:03}.dcm", enforce_file_format=True)
    associations = []
    ae = AE("PACS")
    for number in range(MAX_CONTEXTS + 7):
        ae.add_supported_context(f"1.2.826.0.1.3680043.10.999.5.{number}", "1.2.840.10008.1.2.1")
    port = find_free_port()
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda e: 0), (evt.EVT_ACCEPTED, lambda e: associations.append(e.assoc))],
    )
    try:
        from pynetdicom import _config

        _config.UNRESTRICTED_STORAGE_SERVICE = True
        result = send([tmp_path], peer_at(port))
    finally:
        _config.UNRESTRICTED_STORAGE_SERVICE = False
        server.shutdown()
    assert (result.sent, len(associations)) == (MAX_CONTEXTS + 7, 2)


def test_missing_paths_and_empty_folders_are_named(peer_at, tmp_path):
    for paths, sentence in (([tmp_path / "nowhere"], "no file or folder"), ([tmp_path], "no file to send")):
        with pytest.raises(QcNodeError, match=sentence):
            send(paths, peer_at(1))


def test_one_poisonous_object_costs_one_association_and_not_the_rest(peer_at, tmp_path):
    for number in range(4):
        report_file(tmp_path, number)
    poison = open_object(tmp_path / "report-1.dcm").sop_instance_uid

    def store(event):
        if event.request.AffectedSOPInstanceUID == poison:
            event.assoc.abort()
        return 0

    with scripted_scp(store) as port:
        result = send([tmp_path], peer_at(port))
    assert result.sent == 3
    assert [p.name for p, _ in result.failed] == ["report-1.dcm"]


def test_peer_that_is_gone_ends_the_sending_with_a_sentence(peer_at, tmp_path):
    report_file(tmp_path)
    with pytest.raises(PeerError, match="cannot be reached"):
        send([tmp_path], peer_at(find_free_port()))
