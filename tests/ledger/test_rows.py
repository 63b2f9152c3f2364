"""Rows are what their types say: every query returns exactly the keys of its type."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints, is_typeddict

import pytest

from qc_node.domain.attention import AttentionKind
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger, rows, schema
from qc_node.ledger.database import Database
from qc_node.ledger.search import NEWEST, SeriesWanted
from tests.ledger.old_ledger import write_fixture

TYPES = {name: kind for name, kind in vars(rows).items() if is_typeddict(kind) and not name.startswith("_")}
DECODED = {"VerdictRow", "StudyVerdict", "VoteRow", "MarkRow"}
"""Made in Python from a stored type; see the last test."""
TABLES = {
    "studies": rows.StudyRow,
    "series": rows.SeriesRow,
    "instances": rows.InstanceRow,
    "quarantine": rows.QuarantineRow,
    "events": rows.EventRow,
    "verdicts": rows.StoredVerdict,
    "models": rows.ModelRow,
    "model_aliases": rows.AliasRow,
    "reports": rows.ReportRow,
    "commitments": rows.CommitmentRow,
    "readers": rows.ReaderRow,
    "cases": rows.CaseRow,
    "vote_acts": rows.ActRow,
    "marks": rows.StoredMark,
    "alarms": rows.AlarmRow,
    "sessions": rows.SessionRow,
    "contexts": rows.ContextRow,
    "notifications": rows.NotificationRow,
    "labels": rows.LabelRow,
    "prompts": rows.PromptRow,
    "gradings": rows.GradingRow,
    "audit": rows.AuditRow,
    "relinks": rows.RelinkRow,
    "charts": rows.ChartRow,
    "measured": rows.MeasuredRow,
    "kept_inputs": rows.KeptInputRow,
}
DUMMIES = {
    "tuple[float, int]": (0.0, 0),
    "str": "x",
    "int": 2,
    "float": 1.0,
    "str | None": "x",
    "int | None": 2,
    "float | None": 1.0,
    "Sequence[str]": ("x",),
    "Sequence[int]": (1,),
    "Iterable[int]": (1,),
    "SeriesWanted": SeriesWanted(),
    "Place": NEWEST,
    "Collection[int]": (1,),
    "MeasuredRow": {"chart_id": 1, "at": 1.0, "measured_id": 1, "series_id": 1},
    "AttentionKind": AttentionKind.MISSING,
    "AlarmAnswer | None": None,
    "Technique": Technique("MR"),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(write_fixture(tmp_path / "ledger.sqlite"))


def table_classes(ledger: Ledger) -> dict[str, Any]:
    return {name: part for name, part in vars(ledger).items() if name != "db"}


def queries(part: Any) -> list[str]:
    """Public methods of a table that give rows."""
    return [
        name
        for name, method in inspect.getmembers(part, inspect.ismethod)
        if not name.startswith("_")
        and any(kind in str(inspect.signature(method).return_annotation) for kind in TYPES)
        and name not in ("add", "act")  # these give what by_key gives
    ]


def call(method: Any) -> None:
    parameters = inspect.signature(method).parameters.values()
    method(*(DUMMIES[str(p.annotation)] for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD))


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[str], Any]]:
    """Notes SQL, columns and type of every query from now on."""
    seen: list[tuple[str, set[str], Any]] = []
    rows_, row_ = Database.rows, Database.row

    def note(self: Database, sql: str, params: Any, of: Any) -> None:
        seen.append((sql, {column[0] for column in self.conn.execute(sql, params).description}, of))

    def all_rows(self: Database, sql: str, params: Any = (), *, of: Any = None) -> Any:
        note(self, sql, params, of)
        return rows_(self, sql, params, of=of)

    def one_row(self: Database, sql: str, params: Any = (), *, of: Any = None) -> Any:
        note(self, sql, params, of)
        return row_(self, sql, params, of=of)

    monkeypatch.setattr(Database, "rows", all_rows)
    monkeypatch.setattr(Database, "row", one_row)
    return seen


def test_every_query_returns_exactly_the_columns_of_its_type(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    ledger.series.requeue_claimed(3, 1.0)
    ledger.series.counts(), ledger.series.waiting_since(), ledger.deliveries.counts()
    ledger.series.claims_of_study("x"), ledger.instances.paths_of_series(1), ledger.relinks.of("x", "x")
    ledger.search.named("x"), ledger.search.scanners(), ledger.search.end_of_stretch(SeriesWanted(), NEWEST, 1)
    ledger.control_charts.stations()
    ledger.series.unfinished_counts(), ledger.deliveries.unfinished_counts(), ledger.removals.paths([1])
    for part in table_classes(ledger).values():
        for name in queries(part):
            before = len(seen)
            call(getattr(part, name))
            assert len(seen) > before, f"{name} asked nothing"
    for sql, columns, of in seen:
        assert of is not None, f"a query without a type: {sql}"
        assert columns == set(get_type_hints(of)), f"{of.__name__}: {sql}"
    assert {of.__name__ for _, _, of in seen} == TYPES.keys() - DECODED, "every type is somebody's"


def test_nothing_in_the_program_asks_without_a_type() -> None:
    root = Path(rows.__file__).parent.parent
    calls = [
        (path, line)
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").split("\n")
        if "db.rows(" in line and line.rstrip().endswith(")") and "of=" not in line
    ]
    assert calls == []


@pytest.mark.parametrize("table", TABLES)
def test_columns_may_be_null_exactly_where_their_type_says_so(table: str, ledger: Ledger) -> None:
    names = {int: "INTEGER", float: "REAL", str: "TEXT"}
    hints = get_type_hints(TABLES[table])
    for column in ledger.db.rows(f"PRAGMA table_info({table})"):
        hint = hints[column["name"]]
        plain = next((t for t in get_args(hint) if t is not type(None)), hint)
        assert column["type"] == names[plain], column["name"]
        assert bool(column["notnull"] or column["pk"]) is (hint is plain), column["name"]


def test_the_schema_and_the_row_types_have_the_same_columns() -> None:
    written = {
        "series": schema.SERIES,
        "instances": schema.INSTANCES,
        "events": schema.EVENTS,
        "verdicts": schema.VERDICTS,
        "reports": schema.REPORTS,
        "commitments": schema.COMMITMENTS,
        "vote_acts": schema.VOTE_ACTS,
        "alarms": {**schema.ALARMS, **schema.ALARMS_GREW},
        "sessions": schema.SESSIONS,
        "contexts": schema.CONTEXTS,
        "notifications": schema.NOTIFICATIONS,
        "labels": schema.LABELS,
        "prompts": schema.PROMPTS,
        "gradings": schema.GRADINGS,
        "model_aliases": schema.MODEL_ALIASES,
        "audit": schema.AUDIT,
        "relinks": schema.RELINKS,
        "charts": schema.CHARTS,
        "measured": schema.MEASURED,
        "kept_inputs": schema.KEPT_INPUTS,
    }
    for table, columns in written.items():
        assert dict(columns) == get_type_hints(TABLES[table]), table


def test_decoded_rows_have_the_keys_of_their_types(ledger: Ledger) -> None:
    (verdict, *_) = ledger.verdicts.recent()
    (judged, *_) = ledger.verdicts.of_voted_studies()
    (vote, *_) = ledger.votes.after(0)
    (mark,) = ledger.votes.marks_of("1.2.826.0.1.3680043.10.999.1")
    for row, kind in (
        (verdict, rows.VerdictRow),
        (judged, rows.StudyVerdict),
        (vote, rows.VoteRow),
        (mark, rows.MarkRow),
    ):
        assert row.keys() == get_type_hints(kind).keys(), kind.__name__
