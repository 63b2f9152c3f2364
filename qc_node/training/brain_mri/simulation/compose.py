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

from qc_node.training.brain_mri.simulation import damage, synthesis
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


def paint_map(anatomy: Anatomy, priors: synthesis.Priors, rng: np.random.Generator) -> FloatArray:
    """A label map with freshly drawn tissue intensities, white matter about 1."""
    means, stds = synthesis.class_tables(priors, rng, spread=1.0)
    white = max(float(means[2]), 60.0)
    # Vendors differ most outside the brain: bone marrow and fat from dark to far brighter than brain.
    for group, low, high in (((516,), 0.3, 1.6), ((511,), 0.4, 1.5), ((507,), 0.5, 1.0), ((509,), 0.4, 1.0)):
        means[list(group)] = white * rng.uniform(low, high)
    image = means[anatomy.labels] / white
    texture = smooth_field(image.shape, rng, 40, 1.0) * (stds[anatomy.labels] / white) * rng.uniform(0.1, 0.4)
    image = image + np.clip(texture, -0.35, 0.35)
    # Subcutaneous and neck fat: patches of the unnamed tissue turn bright.
    fat = (smooth_field(image.shape, rng, 22, 1.0) > 0.25) & synthesis.is_in(anatomy.labels, (507,))
    image[fat] = rng.uniform(0.9, 2.0)
    return np.asarray(ndimage.gaussian_filter(np.clip(image, 0, None), rng.uniform(0.45, 0.8)), dtype=np.float32)


def compose(anatomy: Anatomy, look: Look, priors: synthesis.Priors, rng: np.random.Generator) -> FloatArray:
    """The image of a person with the given look, on their grid; white matter about 1."""
    image = paint_map(anatomy, priors, rng) if anatomy.image is None else anatomy.image.copy()
    labels = anatomy.labels
    white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
    if anatomy.kind == "hybrid":
        image = _dress(anatomy, image, priors, rng)
    if anatomy.kind == "head" and rng.random() < 0.5:
        # Other coils and fat suppressions: scalp and face brighter or darker than in this scanner.
        outside = ndimage.gaussian_filter(synthesis.is_in(labels, (511, 507, 516, 508)).astype(np.float32), 1.0)
        image = image * (1 + outside * np.float32(np.exp(rng.uniform(-0.7, 0.6)) - 1))
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
    image = _vessels(anatomy, image, look, rng)
    return np.asarray(image, dtype=np.float32)


def _dress(
    anatomy: Anatomy, brain_image: FloatArray, priors: synthesis.Priors, rng: np.random.Generator
) -> FloatArray:
    """Skull, scalp and face painted around a stripped real brain."""
    inside = ndimage.binary_erosion(brain_image > 0.15, iterations=1)
    soft = ndimage.gaussian_filter(ndimage.binary_closing(inside, iterations=3).astype(np.float32), 1.0)
    painted = paint_map(anatomy, priors, rng)
    return np.asarray(soft * brain_image + (1 - soft) * painted, dtype=np.float32)


def _soft(mask: npt.NDArray[np.bool_], sigma: float) -> FloatArray:
    soft = 1.6 * ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return np.asarray(np.clip(soft, 0, 1), dtype=np.float32)


def _vessels(anatomy: Anatomy, image: FloatArray, look: Look, rng: np.random.Generator) -> FloatArray:
    labels = anatomy.labels
    spacing = float(np.mean(np.linalg.norm(anatomy.affine[:3, :3], axis=0)))
    artery, vein = synthesis.is_in(labels, synthesis.ARTERY), synthesis.is_in(labels, synthesis.VEIN)
    mucosa = synthesis.is_in(labels, synthesis.MUCOSA)

    def brighten(target: FloatArray, mask: FloatArray, value: float) -> FloatArray:
        return np.asarray(np.maximum(target, target * (1 - mask) + mask * value), dtype=np.float32)

    if look.gadolinium:
        uneven = 1 + 0.25 * smooth_field(labels.shape, rng, 8)
        image = brighten(image, _soft(vein, 0.8 / spacing) * np.clip(uneven, 0.4, 1.3), look.dose)
        image = brighten(image, _soft(artery, 0.7 / spacing), look.dose * rng.uniform(0.7, 1.1))
        lining = mucosa & (smooth_field(labels.shape, rng, 9) > rng.uniform(-1.5, 0.8))
        image = brighten(image, _soft(lining, 0.7 / spacing), look.dose * rng.uniform(0.7, 1.1))
        # Cortical veins: thin tubes in the fluid between the gyri, where two random sheets cross.
        width = rng.uniform(0.10, 0.22)
        fluid = synthesis.is_in(labels, (24,))
        if anatomy.image is not None:
            fluid = fluid | (synthesis.is_in(labels, (3, 42)) & (image < 0.45))
        nodes = rng.integers(14, 26)
        tubes = (np.abs(smooth_field(labels.shape, rng, int(nodes))) < width) & (
            np.abs(smooth_field(labels.shape, rng, int(nodes))) < width
        )
        image = brighten(image, _soft(tubes & fluid, 0.6 / spacing), look.dose * rng.uniform(0.7, 1.0))
        # Extracranial soft tissue enhances a little.
        if rng.random() < 0.5:
            image = image * (1 + synthesis.is_in(labels, (508, 507)) * np.float32(rng.uniform(0, 0.2)))
    else:
        if rng.random() < 0.4:
            part = smooth_field(labels.shape, rng, 6) > rng.uniform(-1.0, 1.0)  # inflow: only upstream
            image = brighten(image, _soft(artery & part, 0.7 / spacing), rng.uniform(0.9, 1.9))
        if rng.random() < 0.2:
            part = smooth_field(labels.shape, rng, 10) > 0.6  # proteinaceous or fatty secretions
            image = brighten(image, _soft(mucosa & part, 0.7 / spacing), rng.uniform(0.8, 1.5))
    return image


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
