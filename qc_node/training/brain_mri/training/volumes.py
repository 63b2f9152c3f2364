"""The paper's three networks on whole volumes: Conv5_FC3, 3D Inception, 3D ResNet (Bottani et al. 2022).

The paper trains one network per question on 169 x 208 x 179 voxels of 1 mm.  Here one network answers all
questions (its last layer has an output per answer), on the volumes that the pack keeps: 85 x 104 x 90 voxels
of 2 mm, prepared as ``fast``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qc_node.classifiers.brain_mri import networks
from qc_node.classifiers.brain_mri.decision import HEADS
from qc_node.training import loop
from qc_node.training.brain_mri.simulation.simulator import VOLUME_SHAPE
from qc_node.training.brain_mri.training import packed
from qc_node.training.brain_mri.training.pack import shards

NAMES = ("conv5fc3", "inception3d", "resnet3d")
OUTPUTS = {k: n for k, n in HEADS.items() if k != "damage"}


@dataclass(frozen=True)
class VolumeSettings(loop.Schedule):
    """Hyperparameters: the paper's learning rate; the batch is what two cores carry."""

    epochs: int = 20
    lr: float = 1e-4
    patience: int = 5
    seed: int = 20261121
    batch: int = 8
    images: int = 0
    """Volumes per epoch; 0 takes all."""


@dataclass
class Volumes:
    """``(n, 85, 104, 90)`` uint8 and the row of the pack that each belongs to."""

    values: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]


def load_volumes(folder: Path) -> Volumes:
    """Every whole volume of a pack.  The rows count as in :func:`.packed.load_pack`."""
    values, rows, first = [], [], 0
    for shard in shards(folder):
        values.append(shard.array("volumes"))
        rows.append(shard.array("volume_of") + first)
        first += len(shard.rows)
    return Volumes(np.concatenate(values), np.concatenate(rows).astype(np.int64))


def build(name: str) -> nn.Module:
    """One of :data:`NAMES` for the pack's volumes, with an output per answer of every question."""
    n = sum(OUTPUTS.values())
    if name == "conv5fc3":
        return networks.Conv5FC3(n, VOLUME_SHAPE)
    if name == "resnet3d":
        return networks.ResNet3D(n, VOLUME_SHAPE)
    return networks.Inception3D(n)


def by_question(logits: Tensor) -> dict[str, Tensor]:
    """``(n, sum of answers)`` -> logits per question."""
    return dict(zip(OUTPUTS, torch.split(logits, list(OUTPUTS.values()), 1), strict=True))


def as_input(values: npt.NDArray[np.uint8]) -> Tensor:
    """Bytes -> ``(n, 1, 85, 104, 90)`` float32 in [0, 1]."""
    return torch.from_numpy(values.astype(np.float32) / 255.0)[:, None]


def predict(
    network: nn.Module, values: npt.NDArray[np.uint8], batch: int = 8
) -> dict[str, npt.NDArray[np.float64]]:
    """Logits ``(n, n_outputs)`` per question."""
    network.eval()
    with torch.inference_mode():
        parts = [network(as_input(values[i : i + batch])) for i in range(0, len(values), batch)]
    return {k: v.double().numpy() for k, v in by_question(torch.cat(parts)).items()}


def train_fold(
    name: str,
    pack: packed.Pack,
    volumes: Volumes,
    fold: int,
    folder: Path,
    settings: VolumeSettings,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> loop.FitState:
    """Train one fold of one network into `folder`; writes checkpoints, ``best.safetensors``, ``held.npz``."""
    rows, held = packed.split(pack, fold)
    train, watched = (np.flatnonzero(np.isin(volumes.rows, part)) for part in (rows, held))
    heads = watched[pack.kinds[volumes.rows[watched]] == "head"]
    watched = heads if heads.size else watched
    weights = {
        k: torch.from_numpy(packed.class_weights(pack.targets[k][volumes.rows[train]], n)).to(device)
        for k, n in OUTPUTS.items()
    }
    targets = {k: pack.targets[k] for k in OUTPUTS}
    torch.manual_seed(settings.seed + fold)
    network = build(name)

    def draw(epoch: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        order = rng.permutation(train)[: settings.images or len(train)]
        for first in range(0, len(order) - settings.batch + 1, settings.batch):
            chosen = order[first : first + settings.batch]
            x = as_input(volumes.values[chosen])
            mirrored = torch.from_numpy(rng.random(len(chosen)) < 0.5)[:, None, None, None, None]
            x = torch.where(mirrored, x.flip(2), x)
            own = {k: torch.from_numpy(v[volumes.rows[chosen]]) for k, v in targets.items()}
            yield {"volumes": x, "targets": own}

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        answers = model(batch["volumes"])
        # GoogLeNet: auxiliary heads count 0.3 each while training.
        heads = zip(answers, (1.0, 0.3, 0.3), strict=True) if isinstance(answers, tuple) else [(answers, 1.0)]
        parts = [share * packed.loss_of(by_question(z), batch["targets"], weights, 0.0) for z, share in heads]
        return torch.stack(parts).sum()

    def validate(model: nn.Module) -> dict[str, float]:
        model.to("cpu")
        logits = predict(model, volumes.values[watched])
        model.to(device)
        return packed.watch(logits, {k: v[volumes.rows[watched]] for k, v in targets.items()}, weights)

    return loop.fit(
        network,
        draw,
        loss,
        validate,
        folder,
        settings.of_fold(fold),
        device=device,
        log=log,
        clip_norm=5.0,
        steps_per_epoch=max(1, (settings.images or len(train)) // settings.batch),
    )
