"""``qc-node readers`` and ``qc-node votes``."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from qc_node.cli import votes
from qc_node.domain import HeaderClaims, QcNodeError, SeriesKey, Verdict
from qc_node.ledger import Ledger
from qc_node.web.pages.folder import shelve
from tests.web.conftest import brain
from tests.web.seventy_days import make_log


@pytest.fixture
def run(tmp_path):
    settings = SimpleNamespace(
        node=SimpleNamespace(data_dir=tmp_path / "data"),
        web=SimpleNamespace(host="127.0.0.1", port=8080, public_base=None),
    )
    hooks = votes.Hooks(load_settings=lambda config: settings)

    def invoke(group, *args, **more):
        return CliRunner().invoke(group, list(args), obj=hooks, **more)

    return invoke


def test_add_list_disable(run, tmp_path):
    added = run(
        votes.readers,
        "add",
        "mbh",
        "--name",
        "Dr. M. Bode",
        "--site",
        "Potsdam",
        "--pin",
        input="271828\n271828\n",
    )
    assert added.exit_code == 0 and "http://127.0.0.1:8080/sign-in#" in added.output
    assert isinstance(run(votes.readers, "add", "MBH", "--name", "x", "--site", "y").exception, QcNodeError)
    listed = json.loads(run(votes.readers, "list", "--json").output)
    assert listed["login"] == "mbh" and listed["enabled"]
    assert run(votes.readers, "link", "mbh").output != added.output
    assert "stay" in run(votes.readers, "disable", "mbh").output
    assert "disabled" in run(votes.readers, "list").output
    assert isinstance(run(votes.readers, "link", "mbh").exception, QcNodeError)
    assert Ledger(tmp_path / "data" / "ledger.sqlite").readers.count_enabled() == 0


def test_import_stats_export(run, tmp_path):
    text, expected = make_log()
    log = tmp_path / "log.csv"
    log.write_text(text)
    done = run(votes.votes, "import", str(log), "--add-readers")
    assert done.output.startswith("log.csv: 1527 votes, 2800 presentations, 0 known before, 6 readers added.")
    said = run(votes.votes, "stats", "--plots", str(tmp_path / "plots")).output
    assert "1527 votes on 1527 studies by 6 readers in 5 centres over 70 days" in said
    assert f"MR {expected.by_modality['MR']}" in said and "1527 of 2800" in said
    assert (tmp_path / "plots" / "cumulative.svg").is_file()
    assert json.loads(run(votes.votes, "stats", "--json").output)["votes"] == 1527
    out = tmp_path / "out.jsonl"
    assert run(votes.votes, "export", "-o", str(out)).exit_code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 1527 and {"p_good", "reader", "vote"} <= set(lines[0])


@dataclass(frozen=True)
class OnDisk:
    """What the classifier says of one series on disk."""

    source: str
    series: SeriesKey | None
    verdict: Verdict | None
    skipped: str | None = None
    modality: str = "MR"
    instances: int = 3
    claims: HeaderClaims = field(default_factory=lambda: HeaderClaims(series_description="t1"))
    warnings: tuple[str, ...] = ("a warning",)
    timings_s: dict = field(default_factory=dict)
    thumbnails: dict = field(default_factory=lambda: {"axial": np.zeros((4, 4), np.uint8)})


def test_a_folder_is_put_where_the_review_page_looks(house, browse):
    for item in (
        OnDisk("a/t1", SeriesKey("1.2", "1.2.1"), brain()),
        OnDisk("b/head.nii.gz", None, brain(motion=2)),
        OnDisk("c", SeriesKey("1.3", "1.3.1"), None, "A scout."),
    ):
        uid = shelve(house.ledger, house.spool, item, house.clock.now)
        assert (uid is None) == (item.verdict is None)
        assert shelve(house.ledger, house.spool, item, house.clock.now) is None, "once"
    rows = browse().get("/api/review").json()["rows"]
    assert [(r["scanner"], r["words"]["headline"], r["images"]) for r in rows] == [
        ("head.nii.gz", "Poor quality", 3),
        ("t1", "Good quality", 3),
    ]
    assert browse().get(rows[0]["mid"][0]["src"]).headers["content-type"] == "image/png"


def test_review_serves_what_it_judges_and_says_what_it_skips(tmp_path, monkeypatch):
    seen = {}

    def classify(folder, on_problem):
        yield OnDisk("a/t1", SeriesKey("1.2", "1.2.1"), brain())
        yield OnDisk("c", SeriesKey("1.3", "1.3.1"), None, "A scout.")

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            if timeout is None:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(votes, "threading", SimpleNamespace(Event=Interrupted))
    hooks = votes.Hooks(load_settings=lambda config: seen, classify=classify)
    result = CliRunner().invoke(votes.review, [str(tmp_path)], obj=hooks)
    assert result.exit_code == 0, result.output
    assert "/sign-in?next=/review#" in result.output and "c: A scout." in result.output


def test_without_the_nodes_settings_it_says_so():
    result = CliRunner().invoke(votes.votes, ["stats"])
    assert isinstance(result.exception, QcNodeError)
