"""Networks for 3D T1w quality: the three of Bottani et al. 2022, and the light ones that are shipped.

`Conv5FC3`, `Inception3D` and `ResNet3D` follow their published sources layer by layer; parameter counts
are asserted in the tests.  `MeasuredNet` and `PixelNet`, which are shipped, are ours.

Every network maps a batch to logits; none applies a softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

PAPER_SHAPE = (169, 208, 179)
"""Input of the paper: MNI space, 1 mm, ``(x, y, z)``."""


class PadMaxPool3d(nn.Module):
    """Max pooling by two that first pads odd axes with a zero at the LOW side (ClinicaDL)."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, X, Y, Z)`` -> ``(B, C, ceil(X/2), ceil(Y/2), ceil(Z/2))``."""
        x_pad, y_pad, z_pad = (size % 2 for size in x.shape[-3:])
        if x_pad or y_pad or z_pad:
            x = functional.pad(x, (z_pad, 0, y_pad, 0, x_pad, 0))
        return functional.max_pool3d(x, 2, 2)


class Conv5FC3(nn.Module):
    """Conv5_FC3 of Bottani et al. 2022 (code: ClinicaDL 1.6, MIT; Wen et al. 2020).

    Five blocks conv 3x3x3 - batch norm - ReLU - padded max pool with 8, 16, 32, 64, 128 channels, then
    dropout 0.5 and three linear layers (1300, 50, n).  42,293,972 parameters at :data:`PAPER_SHAPE` with
    two outputs; 99 % of them sit in the first linear layer.

    Trap: ClinicaDL's class ``Conv4_FC3`` also has five blocks but other linear layers.
    """

    def __init__(self, n_outputs: int = 2, shape: Sequence[int] = PAPER_SHAPE, dropout: float = 0.5) -> None:
        super().__init__()
        channels = (1, 8, 16, 32, 64, 128)
        blocks: list[nn.Module] = []
        sizes = list(shape)
        for c_in, c_out in pairwise(channels):
            blocks += [nn.Conv3d(c_in, c_out, 3, padding=1), nn.BatchNorm3d(c_out), nn.ReLU(), PadMaxPool3d()]
            sizes = [-(-s // 2) for s in sizes]
        self.features = nn.Sequential(*blocks)
        n_flat = channels[-1] * sizes[0] * sizes[1] * sizes[2]
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(n_flat, 1300),
            nn.ReLU(),
            nn.Linear(1300, 50),
            nn.ReLU(),
            nn.Linear(50, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, X, Y, Z)`` -> ``(B, n_outputs)``."""
        return self.classifier(self.features(x))  # type: ignore[no-any-return]


class _ResBlock3d(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, c_out, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(c_out)
        self.conv2 = nn.Conv3d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(c_out)
        self.shortcut = nn.Conv3d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.elu(self.norm1(self.conv1(x)))
        return functional.elu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet3D(nn.Module):
    """3D ResNet of Couvy-Duchesne et al. 2020 (aramis-lab/pac2019), as used by Bottani et al. 2022.

    Five times residual block - max pool 3, stride 2, no padding; channels 8 .. 128.  The shortcut is a
    1x1x1 convolution without bias and without batch norm.  3,517,057 parameters at :data:`PAPER_SHAPE`
    with ONE output (the published regression head); each further output adds 257.
    """

    def __init__(self, n_outputs: int = 2, shape: Sequence[int] = PAPER_SHAPE, dropout: float = 0.8) -> None:
        super().__init__()
        channels = (1, 8, 16, 32, 64, 128)
        blocks: list[nn.Module] = []
        sizes = list(shape)
        for c_in, c_out in pairwise(channels):
            blocks += [_ResBlock3d(c_in, c_out), nn.MaxPool3d(3, 2)]
            sizes = [(s - 3) // 2 + 1 for s in sizes]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1] * sizes[0] * sizes[1] * sizes[2], 256),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Linear(256, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, X, Y, Z)`` -> ``(B, n_outputs)``."""
        return self.classifier(self.features(x))  # type: ignore[no-any-return]


def _conv_norm_relu(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(c_in, c_out, kernel, stride, padding), nn.BatchNorm3d(c_out), nn.ReLU(inplace=True)
    )


class _InceptionModule(nn.Module):
    """GoogLeNet v1 module; the "5x5" branch is two 3x3x3 convolutions."""

    def __init__(self, c_in: int, n1: int, n3_reduce: int, n3: int, n5_reduce: int, n5: int, n_pool: int) -> None:
        super().__init__()
        self.branch1 = _conv_norm_relu(c_in, n1, 1)
        self.branch3 = nn.Sequential(_conv_norm_relu(c_in, n3_reduce, 1), _conv_norm_relu(n3_reduce, n3, 3, 1, 1))
        self.branch5 = nn.Sequential(
            _conv_norm_relu(c_in, n5_reduce, 1),
            _conv_norm_relu(n5_reduce, n5, 3, 1, 1),
            _conv_norm_relu(n5, n5, 3, 1, 1),
        )
        self.branch_pool = nn.Sequential(nn.MaxPool3d(3, 1, 1), _conv_norm_relu(c_in, n_pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], 1)


class _AuxiliaryHead(nn.Module):
    def __init__(self, c_in: int, n_outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool3d(3),
            _conv_norm_relu(c_in, 128, 1),
            nn.Flatten(),
            nn.Linear(128 * 27, 1024),
            nn.ReLU(),
            nn.Dropout(0.7),
            nn.Linear(1024, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Inception3D(nn.Module):
    """3D Inception of Couvy-Duchesne et al. 2020 (aramis-lab/pac2019; GoogLeNet v1 layout).

    MODIFIED HEAD: the published average pool of (2, 3, 2) fits the 121x145x121 maps of pac2019; at the
    paper's input the last map is 4x5x4, so an adaptive average pool to 1x1x1 stands in its place (the
    paper says "modified" without saying how).  21,467,363 parameters with the two auxiliary heads and one
    output, 14,251,489 without them.

    In training mode the result is ``(main, aux_a, aux_d)``; in evaluation mode ``main`` alone.
    """

    def __init__(self, n_outputs: int = 2, auxiliary: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv_norm_relu(1, 64, 7, 2, 1),
            nn.MaxPool3d(3, 2),
            _conv_norm_relu(64, 64, 1),
            _conv_norm_relu(64, 192, 3, 1, 1),
            nn.MaxPool3d(3, 2),
        )
        self.stage3 = nn.Sequential(
            _InceptionModule(192, 64, 96, 128, 16, 32, 32),
            _InceptionModule(256, 128, 128, 192, 32, 96, 64),
            nn.MaxPool3d(3, 2),
        )
        self.a4 = _InceptionModule(480, 192, 96, 208, 16, 48, 64)
        self.bcd4 = nn.Sequential(
            _InceptionModule(512, 160, 112, 224, 24, 64, 64),
            _InceptionModule(512, 128, 128, 256, 24, 64, 64),
            _InceptionModule(512, 112, 144, 288, 32, 64, 64),
        )
        self.e4 = _InceptionModule(528, 256, 160, 320, 32, 128, 128)
        self.stage5 = nn.Sequential(
            nn.MaxPool3d(3, 2, ceil_mode=False),
            _InceptionModule(832, 256, 160, 320, 32, 128, 128),
            _InceptionModule(832, 384, 192, 384, 48, 128, 128),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(1024, n_outputs)
        )
        self.aux_a = _AuxiliaryHead(512, n_outputs) if auxiliary else None
        self.aux_d = _AuxiliaryHead(528, n_outputs) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """``(B, 1, X, Y, Z)`` -> ``(B, n_outputs)``, with the auxiliary logits in training mode."""
        a = self.a4(self.stage3(self.stem(x)))
        d = self.bcd4(a)
        main: Tensor = self.head(self.stage5(self.e4(d)))
        if self.training and self.aux_a is not None and self.aux_d is not None:
            return main, self.aux_a(a), self.aux_d(d)
        return main


def _conv2d(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class PixelNet(nn.Module):
    """Central slices of three planes at 1 mm: what is wrong where, and from that the answers.

    Raters of the paper decided on three central slices; so does this network, on nine of them.  A fixed
    Haar transform turns each slice into four planes of half the size without losing anything: the mean,
    where anatomy lives, and three differences of neighbours, where noise and ringing live.  Then the same
    small trunk sees every slice and says for every square of 8 mm how far the image is from its still twin
    (``local``, natural logarithm of the RMS difference over the white-matter level).  Learning that from
    hundreds of squares per image is what lets so few people teach it motion.  The answers come from what
    the trunk saw in brain and head, and from the local differences summed up over the brain.

    Parameters
    ----------
    heads
        Outputs per question.
    """

    STRIDE = 8
    """Pixels (mm) per square."""

    def __init__(self, heads: dict[str, int], width: int = 16, embedding: int = 48) -> None:
        super().__init__()
        self.stem = _conv2d(4, width)
        self.trunk = nn.Sequential(
            _conv2d(width, 2 * width, 2),
            _conv2d(2 * width, 2 * width),
            _conv2d(2 * width, 3 * width, 2),
            _conv2d(3 * width, 3 * width),
            _conv2d(3 * width, 3 * width),
        )
        self.local = nn.Conv2d(3 * width, 1, 1)
        self.project = nn.Linear(2 * width + 4 * 3 * width, embedding)
        self.plane = nn.Embedding(3, embedding)
        self.dropout = nn.Dropout(0.2)
        self.heads = nn.ModuleDict({name: nn.Linear(embedding + 2, n) for name, n in heads.items()})

    def forward(self, slices: Tensor, planes: Tensor, regions: Tensor) -> dict[str, Tensor]:
        """Logits per question, and the map of local differences.

        Parameters
        ----------
        slices
            ``(B, S, H, W)`` normalised slices, sides divisible by 8.
        planes
            ``(S,)`` or ``(B, S)`` plane numbers.
        regions
            ``(S, 2, H / 8, W / 8)``, or with a leading B: share of brain and of head in every square, from
            :func:`regions_of`.

        Returns
        -------
        dict
            One entry per head ``(B, n_outputs)``, and ``local`` ``(B, S, H / 8, W / 8)``.
        """
        b, s, h, w = slices.shape
        fine = self.stem(haar(slices.reshape(b * s, h, w)))
        seen = self.trunk(fine)
        weights = regions.expand(b, s, *regions.shape[-3:]).reshape(b * s, *regions.shape[-3:])
        brain, head = weights[:, :1], weights[:, 1:]
        local = self.local(seen)
        # Inside the head alone: the share of air in the picture is no cue, and differs between windows.
        parts = _mean_and_spread(fine, functional.interpolate(head, scale_factor=self.STRIDE // 2))
        for region in (brain, head):
            parts += _mean_and_spread(seen, region)
        e = functional.relu(self.project(torch.cat(parts, 1)).reshape(b, s, -1) + self.plane(planes))
        amount = brain.reshape(b, -1).sum(1).clamp_min(1.0)
        power = ((2 * local).clamp(-12, 4).exp() * brain).reshape(b, -1).sum(1) / amount
        log_mean = (local * brain).reshape(b, -1).sum(1) / amount
        summed = torch.stack([0.5 * torch.log(power + 1e-5) + 2.0, log_mean + 2.0], 1)
        # The mean, not the maximum: training looks at three slices of an image, the classifier at nine.
        both = torch.cat([self.dropout(e.mean(1)), summed], 1)
        out = {name: layer(both) for name, layer in self.heads.items()}
        return {**out, "local": local.reshape(b, s, *local.shape[-2:])}


def _mean_and_spread(x: Tensor, region: Tensor) -> list[Tensor]:
    """Per channel of ``(N, C, h, w)``: mean and SD where the share ``(N, 1, h, w)`` is."""
    total = region.sum((2, 3)).clamp_min(1.0)
    mean = (x * region).sum((2, 3)) / total
    spread = ((x - mean[:, :, None, None]).square() * region).sum((2, 3)) / total
    return [mean, (spread + 1e-5).sqrt()]


def regions_of(brain: Tensor, head: Tensor) -> Tensor:
    """Masks of brain and head ``(S, H, W)`` -> shares in squares, ``(S, 2, H / 8, W / 8)``."""
    stack = torch.stack([brain.float(), head.float()], 1)
    return functional.avg_pool2d(stack, PixelNet.STRIDE)


def haar(x: Tensor) -> Tensor:
    """Orthogonal Haar transform of ``(N, H, W)`` with even sides -> ``(N, 4, H / 2, W / 2)``.

    The first plane is twice the local mean; the others are differences along rows, columns and both,
    here enlarged four times so that all four have about the same range in a clean image.
    """
    a, b = x[:, 0::2, 0::2], x[:, 0::2, 1::2]
    c, d = x[:, 1::2, 0::2], x[:, 1::2, 1::2]
    mean = (a + b + c + d) / 2
    return torch.stack([mean, 2 * (a - b + c - d), 2 * (a + b - c - d), 2 * (a - b - c + d)], 1)


class MeasuredNet(nn.Module):
    """A linear answer and a small hidden layer on measured features.

    Features (:mod:`qc_node.classifiers.brain_mri.features`) are standardised with the training people's mean and
    SD, which travel with the weights, and clipped at four SD, so that one absurd number cannot decide alone.

    Parameters
    ----------
    n_features
        Length of the feature vector.
    heads
        Outputs per question.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, heads: dict[str, int], hidden: int = 48) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.keep = nn.Dropout(0.15)
        self.hidden = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(0.3))
        self.heads = nn.ModuleDict({name: nn.Linear(n_features + hidden, n) for name, n in heads.items()})

    def standardise(self, features: Tensor) -> Tensor:
        """Features in SDs of the training people, within -4 .. 4."""
        return ((features - self.mean) / self.scale).clamp(-4, 4)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """``(B, n_features)`` -> logits per question."""
        x = self.keep(self.standardise(features))
        both = torch.cat([x, self.hidden(x)], 1)
        return {name: head(both) for name, head in self.heads.items()}


def n_parameters(network: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
