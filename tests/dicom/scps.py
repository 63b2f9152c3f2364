"""Peers that behave as a test says: an SCP with scripted answers, and a TCP server that speaks no DICOM."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.events import Event
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext

from qc_node.dicom.uids import VERIFICATION
from tests.peers.process import find_free_port
from tests.report.sources import as_bytes, report


@contextmanager
def scripted_scp(
    store: Callable[[Event], Dataset | int] = lambda event: 0x0000,
    *,
    contexts: Sequence[PresentationContext] = AllStoragePresentationContexts,
    **options: object,
) -> Iterator[int]:
    """A pynetdicom SCP whose C-STORE answers come from `store`."""
    ae = AE("PACS")
    for context in contexts:
        assert context.abstract_syntax is not None
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context(VERIFICATION)
    for name, value in options.items():
        setattr(ae, name, value)
    port = find_free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        yield port
    finally:
        server.shutdown()


@contextmanager
def raw_tcp(behave: Callable[[socket.socket], object]) -> Iterator[int]:
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
