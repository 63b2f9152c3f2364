"""A ledger of 0.1.0 becomes one of 0.2: nothing is lost, nothing is doubled, whatever is killed when."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest

from qc_node.dicom.association import Peer
from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.database import schema_of
from qc_node.ledger.migrations import MIGRATIONS, RELEASED_0_1_0
from qc_node.ledger.upgrade import CHUNK, GONE_STRANGER, Upgrade
from qc_node.outbox.sending import Destination, Outbox
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.spool import Spool
from tests.dicom.scps import scripted_scp
from tests.ledger.old_ledger import PER_SERIES, write_fixture, write_large
from tests.report.sources import as_bytes, report

CRASH = Path(__file__).parent.parent / "end_to_end" / "crash"
REPAIRED = {2: 1, 4: 3, 5: 3, 8: 7}
"""Votes of the fixture that only added reasons to a blind one, and the one whose time and blindness they get."""
STAYED = (
    "id", "key", "reader_id", "study_uid", "series_uid", "accession_number", "site", "modality", "vote",
    "received_at", "source", "presentation", "replaces", "sop_instance_uid",
)  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The ledger that 0.1.0 wrote."""
    return write_fixture(tmp_path / "ledger.sqlite")


def rows(path: Path, sql: str) -> list[dict[str, Any]]:
    """What a query gives, without opening the file as a ledger."""
    with closing(sqlite3.connect(path)) as conn:
        conn.row_factory = sqlite3.Row
        return [dict(row) for row in conn.execute(sql)]


def dump(path: Path) -> str:
    """Everything in a file, as SQL."""
    with closing(sqlite3.connect(path)) as conn:
        return "\n".join(conn.iterdump())


def digest(votes: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([[row[c] for c in columns] for row in votes]).encode()).hexdigest()


# -- what stays --------------------------------------------------------------------------------------
def test_every_series_and_study_keeps_its_state(old: Path) -> None:
    columns = (
        "study_uid, series_uid, modality, calling_ae, first_received, last_received, expected, expected_rule,"
    )
    columns += (
        " pacs_count, pacs_count_since, pacs_asked_at, run, state, due_at, closed_by, closed_at, claimed_at,"
    )
    columns += " attempts, stage, sentence, claims, images_removed_at"
    before = rows(old, f"SELECT {columns} FROM series ORDER BY rowid")
    studies = rows(old, "SELECT * FROM studies ORDER BY study_uid")
    ledger = Ledger(old)
    assert rows(old, f"SELECT {columns} FROM series ORDER BY series_id")[: len(before)] == before
    assert {row["state"] for row in before} == {
        "receiving", "queued", "judging", "judged", "skipped", "failed", "reported",
    }  # fmt: skip
    assert [{**row, "patient": None, "notes": "[]"} for row in studies] == rows(
        old, "SELECT * FROM studies ORDER BY study_uid"
    )
    assert ledger.series.requeue_claimed(3, 1e10) == 1, "what was being judged goes back into the queue"


def test_instances_keep_their_order_and_objects_their_handling(old: Path) -> None:
    before = rows(old, "SELECT rowid AS id, * FROM instances ORDER BY rowid")
    ledger = Ledger(old)
    after = rows(old, "SELECT * FROM instances ORDER BY instance_id")
    same = (
        "sop_instance_uid",
        "sop_class_uid",
        "transfer_syntax_uid",
        "calling_ae",
        "path",
        "bytes",
        "received_at",
    )
    assert [[row[c] for c in same] for row in after] == [[row[c] for c in same] for row in before]
    assert {(r["version"], r["digest"], r["superseded_at"]) for r in after} == {(1, None, None)}
    assert [r["series_id"] is not None for r in after] == [bool(r["opens_series"]) for r in before]
    handled = {r["sop_instance_uid"]: r["handled"] for r in before if not r["opens_series"]}
    joined = (
        "SELECT sop_instance_uid, handled, study_uid, series_uid FROM objects JOIN instances USING (instance_id)"
    )
    objects = rows(old, joined)
    assert {r["sop_instance_uid"]: r["handled"] for r in objects} == handled
    assert {r["study_uid"] for r in objects} == {r["study_uid"] for r in before if not r["opens_series"]}
    assert [r["handled"] for r in ledger.instances.unhandled_objects()] == [0]


def test_images_that_were_hidden_in_another_studys_series_get_their_own(old: Path) -> None:
    uid = "1.2.826.0.1.3680043.10.999.1.11"
    (before,) = rows(old, f"SELECT instances FROM series WHERE series_uid = '{uid}'")
    ledger = Ledger(old)
    first = ledger.series.find("1.2.826.0.1.3680043.10.999.11", uid)
    second = ledger.series.find("1.2.826.0.1.3680043.10.999.12", uid)
    assert first is not None and second is not None
    assert (before["instances"], first["instances"], second["instances"]) == (5, 3, 2)
    assert (first["state"], second["state"], second["run"], second["due_at"]) == ("reported", "receiving", 1, 0.0)
    assert len(ledger.instances.of_series(first["series_id"])) == 3
    assert len(ledger.instances.of_series(second["series_id"])) == 2
    gone = ledger.series.find("1.2.826.0.1.3680043.10.999.13", "1.2.826.0.1.3680043.10.999.1.10")
    assert gone is not None and (gone["state"], gone["sentence"]) == ("skipped", GONE_STRANGER)


def test_verdicts_history_and_models_stay(old: Path) -> None:
    tables = {name: rows(old, f"SELECT * FROM {name} ORDER BY rowid") for name in ("events", "verdicts", "models")}
    ledger = Ledger(old)
    uids = {row["series_id"]: row["series_uid"] for row in rows(old, "SELECT series_id, series_uid FROM series")}
    for name in ("events", "verdicts"):
        after = rows(old, f"SELECT * FROM {name} ORDER BY id")
        for row in after:
            row["series_uid"] = uids[row.pop("series_id")]
            assert row.pop("routed", 1) == 1
        assert after == tables[name]
    assert [dict(row) for row in ledger.models.all()] == tables["models"]
    series = ledger.series.get("1.2.826.0.1.3680043.10.999.1.5")
    assert series is not None
    verdict = ledger.verdicts.get(series["series_id"])
    assert verdict is not None and verdict["run"] == 2
    assert [v["run"] for v in ledger.verdicts.of(series["series_id"], 1)] == [1]


def test_deliveries_keep_their_state_and_open_transactions_still_count(old: Path) -> None:
    before = rows(old, "SELECT * FROM deliveries ORDER BY id")
    reports = rows(old, "SELECT * FROM reports ORDER BY sop_instance_uid")
    ledger = Ledger(old)
    after = rows(old, "SELECT * FROM deliveries ORDER BY id")
    moved = ("transaction_uid", "commitment_asked_at")
    assert after == [{k: v for k, v in row.items() if k not in moved} for row in before]
    assert {row["state"] for row in after} == {"pending", "sent", "committed", "failed"}
    asked = {
        row["id"]: (row["transaction_uid"], row["commitment_asked_at"]) for row in before if row["transaction_uid"]
    }
    found = {row["delivery_id"]: row for row in rows(old, "SELECT * FROM commitments")}
    assert {n: (row["transaction_uid"], row["asked_at"]) for n, row in found.items()} == asked
    for row in before:
        if row["id"] in found:
            assert found[row["id"]]["outcome"] == ("committed" if row["state"] == "committed" else None)
    same = ("sop_instance_uid", "sop_class_uid", "study_uid", "run", "kind", "path", "predecessor", "created_at")
    carried = rows(old, "SELECT * FROM reports ORDER BY sop_instance_uid")
    assert [[row[c] for c in same] for row in carried] == [[row[c] for c in same] for row in reports]
    (waiting,) = [row for row in before if row["transaction_uid"] == "2.25.1002"]
    assert ledger.deliveries.committed(waiting["sop_instance_uid"], "2.25.1002", 1.8e9)


def test_alarms_labels_prompts_gradings_marks_and_cases_stay(old: Path) -> None:
    names = ("alarms", "labels", "prompts", "gradings", "marks", "presentations", "verdict_views", "quarantine",
             "readers", "cases")  # fmt: skip
    before = {name: rows(old, f"SELECT * FROM {name} ORDER BY 1, 2") for name in names}
    assert all(before.values()), "the fixture has rows of every kind"
    Ledger(old)
    uids = {row["series_id"]: row["series_uid"] for row in rows(old, "SELECT series_id, series_uid FROM series")}
    for name in names:
        after = rows(old, f"SELECT * FROM {name} ORDER BY 1, 2")
        for row, was in zip(after, before[name], strict=True):
            if name in ("alarms", "labels", "prompts"):
                row["series_uid"] = uids.get(row.pop("series_id"))
            if name == "alarms":
                assert (row.pop("kind"), row.pop("station")) == ("verdict", was["calling_ae"])
                assert (row.pop("vote_id"), row.pop("answer")) == (None, None)
            if name == "gradings":
                assert row.pop("verdict_visible") is None
                assert uids.get(row.pop("series_id")) == (
                    None if was["series_uid"] == "1.9.9.9" else was["series_uid"]
                )
            if name == "cases" and was["series_uid"]:
                assert row["subject"] == f"series:{was['study_uid']}/{was['series_uid']}"
                row["subject"] = was["subject"]
            assert row == was


# -- votes -------------------------------------------------------------------------------------------
def test_votes_keep_count_digest_reasons_and_order(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = rows(old, "SELECT * FROM votes ORDER BY id")
    roles = {row["reader_id"]: row["role"] for row in rows(old, "SELECT * FROM readers")}
    with caplog.at_level(logging.INFO, "qc_node.ledger"):
        ledger = Ledger(old)
    after = [dict(row) for row in ledger.votes.all()]
    assert len(after) == len(before) == ledger.votes.count() == 18
    assert digest(after, STAYED) == digest(before, STAYED)
    assert [row["reasons"] for row in after] == [row["reasons"] for row in before]
    assert [row["role"] for row in after] == [roles[row["reader_id"]] for row in before]
    assert len(rows(old, "SELECT id FROM votes")) == 16
    assert [row["id"] for row in rows(old, "SELECT id FROM vote_acts WHERE kind = 'withdrawal'")] == [9, 11]
    assert any("repaired from the vote they replaced: 4" in line for line in caplog.messages)


def test_only_votes_that_a_reason_made_non_blind_are_repaired(old: Path) -> None:
    repaired = ("voted_at", "ms_to_vote", "verdict_visible")
    before = {row["id"]: row for row in rows(old, "SELECT * FROM votes")}
    after = {row["id"]: row for row in Ledger(old).votes.all()}
    for number, row in after.items():
        source = before[REPAIRED.get(number, number)]
        assert [row[c] for c in repaired] == [source[c] for c in repaired], number  # type: ignore[literal-required]
    assert all(before[n]["verdict_visible"] and not after[n]["verdict_visible"] for n in REPAIRED)


def test_a_withdrawal_of_a_withdrawal_is_carried_over(old: Path) -> None:
    """0.1.0 took such a row from an import; it had no effect."""
    with closing(sqlite3.connect(old)) as conn:
        conn.execute(
            "INSERT INTO votes (key, reader_id, study_uid, site, modality, vote, voted_at, received_at, source,"
            " verdict_visible, replaces) SELECT 'again', reader_id, study_uid, site, modality, vote, voted_at,"
            " received_at, 'import', 0, id FROM votes WHERE id = 11"
        )
        conn.commit()
    ledger = Ledger(old)
    assert ledger.votes.count() == 19
    assert [act["kind"] for act in ledger.votes.acts_of(10)] == ["withdrawal", "withdrawal"]


# -- what waits is sent as it is ---------------------------------------------------------------------
def test_pending_reports_are_sent_byte_identical_under_their_uids(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    path = write_fixture(tmp_path / "ledger.sqlite")
    waiting = rows(
        path,
        "SELECT d.id, r.path, r.sop_instance_uid FROM deliveries AS d JOIN reports AS r USING (sop_instance_uid)"
        " WHERE d.state = 'pending' AND destination = 'PACS' ORDER BY d.id",
    )
    assert len(waiting) > 2
    for row in waiting:
        ds = pydicom.dcmread(io.BytesIO(as_bytes(report())))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = row["sop_instance_uid"]
        spool.store(row["path"], as_bytes(ds))
    files = {row["sop_instance_uid"]: spool.path(row["path"]).read_bytes() for row in waiting}
    ledger = Ledger(path)
    got: list[tuple[str, bytes]] = []

    def keep(event: Any) -> int:
        got.append((str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()))
        return 0x0000

    with scripted_scp(keep) as port:
        pacs = DimseTransport(Peer("PACS", "PACS", "127.0.0.1", port, "QCNODE"))
        outbox = Outbox(ledger, spool, [Destination(pacs, storage_commitment=False)], wall=lambda: 2e9)
        while (due := outbox.step(2e9)) is not None:
            assert due <= 2e9
    assert [uid for uid, _ in got] == [row["sop_instance_uid"] for row in waiting], "each once, in order"
    assert all(files[uid].endswith(data) for uid, data in got)
    assert {row["sop_instance_uid"]: spool.path(row["path"]).read_bytes() for row in waiting} == files
    ledger.close()


# -- the way back ------------------------------------------------------------------------------------
def test_the_copy_is_the_old_ledger_complete(old: Path) -> None:
    before = dump(old)
    Ledger(old).close()
    copy = old.with_name("ledger-0.1.0.sqlite")
    assert schema_of(copy) == RELEASED_0_1_0 and schema_of(old) == len(MIGRATIONS)
    assert dump(copy) == before
    assert not old.with_name("ledger-0.1.0.part").exists()


def test_what_0_1_0_had_not_brought_into_the_file_yet_is_in_the_copy(old: Path) -> None:
    """A killed 0.1.0 leaves its last rows in the write-ahead log."""
    code = (
        "import os, signal, sqlite3, sys\n"
        "conn = sqlite3.connect(sys.argv[1])\n"
        "conn.execute(\"UPDATE studies SET description = 'only in the log' WHERE accession_number = 'A-1001'\")\n"
        "conn.commit()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(old)], check=False)
    assert Path(f"{old}-wal").stat().st_size > 0
    ledger = Ledger(old)
    copied = rows(old.with_name("ledger-0.1.0.sqlite"), "SELECT * FROM studies WHERE accession_number = 'A-1001'")
    assert [row["description"] for row in copied] == ["only in the log"]
    assert ledger.studies.by_accession("A-1001")[0]["description"] == "only in the log"


def test_an_earlier_copy_is_never_overwritten(old: Path) -> None:
    first = old.with_name("ledger-0.1.0.sqlite")
    first.write_bytes(b"the copy of an earlier upgrade; 0.1.0 ran again since then")
    old.with_name("ledger-0.1.0.part").write_bytes(b"half a copy")
    before = dump(old)
    Ledger(old).close()
    assert first.read_bytes().startswith(b"the copy of an earlier upgrade")
    assert dump(old.with_name("ledger-0.1.0-2.sqlite")) == before


def test_a_new_ledger_makes_no_copy_and_has_the_same_schema_as_an_upgraded_one(old: Path, tmp_path: Path) -> None:
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    Ledger(old).close()
    new = tmp_path / "new" / "ledger.sqlite"
    new.parent.mkdir()
    Ledger(new).close()
    assert rows(new, sql) == rows(old, sql)
    assert [p.name for p in new.parent.iterdir() if "0.1.0" in p.name] == []


def test_a_ledger_that_would_lose_a_row_is_refused_and_stays(old: Path) -> None:
    with closing(sqlite3.connect(old)) as conn:
        conn.execute("INSERT INTO events (series_uid, run, at, event) VALUES ('9.9', 1, 1.0, 'closed')")
        conn.commit()
    before = dump(old)
    with pytest.raises(QcNodeError, match=r"stays as it is: of \d+ rows of events only"):
        Ledger(old)
    assert schema_of(old) == RELEASED_0_1_0 and dump(old) == before


# -- kill -9 -----------------------------------------------------------------------------------------
STEPS = [name for name in vars(Upgrade) if not name.startswith("_") and name != "run"]


@pytest.mark.parametrize(
    ("step", "when"), [("copy", "before"), *((step, "after") for step in STEPS)], ids=lambda value: str(value)
)
def test_a_kill_at_any_step_of_the_upgrade_loses_and_doubles_nothing(step: str, when: str, tmp_path: Path) -> None:
    calm, path = write_fixture(tmp_path / "calm.sqlite"), write_fixture(tmp_path / "ledger.sqlite")
    Ledger(calm).close()
    flag = tmp_path / "killed"
    open_it = "import sys; from pathlib import Path; from qc_node.ledger import Ledger; Ledger(Path(sys.argv[1]))"
    child = subprocess.run(
        [sys.executable, "-c", open_it, str(path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(CRASH), *sys.path]),
            "QC_TEST_CRASH": f"qc_node.ledger.upgrade:Upgrade.{step}:{when}:1",
            "QC_TEST_CRASH_FLAG": str(flag),
        },
        start_new_session=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL and flag.exists()
    assert schema_of(path) == (len(MIGRATIONS) if step == "compact" else RELEASED_0_1_0)
    Ledger(path).close()
    assert dump(path) == dump(calm)
    assert dump(tmp_path / "ledger-0.1.0.sqlite") == dump(tmp_path / "calm-0.1.0.sqlite")
    left = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("ledger") and p.suffix != ".sqlite-shm")
    assert [name for name in left if "0.1.0" in name] == ["ledger-0.1.0.sqlite"], "one copy"


# -- how long it takes -------------------------------------------------------------------------------
def upgrade_large(path: Path, instances: int, caplog: pytest.LogCaptureFixture) -> float:
    """Seconds that the upgrade of a ledger of so many instances takes; it is checked, and told in the log."""
    write_large(path, instances)
    before = path.stat().st_size
    with caplog.at_level(logging.INFO, "qc_node.ledger"):
        start = time.perf_counter()
        ledger = Ledger(path)
        seconds = time.perf_counter() - start
    told = [line for line in caplog.messages if line.startswith("instances: ")]
    assert len(told) == (instances + CHUNK - 1) // CHUNK and told[-1].endswith(f"of {instances}")
    assert any(line.startswith("copied: ") for line in caplog.messages)
    assert ledger.db.value("SELECT count(*) FROM instances") == instances
    assert ledger.db.value("SELECT count(*) FROM series") == (instances + PER_SERIES - 1) // PER_SERIES
    assert (
        ledger.db.value("SELECT count(*) FROM vote_log WHERE reasons = '[\"noise\"]'") == ledger.votes.count() > 0
    )
    assert ledger.deliveries.counts() == {"committed": (instances + PER_SERIES - 1) // PER_SERIES}
    ledger.db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    after = path.stat().st_size
    print(
        f"{instances} instances: {seconds:.1f} s, {before / instances:.0f} -> {after / instances:.0f} bytes each"
    )
    assert after < 0.8 * before, "bytes per instance shrink"
    return seconds


def test_twenty_thousand_rows_are_upgraded_within_their_share_of_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert upgrade_large(tmp_path / "ledger.sqlite", 20_000, caplog) < 5.0


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_million_rows_are_upgraded_within_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert upgrade_large(tmp_path / "ledger.sqlite", 1_000_000, caplog) <= 60.0
