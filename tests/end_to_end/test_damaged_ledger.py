"""A ledger that is damaged while a real node runs: the alert fires, the next start says what to do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.node_process import NodeProcess, ct_sample, write_series
from tests.ledger.damaged import overwrite, pages_of
from tests.peers import store, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path / "node", None)
    yield node
    node.stop()


def ledger_check(node: NodeProcess) -> str:
    status, text = node.get("/healthz")
    codes = {check["name"]: check["code"] for check in json.loads(text)["checks"]}
    assert status == (200 if set(codes.values()) == {"ok"} else 503)
    return str(codes["ledger"])


def test_damage_shows_in_health_metrics_log_and_at_the_next_start(node: NodeProcess, tmp_path: Path) -> None:
    node.start()
    write_series(ct_sample(4), tmp_path / "ct")
    assert store([tmp_path / "ct"], node.port).ok
    wait_for(lambda: node.ledger().series.counts() == {"reported": 1}, 60)
    assert ledger_check(node) == "ok"
    path = node.data_dir / "ledger.sqlite"
    with closing(node.ledger()) as ledger:
        wait_for(lambda: ledger.db.value("PRAGMA wal_checkpoint(TRUNCATE)") == 0, 30)
        for table in ("series", "studies"):
            for page in pages_of(path, table):
                overwrite(path, page)
        ledger.prove_writable()  # another writer: what the node has in its memory of these pages is old now

    wait_for(lambda: ledger_check(node) == "ledger_damaged", 60)
    assert 'qc_node_check_ok{check="ledger"} 0.0' in node.metrics()
    assert f"The ledger {path} is damaged" in node.log.read_text()
    status, text = node.get("/api/review")
    assert status == 503 and "The ledger cannot be used now" in text
    node.kill()

    node.start(wait=False)
    wait_for(node.dead, 60)
    assert node.process is not None and node.process.returncode == 1
    last = node.log.read_text().splitlines()[-1]
    assert last.startswith(f"qc-node: The ledger {path} is damaged") and "qc-node restore" in last


def is_reported(node: NodeProcess) -> bool:
    with closing(node.ledger()) as ledger:
        return ledger.series.counts() == {"reported": 1}


def test_a_ledger_that_lost_its_log_is_an_older_one_and_its_images_are_taken_in_again(
    node: NodeProcess, tmp_path: Path
) -> None:
    """What is left after ``cp ledger.sqlite`` of a running node, or when a tool deletes the -wal file."""
    node.start()
    paths = write_series(ct_sample(6), tmp_path / "ct")
    assert store([tmp_path / "ct"], node.port).ok
    wait_for(lambda: is_reported(node), 60)
    with closing(node.ledger()) as ledger:
        before = ledger.db.tuples("SELECT sop_instance_uid, path FROM instances ORDER BY path")
        reports = ledger.db.tuples("SELECT sop_instance_uid FROM reports")
    node.kill()
    for suffix in ("-wal", "-shm"):
        (node.data_dir / f"ledger.sqlite{suffix}").unlink()
    with closing(sqlite3.connect(node.data_dir / "ledger.sqlite")) as conn:
        assert conn.execute("SELECT count(*) FROM instances").fetchone()[0] < len(paths)

    node.start()
    wait_for(lambda: is_reported(node), 60)
    with closing(node.ledger()) as ledger:
        assert ledger.db.tuples("SELECT sop_instance_uid, path FROM instances ORDER BY path") == before
        assert ledger.db.tuples("SELECT sop_instance_uid FROM reports") == reports, "under the same UID"
