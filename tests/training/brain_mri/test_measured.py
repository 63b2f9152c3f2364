"""Networks trained side by side are those that would be trained one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qc_node.classifiers.brain_mri import networks
from qc_node.classifiers.brain_mri.decision import HEADS
from qc_node.training.brain_mri.training import measured, packed
from qc_node.training.brain_mri.training.measured import Job, MeasuredSettings
from tests.training.brain_mri import made

N = 241


def _members(n: int = 3) -> list[networks.MeasuredNet]:
    torch.manual_seed(0)
    return [networks.MeasuredNet(N, HEADS).eval() for _ in range(n)]


def _weight(network: networks.MeasuredNet) -> torch.Tensor:
    weight: torch.Tensor = network.state_dict()["heads.motion.weight"]
    return weight


def test_a_stack_answers_as_its_members_do() -> None:
    members = _members()
    stack = measured.SideBySide(members).eval()
    x = torch.randn(3, 20, N)
    with torch.no_grad():
        answers = stack(x)
        for number, member in enumerate(members):
            own = member(x[number])
            assert all(torch.allclose(own[k], answers[k][number], atol=1e-5) for k in HEADS)
            again = stack.fill(networks.MeasuredNet(N, HEADS), number)
            assert all(torch.equal(a, b) for a, b in zip(member.parameters(), again.parameters(), strict=True))


def test_the_loss_is_that_of_one_network() -> None:
    """With class weights, label smoothing, undefined answers and undefined damage."""
    pack = made.pack(20)
    rows = np.arange(150).reshape(3, 50)
    stack = measured.SideBySide(_members()).eval()
    with torch.no_grad():
        z = stack(torch.from_numpy(pack.features[rows]))
    targets = {k: torch.from_numpy(pack.targets[k][rows]) for k in HEADS}
    damage = torch.randn(3, 50, 3)
    targets["damage"] = torch.where(damage < 0, damage, torch.tensor(float("nan")))
    targets["motion"][1] = packed.IGNORE
    names = [k for k in HEADS if k != "damage"]
    by_net = [
        {k: torch.from_numpy(packed.class_weights(pack.targets[k][: 100 + 50 * m], HEADS[k])) for k in names}
        for m in range(3)
    ]
    stacked = {k: torch.stack([w[k] for w in by_net]) for k in names}
    found = measured.losses(z, targets, stacked, 0.03)
    for m in range(3):
        one = packed.loss_of(
            {k: v[m] for k, v in z.items()}, {k: v[m] for k, v in targets.items()}, by_net[m], 0.03
        )
        assert float(found[m]) == pytest.approx(float(one), rel=1e-5)


def test_every_network_has_its_own_gradient_norm() -> None:
    stack = measured.SideBySide(_members(2))
    for p in stack.parameters():
        p.grad = torch.zeros_like(p)
        p.grad[0], p.grad[1] = 10.0, 1e-6
    stack.clip(5.0)
    norms = torch.stack([p.grad.flatten(1).square().sum(1) for p in stack.parameters() if p.grad is not None])
    assert norms.sum(0).sqrt()[0] == pytest.approx(5.0, rel=1e-3)
    assert all(float(p.grad[1].max()) == pytest.approx(1e-6) for p in stack.parameters() if p.grad is not None)


def test_networks_side_by_side_learn_and_finished_ones_are_kept(tmp_path: Path) -> None:
    pack = made.pack(30)
    rows = np.arange(len(pack.people))
    half = len(rows) // 2
    jobs = [Job(rows[:half], rows[half:], n, tmp_path / str(n)) for n in range(2)]
    settings = MeasuredSettings(epochs=6, lr=5e-3, balance=0.5)
    found = measured.train_many(pack, jobs, settings)
    for job, (network, state) in zip(jobs, found, strict=True):
        history = state.history
        assert len(history) == 6 and history[-1]["train_loss"] < history[0]["train_loss"]
        assert state.best_loss == min(h["loss"] for h in history)
        logits = measured.predict(network, pack.features[job.watched])
        names = [k for k in HEADS if k != "damage"]
        weights = {k: torch.from_numpy(packed.class_weights(pack.targets[k][job.rows], HEADS[k])) for k in names}
        seen = packed.watch(logits, {k: v[job.watched] for k, v in pack.targets.items()}, weights)
        # The weights are those of the best epoch.
        assert seen["loss"] == pytest.approx(state.best_loss, rel=1e-4)
    # Other seeds, other networks; the same again from what is there.
    assert not torch.equal(_weight(found[0][0]), _weight(found[1][0]))
    again = measured.train_many(pack, jobs, settings)
    assert torch.equal(_weight(again[0][0]), _weight(found[0][0]))
