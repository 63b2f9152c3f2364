"""What an operator does with the outbox and with finished series, by command or on a page: act and audit are one.

The ledger is the interface: a running node finds the rows within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger

AGAIN, DROPPED, JUDGE_AGAIN = "outbox again", "outbox drop", "judge again"
"""Events of the audit; their detail names deliveries and series by their numbers."""
ACTS = (AGAIN, DROPPED, JUDGE_AGAIN)


def send_again(ledger: Ledger, ids: Sequence[int], by: str, at: float) -> int:
    """Put deliveries that wait or were refused for good to the front of the line; returns how many.

    Parameters
    ----------
    by
        Who asked, for the audit: a command, or a reader's id.
    at
        Seconds since the epoch.

    Raises
    ------
    QcNodeError
        One of them is no unfinished delivery; then nothing is done.
    """
    with ledger.db.transaction():
        chosen = _unfinished(ledger, ids)
        for number in chosen:
            ledger.deliveries.again(number, at)
        _note(ledger, AGAIN, by, at, {"deliveries": chosen}, chosen)
    return len(chosen)


def send_refused_again(ledger: Ledger, by: str, at: float) -> int:
    """The same with everything that was refused for good."""
    with ledger.db.transaction():
        refused = [row["id"] for row in ledger.deliveries.unfinished() if row["state"] == "failed"]
        return send_again(ledger, refused, by, at)


def drop(ledger: Ledger, ids: Sequence[int], by: str, at: float) -> int:
    """Never send these; what waits behind them goes on, row and file stay.  Returns how many were dropped.

    Raises
    ------
    QcNodeError
        One of them is no unfinished delivery; then nothing is done.
    """
    with ledger.db.transaction():
        dropped = [number for number in _unfinished(ledger, ids) if ledger.deliveries.drop(number)]
        _note(ledger, DROPPED, by, at, {"deliveries": dropped}, dropped)
    return len(dropped)


def judge_again(ledger: Ledger, series_id: int, by: str, at: float) -> bool:
    """Queue a finished series once more, for the models and rules now in force.

    False when it is not finished, or its images were removed.
    """
    with ledger.db.transaction():
        done = ledger.series.judge_again(series_id, at)
        if done:
            _note(ledger, JUDGE_AGAIN, by, at, {"series": series_id}, [series_id])
    return done


def _unfinished(ledger: Ledger, ids: Sequence[int]) -> list[int]:
    """The ids, each once; all of them must wait or have failed."""
    for number in ids:
        if not ledger.deliveries.is_unfinished(number):
            raise QcNodeError(f"There is no unfinished delivery with the id {number}.")
    return list(dict.fromkeys(ids))


def _note(
    ledger: Ledger, event: str, by: str, at: float, detail: Mapping[str, object], about: Sequence[int]
) -> None:
    if about:
        ledger.audit.add(event, by, at, detail)
