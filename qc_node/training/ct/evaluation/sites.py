"""The CT classifier on collections that its networks never saw: as near to another hospital as the data come.

All but two collections have one person, so that the folds by person leave them out as a whole.  openKBP (all
necks) and the sarcomas (all limbs) are judged by networks that were trained without any of them: those have seen
necks only in one long head-to-chest series and the upper end of chests, and limbs only as made thighs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qc_node.training import risk
from qc_node.training.ct.data.collections import LARGE, collection_of, vendor_of
from qc_node.training.ct.data.pack import PackItem
from qc_node.training.ct.evaluation.judged import JudgedCase, cases_of_person, fold_classifier
from qc_node.training.ct.evaluation.readings import cached_read, reading_key
from qc_node.training.ct.training.fit import Answer, shows_vessels
from qc_node.training.ct.training.train import fold_of
from qc_node.training.loop import BEST

SERIES = ("whole", "part")


def collect_without(
    items: Sequence[PackItem],
    runs: Path,
    width: int,
    crops: int,
    log: Callable[[str], None],
    cache: Path | None = None,
) -> list[Answer]:
    """Every case of the large collections, read by the networks that saw nobody of the collection.

    A collection whose run (``train ct --together``) is not there is left out.
    """
    folds = fold_of(items)
    answers = []
    for name, collection in LARGE.items():
        run = runs / f"without_{name}"
        if not (run / "position" / BEST).is_file():
            log(f"{run}: not trained, {collection} is judged by the folds only")
            continue
        classifier = fold_classifier(run, width)
        kept = None if cache is None else cache / reading_key(classifier)
        for item in items:
            if item.kind == "real" and collection_of(item.name) == collection:
                fold = folds[item.person]
                for case in cases_of_person(item, fold, crops):
                    reading = cached_read(classifier, case.prepared, kept, case.name)
                    answers.append(Answer(case, fold, reading, run.name))
        log(f"{run.name}: {sum(a.run == run.name for a in answers)} cases")
    return answers


def unseen(answers: Sequence[Answer], without: Sequence[Answer]) -> list[Answer]:
    """`answers` with those of large collections taken from `without`: every collection is new to its networks."""
    replaced = {a.case.name for a in without}
    return [a for a in answers if a.case.name not in replaced] + list(without)


def by_collection(rows: Sequence[JudgedCase]) -> dict[str, Any]:
    """Right, wrong and withheld of both questions for every collection; series apart from their crops.

    ``people wrong`` counts people with at least one wrong answer on a series or a crop.
    """
    groups: dict[str, list[JudgedCase]] = defaultdict(list)
    for row in rows:
        if not row.group.startswith("simulated"):
            groups[collection_of(row.name)].append(row)
    return {
        name: {
            "vendor": vendor_of(mine[0].name),
            "people": len({r.person for r in mine}),
            "series": {q: _counts([r for r in mine if r.group in SERIES], q) for q in ("part", "contrast")},
            "crops": {q: _counts([r for r in mine if r.group == "crop"], q) for q in ("part", "contrast")},
            "people wrong": {
                q: len({r.person for r in mine if outcome(r, q) == "wrong"}) for q in ("part", "contrast")
            },
        }
        for name, mine in sorted(groups.items())
    }


def outcome(row: JudgedCase, question: str) -> str:
    """``"right"``, ``"wrong"`` or ``"withheld"``; empty where the truth is unknown."""
    said: object
    truth: object
    if question == "part":
        said, truth = row.part, row.part_truth
    else:
        said, truth = row.enhanced, None if row.enhanced_truth < 0 else bool(row.enhanced_truth)
    if truth is None:
        return ""
    return "withheld" if said is None else ("right" if said == truth else "wrong")


def _counts(rows: Sequence[JudgedCase], question: str) -> list[int]:
    found = [outcome(r, question) for r in rows]
    return [found.count(answer) for answer in ("right", "wrong", "withheld")]


def risk_of(rows: Sequence[JudgedCase], rng: np.random.Generator) -> dict[str, Any]:
    """Risk-coverage of both questions over real series and crops, people resampled; limbs offer no contrast."""
    result = {}
    for question in ("part", "contrast"):
        told = [
            r
            for r in rows
            if not r.group.startswith("simulated")
            and outcome(r, question)
            and (question == "part" or shows_vessels(r.name, r.part_truth))
        ]
        if not told:
            continue
        sure = [_sure(r, question) for r in told]
        right = [outcome(r, question) == "right" for r in told]
        given = [outcome(r, question) != "withheld" for r in told]
        result[question] = risk.summary(sure, right, [r.person for r in told], rng, given)
    return result


def _sure(row: JudgedCase, question: str) -> float:
    if question == "part":
        return row.part_probability
    yes = row.enhanced_probability
    return 0.0 if yes is None else max(yes, 1.0 - yes)


def table(collections: Mapping[str, Any]) -> list[str]:
    """The figures of :func:`by_collection` as lines of Markdown."""
    lines = [
        "| left out | vendor | people | part, series | contrast, series | part, crops | contrast, crops |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, f in collections.items():
        cells = [" / ".join(map(str, f[group][q])) for group in ("series", "crops") for q in ("part", "contrast")]
        lines.append(f"| {name} | {f['vendor']} | {f['people']} | {' | '.join(cells)} |")
    return lines
