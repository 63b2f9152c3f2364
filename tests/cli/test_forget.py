"""``qc-node forget`` as an operator runs it: what it says, what it asks, and a kill in the middle."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click import UsageError

from qc_node.cli.main import main
from qc_node.receiver.recovery import recover
from qc_node.spool import lock_folder
from tests.cli.conftest import Run
from tests.end_to_end.node_process import CRASH_FOLDER, ROOT
from tests.operations.patients import Patients


@pytest.fixture
def folder(tmp_path: Path) -> Patients:
    """Two patients with a report each; one of these is at the PACS."""
    folder = Patients(tmp_path)
    for patient in ("PID-100", "PID-200"):
        row = folder.take(patient)
        folder.judge()
        folder.report()
        folder.vote(row)
    folder.ledger.deliveries.sent(1, 30.0)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "qc-node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n')
    return path


def contents(folder: Path) -> dict[str, str]:
    """Every file that holds patients, by its digest; SQLite's shared memory is none."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-shm", "lock"))]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_it_says_what_went_what_stays_and_what_it_cannot_reach(run: Run, folder: Patients) -> None:
    report = folder.ledger.db.value("SELECT sop_instance_uid FROM deliveries WHERE id = 1")
    said = run("forget", "--patient-id", "PID-100", "--yes")
    assert "To be forgotten: 1 studies, 1 series, 6 images, 1 reports, 1 network inputs, 1 thumbnails." in said
    assert "To stay without link: 1 votes." in said
    assert f"  {report} PACS\n" in said
    for sentence in ("arrive later are taken in again", "Backups", "No model here", "Record 3 of the audit"):
        assert sentence in said
    assert "The ledger was rewritten" in said
    assert folder.left("PID-100") == [] and folder.left("PID-200")
    (record,) = folder.ledger.audit.of("forgotten")
    assert record["actor"]


def test_a_dry_run_says_the_same_and_changes_no_byte(run: Run, folder: Patients) -> None:
    folder.spool.patient_key()
    folder.erasing.clean(rewrite=False)
    before = contents(folder.spool.root)
    said = run("forget", "--patient-id", "PID-100", "--dry-run")
    assert "To be forgotten: 1 studies, 1 series, 6 images" in said and "Nothing was changed." in said
    report = folder.ledger.db.value("SELECT sop_instance_uid FROM deliveries WHERE id = 1")
    assert f"  {report} PACS\n" in said
    assert contents(folder.spool.root) == before


def test_somebody_unknown_is_one_sentence_and_nothing_goes(
    config: Path, folder: Patients, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folder.files()
    with pytest.raises(SystemExit) as left:
        main(["forget", "--patient-id", "PID-100", "--patient-id", "NOBODY", "--yes", "--config", str(config)])
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert "Nothing is known here of patient 2" in said and said.count("\n") == 1 and "NOBODY" not in said
    assert folder.files() == before


def test_asked_again_it_says_when_it_was_and_ends_well(run: Run, folder: Patients) -> None:
    (row,) = folder.ledger.series.of_study(folder.find("PID-100").scope.studies[0])
    run("forget", "--patient-id", "PID-100", "--yes")
    for again in (("--patient-id", "PID-100"), ("--study-uid", row["study_uid"])):
        said = run("forget", *again, "--yes")
        assert "Forgotten on " in said and "record 3 of the audit" in said
    assert len(folder.ledger.audit.of("forgotten")) == 1


def test_beside_a_node_the_files_of_others_in_flight_stay(run: Run, folder: Patients) -> None:
    lock = lock_folder(folder.spool.root)  # as a running node does
    temp = folder.spool.temp()
    try:
        run("forget", "--patient-id", "PID-100", "--yes")
    finally:
        os.close(lock)
    assert temp.path.exists()
    run("forget", "--patient-id", "PID-200", "--yes")
    assert not temp.path.exists()


def test_a_patient_id_can_be_given_where_nobody_sees_it(run: Run, folder: Patients) -> None:
    words = ("forget", "--patient-id", "-", "--yes")
    assert "To be forgotten: 1 studies" in run(*words, input="PID-100\n")
    assert folder.left("PID-100") == []


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--compact", "--study-uid", "1.2.3"),
        ("--study-uid", "../etc"),
        ("--patient-id", " "),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(run: Run, folder: Patients, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        run("forget", *words, "--yes")


def test_where_nobody_can_be_asked_it_wants_yes(run: Run, folder: Patients) -> None:
    with pytest.raises(UsageError, match="--yes"):
        run("forget", "--patient-id", "PID-100")
    assert folder.left("PID-100")


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
def test_on_a_terminal_it_asks(config: Path, folder: Patients, answer: bytes, code: int) -> None:
    outside, inside = pty.openpty()
    words = [sys.executable, "-m", "qc_node", "forget", "--patient-id", "PID-100", "--config", str(config)]
    os.write(outside, answer)
    done = subprocess.run(words, stdin=inside, capture_output=True, text=True, timeout=60, check=False)
    os.close(inside)
    os.close(outside)
    assert "Remove all this for ever? [y/N]" in done.stdout and done.returncode == code, done.stderr
    assert bool(folder.left("PID-100")) is bool(code)


def test_the_ledger_alone_is_rewritten(run: Run, folder: Patients) -> None:
    with folder.ledger.db.transaction() as conn:
        conn.execute("PRAGMA secure_delete=OFF")
        conn.execute("DELETE FROM events")
    assert "The ledger was rewritten" in run("forget", "--compact")
    assert folder.ledger.db.value("PRAGMA freelist_count") == 0


KILLS = {
    "nothing new begins": "qc_node.ledger.erasing:Erasing.stop:after:1",
    "the intention is written": "qc_node.ledger.audit:Audit.add:after:1",
    "files are gone": "qc_node.spool:Spool.remove_all:after:1",
    "before the rows go": "qc_node.ledger.erasing:Erasing.erase:before:1",
    "rows are gone, not committed": "qc_node.ledger.audit:Audit.add:before:2",
    "before the ledger is cleaned": "qc_node.ledger.erasing:Erasing.clean:before:1",
}


@pytest.mark.slow
@pytest.mark.parametrize("point", KILLS)
def test_a_kill_at_any_point_is_completed_by_the_same_command(
    config: Path, folder: Patients, tmp_path: Path, point: str
) -> None:
    flag = tmp_path / "crashed"
    crash = {"QC_TEST_CRASH": KILLS[point], "QC_TEST_CRASH_FLAG": str(flag)}
    env = {**os.environ, **crash, "PYTHONPATH": os.pathsep.join(map(str, (CRASH_FOLDER, ROOT)))}
    words = [
        sys.executable,
        "-m",
        "qc_node",
        "forget",
        "--patient-id",
        "PID-100",
        "--yes",
        "--config",
        str(config),
    ]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=env, capture_output=True, text=True, timeout=120, start_new_session=True, check=False
        )

    assert run().returncode == -9 and flag.exists()
    assert recover(folder.spool, folder.ledger) == 0, "a start of the node brings nothing back"
    assert folder.worker.step() == 0
    done = run()
    assert done.returncode == 0, done.stderr
    assert folder.left("PID-100") == [] and folder.left("PID-200")
    assert len(folder.ledger.audit.of("forgotten")) == 1
