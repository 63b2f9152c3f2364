"""One training loop for every network: resumable, atomic, without pickle.

Adam, early stopping on the lowest validation loss (Bottani et al. 2022, section 2.4), a checkpoint
after every epoch.  A run that was killed continues with the next epoch and ends with the same weights
as one that was not: random numbers are seeded per epoch, and the optimiser's moments travel with the
weights.  Everything is kept as safetensors with a JSON state in the file's own header, so a checkpoint
is one file that is either there or not; ``state.json`` beside it is a copy for people.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qc_node.domain import QcNodeError

LAST = "last.safetensors"
"""Weights and optimiser after the latest epoch; what a killed run resumes from."""
BEST = "best.safetensors"
"""Weights of the epoch with the lowest validation loss; what is shipped."""
STATE = "state.json"
"""The state for people to read; the loop itself trusts only the header of :data:`LAST`."""

_MODEL = "model."
_ADAM = "adam."


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network learns; the settings of every network begin with it.

    Attributes
    ----------
    epochs
        The most; training may stop earlier.
    lr
        Learning rate of Adam.
    patience
        Epochs without a lower validation loss before stopping.
    seed
        Of order, augmentation and dropout.
    """

    epochs: int
    lr: float
    patience: int
    seed: int

    def of_fold(self, fold: int) -> Self:
        """The same with a seed of its own for each fold."""
        return replace(self, seed=self.seed + fold)


@dataclass
class FitState:
    """Where a training run stands.

    ``history`` has one entry per finished epoch: epoch, train loss, seconds, and what ``validate_fn`` said.
    """

    epoch: int = 0
    """Epochs finished."""
    best_epoch: int = -1
    best_loss: float = math.inf
    stopped_early: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


def cosine(epochs: int, span: float = 1.0, last: float = 0.02) -> Callable[[int], float]:
    """Learning rate by epoch as a share of the first: half a cosine from ``last + span`` down towards `last`."""
    return lambda epoch: last + span * 0.5 * (1 + float(np.cos(np.pi * epoch / max(epochs, 1))))


def fit(
    model: nn.Module,
    batches_fn: Callable[[int, np.random.Generator], Iterable[Any]],
    loss_fn: Callable[[nn.Module, Any], Tensor],
    validate_fn: Callable[[nn.Module], float | Mapping[str, float]],
    out_dir: Path,
    schedule: Schedule,
    *,
    device: str = "cpu",
    log: Callable[[str], None] = print,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    steps_per_epoch: int | None = None,
    lr_scale: Callable[[int], float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FitState:
    """Train `model` in place; on return it carries the weights of the best epoch.

    Parameters
    ----------
    batches_fn
        ``(epoch, rng) -> batches``.  A batch is a tensor or any nesting of tuples, lists and dicts of
        tensors and arrays; it is moved to `device`.  Take every random choice from `rng`, which depends
        on the seed and epoch alone: that is what makes a resumed run equal to an unbroken one.
    loss_fn
        ``(model, batch) -> scalar tensor``, called in training mode, under bfloat16 autocast on a GPU.
    validate_fn
        ``(model) -> loss`` or a mapping with the key ``"loss"``; called in evaluation mode without
        gradients.  The lowest loss wins.
    out_dir
        Folder of the checkpoints; a run with the same folder resumes there.
    steps_per_epoch
        Only for the estimate of the time left.
    lr_scale
        ``epoch -> factor`` on the learning rate (a curve that a resumed run follows too); constant when None.

    Returns
    -------
    FitState
        History and best epoch.

    Raises
    ------
    QcNodeError
        If a checkpoint cannot be read or does not fit the model, or the loss is no longer a number.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    model.to(device)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trainable, lr=schedule.lr, weight_decay=weight_decay)
    state = _resume(model, optimiser, out_dir / LAST)
    if state.epoch:
        log(f"resumed after epoch {state.epoch}, best loss {state.best_loss:.4f} at epoch {state.best_epoch}")
    started, first, epochs = clock(), state.epoch, schedule.epochs
    while state.epoch < epochs and not state.stopped_early:
        epoch, begun = state.epoch, clock()
        torch.manual_seed(schedule.seed * 1_000_003 + epoch)
        rng = np.random.default_rng([schedule.seed, epoch])
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr * (lr_scale(epoch) if lr_scale else 1.0)
        model.train()
        total, steps, reported = 0.0, 0, begun
        for batch in batches_fn(epoch, rng):
            with _autocast(device):
                loss = loss_fn(model, to_device(batch, device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise QcNodeError(f"{out_dir}: the training loss became {value} in epoch {epoch + 1}.")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(trainable, clip_norm)
            optimiser.step()
            total, steps = total + value, steps + 1
            if steps_per_epoch and clock() - reported > 30.0:
                reported = clock()
                done = (epoch - first) + steps / steps_per_epoch
                left = (reported - started) / done * (epochs - first - done)
                log(
                    f"epoch {epoch + 1}/{epochs} step {steps}/{steps_per_epoch} "
                    f"loss {total / steps:.4f}, {_hms(left)} left"
                )
        if not steps:
            raise QcNodeError(f"{out_dir}: epoch {epoch + 1} had no training batch.")
        scores = _validate(model, validate_fn)
        state.epoch = epoch + 1
        if scores["loss"] < state.best_loss:
            state.best_loss, state.best_epoch = scores["loss"], state.epoch
            save_tensors(out_dir / BEST, _cpu(model.state_dict()), {"epoch": str(state.epoch)})
        state.stopped_early = state.epoch - state.best_epoch >= schedule.patience
        state.history.append(
            {
                "epoch": state.epoch,
                "train_loss": total / steps,
                "seconds": round(clock() - begun, 2),
                **scores,
            }
        )
        _checkpoint(model, optimiser, state, out_dir)
        left = (clock() - started) / (state.epoch - first) * (epochs - state.epoch)
        log(
            f"epoch {state.epoch}/{epochs} train {total / steps:.4f} "
            + " ".join(f"{name} {value:.4f}" for name, value in scores.items())
            + f" best {state.best_loss:.4f}@{state.best_epoch}, at most {_hms(left)} left"
        )
    model.load_state_dict(load_file(out_dir / BEST))
    model.to(device).eval()
    return state


def to_device(batch: Any, device: str) -> Any:
    """`batch` with every tensor and array on `device`, in the same nesting."""
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors` to `path` so that a crash leaves either the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, dict(metadata or {}))
    _publish(temporary, path)


def save_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    _publish(temporary, path)


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was)


def _validate(
    model: nn.Module, validate_fn: Callable[[nn.Module], float | Mapping[str, float]]
) -> dict[str, float]:
    with _evaluating(model):
        answer = validate_fn(model)
    scores = dict(answer) if isinstance(answer, Mapping) else {"loss": float(answer)}
    # A loss that is not a number must never count as the lowest.
    scores["loss"] = scores["loss"] if math.isfinite(scores["loss"]) else math.inf
    return scores


def _autocast(device: str) -> Any:
    # bfloat16 keeps float32's range, so no loss scaling is needed.
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.startswith("cuda") else nullcontext()


def _cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().to("cpu").clone() for name, t in tensors.items()}


def _checkpoint(model: nn.Module, optimiser: torch.optim.Adam, state: FitState, out_dir: Path) -> None:
    tensors = {_MODEL + name: t for name, t in _cpu(model.state_dict()).items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{_ADAM}{index}.{name}"] = torch.as_tensor(value).detach().to("cpu").clone()
    save_tensors(out_dir / LAST, tensors, {"state": json.dumps(asdict(state))})
    save_json(out_dir / STATE, asdict(state))


def _resume(model: nn.Module, optimiser: torch.optim.Adam, path: Path) -> FitState:
    if not path.exists():
        return FitState()
    try:
        with safe_open(path, "pt") as handle:
            state = FitState(**json.loads(handle.metadata()["state"]))
        tensors = load_file(path)
        model.load_state_dict({k[len(_MODEL) :]: t for k, t in tensors.items() if k.startswith(_MODEL)})
        saved = optimiser.state_dict()
        for key, tensor in tensors.items():
            if key.startswith(_ADAM):
                index, name = key[len(_ADAM) :].split(".", 1)
                saved["state"].setdefault(int(index), {})[name] = tensor
        optimiser.load_state_dict(saved)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise QcNodeError(f"{path}: this checkpoint does not belong to this run ({error}).") from error
    return state


def _hms(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
