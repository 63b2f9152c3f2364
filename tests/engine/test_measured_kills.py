"""A worker that is killed at any step of measuring or keeping: the next one leaves one row, one file, no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qc_node.ledger.kept_inputs import KeptInputs
from qc_node.ledger.measured import MeasuredTable
from qc_node.ledger.series import SeriesTable
from qc_node.operations.orphans import Orphans
from qc_node.spool import Spool
from tests.engine.test_measuring import topogram
from tests.engine.test_worker import Bench, SmallClassifier
from tests.ledger.makers import number_of


class Killed(BaseException):
    """Nobody handles it, as nobody handles SIGKILL; an open transaction is rolled back by both."""


STEPS: dict[str, tuple[type, str, str]] = {
    "measured, not yet written": (MeasuredTable, "add", "before"),
    "written, not yet finished": (MeasuredTable, "add", "after"),
    "finished, not yet committed": (SeriesTable, "finish", "after"),
    "finished, no picture yet": (Spool, "pictures_name", "before"),
    "picture there, no row yet": (KeptInputs, "add", "before"),
    "row not yet committed": (KeptInputs, "add", "after"),
}


def kills(original: Callable[..., Any], when: str) -> Callable[..., Any]:
    def killing(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            original(*args, **kwargs)
        raise Killed

    return killing


CASES = [
    pytest.param(step, change, id=f"{step}, {state}")
    for step, (owner, _, _) in STEPS.items()
    for change, state in ((topogram, "skipped"), (None, "judged"))
    if change is not None or owner not in (Spool, KeptInputs)  # a judged series leaves no picture
]


@pytest.mark.parametrize(("step", "change"), CASES)
def test_a_kill_loses_no_measure_and_doubles_nothing(
    step: str, change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, method, when = STEPS[step]
    first = Bench(tmp_path, SmallClassifier())
    uid = first.receive("a", change=change)
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, kills(getattr(owner, method), when))
        with pytest.raises(Killed):
            first.worker.step()
    first.ledger.close()

    again = Bench(tmp_path, SmallClassifier())
    again.ledger.series.requeue_claimed(3, 1000.0)  # what a pool does when a worker is gone
    while again.worker.step():
        pass
    number = number_of(again.ledger, uid)
    assert again.state(uid)[0] == ("skipped" if change else "judged")
    assert again.ledger.db.tuples("SELECT series_id, run FROM measured") == [(number, 1)]
    assert len(again.ledger.verdicts.of(number, 1)) == (0 if change else 1)
    looks = Orphans(again.ledger, again.spool)
    looks.look()
    looks.look()
    there = {name for names in again.spool.files("training") for name in names}
    assert there == set(again.ledger.removals.named("training")), "files that rows name, and no other"
    assert bool(there) == (owner not in (Spool, KeptInputs)), "a picture is not worth judging a series again"
