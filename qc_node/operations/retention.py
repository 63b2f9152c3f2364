"""What is kept for how long: images until the report is out, network inputs as long as votes may come.

Reports, votes and what was judged are never deleted.  Images go in three small steps, so that a kill between any
two of them is mended by the next look: the series is marked and not judged any more, files go, and only then their
rows, which are condensed (:mod:`qc_node.ledger.removals`).  A file whose row went first would be taken in again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from qc_node.ledger import Ledger
from qc_node.ledger.rows import KeptInputRow, SeriesRow
from qc_node.spool import Spool

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

KEEP_SESSIONS_DAYS = 30.0
"""So long one can still see when somebody was signed in."""
AT_ONCE = 100
"""Files between two pauses, and rows of one transaction: some milliseconds."""

GoOn = Callable[[], bool]
"""Asked after each small step; may pause, and says whether to go on."""


class Pace:
    """Leaves the disk and the ledger to the receiver most of the time: a pause after each step of work.

    Parameters
    ----------
    wait
        Waits for so many seconds; whether to end (:meth:`threading.Event.wait` of the event that stops the node).
    steady
        Seconds of a clock that nobody sets.
    rest
        So many times as long as a step took is the pause after it.
    """

    def __init__(self, wait: Callable[[float], bool], steady: Callable[[], float], rest: float = 3.0) -> None:
        self._wait = wait
        self._steady = steady
        self._rest = rest
        self._began = steady()

    def begin(self) -> None:
        """Work starts now."""
        self._began = self._steady()

    def __call__(self) -> bool:
        """Pause; whether to go on."""
        ended = self._wait(self._rest * (self._steady() - self._began))
        self._began = self._steady()
        return not ended


def remove_old(
    ledger: Ledger,
    spool: Spool,
    now: float,
    keep_images_h: float,
    keep_training_days: float,
    go_on: GoOn = lambda: True,
    *,
    most_kept_bytes: float = math.inf,
) -> tuple[int, int]:
    """Delete all images, other received objects, quarantine and network inputs that are past their time.

    So are pictures of series that no classifier takes once the images are gone and nobody voted, unless they are
    of the sample; and where all together take more than `most_kept_bytes`, the oldest without a vote go first.

    Ends when nothing is due any more, or when `go_on` says so.

    Returns
    -------
    tuple of int
        How many series lost their images, and how many verdicts their network input.
    """
    images, inputs = now - keep_images_h * HOUR_S, now - keep_training_days * DAY_S
    steps = chain(
        _series(ledger, spool, images, now),
        _objects(ledger, spool, images),
        _refused(ledger, spool, inputs),
        _inputs(ledger, spool, inputs),
        _pictures(ledger, spool, inputs, most_kept_bytes),
    )
    done: Counter[str] = Counter()
    for step in steps:
        done[step] += 1
        if not go_on():
            break
    return done["series"], done["input"]


def remove_old_sessions(ledger: Ledger, now: float, session_days: float) -> int:
    """Delete sign-ins that ended (by themselves after `session_days`) a month ago; returns how many."""
    ended = now - KEEP_SESSIONS_DAYS * DAY_S
    done = 0
    while some := ledger.sessions.forget(ended, ended - session_days * DAY_S):
        done += some
    return done


Steps = Iterator[str]
"""What one small step did, after it."""


def _series(ledger: Ledger, spool: Spool, older_than: float, now: float) -> Steps:
    for row in chain(_due(ledger, older_than), _due_again(ledger, older_than)):
        numbers = ledger.removals.begin(row["series_id"], row["last_received"], now)
        if numbers is not None:
            yield from _images(ledger, spool, row["series_id"], numbers, now)


def _due(ledger: Ledger, older_than: float) -> Iterator[SeriesRow]:
    after = (0.0, 0)
    while rows := ledger.removals.due(older_than, after):
        yield from rows
        after = rows[-1]["last_received"], rows[-1]["series_id"]


def _due_again(ledger: Ledger, older_than: float) -> Iterator[SeriesRow]:
    after = 0
    while rows := ledger.removals.due_again(older_than, after):
        yield from rows
        after = rows[-1]["series_id"]


def _images(ledger: Ledger, spool: Spool, series_id: int, numbers: Sequence[int], now: float) -> Steps:
    for n in range(0, len(numbers), AT_ONCE):
        some = numbers[n : n + AT_ONCE]
        for name in ledger.removals.paths(some):
            spool.remove(name)
        ledger.removals.condense(series_id, some, now)
        yield "images"
    ledger.removals.end(series_id)
    yield "series"


def _objects(ledger: Ledger, spool: Spool, older_than: float) -> Steps:
    while rows := ledger.removals.objects(older_than):
        for row in rows:
            spool.remove(row["path"])
            ledger.removals.forget_object(row["instance_id"])
            yield "object"


def _refused(ledger: Ledger, spool: Spool, older_than: float) -> Steps:
    while rows := ledger.removals.refused(older_than, AT_ONCE):
        for row in rows:
            seen = spool.identity(row["path"])
            if seen is not None and seen.modified_ns < older_than * 1e9:  # else the same came again, with a row
                spool.remove(row["path"])
        ledger.removals.forget_refused([row["id"] for row in rows])
        yield "refused"


def _inputs(ledger: Ledger, spool: Spool, older_than: float) -> Steps:
    while rows := ledger.verdicts.training_to_remove(older_than):
        for verdict in rows:
            for kept in _kept(verdict["training_path"], verdict["thumbnails"]):
                spool.remove(kept)
            ledger.verdicts.forget_training(verdict["id"])
            yield "input"


def _pictures(ledger: Ledger, spool: Spool, older_than: float, most_bytes: float) -> Steps:
    kept = ledger.kept_inputs
    while rows := (kept.older_than(older_than) or kept.unwanted()):
        for row in rows:
            _drop(ledger, spool, row)
            yield "pictures"
    too_many = kept.total_bytes() - most_bytes
    while too_many > 0 and (rows := kept.first_to_go()):  # none left: somebody forgot them meanwhile
        for row in rows:
            _drop(ledger, spool, row)
            yield "pictures"
            too_many -= row["bytes"]
            if too_many <= 0:
                return


def _drop(ledger: Ledger, spool: Spool, row: KeptInputRow) -> None:
    spool.remove(row["path"])
    ledger.kept_inputs.removed(row["kept_id"])


def _kept(training: str | None, thumbnails: Sequence[str]) -> list[str]:
    return [*([training] if training else []), *thumbnails]
