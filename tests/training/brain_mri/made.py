"""A pack of made-up features: three protocols that shift every number, and answers that can be learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.brain_mri.decision import HEADS, REJECT_REASONS, THICK
from qc_node.classifiers.brain_mri.features import N_FEATURES
from qc_node.training.brain_mri.training import packed

PEOPLE = (
    *(f"ds000011-sub-0{n}" for n in range(1, 6)),
    *(f"ds002608-sub-0{n}" for n in range(1, 6)),
    *(f"synthseg-0{n}" for n in range(1, 6)),
)


def pack(per_person: int = 40, shift: float = 0.3, seed: int = 0) -> packed.Pack:
    """Images of which a few numbers say what is right with them, without slices."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.array(PEOPLE), per_person)
    n = len(people)
    features = rng.standard_normal((n, N_FEATURES)).astype(np.float32)
    protocol = np.array([p.split("-")[0] for p in people])
    for number, name in enumerate(sorted(set(protocol))):
        features[protocol == name] += shift * np.random.default_rng(number).standard_normal(N_FEATURES).astype(
            np.float32
        )
    reject = np.where(rng.random(n) < 0.4, rng.integers(1, len(REJECT_REASONS), n), 0)
    reject[reject == THICK] = 1
    targets: dict[str, npt.NDArray[Any]] = {"reject": reject.astype(np.int64)}
    features[:, :15] += 2.0 * (reject > 0)[:, None]
    for column, (name, answers) in enumerate((k, v) for k, v in HEADS.items() if k not in ("reject", "damage")):
        truth = rng.integers(0, answers, n)
        features[:, 20 + 15 * column : 35 + 15 * column] += 1.5 * truth[:, None]
        targets[name] = np.where(reject == 0, truth, packed.IGNORE).astype(np.int64)
    raw = np.full((n, 3), np.nan, np.float32)
    targets["damage"] = packed.damage_targets(raw)
    kinds = np.where(np.char.startswith(people, "synthseg"), "map", "head")
    return packed.Pack(
        np.zeros((n, 1, 2, 2), np.float16),
        np.zeros((n, 1, 1, 1), np.float16),
        targets,
        people,
        kinds,
        raw,
        features,
    )
