"""Whole heads that are not T1-weighted, by signal equation: T2, FLAIR, PD, DWI, SWI, TOF, parts of MP2RAGE, STIR.

Everything outside the brain is there: fat, muscle, eyes, vessels, mucosa.  Thick slices that somebody resampled
to a fine grid are half of them, because that is what arrives without header words.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import interpolate, ndimage

from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import age, agent, artefacts, compose, signal, synthesis
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float64]

_AT = {name: n for n, name in enumerate(signal.NAMES)}


def _flair(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    tr = float(rng.uniform(5000, 11000))
    ti = signal.null_time(float(t.t1[_AT["fluid"]]), tr) * float(rng.uniform(0.92, 1.05))
    levels = np.abs(signal.inversion_spin_echo(t.t1, t.t2, t.density, tr, float(rng.uniform(80, 140)), ti))
    return _fat(levels, rng, 0.4)


def _t2(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    levels = signal.spin_echo(t.t1, t.t2, t.density, float(rng.uniform(2500, 7000)), float(rng.uniform(70, 130)))
    return _fat(levels, rng, 0.25)


def _pd(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    levels = signal.spin_echo(t.t1, t.t2, t.density, float(rng.uniform(1800, 5000)), float(rng.uniform(8, 35)))
    return _fat(levels, rng, 0.25)


def _stir(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    tr = float(rng.uniform(2500, 6000))
    ti = signal.null_time(float(t.t1[_AT["fat"]]), tr) * float(rng.uniform(0.9, 1.1))
    return np.abs(signal.inversion_spin_echo(t.t1, t.t2, t.density, tr, float(rng.uniform(8, 60)), ti))


def _dwi(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    levels = signal.spin_echo(t.t1, t.t2, t.density, float(rng.uniform(3500, 9000)), float(rng.uniform(60, 105)))
    b = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.6, 1.3))  # ms/um^2
    levels = levels * np.exp(-b * t.diffusivity)
    levels[[_AT["fat"], _AT["marrow"]]] *= rng.uniform(0.02, 0.3)
    return levels


def _swi(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    levels = signal.spoiled_echo(t.t1, t.density, float(rng.uniform(25, 600)), float(rng.uniform(10, 25)))
    levels = levels * np.exp(-float(rng.uniform(15, 32)) / t.t2_star)
    levels[_AT["vein"]] *= rng.uniform(0.1, 0.5)
    levels[_AT["artery"]] *= rng.uniform(0.8, 2.0)
    return levels


def _tof(t: signal.Tissues, rng: np.random.Generator) -> Levels:
    tr, flip = float(rng.uniform(18, 32)), float(rng.uniform(15, 25))
    levels = signal.spoiled_echo(t.t1, t.density, tr, flip)
    # Magnetisation transfer takes tissue down, most of all white matter; blood flows in fully relaxed.
    levels[[_AT["white"], _AT["grey"], _AT["deep grey"], _AT["muscle"]]] *= (0.7, 0.8, 0.78, 0.65)
    fresh = t.density[_AT["artery"]] * np.sin(np.radians(flip))
    levels[_AT["artery"]] = fresh * rng.uniform(0.5, 1.0)
    levels[_AT["vein"]] *= rng.uniform(0.3, 1.5)
    return _fat(levels, rng, 0.4)


def _mp2rage(t: signal.Tissues, rng: np.random.Generator) -> list[Levels]:
    pulses, spacing = int(rng.integers(110, 170)), float(rng.uniform(5.8, 7.2))
    first = float(rng.uniform(0.5 * pulses * spacing + 60, 900))
    second = float(rng.uniform(2200, 3200))
    flips = float(rng.uniform(4, 7)), float(rng.uniform(4, 6))
    trains = [signal.Readout(m, f, pulses, spacing) for m, f in zip((first, second), flips, strict=True)]
    return signal.inversion_trains(t.t1, t.density, float(rng.uniform(4500, 6500)), trains)


def _fat(levels: Levels, rng: np.random.Generator, suppressed: float) -> Levels:
    """Fat and marrow between suppressed and half as bright again: coupled spins in trains, water excitation."""
    factor = rng.uniform(0.03, 0.4) if rng.random() < suppressed else rng.uniform(0.6, 1.5)
    levels[[_AT["fat"], _AT["marrow"]]] *= factor
    return levels


KINDS: tuple[tuple[str, float], ...] = (
    ("flair", 0.34),
    ("t2", 0.16),
    ("pd", 0.08),
    ("dwi", 0.09),
    ("swi", 0.08),
    ("tof", 0.07),
    ("inv1", 0.04),
    ("inv2", 0.04),
    ("uni", 0.05),
    ("stir", 0.05),
)
"""Kinds of image and their shares."""
_MAKERS: dict[str, Callable[[signal.Tissues, np.random.Generator], Levels]] = {
    "flair": _flair,
    "t2": _t2,
    "pd": _pd,
    "dwi": _dwi,
    "swi": _swi,
    "tof": _tof,
    "stir": _stir,
}


def paint(anatomy: Anatomy, levels: Levels, rng: np.random.Generator) -> FloatArray:
    """The head of `anatomy` with the signal of each tissue; real heads lend their texture outside the brain."""
    labels = anatomy.labels
    voxel = float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    image = compose.label_table(levels)[labels]
    if anatomy.image is None or anatomy.kind == "hybrid":
        image[compose.fat_of(labels, voxel, rng)] = levels[_AT["fat"]]
    if anatomy.image is not None:
        white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
        fluid = np.clip(1 - white - grey, 0, 1)
        brain = white * np.float32(levels[0]) + grey * np.float32(levels[1]) + fluid * np.float32(levels[3])
        if anatomy.kind == "hybrid":
            inside = anatomy.image > 0.15
        else:
            inside = ((labels > 0) & (labels < 100)) | ((white + grey) > 0.5)
            own = compose.fat_level(anatomy, anatomy.image)
            knots = [0, 0.12, 0.2 + 0.15 * own, 0.5 + 0.2 * own, max(own, 0.9)]
            muscle, fat = levels[_AT["muscle"]], levels[_AT["fat"]]
            values = [0.0, levels[_AT["bone"]], muscle, 0.5 * (muscle + fat), fat]
            soft = ~inside & ~synthesis.is_in(labels, (*synthesis.EYES, *synthesis.ARTERY, *synthesis.VEIN))
            image[soft] = np.interp(anatomy.image[soft], knots, values)
            image[(labels == 0) & (anatomy.image < 0.12)] = 0
        image[inside] = brain[inside]
    image = ndimage.gaussian_filter(image.astype(np.float32), rng.uniform(0.45, 0.8), truncate=3.0)
    return np.asarray(image * (1 + 0.05 * artefacts.smooth_field(labels.shape, rng, 30)), dtype=np.float32)


def draw(anatomy: Anatomy, rng: np.random.Generator, kind: str | None = None) -> tuple[str, reg.Grid]:
    """A whole head in another sequence: its kind (of :data:`KINDS`) and the image, white matter about 1."""
    names, weights = zip(*KINDS, strict=True)
    kind = str(rng.choice(names, p=weights)) if kind is None else kind
    tissue = signal.draw_tissues(rng)
    if kind in ("inv1", "inv2", "uni"):
        return kind, reg.Grid(_mp2rage_part(anatomy, _mp2rage(tissue, rng), kind, rng), anatomy.affine)
    levels = _MAKERS[kind](tissue, rng)
    levels = levels / max(float(levels[0]), 0.15 * float(np.median(levels)), 1e-6)
    image = paint(anatomy, levels, rng)
    if kind in ("flair", "t2", "pd", "dwi") and rng.random() < 0.5:
        image = age.spotted(image, age.hyperintensities(anatomy, rng), float(levels[_AT["lesion"]]))
    if kind in ("flair", "stir", "swi") and rng.random() < 0.25:
        image = agent.enhance(anatomy, image, agent.draw_dose(rng), rng)
    if kind == "swi":
        image = _susceptible(anatomy, image, rng)
    if kind == "dwi":
        return kind, _echo_planar(anatomy, image, rng)
    return kind, reg.Grid(image, anatomy.affine)


def _mp2rage_part(anatomy: Anatomy, pair: list[Levels], kind: str, rng: np.random.Generator) -> FloatArray:
    scale = float(np.abs(pair[1][0]))
    if kind != "uni":
        return paint(anatomy, np.abs(pair[0 if kind == "inv1" else 1]) / scale, rng)
    # The ratio of two images: where there is no signal, it is a ratio of noise.
    same = int(rng.integers(1 << 31))
    first, second = (paint(anatomy, levels / scale, np.random.default_rng(same)) for levels in pair)
    sigma = np.float32(np.exp(rng.uniform(np.log(0.01), np.log(0.06))))
    first = first + sigma * rng.standard_normal(first.shape, dtype=np.float32)
    second = second + sigma * rng.standard_normal(first.shape, dtype=np.float32)
    return signal.uniform_image(first, second) + np.float32(0.5)


def _susceptible(anatomy: Anatomy, image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Signal lost near air: above the sinuses and the ears, and thin dark veins in the brain."""
    shape = anatomy.labels.shape
    air = synthesis.is_in(anatomy.labels, synthesis.MUCOSA)[::3, ::3, ::3].astype(np.float32)
    voxel = 3 * float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    near = np.clip(rng.uniform(1.5, 3.5) * ndimage.gaussian_filter(air, rng.uniform(5, 9) / voxel), 0, 1)
    step = np.diag([1 / 3, 1 / 3, 1 / 3, 1.0])
    nodes, width = int(rng.integers(18, 30)), rng.uniform(0.06, 0.12)
    veins = np.abs(artefacts.smooth_field(shape, rng, nodes)) < width
    veins &= np.abs(artefacts.smooth_field(shape, rng, nodes)) < width
    veins &= (anatomy.white + anatomy.grey) > 0.5
    image = image * (1 - artefacts.resample(near, step, shape))
    return np.asarray(image * np.where(veins, np.float32(rng.uniform(0.3, 0.7)), 1), dtype=np.float32)


def _echo_planar(anatomy: Anatomy, image: FloatArray, rng: np.random.Generator) -> reg.Grid:
    """Coarse, blurred along the phase axis, shifted near air, as echo-planar images are."""
    affine, shape = anatomy.affine, image.shape
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    across = int(np.argmax(np.abs(affine[2, :3])))  # slices are axial
    wanted = np.full(3, rng.uniform(1.6, 2.8))
    wanted[across] = rng.uniform(2.5, 5.0)
    size = np.maximum(np.round(np.array(shape[::-1]) * spacing / wanted).astype(int), 8)
    step = np.diag([*(np.array(shape[::-1]) / size), 1.0])
    step[:3, 3] = (np.diag(step)[:3] - 1) / 2
    sigma = 0.42 * np.diag(step)[:3][::-1]
    coarse = artefacts.resample(ndimage.gaussian_filter(image, sigma, truncate=2.5), step, size[::-1].tolist())
    phase = 2 - int(np.argmax(np.abs(affine[1, :3])))
    below = agent.frame_axis(anatomy, 2)[::4, ::4, ::4]
    low = artefacts.resample(below, np.diag([0.25, 0.25, 0.25, 1.0]) @ step, coarse.shape)
    amount = rng.uniform(0, 5) * artefacts.smooth_field(coarse.shape, rng, 6) / (1 + np.exp((low + 10) / 15))
    where = list(np.indices(coarse.shape, dtype=np.float32))
    where[phase] += amount
    moved = ndimage.map_coordinates(coarse, where, order=1, mode="nearest")
    pile = np.clip(1 + np.gradient(amount, axis=phase), 0.3, 2.5)
    return reg.Grid(np.asarray(moved * pile, dtype=np.float32), affine @ step)


def rethickened(grid: reg.Grid, rng: np.random.Generator) -> reg.Grid:
    """The image as slices of 4 to 6 mm (mostly axial), resampled to a fine grid: nearest, linear or cubic."""
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    upright = 2 - int(np.argmax(np.abs(grid.affine[2, :3])))
    axis = upright if rng.random() < 0.7 else int(rng.integers(0, 3))
    factor = max(2, round(rng.uniform(4.0, 6.0) / float(spacing[2 - axis])))
    n = grid.values.shape[axis] // factor
    if n < 6:
        return grid
    thick = artefacts.thick_slices(grid.values, axis, factor)
    how = str(rng.choice(["nearest", "linear", "cubic"]))
    at = (np.arange(n * factor) - (factor - 1) / 2) / factor
    if how == "nearest":
        values = np.repeat(thick, factor, axis)
    else:
        # Rows of an interpolation matrix: one product instead of a spline in three dimensions.
        basis = np.eye(n)
        at = np.clip(at, 0, n - 1)
        matrix = (
            np.stack([np.interp(at, np.arange(n), row) for row in basis], 1)
            if how == "linear"
            else interpolate.CubicSpline(np.arange(n), basis, bc_type="natural")(at)
        ).astype(np.float32)
        values = np.moveaxis(np.tensordot(matrix, thick, (1, axis)), 0, axis)
    return reg.Grid(np.ascontiguousarray(values, dtype=np.float32), grid.affine)
