"""What is varied between a packed CT slice and the network: scanner, patient, post-processing, field of view.

Augmentation removes what a network must not use.  All necks here come from one collection with masked
backgrounds and 4-5 mm pixels, so every other body is sometimes masked, coarsened and shifted by as many HU as
that collection may be.  Dose, kernel, streaks and couch are varied for all, the patients in
:mod:`~qc_node.training.ct.simulation.physiques`.  Scanners reconstruct one lung, a shoulder or a spine at 120 to
250 mm, so every body is sometimes cut to such a field; and heads are sometimes delivered without their skull.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from qc_node.classifiers.ct import calibration
from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.head import BONE
from qc_node.classifiers.ct.projections import COARSE_MM, GRID
from qc_node.training.ct.data.pack import PackItem
from qc_node.training.ct.simulation.physiques import vary_patients

AIR = float(calibration.AIR)
FIELD_MM = (120.0, 250.0)
"""Width of a small field of view."""
_LEAST_FIELD = 156
"""Pixels of tissue (10 mL in a slice of 4 mm) that must be left in a small field of view."""
_LEAST_BRAIN = 100
"""Pixels (16 cm2) of brain without which a skull is not taken away."""


def made_nothing(items: Sequence[PackItem], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A stack without readable anatomy: test objects, other contrasts, or a body cut the wrong way."""
    kind = int(rng.integers(4))
    if kind == 0:
        item = items[int(rng.integers(len(items)))]
        if len(item.coarse) >= 40:  # sagittal or coronal cuts under an axial header
            cut = (
                item.coarse[:, int(rng.integers(20, 76))]
                if rng.random() < 0.5
                else item.coarse[:, :, int(rng.integers(20, 76))]
            )
            out = np.full((GRID, GRID), AIR, np.float32)
            rows = cut[:GRID]
            start = (GRID - len(rows)) // 2
            out[start : start + len(rows)] = rows
            if (out > -300).mean() > 0.03:
                return np.stack([out, out, out])
        kind = 1
    if kind == 3:  # the grey values of something else than CT
        item = items[int(rng.integers(len(items)))]
        z = int(rng.integers(len(item.coarse)))
        picture = item.coarse[z].astype(np.float32)
        body = picture > -500
        if body.sum() > 100:
            ramp = rng.uniform(-2.5, 2.5)
            values = np.where(body, 100 + rng.uniform(-300, 900) + ramp * np.clip(picture, -200, 400), AIR)
            if abs(ramp - 1) > 0.6:
                picture = values.astype(np.float32)
                return np.stack([picture, picture, picture])
        kind = 1
    y, x = np.mgrid[:GRID, :GRID].astype(np.float32)
    out = np.full((GRID, GRID), AIR, np.float32)
    radius = rng.uniform(12, 44)
    if rng.random() < 0.6:
        shape = ((x - 48) / radius) ** 2 + ((y - 48) / (radius * rng.uniform(0.6, 1.0))) ** 2 <= 1
    else:
        shape = (np.abs(x - 48) < radius) & (np.abs(y - 48) < radius * rng.uniform(0.4, 1.0))
    out[shape] = rng.choice([0.0, 40.0, 120.0, -100.0, 900.0])
    if rng.random() < 0.4:
        inner = ((x - 48) / (radius - 4)) ** 2 + ((y - 48) / (radius * 0.8 - 4)) ** 2 <= 1
        out[inner & shape] = rng.choice([0.0, -1000.0, 20.0])
    for _ in range(int(rng.integers(0, 9))):
        cx, cy = 48 + rng.uniform(-0.7, 0.7, 2) * radius
        r = rng.uniform(1.5, radius / 3)
        out[((x - cx) ** 2 + (y - cy) ** 2 <= r * r) & shape] = rng.uniform(-1000, 1200)
    return np.stack([out, out, out])


def small_field(stack: Tensor, chosen: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut slices to a small field of view, square or round, anywhere in the body.

    Parameters
    ----------
    stack
        ``(N, 3, 96, 96)`` HU.
    chosen
        ``(N,)`` bool: which to cut.  One whose field would hold hardly any tissue is left as it is.

    Returns
    -------
    tuple
        The slices, :data:`AIR` outside the field; and ``(N, 2)`` how far (x, y, in pixels) the middle of the
        tissue lies from the middle of the grid, because the coarse volume is centred on what is seen.
    """
    n = len(stack)
    tissue = stack[:, 1] > TISSUE

    def u(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))

    width = u(FIELD_MM[0] / COARSE_MM, FIELD_MM[1] / COARSE_MM)
    sides = (width, width * u(0.75, 1.35))
    pixel = torch.arange(GRID, dtype=torch.float32)
    distance = []
    for along, side in zip((tissue.any(1), tissue.any(2)), sides, strict=True):
        low = along.float().argmax(1).float()
        high = GRID - 1 - along.flip(1).float().argmax(1).float()
        # The field overlaps the body by at least a quarter of itself on either side.
        first, last = low + side / 4, high - side / 4
        middle = torch.where(last > first, first + (last - first) * u(0, 1), (low + high) / 2)
        distance.append((pixel[None] - middle[:, None]) / (side[:, None] / 2))
    x, y = distance[0][:, None, :], distance[1][:, :, None]
    round_field = torch.from_numpy(rng.random(n) < 0.25)[:, None, None]
    inside = torch.where(round_field, x**2 + y**2 <= 1, (x.abs() <= 1) & (y.abs() <= 1))
    left = tissue & inside
    cut = chosen & (left.sum((1, 2)) >= _LEAST_FIELD)
    result = torch.where((cut[:, None, None] & ~inside)[:, None], torch.tensor(AIR), stack)
    weight = left.float()
    total = weight.sum((1, 2)).clamp(min=1)
    centre = torch.stack([(weight.sum(1) * pixel).sum(1) / total, (weight.sum(2) * pixel).sum(1) / total], 1)
    return result, torch.where(cut[:, None], centre - (GRID - 1) / 2, torch.zeros(()))


def stripped(stack: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Slices of a head without skull and scalp, as brain extraction or a mask of organs leaves them.

    ``(3, 96, 96)`` HU in and out; unchanged where the middle slice shows no closed ring of bone with brain in it.
    """
    ring = ndimage.generate_binary_structure(2, 1)
    inside = []
    for plane in stack > BONE:
        closed = ndimage.binary_closing(plane, ring)
        inside.append(ndimage.binary_erosion(ndimage.binary_fill_holes(closed) & ~closed, ring))
    if inside[1].sum() < _LEAST_BRAIN:
        return stack
    result: npt.NDArray[np.float32] = np.where(np.stack(inside), stack, np.float32(AIR))
    return result


def aerated(stack: Tensor, depth: Tensor) -> Tensor:
    """Lung with more air (deep breath, emphysema; `depth` above 0) or less (expiration).

    Everything from -1000 to -500 HU is bent, so that both ends stay where they are: lung of -850 HU becomes
    -981 at a depth of 1.0 and -795 at -0.3.

    Parameters
    ----------
    stack, depth
        ``(N, 3, 96, 96)`` HU and ``(N,)``.
    """
    part = ((stack + 1000) / 500).clamp(0, 1)
    bent = part ** torch.exp(depth)[:, None, None, None] * 500 - 1000
    return torch.where((stack > -1000) & (stack < -500), bent, stack)


def quantum_noise(
    stack: Tensor, sigma: Tensor, kernel: Tensor, streaks: Tensor, rng: np.random.Generator
) -> Tensor:
    """What a low dose adds to ``(N, 3, 96, 96)`` HU, air included.

    Parameters
    ----------
    sigma
        ``(N,)`` HU of noise at 4 mm in the middle of the body; the rim has less, as the path to it is shorter.
    kernel
        ``(N,)`` from -1 (soft: neighbours have the same noise) over 0 (none have) to 1 (sharp: the opposite).
    streaks
        ``(N,)`` HU of streaks along the rows with the longest path, as through shoulders and hips.
    """
    white = torch.from_numpy(rng.standard_normal(tuple(stack.shape), dtype=np.float32))
    blurred = nn.functional.avg_pool2d(white, 3, 1, 1)
    k = kernel[:, None, None, None]
    soft, sharp = (-k).clamp(min=0), k.clamp(min=0)
    # The mean of nine has a third of the height: both mixtures are brought back to 1.
    noise = (1 - soft) * white + (3 * soft - sharp) * blurred
    water = (1 + stack[:, 1] / 1000).clamp(0, 2)
    row = water.sum(2) * COARSE_MM
    path = row[:, :, None] + water.sum(1)[:, None] * COARSE_MM
    height = (path / path.amax((1, 2), keepdim=True).clamp(min=1))[:, None]
    result: Tensor = noise * sigma[:, None, None, None] * height
    some = streaks > 0
    if some.any():
        coarse = torch.from_numpy(rng.standard_normal((int(some.sum()), 3, GRID, 4), dtype=np.float32))
        along = nn.functional.interpolate(coarse, size=(GRID, GRID), mode="bilinear", align_corners=False)
        long = (row / row.amax(1, keepdim=True).clamp(min=1)) ** 4
        result[some] += along * (streaks[:, None] * long)[some][:, None, :, None]
    return result


def couched(stack: Tensor, rng: np.random.Generator) -> Tensor:
    """``(3, 96, 96)`` HU with a piece of couch left behind the back, thin and at a distance of 0 to 12 mm."""
    rows = torch.nonzero((stack[1] > TISSUE).any(1)).ravel()
    if not rows.numel():
        return stack
    y, x = torch.meshgrid(torch.arange(float(GRID)), torch.arange(float(GRID)), indexing="ij")
    left, width = float(rng.uniform(0, 50)), float(rng.uniform(20, 90))
    bend = float(rng.uniform(0, 0.006))
    line = float(rows[-1]) + float(rng.uniform(1, 4)) - bend * (x - GRID / 2) ** 2
    piece = (y >= line) & (y < line + float(rng.uniform(1, 2.5))) & (x > left) & (x < left + width)
    return torch.where(piece & (stack < -950), torch.tensor(float(rng.uniform(-300, 200))), stack)


def augment(
    stack: Tensor,
    rng: np.random.Generator,
    hu_sigma: float = 12.0,
    places: Tensor | None = None,
    enhanced: Tensor | None = None,
) -> Tensor:
    """Vary ``(N, 3, 96, 96)`` HU as scanners, patients and post-processing do.

    `places` (mm on the body axis, NaN off it) and `enhanced` are for
    :func:`~qc_node.training.ct.simulation.physiques.vary_patients`.
    """
    n = len(stack)
    stack = vary_patients(stack, rng, places, enhanced)

    def u(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))

    def chance(share: float) -> Tensor:
        return torch.from_numpy(rng.random(n) < share)

    stack, centre = small_field(stack, chance(0.25), rng)
    centre = centre / (GRID / 2)
    angle = u(-0.3, 0.3) + torch.where(chance(0.05), torch.pi, 0.0)
    size, aspect = u(0.8, 1.25), u(0.93, 1.07)
    mirror = torch.where(chance(0.5), -1.0, 1.0)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    theta = torch.stack(
        [
            torch.stack([cos * aspect * mirror, -sin * aspect, u(-0.15, 0.15) + centre[:, 0]], 1),
            torch.stack([sin / aspect * mirror, cos / aspect, u(-0.15, 0.15) + centre[:, 1]], 1),
        ],
        1,
    )
    grid = nn.functional.affine_grid(theta, list(stack.shape), align_corners=False)
    # Shifted so that padding with zeros means air.
    warped = nn.functional.grid_sample(stack - AIR, grid, mode="bilinear", align_corners=False) + AIR
    crude = chance(0.3)
    if crude.any():  # pixels of 5 mm, repeated
        small = nn.functional.interpolate(warped[crude], scale_factor=0.8, mode="nearest")
        warped[crude] = nn.functional.interpolate(small, size=(GRID, GRID), mode="nearest")
    soft = chance(0.25)
    if soft.any():
        warped[soft] = nn.functional.avg_pool2d(warped[soft], 3, 1, 1, count_include_pad=False)
    edged = chance(0.2) & ~soft
    if edged.any():  # a lung or bone kernel: edges overshoot
        gain = u(0.2, 1.2)[edged][:, None, None, None]
        mean = nn.functional.avg_pool2d(warped[edged], 3, 1, 1, count_include_pad=False)
        inside = mean > -900
        warped[edged] = torch.where(inside, warped[edged] + gain * (warped[edged] - mean), warped[edged])
    warped = torch.where(chance(0.4)[:, None, None, None], aerated(warped, u(-0.3, 1.0)), warped)
    body = warped > -900
    shift = torch.from_numpy(rng.normal(0, hu_sigma, n).astype(np.float32))
    warped = torch.where(body, warped * u(0.97, 1.03)[:, None, None, None] + shift[:, None, None, None], warped)
    sigma = u(0, 25) * torch.where(chance(0.5), 1.0, 0.0)
    streaks = u(5, 40) * torch.where(chance(0.15), 1.0, 0.0)
    kernels, noisy = u(-1, 1), (sigma > 0) | (streaks > 0)
    if noisy.any():
        noise = quantum_noise(warped[noisy], sigma[noisy], kernels[noisy], streaks[noisy], rng)
        warped[noisy] = torch.where(body[noisy], warped[noisy] + noise, warped[noisy])
    for index in torch.nonzero(chance(0.08)).ravel().tolist():
        warped[index] = couched(warped[index], rng)
    y, x = torch.meshgrid(
        torch.arange(GRID, dtype=torch.float32), torch.arange(GRID, dtype=torch.float32), indexing="ij"
    )
    cut = chance(0.2)
    radius, cx, cy, flat = u(24, 50), u(38, 58), u(38, 58), u(0.7, 1.4)
    outside = ((x[None] - cx[:, None, None]) / radius[:, None, None]) ** 2 + (
        (y[None] - cy[:, None, None]) / (radius * flat)[:, None, None]
    ) ** 2 > 1
    warped = torch.where((outside & cut[:, None, None])[:, None], torch.tensor(AIR), warped)
    metal = torch.nonzero(chance(0.06)).ravel().tolist()
    for index in metal:
        px, py = int(rng.integers(30, 66)), int(rng.integers(30, 66))
        width = int(rng.integers(1, 3))
        streak = torch.from_numpy(rng.normal(0, 150, GRID).astype(np.float32))
        line = warped[index, :, py - width : py + width]
        warped[index, :, py - width : py + width] = torch.where(line > -900, line + streak, line)
        warped[index, :, py - width : py + width, px - width : px + width] = 2500.0
    floor = u(AIR, -960)[:, None, None, None]
    result = torch.where(warped < -950, floor, warped)
    return result.contiguous()  # not channels last: oneDNN (torch 2.13) corrupts the heap with it on some CPUs
