"""The doctor says what a destination takes, and what to set because of it: asked of real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset

from qc_node.cli.main import main_group
from qc_node.config import Settings, load
from qc_node.dicom.association import accepted
from qc_node.dicom.part10 import StoredObject, open_object
from qc_node.dicom.uids import SR_CLASSES, STORAGE_COMMITMENT
from qc_node.operations.diagnosis import Level
from qc_node.operations.offers import KEY_OBJECT, SECONDARY_CAPTURE, WORDS, advice
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.outbox.transport.interface import TransportStatus
from tests.peers.fixtures import PeerAt, StartOrthanc, StartStoreScp
from tests.report.sources import as_bytes, report

PEER = '[[peer]]\nname = "PACS"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\nrole = ["send"]\n'


def settings(tmp_path: Path, text: str = "", peer: str = "") -> Settings:
    path = tmp_path / "qc-node.toml"
    path.write_text(PEER.format(port=104) + peer + '[pacs]\ndestination = "PACS"\n' + text)
    return load(path, {})


def said(configured: Settings, *taken: str) -> dict[Level, list[str]]:
    found: dict[Level, list[str]] = {}
    for diagnosis in advice(configured, configured.peer[0], taken):
        found.setdefault(diagnosis.level, []).append(diagnosis.sentence)
    return found


# -- what follows ------------------------------------------------------------------------------------
def test_a_destination_that_takes_everything_needs_no_advice(tmp_path: Path) -> None:
    asked = settings(tmp_path, 'flag_object = true\nsummary = "all"\n')
    takes = (
        "PACS takes Comprehensive SR, Comprehensive 3D SR, Basic Text SR, Secondary Capture, Key Object Selection"
    )
    assert said(asked, *WORDS) == {Level.OK: [f"{takes} and Storage Commitment."]}


def test_one_that_takes_basic_text_only_is_told_so_with_the_key(tmp_path: Path) -> None:
    found = said(settings(tmp_path), SR_CLASSES["basic-text"], STORAGE_COMMITMENT)
    assert found[Level.FAULT] == [
        "PACS does not take Comprehensive SR, so no report will arrive. It takes Basic Text SR only: set [pacs]"
        ' sr_class = "basic-text".'
    ]
    own = settings(tmp_path, peer='sr_class = "comprehensive3d"\n')
    (sentence,) = said(own, SR_CLASSES["comprehensive"], SR_CLASSES["basic-text"])[Level.FAULT]
    assert "does not take Comprehensive 3D SR" in sentence
    assert sentence.endswith('Comprehensive SR and Basic Text SR: set [[peer]] PACS sr_class = "comprehensive".')


def test_one_that_takes_no_report_cannot_be_helped_by_a_key(tmp_path: Path) -> None:
    (sentence,) = said(settings(tmp_path), SECONDARY_CAPTURE)[Level.FAULT]
    assert sentence.startswith("PACS takes no Structured Report of ours") and "ask its administrator" in sentence


def test_what_is_switched_on_and_not_taken_is_a_warning_with_its_key(tmp_path: Path) -> None:
    taken = (SR_CLASSES["comprehensive"],)
    on = settings(tmp_path, 'flag_object = true\nsummary = "attention-only"\nstorage_commitment = true\n')
    pictures, flags, commitment = said(on, *taken)[Level.WARNING]
    assert "does not take Secondary Capture" in pictures and 'set [pacs] summary = "none"' in pictures
    assert "set [pacs] flag_object = false" in flags
    assert "set [pacs] storage_commitment = false" in commitment
    off = settings(tmp_path, "storage_commitment = false\n")
    assert said(off, *taken) == {Level.OK: ["PACS takes Comprehensive SR."]}


# -- asked of real ones ------------------------------------------------------------------------------
def doctor(tmp_path: Path, port: int, free_port: Callable[[], int], text: str = "") -> Result:
    path = tmp_path / "qc-node.toml"
    ports = "".join(f"[{section}]\nport = {free_port()}\n" for section in ("web", "metrics"))
    node = f'[node]\ndata_dir = "{tmp_path / "data"}"\nport = {free_port()}\naccept_unknown_callers = true\n'
    path.write_text(node + ports + PEER.format(port=port) + f'[pacs]\ndestination = "PACS"\n{text}')
    return CliRunner().invoke(main_group, ["doctor", "--config", str(path)])


@pytest.mark.peer
def test_dcmtk_with_a_profile_of_basic_text_only(
    start_storescp: StartStoreScp, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    pacs = start_storescp(only=[SR_CLASSES["basic-text"]])
    told = doctor(tmp_path, pacs.port, free_port, 'summary = "all"\n')
    assert told.exit_code == 1
    assert "PACS takes Basic Text SR." in told.output
    assert 'It takes Basic Text SR only: set [pacs] sr_class = "basic-text".' in told.output
    assert "PACS does not take Secondary Capture, so summary pictures will fail" in told.output
    heeded = doctor(tmp_path, pacs.port, free_port, 'sr_class = "basic-text"\nstorage_commitment = false\n')
    assert heeded.exit_code == 0, heeded.output
    assert "PACS does not" not in heeded.output
    assert not pacs.received_files()


def stored(tmp_path: Path, ds: Dataset) -> StoredObject:
    path = tmp_path / f"{ds.SOPInstanceUID}.dcm"
    path.write_bytes(as_bytes(ds))
    return open_object(path)


@pytest.mark.peer
def test_a_pacs_of_basic_text_gets_that_and_nothing_in_place_of_what_it_refuses(
    start_storescp: StartStoreScp, peer_at: PeerAt, tmp_path: Path
) -> None:
    pacs = start_storescp(only=[SR_CLASSES["basic-text"]])
    usual, basic = report(summary="S."), report(summary="S.", sr_class="basic-text")
    transport = DimseTransport(peer_at(pacs.port))
    (refused,) = transport.store([stored(tmp_path, usual)])
    assert refused.status is TransportStatus.REFUSED and "Comprehensive SR" in refused.sentence
    assert pacs.received_files() == []
    (taken,) = transport.store([stored(tmp_path, basic)])
    assert taken.status is TransportStatus.STORED
    assert pacs.received_uids() == [str(basic.SOPInstanceUID)]
    assert as_bytes(basic)[-100:] == pacs.received_files()[0].read_bytes()[-100:]


@pytest.mark.peer
def test_dcmtk_that_takes_none_of_ours_still_answers(start_storescp: StartStoreScp, peer_at: PeerAt) -> None:
    pacs = start_storescp(only=["1.2.840.10008.5.1.4.1.1.2"])
    assert accepted(peer_at(pacs.port), WORDS) == frozenset()


@pytest.mark.peer
def test_orthanc_takes_all_of_it(start_orthanc: StartOrthanc, peer_at: PeerAt) -> None:
    assert accepted(peer_at(start_orthanc().port, "ORTHANC"), WORDS) == set(WORDS)
    assert KEY_OBJECT in WORDS
