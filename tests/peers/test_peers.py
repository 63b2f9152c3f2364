"""The peers themselves: they start, receive, and go away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.peers import Orthanc, StoreScp, dcmtk
from tests.peers.process import find_free_port, is_listening, require, wait_for


def _mr() -> Path:
    return Path(str(get_testdata_file("MR_small.dcm")))


@pytest.mark.peer
def test_orthanc_receives_and_keeps_its_data_over_a_restart(orthanc: Orthanc) -> None:
    assert dcmtk.echo(orthanc.port, called="ORTHANC").ok
    assert dcmtk.store([_mr()], orthanc.port, called="ORTHANC").ok
    (uid,) = wait_for(orthanc.received_uids)
    assert [str(ds.SOPInstanceUID) for ds in orthanc.received(modality="MR")] == [uid]
    assert orthanc.received_uids(modality="SR") == []
    orthanc.stop()
    assert not is_listening(orthanc.port)
    orthanc.start()
    assert orthanc.received_uids() == [uid]


@pytest.mark.peer
def test_storescp_receives_and_obeys_its_fault_switches(start_storescp: Callable[..., StoreScp]) -> None:
    scp = start_storescp()
    assert dcmtk.store([_mr()], scp.port, called="STORESCP").ok
    assert len(scp.received_uids()) == 1
    refusing = start_storescp("--refuse")
    assert not dcmtk.store([_mr()], refusing.port).ok
    assert refusing.received_files() == []


def test_missing_programs_skip_here_and_fail_where_they_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QC_NODE_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        require("no-such-program")
    monkeypatch.setenv("QC_NODE_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require("no-such-program")


def test_wait_for_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"still \[\]"):
        wait_for(lambda: [], timeout=0.1)
    assert not is_listening(find_free_port())


def test_no_two_free_ports_are_the_same() -> None:
    found = [find_free_port() for _ in range(50)]
    assert len(set(found)) == 50
    assert max(found) < 32_768, "the kernel gives higher ones to outgoing connections"
