"""Which studies are due for their summary, and the step of the ledger that brought the table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qc_node.ledger import Ledger, Received
from qc_node.ledger.database import schema_of
from qc_node.ledger.migrations import MIGRATIONS, bring_up_to_date
from tests.ledger.old_ledger import write_fixture


def dump(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as conn:
        return set(conn.iterdump())


def test_a_ledger_of_schema_7_gets_the_table_and_keeps_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_fixture(tmp_path / "ledger.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr("qc_node.ledger.migrations.MIGRATIONS", MIGRATIONS[:7])
        bring_up_to_date(path)
    assert schema_of(path) == 7
    grew = ("alarms", "studies")  # columns, in schema 9 and 10
    before = {line for line in dump(path) if not any(name in line for name in grew)}
    ledger = Ledger(path)
    assert schema_of(path) == len(MIGRATIONS) >= 8
    assert before <= dump(path)
    assert ledger.db.value("SELECT count(*) FROM studies WHERE state = 'closed'") > 0
    assert ledger.summaries.due() == [], "studies of before get no pictures by an upgrade"
    (study, received) = ledger.db.tuples("SELECT study_uid, last_received FROM studies WHERE state = 'open'")[0]
    assert ledger.studies.close(study, received, "quiet", 5.0)
    assert ledger.db.rows("SELECT * FROM summaries_due") == [{"study_uid": study, "at": 5.0}]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledger.sqlite")
    made.instances.add([Received("1.1", "1", "S", "ST", "1", "MR", "AE", "images/0/0.dcm", 1, 1.0)])
    return made


def test_a_study_that_did_not_close_is_not_due(ledger: Ledger) -> None:
    assert not ledger.studies.close("ST", 0.5, "quiet", 2.0), "an image came in meanwhile"
    assert ledger.db.value("SELECT count(*) FROM summaries_due") == 0


@pytest.mark.parametrize("state", ["receiving", "queued", "judging", "judged", "skipped", "failed", "reported"])
def test_a_study_is_given_when_each_series_has_come_to_its_end(ledger: Ledger, state: str) -> None:
    assert ledger.studies.close("ST", 1.0, "quiet", 2.0)
    with ledger.db.transaction() as conn:
        conn.execute("UPDATE series SET state = ?", (state,))
    assert bool(ledger.summaries.due()) == (state in ("skipped", "failed", "reported"))


@pytest.mark.parametrize("closed", [True, False])
def test_a_report_makes_a_closed_study_due_once_more(ledger: Ledger, closed: bool) -> None:
    if closed:
        assert ledger.studies.close("ST", 1.0, "quiet", 2.0)
        assert ledger.summaries.take({"study_uid": "ST", "at": 2.0})
    with ledger.db.transaction() as conn:
        conn.execute("UPDATE series SET state = 'judged'")
    number = ledger.db.value("SELECT series_id FROM series")
    assert ledger.deliveries.post([], (), 3.0, reported=(number, 9)) and not ledger.summaries.due()
    assert ledger.deliveries.post([], (), 4.0, reported=(number, 1))
    assert ledger.summaries.due() == ([{"study_uid": "ST", "at": 4.0}] if closed else [])


def test_what_is_due_anew_is_not_taken_with_what_was_due_before(ledger: Ledger) -> None:
    assert ledger.studies.close("ST", 1.0, "quiet", 2.0)
    assert not ledger.summaries.take({"study_uid": "ST", "at": 1.0})
    assert not ledger.deliveries.post([], (), 3.0, summarised={"study_uid": "ST", "at": 1.0})
    assert ledger.deliveries.post([], (), 3.0, summarised={"study_uid": "ST", "at": 2.0})
    assert not ledger.summaries.take({"study_uid": "ST", "at": 2.0})
