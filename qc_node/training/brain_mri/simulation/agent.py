"""Contrast agent: where gadolinium goes in a head, and what looks like it without.

Places come from the labels (sinuses, arteries, mucosa), from neighbourhood (dura between bone and fluid, falx and
tentorium in the fluid between the halves and above the cerebellum, plexus in the ventricles) and from the average
head (pituitary gland, cavernous sinus, which have no label).
"""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.training.brain_mri.simulation import synthesis
from qc_node.training.brain_mri.simulation.artefacts import smooth_field
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

VEIN, ARTERY, MUCOSA, DURA, SHEET, PLEXUS, GLAND, FLUID = (1 << n for n in range(8))
"""Bits of :func:`sites`; SHEET is falx and tentorium, GLAND pituitary gland and cavernous sinus."""

_GLANDS = (((0, -4, -33), (6, 5, 5)), ((12, -1, -31), (4, 10, 6)), ((-12, -1, -31), (4, 10, 6)))
"""Centre and half axes in LPS mm of the average head."""

_VENTRICLES = (4, 5, 43, 44, 15)

_known: weakref.WeakKeyDictionary[Anatomy, npt.NDArray[np.uint8]] = weakref.WeakKeyDictionary()


def grown(mask: Mask, voxels: int = 1) -> Mask:
    """`mask` dilated by a cube; shifted copies joined, because that is ten times faster than scipy."""
    for axis in range(3):
        out = mask.copy()
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(out, axis, 0)
        for step in range(1, voxels + 1):
            target[step:] |= source[:-step]
            target[:-step] |= source[step:]
        mask = out
    return mask


def frame_axis(anatomy: Anatomy, axis: int) -> FloatArray:
    """Coordinate in the average head's frame (0 x, 1 y, 2 z, LPS mm) of every voxel, ``(K, J, I)``."""
    row = (np.linalg.inv(anatomy.matrix) @ anatomy.affine)[axis].astype(np.float32)
    k, j, i = (np.arange(n, dtype=np.float32) for n in anatomy.labels.shape)
    return np.asarray((row[2] * k + row[3])[:, None, None] + (row[1] * j)[:, None] + row[0] * i, dtype=np.float32)


def sites(anatomy: Anatomy) -> npt.NDArray[np.uint8]:
    """Bit field of where an agent may go; computed once per person."""
    if anatomy not in _known:
        _known[anatomy] = _sites(anatomy)
    return _known[anatomy]


def inherit(aged: Anatomy, young: Anatomy) -> None:
    """Places of `aged` from those of the same person before: only fluid and ventricles have moved."""
    kept = sites(young) & np.uint8(255 ^ FLUID ^ PLEXUS)
    fluid = (sites(young) & np.uint8(FLUID)) > 0
    if aged.kind == "map":
        fluid |= synthesis.is_in(aged.labels, (24,))
    ventricle = synthesis.is_in(aged.labels, _VENTRICLES) & (frame_axis(aged, 1) > 0)
    _known[aged] = kept | fluid.astype(np.uint8) * np.uint8(FLUID) | ventricle.astype(np.uint8) * np.uint8(PLEXUS)


def _sites(anatomy: Anatomy) -> npt.NDArray[np.uint8]:
    labels = anatomy.labels
    fluid = synthesis.is_in(labels, (24,))
    if anatomy.image is not None:
        # In a hybrid 24 is the whole real brain: fluid is what is dark in it.
        fluid = (fluid | synthesis.is_in(labels, (3, 42))) & (anatomy.image < 0.45)
    bone = synthesis.is_in(labels, synthesis.BONE)
    cerebellum = synthesis.is_in(labels, (8, 47))
    cortex = synthesis.is_in(labels, synthesis.CORTEX)
    x, z = frame_axis(anatomy, 0), frame_axis(anatomy, 2)
    spacing = float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    near = max(1, round(1.6 / spacing))
    reach = max(2, round(3.5 / spacing))
    falx = (np.abs(x) < max(1.0, 0.6 * spacing)) & (z > -10) & (fluid | (cortex & grown(fluid)))
    tentorium = grown(cerebellum, reach) & grown(cortex, reach) & (fluid | (cortex & grown(cerebellum)))
    dura = grown(bone, near) & fluid & (z > -60)
    y = frame_axis(anatomy, 1)
    ventricle = synthesis.is_in(labels, _VENTRICLES) & (y > 0)  # the frontal horns hold no plexus
    gland = np.zeros(labels.shape, bool)
    for centre, half in _GLANDS:
        gland |= sum(((c - m) / h) ** 2 for c, m, h in zip((x, y, z), centre, half, strict=True)) < 1
    out = np.zeros(labels.shape, np.uint8)
    for bit, mask in (
        (VEIN, synthesis.is_in(labels, synthesis.VEIN)),
        (ARTERY, synthesis.is_in(labels, synthesis.ARTERY)),
        (MUCOSA, synthesis.is_in(labels, synthesis.MUCOSA)),
        (DURA, dura),
        (SHEET, falx | tentorium),
        (PLEXUS, ventricle),
        (GLAND, gland),
        (FLUID, fluid),
    ):
        out |= mask.astype(np.uint8) * np.uint8(bit)
    return out


def draw_dose(rng: np.random.Generator) -> float:
    """Brightness of an enhancing sinus over white matter: a fourth of the doses are faint, late or washed out."""
    return float(rng.uniform(0.9, 1.3) if rng.random() < 0.25 else rng.uniform(1.25, 2.7))


def _blend(image: FloatArray, value: FloatArray, sigma: float) -> FloatArray:
    """Brighten `image` to `value` where that is above 0, with soft edges; nothing gets darker."""
    there = (value > 0).astype(np.float32)
    weight = ndimage.gaussian_filter(there, sigma, truncate=2.5)
    level = ndimage.gaussian_filter(value, sigma, truncate=2.5) / np.maximum(weight, 1e-3)
    soft = np.clip(1.6 * weight, 0, 1)
    return np.asarray(np.maximum(image, image * (1 - soft) + soft * level), dtype=np.float32)


def _spacing(anatomy: Anatomy) -> float:
    return float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))


def enhance(anatomy: Anatomy, image: FloatArray, dose: float, rng: np.random.Generator) -> FloatArray:
    """The image after an intravenous agent; `dose` as :func:`draw_dose`, white matter about 1."""
    where, shape = sites(anatomy), anatomy.labels.shape
    strength = min(dose / 1.6, 1.0)
    uneven = np.clip(1 + 0.25 * smooth_field(shape, rng, 8), 0.5, 1.3)
    value = np.zeros(shape, np.float32)

    def add(bit: int, low: float, high: float, part: Mask | None = None) -> None:
        mask = (where & np.uint8(bit)) > 0
        if part is not None:
            mask &= part
        level = uneven * np.float32(dose * rng.uniform(low, high))
        np.maximum(value, np.where(mask, level, 0), out=value)

    add(VEIN, 1.0, 1.0)
    add(ARTERY, 0.7, 1.1)
    add(MUCOSA, 0.6, 1.1, smooth_field(shape, rng, 9) > rng.uniform(-1.5, 0.8))
    if rng.random() < 0.85:
        add(GLAND, 0.7, 1.0)
    if rng.random() < 0.7:
        add(PLEXUS, 0.5, 0.9, smooth_field(shape, rng, 26) > rng.uniform(1.1, 1.7))
    if rng.random() < 0.6:
        # Dura is thin: what a voxel shows of it is a part.
        add(DURA, 0.35, 0.8, smooth_field(shape, rng, 9) > rng.uniform(-1.0, 1.0))
    if rng.random() < 0.6:
        add(SHEET, 0.35, 0.8, smooth_field(shape, rng, 7) > rng.uniform(-1.2, 0.5))
    # Cortical veins: thin tubes in the fluid between the gyri, where two random sheets cross.
    width, nodes = rng.uniform(0.10, 0.24), int(rng.integers(14, 26))
    tubes = (np.abs(smooth_field(shape, rng, nodes)) < width) & (np.abs(smooth_field(shape, rng, nodes)) < width)
    add(FLUID, 0.7, 1.0, tubes)
    image = _blend(image, value, 0.7 / _spacing(anatomy))
    # Muscle, skin and grey matter enhance a little.
    if rng.random() < 0.6:
        soft = synthesis.is_in(anatomy.labels, (507, 508, 511))
        gain = np.float32(strength * rng.uniform(0, 0.3))
        image = image * (1 + gain * (soft & (image < 0.9)))
    if rng.random() < 0.4:
        image = image + anatomy.grey.astype(np.float32) * np.float32(strength * rng.uniform(0, 0.06))
    return np.asarray(image, dtype=np.float32)


def pretend(anatomy: Anatomy, image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Bright vessels and linings without any agent: inflow, slow flow, secretions, fat beside the dura."""
    where, shape = sites(anatomy), anatomy.labels.shape
    value = np.zeros(shape, np.float32)

    def add(bit: int, level: float, part: Mask) -> None:
        np.maximum(value, np.where(((where & np.uint8(bit)) > 0) & part, np.float32(level), 0), out=value)

    if rng.random() < 0.45:
        add(ARTERY, rng.uniform(0.9, 2.0), smooth_field(shape, rng, 6) > rng.uniform(-1.0, 1.0))
    if rng.random() < 0.25:
        add(MUCOSA, rng.uniform(0.8, 1.6), smooth_field(shape, rng, 10) > 0.4)
    if rng.random() < 0.1:
        add(GLAND, rng.uniform(0.8, 1.1), smooth_field(shape, rng, 20) > 0.8)
    if rng.random() < 0.1:
        add(DURA, rng.uniform(0.6, 1.0), smooth_field(shape, rng, 12) > 1.6)
    if rng.random() < 0.08:
        # A sinus in which inflow lights up a short piece.
        add(VEIN, rng.uniform(0.7, 1.2), smooth_field(shape, rng, 8) > 1.5)
    return _blend(image, value, 0.7 / _spacing(anatomy)) if value.any() else image
