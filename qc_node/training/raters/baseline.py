"""Quality votes from image-quality metrics alone, judged on scanners that took no part: a baseline.

The command at the end measures how far a table of MRIQC image-quality metrics predicts what people voted on
the same scans.  That is the floor for anything that looks at pixels, and it stands next to what the raters
make of each other, which is the ceiling that can be asked for.  The model is that of
:mod:`qc_node.training.raters.ordinal`, left out as in :mod:`qc_node.training.raters.leave_site_out`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from qc_node.training import scores
from qc_node.training.loop import save_json
from qc_node.training.raters import consensus
from qc_node.training.raters.leave_site_out import Said, SiteFits, label_rules
from qc_node.training.raters.ordinal import SCALINGS, Mask
from qc_node.training.raters.vote_table import EXCLUDE, FACTORS, GRADES, VoteTable, read_table

SEED = 20261121
RESAMPLES = 500


def person_says(votes: npt.NDArray[np.int64]) -> Said:
    """A rater in the place of the model."""
    excluded = votes == EXCLUDE
    return Said(votes.astype(np.float64), excluded, excluded, votes)


def auc_within(truth: Mask, score: npt.NDArray[np.float64], sites: npt.ArrayLike) -> float:
    """AUC over pairs of scans of one site only: what is left when knowing the site does not help.

    Sites differ in how much is excluded there, so the common AUC rewards telling sites apart.
    """
    where = np.asarray(sites)
    won = pairs = 0.0
    for site in np.unique(where):
        mine = where == site
        count = float(truth[mine].sum() * (~truth[mine]).sum())
        if count:
            won += count * scores.auc(truth[mine], score[mine])
            pairs += count
    return won / pairs if pairs else float("nan")


def judged(
    said: Said, truth: consensus.Votes, groups: npt.ArrayLike, sites: npt.NDArray[np.str_], seed: int = SEED
) -> dict[str, Any]:
    """Scores of a predictor against one rater's votes, on the scans on which both speak.

    Parameters
    ----------
    truth
        ``(n,)`` grades, :data:`consensus.MISSING` left out.
    groups
        ``(n,)`` what the bootstrap draws: sites, or people where there are too few sites.

    Returns
    -------
    ``auc``, ``balanced_accuracy``, ``accuracy`` for exclude against the rest and ``quadratic_kappa`` for the
    three grades, each ``[value, low, high]`` (95 %); ``auc_within_site`` (:func:`auc_within`);
    ``accuracy_by_site`` mean and SD over sites; and ``always_accept``, the accuracy of excluding nothing.
    """
    both = (truth != consensus.MISSING) & (said.grade != consensus.MISSING)
    y, where = truth[both], np.asarray(groups)[both]
    bad = y == EXCLUDE

    def with_interval(metric: Callable[..., float], *arrays: npt.NDArray[Any]) -> list[float]:
        rng = np.random.default_rng(seed)
        return [metric(*arrays), *scores.bootstrap_ci(metric, where, arrays, rng, RESAMPLES)]

    right = said.likely[both] == bad
    by_site = [float(right[sites[both] == s].mean()) for s in np.unique(sites[both])]
    return {
        "n": int(y.size),
        "excluded": float(bad.mean()),
        "auc": with_interval(scores.auc, bad, said.score[both]),
        "auc_within_site": auc_within(bad, said.score[both], sites[both]),
        "balanced_accuracy": with_interval(scores.balanced_accuracy_of_both, bad, said.balanced[both]),
        "accuracy": with_interval(scores.accuracy, bad, said.likely[both]),
        "accuracy_by_site": list(scores.mean_sd(by_site)),
        "always_accept": float(1 - bad.mean()),
        "quadratic_kappa": with_interval(
            lambda a, b: scores.weighted_kappa(a, b, GRADES, "quadratic"), y, said.grade[both]
        ),
    }


def compare(said: Mapping[str, Said], table: VoteTable, by: str) -> list[dict[str, Any]]:
    """Every rater, and the joint Dawid-Skene label, against every predictor and every other rater.

    ``by`` is what the bootstrap draws, ``site`` or ``person``.
    """
    groups = table.sites if by == "site" else np.arange(table.sites.size)
    people = {name: table.votes[:, i] for i, name in enumerate(table.rater_names)}
    truths = dict(people)
    if len(people) > 1:
        truths["consensus"] = consensus.dawid_skene(table.votes, GRADES).labels.argmax(1)
    rows = []
    for name, truth in truths.items():
        others = {f"person: {n}": person_says(v) for n, v in people.items() if n != name}
        models = {f"model of: {n}": s for n, s in said.items()}
        for who, answer in {**others, **models}.items():
            rows.append({"against": name, "predictor": who, **judged(answer, truth, groups, table.sites)})
    return rows


def evaluate(folder: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """All of it for the two tables in `folder` (``abide.tsv``, ``ds030.tsv``)."""
    joint = "Dawid-Skene"
    abide, ds030 = read_table(folder / "abide.tsv"), read_table(folder / "ds030.tsv")
    here: dict[str, Said] = {}
    there: dict[str, Said] = {}
    own_scale: list[dict[str, Any]] = []
    choices: dict[str, list[dict[str, Any]]] = {}
    agreed = consensus.dawid_skene(abide.votes, GRADES).labels.argmax(1)
    truths = {**dict(zip(abide.rater_names, abide.votes.T, strict=True)), joint: agreed}
    for name, rule in label_rules(abide).items():
        log(f"leave one site out: labels of {name}")
        fits = SiteFits(abide, rule, ds030)
        here[name], inner = fits.leave_one_out()
        there[name], last = fits.transfer()
        choices[name] = [vars(c) for c in [*inner, last]]
        if name in truths:
            said, _ = fits.leave_one_out(SCALINGS[1:])
            row = judged(said, truths[name], abide.sites, abide.sites)
            own_scale.append({"against": name, "predictor": f"model of: {name}", **row})
    ghosts = np.array([level == "1" for level in ds030.factors["has_ghost"]])
    ghostless = replace(ds030, votes=np.where(ghosts[:, None], consensus.MISSING, ds030.votes))
    return {
        "rung": "real scans, real votes (R2); metrics of MRIQC, no pixels",
        "scans": {"abide": len(abide.sites), "ds030": len(ds030.sites)},
        "agreement": consensus.agreement(abide.votes, abide.rater_names, GRADES),
        "abide_leave_one_site_out": compare(here, abide, "site"),
        "abide_each_site_by_its_own_scale": own_scale,
        "abide_to_ds030": compare(there, ds030, "person"),
        "abide_to_ds030_without_ghosts": compare(there, ghostless, "person"),
        "choices": choices,
        "mann_whitney": {
            "abide": shifts(here[joint], agreed, abide),
            "ds030": shifts(there[joint], ds030.votes[:, 0], ds030),
        },
        "factors_not_in_the_tables": {
            "abide": [f for f in FACTORS if f not in abide.factors],
            "ds030": [f for f in FACTORS if f not in ds030.factors],
        },
    }


def shifts(said: Said, truth: consensus.Votes, table: VoteTable) -> list[dict[str, Any]]:
    """Is the model right more often at one level of a factor than at another?  Mann-Whitney, Bonferroni."""
    known = truth != consensus.MISSING
    right = (said.likely == (truth == EXCLUDE))[known]
    factors = {f: [v for v, k in zip(levels, known, strict=True) if k] for f, levels in table.factors.items()}
    return scores.mann_whitney_bonferroni(right, factors)


TABLES = {
    "abide_leave_one_site_out": "ABIDE, each site as said by models of the others (95 % interval by site)",
    "abide_each_site_by_its_own_scale": "The same with every site's metrics scaled by that site alone",
    "abide_to_ds030": "ABIDE to DS030 (95 % interval by person: two sites are too few to draw from)",
    "abide_to_ds030_without_ghosts": "ABIDE to DS030 without the scans marked as ghosted",
}
COLUMNS = (
    "against",
    "said by",
    "n",
    "bad %",
    "AUC",
    "in site",
    "BA %",
    "accuracy %",
    "by site",
    "none %",
    "kappa",
)
LEGEND = """\
bad %: share that the one judged against excludes.  in site: AUC over pairs of scans of one site.  BA: at the
cut-off of the training sites.  accuracy: exclude at even odds; by site: its mean and SD over sites; none %:
accuracy of excluding nothing.  kappa: quadratic, three grades.
"""


def as_text(report: Mapping[str, Any]) -> str:
    """The report as tables of fixed width."""
    lines = [f"Rung: {report['rung']}.", "", LEGEND.rstrip()]
    for key, title in TABLES.items():
        cells = [COLUMNS, *(_cells(row) for row in report[key])]
        widths = [max(len(c[i]) for c in cells) for i in range(len(COLUMNS))]
        lines += ["", title]
        lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    for name, rows in report["mann_whitney"].items():
        found = [r for r in rows if r["p_corrected"] < 0.05]
        absent = ", ".join(report["factors_not_in_the_tables"][name])
        lines += [
            "",
            f"{name}: is the model of the joint labels right more often at one level than at another?",
            f"{len(rows)} comparisons, {len(found)} with p < 0.05 after Bonferroni.  Not in the table: {absent}.",
        ]
        for r in sorted(found, key=lambda r: float(r["p_corrected"])):
            (a, b), (m, n), (x, y) = r["levels"], r["n"], r["means"]
            lines.append(
                f"  {r['factor']}: {a} {100 * x:.0f} % of {m}, {b} {100 * y:.0f} % of {n}, "
                f"corrected p {r['p_corrected']:.2g}"
            )
    return "\n".join(lines) + "\n"


def _cells(r: Mapping[str, Any]) -> tuple[str, ...]:
    mean, sd = r["accuracy_by_site"]
    return (
        r["against"],
        r["predictor"],
        str(r["n"]),
        f"{100 * r['excluded']:.1f}",
        _span(r["auc"], 1, 3),
        f"{r['auc_within_site']:.3f}",
        _span(r["balanced_accuracy"]),
        _span(r["accuracy"]),
        f"{100 * mean:.0f} +- {100 * sd:.0f}",
        f"{100 * r['always_accept']:.1f}",
        _span(r["quadratic_kappa"], 1, 2),
    )


def _span(value: Sequence[float], factor: float = 100, digits: int = 1) -> str:
    middle, low, high = (f"{factor * v:.{digits}f}" for v in value)
    return f"{middle} {low}-{high}"


def _finite(value: Any) -> Any:
    """`value` with None for what could not be computed, which JSON has no number for."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@click.command("raters")
@click.option(
    "--shared",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the shared data, with votes/ in it.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for raters.json and raters.txt."
)
def command(shared: Path, out: Path) -> None:
    """Measure what image-quality metrics alone make of real votes, next to what the raters make of each other.

    Leave-one-site-out on ABIDE, then ABIDE to DS030. A few minutes on one core.
    """
    report = evaluate(shared / "votes", click.echo)
    out.mkdir(parents=True, exist_ok=True)
    save_json(out / "raters.json", _finite(report))
    text = as_text(report)
    (out / "raters.txt").write_text(text, encoding="utf-8")
    click.echo(text)
