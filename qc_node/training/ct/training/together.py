"""Training the networks of all folds at once, on one stream of varied slices.

Varying a slice costs as much as learning from it.  Here every slice is drawn and varied once, and each of the
networks learns from those of the people that it may see.  Adam treats every weight by itself, so networks that
share nothing but the stream learn as they would alone; only the slices per step are fewer, by those of the people
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qc_node.classifiers.ct.anatomy import CLASSES, NOTHING
from qc_node.classifiers.ct.networks import SliceNet, contrast_channels, position_channels
from qc_node.training.ct.data.pack import PackItem, soft_targets
from qc_node.training.ct.simulation.augment import augment, made_nothing, stripped
from qc_node.training.ct.training.slice_networks import (
    FACE_MM,
    Sampler,
    SliceSettings,
    answers,
    contrast_cell,
    position_cell,
    position_target,
    watched,
)
from qc_node.training.loop import BEST, FitState, cosine, fit, save_tensors

_LEAST = 4
"""Slices without which a network does not learn in a step: its batch normalisation needs some."""
_NOTHING = 0.06

Batch = tuple[Tensor, Tensor, Tensor]


class Together(nn.Module):
    """Networks that share nothing, as one module for one optimiser.

    Parameters
    ----------
    names
        Of the runs.
    outputs, width
        As of :class:`~qc_node.classifiers.ct.networks.SliceNet`.
    """

    def __init__(self, names: Sequence[str], outputs: int, width: int) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: SliceNet(4, outputs, width) for name in names})

    def loss(
        self, inputs: Tensor, targets: Tensor, allowed: Tensor, one: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Sum over the networks of `one` (logits, targets) on the slices that each may see.

        `allowed` is ``(N, networks)`` bool, in the order of the names.
        """
        total = inputs.new_zeros(())
        for column, network in enumerate(self.networks.values()):
            mine = allowed[:, column]
            if int(mine.sum()) >= _LEAST:
                total = total + one(network(inputs[mine]), targets[mine])
        return total


def allowed(people: Sequence[str], left_out: Mapping[str, set[str]]) -> npt.NDArray[np.bool_]:
    """``(people, runs)``: may the run see the person?"""
    return np.array([[person not in out for out in left_out.values()] for person in people])


def train_together(
    kind: str,
    items: Sequence[PackItem],
    left_out: Mapping[str, set[str]],
    out: Path,
    settings: SliceSettings,
    log: Callable[[str], None],
    device: str = "cpu",
) -> FitState:
    """Train the networks of every run and write ``out/<run>/<kind>/best.safetensors``.

    Parameters
    ----------
    kind
        ``"position"`` or ``"contrast"``.
    left_out
        Run to the people that it never sees, neither in slices nor in what is made of them.
    """
    position = kind == "position"
    runs = list(left_out)
    sampler = Sampler(items, position_cell if position else contrast_cell)
    real = [item for item in items if item.kind in ("real", "virtual")] or items
    stacks, places = watched(Sampler(real, position_cell if position else contrast_cell), settings)
    inputs = position_channels(stacks) if position else contrast_channels(stacks)
    seen = torch.from_numpy(allowed([item.person for item, _ in places], left_out))
    if position:
        targets = torch.from_numpy(np.stack([position_target(item, z) for item, z in places]))
    else:
        targets = torch.tensor([float(item.enhanced) for item, _ in places])

    def one(logits: Tensor, wanted: Tensor) -> Tensor:
        if position:
            return nn.functional.cross_entropy(logits, wanted)
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], wanted)

    def batches(epoch: int, rng: np.random.Generator) -> Iterator[Batch]:
        for _ in range(settings.steps if position else settings.steps * 5 // 4):
            yield (_position_batch if position else _contrast_batch)(items, sampler, left_out, settings.batch, rng)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Together)
        varied, wanted, may = batch
        return model.loss(varied, wanted if position else wanted * 0.94 + 0.03, may, one)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Together)
        losses = []
        for column, network in enumerate(model.networks.values()):
            mine = seen[:, column]
            losses.append(float(one(answers(network, inputs[mine], device), targets[mine])))
        return {"loss": float(np.mean(losses)), "worst": max(losses)}

    model = Together(runs, CLASSES if position else 1, settings.width)
    state = fit(
        model,
        batches,
        loss,
        validate,
        out / "together" / kind,
        replace(settings, patience=settings.epochs),
        device=device,
        log=log,
        weight_decay=1e-4,
        steps_per_epoch=settings.steps,
        lr_scale=cosine(settings.epochs, 0.98),
    )
    for name, network in model.networks.items():
        (out / name / kind).mkdir(parents=True, exist_ok=True)
        weights = {key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}
        save_tensors(out / name / kind / BEST, weights, {"epoch": str(state.best_epoch)})
    return state


def _position_batch(
    items: Sequence[PackItem],
    sampler: Sampler,
    left_out: Mapping[str, set[str]],
    count: int,
    rng: np.random.Generator,
) -> Batch:
    stacks, wanted, drawn, places = [], [], [], []
    for _ in range(count):
        if rng.random() < _NOTHING:
            item = items[int(rng.integers(len(items)))]
            stacks.append(made_nothing([item], rng))
            wanted.append(soft_targets(np.zeros(1, np.float32), NOTHING)[0])
            places.append(np.nan)
        else:
            stack, item, z = sampler.draw(rng)
            head = item.section == -1 and item.position[z] < FACE_MM
            stacks.append(stripped(stack) if head and rng.random() < 0.1 else stack)
            wanted.append(position_target(item, z))
            places.append(float(item.position[z]))
        drawn.append(item)
    enhanced = torch.tensor([item.enhanced == 1 for item in drawn])
    varied = augment(torch.from_numpy(np.stack(stacks)), rng, 12.0, torch.tensor(places), enhanced)
    may = torch.from_numpy(allowed([item.person for item in drawn], left_out))
    return position_channels(varied), torch.from_numpy(np.stack(wanted)), may


def _contrast_batch(
    items: Sequence[PackItem],
    sampler: Sampler,
    left_out: Mapping[str, set[str]],
    count: int,
    rng: np.random.Generator,
) -> Batch:
    drawn = [sampler.draw(rng) for _ in range(count)]
    places = torch.tensor([float(item.position[z]) for _, item, z in drawn])
    enhanced = torch.tensor([item.enhanced == 1 for _, item, _ in drawn])
    varied = augment(torch.from_numpy(np.stack([d[0] for d in drawn])), rng, 8.0, places, enhanced)
    may = torch.from_numpy(allowed([item.person for _, item, _ in drawn], left_out))
    return contrast_channels(varied), enhanced.float(), may
