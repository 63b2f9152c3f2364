"""Networks of all folds on one stream: each learns, and none sees whom it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from qc_node.classifiers.ct.anatomy import CLASSES
from qc_node.training.ct.data.collections import COLLECTIONS, collection_of, people_of, vendor_of
from qc_node.training.ct.data.pack import PackItem, read_landmarks
from qc_node.training.ct.training import train
from qc_node.training.ct.training.slice_networks import SliceSettings
from qc_node.training.ct.training.together import Together, allowed, train_together


def item(name: str, person: str, enhanced: int, kind: str = "real") -> PackItem:
    rng = np.random.default_rng(len(name))
    coarse = np.full((24, 96, 96), -1024, np.int16)
    coarse[:, 25:70, 20:75] = rng.integers(0, 100, (24, 45, 55))
    position = np.linspace(200, 400, 24).astype(np.float32)
    return PackItem(name, person, kind, coarse, position, -1, enhanced, "whole", "neck")


PEOPLE = [item(f"openkbp_pt_{n}", f"openkbp_pt_{n}", n % 2) for n in range(6)] + [item("lidc1", "L", 0)]


def test_left_out_people_are_in_no_slice_and_a_whole_collection_can_be_left_out() -> None:
    runs = train.left_out(PEOPLE)
    assert runs["all"] == set() and runs["without_openkbp"] == {f"openkbp_pt_{n}" for n in range(6)}
    folds = [runs[name] for name in runs if name.startswith("fold")]
    assert set.union(*folds) == {i.person for i in PEOPLE} and sum(map(len, folds)) == 7
    may = allowed(["openkbp_pt_1", "L"], runs)
    assert may[:, list(runs).index("without_openkbp")].tolist() == [False, True]
    assert may[:, list(runs).index("all")].all()


def test_a_network_is_moved_only_by_slices_that_it_may_see() -> None:
    torch.manual_seed(0)
    both = Together(["sees", "blind"], 1, 4)
    x, y = torch.randn(8, 4, 96, 96), torch.ones(8)
    may = torch.tensor([[True, False]] * 8)
    loss = both.loss(x, y, may, lambda a, b: nn.functional.binary_cross_entropy_with_logits(a[:, 0], b))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in both.networks["blind"].parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in both.networks["sees"].parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["position", "contrast"])
def test_every_run_gets_weights_of_its_own(tmp_path: Path, kind: str) -> None:
    settings = SliceSettings(epochs=1, steps=2, batch=12, width=4)
    runs = {"fold_0": {"L"}, "all": set[str]()}
    train_together(kind, PEOPLE, runs, tmp_path, settings, lambda _: None)
    first, second = (load_file(tmp_path / name / kind / "best.safetensors") for name in runs)
    assert first["classif.weight"].shape[0] == (CLASSES if kind == "position" else 1)
    assert not torch.equal(first["classif.weight"], second["classif.weight"])
    again = train_together(kind, PEOPLE, runs, tmp_path, settings, lambda _: None)
    assert again.epoch == 1, "a finished run is not trained again"


def test_every_series_has_a_collection() -> None:
    for name in read_landmarks():
        assert collection_of(name) != "made" and vendor_of(name) in ("GE", "Siemens", "Philips", "unknown")
    assert collection_of("synthseg-01_0") == collection_of("body_003") == "made"
    assert people_of(PEOPLE, "LIDC-IDRI") == {"L"} and len({c for c, _ in COLLECTIONS.values()}) == len(
        COLLECTIONS
    )
