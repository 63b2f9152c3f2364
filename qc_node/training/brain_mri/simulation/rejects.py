"""Straight rejects of every kind: images that claim to be a whole-brain T1w and are not.

Each maker returns the image on a grid and the reason, spelt as :class:`qc_node.domain.Reason`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import artefacts, synthesis
from qc_node.training.brain_mri.simulation.compose import Look, compose
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]
Maker = Callable[[Anatomy, synthesis.Priors, np.random.Generator], reg.Grid]


def _plain(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> FloatArray:
    look = Look(bool(rng.random() < 0.5), float(rng.uniform(0.3, 1.1)), 1.0, rng.uniform(1.2, 2.2))
    return compose(anatomy, look, priors, rng)


def _finish(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    if rng.random() < 0.7:
        image = artefacts.add_noise(image, float(np.exp(rng.uniform(np.log(0.004), np.log(0.15)))), rng)
    if rng.random() < 0.4:
        image = artefacts.bias(image, rng, rng.uniform(0.03, 0.2))
    return image


def truncated(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """A field of view or a blanked region that loses at least a tenth of the brain at one side."""
    image = _finish(_plain(anatomy, priors, rng), rng)
    brain = (anatomy.white + anatomy.grey) > 0.5
    axis = int(rng.integers(0, 3))
    profile = np.cumsum(brain.sum(tuple(a for a in range(3) if a != axis)))
    share = rng.uniform(0.1, 0.6)
    at_end = rng.random() < 0.5
    cut = int(np.searchsorted(profile, profile[-1] * (1 - share if at_end else share)))
    if rng.random() < 0.65:
        part = [slice(None)] * 3
        part[axis] = slice(0, max(cut, 8)) if at_end else slice(min(cut, image.shape[axis] - 8), None)
        affine = anatomy.affine.copy()
        offset = np.zeros(3)
        offset[2 - axis] = part[axis].start or 0
        affine[:3, 3] = affine[:3, :3] @ offset + affine[:3, 3]
        return reg.Grid(np.ascontiguousarray(image[tuple(part)]), affine)
    view = np.moveaxis(image, axis, 0)
    (view[cut:] if at_end else view[:cut])[...] = 0
    return reg.Grid(image, anatomy.affine)


def stripped(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Only the brain."""
    image = _plain(anatomy, priors, rng)
    tissue = synthesis.is_in(anatomy.labels, tuple(range(1, 24)) + tuple(range(25, 100))) | (
        (anatomy.white + anatomy.grey) > 0.4
    )
    tissue = ndimage.binary_closing(tissue, iterations=2)
    if rng.random() < 0.5:
        tissue = ndimage.binary_dilation(tissue, iterations=int(rng.integers(1, 4)))
    image = _finish(image, rng) if rng.random() < 0.6 else image
    return reg.Grid(np.asarray(image * tissue, dtype=np.float32), anatomy.affine)


def segmented(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Tissue maps and label maps."""
    white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
    fluid = synthesis.is_in(anatomy.labels, synthesis.FLUID).astype(np.float32)
    kind = rng.integers(0, 5)
    if kind == 0:
        image = [white, grey, fluid][int(rng.integers(0, 3))]
    elif kind == 1:
        image = 3.0 * (white > 0.5) + 2.0 * (grey > 0.5) + (fluid > 0.5)
    elif kind == 2:
        table = rng.random(1024).astype(np.float32)
        table[0] = 0
        image = table[anatomy.labels]
    elif kind == 3:
        image = 1.0 * ((white + grey + fluid) > 0.5)
    else:
        image = 3 * white + 2 * grey + fluid
    if rng.random() < 0.4:
        image = ndimage.gaussian_filter(image, rng.uniform(0.4, 1.5))
    return reg.Grid(np.asarray(image, dtype=np.float32), anatomy.affine)


def other_sequence(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """T2, FLAIR, proton density or diffusion-like contrast, whole head."""
    # White, grey, fluid, marrow and fat, muscle, bone: relative brightness.
    looks = {
        "t2": (0.45, 0.7, 1.6, 0.9, 0.4, 0.05),
        "flair": (0.75, 1.0, 0.15, 0.8, 0.5, 0.05),
        "pd": (0.75, 0.95, 1.05, 0.9, 0.6, 0.08),
        "dwi": (0.7, 0.9, 0.3, 0.1, 0.1, 0.02),
        "t2star": (0.7, 0.85, 1.2, 0.3, 0.5, 0.02),
    }
    name = str(rng.choice(list(looks)))
    w, g, f, fat, muscle, bone = (v * rng.uniform(0.85, 1.15) for v in looks[name])
    labels = anatomy.labels
    if anatomy.image is None or rng.random() < 0.4:
        table = np.zeros(1024, np.float32)
        for group, value in (
            (synthesis.WHITE, w),
            (synthesis.GREY, g),
            (synthesis.FLUID, f),
            ((516, 511, 507), fat),
            ((508, 509, 512, 530), muscle),
            ((515,), bone),
            (synthesis.EYES, f),
            ((502, 514), 0.3),
            (synthesis.LESION, 1.3 * g),
        ):
            table[list(group)] = value
        image = ndimage.gaussian_filter(table[labels], rng.uniform(0.5, 1.0))
    else:
        white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
        brain = np.clip(white + grey, 0, 1)
        rest = anatomy.image
        fluid = np.clip(1 - rest, 0, 1) * ndimage.maximum_filter(brain, 5) * (1 - brain)
        image = white * w + grey * g + fluid * f + (1 - np.clip(brain + fluid, 0, 1)) * rest * fat
    image = image * (1 + 0.05 * artefacts.smooth_field(labels.shape, rng, 30))
    if rng.random() < 0.3:
        inside = ndimage.binary_dilation((anatomy.white + anatomy.grey) > 0.3, iterations=2)
        image = image * inside
    return reg.Grid(_finish(np.asarray(image, dtype=np.float32), rng), anatomy.affine)


def not_brain(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Phantoms, other body parts, a neck or a face alone, noise, nearly blank images."""
    n = int(rng.integers(70, 150))
    spacing = float(rng.uniform(1.0, 3.0))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * n / 2 + rng.normal(0, 20, 3)
    z, y, x = (a.astype(np.float32) for a in np.meshgrid(*[np.linspace(-1, 1, n)] * 3, indexing="ij"))
    kind = rng.integers(0, 6)
    if kind == 0:  # bottle or sphere with inserts
        scale = rng.uniform(0.5, 0.9, 3)
        r = np.sqrt((x / scale[0]) ** 2 + (y / scale[1]) ** 2 + ((z / scale[2]) ** 2 if rng.random() < 0.6 else 0))
        image = ((r < 1) & (np.abs(z) < 0.9)).astype(np.float32)
        for _ in range(int(rng.integers(0, 12))):
            c = rng.uniform(-0.5, 0.5, 3)
            d = (x - c[0]) ** 2 + (y - c[1]) ** 2 + ((z - c[2]) ** 2 if rng.random() < 0.5 else 0)
            image[d < rng.uniform(0.02, 0.2) ** 2] = rng.uniform(0, 2)
    elif kind in (1, 2):  # trunk or limb: ellipses along z, organs, a spine
        a, b = rng.uniform(0.4, 0.95), rng.uniform(0.3, 0.9)
        wobble = 1 + 0.1 * artefacts.smooth_field(z.shape, rng, 4)
        body = (x / a) ** 2 + (y / b) ** 2 < wobble
        organs = artefacts.smooth_field(z.shape, rng, int(rng.integers(5, 14)))
        image = body * (0.5 + 0.3 * np.tanh(2 * organs) + 0.1 * artefacts.smooth_field(z.shape, rng, 30))
        rim = body & ((x / a) ** 2 + (y / b) ** 2 > 0.8 * wobble)
        image[rim] = rng.uniform(0.2, 1.5)
        if rng.random() < 0.6:
            spine = (x**2 + (y - 0.5 * b) ** 2 < 0.02) & (np.sin(z * rng.uniform(15, 40)) > -0.6)
            image[spine] = rng.uniform(0.6, 1.4)
    elif kind == 3:  # noise, with or without a faint blob
        image = rng.uniform(0, 0.3) * np.exp(-3 * (x**2 + y**2 + z**2))
        image = artefacts.add_noise(image.astype(np.float32), rng.uniform(0.1, 0.5), rng)
    elif kind == 4:  # random smooth tissue-like blobs
        image = np.clip(artefacts.smooth_field(z.shape, rng, int(rng.integers(3, 20))), 0, 2)
    else:  # the lower part of a head: face, neck
        image = _plain(anatomy, priors, rng)
        m = np.linalg.inv(anatomy.matrix)
        k = np.arange(image.shape[0])[:, None, None]
        j = np.arange(image.shape[1])[None, :, None]
        i = np.arange(image.shape[2])[None, None, :]
        index_to_z = (m @ anatomy.affine)[2]
        height = index_to_z[0] * i + index_to_z[1] * j + index_to_z[2] * k + index_to_z[3]
        image = np.where(height < rng.uniform(-50, -25), image, 0.0)
        keep = np.flatnonzero((image > 0.05).any((1, 2)))
        if keep.size > 20 and rng.random() < 0.7:
            affine = anatomy.affine.copy()
            affine[:3, 3] = affine[:3, :3] @ np.array([0, 0, keep[0]]) + affine[:3, 3]
            return reg.Grid(_finish(np.asarray(image[keep[0] : keep[-1]], dtype=np.float32), rng), affine)
        affine = anatomy.affine
    return reg.Grid(_finish(np.asarray(image, dtype=np.float32), rng), affine)


def turned(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """The header says one orientation, the voxels have another."""
    image = _finish(_plain(anatomy, priors, rng), rng)
    spacing = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    kind = rng.integers(0, 3)
    if kind == 0:
        axis = int(rng.choice([0, 1] if abs(anatomy.affine[2, 2]) > 0.5 * spacing[2] else [0, 1, 2]))
        return reg.Grid(np.ascontiguousarray(np.flip(image, axis)), anatomy.affine)
    axes = [(0, 1), (0, 2), (1, 2)][int(rng.integers(0, 3))]
    if kind == 1:
        return reg.Grid(np.ascontiguousarray(np.rot90(image, 1, axes)), anatomy.affine)
    vector = rng.normal(size=3)
    vector *= np.radians(rng.uniform(48, 150)) / np.linalg.norm(vector)
    size = np.array(image.shape[::-1]) * spacing
    turn = np.eye(4)
    turn[:3, :3] = reg.rotation(vector)
    middle = anatomy.affine[:3, :3] @ (np.array(image.shape[::-1]) / 2) + anatomy.affine[:3, 3]
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    del size
    return reg.Grid(image, turn @ anatomy.affine)


def thick(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """A reformat of thick slices, handed over on a fine grid (so that the header hides it)."""
    image = _plain(anatomy, priors, rng)
    spacing = np.linalg.norm(anatomy.affine[:3, :3], axis=0)[::-1]
    axis = int(rng.integers(0, 3))
    factor = max(2, round(rng.uniform(4.5, 7.0) / float(spacing[axis])))
    n = image.shape[axis] // factor * factor
    part = [slice(None)] * 3
    part[axis] = slice(0, n)
    averaged = artefacts.thick_slices(image[tuple(part)], axis, factor)
    if rng.random() < 0.5:
        coarse = np.repeat(averaged, factor, axis)
    else:
        coarse = ndimage.zoom(averaged, [factor if a == axis else 1 for a in range(3)], order=1)
    return reg.Grid(_finish(np.ascontiguousarray(coarse, dtype=np.float32), rng), anatomy.affine)


MAKERS: tuple[tuple[str, float, Maker], ...] = (
    ("coverage", 0.24, truncated),
    ("skull_stripped", 0.15, stripped),
    ("segmented", 0.15, segmented),
    ("not_t1w", 0.2, other_sequence),
    ("not_brain", 0.14, not_brain),
    ("orientation", 0.06, turned),
    ("thick_slices", 0.06, thick),
)


def draw(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> tuple[str, reg.Grid]:
    """One straight reject: its reason and the image."""
    torch.set_num_threads(1)
    weights = np.array([m[1] for m in MAKERS])
    reason, _, maker = MAKERS[int(rng.choice(len(MAKERS), p=weights / weights.sum()))]
    return reason, maker(anatomy, priors, rng)
