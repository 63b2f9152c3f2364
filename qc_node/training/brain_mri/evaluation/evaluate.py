"""Evaluation of the shipped brain MRI classifier: ``qc-node evaluate brain-mri``.

Three rungs: R0 and R1 are simulated on people never trained on (:mod:`.heldout`), "real" is
every real image of the shared data, judged by the whole classifier.  Text, JSON and plots.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from qc_node import domain
from qc_node.classifiers.brain_mri import checks, networks
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead
from qc_node.classifiers.brain_mri.classifier import load as load_classifier
from qc_node.classifiers.brain_mri.decision import Decision, posterior, reject_probability
from qc_node.training import scores
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.evaluation import compare, heldout, lopo, real_images, tables
from qc_node.training.brain_mri.training import packed

SEED = 20261120


def answers_of(p: Mapping[str, npt.NDArray[np.float64]], cases: Sequence[heldout.HeldOutCase]) -> tables.Answers:
    """What is said about a held-out set: the checks where they are certain, else probabilities `p`.

    `p` has ``(n, n_answers)`` per question.
    """
    certain = np.array([c.certain is not None for c in cases])
    nan = float("nan")
    return tables.Answers(
        people=np.array([c.person for c in cases]),
        reject=np.array([int(c.reject != "ok") for c in cases]),
        gadolinium=np.array([-1 if c.gadolinium is None else c.gadolinium for c in cases]),
        damage=np.array([[nan if v is None else v for v in (c.motion, c.contrast, c.noise)] for c in cases]),
        p_reject=np.where(certain, 1.0, reject_probability(p["reject"])),
        p_gadolinium=p["gadolinium"][:, 1],
        p_grades={q.value: p[q.value] for q in domain.GRADED},
    )


def members_logits(
    classifier: BrainMriClassifier, held: heldout.HeldOut, log: Callable[[str], None] = print
) -> list[dict[str, npt.NDArray[np.float64]]]:
    """Logits of every fold's networks on every case, so that tables can mix them at will."""
    prepared = [PreparedHead(s, {}, checks.Measures(()), classifier.measure(s)) for s in held.slices]
    out = []
    for number, member in enumerate(classifier.members):
        single = BrainMriClassifier(
            classifier.identity, classifier.head, [member], classifier.decision, classifier.device
        )
        parts = [single.logits(prepared[i : i + 16]) for i in range(0, len(prepared), 16)]
        out.append({k: np.concatenate([part[k] for part in parts]) for k in parts[0] if k != "damage"})
        log(f"networks of fold {number}: {len(prepared)} volumes judged")
    return out


def probabilities_of(
    logits: Sequence[Mapping[str, npt.NDArray[np.float64]]], decision: Decision
) -> dict[str, npt.NDArray[np.float64]]:
    """Mean of several networks' logits made probabilities, as the classifier does it."""
    return {k: posterior(np.mean([z[k] for z in logits], 0), decision, k) for k in logits[0]}


def real_items(classifier: BrainMriClassifier, shared: Path, cache: Path | None = None) -> list[dict[str, Any]]:
    """Every real image through the whole classifier: what it said, and whether that is right where it is known.

    Images made ready for the networks are kept in the folder `cache`, if there is one.
    """
    rows = []
    for image in real_images.read(classifier, shared, cache):
        item, prepared = image.item, image.head
        verdict = classifier.judge([prepared])[0]
        reject = verdict.finding(domain.Question.STRAIGHT_REJECT)
        gadolinium = verdict.finding(domain.Question.GADOLINIUM)
        tier = verdict.finding(domain.Question.TIER)
        assert reject is not None
        network = classifier.probabilities([prepared]) if classifier.members else {}
        proper = item.kind in real_images.PROPER
        rows.append(
            {
                "item": item.path.name,
                "person": item.person,
                "kind": item.kind,
                "trained_on": item.kind == "t1w" and item.person not in people.HELD_OUT_HEADS,
                "expected_reject": not proper,
                "reject": reject.value,
                "reason": reject.reason.value if reject.reason else None,
                "abstained": reject.abstained,
                "right": reject.value is (not proper),
                "gadolinium_known": item.gadolinium,
                "gadolinium": gadolinium.value if gadolinium else None,
                "network_alone_p_gadolinium": float(network["gadolinium"][0, 1]) if network else None,
                "grades": {q.value: f.value for q in domain.GRADED if (f := verdict.finding(q))},
                "tier": tier.value if tier else None,
                "ncc": prepared.measures.ncc,
            }
        )
    return rows


def per_member(
    logits: Sequence[Mapping[str, npt.NDArray[np.float64]]],
    decision: Decision,
    cases: Sequence[heldout.HeldOutCase],
) -> dict[str, Any]:
    """Balanced accuracy of each fold's networks alone: mean and SD."""
    results: dict[str, list[float]] = {}
    for single in logits:
        a = answers_of(probabilities_of([single], decision), cases)
        for row in tables.tables(a, np.random.default_rng(SEED), with_zone=False)["binary"]:
            results.setdefault(row["question"], []).append(row["balanced_accuracy"])
    out: dict[str, Any] = {}
    for name, values in results.items():
        mean, sd = scores.mean_sd(values)
        out[name] = {"mean": mean, "sd": sd if np.isfinite(sd) else None, "folds": values}
    return out


def evaluate(
    models: Path,
    held: Path | None,
    shared: Path | None,
    out: Path,
    log: Callable[[str], None] = print,
    runs: Path | None = None,
    plots: bool = True,
    prepared: Path | None = None,
) -> dict[str, Any]:
    """Write ``evaluation.json``, ``evaluation.txt`` and plots into `out`; returns the JSON."""
    out.mkdir(parents=True, exist_ok=True)
    classifier = load_classifier(models)
    result: dict[str, Any] = {
        "model": {
            "name": classifier.identity.name,
            "version": classifier.identity.version,
            "sha256": classifier.identity.sha256,
        }
    }
    text = [f"# {classifier.identity.name} {classifier.identity.version}", ""]
    if held is not None and classifier.members:
        loaded = heldout.load(held)
        cases = loaded.cases
        kinds = np.array([c.kind for c in cases])
        single = members_logits(classifier, loaded, log)
        everything = answers_of(probabilities_of(single, classifier.decision), cases)
        for rung, use in (
            ("R1 simulated on held-out real heads", kinds == "head"),
            ("R0 simulated on held-out label maps", kinds == "map"),
        ):
            rows = np.flatnonzero(use)
            if rows.size == 0:
                continue
            part = everything.take(rows)
            for zone in (False, True):
                content = tables.tables(part, np.random.default_rng(SEED), with_zone=zone)
                name = f"{rung}, grey zone {'included' if zone else 'left out'}"
                result[name] = content
                text.append(tables.as_text(name, content))
            chosen = [cases[i] for i in rows]
            own = [{k: z[rows] for k, z in member.items()} for member in single]
            result[f"{rung}, single folds"] = per_member(own, classifier.decision, chosen)
            result[f"{rung}, by scanner"] = by_scanner(part)
            if runs is not None and rung.startswith("R1"):
                lines = versus(runs, loaded, rows, part, classifier, log)
                result["networks on the same volumes"] = lines
                title = "## networks on the same volumes, R1, grey zone left out"
                text += [
                    title,
                    "",
                    compare.as_text(lines["rows"]),
                    f"McNemar against the shipped, p: {json.dumps(lines['mcnemar'])}",
                    "",
                ]
            if plots:
                plot(part, out / f"reliability-{rung[:2].lower()}.png", rung)
    if shared is not None:
        rows_real = real_items(classifier, shared, prepared)
        result["real"] = rows_real
        text += ["## real images", ""]
        for r in rows_real:
            known, alone = r["gadolinium_known"][:7], r["network_alone_p_gadolinium"]
            text.append(
                f"{'ok ' if r['right'] else 'BAD'} {r['kind']:15s} {r['person']:22s} reject {r['reject']!s:5s} "
                f"{r['reason'] or r['abstained'] or '':30s} gd {r['gadolinium']!s:5s} "
                f"({known}; network alone {alone}) {r['grades']} tier {r['tier']}"
            )
    (out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "evaluation.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    log("\n".join(text))
    return result


def versus(
    runs: Path,
    held: heldout.HeldOut,
    rows: npt.NDArray[np.int64],
    shipped: tables.Answers,
    classifier: BrainMriClassifier,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """The shipped networks and the paper's on the same volumes; McNemar of each against the shipped."""
    cases = [held.cases[i] for i in rows]
    size = sum(networks.n_parameters(m.measured) for m in classifier.members)
    size += sum(networks.n_parameters(m.pixels) for m in classifier.members if m.pixels is not None)
    lines, tests = [compare.row_of("shipped", shipped, size)], {}
    for name, (parameters, logits) in compare.paper_networks(runs, held, log).items():
        own = answers_of({k: scores.softmax(z[rows]) for k, z in logits.items()}, cases)
        lines.append(compare.row_of(name, own, parameters))
        tests[name] = compare.mcnemar(shipped, own)
    return {"rows": lines, "mcnemar": tests}


def by_scanner(answers: tables.Answers) -> list[dict[str, Any]]:
    """Does the acquisition protocol shift the share of right straight-reject answers?

    Images of one person are not independent, so the p values are too small; with two protocols of one person
    each there is nothing better.
    """
    right = ((answers.p_reject >= 0.5) == (answers.reject == 1)).astype(float)
    return scores.mann_whitney_bonferroni(right, {"protocol": [people.scanner_of(p) for p in answers.people]})


def plot(answers: tables.Answers, path: Path, title: str) -> None:
    """Reliability of every question, and ROC curves (needs matplotlib)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7")
    proper = answers.take(np.flatnonzero(answers.gadolinium >= 0))
    binary = (
        ("straight reject", answers.reject, answers.p_reject),
        ("gadolinium", proper.gadolinium, proper.p_gadolinium),
    )
    for name, truth, p in binary:
        rows = scores.reliability(np.stack([1 - p, p], 1), truth)
        left.plot([r.confidence for r in rows], [r.accuracy for r in rows], marker="o", label=name)
        fpr, tpr, _ = scores.roc_curve(truth, p)
        right.plot(fpr, tpr, label=f"{name}, AUC {scores.auc(truth, p):.3f}")
    grades = tables.true_grades(answers.damage, with_zone=False)
    for column, question in enumerate(domain.GRADED):
        use = np.flatnonzero(grades[:, column] >= 0)
        p = answers.p_grades[question.value][use]
        rows = scores.reliability(p, grades[use, column])
        left.plot([r.confidence for r in rows], [r.accuracy for r in rows], marker="o", label=question.value)
        severe = grades[use, column] == 2
        fpr, tpr, _ = scores.roc_curve(severe, p[:, 2])
        right.plot(fpr, tpr, label=f"{question.value} severe, AUC {scores.auc(severe, p[:, 2]):.3f}")
    left.set(xlabel="confidence", ylabel="accuracy", title=f"Reliability: {title}")
    right.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    for axes in (left, right):
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main(
    models: Path,
    out: Path,
    held: Path | None = None,
    shared: Path | None = None,
    build: int = 0,
    anatomy: Path | None = None,
    runs: Path | None = None,
    curve: Path | None = None,
    left_out: Path | None = None,
    prepared: Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluate; with `build` first simulate that many volumes per held-out person into `held`.

    With `left_out`, the pack of the training run `runs`, also tables of protocols left out.
    """
    import torch

    torch.set_num_threads(1)
    if build and (held is None or shared is None):
        raise domain.QcNodeError("Building the held-out set needs --held-out and --shared.")
    if left_out is not None and runs is None:
        raise domain.QcNodeError("Protocols left out need --runs: the folder with the networks without each.")
    if build and held is not None and shared is not None:
        from qc_node.training.brain_mri.simulation import synthesis
        from qc_node.training.brain_mri.simulation.tissues import build_cache

        cache = anatomy or held.parent / "anatomy"
        build_cache(shared, models, cache, log)
        priors = synthesis.load_priors(shared / "mri" / "labelmaps" / "priors")
        for persons, seed in ((people.HELD_OUT_HEADS, 500_000), (people.HELD_OUT_MAPS, 700_000)):
            paths = [cache / f"{p}.npz" for p in persons]
            heldout.build(held, paths, priors, load_classifier(models), build, seed, log)
    result = evaluate(models, held, shared, out, log, runs, prepared=prepared)
    if left_out is not None and runs is not None:
        found = lopo.run(
            load_classifier(models), packed.load_pack(left_out, models, slices=False), runs, shared, prepared, log
        )
        result["protocols left out"] = lopo.write(found, out)
        log(lopo.as_text(result["protocols left out"]))
    if curve is not None:
        rows = compare.learning_curve(packed.load_pack(curve, models, slices=False), out / "curve", log)
        compare.plot_curve(rows, out / "learning-curve.png")
        (out / "learning-curve.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        result["learning curve"] = rows
    return result


@click.command("brain-mri")
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    default=Path("models/brain-mri"),
    show_default=True,
    help="Model folder with the average head.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for tables and plots.")
@click.option(
    "--held-out", "held", type=click.Path(path_type=Path), default=None, help="Folder of the held-out set."
)
@click.option("--shared", type=click.Path(path_type=Path), default=None, help="Folder of the shared images.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of train: compare the paper's networks; for --left-out.",
)
@click.option(
    "--learning-curve", "curve", type=click.Path(path_type=Path), default=None, help="Pack to draw the curve from."
)
@click.option(
    "--left-out",
    "left_out",
    type=click.Path(path_type=Path),
    default=None,
    help="Pack of the run in --runs: tables of protocols left out, of --shared too; writes left-out.json and .md.",
)
@click.option(
    "--prepared",
    type=click.Path(path_type=Path),
    default=None,
    help="Keeps real images made ready for the networks; empty it when checks or features change.",
)
@click.option("--build", type=int, default=0, help="First simulate this many volumes per held-out person.")
def command(**options: Any) -> None:
    """Evaluate the shipped brain MRI classifier on people it was never trained on."""
    main(log=click.echo, **options)
