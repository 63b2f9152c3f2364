"""Training of :class:`~qc_node.classifiers.brain_mri.networks.PixelNet`: where an image differs from its twin.

Only proper T1w images teach it; straight rejects are left to the checks and the measured features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from qc_node import domain
from qc_node.classifiers.brain_mri import features, grading, networks, preprocess
from qc_node.training import loop
from qc_node.training.brain_mri.training import packed

CROP = 160
"""Side of the window that training looks at: the brain with its sinuses, at random places."""
LOCAL_WEIGHT = 1.0
FLOOR = 0.01
"""Local differences below this, in white-matter levels, are nothing that an eye sees."""


@dataclass(frozen=True)
class PixelSettings(loop.Schedule):
    """Hyperparameters, the same for all folds."""

    epochs: int = 14
    lr: float = 2e-3
    patience: int = 14
    seed: int = 20261121
    batch: int = 16
    images: int = 1500
    """Images per epoch."""


def local_target(errors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """RMS differences in squares -> what the network regresses: natural logarithm above :data:`FLOOR`."""
    return np.log(np.maximum(errors.astype(np.float32), FLOOR))


def add_noise(x: npt.NDArray[np.float32], sigma: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Rician noise on normalised slices, as smooth as trilinear sampling leaves it; `sigma` as measured."""
    noise = rng.standard_normal((2, *x.shape), dtype=np.float32)
    part = np.float32(rng.uniform(0.0, 0.5))
    # Neighbours share noise, more or less, depending on the voxels the slice was sampled from.
    noise = (
        noise
        + part * (np.roll(noise, 1, -1) + np.roll(noise, 1, -2))
        + part * part * np.roll(noise, (1, 1), (-1, -2))
    )
    noise *= np.float32(sigma) / (1 + part * part)
    return np.asarray(np.where(x == 0, 0, np.hypot(x + noise[0], noise[1])), dtype=np.float32)


def balanced(pack: packed.Pack, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Chance of each row: kinds as 3 heads : 1 hybrid : 2 maps, and grades of motion evenly within each."""
    weight = np.zeros(len(rows))
    motion = np.nan_to_num(pack.raw[rows, 0])
    bins = np.digitize(motion, (0.001, 0.08, 0.2, 0.38))
    for kind, share in (("head", 3.0), ("hybrid", 1.0), ("map", 2.0)):
        for b in range(5):
            here = (pack.kinds[rows] == kind) & (bins == b)
            if here.any():
                weight[here] = share / here.sum()
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def batches(
    pack: packed.Pack, rows: npt.NDArray[np.int64], regions: npt.NDArray[np.float32], settings: PixelSettings
) -> Callable[[int, np.random.Generator], Iterator[dict[str, Any]]]:
    """Augmented batches: one slice of each plane, a window of it, mirrored, noisier, brighter."""
    planes = preprocess.slice_planes().numpy()
    quiet = np.nan_to_num(pack.raw[:, 2], nan=1.0) < 0.02
    weight = balanced(pack, rows)
    side, cell = pack.slices.shape[-1], networks.PixelNet.STRIDE
    steps = (side - CROP) // cell

    def draw(epoch: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        order = rng.choice(rows, settings.images, p=weight)
        for first in range(0, len(order) - settings.batch + 1, settings.batch):
            chosen = order[first : first + settings.batch]
            n = CROP // cell
            pictures = np.empty((len(chosen), 3, CROP, CROP), dtype=np.float32)
            local = np.empty((len(chosen), 3, n, n), dtype=np.float32)
            shares = np.empty((len(chosen), 3, 2, n, n), dtype=np.float32)
            targets = {k: v[chosen].copy() for k, v in pack.targets.items() if k != "reject"}
            for i, row in enumerate(chosen):
                picked = [int(rng.choice(np.flatnonzero(planes == p))) for p in range(3)]
                # Around the middle of the canvas, where the brain is; a whole number of squares.
                top, left = (int(rng.integers(steps // 4, steps - steps // 4 + 1)) for _ in range(2))
                window = (
                    slice(None),
                    slice(top * cell, top * cell + CROP),
                    slice(left * cell, left * cell + CROP),
                )
                squares = (slice(None), slice(top, top + n), slice(left, left + n))
                x = pack.slices[row, picked][window].astype(np.float32)
                e, r = pack.errors[row, picked][squares], regions[picked][:, :, squares[1], squares[2]]
                if rng.random() < 0.5:
                    sideways = np.array([p != 2 for p in planes[picked]])
                    x[sideways], e[sideways], r[sideways] = (v[sideways][..., ::-1].copy() for v in (x, e, r))
                if quiet[row] and rng.random() < 0.5:
                    sigma = float(np.exp(rng.uniform(np.log(0.004), np.log(0.25))))
                    x = add_noise(x, sigma, rng)
                    level = float(np.hypot(sigma, pack.raw[row, 2]))
                    grade = grading.grade_of(domain.Question.NOISE, level)
                    targets["noise"][i] = packed.IGNORE if grade is None else grade
                    raw = np.array([[*pack.raw[row, :2], level]], dtype=np.float32)
                    targets["damage"][i] = packed.damage_targets(raw)[0]
                pictures[i] = x * np.exp(rng.normal(0, 0.08)) + rng.normal(0, 0.01)
                local[i], shares[i] = local_target(e), r
            yield {
                "slices": torch.from_numpy(pictures),
                "planes": torch.arange(3),
                "regions": torch.from_numpy(shares),
                "local": torch.from_numpy(local),
                "targets": {k: torch.from_numpy(v) for k, v in targets.items()},
            }

    return draw


def loss_of(network: Any, batch: dict[str, Any], weights: dict[str, Tensor]) -> Tensor:
    """Answers as for the measured features, and the local differences inside the brain."""
    out = network(batch["slices"], batch["planes"], batch["regions"])
    local = out.pop("local")
    share = batch["regions"][:, :, 0]
    inside = share * (share > 0.5)
    miss = functional.smooth_l1_loss(local, batch["local"], beta=0.3, reduction="none")
    mapped = (miss * inside).sum() / inside.sum().clamp_min(1.0)
    total: Tensor = packed.loss_of(out, batch["targets"], weights) + LOCAL_WEIGHT * mapped
    return total


def predict(
    network: Any, slices: npt.NDArray[np.float16], regions: Tensor, batch: int = 8
) -> dict[str, npt.NDArray[np.float64]]:
    """Logits ``(n, n_outputs)`` per head over all slices of every image; no maps."""
    network.eval()
    planes, parts = preprocess.slice_planes(), []
    with torch.inference_mode():
        for first in range(0, len(slices), batch):
            x = torch.from_numpy(slices[first : first + batch].astype(np.float32))
            parts.append({k: v for k, v in network(x, planes, regions).items() if k != "local"})
    return {k: np.concatenate([p[k].double().numpy() for p in parts]) for k in parts[0]}


def train_fold(
    pack: packed.Pack,
    fold: int,
    folder: Path,
    settings: PixelSettings,
    models: Path,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> loop.FitState:
    """Train one fold into `folder`; writes checkpoints, ``best.safetensors`` and ``held.npz``."""
    from qc_node.classifiers.brain_mri.decision import HEADS, REJECT_HEAD

    maker = features.FeatureMaker(preprocess.load_average_head(models))
    regions = networks.regions_of(torch.from_numpy(maker.brain), torch.from_numpy(maker.head))
    rows, held = (part[pack.targets["reject"][part] == 0] for part in packed.split(pack, fold))
    heads = {k: n for k, n in HEADS.items() if k != REJECT_HEAD}
    weights = {
        k: torch.from_numpy(packed.class_weights(pack.targets[k][rows], n)).to(device)
        for k, n in heads.items()
        if k != "damage"
    }
    torch.manual_seed(settings.seed + fold)
    network = networks.PixelNet(heads)
    watched = held[pack.kinds[held] == "head"]
    watched = watched[:: max(1, len(watched) // 120)]

    def validate(model: Any) -> dict[str, float]:
        model.to("cpu")
        logits = predict(model, pack.slices[watched], regions)
        model.to(device)
        return packed.watch(logits, {k: v[watched] for k, v in pack.targets.items()}, weights)

    state = loop.fit(
        network,
        batches(pack, rows, regions.numpy(), settings),
        lambda model, batch: loss_of(model, batch, weights),
        validate,
        folder,
        settings.of_fold(fold),
        device=device,
        log=log,
        weight_decay=1e-4,
        clip_norm=5.0,
        steps_per_epoch=settings.images // settings.batch,
        lr_scale=loop.cosine(settings.epochs),
    )
    network.to("cpu")
    named: dict[str, Any] = {f"logits_{k}": v for k, v in predict(network, pack.slices[held], regions).items()}
    np.savez(folder / "held.npz", rows=held, **named)
    return state
