"""``qc-node evaluate ct``: five folds by person, calibration, baselines, errors and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.ct.pictures import thumbnails
from qc_node.classifiers.ct.projections import COARSE_MM, project
from qc_node.domain import BodyPart, Question, Volume
from qc_node.training import scores
from qc_node.training.ct.data.pack import PackItem, load_pack
from qc_node.training.ct.data.trials import Case, composed
from qc_node.training.ct.evaluation import sites
from qc_node.training.ct.evaluation.judged import JudgedCase, cases_of_person, fold_classifier, judge
from qc_node.training.ct.evaluation.readings import cached_read, reading_key
from qc_node.training.ct.training.fit import Answer, fit_rules, on_axis
from qc_node.training.ct.training.train import FOLDS, fold_of
from qc_node.training.loop import save_json

PARTS = list(BodyPart)


def collect(
    items: Sequence[PackItem],
    runs: Path,
    width: int,
    crops: int,
    log: Callable[[str], None],
    only: Iterable[int] = range(FOLDS),
    cache: Path | None = None,
) -> list[Answer]:
    """Every case of the folds `only`, read by the networks that never saw its person; `cache` keeps readings."""
    folds = fold_of(items)
    answers = []
    for fold in only:
        classifier = fold_classifier(runs / f"fold_{fold}", width)
        mine = [i for i in items if folds[i.person] == fold]
        kept = None if cache is None else cache / reading_key(classifier)
        for item in mine:
            if item.kind in ("head", "body") and not item.name.endswith(("_0", "_1", "0", "1")):
                continue  # one plain and one enhanced head per person, every fifth trunk
            for case in cases_of_person(item, fold, crops):
                answers.append(Answer(case, fold, cached_read(classifier, case.prepared, kept, case.name)))
        for case in composed(mine, np.random.default_rng(fold), 6):
            answers.append(Answer(case, fold, cached_read(classifier, case.prepared, kept, case.name)))
        log(f"fold {fold}: {sum(a.fold == fold for a in answers)} cases")
    return answers


def summary(rows: Iterable[JudgedCase], rng: np.random.Generator) -> dict[str, Any]:
    """Figures of one group of rows; a label with fewer than two people gives no percentage."""
    out: dict[str, Any] = {}
    known = [r for r in rows if r.part_truth is not None]
    names = [p.value for p in PARTS]
    if known:
        truth = np.array([names.index(str(r.part_truth)) for r in known])
        said = np.array([names.index(r.part) if r.part else -1 for r in known])
        people = np.array([r.person for r in known])
        answered = said >= 0
        probabilities = np.array([[r.part_probabilities[n] for n in names] for r in known])
        per_class = {}
        for n, name in enumerate(names):
            mine = truth == n
            persons = len(set(people[mine]))
            if not persons:
                continue
            hit = int((said[mine] == n).sum())
            claimed = int((said == n).sum())
            per_class[name] = {
                "cases": int(mine.sum()),
                "people": persons,
                "right": hit,
                "abstained": int((said[mine] < 0).sum()),
                "recall": hit / mine.sum() if persons >= 2 else "not measurable: one person",
                "precision": hit / claimed if claimed and persons >= 2 else None,
            }
        out["body_part"] = {
            "cases": len(known),
            "people": len(set(people)),
            "abstained": int((~answered).sum()),
            "right": int((said == truth).sum()),
            "accuracy": float((said == truth).mean()),
            "accuracy_of_answered": float((said == truth)[answered].mean()) if answered.any() else None,
            "macro_f1": scores.macro_f1(truth[answered], said[answered]) if answered.any() else None,
            "accuracy_ci95": scores.bootstrap_ci(scores.accuracy, people, [truth, said], rng),
            "ece": scores.expected_calibration_error(probabilities, truth),
            "per_class": per_class,
            "confusion": {
                t: {p: int(((truth == i) & (said == j)).sum()) for j, p in [*enumerate(names), (-1, "abstained")]}
                for i, t in enumerate(names)
            },
        }
    told = [r for r in rows if r.enhanced_truth >= 0 and r.enhanced_probability is not None]
    if told:
        y = np.array([r.enhanced_truth for r in told])
        p = np.array([r.enhanced_probability for r in told], float)
        people = np.array([r.person for r in told])
        answered = np.array([r.enhanced is not None for r in told])
        said = (p > 0.5).astype(int)
        per_part = {}
        for part in names:
            for label in (0, 1):
                mine = np.array([r.part_truth == part for r in told]) & (y == label)
                if mine.any():
                    persons = len(set(people[mine]))
                    per_part[f"{part} {'enhanced' if label else 'plain'}"] = {
                        "cases": int(mine.sum()),
                        "people": persons,
                        "right": int((mine & answered & (said == y)).sum()),
                        "wrong": int((mine & answered & (said != y)).sum()),
                        "abstained": int((mine & ~answered).sum()),
                    }
        binary = (
            scores.binary_scores(y[answered], said[answered], p[answered]).as_dict() if answered.any() else None
        )
        out["contrast"] = {
            "cases": len(told),
            "people": len(set(people)),
            "abstained": int((~answered).sum()),
            "right": int((answered & (said == y)).sum()),
            "accuracy": float((answered & (said == y)).mean()),
            "accuracy_of_answered": float((said == y)[answered].mean()) if answered.any() else None,
            "accuracy_if_nothing_were_withheld": float((said == y).mean()),
            "score_auc": scores.auc(y, p),
            "accuracy_ci95": scores.bootstrap_ci(scores.accuracy, people, [y, np.where(answered, said, -1)], rng),
            "ece": scores.expected_calibration_error(np.stack([1 - p, p], 1), y),
            "answered": binary,
            "per_part": per_part,
        }
    return out


def baselines(answers: Sequence[Answer]) -> dict[str, Any]:
    """What plain intensity statistics reach on the same cases and folds.

    Contrast: the share of body voxels between 90 and 300 HU against the best threshold of the other folds.
    Body part: the nearest case of the other folds by the histogram of HU and the length of the scan.
    """
    real = [a for a in answers if not a.case.group.startswith("simulated")]
    result: dict[str, Any] = {}
    known = [a for a in real if a.case.enhanced >= 0 and on_axis(a)]
    share = np.array([_bright_share(a.case.coarse) for a in known])
    y, fold = np.array([a.case.enhanced for a in known]), np.array([a.fold for a in known])
    said = np.zeros(len(y), int)
    for f in range(FOLDS):
        candidates = np.unique(share[fold != f])
        right = [((share[fold != f] > c) == y[fold != f]).mean() for c in candidates]
        said[fold == f] = share[fold == f] > candidates[int(np.argmax(right))]
    whole = np.array([a.case.group == "whole" for a in known])
    result["contrast by share of bright voxels"] = {
        "whole": float((said == y)[whole].mean()),
        "all": float((said == y).mean()),
    }
    parts = [a for a in real if a.case.part is not None]
    features = np.stack([_histogram(a.case.coarse) for a in parts])
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    truth, fold = np.array([PARTS.index(a.case.part) for a in parts]), np.array([a.fold for a in parts])  # type: ignore[arg-type]
    guess = np.zeros(len(truth), int)
    for f in range(FOLDS):
        distance = ((features[fold == f][:, None] - features[fold != f][None]) ** 2).sum(-1)
        guess[fold == f] = truth[fold != f][distance.argmin(1)]
    whole = np.array([a.case.group == "whole" for a in parts])
    result["body part by nearest histogram"] = {
        "whole": float((guess == truth)[whole].mean()),
        "all": float((guess == truth).mean()),
    }
    return result


def _bright_share(coarse: npt.NDArray[np.int16]) -> float:
    body = coarse > -200
    return float(((coarse > 90) & (coarse < 300)).sum() / max(1, body.sum()))


def _histogram(coarse: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    inside = coarse[coarse > -1000]
    counts = np.histogram(inside, [-1000, -700, -300, -150, -50, 0, 30, 60, 90, 150, 300, 700, 3072])[0]
    size = [np.log(len(coarse)), np.log1p(inside.size / max(1, len(coarse)))]
    return np.concatenate([np.log1p(counts / max(1, inside.size) * 100), size])


def reference_errors(rows: Sequence[JudgedCase]) -> list[dict[str, Any]]:
    """Every wrong or withheld answer on a real series or crop, by name."""
    listed = []
    for r in rows:
        if r.group.startswith("simulated"):
            continue
        part_wrong = r.part_truth is not None and r.part != r.part_truth
        contrast_wrong = (
            r.enhanced_truth >= 0 and r.enhanced_probability is not None and (r.enhanced != bool(r.enhanced_truth))
        )
        if part_wrong or contrast_wrong:
            listed.append(
                {
                    "case": r.name,
                    "group": r.group,
                    Question.BODY_PART.value: [r.part_truth, r.part, round(r.part_probability, 3)],
                    Question.CONTRAST_ENHANCED.value: [
                        r.enhanced_truth,
                        r.enhanced,
                        None if r.enhanced_probability is None else round(r.enhanced_probability, 3),
                    ],
                }
            )
    return listed


@click.command("ct")
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Folder of the pack.")
@click.option(
    "--runs", type=click.Path(path_type=Path), required=True, help="Folder that train ct wrote its folds to."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where figures.json goes.")
@click.option("--crops", default=12, show_default=True, help="Sub-range crops of each real series.")
@click.option("--width", default=16, show_default=True, help="Channels of the first block, as trained.")
@click.option(
    "--pictures", is_flag=True, help="Also write a picture of every wrong case below --out (patient data)."
)
@click.option("--threads", default=2, show_default=True, help="Torch threads.")
def command(pack: Path, runs: Path, out: Path, crops: int, width: int, pictures: bool, threads: int) -> None:
    """Judge every person by networks that never saw them, and print the tables."""
    torch.set_num_threads(threads)
    items = load_pack(pack)
    out.mkdir(parents=True, exist_ok=True)
    answers = collect(items, runs, width, crops, click.echo, cache=out / "readings")
    figures = evaluate(answers, sites.collect_without(items, runs, width, crops, click.echo, out / "readings"))
    save_json(out / "figures.json", plain(figures))
    if pictures:
        wrong = {error["case"] for error in figures["errors"]}
        for answer in answers:
            if answer.case.name in wrong and not answer.case.group.startswith("simulated"):
                picture(answer.case, out / "errors")
    click.echo(table(figures))


def evaluate(answers: Sequence[Answer], without: Sequence[Answer] = ()) -> dict[str, Any]:
    """All figures; rules that judge a person are fitted on other people, read by networks that never saw them.

    `without` are the answers of the runs without a large collection
    (:func:`qc_node.training.ct.evaluation.sites.collect_without`), for the table by collection only.
    """
    fitted = {f: fit_rules([a for a in answers if a.fold != f]) for f in sorted({a.fold for a in answers})}
    rows = judge(answers, fitted.__getitem__)
    rng = np.random.default_rng(0)
    groups = ("whole", "part", "crop", "simulated whole", "simulated crop")
    figures: dict[str, Any] = {g: summary([r for r in rows if r.group == g], rng) for g in groups}
    figures["rules"] = vars(fit_rules(answers)) if answers else {}
    figures["rules of folds"] = {str(fold): vars(rules) for fold, rules in fitted.items()}
    figures["collections"] = sites.by_collection(judge(sites.unseen(answers, without), fitted.__getitem__))
    figures["risk"] = sites.risk_of(rows, rng)
    figures["baselines"] = baselines(answers)
    figures["errors"] = reference_errors(rows)
    figures["whole series"] = sorted(r.name for r in rows if r.group == "whole")
    return figures


def picture(case: Case, folder: Path) -> Path:
    """Write mid-planes and MIPs of `case` side by side as PNG; they show a patient and stay out of git."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([COARSE_MM, COARSE_MM, -COARSE_MM, 1.0])
    tiles = thumbnails(project(Volume(case.coarse, affine, modality="CT")))
    path = folder / (case.name.replace("[", "_").replace(":", "-").replace("]", "") + ".png")
    Image.fromarray(np.hstack(list(tiles.values()))).save(path)
    return path


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: arrays as lists, numbers rounded, what is not a number as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def table(figures: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| group | question | cases | people | right | wrong | abstained | accuracy | 95 % CI (people) | ECE |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group in ("whole", "part", "crop", "simulated whole", "simulated crop"):
        for question in ("body_part", "contrast"):
            f = figures.get(group, {}).get(question)
            if f:
                low, high = ("?" if end is None else f"{end:.2f}" for end in f["accuracy_ci95"])
                wrong = f["cases"] - f["right"] - f["abstained"]
                lines.append(
                    f"| {group} | {question} | {f['cases']} | {f['people']} | {f['right']} | {wrong} | "
                    f"{f['abstained']} | {f['accuracy']:.3f} | {low}-{high} | {f['ece']:.3f} |"
                )
    for name, f in figures["baselines"].items():
        lines.append(f"| whole | baseline: {name} | | | | | | {f['whole']:.3f} (all real: {f['all']:.3f}) | | |")
    lines += ["", *sites.table(figures["collections"]), ""]
    for error in figures["errors"]:
        lines.append(f"- {error['case']} ({error['group']}): {error['body_part']} {error['contrast_enhanced']}")
    return "\n".join(lines)


if __name__ == "__main__":
    command()
