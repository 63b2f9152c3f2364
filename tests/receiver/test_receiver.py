"""The receiver with real peers and several processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSNearLossless,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    RLELossless,
    UltrasoundImageStorage,
    generate_uid,
)
from pynetdicom import AE

from qc_node.domain import QcNodeError
from tests.peers import echo, find_free_port, store, wait_for
from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import VERIFICATION, Rejected, WirePeer, c_store_rq, encode, image, p_data, pdv

MR = (MRImageStorage, [ExplicitVRLittleEndian])
PRIVATE_CLASS = "1.3.46.670589.11.0.0.12.1"


def send(port: int, ds: pydicom.Dataset, syntax: str = ExplicitVRLittleEndian, **options: Any) -> int:
    with WirePeer(port) as peer:
        peer.associate((ds.SOPClassUID, [syntax]), **options)
        status = peer.store(ds.SOPClassUID, ds.SOPInstanceUID, encode(ds, syntax))
        peer.release()
    return status


# -- what comes in ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGLSNearLossless,
        RLELossless,
        "1.2.840.113619.5.2",
        "1.3.6.1.4.1.99999.7",
    ],
)
def test_every_transfer_syntax_is_stored_as_received(syntax: str, start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    ds = image(SOPClassUID=CTImageStorage, Modality="CT")
    implicit = syntax == "1.2.840.113619.5.2"
    data = encode(ds, ImplicitVRLittleEndian if implicit else syntax)
    with WirePeer(receiver.port) as peer:
        assert peer.associate((CTImageStorage, [syntax]))[1] == (0, syntax)
        assert peer.store(CTImageStorage, ds.SOPInstanceUID, data) == 0
        peer.release()
    (row,) = receiver.stored()
    raw = receiver.path(row).read_bytes()
    assert raw.endswith(data) and raw[128:132] == b"DICM" and row["bytes"] == len(raw)
    meta = pydicom.dcmread(receiver.path(row), stop_before_pixels=True).file_meta
    assert meta.TransferSyntaxUID == syntax == row["transfer_syntax_uid"]
    assert meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert meta.FileMetaInformationGroupLength == len(raw) - len(data) - 144
    series = receiver.ledger.series.by_id(row["series_id"])
    assert series is not None
    assert series["series_uid"] == ds.SeriesInstanceUID and series["study_uid"] == ds.StudyInstanceUID


@pytest.mark.parametrize(
    ("sop_class", "modality", "opens"),
    [
        (MRImageStorage, "MR", True),
        (CTImageStorage, "CT", True),
        (ComputedRadiographyImageStorage, "CR", True),
        (UltrasoundImageStorage, "US", True),
        ("1.2.840.10008.5.1.4.1.1.1.1", "DX", True),
        (PRIVATE_CLASS, "MR", True),
        (KeyObjectSelectionDocumentStorage, "KO", False),
        (ComprehensiveSRStorage, "SR", False),
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR", False),
    ],
)
def test_every_storage_class_is_taken_and_only_images_open_a_series(
    sop_class: str, modality: str, opens: bool, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver()
    ds = image(SOPClassUID=sop_class, Modality=modality)
    assert send(receiver.port, ds) == 0
    (row,) = receiver.stored()
    assert (row["series_id"] is not None) is opens
    assert (receiver.ledger.series.get(ds.SeriesInstanceUID) is not None) is opens
    wait_for(lambda: receiver.events)
    (event,) = receiver.received()
    assert (event.status, event.opens_series, event.series_uid) == (0, opens, ds.SeriesInstanceUID)
    assert event.calling_ae == "PEER" and event.bytes == len(encode(ds)) and event.seconds > 0


def test_other_services_are_not_accepted(start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    with WirePeer(receiver.port) as peer:
        results = peer.associate(
            ("1.2.840.10008.5.1.4.1.2.2.1", [ImplicitVRLittleEndian]),
            ("1.2.840.10008.5.1.4.1.2.2.2", [ImplicitVRLittleEndian]),
            (MRImageStorage, []),
            (VERIFICATION, [ImplicitVRLittleEndian]),
        )
        assert [results[n][0] for n in (1, 3, 5, 7)] == [3, 3, 4, 0]
        assert peer.echo(7) == 0


def test_a_duplicate_is_a_success_and_changes_nothing(start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    ds = image()
    assert [send(receiver.port, ds) for _ in range(3)] == [0, 0, 0]
    (row,) = receiver.stored()
    assert pydicom.dcmread(receiver.path(row)).SeriesInstanceUID == ds.SeriesInstanceUID
    assert len(receiver.files()) == 1 and not receiver.half_written()
    series = receiver.ledger.series.get(ds.SeriesInstanceUID)
    assert series is not None and (series["instances"], series["run"]) == (1, 1)


def test_two_versions_of_an_instance_from_many_peers_at_once_leave_one_of_them(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(processes=2, max_associations_per_peer=50)
    ds = image(PixelData=bytes(400_000))
    twins = [ds, image(SOPInstanceUID=ds.SOPInstanceUID, PixelData=bytes(400_000))]
    statuses: list[int] = []
    peers = [
        threading.Thread(target=lambda d=twins[n % 2]: statuses.append(send(receiver.port, d))) for n in range(12)
    ]
    for peer in peers:
        peer.start()
    for peer in peers:
        peer.join()
    assert statuses == [0] * 12
    (row,) = [row for row in receiver.stored() if row["superseded_at"] is None]
    assert [p.relative_to(receiver.folder).as_posix() for p in receiver.files()] == [row["path"]]
    assert not receiver.half_written()


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"SOPInstanceUID": None}, 0xC211, "SOP Instance UID (0008,0018) is missing"),
        ({"StudyInstanceUID": None}, 0xC211, "Study Instance UID (0020,000D) is missing"),
        ({"SeriesInstanceUID": ""}, 0xC211, "Series Instance UID (0020,000E) is missing"),
        ({"SOPInstanceUID": "1.2.3.4"}, 0xA900, "SOP Instance UID (0008,0018) differs"),
        ({"SOPClassUID": CTImageStorage}, 0xA900, "SOP Class UID (0008,0016) differs"),
    ],
)
def test_missing_and_mismatching_uids_are_refused_and_quarantined(
    changes: dict[str, Any], status: int, words: str, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver()
    data = encode(image(**changes))
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert peer.store(MRImageStorage, generate_uid(), data) == status
        assert send(receiver.port, image()) == 0
    (kept,) = receiver.ledger.instances.quarantined()
    assert kept["reason"].startswith(words) and kept["calling_ae"] == "PEER"
    assert receiver.spool.path(kept["path"]).read_bytes().endswith(data)
    assert len(receiver.stored()) == 1


@pytest.mark.parametrize("data", [b"", b"garbage" * 100, encode(image())[:50], bytes(1000)])
def test_an_unreadable_data_set_is_refused_and_quarantined(data: bytes, start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert 0xC210 <= peer.store(MRImageStorage, generate_uid(), data) <= 0xC2FF
        peer.release()
    assert len(receiver.ledger.instances.quarantined()) == 1
    assert not receiver.stored() and not receiver.files() and not receiver.half_written()


def test_a_request_without_data_set_or_of_another_class_is_refused(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver()
    ds = image()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        peer.send(p_data(pdv(1, 3, c_store_rq(MRImageStorage, "1.2.3", data_set=False))))
        assert peer.status() == 0xC213
        assert peer.store(CTImageStorage, ds.SOPInstanceUID, encode(ds)) == 0x0122
        assert peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds)) == 0


# -- who comes in ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "calling", "called", "answer"),
    [
        ({"accept_unknown": False}, "STRANGER", "QCNODE", (1, 1, 3)),
        ({"accept_unknown": False, "peers": {"MRI1": None}}, "MRI1", "QCNODE", None),
        ({"accept_unknown": False, "peers": {"MRI1": "127.0.0.1"}}, "MRI1", "QCNODE", None),
        ({"accept_unknown": False, "peers": {"MRI1": "localhost"}}, "MRI1", "QCNODE", None),
        ({"accept_unknown": True, "peers": {"MRI1": "192.0.2.1"}}, "MRI1", "QCNODE", (1, 1, 3)),
        ({"accept_unknown": True}, "STRANGER", "QCNODE", None),
        ({"accept_unknown": True}, "STRANGER", "OTHER", (1, 1, 7)),
    ],
)
def test_titles_and_hosts(
    settings: dict[str, Any],
    calling: str,
    called: str,
    answer: tuple[int, ...] | None,
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(**settings)
    with WirePeer(receiver.port) as peer:
        if answer is None:
            peer.associate(MR, calling=calling, called=called)
            peer.release()
        else:
            with pytest.raises(Rejected) as rejected:
                peer.associate(MR, calling=calling, called=called)
            assert rejected.value.args == answer


def test_too_many_associations_are_rejected_as_transient(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(max_associations=2)
    with WirePeer(receiver.port) as one, WirePeer(receiver.port) as two, WirePeer(receiver.port) as three:
        one.associate(MR)
        two.associate(MR)
        with pytest.raises(Rejected) as rejected:
            three.associate(MR)
        assert rejected.value.args == (2, 3, 2)
        one.release()

    def is_taken() -> bool:
        try:
            return send(receiver.port, image()) == 0
        except Rejected:  # the thread of a released association ends a moment later
            return False

    wait_for(is_taken)


# -- toolkits ----------------------------------------------------------------------------------------------
@pytest.mark.peer
def test_dcmtk_is_understood(start_receiver: StartReceiver, tmp_path: Path) -> None:
    receiver = start_receiver(processes=2)
    assert echo(receiver.port).ok
    paths = []
    for n in range(5):
        paths.append(tmp_path / f"{n}.dcm")
        ds = image(PixelData=bytes(100_000))
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(paths[-1], enforce_file_format=True)
    assert store(paths, receiver.port).ok
    assert store(paths, receiver.port, "-pdu", "131072").ok
    assert not store(paths, receiver.port, called="OTHER").ok
    assert {r["sop_instance_uid"] for r in receiver.stored()} == {pydicom.dcmread(p).SOPInstanceUID for p in paths}


def test_pynetdicom_is_understood_also_with_role_selection(start_receiver: StartReceiver) -> None:
    from pynetdicom import build_role

    receiver = start_receiver()
    ae = AE(ae_title="NETDICOM")
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(MRImageStorage, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    ae.add_requested_context("1.2.840.10008.1.20.1")
    roles = [
        build_role("1.2.840.10008.1.20.1", scp_role=True, scu_role=True),
        build_role(MRImageStorage, True, True),
    ]
    association = ae.associate("127.0.0.1", receiver.port, ae_title="QCNODE", ext_neg=[*roles])
    assert association.is_established
    chosen = {str(c.abstract_syntax): c for c in association.accepted_contexts}
    assert chosen[MRImageStorage].transfer_syntax == [ExplicitVRLittleEndian]
    assert (chosen["1.2.840.10008.1.20.1"].as_scu, chosen["1.2.840.10008.1.20.1"].as_scp) == (False, True)
    assert (chosen[MRImageStorage].as_scu, chosen[MRImageStorage].as_scp) == (True, False)
    assert association.send_c_echo().Status == 0
    ds = image()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert association.send_c_store(ds).Status == 0
    association.release()
    assert len(receiver.stored()) == 1


# -- processes -------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_events_and_rows_of_several_processes_come_together(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(processes=2)
    assert len(receiver.service.pids()) == 2 and receiver.service.alive()
    ds = image()

    def sender() -> None:
        with WirePeer(receiver.port) as peer:
            peer.associate(MR)
            for _ in range(15):
                other = image(StudyInstanceUID=ds.StudyInstanceUID, SeriesInstanceUID=ds.SeriesInstanceUID)
                assert peer.store(MRImageStorage, other.SOPInstanceUID, encode(other)) == 0
            peer.release()

    senders = [threading.Thread(target=sender) for _ in range(6)]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join()
    assert len(receiver.stored()) == len(receiver.files()) == 90
    series = receiver.ledger.series.get(ds.SeriesInstanceUID)
    assert series is not None and series["instances"] == 90
    wait_for(lambda: len(receiver.events) == 90)
    assert {(e.status, e.series_uid) for e in receiver.received()} == {(0, ds.SeriesInstanceUID)}


def test_the_children_have_neither_torch_nor_a_second_thread_pool(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(processes=1)
    (pid,) = receiver.service.pids()
    mapped = {m.path for m in psutil.Process(pid).memory_maps()}
    assert not [path for path in mapped if "torch" in path or "SimpleITK" in path]


def test_the_command_line_of_a_child_shows_no_setting(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(processes=1, peers={"SCANNER-7": "127.0.0.1"})
    (pid,) = receiver.service.pids()
    assert psutil.Process(pid).cmdline()[1:] == ["-m", "qc_node.receiver.receiving_process"]


@pytest.mark.slow
def test_a_killed_child_is_replaced_and_nothing_answered_is_lost(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(processes=1)
    answered = []
    (pid,) = receiver.service.pids()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        for _ in range(10):
            ds = image()
            assert peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds)) == 0
            answered.append(str(ds.SOPInstanceUID))
        os.kill(pid, signal.SIGKILL)
        assert peer.hung_up()
    wait_for(lambda: receiver.service.alive() and receiver.service.pids() not in ([], [pid]))
    assert send(receiver.port, image()) == 0
    assert set(answered) < {row["sop_instance_uid"] for row in receiver.stored()}


@pytest.mark.slow
def test_children_die_with_their_parent_and_free_the_port(tmp_path: Path) -> None:
    port = find_free_port()
    script = textwrap.dedent(f"""
        import logging, pathlib, time
        from qc_node.receiver.service import Receiver
        from tests.part_settings import receiver_settings
        settings = receiver_settings(host="127.0.0.1", port={port}, processes=2)
        r = Receiver(settings, pathlib.Path({str(tmp_path)!r}), print, logging.getLogger())
        r.start()
        print(*r.pids(), flush=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, 10)
    assert not alive
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("processes", [0, 1])
def test_stopping_finishes_the_object_in_flight_and_takes_no_other(
    processes: int, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver(processes=processes)
    ds = image(PixelData=bytes(200_000))
    data = encode(ds)
    with WirePeer(receiver.port) as peer, WirePeer(receiver.port) as idle:
        idle.associate(MR)
        peer.associate(MR)
        peer.send(p_data(pdv(1, 3, c_store_rq(MRImageStorage, ds.SOPInstanceUID))))
        peer.send(p_data(pdv(1, 0, data[:50_000])))
        wait_for(receiver.half_written)
        stopper = threading.Thread(target=receiver.service.stop, args=(20.0,))
        stopper.start()
        assert idle.hung_up()
        peer.send(p_data(pdv(1, 2, data[50_000:])))
        assert peer.status() == 0
        assert peer.hung_up()
        stopper.join(20)
    assert [row["sop_instance_uid"] for row in receiver.stored()] == [ds.SOPInstanceUID]
    with pytest.raises(OSError):
        WirePeer(receiver.port)
    wait_for(lambda: len(receiver.events) == 1)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_peer_that_never_finishes_cannot_hold_up_the_stop(processes: int, start_receiver: StartReceiver) -> None:
    receiver = start_receiver(processes=processes)
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        peer.send(p_data(pdv(1, 3, c_store_rq(MRImageStorage, "1.2.3"))))
        peer.send(p_data(pdv(1, 0, bytes(50_000))))
        wait_for(receiver.half_written)
        began = time.monotonic()
        receiver.service.stop(0.5)
        assert time.monotonic() - began < 15
    assert not receiver.stored() and not receiver.files() and not receiver.half_written()


def test_a_port_in_use_is_one_sentence(start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    other = start_receiver(start=False, port=receiver.port)
    with pytest.raises(QcNodeError, match=rf"The DICOM port 127\.0\.0\.1:{receiver.port} cannot be opened"):
        other.start()


@pytest.mark.parametrize(
    ("said", "station"),
    [
        ({"StationName": "MR750-ROOM1"}, "MR750-ROOM1"),
        (
            {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra", "DeviceSerialNumber": "45"},
            "SIEMENS Skyra 45",
        ),
        ({}, "PEER"),
    ],
)
def test_a_series_knows_its_scanner_from_its_first_image_on(
    said: dict[str, str], station: str, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver()
    ds = image(**said)
    assert send(receiver.port, ds) == 0
    row = receiver.ledger.series.get(ds.SeriesInstanceUID)
    assert row is not None and (row["station"], row["calling_ae"]) == (station, "PEER")
