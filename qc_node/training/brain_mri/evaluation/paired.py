"""Two versions of the classifier on the same volumes, paired: is the new one worse where the old one was measured?

Answers come from :mod:`.judge`, each by its own code.  Abstentions are counted apart: per question and overall the
table has right, wrong and undetermined of both, the difference of the right and of the wrong ones with an interval
over resampled people, and McNemar's exact test on the images that both answered.

    python -m qc_node.training.brain_mri.evaluation.paired --old packs/answers-old.jsonl \\
        --new packs/answers-new.jsonl --out packs/paired
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.training import scores
from qc_node.training.brain_mri.evaluation import judge, outcomes

SEED = 20261126
MOST_WORSE = 0.03
"""So much less may be right, overall: the margin that was set before anything was compared."""

Line = Mapping[str, Any]


def aligned(old: Sequence[Line], new: Sequence[Line]) -> list[tuple[Line, Line]]:
    """Both answers to each volume.

    Raises
    ------
    domain.QcNodeError
        The files are not about the same volumes.
    """
    other = {line["volume"]: line for line in new}
    if {line["volume"] for line in old} != set(other) or len(other) != len(new):
        raise domain.QcNodeError("The two files of answers are not about the same volumes.")
    pairs = [(line, other[line["volume"]]) for line in old]
    if any(a["truth"] != b["truth"] for a, b in pairs):
        raise domain.QcNodeError("The two files of answers know different truths of the same volume.")
    return pairs


def compare(old: Sequence[Line], new: Sequence[Line], n: int = 2000) -> dict[str, Any]:
    """Rows per question and overall: :data:`.outcomes.BASE` pooled, so that no answer counts twice."""
    pairs = aligned(old, new)
    sides = []
    for side in (0, 1):
        lines = [pair[side] for pair in pairs]
        sides.append(outcomes.columns((x["person"], x["said"], outcomes.truth_of(x["truth"])) for x in lines))
    rows = []
    for question in outcomes.QUESTIONS:
        a, b = sides[0][question], sides[1][question]
        rows.append({"question": question, **_row(a.people, a.states, b.states, n)})
    pooled = [[side[q] for q in outcomes.BASE] for side in sides]
    people = np.concatenate([c.people for c in pooled[0]])
    states = [np.concatenate([c.states for c in side]) for side in pooled]
    overall = _row(people, states[0], states[1], n)
    return {
        "volumes": len(pairs),
        "people": len(set(people.tolist())),
        "models": [pairs[0][0]["model"], pairs[0][1]["model"]],
        "rows": rows,
        "overall": overall,
        "margin": MOST_WORSE,
        "not_worse_than_margin": overall["right_new_minus_old"] >= -MOST_WORSE,
        "interval_above_margin": (overall["right_ci"][0] or -1.0) >= -MOST_WORSE,
    }


def _row(
    people: npt.NDArray[np.str_], old: npt.NDArray[np.str_], new: npt.NDArray[np.str_], n: int
) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    row: dict[str, Any] = {"asked": len(old)}
    for name, states in (("old", old), ("new", new)):
        row[name] = {s: int((states == s).sum()) for s in outcomes.STATES}
    for state in (outcomes.RIGHT, outcomes.WRONG):
        a, b = (old == state).astype(float), (new == state).astype(float)
        row[f"{state}_new_minus_old"] = float((b - a).mean()) if len(a) else 0.0
        ci = scores.bootstrap_ci(lambda x, y: float((y - x).mean()), people, [a, b], rng, n)
        row[f"{state}_ci"] = [float(x) if np.isfinite(x) else None for x in ci]
    both = (old != outcomes.UNDETERMINED) & (new != outcomes.UNDETERMINED)
    a, b = old[both] == outcomes.RIGHT, new[both] == outcomes.RIGHT
    row["both_answered"] = {
        "n": int(both.sum()),
        "right_old": int(a.sum()),
        "right_new": int(b.sum()),
        "only_old_right": int((a & ~b).sum()),
        "only_new_right": int((~a & b).sum()),
        "mcnemar_p": scores.mcnemar(a, b),
    }
    return row


def as_text(result: Mapping[str, Any]) -> str:
    """The table in markdown."""
    old, new = (f"{m['version']}" for m in result["models"])
    lines = [
        f"| question | asked | {old}: right / wrong / undetermined | {new} | right, points | wrong, points "
        "| both answered: only old / only new right, p |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in [*result["rows"], {"question": "**overall**", **result["overall"]}]:
        counts = [" / ".join(str(row[side][s]) for s in outcomes.STATES) for side in ("old", "new")]
        moved = [_points(row[f"{s}_new_minus_old"], row[f"{s}_ci"]) for s in (outcomes.RIGHT, outcomes.WRONG)]
        both = row["both_answered"]
        test = f"{both['only_old_right']} / {both['only_new_right']} of {both['n']}, {both['mcnemar_p']:.2g}"
        lines.append(f"| {row['question']} | {row['asked']} | {' | '.join([*counts, *moved, test])} |")
    return "\n".join(lines) + "\n"


def _points(value: float, ci: Sequence[float | None]) -> str:
    low, high = ci
    interval = "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * value:+.1f}{interval}"


@click.command()
@click.option("--old", type=click.Path(path_type=Path), required=True, help="Answers of the old version (.jsonl).")
@click.option("--new", type=click.Path(path_type=Path), required=True, help="Answers of the new version (.jsonl).")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for paired.json and paired.md."
)
def main(old: Path, new: Path, out: Path) -> None:
    """Compare the answers of two versions on the same volumes."""
    result = compare(judge.read(old), judge.read(new))
    out.mkdir(parents=True, exist_ok=True)
    (out / "paired.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "paired.md").write_text(as_text(result), encoding="utf-8")
    click.echo(as_text(result))
    click.echo(
        f"right overall: {_points(result['overall']['right_new_minus_old'], result['overall']['right_ci'])}"
    )


if __name__ == "__main__":
    main()
