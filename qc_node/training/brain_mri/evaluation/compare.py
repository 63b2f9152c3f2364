"""Networks against each other on the same held-out volumes, and how much more people would help.

The paper's networks (:mod:`qc_node.training.brain_mri.training.volumes`) stand beside the shipped ones in one
table with McNemar's test (Bottani et al. 2022, section 2.5); the learning curve is their Figure 5, over people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.classifiers.brain_mri import networks
from qc_node.networks import weights
from qc_node.training import scores
from qc_node.training.brain_mri.evaluation import heldout, tables
from qc_node.training.brain_mri.training import measured, packed, volumes

SEED = 20261121
CURVE_PEOPLE = (2, 4, 8, 12, 16, 22)


def right_answers(answers: tables.Answers) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Per binary question the rows that have a truth (grey zone left out) and whether each was answered right."""
    rows = np.arange(len(answers.people))
    proper = answers.reject == 0
    known = rows[proper & (answers.gadolinium >= 0)]
    grades = tables.true_grades(answers.damage, with_zone=False)
    graded = rows[proper & (grades >= 0).all(1)]
    said = np.stack([answers.p_grades[q.value].argmax(1) for q in domain.GRADED], 1).max(1)
    truth = grades.max(1)
    low = graded[truth[graded] < 2]
    return {
        "straight_reject": (rows, (answers.p_reject >= 0.5) == (answers.reject == 1)),
        "gadolinium": (known, (answers.p_gadolinium[known] >= 0.5) == (answers.gadolinium[known] == 1)),
        "tier_3_vs_2_1": (graded, (said[graded] == 2) == (truth[graded] == 2)),
        "tier_2_vs_1": (low, (said[low] >= 1) == (truth[low] == 1)),
    }


def mcnemar(first: tables.Answers, second: tables.Answers) -> dict[str, float]:
    """Two-sided p per question: do two networks err equally often on the same images?"""
    a, b = right_answers(first), right_answers(second)
    return {name: scores.mcnemar(a[name][1], b[name][1]) for name in a}


def paper_networks(
    runs: Path, held: heldout.HeldOut, log: Callable[[str], None] = print
) -> dict[str, tuple[int, dict[str, npt.NDArray[np.float64]]]]:
    """Parameters and logits on the held-out volumes of each paper network trained under `runs`.

    The folds of a network that are there are averaged.
    """
    out = {}
    for name in volumes.NAMES:
        folders = sorted(p.parent for p in (runs / name).glob("fold-*/best.safetensors"))
        parts, size = [], 0
        for folder in folders:
            network = volumes.build(name)
            size = networks.n_parameters(network)
            network.load_state_dict(weights.load_tensors(folder, "best.safetensors"))
            parts.append(volumes.predict(network, held.volumes))
            log(f"{name} {folder.name}: {len(held.cases)} volumes judged")
        if parts:
            mean = {k: np.mean([p[k] for p in parts], 0) for k in parts[0]}
            out[name] = (size, mean)
    return out


def row_of(name: str, answers: tables.Answers, parameters: int) -> dict[str, Any]:
    """One line of the comparison: balanced accuracies and quadratic kappas, grey zone left out."""
    content = tables.tables(answers, np.random.default_rng(SEED), with_zone=False)
    return {
        "network": name,
        "parameters": parameters,
        **{r["question"]: r["balanced_accuracy"] for r in content["binary"]},
        **{f"kappa_{r['question']}": r["kappa_quadratic"] for r in content["grades"]},
    }


def learning_curve(
    pack: packed.Pack, out: Path, log: Callable[[str], None] = print, sizes: Sequence[int] = CURVE_PEOPLE
) -> list[dict[str, Any]]:
    """Out-of-fold scores on real heads of the measured network, trained on ever more people.

    Who comes first is drawn once per fold, heads, hybrids and label maps alike.
    """
    settings = measured.MeasuredSettings(epochs=30, patience=30)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        answers: dict[str, list[npt.NDArray[Any]]] = {}
        for fold in range(5):
            train, held = packed.split(pack, fold)
            people = np.random.default_rng([SEED, fold]).permutation(sorted(set(pack.people[train].tolist())))
            chosen = train[np.isin(pack.people[train], people[:size])]
            watched = held[pack.kinds[held] == "head"]
            network, _ = measured.train_rows(pack, chosen, watched, fold, out / f"people-{size}-{fold}", settings)
            for name, z in measured.predict(network, pack.features[watched]).items():
                if name == "damage":
                    continue
                answers.setdefault(name, []).append(
                    np.stack(packed.answered(name, z, pack.targets[name][watched]))
                )
        row: dict[str, Any] = {"people": size}
        for name, parts in answers.items():
            truth, said = np.concatenate(parts, 1)
            row[name] = scores.balanced_accuracy(truth, said)
            if name in packed.GRADED:
                row[f"kappa_{name}"] = scores.weighted_kappa(truth, said, 3)
        rows.append(row)
        log(f"learning curve: {_line(row)}")
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return " ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as a table."""
    names = list(rows[0])
    lines = [" | ".join(names)]
    for row in rows:
        lines.append(" | ".join(f"{100 * v:.1f}" if isinstance(v, float) else str(v) for v in row.values()))
    return "\n".join([*lines, ""])


def plot_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The learning curve as a picture (needs matplotlib)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in (n for n in rows[0] if n != "people" and not n.startswith("kappa_")):
        axes.plot([r["people"] for r in rows], [100 * r[name] for r in rows], marker="o", label=name)
    axes.set(
        xlabel="people in training",
        ylabel="balanced accuracy, %",
        title="Learning curve: out of fold, simulated on real heads",
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
