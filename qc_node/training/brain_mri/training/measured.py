"""Training of :class:`qc_node.classifiers.brain_mri.networks.MeasuredNet` on measured features.

The validation loss counts real heads only: the first spike showed that scores on painted heads go on
rising while those on real heads fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.brain_mri import networks
from qc_node.classifiers.brain_mri.decision import HEADS
from qc_node.training import loop
from qc_node.training.brain_mri.training import left_out, packed


@dataclass(frozen=True)
class MeasuredSettings(loop.Schedule):
    """Hyperparameters, the same for all folds.

    Attributes
    ----------
    jitter
        Gaussian noise on the numbers, in SDs.
    balance
        Images of a protocol with n images are drawn ``n ** -balance`` times as often: 0 takes each once per epoch,
        1 makes protocols equally common.
    """

    epochs: int = 60
    lr: float = 1e-3
    patience: int = 20
    seed: int = 20261120
    batch: int = 32
    jitter: float = 0.1
    balance: float = 0.0


def batches(
    pack: packed.Pack,
    rows: npt.NDArray[np.int64],
    settings: MeasuredSettings,
    scale: npt.NDArray[np.float32],
) -> Callable[[int, np.random.Generator], Iterator[dict[str, Any]]]:
    """Shuffled batches of features with a little Gaussian jitter."""
    batch = settings.batch
    groups = np.array([left_out.group_of(p) for p in pack.people[rows]])
    _, of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    share = counts[of] ** -float(settings.balance)
    share = share / share.sum()

    def draw(epoch: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        order = rng.choice(rows, len(rows), p=share) if settings.balance else rng.permutation(rows)
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            jitter = settings.jitter * scale * rng.standard_normal((len(chosen), len(scale)), dtype=np.float32)
            yield {
                "features": torch.from_numpy(pack.features[chosen] + jitter),
                "targets": {k: torch.from_numpy(v[chosen]) for k, v in pack.targets.items()},
            }

    return draw


def predict(network: Any, numbers: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """Features ``(n, n_features)`` -> logits ``(n, n_outputs)`` per head."""
    network.eval()
    with torch.inference_mode():
        return {k: v.double().numpy() for k, v in network(torch.from_numpy(numbers)).items()}


def train_rows(
    pack: packed.Pack,
    rows: npt.NDArray[np.int64],
    watched: npt.NDArray[np.int64],
    number: int,
    folder: Path,
    settings: MeasuredSettings,
    device: str = "cpu",
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Any, loop.FitState]:
    """A network trained on `rows`, stopped by the loss on the rows `watched`; checkpoints go into `folder`."""
    weights = {
        k: torch.from_numpy(packed.class_weights(pack.targets[k][rows], n)).to(device)
        for k, n in HEADS.items()
        if k != "damage"
    }
    torch.manual_seed(settings.seed + number)
    scale = (pack.features[rows].std(0) + 1e-3).astype(np.float32)

    def validate(model: Any) -> dict[str, float]:
        logits = predict(model.to("cpu"), pack.features[watched])
        model.to(device)
        return packed.watch(logits, {k: v[watched] for k, v in pack.targets.items()}, weights)

    network = networks.MeasuredNet(pack.features.shape[1], HEADS)
    network.mean.copy_(torch.from_numpy(pack.features[rows].mean(0)))
    network.scale.copy_(torch.from_numpy(scale))
    state = loop.fit(
        network,
        batches(pack, rows, settings, scale),
        lambda model, batch: packed.loss_of(model(batch["features"]), batch["targets"], weights),
        validate,
        folder,
        settings.of_fold(number),
        device=device,
        log=log,
        weight_decay=1e-3,
        clip_norm=5.0,
        steps_per_epoch=max(1, len(rows) // settings.batch),
        lr_scale=loop.cosine(settings.epochs),
    )
    return network.to("cpu"), state


def train_fold(
    pack: packed.Pack,
    fold: int,
    folder: Path,
    settings: MeasuredSettings,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> loop.FitState:
    """Train one fold into `folder`; writes checkpoints, ``best.safetensors`` and ``held.npz``."""
    rows, held = packed.split(pack, fold)
    watched = held[pack.kinds[held] == "head"]
    network, state = train_rows(pack, rows, watched if watched.size else held, fold, folder, settings, device, log)
    named: dict[str, Any] = {f"logits_{k}": v for k, v in predict(network, pack.features[held]).items()}
    np.savez(folder / "held.npz", rows=held, **named)
    return state
