"""``qc-node measures``."""

from __future__ import annotations

from pathlib import Path

import pytest

from qc_node.domain.measure import Baseline, Departure, ImageFinding, Measured, Unusual
from qc_node.domain.technique import Technique
from qc_node.ledger import Ledger, Received
from qc_node.ledger.measured import NewMeasured
from tests.cli.conftest import Run
from tests.engine.measures_of_tests import install

DAY = 86400.0


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ledger:
    """Two measured series of CT7, one of US without a chart."""
    install(monkeypatch)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    technique = Technique(
        "CT", "CT7", "VE11", {"kernel": "B30", "body_part": "chest"}, {"kvp": 120.0, "contrast": "Ultra\tvist"}
    )
    strange = Unusual("mean_grey", 9.0, 8.0, Baseline(1.0, 1.0, 50))
    for n, made in enumerate((technique, technique, None), 1):
        received = Received(f"1.{n}", "1", f"9.{n}", "7.1", "1", "CT" if made else "US", "AE1", f"i/{n}", 1, 1.0)
        ledger.instances.add([received])
        measured = Measured({"mean_grey": 1.5 * n} if made else {}, {})
        new = NewMeasured(n, 1, measured, made, 1)
        if n == 2:
            departed = (Departure("kvp", "140", "120", 1.0),)
            new = NewMeasured(n, 1, measured, made, 1, (strange,), departed, (ImageFinding("noise", "Noisy."),))
        ledger.measured.add(new, n * DAY)
    return ledger


def table(text: str) -> list[dict[str, str]]:
    names, *rows = (line.split("\t") for line in text.rstrip("\n").split("\n"))
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_a_row_for_each_series_a_column_for_each_measure_and_nobody_named(
    run: Run, ledger: Ledger, tmp_path: Path
) -> None:
    target = tmp_path / "measures.tsv"
    assert "3 series." in run("measures", "export", "-o", str(target))
    first, second, other = table(target.read_text())
    assert first == {
        "day": "1970-01-02",
        "modality": "CT",
        "station": "CT7",
        "software": "VE11",
        "protocol": "body_part=chest|kernel=B30",
        "stage": "",
        "version": "1",
        "body_size": "",
        "mean_grey": "1.5",
        "unusual": "",
        "departures": "",
        "findings": "",
    }
    assert (second["unusual"], second["departures"], second["findings"]) == ("mean_grey", "kvp", "noise")
    assert (other["modality"], other["station"], other["protocol"], other["mean_grey"]) == ("US", "AE1", "", "")
    assert "7.1" not in target.read_text() and "9.1" not in target.read_text()


def test_rows_and_columns_can_be_chosen(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    def export(*options: str) -> list[dict[str, str]]:
        target = tmp_path / "measures.tsv"
        run("measures", "export", "-o", str(target), *options)
        return table(target.read_text())

    assert [row["day"] for row in export("--since", "1970-01-03")] == ["1970-01-03", "1970-01-04"]
    assert [row["modality"] for row in export("--modality", "us")] == ["US"]
    assert len(export("--station", "CT7")) == 2 and export("--station", "CT8") == []
    (row,) = export("--since", "1970-01-03", "--station", "CT7", "--parameters", "--with-uids")
    assert (row["set_kvp"], row["set_contrast"], row["set_echo_time"]) == ("120", "Ultra vist", "")
    assert (row["study_uid"], row["series_uid"]) == ("7.1", "9.2")


def test_only_the_latest_run_of_a_series_counts_and_packed_rows_are_read(
    run: Run, ledger: Ledger, tmp_path: Path
) -> None:
    with ledger.db.transaction() as conn:
        conn.execute("UPDATE series SET run = 2 WHERE series_id = 1")
    ledger.removals.end(2)
    assert "2 series." in run("measures", "export", "-o", str(tmp_path / "out.tsv"))
    assert table((tmp_path / "out.tsv").read_text())[0]["mean_grey"] == "3"
