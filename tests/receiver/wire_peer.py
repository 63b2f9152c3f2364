"""A scripted peer: builds every byte itself, so that it can also send what no toolkit would.

It shares no code with the receiver under test.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

VERIFICATION = "1.2.840.10008.1.1"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate_rq(
    contexts: Sequence[tuple[int, str, Sequence[str]]],
    called: str = "QCNODE",
    calling: str = "PEER",
    extra_user_items: bytes = b"",
    application_context: str = "1.2.840.10008.3.1.1.1",
    max_pdu: int = 16384,
) -> bytes:
    items = item(0x10, application_context.encode()) if application_context else b""
    for context_id, abstract, syntaxes in contexts:
        value = item(0x30, abstract.encode()) + b"".join(item(0x40, s.encode()) for s in syntaxes)
        items += item(0x20, struct.pack("BBBB", context_id, 0, 0, 0) + value)
    user = item(0x51, struct.pack(">L", max_pdu)) + item(0x52, b"1.2.3.4") + extra_user_items
    body = (
        struct.pack(">HH", 1, 0)
        + called.encode().ljust(16)
        + calling.encode().ljust(16)
        + bytes(32)
        + items
        + item(0x50, user)
    )
    return struct.pack(">BBL", 1, 0, len(body)) + body


def command_set(elements: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join(struct.pack("<HHL", 0, tag, len(v)) + v for tag, v in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def even(text: str) -> bytes:
    raw = text.encode("latin-1")
    return raw + b"\0" * (len(raw) % 2)


def c_store_rq(sop_class: str, sop_instance: str, message_id: int = 1, data_set: bool = True) -> bytes:
    return command_set(
        [
            (0x0002, even(sop_class)),
            (0x0100, struct.pack("<H", 1)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 1 if data_set else 0x0101)),
            (0x1000, even(sop_instance)),
        ]
    )


def c_echo_rq() -> bytes:
    return command_set(
        [
            (0x0002, even(VERIFICATION)),
            (0x0100, struct.pack("<H", 0x30)),
            (0x0110, struct.pack("<H", 7)),
            (0x0800, struct.pack("<H", 0x0101)),
        ]
    )


def pdv(context_id: int, control: int, value: bytes) -> bytes:
    return struct.pack(">LBB", len(value) + 2, context_id, control) + value


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BBL", 4, 0, len(body)) + body


def data_set_pdus(context_id: int, data: bytes, size: int = 16000) -> bytes:
    pieces = [data[n : n + size] for n in range(0, len(data), size)] or [b""]
    return b"".join(
        p_data(pdv(context_id, 2 if n == len(pieces) - 1 else 0, piece)) for n, piece in enumerate(pieces)
    )


RELEASE_RQ = struct.pack(">BBL4x", 5, 0, 4)
ABORT = struct.pack(">BBL4x", 7, 0, 4)


class WirePeer:
    """A TCP connection on which one says exactly what one wants."""

    def __init__(self, port: int, timeout: float = 20.0, source: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout, source_address=(source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> WirePeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def cut(self) -> None:
        """Break the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; raises EOFError when the node hung up."""
        kind, _, length = struct.unpack(">BBL", self._exactly(6))
        return kind, self._exactly(length)

    def hung_up(self) -> bool:
        """Whether the node ends the connection (after an A-ABORT or not)."""
        try:
            while True:
                kind, _ = self.pdu()
                if kind != 7:
                    return False
        except (EOFError, ConnectionError):
            return True

    def associate(self, *contexts: tuple[str, Sequence[str]], **options: Any) -> dict[int, tuple[int, str]]:
        """Propose `contexts`; returns result and transfer syntax of each by context ID."""
        numbered = [(2 * n + 1, abstract, syntaxes) for n, (abstract, syntaxes) in enumerate(contexts)]
        self.send(associate_rq(numbered, **options))
        kind, body = self.pdu()
        if kind == 3:
            raise Rejected(*struct.unpack("BBB", body[1:4]))
        assert kind == 2, kind
        results = {}
        at = 68
        while at < len(body):
            kind, length = struct.unpack_from(">BxH", body, at)
            if kind == 0x21:
                size = struct.unpack_from(">H", body, at + 10)[0]
                results[body[at + 4]] = (body[at + 6], body[at + 12 : at + 12 + size].decode())
            at += 4 + length
        return results

    def response(self) -> dict[int, bytes]:
        """The command set of the next message."""
        at, elements = 0, {}
        data = b"".join(body[6:] for body in self.message())
        while at < len(data):
            _, tag, length = struct.unpack_from("<HHL", data, at)
            elements[tag] = data[at + 8 : at + 8 + length]
            at += 8 + length
        return elements

    def message(self) -> list[bytes]:
        """The bodies of the P-DATA-TF PDUs of the next command, each with one fragment."""
        bodies: list[bytes] = []
        while not bodies or not bodies[-1][5] & 2:
            kind, body = self.pdu()
            assert kind == 4, kind
            assert struct.unpack_from(">L", body) == (len(body) - 4,) and body[5] & 1
            bodies.append(body)
        return bodies

    def status(self) -> int:
        return int.from_bytes(self.response()[0x0900], "little")

    def store(self, sop_class: str, sop_instance: str, data: bytes, context_id: int = 1, **options: Any) -> int:
        """C-STORE; returns the status."""
        self.send(p_data(pdv(context_id, 3, c_store_rq(sop_class, sop_instance))))
        self.send(data_set_pdus(context_id, data, **options))
        return self.status()

    def echo(self, context_id: int = 1) -> int:
        self.send(p_data(pdv(context_id, 3, c_echo_rq())))
        return self.status()

    def release(self) -> None:
        self.send(RELEASE_RQ)
        assert self.pdu()[0] == 6
        self.close()


class Rejected(Exception):
    """(result, source, reason) of an A-ASSOCIATE-RJ."""


def image(**changes: Any) -> Dataset:
    """A small MR image; None removes an element."""
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = "MR"
    ds.PatientID = "TEST"
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = bytes(16 * 16 * 2)
    for name, value in changes.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def encode(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set in a transfer syntax."""
    uid = UID(syntax)
    fp = DicomBytesIO()
    fp.is_implicit_VR = uid == ImplicitVRLittleEndian
    fp.is_little_endian = uid != ExplicitVRBigEndian
    if "PixelData" in ds:
        ds["PixelData"].VR = "OW"
    write_dataset(fp, ds)
    data: bytes = fp.getvalue()
    if uid == DeflatedExplicitVRLittleEndian:
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = compressor.compress(data) + compressor.flush()
    return data
