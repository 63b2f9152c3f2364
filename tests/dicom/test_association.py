"""Calling other application entities: what they refuse is said in one sentence, and no wait is without end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from qc_node.dicom.association import PeerError, Timeouts, Trouble, call, echo
from qc_node.dicom.part10 import open_object
from qc_node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, VERIFICATION
from tests.dicom.scps import raw_tcp, report_file, scripted_scp, trickle
from tests.peers import Orthanc, wait_for
from tests.peers.fixtures import PeerAt
from tests.peers.process import find_free_port

SHORT = Timeouts(1.0, 1.0, 1.0, 1.0)


# -- C-ECHO ------------------------------------------------------------------------------------------
def test_echo_answers_with_the_time_it_took(peer_at: PeerAt) -> None:
    with scripted_scp() as port:
        assert 0 < echo(peer_at(port)) < 60


@pytest.mark.peer
def test_echo_to_orthanc(peer_at: PeerAt, orthanc: Orthanc) -> None:
    assert echo(peer_at(orthanc.port, "ORTHANC")) > 0


def test_nobody_there(peer_at: PeerAt) -> None:
    port = find_free_port()
    with pytest.raises(PeerError, match=rf"PACS \(PACS at 127.0.0.1:{port}\) cannot be reached: .*refused") as e:
        echo(peer_at(port))
    assert e.value.trouble is Trouble.UNREACHABLE


def test_name_that_does_not_resolve(peer_at: PeerAt) -> None:
    from dataclasses import replace

    with pytest.raises(PeerError, match="cannot be reached") as e:
        echo(replace(peer_at(104), host="no-such-host.invalid"))
    assert e.value.trouble is Trouble.UNREACHABLE


def test_wrong_ae_title_is_said_with_the_reason_of_the_peer(peer_at: PeerAt) -> None:
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
def test_peer_that_makes_no_association_is_left_within_bounded_time(
    peer_at: PeerAt, behave: Callable[[socket.socket], object]
) -> None:
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
        (0xC000, Trouble.BUSY),
        (0x0122, Trouble.REFUSED),
        (0x0124, Trouble.REFUSED),
        (0x0110, Trouble.BUSY),
        (0x0117, Trouble.REFUSED),
        (0xC111, Trouble.BUSY),
    ],
)
def test_failure_statuses_say_whether_the_peer_or_the_object_is_at_fault(
    peer_at: PeerAt, tmp_path: Path, status: int, trouble: Trouble
) -> None:
    def refuse(event: Any) -> Dataset:
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = "not today"
        return answer

    obj = open_object(report_file(tmp_path))
    contexts = [(obj.sop_class_uid, obj.transfer_syntax_uid)]
    with (
        scripted_scp(refuse) as port,
        pytest.raises(PeerError, match=rf"0x{status:04X} \(not today\)") as e,
        call(peer_at(port), contexts) as open_call,
    ):
        open_call.store(obj)
    assert e.value.trouble is trouble
    assert e.value.concerns_the_object == (trouble is Trouble.REFUSED)


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB0FF, 0xBFFF])
def test_statuses_with_which_the_peer_has_the_object_are_no_failures(
    peer_at: PeerAt, tmp_path: Path, status: int
) -> None:
    obj = open_object(report_file(tmp_path))
    with (
        scripted_scp(lambda event: status) as port,
        call(peer_at(port), [(obj.sop_class_uid, obj.transfer_syntax_uid)]) as open_call,
    ):
        assert open_call.store(obj) == status


def test_peer_that_answers_too_late_is_left(peer_at: PeerAt, tmp_path: Path) -> None:
    held = threading.Event()
    obj = open_object(report_file(tmp_path))
    with scripted_scp(lambda event: (held.wait(10) and 0) or 0) as port:
        with (
            pytest.raises(PeerError) as e,
            call(peer_at(port, timeouts=SHORT), [(obj.sop_class_uid, obj.transfer_syntax_uid)]) as open_call,
        ):
            open_call.store(obj)
        held.set()
    assert e.value.trouble in (Trouble.SILENT, Trouble.ABORTED)


# -- who we are ----------------------------------------------------------------------------------------
def test_every_association_names_this_program(peer_at: PeerAt) -> None:
    seen = []

    def accepted(event: Any) -> None:
        requestor = event.assoc.requestor
        seen.append((requestor.implementation_class_uid, requestor.implementation_version_name))

    ae = AE("PACS")
    ae.add_supported_context(VERIFICATION)
    port = find_free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_ACCEPTED, accepted)])
    assert server is not None
    try:
        echo(peer_at(port))
        wait_for(lambda: seen)
    finally:
        server.shutdown()
    assert seen == [(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)]
