"""What hostile, broken and slow peers do to a receiver; each of these brought a stock pynetdicom SCP down."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from qc_node.receiver.store import LOOK_EVERY_S
from qc_node.receiver.wire import Wire
from qc_node.spool import TempFile
from tests.peers import wait_for
from tests.receiver.conftest import StartReceiver
from tests.receiver.wire_peer import (
    ABORT,
    RELEASE_RQ,
    VERIFICATION,
    Rejected,
    WirePeer,
    associate_rq,
    c_store_rq,
    data_set_pdus,
    encode,
    image,
    p_data,
    pdv,
)

MR = (MRImageStorage, [ExplicitVRLittleEndian])
ECHO = (VERIFICATION, ["1.2.840.10008.1.2"])


def send_good(port: int) -> int:
    ds = image()
    with WirePeer(port) as peer:
        peer.associate(MR)
        status = peer.store(ds.SOPClassUID, ds.SOPInstanceUID, encode(ds))
        peer.release()
    return status


def begin_object(peer: WirePeer, data: bytes = bytes(100_000)) -> None:
    """Send a C-STORE request and a part of its data set."""
    ds = image()
    peer.send(p_data(pdv(1, 3, c_store_rq(ds.SOPClassUID, ds.SOPInstanceUID))))
    peer.send(p_data(pdv(1, 0, data)))


HALF_OPEN = {
    "connects and says nothing": b"",
    "half a PDU header": b"\x01\x00\x00",
    "a PDU header and ten bytes": struct.pack(">BBL", 1, 0, 200) + bytes(10),
    "half an association request": associate_rq([(1, *MR)])[:90],
}


@pytest.mark.parametrize("script", HALF_OPEN)
def test_twenty_half_open_peers_do_not_keep_a_good_one_out(script: str, start_receiver: StartReceiver) -> None:
    receiver = start_receiver(max_associations=4, associate_s=60.0, stall_s=60.0)
    peers = [WirePeer(receiver.port) for _ in range(20)]
    try:
        for peer in peers:
            peer.send(HALF_OPEN[script])
        assert send_good(receiver.port) == 0
        assert send_good(receiver.port) == 0
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("script", HALF_OPEN)
def test_a_half_open_peer_is_cut_by_the_artim_timer(script: str, start_receiver: StartReceiver) -> None:
    receiver = start_receiver(associate_s=0.3)
    with WirePeer(receiver.port) as peer:
        peer.send(HALF_OPEN[script])
        assert peer.hung_up()


def test_twenty_peers_stalled_in_the_middle_of_a_pdu_lose_their_places(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(max_associations=20, max_associations_per_peer=20, stall_s=0.5, idle_s=60.0)
    peers = [WirePeer(receiver.port) for _ in range(20)]
    try:
        for peer in peers:
            peer.associate(MR)
            peer.send(struct.pack(">BBL", 4, 0, 5000) + bytes(10))
        assert wait_for(lambda: _gets_in(receiver.port), 20)
        assert all(peer.hung_up() for peer in peers)
        assert not receiver.half_written()
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("shared", ["the title", "the address"])
def test_one_sender_cannot_lock_the_others_out(shared: str, start_receiver: StartReceiver) -> None:
    receiver = start_receiver(max_associations=20, max_associations_per_peer=3)

    def greedy(n: int) -> tuple[WirePeer, str]:
        source = "127.0.0.2" if shared == "the address" else f"127.0.0.{n + 2}"
        return WirePeer(receiver.port, source=source), "GREEDY" if shared == "the title" else f"GREEDY{n}"

    inside = [greedy(n) for n in range(3)]
    try:
        for peer, title in inside:
            peer.associate(ECHO, calling=title)
        late, title = greedy(3)
        with late, pytest.raises(Rejected) as rejected:
            late.associate(ECHO, calling=title)
        assert rejected.value.args == (2, 3, 2), "come again later"
        assert send_good(receiver.port) == 0
        inside[0][0].release()
        again, title = greedy(4)
        with again:
            again.associate(ECHO, calling=title)
            assert again.echo() == 0
    finally:
        for peer, _ in inside:
            peer.close()


def test_the_limit_for_one_sender_is_shared_among_processes(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(max_associations=9, max_associations_per_peer=3, processes=3)
    peers = [WirePeer(receiver.port) for _ in range(9)]
    try:
        answers = []
        for peer in peers:
            try:
                peer.associate(ECHO)
                answers.append("in")
            except Rejected as rejected:
                assert rejected.args == (2, 3, 2)
                answers.append("later")
        assert 1 <= answers.count("in") <= 3
    finally:
        for peer in peers:
            peer.close()


ENDS = {
    "a breach of protocol": struct.pack(">BBL", 9, 0, 0),
    "a stall in a PDU": struct.pack(">BBL", 4, 0, 5000) + bytes(10),
    "an A-ABORT": ABORT,
}


@pytest.mark.parametrize("end", ENDS)
def test_an_association_that_ended_frees_its_place_while_it_lingers(
    end: str, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver(max_associations=2, stall_s=0.5)
    lingering = [WirePeer(receiver.port) for _ in range(2)]
    try:
        for peer in lingering:
            peer.associate(ECHO)
        for peer in lingering:
            peer.send(ENDS[end])
        for peer in lingering:
            assert peer.pdu()[0] == 7, "the node aborts, and waits for us to close"
        for _ in range(2):
            assert send_good(receiver.port) == 0
        assert receiver.service._server is not None and receiver.service._server.open_connections() >= 2
    finally:
        for peer in lingering:
            peer.close()


@pytest.mark.parametrize("context", ["1.2.840.10008.3.1.1.2", "1.2", ""])
def test_another_application_context_is_rejected_as_the_standard_says(
    context: str, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver()
    with WirePeer(receiver.port) as peer, pytest.raises(Rejected) as rejected:
        peer.associate(ECHO, application_context=context)
    assert rejected.value.args == (1, 1, 2)
    assert send_good(receiver.port) == 0


@pytest.mark.parametrize("longest", [8, 9, 33, 128, 16384, 0])
def test_answers_keep_to_the_longest_pdu_that_the_peer_takes(longest: int, start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    ds = image()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR, max_pdu=longest)
        peer.send(p_data(pdv(1, 3, c_store_rq(ds.SOPClassUID, "1.2.3"))))
        peer.send(p_data(pdv(1, 2, encode(ds))))
        bodies = peer.message()
        assert all(len(body) <= (longest or 1 << 20) and len(body) % 2 == 0 for body in bodies)
        assert len(bodies) == 1 or longest < 1000
        answer = b"".join(body[6:] for body in bodies)
        assert b"UID" in answer[-70:], "the sentence comes whole"
        assert peer.store(ds.SOPClassUID, ds.SOPInstanceUID, encode(ds)) == 0


def _gets_in(port: int) -> bool:
    try:
        return send_good(port) == 0
    except Rejected as rejected:
        assert rejected.args == (2, 3, 2)
        return False


def test_a_peer_that_drips_bytes_does_not_get_around_the_stall_time(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(stall_s=1.0, idle_s=60.0)
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        peer.send(struct.pack(">BBL", 4, 0, 5000))
        with pytest.raises(OSError):
            for _ in range(100):
                peer.send(b"\0")
                time.sleep(0.1)


def test_a_peer_that_drips_small_pdus_does_not_hold_an_object_for_ever(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(stall_s=1.0, idle_s=60.0)
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        begin_object(peer, b"12")
        with pytest.raises(OSError):
            for _ in range(100):
                peer.send(p_data(pdv(1, 0, b"")))
                time.sleep(0.2)
    wait_for(lambda: not receiver.half_written())


class _SlowSocket(socket.socket):
    """Brings so many bytes each time it is asked, and lets the clock go on before."""

    now, bytes_at_a_time, pause_s = 0.0, 0, 0.0

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self.now += self.pause_s
        return super().recv_into(buffer, min(len(buffer), self.bytes_at_a_time), socket.MSG_WAITALL)


def test_an_object_over_a_slow_line_takes_its_time() -> None:
    """1,100 bytes a second with pauses of 20 s, for a quarter of an hour."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        slow = _SlowSocket(fileno=server.accept()[0].detach())
    slow.bytes_at_a_time, slow.pause_s = 22_000, 20.0
    wire = Wire(slow, stopping=lambda: False, idle_s=1.0, stall_s=30.0, monotonic=lambda: slow.now)
    with slow, theirs:
        sender = threading.Thread(target=theirs.sendall, args=(data_set_pdus(1, bytes(1_000_000)),))
        sender.start()
        wire.next_pdv(first=True)
        size = sum(len(view) for view in wire.body())
        size += sum(len(view) for view in wire.data_set(1))
        sender.join()
    assert size == 1_000_000 and slow.now > 900


def test_a_peer_that_is_silent_after_the_association_is_cut_by_the_idle_time(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(idle_s=0.5, stall_s=60.0)
    with WirePeer(receiver.port) as peer:
        peer.associate(ECHO)
        assert peer.echo() == 0
        assert peer.hung_up()


@pytest.mark.parametrize("processes", [0, 1])
def test_one_peer_may_be_silent_for_longer_than_the_others(start_receiver: StartReceiver, processes: int) -> None:
    receiver = start_receiver(idle_s=0.5, idle_s_by_ae={"PATIENT": 600.0}, stall_s=60.0, processes=processes)
    with WirePeer(receiver.port) as patient, WirePeer(receiver.port) as other:
        patient.associate(ECHO, calling="PATIENT")
        other.associate(ECHO, calling="OTHER")
        assert other.hung_up()
        assert patient.echo() == 0


def test_one_peer_may_be_silent_for_less_long_than_the_others(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(idle_s=600.0, idle_s_by_ae={"HASTY": 0.5}, stall_s=60.0)
    with WirePeer(receiver.port) as hasty:
        hasty.associate(ECHO, calling="HASTY")
        assert hasty.hung_up()


def test_a_pause_between_objects_is_no_stall(start_receiver: StartReceiver) -> None:
    receiver = start_receiver(idle_s=60.0, stall_s=0.4)
    with WirePeer(receiver.port) as peer:
        peer.associate(ECHO)
        assert peer.echo() == 0
        time.sleep(1.5)
        assert peer.echo() == 0


OVERSIZED = {
    "association request of 400 MB": struct.pack(">BBL", 1, 0, 400 << 20),
    "association request of 4 GB": struct.pack(">BBL", 1, 0, 0xFFFFFFFF),
}


@pytest.mark.parametrize("script", OVERSIZED)
def test_an_oversized_association_request_is_refused_before_it_is_read(
    script: str, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver(associate_s=60.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = bytes(1 << 20)
    with WirePeer(receiver.port) as peer:
        peer.send(OVERSIZED[script])
        with pytest.raises(OSError):
            for _ in range(400):
                peer.send(chunk)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000, f"{grown} KiB for a peer that nobody knows"
    assert send_good(receiver.port) == 0


def test_an_oversized_p_data_pdu_is_refused_before_it_is_read(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        begin_object(peer)
        peer.send(struct.pack(">BBL", 4, 0, 400 << 20))
        assert peer.hung_up()
    wait_for(lambda: not receiver.half_written())


def test_an_object_in_one_pdu_beyond_our_maximum_costs_no_memory(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver()
    ds = image(PixelData=bytes(12 << 20))
    data = encode(ds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        peer.send(p_data(pdv(1, 3, c_store_rq(ds.SOPClassUID, ds.SOPInstanceUID))))
        pieces = p_data(pdv(1, 2, data))
        for at in range(0, len(pieces), 1 << 16):
            peer.send(pieces[at : at + (1 << 16)])
        assert peer.status() == 0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40_000, f"{grown} KiB"


@pytest.mark.parametrize("how", ["close", "cut", "abort", "release"])
def test_a_connection_that_ends_within_an_object_leaves_nothing(how: str, start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    peer = WirePeer(receiver.port)
    peer.associate(MR)
    begin_object(peer)
    wait_for(receiver.half_written)
    if how == "close":
        peer.close()
    elif how == "cut":
        peer.cut()
    else:
        peer.send(struct.pack(">BBL4x", 7, 0, 4) if how == "abort" else RELEASE_RQ)
    wait_for(lambda: not receiver.half_written())
    peer.close()
    assert not receiver.files() and not receiver.stored()
    assert send_good(receiver.port) == 0


def test_connections_leak_neither_sockets_nor_threads(start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    me = psutil.Process()
    send_good(receiver.port)
    wait_for(lambda: threading.active_count() < 10)
    fds, threads = me.num_fds(), threading.active_count()
    for n in range(40):
        peer = WirePeer(receiver.port)
        if n % 4:
            peer.associate(MR)
        if n % 4 > 1:
            begin_object(peer)
        (peer.cut if n % 2 else peer.close)()
    for _ in range(10):
        send_good(receiver.port)
    wait_for(lambda: me.num_fds() <= fds and threading.active_count() <= threads)
    wait_for(lambda: not receiver.half_written())


PATH_LIKE = [
    "../../../tmp/evil",
    "/etc/passwd",
    "..",
    "1.2.3/../../x",
    "1.2\\..\\3",
    "1.2.3\n",
    "a.b",
    "1." * 40 + "1",
]


@pytest.mark.parametrize("uid", PATH_LIKE)
@pytest.mark.parametrize("where", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_a_path_like_uid_is_quarantined_and_never_names_a_file(
    uid: str, where: str, start_receiver: StartReceiver, tmp_path: Path
) -> None:
    receiver = start_receiver(folder=tmp_path / "a" / "b" / "c" / "receiver")
    ds = image()
    # written by hand: pydicom would warn, and a peer does not ask pydicom
    ds.add_new(where, "LO", uid)
    data = encode(ds).replace(b"LO", b"UI")
    sop_instance = uid if where == "SOPInstanceUID" else ds.SOPInstanceUID
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert peer.store(MRImageStorage, sop_instance, data) == 0xC212
        peer.release()
    (kept,) = receiver.ledger.instances.quarantined()
    assert "is not a UID" in kept["reason"] and uid not in kept["reason"]
    assert receiver.spool.path(kept["path"]).read_bytes().endswith(data)
    assert not receiver.stored() and not receiver.files() and not receiver.half_written()
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and receiver.folder not in p.parents]
    assert not outside


def test_our_answers_do_not_wait_for_nagle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            Wire(accepted, stopping=lambda: False, idle_s=1, stall_s=1)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "script",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        RELEASE_RQ,
        struct.pack(">BBL", 1, 0, 3) + b"abc",
        associate_rq([(1, *MR)])[:99] + b"\x20\x00\xff\xff" + associate_rq([(1, *MR)])[103:],
        associate_rq([(1, *MR)]).replace(b"\x00\x01\x00\x00", b"\x00\x02\x00\x00", 1),
        associate_rq([(1, *MR), (2, *MR)]),
        associate_rq([(1, *MR), (1, *MR)]),
    ],
)
def test_what_is_no_association_request_is_answered_by_an_abort(
    script: bytes, start_receiver: StartReceiver
) -> None:
    receiver = start_receiver(associate_s=2.0)
    with WirePeer(receiver.port) as peer:
        peer.send(script)
        assert peer.hung_up()
    assert send_good(receiver.port) == 0


MALFORMED = {
    "unknown PDU type": struct.pack(">BBL", 9, 0, 0),
    "a second association request": associate_rq([(1, *MR)]),
    "an empty P-DATA PDU": p_data(),
    "an empty P-DATA PDU within an object": p_data(pdv(1, 3, c_store_rq(MRImageStorage, "1.2.3"))) + p_data(),
    "a P-DATA PDU of three bytes": struct.pack(">BBL", 4, 0, 3) + b"abc",
    "a PDV longer than its PDU": struct.pack(">BBL", 4, 0, 10) + struct.pack(">LBB", 100, 1, 3) + bytes(4),
    "a PDV of one byte": struct.pack(">BBL", 4, 0, 6) + struct.pack(">LBB", 1, 1, 3),
    "a data set without a command": p_data(pdv(1, 2, b"1234")),
    "a command that is none": p_data(pdv(1, 3, b"\xff" * 40)),
    "an empty command": p_data(pdv(1, 3, b"")),
    "a context that was not accepted": p_data(pdv(77, 3, c_store_rq(MRImageStorage, "1.2.3"))),
    "a message that changes its context": p_data(pdv(1, 1, b"1234"), pdv(3, 3, b"5678")),
    "a command within a data set": p_data(pdv(1, 3, c_store_rq(MRImageStorage, "1.2.3")))
    + p_data(pdv(1, 0, b"12"))
    + p_data(pdv(1, 3, c_store_rq(MRImageStorage, "1.2.3"))),
}


@pytest.mark.parametrize("script", MALFORMED)
def test_a_breach_of_protocol_ends_this_association_and_no_other(
    script: str, start_receiver: StartReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = start_receiver(stall_s=2.0)
    with WirePeer(receiver.port) as bystander, WirePeer(receiver.port) as peer:
        bystander.associate(ECHO)
        peer.associate(MR)
        peer.send(MALFORMED[script])
        assert peer.hung_up()
        assert bystander.echo() == 0
    assert not receiver.half_written()
    assert not [r for r in caplog.records if r.exc_info]


def test_an_endless_command_set_is_not_collected(start_receiver: StartReceiver) -> None:
    receiver = start_receiver()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(2000):
                peer.send(p_data(pdv(1, 1, bytes(16000))))


def test_half_open_peers_beyond_the_limit_push_the_oldest_out(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(max_associations=10, associate_s=60.0)
    peers = [WirePeer(receiver.port) for _ in range(40)]
    try:
        assert all(peer.hung_up() for peer in peers[:25])
        peers[-1].associate(ECHO)
        assert peers[-1].echo() == 0
    finally:
        for peer in peers:
            peer.close()


# -- full disks ----------------------------------------------------------------------------------------
def test_below_the_watermark_associations_are_rejected_as_transient(
    start_receiver: StartReceiver,
) -> None:
    receiver = start_receiver(low_watermark_bytes=1 << 60)
    with WirePeer(receiver.port) as peer, pytest.raises(Rejected) as rejected:
        peer.associate(MR)
    assert rejected.value.args == (2, 3, 1)


def test_a_disk_that_fills_up_during_an_association_answers_a700(
    start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = start_receiver(low_watermark_bytes=1 << 20)
    ds, other = image(), image()
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        assert peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds)) == 0
        monkeypatch.setattr("qc_node.spool.Spool.free_bytes", lambda self: 0)
        time.sleep(2 * LOOK_EVERY_S)
        assert peer.store(MRImageStorage, other.SOPInstanceUID, encode(other)) == 0xA700
        monkeypatch.undo()
        time.sleep(2 * LOOK_EVERY_S)
        assert peer.store(MRImageStorage, other.SOPInstanceUID, encode(other)) == 0
    assert len(receiver.stored()) == len(receiver.files()) == 2
    assert not receiver.half_written() and not receiver.ledger.instances.quarantined()
    wait_for(lambda: [e.status for e in receiver.received()] == [0, 0xA700, 0])


@pytest.mark.parametrize("step", ["write", "commit"])
def test_no_space_left_on_device_answers_a700_and_leaves_nothing(
    step: str, start_receiver: StartReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = start_receiver()
    original = getattr(TempFile, step)

    def full(self: TempFile, *args: object, **kwargs: object) -> None:
        if step == "commit" or self.size > 20_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, *args, **kwargs)

    ds = image(PixelData=bytes(100_000))
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        with monkeypatch.context() as patch:
            patch.setattr(TempFile, step, full)
            assert peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds)) == 0xA700
        assert not receiver.half_written() and not receiver.files() and not receiver.stored()
        assert peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds)) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mount.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_disk_that_is_really_full_nothing_answered_is_lost(
    start_receiver: StartReceiver, small_disk: Path
) -> None:
    receiver = start_receiver(folder=small_disk / "receiver")
    statuses = {}
    with WirePeer(receiver.port) as peer:
        peer.associate(MR)
        for _ in range(40):
            ds = image(PixelData=os.urandom(200_000))
            statuses[str(ds.SOPInstanceUID)] = peer.store(MRImageStorage, ds.SOPInstanceUID, encode(ds))
    kept = {uid for uid, status in statuses.items() if status == 0}
    assert kept and set(statuses.values()) == {0, 0xA700}
    assert {row["sop_instance_uid"] for row in receiver.stored()} == kept
    assert len(receiver.files()) == len(kept) and not receiver.half_written()
    for row in receiver.stored():
        assert pydicom.dcmread(receiver.path(row)).SOPInstanceUID == row["sop_instance_uid"]
    receiver.service.stop(1.0)
    receiver.ledger.close()
