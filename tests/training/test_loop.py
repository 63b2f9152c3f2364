"""The loop resumes exactly, stops early, keeps the best epoch and never leaves half a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qc_node.domain import QcNodeError
from qc_node.training.loop import BEST, LAST, STATE, FitState, Schedule, fit, to_device

WEIGHTS = torch.tensor([[1.0], [-2.0], [0.5]])


def small_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def batches(epoch: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for _ in range(5):
        x = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))
        yield x, x @ WEIGHTS


def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def validate(model: nn.Module) -> dict[str, float]:
    x = torch.from_numpy(np.random.default_rng(9).normal(size=(64, 3)).astype(np.float32))
    return {"loss": float(nn.functional.mse_loss(model(x), x @ WEIGHTS).detach())}


def train(out: Path, epochs: int, **changes: object) -> tuple[nn.Module, FitState]:
    model = small_model()
    options = {"log": lambda _: None, **changes}
    state = fit(model, batches, loss_fn, validate, out, Schedule(epochs, 0.02, 99, 5), **options)  # type: ignore[arg-type]
    return model, state


@pytest.mark.slow
def test_resumed_run_equals_unbroken_run(tmp_path: Path) -> None:
    unbroken, whole = train(tmp_path / "a", 6)
    train(tmp_path / "b", 3)
    resumed, halves = train(tmp_path / "b", 6)
    assert halves.epoch == whole.epoch == 6
    for name, tensor in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)
    strip = [{k: v for k, v in h.items() if k != "seconds"} for h in whole.history]
    assert strip == [{k: v for k, v in h.items() if k != "seconds"} for h in halves.history]


def test_learns_and_returns_the_best_epoch(tmp_path: Path) -> None:
    model, state = train(tmp_path, 25)
    losses = [h["loss"] for h in state.history]
    assert min(losses) < losses[0] / 3
    assert state.best_loss == min(losses)
    assert validate(model)["loss"] == pytest.approx(state.best_loss)


def test_stops_after_patience_and_stays_stopped(tmp_path: Path) -> None:
    answers = iter([1.0, 0.5, 0.7, 0.6, 0.4, 0.1])

    def scripted(model: nn.Module) -> float:
        return next(answers)

    model = small_model()
    state = fit(
        model, batches, loss_fn, scripted, tmp_path, Schedule(6, lr=0.01, patience=2, seed=1), log=lambda _: None
    )
    assert (state.epoch, state.best_epoch, state.best_loss, state.stopped_early) == (4, 2, 0.5, True)
    again = fit(
        model, batches, loss_fn, scripted, tmp_path, Schedule(6, lr=0.01, patience=2, seed=1), log=lambda _: None
    )
    assert again.epoch == 4


def test_nan_validation_never_wins(tmp_path: Path) -> None:
    answers = iter([0.9, math.nan, 0.8])
    state = fit(
        small_model(),
        batches,
        loss_fn,
        lambda _: next(answers),
        tmp_path,
        Schedule(epochs=3, lr=0.01, patience=5, seed=1),
        log=lambda _: None,
    )
    assert state.best_epoch == 3
    assert json.loads((tmp_path / STATE).read_text())["history"][1]["loss"] == math.inf


def test_nan_training_loss_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(QcNodeError, match="training loss became nan in epoch 1"):
        fit(
            small_model(),
            batches,
            lambda m, b: loss_fn(m, b) * math.nan,
            validate,
            tmp_path,
            Schedule(epochs=1, lr=0.01, patience=1, seed=1),
            log=lambda _: None,
        )


def test_foreign_or_broken_checkpoint_names_the_file(tmp_path: Path) -> None:
    train(tmp_path, 1)
    with pytest.raises(QcNodeError, match=LAST):
        fit(nn.Linear(2, 2), batches, loss_fn, validate, tmp_path, Schedule(2, lr=0.1, patience=1, seed=1))
    data = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(data[: len(data) // 2])
    with pytest.raises(QcNodeError, match=LAST):
        train(tmp_path, 2)


def test_leaves_no_temporary_and_no_pickle(tmp_path: Path) -> None:
    train(tmp_path, 2)
    assert {p.name for p in tmp_path.iterdir()} == {LAST, BEST, STATE}


def test_reports_time_left(tmp_path: Path) -> None:
    lines: list[str] = []
    ticks = iter(range(0, 100_000, 40))
    train(tmp_path, 2, log=lines.append, clock=lambda: float(next(ticks)), steps_per_epoch=5)
    assert any("step 1/5" in line and "left" in line for line in lines)
    assert sum(line.startswith("epoch 2/2 train") for line in lines) == 1


def test_schedule_is_followed_and_survives_a_restart(tmp_path: Path) -> None:
    still, _ = train(tmp_path / "a", 2, lr_scale=lambda epoch: 1.0 if epoch == 0 else 0.0)
    first, _ = train(tmp_path / "b", 1, lr_scale=lambda epoch: 1.0 if epoch == 0 else 0.0)
    again, _ = train(tmp_path / "b", 2, lr_scale=lambda epoch: 1.0 if epoch == 0 else 0.0)
    for name, tensor in first.named_parameters():
        torch.testing.assert_close(dict(still.named_parameters())[name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(dict(again.named_parameters())[name], tensor, rtol=0, atol=0)


def test_to_device_keeps_the_nesting() -> None:
    moved = to_device({"a": (np.zeros(2, np.float32), [torch.ones(1)]), "b": "text"}, "cpu")
    assert isinstance(moved["a"][0], torch.Tensor) and isinstance(moved["a"][1][0], torch.Tensor)
    assert moved["b"] == "text"
