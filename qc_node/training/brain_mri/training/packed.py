"""A pack in memory: what the networks learn from, what they should say, and what a wrong answer costs.

Rows inside a grey zone teach the regression, not the grades.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node import domain
from qc_node.classifiers.brain_mri import grading
from qc_node.training import scores
from qc_node.training.brain_mri import people

if TYPE_CHECKING:
    from qc_node.classifiers.brain_mri.features import FeatureMaker
    from qc_node.training.brain_mri.training.pack import Shard

FloatArray = npt.NDArray[np.float32]

IGNORE = -100
"""Target of a question that is not defined or lies in a grey zone."""
GRADED = tuple(q.value for q in domain.GRADED)
DAMAGE_WEIGHT = 0.3
STRIPPED_EVERY = 4
"""Of every fourth proper image the features are measured once more with everything but the brain blanked.

Such a row teaches gadolinium alone: enhancement within the brain counts too, not only that of the sinuses."""


@dataclass
class Pack:
    """A pack in memory.

    Attributes
    ----------
    slices
        ``(n, S, H, W)`` float16; none where they were not asked for.
    errors
        ``(n, S, H / 8, W / 8)`` float16: RMS difference to the still twin in squares of 8 mm; nan for rejects.
    targets
        Per head ``(n,)`` int64 with :data:`IGNORE`; ``damage`` ``(n, 3)`` float32 with nan.
    people, kinds
        Person and kind (``head``, ``hybrid``, ``map``) behind each image; rows of kind ``stripped`` follow after
        the last image and have no slices: see :data:`STRIPPED_EVERY`.
    raw
        Measured motion, contrast and noise ``(n, 3)``, nan where not defined.
    """

    slices: npt.NDArray[np.float16]
    errors: npt.NDArray[np.float16]
    targets: dict[str, npt.NDArray[Any]]
    people: npt.NDArray[np.str_]
    kinds: npt.NDArray[np.str_]
    raw: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    """``(n, n_features)``: what :mod:`qc_node.classifiers.brain_mri.features` measures on the slices."""

    def __len__(self) -> int:
        return int((self.kinds != "stripped").sum())

    @property
    def real(self) -> npt.NDArray[np.bool_]:
        """``(rows,)``: images of real brains, on which alone things are chosen."""
        return np.isin(self.kinds, ("head", "hybrid"))


def damage_targets(raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Motion, contrast, noise on scales on which a step means about the same everywhere."""
    motion, contrast, noise = raw.T
    columns = [np.log(motion + 0.03) + 2.0, 6.0 * (contrast - 0.2), np.log(noise + 0.008) + 3.0]
    return np.stack(columns, 1).astype(np.float32)


def measure(shard: Shard, maker: FeatureMaker) -> tuple[FloatArray, FloatArray, list[int]]:
    """Features of a shard's images, those of stripped twins, and whose twins these are; kept beside the shard."""
    from qc_node.classifiers.brain_mri import features

    cache = shard.path.with_suffix(f".features-{features.VERSION}.npy")
    bare = shard.path.with_suffix(f".stripped-{features.VERSION}.npy")
    chosen = [n for n, r in enumerate(shard.rows) if r.reject == "ok"][::STRIPPED_EVERY]
    if not (cache.exists() and bare.exists()):
        slices = shard.array("slices")
        near = ndimage.binary_dilation(maker.brain, np.ones((1, 5, 5), bool))
        _keep(cache, np.stack([maker(s) for s in slices]))
        _keep(bare, np.array([maker(slices[n] * near) for n in chosen]).reshape(-1, features.N_FEATURES))
    return np.load(cache, allow_pickle=False), np.load(bare, allow_pickle=False), chosen


def _keep(path: Path, numbers: npt.NDArray[Any]) -> None:
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, numbers)
    temporary.replace(path)


def load_pack(folder: Path, models: Path = Path("models/brain-mri"), slices: bool = True) -> Pack:
    """Every finished shard of a pack, with its features (measured once, cached beside the shard).

    Parameters
    ----------
    slices
        False leaves slices and local errors empty: measured networks need none, and they are gigabytes.

    Raises
    ------
    domain.QcNodeError
        There is none.
    """
    from qc_node.classifiers.brain_mri import features, preprocess
    from qc_node.classifiers.brain_mri.classifier import SLICE_SHAPE
    from qc_node.classifiers.brain_mri.decision import REJECT_REASONS
    from qc_node.training.brain_mri.training.pack import shards as finished_shards

    maker = features.FeatureMaker(preprocess.load_average_head(models))
    shards = list(finished_shards(folder))
    rows = [row for shard in shards for row in shard.rows]
    if not rows:
        raise domain.QcNodeError(f"There are no shards in {folder}; build the pack first.")
    # Filled in place: the slices of a few thousand images are gigabytes.
    pictures = np.empty((len(rows) if slices else 0, *SLICE_SHAPE), dtype=np.float16)
    errors = [np.zeros((0, 1, 1, 1), dtype=np.float16)]
    numbers, stripped, twins, first = [], [], [], 0
    for shard in shards:
        if slices:
            pictures[first : first + len(shard.rows)] = shard.array("slices")
            errors.append(shard.array("errors"))
        own, bare, chosen = measure(shard, maker)
        numbers.append(own)
        stripped.append(bare)
        twins += [first + n for n in chosen]
        first += len(shard.rows)
    raw = np.array(
        [[np.nan if v is None else v for v in (r.motion, r.contrast, r.noise)] for r in rows], dtype=np.float32
    )
    targets: dict[str, npt.NDArray[Any]] = {
        "reject": np.array([REJECT_REASONS.index(r.reject) for r in rows]),
        "gadolinium": np.array([IGNORE if r.gadolinium is None else r.gadolinium for r in rows]),
        "damage": damage_targets(raw),
    }
    for column, question in enumerate(domain.GRADED):
        grades = [grading.grade_of(question, float(x)) for x in raw[:, column]]
        targets[question.value] = np.array([IGNORE if g is None else g for g in grades])
    persons = np.array([r.person for r in rows])
    targets = {
        k: np.concatenate([v, v[twins] if k == "gadolinium" else _unknown(v[twins])]) for k, v in targets.items()
    }
    return Pack(
        pictures,
        np.concatenate(errors[1:] if slices else errors),
        targets,
        np.concatenate([persons, persons[twins]]),
        np.array([r.kind for r in rows] + ["stripped"] * len(twins)),
        np.concatenate([raw, np.full((len(twins), 3), np.nan, np.float32)]),
        np.concatenate([*numbers, *stripped]),
    )


def _unknown(targets: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.full_like(targets, IGNORE if targets.dtype.kind == "i" else np.nan)


def split(pack: Pack, fold: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows for training and for validation of a fold; nobody is in both."""
    persons = sorted(set(pack.people.tolist()))
    fold_by_person = {p: people.fold_of(p, persons) for p in persons}
    of_row = np.array([fold_by_person[p] for p in pack.people])
    return np.flatnonzero(of_row != fold), np.flatnonzero(of_row == fold)


def class_weights(targets: npt.NDArray[Any], n_classes: int) -> npt.NDArray[np.float32]:
    """Inverse frequency, mean 1 over the rows that have a target."""
    counts = np.bincount(targets[targets >= 0], minlength=n_classes).astype(np.float64)
    weights = np.where(counts > 0, counts.sum() / (n_classes * np.maximum(counts, 1)), 0.0)
    return np.asarray(np.sqrt(weights) if n_classes > 3 else weights, dtype=np.float32)


def loss_of(
    outputs: dict[str, Any], targets: dict[str, Any], weights: dict[str, Any], smoothing: float = 0.03
) -> Any:
    """Sum of weighted cross-entropies and the regression of the damage; undefined targets count nothing."""
    import torch
    from torch.nn import functional

    total = torch.zeros(())
    for name, logits in outputs.items():
        target = targets[name]
        if name == "damage":
            known = torch.isfinite(target)
            if known.any():
                total = total + DAMAGE_WEIGHT * functional.smooth_l1_loss(logits[known], target[known], beta=0.3)
            continue
        if (target >= 0).any():
            total = total + functional.cross_entropy(
                logits, target, weight=weights[name], ignore_index=IGNORE, label_smoothing=smoothing
            )
    return total


def watch(
    logits: dict[str, npt.NDArray[np.float64]], targets: dict[str, npt.NDArray[Any]], weights: dict[str, Any]
) -> dict[str, float]:
    """What a training run watches: the loss of :func:`loss_of`, and the balanced accuracy of every question.

    `targets` belong to the rows of `logits`; of straight rejects only yes or no counts.
    """
    import torch

    known = {k: torch.from_numpy(v).float() for k, v in logits.items()}
    wanted = {k: torch.from_numpy(targets[k]) for k in logits}
    out = {"loss": float(loss_of(known, wanted, {k: w.cpu() for k, w in weights.items()}, 0.0))}
    for name, z in logits.items():
        if name == "damage":
            continue
        truth, said = answered(name, z, targets[name])
        out[name] = scores.balanced_accuracy(truth, said)
    return out


def answered(
    name: str, logits: npt.NDArray[np.float64], targets: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Truth and likeliest answer where there is a truth; of straight rejects only yes or no counts."""
    use = targets >= 0
    truth, said = targets[use].astype(np.int64), logits.argmax(1)[use]
    return ((truth > 0).astype(np.int64), (said > 0).astype(np.int64)) if name == "reject" else (truth, said)
