"""From a person's tissues to an image before the scanner spoils it: contrast, contrast agent, lesions.

Works on the person's own grid.  Gadolinium and image quality are drawn independently elsewhere, so that
neither becomes a cue for the other; and the class without gadolinium gets bright fat, inflow-bright
arteries, bright mucosa and now and then a bright lesion, so that "any bright voxel" is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.training.brain_mri.simulation import age, agent, damage, signal, synthesis
from qc_node.training.brain_mri.simulation.artefacts import smooth_field
from qc_node.training.brain_mri.simulation.tissues import Anatomy

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """What to paint.

    Attributes
    ----------
    gadolinium
        Enhancing vessels, sinuses, mucosa, possibly lesions.
    contrast_share
        Share of the white-grey difference that is left (1 = untouched, 0 = none, negative = inverted).
    gamma
        Exponent of a global grey-value curve.
    dose
        Brightness of enhancement in white-matter units.
    """

    gadolinium: bool
    contrast_share: float = 1.0
    gamma: float = 1.0
    dose: float = 1.5


_TISSUE_LABELS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("white", (*synthesis.WHITE, 85, 512, 530)),
    ("grey", synthesis.GREY),
    ("deep grey", (10, 11, 12, 13, 49, 50, 51, 52)),
    ("fluid", synthesis.FLUID),
    ("muscle", (507, 508)),
    ("marrow", (516,)),
    ("bone", (515,)),
    ("vitreous", synthesis.EYES),
    ("artery", synthesis.ARTERY),
    ("vein", (*synthesis.VEIN, 30, 62, 136, 137, 163, 164)),
    ("mucosa", synthesis.MUCOSA),
    ("skin", synthesis.SKIN),
    ("lesion", synthesis.LESION),
)
"""Labels of the tissues of :data:`.signal.NAMES`; fat has no label, see :func:`fat_of`."""

OUTSIDE = (511, 507, 516, 508)
"""Skin, fat and muscle, marrow: what coils and fat suppression change most."""


def label_table(levels: npt.NDArray[np.float64]) -> FloatArray:
    """Lookup table label -> signal, length 1024, from the signal of each tissue; 0 is air."""
    table = np.zeros(1024, np.float32)
    for name, group in _TISSUE_LABELS:
        table[list(group)] = levels[signal.NAMES.index(name)]
    return table


def fat_of(labels: npt.NDArray[np.int16], voxel: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Fat within the unnamed soft tissue: a layer below the skin and patches between the muscles."""
    soft = synthesis.is_in(labels, (507,))
    patches = smooth_field(labels.shape, rng, 22) > rng.uniform(0.0, 0.7)
    if rng.random() < 0.85:
        patches |= agent.grown(synthesis.is_in(labels, (511,)), max(1, round(rng.uniform(1.5, 6.0) / voxel)))
    return np.asarray(soft & patches)


def paint_map(
    anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator, notes: list[str] | None = None
) -> FloatArray:
    """A label map with freshly drawn tissue intensities, white matter about 1: measured ones or a sequence's."""
    voxel = float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    means, stds = synthesis.class_tables(priors, rng, spread=1.0)
    white = max(float(means[2]), 60.0)
    if rng.random() < 0.55:
        name, levels = signal.draw_t1w(signal.draw_tissues(rng), rng)
        # Flowing blood gives anything between nothing and all.
        for vessel in ("artery", "vein"):
            levels[signal.NAMES.index(vessel)] *= rng.uniform(0.1, 1.2)
        means = label_table(levels) * white
        fat = float(levels[signal.NAMES.index("fat")])
        fat = fat * rng.uniform(0.05, 0.4) if rng.random() < 0.3 else min(fat * rng.uniform(0.6, 1.7), 3.0)
        means[516] = white * fat * rng.uniform(0.4, 1.1)
        means[511] = white * rng.uniform(0.4, max(0.9, min(fat, 1.6)))
        _note(notes, name)
    else:
        # Vendors differ most outside the brain: bone marrow and fat from dark to far brighter than brain.
        for group, low, high in (((516,), 0.2, 1.9), ((511,), 0.3, 1.6), ((507,), 0.4, 1.0), ((509,), 0.4, 1.0)):
            means[list(group)] = white * rng.uniform(low, high)
        fat = float(np.exp(rng.uniform(np.log(0.2), np.log(3.0))))
    image = means[anatomy.labels] / white
    texture = smooth_field(image.shape, rng, 40, 1.0) * (stds[anatomy.labels] / white) * rng.uniform(0.1, 0.4)
    image = image + np.clip(texture, -0.35, 0.35)
    image[fat_of(anatomy.labels, voxel, rng)] = fat
    _note(notes, "fat bright" if fat > 1.6 else "fat dark" if fat < 0.5 else "")
    return np.asarray(ndimage.gaussian_filter(np.clip(image, 0, None), rng.uniform(0.45, 0.8)), dtype=np.float32)


def _note(notes: list[str] | None, word: str) -> None:
    if notes is not None and word:
        notes.append(word)


def compose(
    anatomy: Anatomy,
    look: Look,
    priors: synthesis.Priors,
    rng: np.random.Generator,
    notes: list[str] | None = None,
) -> FloatArray:
    """The image of a person with the given look, on their grid; white matter about 1.

    Words for what was drawn are appended to `notes`.
    """
    image = paint_map(anatomy, priors, rng, notes) if anatomy.image is None else anatomy.image.copy()
    white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
    if anatomy.kind == "hybrid":
        image = _dress(anatomy, image, priors, rng, notes)
    if anatomy.image is not None and rng.random() < 0.4:
        image = _as_sequence(anatomy, image, white, grey, rng, notes)
    if anatomy.kind == "head" and rng.random() < 0.65:
        image = _other_fat(anatomy, image, rng, notes)
    if look.contrast_share != 1.0:
        w_level, g_level = np.median(image[white > 0.9]), np.median(image[grey > 0.9])
        middle = g_level + rng.uniform(0.2, 0.9) * (w_level - g_level)
        pull = np.float32(1 - look.contrast_share)
        pulled = image + pull * (white * (middle - w_level) + grey * (middle - g_level))
        image = np.asarray(pulled, dtype=np.float32)
    if look.gamma != 1.0:
        image = np.clip(image, 0, None) ** np.float32(look.gamma)
    if rng.random() < 0.2:
        image = _lesions(anatomy, image, look.gadolinium, rng)
        _note(notes, "lesions")
    if rng.random() < 0.25:
        image = age.spotted(image, age.hyperintensities(anatomy, rng), rng.uniform(0.5, 0.8))
        _note(notes, "spots")
    if look.gadolinium:
        image = agent.enhance(anatomy, image, look.dose, rng)
    else:
        image = agent.pretend(anatomy, image, rng)
    return np.asarray(image, dtype=np.float32)


def _as_sequence(
    anatomy: Anatomy,
    image: FloatArray,
    white: FloatArray,
    grey: FloatArray,
    rng: np.random.Generator,
    notes: list[str] | None,
) -> FloatArray:
    """A real image with the brain's levels moved to those of a drawn sequence; texture and edges stay."""
    name, levels = signal.draw_t1w(signal.draw_tissues(rng), rng)
    w_level, g_level = float(np.median(image[white > 0.9])), float(np.median(image[grey > 0.9]))
    wanted = dict(zip(signal.NAMES, levels, strict=True))
    fluid = np.clip(1 - white - grey, 0, 1) * synthesis.is_in(anatomy.labels, synthesis.FLUID) * (image < 0.6)
    f_level = float(np.median(image[fluid > 0.9])) if (fluid > 0.9).sum() > 500 else wanted["fluid"]
    moved = image + grey * np.float32(wanted["grey"] * w_level - g_level)
    moved += fluid * np.float32(wanted["fluid"] * w_level - f_level)
    _note(notes, name)
    return np.asarray(np.clip(moved, 0, None), dtype=np.float32)


def fat_level(anatomy: Anatomy, image: FloatArray) -> float:
    """How bright fat is in a real head: 95th percentile of the soft tissue outside the skull."""
    outer = image[::3, ::3, ::3][synthesis.is_in(anatomy.labels[::3, ::3, ::3], (507, 511))]
    return float(np.clip(np.quantile(outer, 0.95), 0.5, 3.0)) if outer.size > 100 else 1.0


def _other_fat(
    anatomy: Anatomy, image: FloatArray, rng: np.random.Generator, notes: list[str] | None
) -> FloatArray:
    """Another fat brightness, from suppressed to three times white matter; muscle changes less."""
    own = fat_level(anatomy, image)
    fat = float(np.exp(rng.uniform(np.log(0.25), np.log(3.0))))
    # Bright voxels outside the brain are fat and marrow; darker ones hold part of it.
    share = np.clip((image / own - 0.3) / 0.5, 0, 1) * synthesis.is_in(anatomy.labels, OUTSIDE)
    _note(notes, "fat bright" if fat > 1.6 else "fat dark" if fat < 0.5 else "")
    return np.asarray(image * (1 + share * np.float32(fat / own - 1)), dtype=np.float32)


def _dress(
    anatomy: Anatomy,
    brain_image: FloatArray,
    priors: synthesis.Priors,
    rng: np.random.Generator,
    notes: list[str] | None,
) -> FloatArray:
    """Skull, scalp and face painted around a stripped real brain."""
    inside = ndimage.binary_erosion(brain_image > 0.15, iterations=1)
    soft = ndimage.gaussian_filter(ndimage.binary_closing(inside, iterations=3).astype(np.float32), 1.0)
    painted = paint_map(anatomy, priors, rng, notes)
    return np.asarray(soft * brain_image + (1 - soft) * painted, dtype=np.float32)


def _lesions(anatomy: Anatomy, image: FloatArray, gadolinium: bool, rng: np.random.Generator) -> FloatArray:
    inside = np.argwhere(anatomy.white[::3, ::3, ::3] > 0.8) * 3
    if len(inside) < 50:
        return image
    spacing = np.linalg.norm(anatomy.affine[:3, :3], axis=0)[::-1]
    out = image.copy()
    for _ in range(int(rng.integers(1, 5))):
        centre, radius = inside[rng.integers(len(inside))], rng.uniform(2.5, 12.0)
        reach = np.ceil(1.6 * radius / spacing).astype(int)
        low = np.maximum(centre - reach, 0)
        high = np.minimum(centre + reach + 1, image.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = [(np.arange(a, b) - c) * s for a, b, c, s in zip(low, high, centre, spacing, strict=True)]
        r = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
        r = r * (1 + 0.15 * smooth_field(r.shape, rng, 4))
        core = 1 / (1 + np.exp((r - radius) / 0.8))
        if gadolinium and rng.random() < 0.6:
            ring = np.exp(-((r - radius) ** 2) / 2.0) if rng.random() < 0.5 else core
            out[box] += core * (0.5 - out[box]) * 0.5 + ring * rng.uniform(0.3, 1.0)
        else:
            # Oedema, old infarct: dark.  Rarely blood or fat: bright without any agent.
            value = rng.uniform(1.1, 1.6) if rng.random() < 0.15 else rng.uniform(0.25, 0.7)
            out[box] += core * (value - out[box]) * rng.uniform(0.5, 1.0)
    return out


def draw_share(rng: np.random.Generator) -> float:
    """Share of the white-grey difference that is left: three levels aimed at, the measure decides."""
    low, high = ((0.7, 1.15), (0.08, 0.4), (-0.35, 0.1))[int(rng.choice(3, p=[0.4, 0.3, 0.3]))]
    return float(rng.uniform(low, high))


def pull(
    image: FloatArray, white: FloatArray, grey: FloatArray, share: float, rng: np.random.Generator
) -> FloatArray:
    """Pull white and grey matter together; works on volumes and on slices."""
    w_level, g_level = damage.tissue_levels(image, white, grey)
    if not np.isfinite(w_level - g_level):
        return image
    middle = g_level + rng.uniform(0.2, 0.9) * (w_level - g_level)
    part = np.float32(1 - share)
    return np.asarray(image + part * (white * (middle - w_level) + grey * (middle - g_level)), dtype=np.float32)


def relook(
    slices: FloatArray, tissues: tuple[FloatArray, FloatArray, FloatArray], share: float, rng: np.random.Generator
) -> FloatArray:
    """Another tissue contrast, now and then another grey-value curve or a faded window; of slices or a volume."""
    image = pull(slices, tissues[0], tissues[1], share, rng)
    if rng.random() < 0.4:
        image = np.clip(image, 0, None) ** np.float32(np.exp(rng.normal(0, 0.15)))
    if rng.random() < 0.06:
        # Everything fades towards grey, air included: a window baked into the voxels.
        image = image + np.float32(rng.uniform(0.2, 1.5)) * float(image[tissues[2] > 0.9].mean())
    return image
