"""Votes and acts in the ledger: append-only, one log, open lists."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from qc_node.ledger import Ledger, NewAct, NewVote
from tests.ledger.old_ledger import write_fixture

VOTE = NewVote("key-1", "r", "radiologist", "Potsdam", "MR", "good", 10.0, 11.0, "panel", study_uid="1.2")
ACT = NewAct("key-2", 1, "reasons", "r", "radiologist", 20.0, 21.0, "panel", ("motion",), verdict_visible=True)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.readers.add(
        "r", login="bode", name="M. Bode", site="Potsdam", role="radiologist", pseudonym="p", at=1.0
    )
    return ledger


def test_reasons_that_come_later_change_nothing_of_the_vote(ledger: Ledger) -> None:
    ((before, new),) = ledger.votes.add([replace(VOTE, reasons=("noise",), ms_to_vote=1900)])
    assert new and before["reasons"] == ["noise"]
    row, new = ledger.votes.act(replace(ACT, vote_id=before["id"]))
    assert new and row["reasons"] == ["motion"] and row["key"] == "key-2"
    after = ledger.votes.get(before["id"])
    assert after == {**before, "reasons": ["motion"]}
    assert (after["voted_at"], after["ms_to_vote"], after["verdict_visible"]) == (10.0, 1900, 0)
    assert ledger.votes.count() == 1


def test_an_act_is_written_once_per_key(ledger: Ledger) -> None:
    ledger.votes.add([VOTE])
    assert ledger.votes.act(ACT)[1] and not ledger.votes.act(ACT)[1]
    assert len(ledger.votes.acts_of(1)) == 1


def test_reasons_can_be_taken_back_and_the_ones_before_stand_again(ledger: Ledger) -> None:
    ledger.votes.add([replace(VOTE, reasons=("noise",))])
    ledger.votes.act(ACT)
    given = ledger.votes.reasons_of(1)
    assert given is not None
    undone = replace(ACT, key="key-3", kind="withdrawal", value=None, undoes=given["id"])
    row, _ = ledger.votes.act(undone)
    assert (row["vote"], row["replaces"], row["key"]) == ("withdrawn", 1, "key-3")
    assert [(line["vote"], line["reasons"]) for line in ledger.votes.after(0)] == [("good", ["noise"])]


def test_a_withdrawal_is_a_line_of_the_log_and_the_vote_stays(ledger: Ledger) -> None:
    ledger.votes.add([VOTE])
    ledger.votes.act(replace(ACT, key="w", kind="withdrawal", value=None))
    vote, withdrawal = ledger.votes.all()
    assert (vote["vote"], withdrawal["vote"], withdrawal["replaces"]) == ("good", "withdrawn", vote["id"])
    assert (withdrawal["voted_at"], withdrawal["received_at"], withdrawal["study_uid"]) == (20.0, 21.0, "1.2")


def test_comment_and_confidence_are_rows_with_their_own_time(ledger: Ledger) -> None:
    ledger.votes.add([VOTE])
    ledger.votes.act(replace(ACT, key="c", kind="comment", value="moved twice"))
    ledger.votes.act(replace(ACT, key="d", kind="confidence", value=0.75, at=30.0))
    acts = [(a["kind"], a["value"], a["at"]) for a in ledger.votes.acts_of(1)]
    assert acts == [("comment", '"moved twice"', 20.0), ("confidence", "0.75", 30.0)]
    assert ledger.votes.all()[0]["reasons"] == "[]"


@pytest.mark.parametrize("verb", ["UPDATE {} SET id = id", "DELETE FROM {}"])
@pytest.mark.parametrize("table", ["votes", "vote_acts", "model_aliases", "audit"])
def test_what_is_append_only_refuses_to_be_rewritten(ledger: Ledger, table: str, verb: str) -> None:
    ledger.votes.add([VOTE])
    ledger.votes.act(ACT)
    ledger.models.give_alias("ct", "champion", "ab" * 32, 1.0, "bode")
    ledger.audit.add("sign_in", "r", 1.0, {"from": "panel"})
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        ledger.db.conn.execute(verb.format(table))


def test_a_vote_names_a_study_or_an_accession_number(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="names a study"):
        ledger.votes.add([replace(VOTE, study_uid=None)])


def test_a_new_channel_reason_kind_or_act_needs_no_new_schema(ledger: Ledger) -> None:
    """0.1.0 listed the channels in the schema: a new one meant rebuilding an append-only table."""
    schema = [row["sql"] for row in ledger.db.rows("SELECT sql FROM sqlite_master ORDER BY name")]
    vote = replace(VOTE, source="voice_assistant", reasons=("invented_reason",), vote="undecided")
    ((row, _),) = ledger.votes.add([vote])
    assert (row["source"], row["vote"], row["reasons"]) == ("voice_assistant", "undecided", ["invented_reason"])
    ledger.votes.act(replace(ACT, kind="mood", value="yes"))  # type: ignore[arg-type]
    assert [act["kind"] for act in ledger.votes.acts_of(row["id"])] == ["reasons", "mood"]
    grading = dict.fromkeys(("gadolinium", "motion", "contrast", "noise", "ms"))
    ledger.gradings.add(
        key="g",
        series_uid="1",
        reader_id="r",
        kind="pair",
        straight_reject=True,
        at=1.0,
        source="phone",
        **grading,
    )
    assert ledger.db.value("SELECT kind FROM gradings") == "pair"
    assert [row["sql"] for row in ledger.db.rows("SELECT sql FROM sqlite_master ORDER BY name")] == schema


def test_no_table_lists_words_that_may_grow(ledger: Ledger, tmp_path: Path) -> None:
    upgraded = Ledger(write_fixture(tmp_path / "old.sqlite"))
    for found in (ledger, upgraded):
        tables = found.db.rows("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%CHECK%'")
        assert [row["name"] for row in tables] == ["studies"], "the two states of a study are the program's own"


def test_an_alias_means_its_newest_row_and_keeps_its_history(ledger: Ledger) -> None:
    for number, sha in enumerate(("aa", "bb", "aa")):
        ledger.models.give_alias("ct", "champion", sha, float(number), "bode")
    ledger.models.give_alias("ct", "shadow", "bb", 9.0, "bode")
    champion = ledger.models.alias("ct", "champion")
    assert champion is not None and (champion["sha256"], champion["at"]) == ("aa", 2.0)
    assert [row["sha256"] for row in ledger.models.history("ct")] == ["aa", "bb", "aa", "bb"]
    assert ledger.models.alias("brain_mri", "champion") is None


def test_audit_events_are_kept_in_order(ledger: Ledger) -> None:
    first = ledger.audit.add("start", "node", 1.0)
    ledger.audit.add("sign_in", "r", 2.0, {"from": "panel"})
    assert [(e["event"], e["detail"]) for e in ledger.audit.after(first)] == [("sign_in", '{"from": "panel"}')]
