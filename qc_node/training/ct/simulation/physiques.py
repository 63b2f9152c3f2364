"""What is varied of the patient between a packed CT slice and the network: phase, bone, fat, arms, oral contrast.

Two dozen people have the bones, the fat and the circulation of two dozen people.  A network that judges others
must not use how dense the one old vertebra was, or that the one enhanced chest was scanned 30 s after injection.
Everything works on stacks of ``(N, 3, 96, 96)`` HU at 4 mm, changes a drawn share of them and keeps the others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from qc_node.classifiers.ct import calibration

AIR = float(calibration.AIR)
UNENHANCED_HU = 60.0
"""Blood and organs exceed it only with contrast."""
_CORTEX = 350.0
_SPONGY = 130.0
TRUNK_MM = (300.0, 860.0)
"""Where on the body axis arms may lie beside the body."""
BOWEL_MM = (490.0, 830.0)
"""Where on the body axis swallowed contrast may be."""


def _near(mask: Tensor, pixels: int) -> Tensor:
    """`mask` grown by a square of `pixels` on each side; shifted copies are three times as fast as a pooling."""
    for _ in range(pixels):
        rows = mask.clone()
        rows[..., 1:, :] |= mask[..., :-1, :]
        rows[..., :-1, :] |= mask[..., 1:, :]
        mask = rows.clone()
        mask[..., 1:] |= rows[..., :-1]
        mask[..., :-1] |= rows[..., 1:]
    return mask


def phased(stack: Tensor, share: Tensor) -> Tensor:
    """The enhancement of ``(N, 3, 96, 96)`` HU times `share` ``(N,)``: earlier and later, more and less iodine.

    The excess above 60 HU outside cortical bone is scaled.  For enhanced slices only: a plain one has no excess
    that may be called enhancement.
    """
    excess = (stack - UNENHANCED_HU).clamp(min=0)
    scaled = stack + excess * (share[:, None, None, None] - 1)
    return torch.where(_near(stack > _CORTEX, 1), stack, scaled.clamp(max=1000))


def boned(stack: Tensor, density: Tensor) -> Tensor:
    """Bone of another age: what is above 130 HU within 8 mm of cortex, times `density` ``(N,)`` above 130 HU.

    0.6 is an old vertebra, 1.4 a young one.  Blood that touches bone may change with it by as much; that is less
    than the phases do.
    """
    bone = (stack > _SPONGY) & _near(stack > _CORTEX, 2)
    changed = _SPONGY + (stack - _SPONGY) * density[:, None, None, None]
    return torch.where(bone, changed, stack)


def fattened(stack: Tensor, size: Tensor, fat: Tensor) -> Tensor:
    """The body shrunk to `size` (``(N,)``, 0.7..1) inside its old outline, `fat` HU ``(N,)`` between the two."""
    n = len(stack)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / size
    body = stack > -950
    weight = body[:, 1].float()
    pixel = torch.arange(stack.shape[-1], dtype=torch.float32)
    half = stack.shape[-1] / 2
    mass = weight.sum((1, 2)).clamp(min=1)
    for axis, line in ((0, weight.sum(1)), (1, weight.sum(2))):  # shrink towards the middle of the body
        middle = (line @ pixel) / mass
        theta[:, axis, 2] = ((middle + 0.5) / half - 1) * (1 - 1 / size)
    grid = nn.functional.affine_grid(theta, list(stack.shape), align_corners=False)
    small = nn.functional.grid_sample(stack - AIR, grid, mode="bilinear", align_corners=False) + AIR
    ring = body & (small < -950)
    return torch.where(ring, fat[:, None, None, None], torch.where(body, small, stack))


def with_arms(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """``(3, 96, 96)`` HU with an arm on each side where there is room; nothing of the body is covered."""
    body = stack[1] > -950
    columns = torch.nonzero(body.any(0)).ravel()
    rows = torch.nonzero(body.any(1)).ravel()
    if not columns.numel():
        return stack
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    low, high = float(rng.uniform(0.4, 0.7)), float(rng.uniform(8, 13))
    middle = float(rows[0]) + low * float(rows[-1] - rows[0])
    gap = float(rng.uniform(-1, 3))
    result = stack.clone()
    for edge, side in ((float(columns[0]), -1.0), (float(columns[-1]), 1.0)):
        distance = torch.hypot(x - (edge + side * (gap + high)), y - middle)
        free = stack < -950
        for radius, value in ((high, -100.0), (high - 2, 55.0), (3.0, 900.0), (1.5, 50.0)):
            result = torch.where(free & (distance < radius), torch.tensor(value), result)
    return result


def with_oral_contrast(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """``(3, 96, 96)`` HU with one to four pieces of filled bowel in front of the spine, 120-600 HU."""
    soft = (stack[1] > -20) & (stack[1] < 90)
    places = torch.nonzero(soft)
    if len(places) < 100:
        return stack
    front = places[places[:, 0] < places[:, 0].float().mean()]
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    value = float(rng.uniform(120, 600))
    result = stack.clone()
    for _ in range(int(rng.integers(1, 5))):
        row, column = (float(v) for v in front[int(rng.integers(len(front)))])
        a, b = rng.uniform(2, 8, 2)
        inside = ((y - row) / float(a)) ** 2 + ((x - column) / float(b)) ** 2 < 1
        # Bowel lies in soft tissue and fat: neither bone nor air outside becomes contrast.
        result = torch.where(inside & (stack > -200) & (stack < 150), torch.tensor(value), result)
    return result


def vary_patients(
    stack: Tensor, rng: np.random.Generator, places: Tensor | None = None, enhanced: Tensor | None = None
) -> Tensor:
    """Vary the patients of ``(N, 3, 96, 96)`` HU.

    Parameters
    ----------
    places
        ``(N,)`` mm on the body axis, NaN off it; without them no arms and no oral contrast are added.
    enhanced
        ``(N,)`` True where a slice is known to be enhanced; without them no phase is varied.
    """
    n = len(stack)

    def u(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))

    def chance(share: float) -> Tensor:
        return torch.from_numpy(rng.random(n) < share)

    stack = stack.clone()
    share, density, size, fat = torch.exp(u(-0.85, 0.7)), u(0.6, 1.4), u(0.72, 0.95), u(-115, -85)
    late, aged, obese, armed, fed = chance(0.5), chance(0.4), chance(0.15), chance(0.12), chance(0.15)
    if enhanced is not None:
        late &= enhanced
        if late.any():
            stack[late] = phased(stack[late], share[late])
    if aged.any():
        stack[aged] = boned(stack[aged], density[aged])
    if obese.any():
        stack[obese] = fattened(stack[obese], size[obese], fat[obese])
    if places is not None:
        armed &= (places > TRUNK_MM[0]) & (places < TRUNK_MM[1])
        fed &= (places > BOWEL_MM[0]) & (places < BOWEL_MM[1])
        for index in torch.nonzero(fed).ravel().tolist():
            stack[index] = with_oral_contrast(stack[index], rng)
        for index in torch.nonzero(armed).ravel().tolist():
            stack[index] = with_arms(stack[index], rng)
    return stack
