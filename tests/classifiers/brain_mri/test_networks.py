"""The networks are those of the papers, to the last parameter."""

from __future__ import annotations

import pytest
import torch

from qc_node.classifiers.brain_mri import networks
from qc_node.classifiers.brain_mri.decision import HEADS

pytestmark = pytest.mark.slow


def test_parameter_counts_of_the_papers() -> None:
    assert networks.n_parameters(networks.Conv5FC3(2)) == 42_293_972
    assert networks.n_parameters(networks.ResNet3D(1)) == 3_517_057
    assert networks.n_parameters(networks.Inception3D(1)) == 21_467_363
    assert networks.n_parameters(networks.Inception3D(1, auxiliary=False)) == 14_251_489


def test_pad_max_pool_pads_the_low_side() -> None:
    x = torch.arange(1.0, 4.0).reshape(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2)
    assert networks.PadMaxPool3d()(x).flatten().tolist() == [1.0, 3.0]


@pytest.mark.parametrize("name", ["Conv5FC3", "ResNet3D", "Inception3D"])
def test_paper_networks_run_at_2_mm(name: str) -> None:
    shape = (85, 104, 90)
    make = getattr(networks, name)
    network = make(2) if name == "Inception3D" else make(2, shape)
    network.eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *shape)).shape == (1, 2)


def test_inception_gives_auxiliary_answers_only_in_training() -> None:
    network = networks.Inception3D(2)
    network.train()
    assert len(network(torch.zeros(2, 1, 85, 104, 90))) == 3


def test_haar_loses_nothing() -> None:
    x = torch.randn(3, 8, 6)
    mean, rows, columns, both = networks.haar(x).unbind(1)
    a = (mean * 2 + rows / 2 + columns / 2 + both / 2) / 4
    assert torch.allclose(a, x[:, 0::2, 0::2], atol=1e-6)
    assert torch.allclose((mean * 2 - rows / 2 - columns / 2 + both / 2) / 4, x[:, 1::2, 1::2], atol=1e-6)


def test_pixels_of_slices_in_any_order() -> None:
    heads = {k: n for k, n in HEADS.items() if k != "reject"}
    network = networks.PixelNet(heads).eval()
    slices, planes = torch.randn(2, 6, 64, 80), torch.tensor([0, 0, 1, 1, 2, 2])
    regions = networks.regions_of(torch.rand(6, 64, 80) > 0.5, torch.rand(6, 64, 80) > 0.3)
    assert regions.shape == (6, 2, 8, 10)
    with torch.inference_mode():
        out = network(slices, planes, regions)
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        again = network(slices[:, order], planes[order], regions[order])
    assert out.pop("local").shape == (2, 6, 8, 10)
    assert {k: v.shape[1] for k, v in out.items()} == heads
    for k in out:
        assert torch.allclose(out[k], again[k], atol=1e-5)
