"""Receive coils: sensitivity that falls with depth below the surface of the head.

Arrays of small surface coils see the scalp several times better than the middle of the head; a single coil sees
one side only.  With every distance ``d`` from the skin the gain is ``1 + gain exp(-d / length)``; that is a fit
to what images look like, not a Biot-Savart field.  Depth belongs to the person and is computed once, on 3 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import artefacts
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

COARSE = 3.0
"""mm between the nodes at which depth is known."""


@dataclass(frozen=True)
class Depth:
    """Depth below the surface in mm ``(K, J, I)``, 0 outside, and where each node lies (mm, anatomical axes)."""

    mm: FloatArray
    affine: Matrix
    where: FloatArray
    """``(K, J, I, 3)`` LPS mm about the middle of the brain of the average head, or of the image."""


def depth_of(mask: npt.NDArray[np.bool_], affine: Matrix, matrix: Matrix | None = None) -> Depth:
    """Depth inside `mask` ``(K, J, I)``; `matrix` takes the average head's frame to the image's, if known."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    factor = [max(1, round(COARSE / float(s))) for s in spacing]
    x = torch.from_numpy(mask.astype(np.float32))[None, None]
    small = functional.avg_pool3d(x, factor, ceil_mode=True, count_include_pad=False)[0, 0].numpy() > 0.5
    step = np.diag([*factor[::-1], 1.0])
    step[:3, 3] = [(f - 1) / 2 for f in factor[::-1]]
    own = affine @ step
    # Sinuses and mouth are inside; the head goes on where the image ends.
    closed = ndimage.binary_closing(np.pad(small, 3, mode="edge"), iterations=3)[3:-3, 3:-3, 3:-3]
    solid = np.stack([ndimage.binary_fill_holes(s) for s in closed])
    padded = np.pad(solid, 1, mode="edge")
    mm = ndimage.distance_transform_edt(padded, sampling=np.linalg.norm(own[:3, :3], axis=0)[::-1])[
        1:-1, 1:-1, 1:-1
    ]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in mm.shape), indexing="ij"), -1)[..., ::-1]
    to_frame = own if matrix is None else np.linalg.inv(matrix) @ own
    where = index @ to_frame[:3, :3].T + to_frame[:3, 3]
    where -= np.array(preprocess.CENTRE) if matrix is not None else where.reshape(-1, 3).mean(0)
    return Depth(np.maximum(mm - COARSE / 2, 0).astype(np.float32), own, where.astype(np.float32))


def depth_of_person(anatomy: Anatomy) -> Depth:
    """Depth in a person's head, from the image where there is one and from the labels otherwise."""
    mask = anatomy.labels > 0 if anatomy.kind != "head" or anatomy.image is None else anatomy.image > 0.12
    return depth_of(mask, anatomy.affine, anatomy.matrix)


@dataclass(frozen=True)
class Coil:
    """A receive coil.

    Attributes
    ----------
    gain
        Sensitivity at the skin over that in the depth, minus 1; negative: the middle is brighter (as at 3 tesla).
    length
        mm over which that falls to a third.
    direction, edge, width
        Unit vector to a coil at one side, and mm along it where and over which its field ends; None: all around.
    """

    gain: float
    length: float
    direction: tuple[float, float, float] | None = None
    edge: float = 0.0
    width: float = 25.0

    @property
    def name(self) -> str:
        """Word for the tables."""
        side = "" if self.direction is None else "one-sided "
        return f"{side}coil {'centre' if self.gain < 0 else 'strong' if self.gain > 1.5 else 'mild'}"

    def on(self, depth: Depth) -> FloatArray:
        """Sensitivity at the nodes of `depth`, 1 far from the coil."""
        field = np.exp(-depth.mm / np.float32(self.length))
        if self.direction is not None:
            along = depth.where @ np.array(self.direction, dtype=np.float32)
            field = field / (1 + np.exp((self.edge - along) / np.float32(self.width)))
        return np.asarray(1 + np.float32(self.gain) * field, dtype=np.float32)


def draw(rng: np.random.Generator, share: float = 0.6) -> Coil | None:
    """A coil, in `share` of the images: gain 0 to 5, length 8 to 25 mm, a fourth of them at one side only."""
    if rng.random() >= share:
        return None
    if rng.random() < 0.12:
        return Coil(-float(rng.uniform(0.1, 0.45)), float(rng.uniform(20, 40)))
    gain = float(rng.uniform(0, 5) if rng.random() < 0.6 else rng.uniform(0, 1.5))
    if rng.random() < 0.75:
        return Coil(gain, float(rng.uniform(8, 25)))
    sides = [(0, 0, 1), (0, 1, 0), (0, 1, 0.6), (0, -1, 0.3), (1, 0, 0), (-1, 0, 0)]
    vector = np.array(sides[int(rng.choice(6, p=[0.25, 0.3, 0.15, 0.1, 0.1, 0.1]))]) + rng.normal(0, 0.15, 3)
    x, y, z = vector / np.linalg.norm(vector)
    # A single coil reaches deeper than the elements of an array.
    return Coil(
        gain, float(rng.uniform(12, 45)), (float(x), float(y), float(z)), float(rng.uniform(-20, 45)), 20.0
    )


def over(image: FloatArray, affine: Matrix, coil: Coil, depth: Depth) -> FloatArray:
    """A whole image ``(K, J, I)`` as `coil` sees it; `depth` in the same mm."""
    index = np.linalg.inv(depth.affine) @ affine
    return image * (1 + _sampled(coil.on(depth) - 1, depth, index, image.shape))


def _sampled(values: FloatArray, depth: Depth, index: Matrix, shape: tuple[int, ...]) -> FloatArray:
    # Padded by a node: what lies half a node outside the coarse grid is not outside the head.
    shift = np.eye(4)
    shift[:3, 3] = 1
    return artefacts.resample(np.pad(values, 1, mode="edge"), shift @ index, shape)


def at_points(coil: Coil, depth: Depth, points: torch.Tensor, matrix: Matrix) -> FloatArray:
    """Sensitivity at `points` ``(a, b, c, 3)``, which `matrix` takes to the mm of `depth`."""
    m = torch.from_numpy(matrix).float()
    flat = points.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
    values, _ = reg.sample(torch.from_numpy(coil.on(depth))[None], depth.affine, flat)
    return np.asarray(values[0].reshape(points.shape[:3]).numpy(), dtype=np.float32)
