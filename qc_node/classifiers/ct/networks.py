"""The networks of the CT classifier, and ImageQC-net's for comparison.

``InceptionResNetV2`` (Szegedy et al. 2017) is ImageQC-net's backbone, ``LightNet`` stands in for it where
there is no GPU, and ``SliceNet`` reads the coarse volume slice by slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from qc_node.domain import QcNodeError


class ConvBn(nn.Module):
    """Convolution without bias, batch normalisation (eps 0.001 as in the ImageNet files), ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, outputs, H', W')``."""
        return torch.relu(self.bn(self.conv(x)))


class Mixed5b(nn.Module):
    """Inception-A after the stem: 192 to 320 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = ConvBn(192, 96, 1)
        self.branch1 = nn.Sequential(ConvBn(192, 48, 1), ConvBn(48, 64, 5, padding=2))
        self.branch2 = nn.Sequential(
            ConvBn(192, 64, 1), ConvBn(64, 96, 3, padding=1), ConvBn(96, 96, 3, padding=1)
        )
        self.branch3 = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), ConvBn(192, 64, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the four branches."""
        return torch.cat((self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)), 1)


class Block35(nn.Module):
    """Inception-ResNet-A on 35x35 maps: the residual is scaled before it is added."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.branch0 = ConvBn(320, 32, 1)
        self.branch1 = nn.Sequential(ConvBn(320, 32, 1), ConvBn(32, 32, 3, padding=1))
        self.branch2 = nn.Sequential(
            ConvBn(320, 32, 1), ConvBn(32, 48, 3, padding=1), ConvBn(48, 64, 3, padding=1)
        )
        self.conv2d = nn.Conv2d(128, 320, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        mixed = torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), 1)
        return torch.relu(x + self.scale * self.conv2d(mixed))


class Mixed6a(nn.Module):
    """Reduction-A: 35x35x320 to 17x17x1088."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = ConvBn(320, 384, 3, 2)
        self.branch1 = nn.Sequential(ConvBn(320, 256, 1), ConvBn(256, 256, 3, padding=1), ConvBn(256, 384, 3, 2))
        self.branch2 = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the three branches."""
        return torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), 1)


class Block17(nn.Module):
    """Inception-ResNet-B on 17x17 maps."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.branch0 = ConvBn(1088, 192, 1)
        self.branch1 = nn.Sequential(
            ConvBn(1088, 128, 1),
            ConvBn(128, 160, (1, 7), padding=(0, 3)),
            ConvBn(160, 192, (7, 1), padding=(3, 0)),
        )
        self.conv2d = nn.Conv2d(384, 1088, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        return torch.relu(x + self.scale * self.conv2d(torch.cat((self.branch0(x), self.branch1(x)), 1)))


class Mixed7a(nn.Module):
    """Reduction-B: 17x17x1088 to 8x8x2080."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(ConvBn(1088, 256, 1), ConvBn(256, 384, 3, 2))
        self.branch1 = nn.Sequential(ConvBn(1088, 256, 1), ConvBn(256, 288, 3, 2))
        self.branch2 = nn.Sequential(ConvBn(1088, 256, 1), ConvBn(256, 288, 3, padding=1), ConvBn(288, 320, 3, 2))
        self.branch3 = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the four branches."""
        return torch.cat((self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)), 1)


class Block8(nn.Module):
    """Inception-ResNet-C on 8x8 maps; the last one has no ReLU."""

    def __init__(self, scale: float = 1.0, *, last: bool = False) -> None:
        super().__init__()
        self.scale, self.last = scale, last
        self.branch0 = ConvBn(2080, 192, 1)
        self.branch1 = nn.Sequential(
            ConvBn(2080, 192, 1),
            ConvBn(192, 224, (1, 3), padding=(0, 1)),
            ConvBn(224, 256, (3, 1), padding=(1, 0)),
        )
        self.conv2d = nn.Conv2d(448, 2080, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        x = x + self.scale * self.conv2d(torch.cat((self.branch0(x), self.branch1(x)), 1))
        return x if self.last else torch.relu(x)


class InceptionResNetV2(nn.Module):
    """Inception-ResNet-v2 with the parameter names that timm's ImageNet file has.

    Source: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
    Learning", AAAI 2017; names as in timm 1.0 (Apache-2.0), so :func:`load_backbone` reads its file.
    55.84 million parameters at 1000 classes.

    Traps: the batch normalisation's eps is 0.001, not torch's default; the average pool of ``mixed_5b``
    does not count the padding; the last ``Block8`` has neither scaling nor ReLU.  ImageNet weights expect
    inputs mapped to [-1, 1]; :meth:`forward` does that.

    Parameters
    ----------
    classes
        Outputs.
    head
        ``"pool"`` as in the original, or ``"flatten"`` as ImageQC-net describes it (8*8*1536 inputs, at 299 only;
        no command uses it).
    size
        Rows and columns that pictures are resized to, at least 75; 299 is the original's.
    """

    def __init__(self, classes: int = 1000, head: Literal["pool", "flatten"] = "pool", size: int = 299) -> None:
        super().__init__()
        self.head, self.size = head, size
        self.conv2d_1a = ConvBn(3, 32, 3, 2)
        self.conv2d_2a = ConvBn(32, 32, 3)
        self.conv2d_2b = ConvBn(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = ConvBn(64, 80, 1)
        self.conv2d_4a = ConvBn(80, 192, 3)
        self.maxpool_5a = nn.MaxPool2d(3, 2)
        self.mixed_5b = Mixed5b()
        self.repeat = nn.Sequential(*(Block35(0.17) for _ in range(10)))
        self.mixed_6a = Mixed6a()
        self.repeat_1 = nn.Sequential(*(Block17(0.10) for _ in range(20)))
        self.mixed_7a = Mixed7a()
        self.repeat_2 = nn.Sequential(*(Block8(0.20) for _ in range(9)))
        self.block8 = Block8(last=True)
        self.conv2d_7b = ConvBn(2080, 1536, 1)
        self.classif = nn.Linear(1536 * (64 if head == "flatten" else 1), classes)

    def features(self, x: Tensor) -> Tensor:
        """``(N, 3, 299, 299)`` in [-1, 1] to ``(N, 1536, 8, 8)``."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x)))
        x = self.repeat(self.mixed_5b(self.maxpool_5a(x)))
        x = self.repeat_1(self.mixed_6a(x))
        x = self.block8(self.repeat_2(self.mixed_7a(x)))
        out: Tensor = self.conv2d_7b(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` of pictures ``(N, 1 or 3, H, W)`` in [0, 1], resized to `size`."""
        if x.shape[-2:] != (self.size, self.size):
            x = nn.functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        x = self.features(x.expand(-1, 3, -1, -1) * 2 - 1)
        x = x.flatten(1) if self.head == "flatten" else x.mean((2, 3))
        out: Tensor = self.classif(x)
        return out


def load_backbone(model: nn.Module, path: Path) -> list[str]:
    """Copy every tensor of the safetensors file `path` whose name and shape fit into `model`.

    Returns
    -------
    list of str
        Parameters of `model` that the file did not fill (the classifier, as a rule).

    Raises
    ------
    QcNodeError
        If the file cannot be read or fills less than half of the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: Mapping[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise QcNodeError(f"{path}: these weights cannot be read as safetensors ({error}).") from error
    own = model.state_dict()
    fitting = {name: t for name, t in found.items() if name in own and own[name].shape == t.shape}
    missing = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    if len(missing) > len(own) / 2:
        raise QcNodeError(f"{path}: these weights belong to another network than {type(model).__name__}.")
    model.load_state_dict(fitting, strict=False)
    return missing


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; halves the map where `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class LightNet(nn.Module):
    """A residual network of 0.13 million parameters for one projection: ImageQC-net's backbone on a CPU.

    Parameters
    ----------
    classes
        Outputs.
    width
        Channels of the first block; each of the four blocks doubles them up to eight times.
    """

    SIZE = 128
    """Rows and columns of the picture."""

    def __init__(self, classes: int, width: int = 12) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 6 * width]
        self.stem = nn.Sequential(nn.Conv2d(1, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        inputs = [width, *widths]
        self.blocks = nn.Sequential(*(Residual(a, b, 2) for a, b in zip(inputs, widths, strict=False)))
        self.drop = nn.Dropout(0.3)
        self.classif = nn.Linear(2 * widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` of pictures ``(N, 1, 128, 128)`` in [0, 1]."""
        x = self.blocks(self.stem(x))
        out: Tensor = self.classif(self.drop(torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)))
        return out


class SliceNet(nn.Module):
    """Reads one slice of the coarse volume and its neighbours.

    A small residual network, because two dozen people cannot teach a large one; average and maximum
    pooling together, so that both the amount of tissue and a single bright vessel count.

    Parameters
    ----------
    inputs
    X
    outputs
        Logits per slice.
    width
        Channels of the first block.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        self.stem = nn.Sequential(nn.Conv2d(inputs, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(Residual(a, b, 2) for a, b in zip([width, *widths], widths, strict=False)))
        self.drop = nn.Dropout(0.3)
        self.classif = nn.Linear(2 * widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, outputs)`` of ``(N, inputs, 96, 96)``."""
        x = self.blocks(self.stem(x))
        out: Tensor = self.classif(self.drop(torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)))
        return out


def position_channels(stack: Tensor) -> Tensor:
    """Input of the position network from ``(N, 3, 96, 96)`` HU (slice above, slice, slice below).

    Channels: the three slices from -1000 to 600 HU and the middle one at a soft-tissue window (-160 to
    240 HU), each mapped to [-1, 1].
    """
    wide = stack.clamp(-1000, 600) / 800.0 + 0.25
    soft = stack[:, 1:2].clamp(-160, 240) / 200.0 - 0.2
    return torch.cat((wide, soft), 1)


def contrast_channels(stack: Tensor) -> Tensor:
    """Input of the contrast network from ``(N, 3, 96, 96)`` HU.

    Channels: the three slices from -100 to 300 HU, where blood, muscle and organs differ, and the middle
    one from -1000 to 1400 HU, which tells bone and metal from vessels.
    """
    soft = stack.clamp(-100, 300) / 200.0 - 0.5
    wide = stack[:, 1:2].clamp(-1000, 1400) / 1200.0 - 1.0 / 6.0
    return torch.cat((soft, wide), 1)
