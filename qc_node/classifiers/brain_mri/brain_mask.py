"""A second opinion on where the brain is: a small network that marks brain on any contrast.

The network is brainchop's *mindgrab* (MIT; 146,237 numbers; trained on synthetic images only, arXiv 2506.11860):
25 dilated convolutions at 1 mm.  Here it runs at 4 mm, a hundredth of the work: a tap that lies 16, 8 or 4 mm from
the centre lies on a voxel; one at 2 or 1 mm is interpolated between the centre and the next voxel.  It shares
nothing with the registration of grey values, so that both failing, or both agreeing, is evidence.

It marks something in every image, so "there is a mask" means nothing.  What means something is a mask that has the
size and the shape of a brain: it is registered to the average brain, which gives its place, its tilt and its fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.preprocess import CENTRE, AverageHead, pooled_targets

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SPACING_MM = 4.0
BOX = (48, 48, 52)
"""Voxels looked at: left-right, up-down, front-back; 192 x 192 x 208 mm."""
ABOVE_MM = 8.0
"""Air left above the object."""
AVERAGE_MIDDLE_MM, AVERAGE_TOP_MM = (0.0, 15.0), 88.0
"""Middle (x, y) and top of the average head in its frame."""
DILATIONS_MM = (16.0, 8.0, 4.0, 2.0, 1.0) * 5
"""How far the taps of each layer lie from the centre."""


class BrainMaskNet(nn.Module):
    """25 convolutions, each followed by instance norm and GELU, then one of 1x1x1 with two answers."""

    def __init__(self, kernels: Sequence[Tensor], last: Tensor, bias: Tensor) -> None:
        super().__init__()
        for n, kernel in enumerate(kernels):
            self.register_buffer(f"kernel_{n:02d}", at_spacing(kernel, DILATIONS_MM[n], SPACING_MM))
        self.register_buffer("last", last)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(1, 1, X, Y, Z)`` in [0, 1], axes left, down, front -> log odds of brain ``(X, Y, Z)``."""
        for n, dilation in enumerate(DILATIONS_MM):
            step = max(1, round(dilation / SPACING_MM))
            x = functional.conv3d(x, self.get_buffer(f"kernel_{n:02d}"), padding=step, dilation=step)
            x = functional.gelu(functional.instance_norm(x))
        y = functional.conv3d(x, self.get_buffer("last"), self.get_buffer("bias"))[0]
        return y[1] - y[0]


def at_spacing(kernel: Tensor, dilation_mm: float, spacing_mm: float) -> Tensor:
    """A kernel ``(out, in, 3, 3, 3)`` whose outer taps lie `dilation_mm` away, on a grid of `spacing_mm`.

    Taps nearer than a voxel are shared between the centre and the next voxel (linear interpolation).
    """
    share = min(1.0, dilation_mm / spacing_mm)
    to = torch.tensor([[share, 1 - share, 0.0], [0.0, 1.0, 0.0], [0.0, 1 - share, share]])
    return torch.einsum("oiabc,ax,by,cz->oixyz", kernel, to, to, to).contiguous()


def network_of(tensors: Mapping[str, Tensor]) -> BrainMaskNet:
    """The network from its tensors ``kernel_00`` .. ``kernel_24``, ``last`` and ``bias``.

    Raises
    ------
    KeyError
        One is missing.
    """
    kernels = [tensors[f"kernel_{n:02d}"].float() for n in range(len(DILATIONS_MM))]
    return BrainMaskNet(kernels, tensors["last"].float(), tensors["bias"].float()).eval()


@dataclass(frozen=True)
class BrainFound:
    """What the network marked.

    Attributes
    ----------
    volume_ml
        Of the largest piece.
    compact
        1 for a ball, less for anything else: surface of the ball of the same volume over that of the mask, both
        counted in voxels.
    fit
        Correlation with the average brain, after affine registration, in and around the brain; 0 without a mask.
    matrix
        ``(4, 4)`` from the average head's frame to the image, by the mask alone.
    scales
        Size against the average brain per direction, ascending.
    edge_cm2
        Area of the mask on that side of the image that cuts most of it.
    """

    volume_ml: float
    compact: float = 0.0
    fit: float = 0.0
    matrix: Matrix | None = None
    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    edge_cm2: float = 0.0


class SecondOpinion:
    """Marks the brain and registers the mark to the average brain."""

    def __init__(self, network: BrainMaskNet, head: AverageHead) -> None:
        self.network = network
        brain = torch.from_numpy(head.channels[1])
        near = functional.max_pool3d(functional.max_pool3d(brain[None, None], 9, 1, 4), 5, 1, 2)[0, 0]
        self.targets = pooled_targets(brain, torch.where(near > 0.05, near, torch.zeros(())), head.affine)

    def __call__(self, coarse: reg.Grid, solid: Mask) -> BrainFound:
        """What is marked as brain in an image at 4 mm whose head is where `solid` is."""
        return self._found(coarse, box_of(coarse, solid), PITCHES)

    def turned(self, coarse: reg.Grid, matrix: Matrix) -> BrainFound:
        """What is marked when the image is turned so that a head that lies as `matrix` says stands upright.

        The network knows upright heads only: of a turned one it marks something that fits worse.
        """
        u, _, vt = np.linalg.svd(matrix[:3, :3])
        pose = np.eye(4)
        pose[:3, :3] = u @ vt
        pose[:3, 3] = matrix[:3, :3] @ MIDDLE + matrix[:3, 3] - pose[:3, :3] @ MIDDLE
        return self._found(coarse, pose @ _box(AVERAGE_MIDDLE_MM, AVERAGE_TOP_MM), [pose[:3, :3]])

    def _found(self, coarse: reg.Grid, affine: Matrix, starts: Sequence[Matrix]) -> BrainFound:
        soft, volume, compact = self._marked(coarse, affine)
        if volume < MIN_ML:
            return BrainFound(volume, compact)
        found = self.register(soft, starts)
        return BrainFound(volume, compact, found.ncc, found.matrix, found.scales, edge_cm2(soft, coarse))

    def _marked(self, coarse: reg.Grid, affine: Matrix) -> tuple[reg.Grid, float, float]:
        """The mark in a box (probability, largest piece only), its volume in ml, and how compact it is."""
        soft = look(self.network, coarse, affine)
        mask, volume, compact = largest(soft)
        return reg.Grid((soft.values * ndimage.binary_dilation(mask)).astype(np.float32), affine), volume, compact

    def register(self, soft: reg.Grid, starts: Sequence[Matrix]) -> reg.Alignment:
        """Where the average brain lies on a mark; `starts` are rotations ``(3, 3)`` about its middle."""
        weight = soft.values / max(float(soft.values.sum()), 1e-6)
        k, j, i = np.indices(soft.values.shape)
        index = np.array([float((weight * c).sum()) for c in (i, j, k)])
        goal = soft.affine[:3, :3] @ index + soft.affine[:3, 3]
        small = reg.shrink(soft, 8.0)
        eights, fours = reg.gradient_channels(small), reg.gradient_channels(soft)
        best: tuple[float, Matrix] | None = None
        for start in starts:
            matrix = np.eye(4)
            matrix[:3, :3] = start
            matrix[:3, 3] = goal - start @ MIDDLE
            matrix = reg.refine(eights, small.affine, self.targets[0], matrix, 6, rigid=True)
            ncc, _ = reg.evaluate(eights, small.affine, self.targets[0], matrix)
            if best is None or ncc > best[0]:
                best = ncc, matrix
        assert best is not None
        matrix = reg.refine(eights, small.affine, self.targets[0], best[1], 6, rigid=False)
        matrix = reg.refine(fours, soft.affine, self.targets[1], matrix, 2, rigid=False)
        return reg.describe(matrix, *reg.evaluate(fours, soft.affine, self.targets[1], matrix))


MIN_ML = 200.0
"""Less is no brain that could be placed."""
MIDDLE = np.array(CENTRE)
PITCHES = [reg.rotation((np.radians(d), 0.0, 0.0)) for d in (-12.0, 8.0)]
"""Nodding from which the registration starts."""


def largest(soft: reg.Grid) -> tuple[Mask, float, float]:
    """The largest piece of a mark, its volume in ml, and how compact it is."""
    labels, count = ndimage.label(soft.values > 0.5)
    if not count:
        return np.zeros(soft.values.shape, dtype=bool), 0.0, 0.0
    sizes = np.bincount(labels.ravel())[1:]
    mask = labels == 1 + int(sizes.argmax())
    n = int(sizes.max())
    rim = int((mask & ~ndimage.binary_erosion(mask, border_value=1)).sum())
    cell = SPACING_MM**3 / 1000.0
    return mask, n * cell, float((36 * np.pi) ** (1 / 3) * n ** (2 / 3) / max(rim, 1))


def edge_cm2(soft: reg.Grid, image: reg.Grid) -> float:
    """Area in cm2 of a mark on that side of the image that cuts most of it."""
    k, j, i = np.nonzero(soft.values > 0.5)
    points = np.stack([i, j, k, np.ones_like(i)], 1) @ soft.affine.T
    index = (points @ np.linalg.inv(image.affine).T)[:, :3]
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    size = np.array(image.values.shape[::-1])
    # One layer of the mark lies within three quarters of its voxel from where the image ends.
    near = 0.75 * SPACING_MM / np.maximum(spacing, 1e-3)
    low, high = index < -0.5 + near, index > size - 0.5 - near
    return float(max(low.sum(0).max(initial=0), high.sum(0).max(initial=0))) * SPACING_MM**2 / 100.0


def box_of(coarse: reg.Grid, solid: Mask) -> Matrix:
    """Affine of the box that is looked at: from its ``(i, j, k)`` = left, down, front to LPS mm.

    Parameters
    ----------
    solid
        Where the head is on `coarse`, see :func:`qc_node.classifiers.brain_mri.outline.outline`.
    """
    k, j, i = np.nonzero(solid) if solid.any() else np.nonzero(np.ones_like(solid))
    points = np.stack([i, j, k], 1) @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]
    top = float(np.quantile(points[:, 2], 0.999))
    upper = points[points[:, 2] > top - 120.0]
    low, high = np.quantile(upper, (0.01, 0.99), axis=0)
    middle = (low + high) / 2
    return _box((float(middle[0]), float(middle[1])), top)


def _box(middle: tuple[float, float], top: float) -> Matrix:
    """A box around a place ``(x, y)``, from a little above `top` downwards, LPS mm."""
    extent = (np.array(BOX) - 1) * SPACING_MM
    out = np.eye(4)
    # Columns: left is +x, down is -z, front is -y in LPS.
    out[:3, :3] = SPACING_MM * np.array([[1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])
    out[:3, 3] = (middle[0] - extent[0] / 2, middle[1] + extent[2] / 2, top + ABOVE_MM)
    return out


def look(network: BrainMaskNet, coarse: reg.Grid, affine: Matrix) -> reg.Grid:
    """Probability of brain in a box, ``(I, J, K)`` transposed to a :class:`Grid`; 0 outside the image."""
    i, j, k = np.meshgrid(*[np.arange(n) for n in BOX], indexing="ij")
    points = np.stack([i, j, k], -1).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
    low = min(0.0, float(np.quantile(coarse.values, 0.001)))
    bright = max(float(np.quantile(coarse.values, 0.995)) - low, 1e-6)
    values = np.clip((coarse.values - low) / bright, 0.0, 1.0).astype(np.float32)
    seen, inside = reg.sample(
        torch.from_numpy(values)[None], coarse.affine, torch.from_numpy(points.astype(np.float32))
    )
    with torch.inference_mode():
        odds = network((seen[0] * inside).reshape(1, 1, *BOX))
    # The network's answers are steep; a tenth of them makes the rim of the mask smooth enough to register.
    soft = torch.sigmoid(odds / 10.0) * inside.reshape(BOX)
    return reg.Grid(np.ascontiguousarray(soft.numpy().transpose(2, 1, 0)), affine)
