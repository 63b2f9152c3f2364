"""A damaged ledger: found by the check, and one sentence wherever it shows."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger, LedgerDamagedError, LedgerError
from qc_node.ledger.database import schema_of
from qc_node.ledger.integrity import quick_check
from qc_node.ledger.migrations import MIGRATIONS
from tests.ledger.damaged import DAMAGES, filled, overwrite, pages_of, received
from tests.operations.test_health import file_size_limit
from tests.peers.process import require

OPENED = ("a folder in its place", "a file of another program")
"""What SQLite finds nothing wrong with, or cannot look at."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sound") / "ledger.sqlite")


@pytest.fixture
def ledger_file(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "ledger.sqlite"))


def assert_says_what_to_do(error: BaseException, path: Path) -> None:
    sentence = str(error)
    assert f"The ledger {path} is damaged (" in sentence and "\n" not in sentence
    assert "qc-node restore" in sentence and "docs/operations.md" in sentence and sentence.endswith(".")


def test_a_sound_ledger_passes(ledger_file: Path) -> None:
    found = quick_check(ledger_file, 60.0)
    assert found.finished and found.problems == ()
    with closing(Ledger(ledger_file)) as ledger:
        ledger.look_for_damage(60.0)
        assert ledger.damage is None


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in OPENED])
def test_the_check_finds_it(damage: str, ledger_file: Path) -> None:
    DAMAGES[damage](ledger_file)
    found = quick_check(ledger_file, 60.0)
    assert found.finished and found.problems
    assert not any("\n" in problem for problem in found.problems)


@pytest.mark.parametrize("damage", DAMAGES)
def test_whoever_opens_or_reads_it_is_told_in_one_sentence(damage: str, ledger_file: Path) -> None:
    DAMAGES[damage](ledger_file)
    with pytest.raises(LedgerDamagedError) as told, closing(Ledger(ledger_file)) as ledger:
        ledger.series.recent(1000)
        for number in range(1, 61):
            ledger.series.events(number)
            ledger.instances.of_series(number)
            ledger.instances.newest(received(number - 1, 0).sop_instance_uid)
    assert_says_what_to_do(told.value, ledger_file)
    assert isinstance(told.value, QcNodeError) and isinstance(told.value, sqlite3.Error)


@pytest.mark.parametrize("damage", ["the header", "the schema", "half of the file", *OPENED])
def test_the_schema_of_what_is_no_ledger_is_not_asked_for(damage: str, ledger_file: Path) -> None:
    DAMAGES[damage](ledger_file)
    with pytest.raises(LedgerDamagedError) as told:
        schema_of(ledger_file)
    assert_says_what_to_do(told.value, ledger_file)


def test_nothing_is_written_into_the_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE moz_cookies (id INTEGER PRIMARY KEY)")
    before = path.read_bytes()
    with pytest.raises(LedgerDamagedError, match="a database of another program"):
        Ledger(path)
    assert path.read_bytes() == before


def test_damage_that_shows_while_the_node_runs_is_remembered(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger:
        for page in pages_of(ledger_file, "events")[1:]:
            overwrite(ledger_file, page)
        with pytest.raises(LedgerDamagedError):
            ledger.series.events(30)
        assert ledger.series.by_id(1) is not None, "what is not damaged can be read"
        assert ledger.damage is not None and str(ledger_file) in ledger.damage


def test_a_write_that_meets_the_damage_is_undone_and_says_so(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger:
        for page in pages_of(ledger_file, "idx_instances_sop_instance_uid_version"):
            overwrite(ledger_file, page)
        with pytest.raises(LedgerDamagedError):
            ledger.instances.add([received(70, 0)])
        assert not ledger.db.conn.in_transaction
        assert ledger.series.get(received(70, 0).series_uid) is None


def test_a_text_that_is_none_any_more_is_damage(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger:
        with ledger.db.transaction() as conn:
            conn.execute("UPDATE series SET station = CAST(x'ff41' AS TEXT) WHERE series_id = 1")
        with pytest.raises(LedgerDamagedError, match="decode"):
            ledger.series.by_id(1)


def test_a_disk_that_takes_no_more_is_one_sentence_and_no_damage(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger:
        ledger.series.counts()
        with file_size_limit(2000), pytest.raises(LedgerError) as told:
            ledger.instances.add([received(70, 0)])
        assert str(told.value).startswith(f"The ledger {ledger_file} cannot be used: ")
        assert ledger.damage is None
        assert ledger.instances.add([received(70, 0)]) == [True]


def test_an_error_of_our_own_stays_what_it_is(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger:
        with pytest.raises(sqlite3.OperationalError, match="no such column") as told:
            ledger.db.rows("SELECT colour FROM series")
        assert not isinstance(told.value, QcNodeError)


def test_a_check_that_takes_too_long_ends_and_says_so(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger, ledger.db.transaction() as conn:
        conn.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
            " INSERT INTO quarantine (path, reason, calling_ae, received_at)"
            " SELECT i, hex(zeroblob(200)), '', 0 FROM n"
        )
    found = quick_check(ledger_file, 0.005)
    assert not found.finished and found.problems == () and found.seconds < 10


def test_a_check_holds_up_no_writer(ledger_file: Path) -> None:
    with closing(Ledger(ledger_file)) as ledger, closing(sqlite3.connect(ledger_file)) as reader:
        reader.execute("BEGIN")
        reader.execute("PRAGMA quick_check").fetchall()
        assert ledger.instances.add([received(70, 0)]) == [True]


def test_the_recipe_saves_the_rows_that_can_be_read(ledger_file: Path) -> None:
    """docs/operations.md, "A damaged ledger"."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    recipe = page.split("## A damaged ledger")[1].split("```sh")[1].split("```")[0]
    commands = [line.strip() for line in recipe.splitlines() if "sqlite3 " in line]
    assert len(commands) == 2 and f"user_version = {len(MIGRATIONS)};" in commands[1]
    require("sqlite3")
    overwrite(ledger_file, pages_of(ledger_file, "events")[-1])
    overwrite(ledger_file, pages_of(ledger_file, "idx_series_state_due_at")[0])
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=ledger_file.parent, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout
    with closing(Ledger(ledger_file.with_name("saved.sqlite"))) as ledger:
        assert ledger.db.value("SELECT count(*) FROM instances") == 60 * 30
        assert 30 < ledger.db.value("SELECT count(*) FROM events") < 60
        assert ledger.instances.add([received(70, 0)]) == [True]
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), ledger.db.transaction() as conn:
            conn.execute("INSERT INTO audit (at, event, actor, detail) VALUES (1, 'e', 'a', '{}')")
            conn.execute("DELETE FROM audit")
