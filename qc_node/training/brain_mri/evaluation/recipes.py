"""Does the paper's bias correction change what the node says?  ``fast`` against ``linear`` on the same volumes.

The shipped path leaves N4 out, which is the slowest step of the paper's preprocessing.  Here every volume is
judged twice, as it is and corrected by N4 (Tustison et al. 2010; as ``linear`` does it), and what is compared is
where the registration puts the brain, what is answered, and the seconds.

    python -m qc_node.training.brain_mri.evaluation.recipes --shared ../shared/data \\
        --anatomy packs/anatomy --out packs/n4
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from qc_node import domain
from qc_node.classifiers.brain_mri import linear, preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier
from qc_node.classifiers.brain_mri.classifier import load as load_classifier
from qc_node.classifiers.brain_mri.values import clean_values
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.evaluation import evaluate, heldout, tables
from qc_node.training.brain_mri.simulation import synthesis
from qc_node.training.brain_mri.simulation.simulator import Simulator


def both_ways(classifier: BrainMriClassifier, volume: domain.Volume) -> dict[str, Any]:
    """One volume through the classifier without and with N4.

    Returns
    -------
    dict
        ``said`` and ``p``: findings and network probabilities, plain first; ``apart_mm``: mean distance between
        the two places that registration finds for the brain; ``seconds`` of preparing plain, of N4 alone.
    """
    started = time.perf_counter()
    plain = classifier.prepare(volume)
    prepared = time.perf_counter() - started
    values, _ = clean_values(volume)
    started = time.perf_counter()
    corrected = domain.Volume(linear.bias_corrected(values, volume.affine), volume.affine, modality="MR")
    n4 = time.perf_counter() - started
    pair = [plain, classifier.prepare(corrected)]
    places = [
        preprocess.align(reg.Grid(v, volume.affine), classifier.head.targets).matrix
        for v in (values, corrected.voxels)
    ]
    points = classifier.head.brain_points.numpy()
    gap = np.einsum("ij,nj->ni", places[1][:3, :3] - places[0][:3, :3], points) + (places[1] - places[0])[:3, 3]
    verdicts = classifier.judge(pair)
    return {
        "said": [{f.question.value: f.value for f in v.findings} for v in verdicts],
        "certain": [p.certain.value if p.certain else None for p in pair],
        "p": [{k: v[i] for k, v in classifier.probabilities(pair).items()} for i in range(2)],
        "apart_mm": float(np.linalg.norm(gap, axis=1).mean()),
        "seconds": [prepared, n4],
    }


def compare(
    classifier: BrainMriClassifier,
    volumes: Iterable[tuple[heldout.HeldOutCase, domain.Volume]],
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Agreement and accuracy of the two ways over simulated held-out volumes."""
    cases, ways = [], []
    for case, volume in volumes:
        cases.append(case)
        ways.append(both_ways(classifier, volume))
        log(
            f"{len(ways)} {case.person} {case.reject}: {ways[-1]['apart_mm']:.2f} mm apart, "
            f"N4 {ways[-1]['seconds'][1]:.1f} s"
        )
    result: dict[str, Any] = {"volumes": len(ways), "people": len({c.person for c in cases})}
    proper = [w for w, c in zip(ways, cases, strict=True) if c.reject == "ok"]
    result["apart_mm"] = _quantiles([w["apart_mm"] for w in proper])
    result["seconds_prepare"] = _quantiles([w["seconds"][0] for w in ways])
    result["seconds_n4"] = _quantiles([w["seconds"][1] for w in ways])
    questions = sorted({q for w in ways for said in w["said"] for q in said})
    result["same_answer"] = {
        q: float(np.mean([w["said"][0].get(q) == w["said"][1].get(q) for w in ways])) for q in questions
    }
    for number, name in enumerate(("fast", "with N4")):
        judged = [replace(c, certain=w["certain"][number]) for c, w in zip(cases, ways, strict=True)]
        p = {k: np.stack([w["p"][number][k] for w in ways]) for k in ways[0]["p"][number]}
        content = tables.tables(
            evaluate.answers_of(p, judged), np.random.default_rng(evaluate.SEED), with_zone=True
        )
        result[name] = {
            **{r["question"]: _known(r["balanced_accuracy"]) for r in content["binary"]},
            **{f"kappa_{r['question']}": _known(r["kappa_quadratic"]) for r in content["grades"]},
        }
    return result


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _quantiles(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "95 %": float(np.quantile(values, 0.95)), "max": max(values)}


def simulated(
    shared: Path, anatomy: Path, classifier: BrainMriClassifier, per_person: int
) -> Iterator[tuple[heldout.HeldOutCase, domain.Volume]]:
    """The first volumes of each held-out head, as :func:`.heldout.build` draws them."""
    priors = synthesis.load_priors(shared / "mri" / "labelmaps" / "priors")
    paths = [anatomy / f"{p}.npz" for p in people.HELD_OUT_HEADS]
    simulator = Simulator(paths, priors, classifier.head)
    for n in range(per_person):
        for index in range(len(simulator.people)):
            case, grid = heldout.simulate(simulator, index, 500_000 + 1000 * index + n)
            yield case, domain.Volume(grid.values, grid.affine, modality="MR")


@click.command()
@click.option("--models", type=click.Path(path_type=Path), default=Path("models/brain-mri"), show_default=True)
@click.option("--shared", type=click.Path(path_type=Path), required=True, help="Folder of the shared images.")
@click.option(
    "--anatomy", type=click.Path(path_type=Path), required=True, help="Cached anatomies, as training makes."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for recipes.json.")
@click.option("--per-person", type=int, default=8, show_default=True, help="Simulated volumes per held-out head.")
def main(models: Path, shared: Path, anatomy: Path, out: Path, per_person: int) -> None:
    """Compare the classifier's answers without and with N4 bias correction."""
    import torch

    torch.set_num_threads(1)
    classifier = load_classifier(models)
    result = compare(classifier, simulated(shared, anatomy, classifier, per_person), click.echo)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    (out / "recipes.json").write_text(text + "\n", encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    main()
