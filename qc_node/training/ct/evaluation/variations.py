"""The CT classifier on the shared volumes as other scanners would have made them, counted by person.

    python -m qc_node.training.ct.evaluation.variations --data DATA --varied DIR --runs RUNS --out OUT

Each person is judged by networks that never saw them (the folds of ``train ct``), with rules that were fitted on
the other folds where ``evaluate ct`` left them in its figures.  A second table, of its own name, judges with the
shipped model, which has seen all people but those of ``ct/further``.  A person counts as confidently wrong with a
single wrong answer on any variation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.classifier import (
    CtClassifier,
    PreparedBody,
    Rules,
    contrast_finding,
    load,
)
from qc_node.classifiers.ct.part import part_finding
from qc_node.domain import QcNodeError
from qc_node.training.ct.data import varied
from qc_node.training.ct.data.pack import load_pack
from qc_node.training.ct.data.varied import Varied
from qc_node.training.ct.evaluation.evaluate import plain
from qc_node.training.ct.evaluation.judged import fold_classifier
from qc_node.training.ct.evaluation.readings import cached_read, reading_key
from qc_node.training.ct.training.fit import tempered
from qc_node.training.ct.training.train import FOLDS, fold_of
from qc_node.training.loop import save_json

SHIPPED = Path(__file__).resolve().parents[4] / "models" / "ct"
RIGHT, WRONG, WITHHELD = "right", "wrong", "withheld"


@dataclass(frozen=True)
class Judgement:
    """The two answers to one varied volume.

    Attributes
    ----------
    part, contrast
        ``"right"``, ``"wrong"``, ``"withheld"``, or empty where nobody knows the truth.
    said, enhanced
        What was answered, None where withheld.
    sure
        Probability of the better contrast answer; None where there was no evidence at all.
    on_axis
        False for limbs and test objects, whose contrast is withheld for good reason.
    """

    name: str
    person: str
    variation: str
    on_axis: bool
    truth: str
    part: str
    said: str | None
    truth_enhanced: int
    contrast: str
    enhanced: bool | None
    sure: float | None


def judge_one(item: Varied, classifier: CtClassifier, rules: Rules, cache: Path | None) -> Judgement:
    """Read (or take from `cache`) and judge one varied volume as the node does."""

    def prepared() -> PreparedBody:
        return PreparedBody(item.coarse.astype(np.float16), {}, item.edge)

    said, contrast, sure = None, None, None
    if not item.problem:
        reading = cached_read(classifier, prepared, cache, f"{item.name}__{item.variation}")
        reading = tempered(reading, rules.position_temperature / classifier.rules.position_temperature)
        alignment = anatomy.align(reading.sections, reading.used)
        part, answer = part_finding(reading, alignment, rules), contrast_finding(reading, alignment, rules)
        said = None if part.value is None else str(part.value)
        contrast = None if answer.value is None else bool(answer.value)
        sure = max(answer.probabilities.values()) if answer.probabilities else None
    truth = item.part
    return Judgement(
        item.name,
        item.person,
        item.variation,
        item.on_axis,
        truth.value if truth else "",
        _verdict(said, truth.value) if truth else "",
        said,
        item.enhanced,
        _verdict(contrast, bool(item.enhanced)) if item.enhanced >= 0 else "",
        contrast,
        sure,
    )


def _verdict(said: object, truth: object) -> str:
    if said is None:
        return WITHHELD
    return RIGHT if said == truth else WRONG


def counts(judged: Iterable[Judgement], question: str) -> dict[str, Any]:
    """Right, wrong and withheld of ``"part"`` or ``"contrast"``, and the people behind them.

    ``withheld_share`` is the mean over people, each weighing the same.
    """
    told = [j for j in judged if getattr(j, question)]
    by_person: dict[str, list[str]] = defaultdict(list)
    for j in told:
        by_person[j.person].append(getattr(j, question))
    answers = [getattr(j, question) for j in told]
    return {
        "cases": len(told),
        "people": len(by_person),
        **{answer: answers.count(answer) for answer in (RIGHT, WRONG, WITHHELD)},
        "people_wrong": sorted(p for p, given in by_person.items() if WRONG in given),
        "withheld_share": float(np.mean([g.count(WITHHELD) / len(g) for g in by_person.values()]))
        if told
        else 0.0,
    }


def figures(judged: Sequence[Judgement]) -> dict[str, Any]:
    """All counts: both questions, everything and by variation; contrast apart for what shows no head or trunk."""
    body, other = [j for j in judged if j.on_axis], [j for j in judged if not j.on_axis]
    result: dict[str, Any] = {
        "contrast": counts(body, "contrast"),
        "contrast of limbs": counts(other, "contrast"),
        "part": counts(judged, "part"),
        "by variation": {
            name: {
                "contrast": counts([j for j in body if j.variation == name], "contrast"),
                "part": counts([j for j in judged if j.variation == name], "part"),
            }
            for name in varied.VARIATIONS
            if any(j.variation == name for j in judged)
        },
    }
    result["wrong"] = [
        f"{j.name} {j.variation}: {q} {t} called {s}"
        for j in judged
        for q, t, s in (("part", j.truth, j.said), ("contrast", j.truth_enhanced, j.enhanced))
        if getattr(j, q) == WRONG
    ]
    return result


def table(title: str, result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"### {title}",
        "",
        "| variation | question | cases | people | right | wrong | withheld | people with a wrong answer |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def line(name: str, question: str, c: dict[str, Any]) -> str:
        return (
            f"| {name} | {question} | {c['cases']} | {c['people']} | {c[RIGHT]} | {c[WRONG]} | {c[WITHHELD]} "
            f"({c['withheld_share']:.0%}) | {len(c['people_wrong'])} {', '.join(c['people_wrong'][:6])} |"
        )

    for question in ("contrast", "contrast of limbs", "part"):
        lines.append(line("**all**", question, result[question]))
    for name, group in result["by variation"].items():
        lines += [line(name, question, group[question]) for question in ("contrast", "part")]
    return "\n".join([*lines, "", *(f"- {w}" for w in result["wrong"]), ""])


def judge_all(
    paths: Sequence[Path],
    classifier_of: Callable[[Varied], tuple[str, CtClassifier, Rules] | None],
    cache: Path | None,
    log: Callable[[str], None],
) -> list[Judgement]:
    """Judge every file by the classifier that `classifier_of` names for it; None leaves it out."""
    keys: dict[str, str] = {}
    judged = []
    for number, path in enumerate(paths, 1):
        item = varied.load(path)
        chosen = classifier_of(item)
        if chosen is None:
            continue
        name, classifier, rules = chosen
        key = keys.setdefault(name, reading_key(classifier))
        judged.append(judge_one(item, classifier, rules, None if cache is None else cache / key))
        if number % 100 == 0:
            log(f"{number}/{len(paths)} judged")
    return judged


def by_folds(
    runs: Path, pack: Path, width: int, shipped: CtClassifier, rules: dict[int, Rules]
) -> Callable[[Varied], tuple[str, CtClassifier, Rules] | None]:
    """Who judges whom: the fold that left the person out; people of ``ct/further`` the shipped model.

    Nobody was taught by ``ct/further``.
    """
    folds = fold_of(load_pack(pack))
    classifiers: dict[int, CtClassifier] = {}
    for fold in range(FOLDS):
        if all((runs / f"fold_{fold}" / name / "best.safetensors").is_file() for name in ("position", "contrast")):
            classifiers[fold] = fold_classifier(runs / f"fold_{fold}", width)
    if not classifiers:
        raise QcNodeError(f"{runs}: no fold has been trained yet.")

    def choose(item: Varied) -> tuple[str, CtClassifier, Rules] | None:
        fold = folds.get(item.person)
        if fold is None:
            return "shipped", shipped, shipped.rules
        if fold not in classifiers:
            return None
        return f"fold {fold}", classifiers[fold], rules.get(fold, shipped.rules)

    return choose


def rules_of_folds(path: Path | None) -> dict[int, Rules]:
    """The rules that ``evaluate ct`` fitted for each fold on the others; empty without a file."""
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["rules of folds"]
        return {int(fold): Rules(**rules) for fold, rules in content.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QcNodeError(f"{path}: these are not the figures of evaluate ct ({error}).") from error


@click.command("variations")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with ct/INDEX.csv; makes what --varied does not hold yet (some 8 minutes of a core).",
)
@click.option(
    "--varied",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the varied volumes, outside the repository.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the tables and readings go.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    help="Folds of train ct; without them only the shipped model judges.",
)
@click.option("--pack", type=click.Path(path_type=Path), help="Pack that the folds were trained on (with --runs).")
@click.option(
    "--figures",
    "fitted",
    type=click.Path(path_type=Path),
    help="figures.json of evaluate ct: rules of each fold. Default: the card's.",
)
@click.option(
    "--model", type=click.Path(path_type=Path), default=SHIPPED, help="Model folder of the second table."
)
@click.option("--only", multiple=True, metavar="NAME", help="A variation such as phase-0.6; may be repeated.")
@click.option("--series", multiple=True, help="A series, by name; may be repeated.")
@click.option("--width", default=16, show_default=True, help="Channels of the first block, as trained.")
def command(
    data: Path | None,
    folder: Path,
    out: Path,
    runs: Path | None,
    pack: Path | None,
    fitted: Path | None,
    model: Path,
    only: tuple[str, ...],
    series: tuple[str, ...],
    width: int,
) -> None:
    """Judge every shared CT volume as other scanners would have made it.

    A run that was stopped goes on where it was: varied volumes and readings are kept, only rules are applied anew.
    """
    torch.set_num_threads(1)
    unknown = sorted({*only} - {*varied.VARIATIONS})
    if unknown:
        raise QcNodeError(f"--only {unknown[0]}: the variations are {', '.join(varied.VARIATIONS)}.")
    if data is not None:
        varied.make(data, folder, click.echo, only, series)
    paths = [
        path
        for path in varied.files(folder)
        if (not only or path.stem.partition("__")[2] in only)
        and (not series or path.stem.partition("__")[0] in series)
    ]
    shipped = load(model)
    out.mkdir(parents=True, exist_ok=True)
    tables = []

    def report(title: str, choose: Callable[[Varied], tuple[str, CtClassifier, Rules] | None]) -> None:
        judged = judge_all(paths, choose, out / "readings", click.echo)
        result = figures(judged)
        name = title.split(":")[0].replace(" ", "-")
        save_json(out / f"{name}.json", plain({**result, "judgements": [asdict(j) for j in judged]}))
        tables.append(table(title, result))

    if runs is not None:
        if pack is None:
            raise QcNodeError("--runs needs --pack: the folds are dealt out over the people of the pack.")
        choose = by_folds(runs, pack, width, shipped, rules_of_folds(fitted))
        report("folds: networks that never saw the person", choose)
    title = f"shipped: {shipped.identity.version}, which has seen all people but those of ct/further"
    report(title, lambda _: ("shipped", shipped, shipped.rules))
    (out / "variations.md").write_text("\n".join(tables), encoding="utf-8")
    click.echo("\n".join(tables))


if __name__ == "__main__":
    command()
