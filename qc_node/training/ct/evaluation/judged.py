"""Networks of one run, the cases that they judge, and what the rules make of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qc_node.classifiers.ct import anatomy
from qc_node.classifiers.ct.classifier import CtClassifier, Rules, contrast_finding
from qc_node.classifiers.ct.networks import SliceNet
from qc_node.classifiers.ct.part import part_finding
from qc_node.domain import ModelIdentity, QcNodeError
from qc_node.training.ct.data.pack import PackItem
from qc_node.training.ct.data.trials import Case, cases_of
from qc_node.training.ct.training.fit import Answer
from qc_node.training.loop import BEST


def fold_classifier(run: Path, width: int) -> CtClassifier:
    """The classifier with the networks of one fold and default rules."""
    from safetensors.torch import load_file

    nets = []
    for name, outputs in (("position", anatomy.CLASSES), ("contrast", 1)):
        path = run / name / BEST
        if not path.is_file():
            raise QcNodeError(f"{path}: this fold has not been trained yet.")
        net = SliceNet(4, outputs, width)
        net.load_state_dict(load_file(path))
        nets.append(net.eval())
    return CtClassifier(ModelIdentity("fold", "0", "0" * 64), nets[0], nets[1])


def cases_of_person(item: PackItem, fold: int, crops: int) -> Iterator[Case]:
    """The cases of one packed volume; the same whichever networks are to judge them."""
    rng = np.random.default_rng([fold, sum(map(ord, item.name))])
    return cases_of(item, crops if item.kind == "real" else 2, rng)


@dataclass(frozen=True)
class JudgedCase:
    """One judged case, for tables."""

    name: str
    person: str
    group: str
    fold: int
    part_truth: str | None
    part: str | None
    part_probability: float
    part_probabilities: Mapping[str, float]
    enhanced_truth: int
    enhanced: bool | None
    enhanced_probability: float | None


def judge(answers: Sequence[Answer], rules_of_fold: Callable[[int], Rules]) -> list[JudgedCase]:
    """Apply the rules to every answer."""
    rows = []
    for a in answers:
        rules = rules_of_fold(a.fold)
        reading, alignment = a.aligned(rules.position_temperature)
        part, contrast = part_finding(reading, alignment, rules), contrast_finding(reading, alignment, rules)
        rows.append(
            JudgedCase(
                a.case.name,
                a.case.person,
                a.case.group,
                a.fold,
                a.case.part.value if a.case.part else None,
                str(part.value) if part.value is not None else None,
                max(part.probabilities.values()),
                dict(part.probabilities),
                a.case.enhanced,
                None if contrast.value is None else bool(contrast.value),
                contrast.probabilities.get("yes"),
            )
        )
    return rows
