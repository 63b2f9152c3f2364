"""Straight rejects of every kind: images that claim to be a whole-brain T1w and are not.

Each maker returns the image on a grid and the reason, spelt as :class:`qc_node.domain.Reason`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import agent, artefacts, coil, other_contrasts, synthesis
from qc_node.training.brain_mri.simulation.compose import Look, compose
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]


@dataclass
class RejectSource:
    """Whose image is rejected, and what is drawn on the way.

    Attributes
    ----------
    flair
        The person's own real FLAIR, where there is one.
    depth
        Depth below the surface of the head, computed when first asked for and kept by the caller.
    notes
        Words for what was drawn.
    """

    anatomy: Anatomy
    flair: reg.Grid | None = None
    depth: coil.Depth | None = None
    notes: list[str] = field(default_factory=list)

    def depth_below(self) -> coil.Depth:
        """Depth in the person's head."""
        if self.depth is None:
            self.depth = coil.depth_of_person(self.anatomy)
        return self.depth


Maker = Callable[[RejectSource, synthesis.Priors, np.random.Generator], reg.Grid]


def _plain(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> FloatArray:
    """A T1w image of the person on their own grid, with and without agent, under any coil."""
    look = Look(bool(rng.random() < 0.5), float(rng.uniform(0.3, 1.1)), 1.0, agent.draw_dose(rng))
    if look.gadolinium:
        subject.notes.append("gadolinium faint" if look.dose < 1.3 else "gadolinium")
    image = compose(subject.anatomy, look, priors, rng, subject.notes)
    return _coiled(subject, image, rng)


def _coiled(subject: RejectSource, image: FloatArray, rng: np.random.Generator) -> FloatArray:
    receiver = coil.draw(rng)
    if receiver is None:
        return image
    subject.notes.append(receiver.name)
    return coil.over(image, subject.anatomy.affine, receiver, subject.depth_below())


def _own_coil(grid: reg.Grid, subject: RejectSource, rng: np.random.Generator) -> reg.Grid:
    """A coil around whatever is on the image (a bottle, a leg, a head on a grid of its own)."""
    receiver = coil.draw(rng)
    top = float(np.quantile(grid.values[::3, ::3, ::3], 0.98))
    if receiver is None or not top > 0:
        return grid
    subject.notes.append(receiver.name)
    depth = coil.depth_of(grid.values > 0.15 * top, grid.affine)
    return reg.Grid(coil.over(grid.values, grid.affine, receiver, depth), grid.affine)


def _finish(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    if rng.random() < 0.7:
        image = artefacts.add_noise(image, float(np.exp(rng.uniform(np.log(0.004), np.log(0.15)))), rng)
    if rng.random() < 0.4:
        image = artefacts.bias(image, rng, rng.uniform(0.03, 0.2))
    return image


def truncated(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """A field of view or a blanked region that loses at least a tenth of the brain at one side."""
    anatomy = subject.anatomy
    image = _finish(_plain(subject, priors, rng), rng)
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


def stripped(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Only the brain."""
    anatomy = subject.anatomy
    image = _plain(subject, priors, rng)
    tissue = synthesis.is_in(anatomy.labels, tuple(range(1, 24)) + tuple(range(25, 100))) | (
        (anatomy.white + anatomy.grey) > 0.4
    )
    tissue = ndimage.binary_closing(tissue, iterations=2)
    if rng.random() < 0.5:
        tissue = ndimage.binary_dilation(tissue, iterations=int(rng.integers(1, 4)))
    image = _finish(image, rng) if rng.random() < 0.6 else image
    return reg.Grid(np.asarray(image * tissue, dtype=np.float32), anatomy.affine)


def segmented(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Tissue maps and label maps."""
    anatomy = subject.anatomy
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


def other_sequence(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Another sequence of the whole head: the person's own FLAIR where there is one, or one by signal equation."""
    anatomy = subject.anatomy
    if subject.flair is not None and rng.random() < 0.6:
        subject.notes.append("real flair")
        top = float(np.quantile(subject.flair.values[::2, ::2, ::2], 0.9))
        grid = reg.Grid(subject.flair.values / max(top, 1e-3), subject.flair.affine)
        grid = _own_coil(grid, subject, rng)
        if rng.random() < 0.4:
            grid = other_contrasts.rethickened(grid, rng)
        return reg.Grid(_finish(grid.values, rng), grid.affine)
    kind, grid = other_contrasts.draw(anatomy, rng)
    subject.notes.append(kind)
    on_own_grid = kind != "dwi"
    grid = (
        reg.Grid(_coiled(subject, grid.values, rng), grid.affine) if on_own_grid else _own_coil(grid, subject, rng)
    )
    if on_own_grid and rng.random() < 0.06:
        inside = ndimage.binary_dilation((anatomy.white + anatomy.grey) > 0.3, iterations=2)
        grid = reg.Grid(grid.values * inside, grid.affine)
    values = _finish(grid.values, rng)
    grid = reg.Grid(values, grid.affine)
    if on_own_grid and kind != "tof" and rng.random() < 0.55:
        subject.notes.append("thick")
        grid = other_contrasts.rethickened(grid, rng)
    return grid


def not_brain(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """Phantoms, other body parts, a neck or a face alone, noise, nearly blank images."""
    anatomy = subject.anatomy
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
        image = _plain(subject, priors, rng)
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
    if kind != 5:
        grid = _own_coil(reg.Grid(np.asarray(image, dtype=np.float32), affine), subject, rng)
        return reg.Grid(_finish(grid.values, rng), affine)
    return reg.Grid(_finish(np.asarray(image, dtype=np.float32), rng), affine)


def turned(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """The header says one orientation, the voxels have another."""
    anatomy = subject.anatomy
    image = _finish(_plain(subject, priors, rng), rng)
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


def thick(subject: RejectSource, priors: synthesis.Priors, rng: np.random.Generator) -> reg.Grid:
    """A reformat of thick slices, handed over on a fine grid (so that the header hides it)."""
    anatomy = subject.anatomy
    image = _plain(subject, priors, rng)
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
    ("coverage", 0.21, truncated),
    ("skull_stripped", 0.12, stripped),
    ("segmented", 0.10, segmented),
    ("not_t1w", 0.33, other_sequence),
    ("not_brain", 0.11, not_brain),
    ("orientation", 0.07, turned),
    ("thick_slices", 0.06, thick),
)


def draw(
    anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator, subject: RejectSource | None = None
) -> tuple[str, reg.Grid]:
    """One straight reject: its reason and the image; `subject` knows more of the person than `anatomy`."""
    torch.set_num_threads(1)
    weights = np.array([m[1] for m in MAKERS])
    reason, _, maker = MAKERS[int(rng.choice(len(MAKERS), p=weights / weights.sum()))]
    return reason, maker(RejectSource(anatomy) if subject is None else subject, priors, rng)
