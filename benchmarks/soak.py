"""A node for half an hour in a hospital where everything goes wrong, and what is left of it.

    python -m benchmarks.soak [--minutes 30] [--seed 1] [--kills 0.5] [--folder DIR]

Three senders (MR, CT, radiographs, reports of others; late, doubled and broken off) send to a node with its own
processes.  In the first half (``--kills``) the node, its classifier and its receiving process are killed; all the
time the PACS is away, in a mood (:data:`MOODS`), or the ledger is locked.  The invariants of
:mod:`tests.end_to_end.faults` are asked between the faults and at the end.  In the second half nothing is killed,
and memory, descriptors and threads of each process must be flat, once warm.  A real Prometheus with the shipped
alerts counts what would have fired.

The order of faults and traffic follows from the seed; the timing is the machine's.  Ends with 1 when an invariant
is broken or a process grows.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from pydicom.dataset import Dataset

from tests.end_to_end.faults import (
    ABORTS,
    ANSWER_LOST,
    Commit,
    Count,
    Hospital,
    Modality,
    Script,
    answers,
    ct,
    dx,
    invariants,
    mr,
    node_and_pacs,
    report_of_another,
)
from tests.end_to_end.faults.hospital import RECEIVER, WORKER
from tests.peers.prometheus import Fired, Prometheus, fired

T = TypeVar("T")

SENDERS = ("CT1", "MR1", "ROUTER")
SAMPLE_S = 2.0
WARM_UP_S = 240.0
"""Of the part without kills, what does not count: a new classifier meets each size of series once."""
SHORTEST_S = 180.0
"""A line through less than this says nothing about growth."""
MAY_GROW = {"MB": (5.0, 0.03), "descriptors": (3.0, 0.0), "threads": (3.0, 0.0)}
"""How much the fitted line may rise over the window: so much, or that share of the mean."""


def mood(**changes: Any) -> Script:
    """A PACS that offers everything, but for `changes`."""
    return Script(**{"find": Count(), "commit": Commit(), **changes})


WELL = mood()
MOODS = (
    mood(store=[answers(0xA700)] * 5),
    mood(objects={0: ABORTS}),
    mood(objects={0: answers(0xA700), 1: ABORTS}),
    mood(store=[ANSWER_LOST] * 3, duplicate=0x0111),
    mood(store=[answers(0x0000, after_s=1.0)] * 10),
    mood(store=[answers(0xB000)] * 5),
    mood(rejects=5),
    mood(find=Count(endless=True)),
    mood(find=Count(after_s=10.0)),
    mood(find=Count(off_by=-1)),
    mood(find=Count(status=0xA700)),
    mood(commit=Commit(after_s=5.0, own=True)),
    mood(commit=Commit(fails=2)),
    mood(commit=Commit(status=0x0112)),
    mood(commit=Commit(after_s=math.inf)),
)


# -- traffic ---------------------------------------------------------------------------------------------
@dataclass
class Tally:
    """What was done, and what was found wrong."""

    sent: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    violations: list[str] = field(default_factory=list)


def send(hospital: Hospital, modality: Modality, rng: random.Random, tally: Tally, ended: threading.Event) -> None:
    """One sender until `ended`: series of all kinds, some of them in an unfriendly way."""
    while not ended.is_set():
        kind = rng.choices(("ct", "mr", "dx", "report"), (5, 4, 1, 1))[0]
        way = rng.choices(("plainly", "late", "twice", "broken off"), (6, 1, 1, 1))[0]
        series = some_series(rng, kind)
        hospital.archives(series)
        for part in parts_of(series, way, modality):
            modality.sends_until_taken(part, within_s=300.0)
            ended.wait(rng.uniform(4.0, 8.0) if way == "late" else 0.0)
        tally.sent[kind] += 1
        tally.sent[way] += 1
        ended.wait(rng.uniform(0.5, 4.0))


def some_series(rng: random.Random, kind: str) -> Sequence[Dataset]:
    """A small series of a kind, never the same."""
    seed, slices, counted = rng.randrange(1 << 30), rng.randrange(6, 20), rng.random() < 0.5
    match kind:
        case "ct":
            return ct(slices, seed, counted=counted)
        case "mr":
            return mr(2 * slices, seed, counted=counted)
        case "dx":
            return dx(seed)
    return report_of_another()


def parts_of(series: Sequence[Dataset], way: str, modality: Modality) -> Iterator[Sequence[Dataset]]:
    """How a series comes."""
    if way == "broken off":
        with contextlib.suppress(OSError, EOFError, AssertionError):  # the node may be down
            modality.breaks_off(series[0])
    half = (len(series) + 1) // 2
    parts = {"late": (series[:half], series[half:]), "twice": (series, series)}.get(way, (series,))
    yield from (part for part in parts if part)


def shuffled_for_ever(things: Sequence[T], rng: random.Random) -> Iterator[T]:
    """All of them in a random order, and again in another."""
    while True:
        yield from rng.sample(things, len(things))


# -- faults ----------------------------------------------------------------------------------------------
class Trouble:
    """Does one terrible thing after the other, and asks the invariants in between.

    Things and moods come in a random order, each once before any comes again; `pace` stretches how
    long each lasts.
    """

    def __init__(
        self, hospital: Hospital, rng: random.Random, tally: Tally, ended: threading.Event, pace: float
    ) -> None:
        self._hospital, self._rng, self._tally, self._ended, self._pace = hospital, rng, tally, ended, pace
        self._moods = shuffled_for_ever(MOODS, rng)
        self._gentle: dict[str, Callable[[], None]] = {
            "PACS away": self._pacs_away,
            "PACS in a mood": self._pacs_in_a_mood,
            "ledger locked": self._ledger_locked,
            "half-open associations": self._half_open,
        }
        self._violent: dict[str, Callable[[], None]] = {
            "node killed": hospital.kills_node,
            "classifier killed": lambda: hospital.kills(WORKER),
            "receiving process killed": lambda: hospital.kills(RECEIVER),
            "classifier stands still": lambda: self._frozen(WORKER),
            "receiving process stands still": lambda: self._frozen(RECEIVER),
        }

    def run(self, until: float, *, violent: bool) -> None:
        """Faults until the monotonic clock says `until`."""
        things = {**self._gentle, **(self._violent if violent else {})}
        for name in shuffled_for_ever([*things, "PACS in a mood", "PACS in a mood"], self._rng):
            if time.monotonic() >= until:
                return
            things[name]()
            self._tally.faults[name] += 1
            self._wait(5.0, 20.0)
            self._look()

    def _wait(self, least: float, most: float) -> None:
        self._ended.wait(self._pace * self._rng.uniform(least, most))

    def _look(self) -> None:
        """What must hold at any moment: nothing acknowledged is lost, nothing waits unseen."""
        seen = self._hospital.look()
        self._tally.looks += 1
        self._tally.violations += [*invariants.lost(seen), *invariants.unexplained(seen)]

    def _pacs_away(self) -> None:
        with self._hospital.without_pacs():
            self._wait(5.0, 60.0)

    def _pacs_in_a_mood(self) -> None:
        self._hospital.pacs.behave(next(self._moods))
        self._wait(10.0, 30.0)
        self._hospital.pacs.behave(WELL)

    def _ledger_locked(self) -> None:
        with self._hospital.ledger_locked():
            self._wait(1.0, 8.0)

    def _half_open(self) -> None:
        peers = self._hospital.modality.hangs_half_open(5)
        self._wait(5.0, 5.0)
        for peer in peers:
            peer.close()

    def _frozen(self, part: str) -> None:
        with self._hospital.frozen(part):
            self._wait(1.0, 10.0)


# -- memory, descriptors, threads ------------------------------------------------------------------------
@dataclass(frozen=True)
class Growth:
    """One figure of one process over a window of `seconds`: its mean, its fitted rise, and that by the hour."""

    process: str
    figure: str
    seconds: float
    mean: float
    rise: float
    per_hour: float

    @property
    def verdict(self) -> str:
        """``flat``, ``GROWS`` (by more than :data:`MAY_GROW`), or that the window is too short to say."""
        absolute, share = MAY_GROW[self.figure]
        if self.seconds < SHORTEST_S:
            return "too short to say"
        return "flat" if self.rise <= max(absolute, share * self.mean) else "GROWS"


class Samples:
    """Memory, descriptors and threads of the node's processes, every :data:`SAMPLE_S` seconds."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._rows: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def run(self, ended: threading.Event) -> None:
        """Sample until `ended`."""
        while not ended.wait(SAMPLE_S):
            assert self._hospital.node.process is not None
            with contextlib.suppress(psutil.Error):
                main = psutil.Process(self._hospital.node.process.pid)
                for process in (main, *main.children()):
                    self._take(process)

    def _take(self, process: psutil.Process) -> None:
        line = " ".join(process.cmdline())
        role = "classifier" if WORKER in line else "receiving" if RECEIVER in line else "node"
        figures = {
            "MB": process.memory_info().rss / 1e6,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }
        for figure, value in figures.items():
            self._rows[role, figure].append((time.monotonic(), value))

    def growth(self, since: float) -> list[Growth]:
        """The straight line through what was sampled after `since`."""
        return [
            fitted(role, figure, [row for row in rows if row[0] >= since])
            for (role, figure), rows in self._rows.items()
        ]


def fitted(process: str, figure: str, rows: Sequence[tuple[float, float]]) -> Growth:
    """Least squares over (seconds, value); not a number where there are too few."""
    if len(rows) < 3:
        return Growth(process, figure, 0.0, math.nan, math.nan, math.nan)
    at, values = np.array(rows).T
    slope = float(np.polyfit(at - at[0], values, 1)[0])
    seconds = float(at[-1] - at[0])
    return Growth(process, figure, seconds, float(values.mean()), slope * seconds, slope * 3600.0)


# -- all of it -------------------------------------------------------------------------------------------
@dataclass
class Result:
    """What a soak found."""

    minutes: float
    tally: Tally
    acknowledged: int
    reports: int
    states: Counter[str]
    growth: list[Growth]
    alerts: list[Fired]

    @property
    def well(self) -> bool:
        """Whether no invariant was broken and nothing grew."""
        return not self.tally.violations and all(g.verdict != "GROWS" for g in self.growth)


@contextmanager
def in_background(*works: Callable[[], None], ended: threading.Event, tally: Tally) -> Iterator[None]:
    """Run `works` in threads until `ended` is set at the end; what they raise is a violation."""
    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(work) for work in works]
        try:
            yield
        finally:
            ended.set()
        tally.violations += [repr(error) for work in running if (error := work.exception()) is not None]


def soak(folder: Path, minutes: float, seed: int, kills: float = 0.5) -> Result:
    """Run for so long; in the first part of it, the share `kills`, with kills."""
    tally, ended, sampled = Tally(), threading.Event(), threading.Event()
    settings: dict[str, dict[str, Any]] = {
        "completion": {"quiet_s": 3.0, "hard_cap_s": 60.0},
        "pacs": {"flag_object": True},
    }
    with node_and_pacs(folder / "node", WELL, settings=settings) as hospital:
        prometheus = Prometheus(folder, hospital.node.metrics_port)
        samples = Samples(hospital)
        trouble = Trouble(hospital, random.Random(seed), tally, ended, min(1.0, minutes / 10.0))
        senders = [
            partial(send, hospital, hospital.another_modality(name), random.Random(f"{seed} {name}"), tally, ended)
            for name in SENDERS
        ]
        with prometheus.process:
            began, begin = time.monotonic(), time.time()
            calm, end = began + 60.0 * minutes * kills, began + 60.0 * minutes
            with in_background(lambda: samples.run(sampled), ended=sampled, tally=tally):
                with in_background(*senders, ended=ended, tally=tally):
                    trouble.run(calm, violent=True)
                    trouble.run(end, violent=False)
                growth = samples.growth(calm + WARM_UP_S)
            hospital.pacs.behave(WELL)
            seen = hospital.comes_to_rest(300.0)
            alerts = fired(prometheus, begin, time.time())
    states = Counter(row["state"] for row in seen.tables["series"])
    return Result(minutes, tally, len(seen.acknowledged), len(seen.held), states, growth, alerts)


def show(result: Result) -> None:
    """Print the tables and the verdict."""
    tally = result.tally
    print(f"{result.minutes:g} min; sent: {dict(tally.sent)}; {result.acknowledged} objects acknowledged")
    print(f"series: {dict(result.states)}; {result.reports} objects at the PACS")
    print(f"faults: {dict(tally.faults)}; invariants asked {tally.looks + 1} times")
    print(
        f"\n{'process':<12}{'figure':<14}{'mean':>10}{'rise':>10}{'per hour':>12}  in the last part without kills"
    )
    for g in result.growth:
        print(f"{g.process:<12}{g.figure:<14}{g.mean:>10.1f}{g.rise:>+10.1f}{g.per_hour:>+12.1f}  {g.verdict}")
    print(f"\n{'alert':<26}{'severity':<10}{'fired':>6}{'seconds':>9}{'pending s':>11}")
    for a in result.alerts:
        print(f"{a.alert:<26}{a.severity:<10}{a.times:>6}{a.seconds:>9.0f}{a.pending:>11.0f}")
    for sentence in tally.violations:
        print(f"BROKEN: {sentence}")
    print(f"\n{'all invariants held, and nothing grew' if result.well else 'NOT WELL'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=float, default=0.5, help="share of the time in which processes are killed")
    parser.add_argument("--folder", type=Path, help="where node and Prometheus keep their files, and stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        result = soak(folder, options.minutes, options.seed, options.kills)
    show(result)
    sys.exit(not result.well)


if __name__ == "__main__":
    main()
