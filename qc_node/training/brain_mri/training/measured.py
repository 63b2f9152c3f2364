"""Training of :class:`qc_node.classifiers.brain_mri.networks.MeasuredNet` on measured features.

A network is so small that a step costs mostly what calling PyTorch costs, so many are trained at once, stacked:
the members of the shipped set, and those that never saw a protocol (:mod:`.left_out`).  They share nothing but the
time; each has its own images, order, gradient norm and best epoch.

The validation loss counts real heads only: the first spike showed that scores on painted heads go on
rising while those on real heads fall.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from qc_node.classifiers.brain_mri import networks
from qc_node.classifiers.brain_mri.decision import HEADS
from qc_node.networks import weights
from qc_node.training import loop
from qc_node.training.brain_mri.training import left_out, packed

WEIGHT_DECAY = 1e-3
CLIP_NORM = 5.0
SMOOTHING = 0.03
"""Of the labels."""


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
    lr: float = 2e-3
    patience: int = 20
    seed: int = 20261120
    batch: int = 128
    jitter: float = 0.1
    balance: float = 0.0


@dataclass(frozen=True)
class Job:
    """One network to train: on which rows, stopped by which, with which seed, kept where."""

    rows: npt.NDArray[np.int64]
    watched: npt.NDArray[np.int64]
    number: int
    folder: Path


class SideBySide(nn.Module):
    """Several :class:`MeasuredNet` side by side; the first axis of everything is the network."""

    def __init__(self, members: Sequence[networks.MeasuredNet]) -> None:
        super().__init__()

        def stacked(pick: Callable[[networks.MeasuredNet], Tensor]) -> Tensor:
            return torch.stack([pick(m).detach() for m in members])

        def heads(m: networks.MeasuredNet, what: str) -> Tensor:
            return torch.cat([getattr(m.heads[k], what) for k in HEADS])

        self.mean, self.scale = stacked(lambda m: m.mean), stacked(lambda m: m.scale)
        self.hidden_weight = nn.Parameter(stacked(lambda m: m.hidden[0].weight))  # type: ignore[arg-type, return-value]
        self.hidden_bias = nn.Parameter(stacked(lambda m: m.hidden[0].bias))  # type: ignore[arg-type, return-value]
        self.head_weight = nn.Parameter(stacked(lambda m: heads(m, "weight")))
        self.head_bias = nn.Parameter(stacked(lambda m: heads(m, "bias")))
        self.keep = members[0].keep.p
        self.keep_hidden = float(members[0].hidden[2].p)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """``(M, B, n_features)`` -> ``(M, B, n_outputs)`` per head."""
        x = ((features - self.mean[:, None]) / self.scale[:, None]).clamp(-4, 4)
        x = functional.dropout(x, self.keep, self.training)
        h = torch.baddbmm(self.hidden_bias[:, None], x, self.hidden_weight.transpose(1, 2)).relu()
        h = functional.dropout(h, self.keep_hidden, self.training)
        z = torch.baddbmm(self.head_bias[:, None], torch.cat([x, h], 2), self.head_weight.transpose(1, 2))
        return dict(zip(HEADS, torch.split(z, list(HEADS.values()), 2), strict=True))

    def clip(self, most: float) -> None:
        """Shorten every network's own gradient to at most `most`."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        factor = (most / (norm + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor.reshape(-1, *[1] * (g.ndim - 1)))

    def fill(self, network: networks.MeasuredNet, number: int) -> networks.MeasuredNet:
        """Weights of one of them put into a network of its own."""
        sizes = list(HEADS.values())
        content = {"mean": self.mean[number], "scale": self.scale[number]}
        content |= {"hidden.0.weight": self.hidden_weight[number], "hidden.0.bias": self.hidden_bias[number]}
        for what, whole in (("weight", self.head_weight), ("bias", self.head_bias)):
            for name, part in zip(HEADS, torch.split(whole[number], sizes), strict=True):
                content[f"heads.{name}.{what}"] = part
        network.load_state_dict({k: v.detach().cpu().clone() for k, v in content.items()})
        return network.eval()


def losses(
    outputs: dict[str, Tensor], targets: dict[str, Tensor], class_weights: dict[str, Tensor], smoothing: float
) -> Tensor:
    """:func:`.packed.loss_of` of every network, ``(M,)``; targets ``(M, B)``, class weights ``(M, n_answers)``."""
    total = torch.zeros(next(iter(outputs.values())).shape[0], device=next(iter(outputs.values())).device)
    for name, z in outputs.items():
        target = targets[name]
        if name == "damage":
            known = torch.isfinite(target)
            error = functional.smooth_l1_loss(
                z, torch.where(known, target, z.detach()), beta=0.3, reduction="none"
            )
            total = total + packed.DAMAGE_WEIGHT * error.sum((1, 2)) / known.sum((1, 2)).clamp_min(1)
            continue
        weight, known = class_weights[name], target >= 0
        minus_log = -functional.log_softmax(z, 2)
        answer = target.clamp_min(0)
        own = weight.gather(1, answer) * known
        share = own.sum(1).clamp_min(1e-9)
        plain = (own * minus_log.gather(2, answer[..., None])[..., 0]).sum(1) / share
        even = ((minus_log * weight[:, None]).sum(2) * known).sum(1) / share
        total = total + (1 - smoothing) * plain + smoothing / z.shape[2] * even
    return total


def predict(network: Any, numbers: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    """Features ``(n, n_features)`` -> logits ``(n, n_outputs)`` per head."""
    network.eval()
    with torch.inference_mode():
        return {k: v.double().numpy() for k, v in network(torch.from_numpy(numbers)).items()}


def train_many(
    pack: packed.Pack,
    jobs: Sequence[Job],
    settings: MeasuredSettings,
    device: str = "cpu",
    log: Callable[[str], None] = lambda line: None,
) -> list[tuple[networks.MeasuredNet, loop.FitState]]:
    """Networks trained side by side, on return each with the weights of its best epoch.

    Each folder gets ``best.safetensors`` and, once finished, ``state.json``; finished networks are kept.
    """
    open_jobs = [j for j in jobs if not (j.folder / loop.STATE).exists()]
    if open_jobs:
        _train(pack, open_jobs, settings, device, log)
    out = []
    for job in jobs:
        network = networks.MeasuredNet(pack.features.shape[1], HEADS)
        network.load_state_dict(weights.load_tensors(job.folder, loop.BEST))
        state = loop.FitState(**json.loads((job.folder / loop.STATE).read_text(encoding="utf-8")))
        out.append((network.eval(), state))
    return out


def _train(
    pack: packed.Pack, jobs: Sequence[Job], settings: MeasuredSettings, device: str, log: Callable[[str], None]
) -> None:
    names = [k for k in HEADS if k != "damage"]
    by_job = [
        {k: packed.class_weights(pack.targets[k][j.rows], HEADS[k]) for k in names} for j in jobs
    ]  # fmt: skip
    class_weights = {k: torch.from_numpy(np.stack([w[k] for w in by_job])).to(device) for k in names}
    plain = [_started(pack, job, settings) for job in jobs]
    stack = SideBySide(plain).to(device)
    stack.mean, stack.scale = stack.mean.to(device), stack.scale.to(device)
    features = torch.from_numpy(pack.features).to(device)
    targets = {k: torch.from_numpy(pack.targets[k]).to(device) for k in HEADS}
    optimiser = torch.optim.Adam(stack.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
    curve = loop.cosine(settings.epochs)
    states = [loop.FitState() for _ in jobs]
    orders = [_Order(pack, job, settings) for job in jobs]
    steps = max(1, math.ceil(max(len(j.rows) for j in jobs) / settings.batch))
    for epoch in range(settings.epochs):
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * curve(epoch)
        drawn = torch.from_numpy(np.stack([o(epoch, steps * settings.batch) for o in orders])).to(device)
        stack.train()
        total = torch.zeros(len(jobs), device=device)
        for step in range(steps):
            at = drawn[:, step * settings.batch : (step + 1) * settings.batch]
            x = features[at]
            x = x + settings.jitter * stack.scale[:, None] * torch.randn_like(x)
            loss = losses(stack(x), {k: v[at] for k, v in targets.items()}, class_weights, SMOOTHING)
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            stack.clip(CLIP_NORM)
            optimiser.step()
            total += loss.detach()
        for number, (job, state) in enumerate(zip(jobs, states, strict=True)):
            if not state.stopped_early:
                _look(pack, job, state, stack.fill(plain[number], number), by_job[number], settings, epoch)
                state.history[-1]["train_loss"] = float(total[number]) / steps
        going = [s for s in states if not s.stopped_early]
        mean = float(np.mean([s.history[-1]["loss"] for s in states]))
        log(f"epoch {epoch + 1}/{settings.epochs}: {len(going)} networks learning, mean loss watched {mean:.4f}")
        if not going:
            break
    for job, state in zip(jobs, states, strict=True):
        loop.save_json(job.folder / loop.STATE, asdict(state))


def _started(pack: packed.Pack, job: Job, settings: MeasuredSettings) -> networks.MeasuredNet:
    """A network that has learnt nothing but mean and SD of its images."""
    job.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed + job.number)
    network = networks.MeasuredNet(pack.features.shape[1], HEADS)
    network.mean.copy_(torch.from_numpy(pack.features[job.rows].mean(0)))
    network.scale.copy_(torch.from_numpy((pack.features[job.rows].std(0) + 1e-3).astype(np.float32)))
    return network


def _look(
    pack: packed.Pack,
    job: Job,
    state: loop.FitState,
    network: networks.MeasuredNet,
    class_weights: dict[str, Any],
    settings: MeasuredSettings,
    epoch: int,
) -> None:
    """The loss on the watched rows; the lowest one's weights are kept."""
    logits = predict(network, pack.features[job.watched])
    known = {k: torch.from_numpy(v) for k, v in class_weights.items()}
    seen = packed.watch(logits, {k: v[job.watched] for k, v in pack.targets.items()}, known)
    state.epoch = epoch + 1
    if math.isfinite(seen["loss"]) and seen["loss"] < state.best_loss:
        state.best_loss, state.best_epoch = seen["loss"], state.epoch
        loop.save_tensors(job.folder / loop.BEST, network.state_dict(), {"epoch": str(state.epoch)})
    state.stopped_early = state.epoch - state.best_epoch >= settings.patience
    state.history.append({"epoch": state.epoch, **seen})


class _Order:
    """The rows of a job in a new order every epoch, as many as are asked for."""

    def __init__(self, pack: packed.Pack, job: Job, settings: MeasuredSettings) -> None:
        groups = np.array([left_out.group_of(p) for p in pack.people[job.rows]])
        _, of, counts = np.unique(groups, return_inverse=True, return_counts=True)
        share = counts[of] ** -float(settings.balance)
        self.share = share / share.sum() if settings.balance else None
        self.rows = job.rows
        self.seed = settings.seed + job.number

    def __call__(self, epoch: int, n: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        if self.share is not None:
            return rng.choice(self.rows, n, p=self.share)
        return np.concatenate([rng.permutation(self.rows) for _ in range(math.ceil(n / len(self.rows)))])[:n]


def train_rows(
    pack: packed.Pack,
    rows: npt.NDArray[np.int64],
    watched: npt.NDArray[np.int64],
    number: int,
    folder: Path,
    settings: MeasuredSettings,
    device: str = "cpu",
    log: Callable[[str], None] = lambda line: None,
) -> tuple[networks.MeasuredNet, loop.FitState]:
    """One network trained on `rows`, stopped by the loss on the rows `watched`."""
    return train_many(pack, [Job(rows, watched, number, folder)], settings, device, log)[0]


def train_folds(
    pack: packed.Pack,
    folders: dict[int, Path],
    settings: MeasuredSettings,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> dict[int, loop.FitState]:
    """The folds of `folders`, fold -> folder; each gets ``best.safetensors``, ``state.json`` and ``held.npz``."""
    jobs = []
    for fold, folder in folders.items():
        rows, held = packed.split(pack, fold)
        watched = held[pack.kinds[held] == "head"]
        jobs.append(Job(rows, watched if watched.size else held, fold, folder))
    found = train_many(pack, jobs, settings, device, log)
    for job, (network, _) in zip(jobs, found, strict=True):
        held = packed.split(pack, job.number)[1]
        keep_answers(pack, network, held, job.folder)
    return {job.number: state for job, (_, state) in zip(jobs, found, strict=True)}


def keep_answers(
    pack: packed.Pack, network: networks.MeasuredNet, rows: npt.NDArray[np.int64], folder: Path
) -> None:
    """Answers to rows that the network never saw, as ``held.npz``."""
    named: dict[str, Any] = {f"logits_{k}": v for k, v in predict(network, pack.features[rows]).items()}
    np.savez(folder / "held.npz", rows=rows, **named)
