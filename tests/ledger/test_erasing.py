"""Rows of a forgotten patient: every table, every column, and the bytes of the file."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qc_node.ledger import Ledger, NewAct
from qc_node.ledger.erasing import FORGOTTEN, LINKS, UNLINKED, Erasing, Scope
from qc_node.ledger.schema import NUMBERED
from tests.ledger.makers import number_of
from tests.ledger.old_ledger import write_fixture

STUDY = "1.2.826.0.1.3680043.10.999."

IDENTIFIES: dict[str, str] = {
    "studies": "study_uid accession_number description missing patient notes",
    "series": "series_id study_uid series_uid sentence claims",
    "instances": "instance_id sop_instance_uid series_id path digest",
    "objects": "instance_id study_uid series_uid",
    "events": "id series_id detail",
    "emptied": "series_id",
    "removed_images": "id series_id digests",
    "removed_objects": "study_uid digests",
    "verdicts": "id series_id verdict claims warnings source_path training_path thumbnails",
    "reports": "sop_instance_uid series_id study_uid path predecessor",
    "deliveries": "id sop_instance_uid last_error",
    "commitments": "id delivery_id transaction_uid",
    "turned_down": "delivery_id",
    "alarms": "id series_id vote_id",
    "labels": "id series_id",
    "prompts": "id study_uid series_id",
    "verdict_views": "study_uid",
    "marks": "id sop_instance_uid study_uid series_uid",
    "cases": "handle subject study_uid series_uid accession_number description",
    "presentations": "handle context_id",
    "votes": "key study_uid series_uid accession_number sop_instance_uid",
    "vote_acts": "key",
    "gradings": "key series_uid series_id",
    "quarantine": "path",
    "relinks": "study_uid series_uid identity named",
    "summaries_due": "study_uid",
    "measured": "measured_id series_id",
    "kept_inputs": "kept_id series_id path",
}
"""Columns that name a patient, or lead to one by the rows of another table."""
DOES_NOT: dict[str, str] = {
    "studies": "first_received last_received state due_at closed_by closed_at",
    "series": "modality calling_ae station first_received last_received instances expected expected_rule"
    " pacs_count pacs_count_since pacs_asked_at run state due_at closed_by closed_at claimed_at attempts stage"
    " images_removed_at",
    "instances": "version sop_class_uid transfer_syntax_uid calling_ae bytes received_at superseded_at",
    "objects": "handled",
    "emptied": "open",
    "events": "run at event",
    "verdicts": "run stage routed timings judged_at report_after",
    "reports": "sop_class_uid run kind created_at",
    "deliveries": "destination state attempts next_attempt_at created_at sent_at committed_at",
    "commitments": "asked_at answered_at outcome",
    "turned_down": "since times",
    "alarms": "run calling_ae raised_at closed_at closed_by kind station answer",
    "sessions": "session_id reader_id way started_at ended_at ended_by",
    "contexts": "context_id reader_id opened_at closed_at closed_by",
    "notifications": "id event target body created_at next_attempt_at attempts sent_at given_up_at last_error",
    "labels": "run question found label reader_id at",
    "prompts": "reader_id reason created_at closed_at outcome",
    "verdict_views": "reader_id at",
    "marks": "vote reasons why_no_vote received_at",
    "cases": "modality created_at",
    "presentations": "id reader_id site modality at how prompt",
    "votes": "id reader_id role site modality vote voted_at received_at ms_to_vote source verdict_visible"
    " presentation replaces",
    "vote_acts": "id vote_id kind value undoes reader_id role at received_at source verdict_visible presentation",
    "gradings": "id reader_id kind straight_reject gadolinium motion contrast noise at ms source verdict_visible",
    "quarantine": "id reason calling_ae received_at",
    "readers": "reader_id login name site role pseudonym dicom_name pin_hash token_hash fhircast_topic"
    " session_epoch created_at disabled_at",
    "models": "sha256 name version stage first_used",
    "model_aliases": "id stage alias sha256 at by",
    "given_numbers": "name last",
    "relinks": "id at by",
    "summaries_due": "at",
    "charts": "chart_id modality station software protocol opened_at",
    "measured": "run chart_id at version body_size parameters measures unmeasured unusual departures findings"
    " seconds",
    "kept_inputs": "run kind bytes sampled kept_at",
    "audit": "id at event actor detail",
}
"""What may stay.  ``vote_acts.value`` of a comment is free text, that of an agreement names reports: emptied."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The fixture of 0.1.0 with something in every table that holds patients."""
    ledger = Ledger(write_fixture(tmp_path / "ledger.sqlite"))
    ledger.patients.note(f"{STUDY}2", "k.aa.bb")
    ledger.deliveries.turned_down(1, 5.0)
    ledger.relinks.add(f"{STUDY}2", f"{STUDY}2.1", {"PatientID": "P2"}, [("P1", "")], "admin", 5.0)
    act = NewAct("comment-key", 1, "comment", "r", "radiologist", 5.0, 5.0, "panel", value="looks like Mr Doe")
    about = {"agrees": True, "reports": [f"{STUDY}2.900"]}
    agreed = NewAct("agreed-key", 1, "agreement", "r", "radiologist", 6.0, 6.0, "panel", value=about)
    reader = ledger.db.value("SELECT reader_id FROM votes WHERE id = 1")
    with ledger.db.transaction() as conn:
        for said in (act, agreed):
            ledger.votes._write_act(conn, NewAct(**{**_fields(said), "reader_id": reader}))
        conn.execute("INSERT INTO removed_images (series_id, digests) SELECT max(series_id), x'01' FROM series")
        conn.execute("INSERT INTO removed_objects (study_uid, digests) SELECT max(study_uid), x'02' FROM studies")
        conn.execute(
            "INSERT INTO measured (series_id, run, at, version, parameters, measures, unmeasured, unusual,"
            " departures, seconds) SELECT series_id, run, 1, 1, '{}', '{}', '{}', '[]', '[]', 0 FROM series"
        )
        conn.execute(
            "INSERT INTO kept_inputs (series_id, run, kind, path, bytes, sampled, kept_at)"
            " SELECT series_id, run, 'pictures', 'training/' || series_id || '.npz', 9, 0, 1 FROM series"
        )
        conn.execute("INSERT INTO summaries_due SELECT study_uid, 5.0 FROM studies")
        conn.execute("UPDATE reports SET predecessor = '1.2.3' WHERE predecessor IS NULL")
    return ledger


def _fields(act: NewAct) -> dict[str, Any]:
    return {name: getattr(act, name) for name in NewAct.__dataclass_fields__}


@pytest.fixture
def erasing(ledger: Ledger) -> Erasing:
    return Erasing(ledger.db, lambda: secrets.token_hex(16))


def erase(ledger: Ledger, erasing: Erasing, scope: Scope) -> None:
    with ledger.db.transaction():
        erasing.erase(scope)


def tables(ledger: Ledger) -> Iterator[str]:
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for row in ledger.db.rows(sql):
        yield row["name"]


def columns(ledger: Ledger, table: str) -> set[str]:
    return {row["name"] for row in ledger.db.rows(f"PRAGMA table_info({table})")}


def every_study(ledger: Ledger) -> tuple[str, ...]:
    rows = ledger.db.rows(
        "SELECT study_uid FROM studies UNION SELECT study_uid FROM votes UNION SELECT study_uid FROM cases"
        " UNION SELECT study_uid FROM marks UNION SELECT study_uid FROM prompts"
    )
    return tuple(row["study_uid"] for row in rows if row["study_uid"])


def values(ledger: Ledger, table: str, column: str) -> set[Any]:
    rows = ledger.db.rows(f"SELECT {column} FROM {table}")
    return {row[column] for row in rows} - {None, "", "[]", "{}"}


def test_somebody_has_decided_for_every_column_whether_it_identifies(ledger: Ledger) -> None:
    for table in tables(ledger):
        identifying, plain = set(IDENTIFIES.get(table, "").split()), set(DOES_NOT.get(table, "").split())
        assert not identifying & plain, table
        undecided = columns(ledger, table) - identifying - plain
        assert not undecided, f"{table}: say in this test of {undecided} whether it identifies, and erase it if so"
        assert identifying | plain == columns(ledger, table), table


def test_every_table_that_identifies_loses_its_rows_or_their_link(ledger: Ledger) -> None:
    for table in IDENTIFIES.keys() - set(UNLINKED) - {"quarantine"}:
        assert columns(ledger, table) & LINKS.keys(), f"nothing tells what rows of {table} belong to"


def test_nothing_that_identifies_is_left_in_any_column(ledger: Ledger, erasing: Erasing) -> None:
    before = {(t, c): values(ledger, t, c) for t in IDENTIFIES for c in IDENTIFIES[t].split()}
    lying = tuple(row["id"] for row in ledger.db.rows("SELECT id FROM quarantine"))
    empty = {t for t in IDENTIFIES if not any(before[t, c] for c in IDENTIFIES[t].split())}
    assert not empty, "the test says nothing about these"
    erase(ledger, erasing, Scope(every_study(ledger), quarantine=lying))
    for (table, column), old in before.items():
        kept = values(ledger, table, column) & old
        by_number = {v for v in kept if (table, column, v) in outside(ledger)}
        assert kept == by_number, f"{table}.{column}"
    assert ledger.db.rows("PRAGMA foreign_key_check") == []
    said = str(ledger.db.rows("SELECT value FROM vote_acts"))
    assert "Doe" not in said and STUDY not in said and '"agrees":' in said


def outside(ledger: Ledger) -> set[tuple[str, str, Any]]:
    """Of the fixture: votes and cases by an accession number of which no study is known."""
    out: set[tuple[str, str, Any]] = set()
    for table in ("votes", "cases"):
        for row in ledger.db.rows(f"SELECT * FROM {table} WHERE study_uid IS NULL"):
            if not str(row["accession_number"]).startswith(FORGOTTEN):
                out |= {(table, name, value) for name, value in row.items()}
    for row in ledger.db.rows("SELECT * FROM presentations JOIN cases USING (handle) WHERE study_uid IS NULL"):
        out |= {("presentations", name, row[name]) for name in ("handle", "context_id")}
    for row in ledger.db.rows("SELECT * FROM gradings WHERE series_id IS NULL"):
        if not str(row["series_uid"]).startswith(FORGOTTEN):  # imported for a series that was never here
            out |= {("gradings", name, value) for name, value in row.items()}
    keys = "SELECT key FROM vote_acts WHERE vote_id IN (SELECT id FROM votes WHERE study_uid IS NULL)"
    return out | {("vote_acts", "key", row["key"]) for row in ledger.db.rows(keys)}


def test_a_vote_says_what_it_said_without_saying_of_whom(ledger: Ledger, erasing: Erasing) -> None:
    before = ledger.db.rows("SELECT * FROM vote_log ORDER BY id")
    mine = {row["id"] for row in before if row["study_uid"] == f"{STUDY}2"}
    erase(ledger, erasing, Scope((f"{STUDY}2",)))
    after = ledger.db.rows("SELECT * FROM vote_log ORDER BY id")
    link = {"study_uid", "series_uid", "accession_number", "key", "sop_instance_uid"}
    assert len(mine) > 1 and len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert {n: v for n, v in old.items() if n not in link} == {n: v for n, v in new.items() if n not in link}
        if old["id"] not in mine:
            assert old == new
    studies = {row["study_uid"] for row in after if row["id"] in mine}
    assert len(studies) == 1 and studies.pop().startswith(FORGOTTEN), "one study stays one study"


def test_votes_are_append_only_afterwards_as_before(ledger: Ledger, erasing: Erasing) -> None:
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    before = ledger.db.rows(sql)
    erase(ledger, erasing, Scope((f"{STUDY}2",)))
    assert ledger.db.rows(sql) == before
    for table in ("votes", "vote_acts"):
        with pytest.raises(Exception, match="append-only"):
            ledger.db.conn.execute(f"UPDATE {table} SET source = 'x'")


def test_another_patient_keeps_every_row(ledger: Ledger, erasing: Erasing) -> None:
    number = number_of(ledger, ledger.series.of_study(f"{STUDY}3")[0]["series_uid"])
    tables_of_series = [t for t in IDENTIFIES if "series_id" in columns(ledger, t)]

    def rows() -> list[Any]:
        return [ledger.db.rows(f"SELECT * FROM {t} WHERE series_id = {number}") for t in tables_of_series]

    before = rows()
    assert sum(map(len, before)) > 5
    erase(ledger, erasing, Scope((f"{STUDY}2",)))
    assert rows() == before


def test_one_series_of_a_study_goes_and_what_is_about_the_study_stays(ledger: Ledger, erasing: Erasing) -> None:
    (old,) = ledger.series.of_study(f"{STUDY}2")
    with ledger.db.transaction() as conn:
        conn.execute(
            "INSERT INTO series (study_uid, series_uid, modality, calling_ae, first_received, last_received)"
            " SELECT study_uid, '1.2.3.4.5.6', modality, calling_ae, 1, 1 FROM series WHERE series_id = ?",
            (old["series_id"],),
        )
    other = number_of(ledger, "1.2.3.4.5.6")
    erase(ledger, erasing, Scope(series=(old["series_id"],)))
    assert [row["series_id"] for row in ledger.series.of_study(f"{STUDY}2")] == [other]
    assert ledger.studies.get(f"{STUDY}2") is not None
    assert ledger.db.value("SELECT count(*) FROM instances WHERE series_id = ?", (old["series_id"],)) == 0
    assert values(ledger, "votes", "series_uid").isdisjoint({old["series_uid"]})


def test_a_table_of_a_later_version_loses_its_rows_too(ledger: Ledger, erasing: Erasing) -> None:
    (mine,), (other,) = (ledger.series.of_study(f"{STUDY}{n}") for n in (2, 3))
    ledger.db.conn.execute("CREATE TABLE condensed (series_id INTEGER PRIMARY KEY REFERENCES series, uids BLOB)")
    for row in (mine, other):
        ledger.db.conn.execute("INSERT INTO condensed VALUES (?, x'00')", (row["series_id"],))
    erase(ledger, erasing, Scope((f"{STUDY}2",)))
    assert values(ledger, "condensed", "series_id") == {other["series_id"]}


def test_what_was_reserved_for_a_forgotten_row_is_never_given_to_another(ledger: Ledger, erasing: Erasing) -> None:
    last = {t: ledger.db.value(f"SELECT max({n}) FROM {t}") for t, n in NUMBERED.items()}
    assert all(last.values())
    erase(ledger, erasing, Scope(every_study(ledger)))
    with ledger.db.transaction() as conn:
        conn.execute("INSERT INTO studies (study_uid, first_received, last_received) VALUES ('S', 1, 1)")
        conn.executemany(
            "INSERT INTO series (study_uid, series_uid, modality, calling_ae, first_received, last_received)"
            " VALUES ('S', ?, 'CT', 'CT1', 1, 1)",
            [("a",), ("b",)],
        )
    assert [number_of(ledger, uid) for uid in ("a", "b")] == [last["series"] + 1, last["series"] + 2]
    assert ledger.alarms.raise_alarm(number_of(ledger, "a"), 1, "CT1", 1.0)
    assert [row["id"] for row in ledger.alarms.open_ones()][-1] == last["alarms"] + 1


def test_no_byte_of_the_file_or_its_log_names_the_study(ledger: Ledger, erasing: Erasing, tmp_path: Path) -> None:
    (series,) = ledger.series.of_study(f"{STUDY}2")
    uids = [row["sop_instance_uid"] for row in ledger.instances.of_series(series["series_id"])]
    words = [f"{STUDY}2\x00", series["series_uid"], *uids]
    other = Ledger(ledger.db.path)  # a node has it open
    assert other.series.by_id(series["series_id"])
    assert any(word in raw(tmp_path) for word in words)
    erase(ledger, erasing, Scope((f"{STUDY}2",)))
    assert erasing.clean(rewrite=True)
    found = raw(tmp_path)
    assert [word for word in words if word in found] == []
    assert other.series.by_id(series["series_id"]) is None and other.instances.known(uids[0]) is False


def raw(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in sorted(folder.glob("ledger.sqlite*")))


def test_a_log_that_is_being_read_is_said_not_to_be_empty(ledger: Ledger, erasing: Erasing) -> None:
    reader = Ledger(ledger.db.path)
    cursor = reader.db.conn.execute("SELECT * FROM instances")
    cursor.fetchone()
    erase(ledger, erasing, Scope((f"{STUDY}2",)))
    erasing._db.conn.execute("PRAGMA busy_timeout=10")
    assert not erasing.clean(rewrite=False, patience_s=0.1)
    cursor.close()
    assert erasing.clean(rewrite=False, patience_s=5.0)
