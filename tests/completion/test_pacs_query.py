"""What the PACS counts, and that nothing it does keeps us waiting."""

from __future__ import annotations

import socket
import time
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.completion.pacs_query import QUERY_TIMEOUTS, series_count
from qc_node.dicom.association import Timeouts
from tests.peers import Orthanc, find_free_port
from tests.peers.fixtures import PeerAt
from tests.receiver.wire_peer import image


def quick(seconds: float) -> Timeouts:
    return Timeouts(seconds, seconds, seconds, seconds)


@pytest.mark.peer
def test_orthanc_counts_what_it_has(orthanc: Orthanc, peer_at: PeerAt) -> None:
    study, series = "1.2.3", "1.2.3.4"

    def ask(series_uid: str = series) -> int | None:
        return series_count(peer_at(orthanc.port, orthanc.ae_title, timeouts=QUERY_TIMEOUTS), study, series_uid)

    assert ask() == 0
    for count in (1, 2, 3):
        ds = image(StudyInstanceUID=study, SeriesInstanceUID=series)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
        orthanc.upload(buffer.getvalue())
        assert ask() == count
    assert ask("1.2.3.5") == 0


def test_a_pacs_that_is_not_there_says_nothing(peer_at: PeerAt) -> None:
    assert series_count(peer_at(find_free_port(), timeouts=quick(1.0)), "1.2", "1.3") is None


def test_a_pacs_that_accepts_and_is_silent_is_given_up(peer_at: PeerAt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        pacs = peer_at(silent.getsockname()[1], timeouts=quick(0.5))
        assert series_count(pacs, "1.2", "1.3") is None
        assert time.monotonic() - began < 10
