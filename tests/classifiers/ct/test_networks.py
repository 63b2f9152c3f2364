"""The networks have the sizes, names and traps that their sources state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qc_node.classifiers.ct.networks import InceptionResNetV2, LightNet, SliceNet, load_backbone
from qc_node.domain import QcNodeError

pytestmark = pytest.mark.xdist_group("ct-networks")


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def inception() -> InceptionResNetV2:
    torch.manual_seed(0)
    return InceptionResNetV2().eval()


def test_inception_resnet_v2_has_55_84_million_parameters(inception: InceptionResNetV2) -> None:
    assert parameters(inception) == 55_843_464
    assert (len(inception.repeat), len(inception.repeat_1), len(inception.repeat_2)) == (10, 20, 9)


def test_names_are_those_of_timm(inception: InceptionResNetV2) -> None:
    names = set(inception.state_dict())
    assert {
        "conv2d_1a.conv.weight",
        "mixed_5b.branch3.1.bn.running_var",
        "repeat.9.branch2.2.conv.weight",
        "repeat.0.conv2d.bias",
        "mixed_6a.branch1.2.conv.weight",
        "repeat_1.19.branch1.2.bn.bias",
        "mixed_7a.branch2.2.conv.weight",
        "repeat_2.8.branch1.2.conv.weight",
        "block8.conv2d.weight",
        "conv2d_7b.bn.weight",
        "classif.weight",
    } <= names
    assert inception.state_dict()["repeat_1.0.branch1.1.conv.weight"].shape == (160, 128, 1, 7)


def test_shapes_and_scaling(inception: InceptionResNetV2) -> None:
    with torch.no_grad():
        features = inception.features(torch.zeros(1, 3, 299, 299))
    assert features.shape == (1, 1536, 8, 8)
    assert {m.eps for m in inception.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
    assert inception.block8.last and not inception.repeat_2[0].last


def test_paper_head_flattens(inception: InceptionResNetV2) -> None:
    with torch.device("meta"):
        flat = InceptionResNetV2(5, head="flatten")
    assert flat.classif.in_features == 98_304
    assert parameters(flat) == parameters(inception) - 1_537_000 + 98_304 * 5 + 5


@pytest.mark.slow
def test_init_file_fills_all_but_the_classifier(inception: InceptionResNetV2, tmp_path: Path) -> None:
    save_file(inception.state_dict(), tmp_path / "imagenet.safetensors")
    own = InceptionResNetV2(5)
    assert load_backbone(own, tmp_path / "imagenet.safetensors") == ["classif.weight", "classif.bias"]
    torch.testing.assert_close(own.conv2d_7b.conv.weight, inception.conv2d_7b.conv.weight)


def test_foreign_init_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(QcNodeError, match=r"other\.safetensors: these weights belong to another network"):
        load_backbone(LightNet(6), path)
    path.write_bytes(b"no")
    with pytest.raises(QcNodeError, match=r"other\.safetensors: these weights cannot be read"):
        load_backbone(LightNet(6), path)


def test_light_networks_are_light() -> None:
    assert LightNet(6)(torch.zeros(2, 1, 128, 128)).shape == (2, 6)
    assert SliceNet(4, 24)(torch.zeros(2, 4, 96, 96)).shape == (2, 24)
    assert parameters(LightNet(6)) < 200_000 and parameters(SliceNet(4, 24)) < 200_000
