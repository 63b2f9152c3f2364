"""A backup under load, the node killed, the backup put back elsewhere: what was answered before is there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt

from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.peers import Orthanc, find_free_port, store, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.slow]

IMAGES = 12
SERIES = 20


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    nodes: list[NodeProcess] = []

    def make(pacs: tuple[str, int] | None, **options: Any) -> NodeProcess:
        nodes.append(NodeProcess(tmp_path / f"node-{len(nodes)}", pacs, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop()


def qc_node(node: NodeProcess, *words: str) -> str:
    """A command with the configuration of `node`, as an operator gives it."""
    arguments = [sys.executable, "-m", "qc_node", *words, "--config", str(node.config)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def known(node: NodeProcess) -> dict[str, str]:
    """SOP Instance UID → name of the file, of every image in the ledger."""
    with closing(node.ledger()) as ledger:
        return dict(ledger.db.tuples("SELECT sop_instance_uid, path FROM instances WHERE superseded_at IS NULL"))


def finished(node: NodeProcess) -> set[str]:
    """UIDs of the images whose report is out."""
    with closing(node.ledger()) as ledger:
        sql = "SELECT sop_instance_uid FROM instances JOIN series USING (series_id) WHERE state = 'reported'"
        return {uid for (uid,) in ledger.db.tuples(sql)}


def reported(pacs: Orthanc) -> dict[str, set[str]]:
    """Series → the images that its last report speaks of."""
    found: dict[str, set[str]] = {}
    for report in pacs.received(modality="SR"):
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        images = {str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence}
        uid = str(series.SeriesInstanceUID)
        found[uid] = max(images, found.get(uid, set()), key=len)
    return found


def all_sent(node: NodeProcess, series: int) -> bool:
    with closing(node.ledger()) as ledger:
        states = ledger.series.counts()
        return states == {"reported": series} and set(ledger.deliveries.counts()) == {"sent"}


class Stream:
    """A scanner that sends series after series, and again what was not taken."""

    def __init__(self, folders: list[Path], port: int) -> None:
        self._folders, self._port = folders, port
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for folder in self._folders:
            store([folder], self._port)

    def join(self) -> None:
        self._thread.join()


@pytest.mark.parametrize("switches", [(), ("--all-images", "--training")], ids=["what is owed", "everything"])
def test_a_backup_under_load_brings_back_all_that_was_answered_before_it(
    switches: tuple[str, ...], make_node: Callable[..., NodeProcess], orthanc: Orthanc, tmp_path: Path
) -> None:
    sent: dict[str, set[str]] = {}
    folders = [tmp_path / f"ct{number:02}" for number in range(SERIES)]
    for number, folder in enumerate(folders):
        headers = [pydicom.dcmread(path) for path in write_series(ct_sample(IMAGES, seed=number), folder)]
        sent[str(headers[0].SeriesInstanceUID)] = {str(ds.SOPInstanceUID) for ds in headers}
    node = make_node((orthanc.ae_title, orthanc.port)).start()
    stream = Stream(folders, node.port)
    wait_for(lambda: len(known(node)) > 2 * IMAGES and finished(node), 90)
    before = known(node)  # no fewer than were answered
    out_before = finished(node)
    said = qc_node(node, "backup", str(tmp_path / "backup"), *switches)
    assert said.startswith("Backup of ")
    in_backup = json.loads((tmp_path / "backup" / "manifest.json").read_text())["counts"]["instances"]
    wait_for(lambda: len(known(node)) > in_backup, 60)  # images were in flight when the copy was made
    node.kill()
    stream.join()

    new = make_node((orthanc.ae_title, orthanc.port))
    assert "is as it was at" in qc_node(new, "restore", str(tmp_path / "backup"))
    back = known(new)
    assert back.keys() >= before.keys() and len(back) == in_backup
    owed = set(back) - finished(new)
    assert set(before) - finished(new) <= owed
    kept = set(back) if switches else owed
    assert [uid for uid in kept if not (new.data_dir / back[uid]).is_file()] == []

    new.start()
    for folder in folders:  # everything once more: known images are duplicates, the others are kept
        assert store([folder], new.port).ok
    wait_for(lambda: all_sent(new, SERIES), 120)
    assert set(known(new)) == set().union(*sent.values())
    assert reported(orthanc) == sent
    with closing(new.ledger()) as ledger:
        assert not ledger.db.value("SELECT count(*) FROM deliveries WHERE state != 'sent'")
        uids = [uid for (uid,) in ledger.db.tuples("SELECT sop_instance_uid FROM reports")]
    assert len(uids) == len(set(uids)) and out_before <= set().union(*sent.values())


class Pacs:
    """A PACS that notes what came, answers a second time with 0x0111, and can be away."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self.came: list[tuple[str, int]] = []
        self._ae = AE("PACS")
        self._ae.add_supported_context("1.2.840.10008.5.1.4.1.1.88.33")
        self._ae.add_supported_context("1.2.840.10008.1.1")

    def open(self) -> None:
        self._server = self._ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._stored)]
        )

    def close(self) -> None:
        assert self._server is not None
        self._server.shutdown()

    def _stored(self, event: evt.Event) -> int:
        uid = str(event.dataset.SOPInstanceUID)
        status = 0x0111 if uid in {known for known, _ in self.came} else 0x0000
        self.came.append((uid, status))
        return status


def test_a_report_that_left_after_the_backup_is_sent_again_under_its_uid_and_counts_as_sent(
    make_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    pacs = Pacs()
    node = make_node(("PACS", pacs.port)).start()
    write_series(ct_sample(4), tmp_path / "ct")
    assert store([tmp_path / "ct"], node.port).ok
    wait_for(lambda: node.ledger().deliveries.counts() == {"pending": 1}, 60)
    qc_node(node, "backup", str(tmp_path / "backup"))
    pacs.open()
    try:
        wait_for(lambda: node.ledger().deliveries.counts() == {"sent": 1}, 90)
        node.kill()
        new = make_node(("PACS", pacs.port))
        qc_node(new, "restore", str(tmp_path / "backup"))
        assert new.ledger().deliveries.counts() == {"pending": 1}
        new.start()
        wait_for(lambda: new.ledger().deliveries.counts() == {"sent": 1}, 90)
        ((first, stored), (again, duplicate)) = pacs.came
        assert first == again and (stored, duplicate) == (0x0000, 0x0111)
    finally:
        pacs.close()


def test_a_ledger_that_was_damaged_is_put_back_beside_the_images_that_came_since(
    make_node: Callable[..., NodeProcess], orthanc: Orthanc, tmp_path: Path
) -> None:
    node = make_node((orthanc.ae_title, orthanc.port)).start()
    write_series(ct_sample(4, seed=1), tmp_path / "before")
    assert store([tmp_path / "before"], node.port).ok
    wait_for(lambda: all_sent(node, 1), 60)
    qc_node(node, "backup", str(tmp_path / "backup"))
    write_series(ct_sample(4, seed=2), tmp_path / "since")
    assert store([tmp_path / "since"], node.port).ok
    wait_for(lambda: all_sent(node, 2), 60)
    received = known(node)
    node.kill()
    (node.data_dir / "ledger.sqlite").write_bytes(b"\xa5" * 8192)
    node.start(wait=False)
    wait_for(node.dead, 60)
    assert "is damaged" in node.log.read_text()

    said = qc_node(node, "restore", str(tmp_path / "backup"), "--replace-ledger")
    assert "The ledger that was there is now" in said
    node.start()
    wait_for(lambda: all_sent(node, 2), 60)
    assert known(node) == received, "images that came after the backup are taken in again"
    assert len(orthanc.received(modality="SR")) == 2, "and reported under the same UID"
