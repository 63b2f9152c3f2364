"""Training the two slice networks: position on the body axis, and contrast enhancement.

Sampling undoes what the data happen to be: sections of the body are drawn evenly and persons evenly within
a section, real before made ones.  What is varied on the way to the network is in
:mod:`qc_node.training.ct.simulation.augment`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qc_node.classifiers.ct.anatomy import CLASSES, LIMB, NOTHING, SECTION_MM, SECTIONS, readable
from qc_node.classifiers.ct.networks import SliceNet, contrast_channels, position_channels
from qc_node.training.ct.data.pack import PackItem, soft_targets
from qc_node.training.ct.simulation.augment import augment, made_nothing, stripped
from qc_node.training.loop import FitState, Schedule, cosine, fit

_WEIGHT = {"real": 6.0, "head": 1.5, "body": 1.0, "virtual": 2.0}
"""How much likelier a person of each kind is drawn, within a section of the body."""
FACE_MM = 140.0
"""Above this place on the body axis a slice may lose its skull."""


@dataclass(frozen=True)
class SliceSettings(Schedule):
    """Hyperparameters, the same for both networks and all folds."""

    epochs: int = 8
    lr: float = 2e-3
    patience: int = 6
    seed: int = 7
    steps: int = 80
    batch: int = 48
    width: int = 16


class Sampler:
    """Draws ``(3, 96, 96)`` stacks evenly over cells (section, or section and label), then persons."""

    def __init__(
        self, items: Sequence[PackItem], cells: Callable[[PackItem, int], tuple[int, ...] | None]
    ) -> None:
        table: dict[tuple[int, ...], dict[str, list[tuple[PackItem, int]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for item in items:
            for z in np.flatnonzero(readable(item.coarse)):
                cell = cells(item, int(z))
                if cell is not None:
                    table[cell][item.person].append((item, int(z)))
        # Limbs and test objects vary more than any section of the trunk.
        rare = {(LIMB,), (NOTHING,)}
        self.cells = [cell for cell in sorted(table) for _ in range(3 if cell in rare else 1)]
        self.people = []
        for cell in self.cells:
            persons = sorted(table[cell])
            weights = np.array([_WEIGHT[table[cell][p][0][0].kind] for p in persons])
            self.people.append(([table[cell][p] for p in persons], weights / weights.sum()))

    def draw(
        self, rng: np.random.Generator, *, plain: bool = False
    ) -> tuple[npt.NDArray[np.float32], PackItem, int]:
        """One stack, its item and its slice number."""
        places, weights = self.people[int(rng.integers(len(self.cells)))]
        slices = places[int(rng.choice(len(places), p=weights))]
        item, z = slices[int(rng.integers(len(slices)))]
        step = 2 if plain else int(rng.choice([1, 2, 2, 2, 3]))
        if not plain and rng.random() < 0.1:
            step = -step
        last = len(item.coarse) - 1
        index = [min(max(z - step, 0), last), z, min(max(z + step, 0), last)]
        return item.coarse[index].astype(np.float32), item, z


def position_cell(item: PackItem, z: int) -> tuple[int, ...] | None:
    """Section of the body axis, LIMB or NOTHING; None where the truth is unknown."""
    if item.section in (LIMB, NOTHING):
        return (item.section,)
    if item.section == -2 or not np.isfinite(item.position[z]):
        return None
    at = float(item.position[z])
    if at < -10 or at > SECTIONS * SECTION_MM + 40:
        return (LIMB,)
    return (int(np.clip(at // SECTION_MM, 0, SECTIONS - 1)),)


def contrast_cell(item: PackItem, z: int) -> tuple[int, ...] | None:
    """Region (in steps of 80 mm) and label; None where either is unknown."""
    if item.enhanced < 0 or item.section == NOTHING:
        return None
    if item.section == LIMB:
        return (99, item.enhanced)
    if item.section == -2:
        return (98, item.enhanced)
    at = float(item.position[z])
    if not np.isfinite(at) or at < 0 or at > 900:
        return None
    return (int(at // 80), item.enhanced)


def position_target(item: PackItem, z: int) -> npt.NDArray[np.float32]:
    """``(CLASSES,)`` soft target of one slice."""
    at = item.position[z : z + 1]
    if item.section < 0 and at[0] < -10:
        target = np.zeros(CLASSES, np.float32)
        target[LIMB] = 1.0
        return target
    row: npt.NDArray[np.float32] = soft_targets(at, item.section)[0]
    return row


def watched(judge: Sampler, settings: SliceSettings) -> tuple[Tensor, list[tuple[PackItem, int]]]:
    """The fixed slices whose loss decides when to stop: ``(N, 3, 96, 96)`` HU, and item and slice of each."""
    rng = np.random.default_rng(settings.seed)
    drawn = [judge.draw(rng, plain=True) for _ in range(min(600, 20 * settings.steps))]
    return torch.from_numpy(np.stack([d[0] for d in drawn])), [(item, z) for _, item, z in drawn]


def answers(model: nn.Module, inputs: Tensor, device: str) -> Tensor:
    """Logits ``(N, outputs)`` on the CPU."""
    return torch.cat([model(part.to(device)).cpu() for part in torch.split(inputs, 100)])


def train_position(
    train: Sequence[PackItem],
    held: Sequence[PackItem],
    out: Path,
    settings: SliceSettings,
    log: Callable[[str], None],
    device: str = "cpu",
) -> tuple[SliceNet, FitState]:
    """Train the position network; `held` persons only decide when to stop."""
    sampler = Sampler(train, position_cell)
    stacks, places = watched(Sampler(held, position_cell), settings)
    inputs = position_channels(stacks)
    targets = torch.from_numpy(np.stack([position_target(item, z) for item, z in places]))

    def batches(epoch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(settings.steps):
            stacks, wanted, places, enhanced = [], [], [], []
            for _ in range(settings.batch):
                if rng.random() < 0.06:
                    stacks.append(made_nothing(train, rng))
                    wanted.append(soft_targets(np.zeros(1, np.float32), NOTHING)[0])
                    places.append(np.nan)
                    enhanced.append(False)
                else:
                    stack, item, z = sampler.draw(rng)
                    head = item.section == -1 and item.position[z] < FACE_MM
                    stacks.append(stripped(stack) if head and rng.random() < 0.1 else stack)
                    wanted.append(position_target(item, z))
                    places.append(float(item.position[z]))
                    enhanced.append(item.enhanced == 1)
            varied = augment(
                torch.from_numpy(np.stack(stacks)), rng, 12.0, torch.tensor(places), torch.tensor(enhanced)
            )
            yield position_channels(varied), torch.from_numpy(np.stack(wanted))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def validate(model: nn.Module) -> dict[str, float]:
        logits = answers(model, inputs, device)
        value = nn.functional.cross_entropy(logits, targets)
        hit = (logits.argmax(1) - targets.argmax(1)).abs() <= 1
        return {"loss": float(value), "near": float(hit.float().mean())}

    return _fit(SliceNet(4, CLASSES, settings.width), batches, loss, validate, out, settings, log, device)


def train_contrast(
    train: Sequence[PackItem],
    held: Sequence[PackItem],
    out: Path,
    settings: SliceSettings,
    log: Callable[[str], None],
    device: str = "cpu",
) -> tuple[SliceNet, FitState]:
    """Train the contrast network; one logit per slice."""
    sampler = Sampler(train, contrast_cell)
    stacks, places = watched(Sampler(held, contrast_cell), settings)
    inputs = contrast_channels(stacks)
    targets = torch.tensor([float(item.enhanced) for item, _ in places])

    def batches(epoch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        # Enhancement is the harder question of the two.
        for _ in range(settings.steps * 5 // 4):
            drawn = [sampler.draw(rng) for _ in range(settings.batch)]
            places = torch.tensor([float(item.position[z]) for _, item, z in drawn])
            enhanced = torch.tensor([item.enhanced == 1 for _, item, _ in drawn])
            stacks = augment(torch.from_numpy(np.stack([d[0] for d in drawn])), rng, 8.0, places, enhanced)
            yield contrast_channels(stacks), torch.tensor([float(d[1].enhanced) for d in drawn])

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        # Softened labels: not every slice of an enhanced scan holds a vessel.
        return nn.functional.binary_cross_entropy_with_logits(model(batch[0])[:, 0], batch[1] * 0.94 + 0.03)

    def validate(model: nn.Module) -> dict[str, float]:
        logits = answers(model, inputs, device)[:, 0]
        value = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        return {"loss": float(value), "right": float(((logits > 0) == (targets > 0.5)).float().mean())}

    return _fit(SliceNet(4, 1, settings.width), batches, loss, validate, out, settings, log, device)


def _fit(
    model: SliceNet,
    batches: Callable[[int, np.random.Generator], Iterator[tuple[Tensor, Tensor]]],
    loss: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor],
    validate: Callable[[nn.Module], dict[str, float]],
    out: Path,
    settings: SliceSettings,
    log: Callable[[str], None],
    device: str,
) -> tuple[SliceNet, FitState]:
    state = fit(
        model,
        batches,
        loss,
        validate,
        out,
        settings,
        device=device,
        log=log,
        weight_decay=1e-4,
        steps_per_epoch=settings.steps,
        lr_scale=cosine(settings.epochs, 0.98),
    )
    return model, state
