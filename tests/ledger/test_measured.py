"""The table of what was measured: upgraded to, compared within a chart, read after images are gone."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qc_node.domain.measure import ImageFinding, Measured
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger, Received
from qc_node.ledger.database import schema_of
from qc_node.ledger.measured import NewMeasured
from qc_node.ledger.migrations import MIGRATIONS, bring_up_to_date

MR2 = Technique("MR", "MR2", "VE11", {"sequence": "gr_ir"}, {"echo_time": 2.9}, {}, 250.0)
BEFORE_MEASURES = 9
"""The last schema without them."""


def series(ledger: Ledger, n: int) -> int:
    ledger.instances.add([Received(f"1.{n}", "1", f"9.{n}", "7.1", "1", "MR", "AE1", f"i/{n}", 1, 1.0)])
    row = ledger.series.get(f"9.{n}")
    assert row is not None
    return row["series_id"]


def measure(ledger: Ledger, number: int, at: float, value: float = 1.0, run: int = 1) -> None:
    found = (ImageFinding("noise", "Noisy."),)
    ledger.measured.add(NewMeasured(number, run, Measured({"snr": value}), MR2, 1, (), (), found), at)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_a_ledger_of_before_gets_the_tables_and_keeps_its_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr("qc_node.ledger.migrations.MIGRATIONS", MIGRATIONS[:BEFORE_MEASURES])
        bring_up_to_date(path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("INSERT INTO studies (study_uid, first_received, last_received) VALUES ('7.1', 1, 1)")
        conn.execute(
            "INSERT INTO series (study_uid, series_uid, modality, calling_ae, first_received, last_received)"
            " VALUES ('7.1', '9.1', 'MR', 'AE1', 1, 1)"
        )
        conn.commit()
    ledger = Ledger(path)
    assert schema_of(path) == len(MIGRATIONS) > BEFORE_MEASURES
    assert ledger.measured.of(1, 1) is None and ledger.kept_inputs.of_series(1) == []
    measure(ledger, 1, 5.0)
    row = ledger.measured.of(1, 1)
    assert row is not None and json.loads(row["findings"]) == [{"kind": "noise", "sentence": "Noisy."}]


def test_history_is_in_order_of_time_without_the_series_itself_and_as_long_as_asked(ledger: Ledger) -> None:
    numbers = [series(ledger, n) for n in range(5)]
    for at, number in zip((30.0, 10.0, 20.0, 50.0, 40.0), numbers, strict=True):
        measure(ledger, number, at)
    chart = ledger.measured.chart(MR2, 1.0)["chart_id"]

    def times(limit: int, without: int = 0) -> list[float]:
        return [row["at"] for row in ledger.measured.history(chart, limit, without=without)]

    assert times(9) == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert times(2) == [40.0, 50.0]
    assert times(2, without=numbers[3]) == [30.0, 40.0]


def test_only_the_run_that_counts_is_history(ledger: Ledger) -> None:
    number = series(ledger, 1)
    measure(ledger, number, 10.0, 1.0)
    with ledger.db.transaction() as conn:
        conn.execute("UPDATE series SET run = 2")
    chart = ledger.measured.chart(MR2, 1.0)["chart_id"]
    assert ledger.measured.history(chart, 9) == []
    measure(ledger, number, 90.0, 2.0, run=2)
    (row,) = ledger.measured.history(chart, 9)
    assert (json.loads(row["measures"]), row["at"]) == ({"snr": 2.0}, 10.0)


def test_what_was_measured_is_the_same_after_the_images_went(ledger: Ledger) -> None:
    number = series(ledger, 1)
    many = Measured({f"measure_{n}": n / 7 for n in range(40)}, {"ghost": "There is too little air."})
    ledger.measured.add(NewMeasured(number, 1, many, MR2, 1), 5.0)
    before = ledger.measured.of(number, 1)
    size = "SELECT length(CAST(measures AS BLOB)) FROM measured"
    plain = ledger.db.value(size)
    ledger.removals.end(number)
    assert ledger.measured.of(number, 1) == before and ledger.db.value(size) < 0.7 * plain
    assert ledger.measured.history(ledger.measured.chart(MR2, 1.0)["chart_id"], 9) == [before]
    (row,) = ledger.measured.after(0)
    assert before is not None and row["measures"] == before["measures"] and row["station"] == "MR2"


def test_a_scanner_without_a_name_has_no_chart(ledger: Ledger) -> None:
    number = series(ledger, 1)
    ledger.measured.add(NewMeasured(number, 1, Measured({"snr": 1.0}), Technique("MR"), 1), 5.0)
    row = ledger.measured.of(number, 1)
    assert row is not None and row["chart_id"] is None
