"""What is kept of a simulated image, and how it comes from values at the slice points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from qc_node.classifiers.brain_mri import linear, preprocess
from qc_node.classifiers.brain_mri import registration as reg

FloatArray = npt.NDArray[np.float32]
Slices = npt.NDArray[np.float16]

BLOCK = 8
"""Side in mm of the squares in which the local motion error is kept."""

VOLUME_SHAPE = (85, 104, 90)
"""The paper's grid at 2 mm, ``(x, y, z)``: what its networks see where 1 mm costs too much."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What is known about one simulated image; None where not defined (straight rejects)."""

    person: str
    kind: str
    seed: int
    reject: str
    """"ok" or the reason of a straight reject, as in :class:`qc_node.domain.Reason`."""
    gadolinium: int | None
    motion: float | None
    contrast: float | None
    noise: float | None


@dataclass(frozen=True, slots=True)
class PackRow(Simulated):
    """One image of a pack."""

    native: bool
    """Sampled on the person's own grid (not re-acquired)."""
    look: str = ""
    """What was drawn, words joined by ``|``: sequence, coil, fat, age, agent, implant; "" in older packs."""


@dataclass(frozen=True)
class Picture:
    """One simulated image as it is kept.

    Attributes
    ----------
    slices
        ``(S, H, W)`` float16, normalised as the classifier does it.
    error
        ``(S, H / 8, W / 8)`` float16: RMS difference to the still twin in squares of 8 mm, in the units of
        `slices`; nan where there is no twin (straight rejects).
    volume
        ``(85, 104, 90)`` uint8, white matter at 128, or None: kept for some images only.
    """

    row: PackRow
    slices: Slices
    error: Slices
    volume: npt.NDArray[np.uint8] | None = None


def brain_mask(head: preprocess.AverageHead, points: torch.Tensor) -> npt.NDArray[np.bool_]:
    """Which slice points lie well inside the average brain."""
    channels = torch.from_numpy(np.ascontiguousarray(head.channels[[1, 4]]))
    values, _ = reg.sample(channels, head.affine, points.reshape(-1, 3))
    return np.asarray(((values[0] > 0.97) & (values[1] < 0.1)).reshape(points.shape[:3]).numpy())


def volume_points() -> torch.Tensor:
    """LPS mm of the 2 mm grid in the average head's frame, ``(85, 104, 90, 3)``."""
    axes = [torch.arange(n) * 2.0 + o for n, o in zip(VOLUME_SHAPE, linear.ORIGIN_LPS, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).float()


def local_error(moved: FloatArray, still: FloatArray, brain: FloatArray, level: float) -> Slices:
    """RMS difference of slices ``(S, H, W)`` in squares of :data:`BLOCK` mm, over `level`, after the best gain."""
    inside = brain > 0.9
    a, b = moved[inside], still[inside]
    gain = float((a * b).sum() / max(float((b * b).sum()), 1e-9)) if a.size else 1.0
    difference = torch.from_numpy((moved / max(gain, 1e-6) - still) ** 2)[None]
    mean = functional.avg_pool2d(difference, BLOCK)[0]
    return (mean.sqrt() / max(level, 1e-6)).numpy().astype(np.float16)


def no_error(picture: Slices, value: float) -> Slices:
    """`value` in every square: 0 for still images, nan where there is no twin."""
    s, h, w = picture.shape
    return np.full((s, h // BLOCK, w // BLOCK), value, dtype=np.float16)


def volume_bytes(volume: FloatArray, level: float, floor: float) -> npt.NDArray[np.uint8]:
    """White matter at 128, as the recipe ``fast`` of :mod:`qc_node.classifiers.brain_mri.linear` has it at 0.5."""
    scale = level - floor if np.isfinite(level) and level > floor else max(float(np.abs(volume).max()), 1e-6)
    return np.clip(np.round((volume - floor) / scale * 128.0), 0, 255).astype(np.uint8)


def levels_of(
    slices: FloatArray, inside: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """White level and floor as the classifier takes them, from the slices themselves."""
    inner = slices[brain & inside]
    level = float(np.quantile(inner[::7], 0.75)) if inner.size > 100 else float("nan")
    return level, min(0.0, float(slices[::4, ::4, ::4].min()))
