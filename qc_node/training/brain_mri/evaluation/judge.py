"""Answers of one model folder on saved volumes: one JSON line per volume, kept if there.

Two versions of the classifier are compared on the same volumes (:mod:`.paired`), each judged by its own code.  So
this file uses nothing but what every version has, and runs as a script against another checkout:

    PYTHONPATH=OLD python -P qc_node/training/brain_mri/evaluation/judge.py --models OLD/models/brain-mri \\
        --volumes packs/old-test --out packs/answers-old.jsonl

A volume is ``NAME.npz`` with ``values`` ``(K, J, I)``, ``affine`` ``(4, 4)`` (voxel index to LPS mm) and ``row``:
the fields of :class:`.heldout.HeldOutCase` as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from qc_node import domain
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead, load

TRUTH = ("reject", "gadolinium", "motion", "contrast", "noise")
"""Of the row: why it is a straight reject (or "ok"), 0/1, and measured damage; None where not defined."""


def said(verdict: domain.Verdict) -> dict[str, dict[str, Any]]:
    """Per question: ``value`` (None: undetermined), ``p`` of each answer, ``reason``, ``abstained``."""
    return {
        f.question.value: {
            "value": f.value,
            "p": {k: round(float(v), 5) for k, v in f.probabilities.items()},
            "reason": f.reason.value if f.reason else None,
            "abstained": f.abstained,
        }
        for f in verdict.findings
    }


def judge(
    classifier: BrainMriClassifier,
    volumes: Path,
    out: Path,
    log: Callable[[str], None] = print,
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """Answers on every ``*.npz`` of a folder, in the order of their names; `out` grows line by line.

    Images made ready for the networks are kept in the folder `cache`, if there is one.

    Raises
    ------
    domain.QcNodeError
        The folder holds no volume.
    """
    paths = sorted(p for p in volumes.glob("*.npz") if not p.name.endswith(".tmp.npz"))
    if not paths:
        raise domain.QcNodeError(f"There are no volumes in {volumes}.")
    identity = classifier.identity
    model = {"name": identity.name, "version": identity.version, "sha256": identity.sha256}
    known = {r["volume"]: r for r in read(out)} if out.exists() else {}
    if any(r["model"] != model for r in known.values()):
        raise domain.QcNodeError(f"{out} holds answers of another model; take another file.")
    for number, path in enumerate(paths):
        if path.stem in known:
            continue
        with np.load(path, allow_pickle=False) as f:
            row = json.loads(str(f["row"]))
        head = _prepared(classifier, path, cache)
        line = {
            "volume": path.stem,
            "person": row["person"],
            "model": model,
            "truth": {k: row[k] for k in TRUTH},
            "certain": head.certain.value if head.certain else None,
            "said": said(classifier.judge([head])[0]),
        }
        with out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        known[path.stem] = line
        if number % 20 == 0:
            log(f"{number + 1} of {len(paths)} volumes judged by {identity.name} {identity.version}")
    return [known[p.stem] for p in paths]


def _prepared(classifier: BrainMriClassifier, path: Path, cache: Path | None) -> PreparedHead:
    def volume() -> domain.Volume:
        with np.load(path, allow_pickle=False) as f:
            return domain.Volume(f["values"].astype(np.float32), f["affine"], modality="MR")

    if cache is None:
        return classifier.prepare(volume())
    from qc_node.training.brain_mri.evaluation import prepared

    return prepared.prepare(classifier, path.stem, volume, cache)


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of an answers file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


@click.command()
@click.option(
    "--models", type=click.Path(path_type=Path), required=True, help="Model folder that this code can load."
)
@click.option("--volumes", type=click.Path(path_type=Path), required=True, help="Folder of saved volumes (.npz).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Answers, a line each; goes on there.")
@click.option("--prepared", type=click.Path(path_type=Path), help="Keeps volumes made ready for the networks.")
def main(models: Path, volumes: Path, out: Path, prepared: Path | None) -> None:
    """Judge saved volumes with one model folder, for a comparison of two versions."""
    import torch

    torch.set_num_threads(1)
    judge(load(models), volumes, out, click.echo, prepared)


if __name__ == "__main__":
    main()
