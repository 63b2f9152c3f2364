"""How soon a fault of a scanner is found, against how often somebody is called for nothing.

Run as ``python -m benchmarks.baselines [--scanners 5] [--days 365] [--of MR CT DX invented] [--picture FILE]``.
The year is simulated (:mod:`tests.measures.year`, :mod:`tests.measures.catalogue_year`).  Limits of the node were
chosen on scanners 1 to 30; these start at 100.  All limits are scaled together to draw the curves; 1 is what the
node has.  At least 72 days, for faults set in after 60.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qc_node.measures import normal
from tests.measures import catalogue_year, year
from tests.measures.year import Chart, Measuring, Seen

Array = npt.NDArray[np.float64]

CVS = (0.10, 0.15, 0.20)
FIRST_SCANNER = 100
ONSETS = (300, 700, 1100, 1500)
LOOKED = 60
"""Series after an onset that are looked at."""
SCALES = tuple(np.round(np.arange(0.6, 1.65, 0.1), 1))
CURVES = {
    "lost coil element, noise +60 %": "tab:red",
    "step of noise +20 %": "tab:blue",
    "ramp of noise to +20 % in 20 series": "tab:green",
}


@dataclass(frozen=True)
class Result:
    """What one between-patient variation gave.

    Attributes
    ----------
    false
        By scale of the limits, alarms per scanner and month, ``(scanners, months)``.
    delays
        By fault and scale, series until it is found, one per onset and chart.
    """

    false: dict[float, Array]
    delays: dict[str, dict[float, Array]]


def measuring(of: str) -> Measuring:
    """The measures of a modality's catalogue, or the invented ones."""
    return year.INVENTED if of == "invented" else catalogue_year.MODALITIES[of]


def measure(of: str, cv: float, scanners: Sequence[int], days: int) -> Result:
    years = {scanner: year.scanner_year(scanner, cv, days, measuring(of)) for scanner in scanners}
    calm = {scanner: [year.seen(chart) for chart in charts] for scanner, charts in years.items()}
    false = {scale: np.array([monthly(calm[scanner], scale, days) for scanner in scanners]) for scale in SCALES}
    charts = [chart for charts in years.values() for chart in charts]
    return Result(false, {fault: found(charts, fault) for fault in year.FAULTS})


def monthly(seen: Sequence[Seen], scale: float, days: int) -> Array:
    """Alarms of one scanner in each month."""
    at = [number / year.A_DAY / year.DAYS_OF_MONTH for one in seen for number in one.alarms(scale)]
    return np.histogram(at, bins=np.arange(0, days // year.DAYS_OF_MONTH + 1))[0].astype(np.float64)


def found(charts: Sequence[Chart], fault: str) -> dict[float, Array]:
    """Series until noise, or what follows from it, calls; by scale."""
    looked = 1 if fault.startswith("one") else LOOKED
    seen = [
        year.seen(year.with_fault(chart, fault, onset), onset, onset + looked)
        for chart in charts
        for onset in ONSETS
        if onset + looked <= len(chart.values)
    ]
    return {scale: np.array([one.delay(scale, *charts[0].measuring.noisy) for one in seen]) for scale in SCALES}


Results = dict[tuple[str, float], Result]
"""By modality and variation between patients."""


def table(results: Results) -> str:
    """One row for each modality and variation."""
    what = ["measures", "CV", "false alarms", "first two months", "months with more than one", "noise +60 % in 5"]
    rows = [[*what, "+20 % step in 40", "+20 % in 20 series, in 40", "one series x 2, x 3, x 5"]]
    rows.append(["---"] * len(rows[0]))
    rows += [_row(of, cv, result) for (of, cv), result in results.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(of: str, cv: float, result: Result) -> list[str]:
    false, delays = result.false[1.0], {fault: by_scale[1.0] for fault, by_scale in result.delays.items()}
    coil, step, ramp = (delays[fault] for fault in CURVES)
    singles = [share(one, 1) for fault, one in delays.items() if fault.startswith("one")]
    cells = [of, f"{100 * cv:.0f} %", f"{false.mean():.2f}", f"{false[:, :2].mean():.2f}"]
    cells += [f"{100 * (false > 1).mean():.0f} %"]
    cells += [f"{share(coil, 5)} ({rank(coil, 0.9)})", f"{share(step, 40)} ({rank(step, 0.9)})"]
    return [*cells, f"{share(ramp, 40)} ({rank(ramp, 0.9)})", ", ".join(singles)]


def share(delays: Array, within: int) -> str:
    return f"{100 * (delays <= within).mean():.0f} %"


def rank(delays: Array, share: float) -> str:
    value = float(np.sort(delays)[int(np.ceil(share * len(delays))) - 1])
    return f"{value:.0f}" if np.isfinite(value) else f"over {LOOKED}"


def draw(results: Results, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = list(dict.fromkeys(of for of, _ in results))
    size = (11, 2.6 * len(kinds) + 0.6)
    figure, grid = plt.subplots(
        len(kinds), len(CVS), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for (of, cv), result in results.items():
        axis = grid[kinds.index(of), CVS.index(cv)]
        false = [max(result.false[scale].mean(), 0.01) for scale in SCALES]
        for fault, colour in CURVES.items():
            slowest = [np.quantile(result.delays[fault][scale], 0.9, method="higher") for scale in SCALES]
            axis.plot(false, slowest, color=colour, label=fault, linewidth=1.4)
            here = SCALES.index(1.0)
            axis.plot(false[here], slowest[here], "o", color=colour)
        axis.axvline(1.0, color="0.6", linestyle="--", linewidth=1)
        axis.set(xscale="log", yscale="log", xlim=(0.03, 12), ylim=(1.5, 70), title=f"{of}, CV {100 * cv:.0f} %")
        axis.set_yticks([2, 5, 10, 20, 40, 60], ["2", "5", "10", "20", "40", "60"])
        axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in grid[-1]:
        axis.set_xlabel("false alarms per scanner and month")
    for axis in grid[:, 0]:
        axis.set_ylabel("series until 90 % are found")
    grid[0, 0].legend(fontsize=7.5, loc="upper right")
    figure.suptitle("Simulated: eight charts per scanner; dots: the limits of the node", fontsize=10)
    figure.savefig(file, dpi=80)


def speed() -> float:
    """Milliseconds of one comparison with 200 earlier series."""
    history = year.scanner_year(FIRST_SCANNER, 0.15, 50)[0].past()[:201]
    present, taken = history.pop(), []
    for _ in range(50):
        start = time.process_time()
        normal.compare(present.values, present.body_size, history, year.MEASURES)
        taken.append(time.process_time() - start)
    return 1000 * float(np.median(taken))


def simulated(kinds: Sequence[str], scanners: Sequence[int], days: int, workers: int) -> Results:
    with ProcessPoolExecutor(workers) as pool:
        wanted = {(of, cv): pool.submit(measure, of, cv, scanners, days) for of in kinds for cv in CVS}
        return {key: future.result() for key, future in wanted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scanners", type=int, default=5)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--of", nargs="+", default=list(catalogue_year.MODALITIES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    results = simulated(
        chosen.of, range(FIRST_SCANNER, FIRST_SCANNER + chosen.scanners), chosen.days, chosen.workers
    )
    print(table(results))
    print(f"\nOne comparison with 200 earlier series of 25 measures: {speed():.1f} ms")
    if chosen.picture:
        draw(results, chosen.picture)


if __name__ == "__main__":
    main()
