"""People as tissue: what artefacts and contrast agent are applied to.

For a label map the tissues are given.  For a real head a label map is bent onto it (affine through the
average head, then diffeomorphic demons) to learn where sinuses, arteries, mucosa and the brain are, and
grey and white matter are then separated by the head's own intensities inside the bent brain.  A stripped
real brain gets the bent map's skull, scalp and face around it ("hybrid"), so that real texture of further
scanners can be trained on.

Everything here is derived from one person's image: it is cached outside the repository and never shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.values import clean_values
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.simulation import artefacts, synthesis

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One person on their own grid; known by identity, so that what is derived from one can be kept beside it.

    Attributes
    ----------
    person, kind
        Who, and ``"head"``, ``"hybrid"`` or ``"map"``.
    image
        T1w, white matter about 1, ``(K, J, I)`` float32; for a map None (it is painted anew each time).
    labels
        ``(K, J, I)`` int16; for a real head the bent label map.
    white, grey
        Share of the tissue in each voxel, [0, 1], float16.
    affine
        ``(i, j, k, 1)`` to LPS mm.
    matrix
        Transform from the average head's frame to this image.
    """

    person: str
    kind: str
    image: FloatArray | None
    labels: npt.NDArray[np.int16]
    white: npt.NDArray[np.float16]
    grey: npt.NDArray[np.float16]
    affine: Matrix
    matrix: Matrix

    def save(self, path: Path) -> None:
        """Write to a cache folder."""
        extra: dict[str, Any] = {} if self.image is None else {"image": self.image.astype(np.float16)}
        np.savez(
            path,
            labels=self.labels,
            white=self.white,
            grey=self.grey,
            affine=self.affine,
            matrix=self.matrix,
            person=self.person,
            kind=self.kind,
            **extra,
        )

    @classmethod
    def load(cls, path: Path) -> Anatomy:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as f:
            return cls(
                person=str(f["person"]),
                kind=str(f["kind"]),
                image=f["image"].astype(np.float32) if "image" in f.files else None,
                labels=f["labels"],
                white=f["white"],
                grey=f["grey"],
                affine=f["affine"],
                matrix=f["matrix"],
            )


def lighter(anatomy: Anatomy, limit: int = 6_200_000) -> Anatomy:
    """The same person on a coarser grid where the own one has more voxels than `limit`."""
    shape = np.array(anatomy.labels.shape)
    if shape.prod() <= limit:
        return anatomy
    factor = float((shape.prod() / (0.8 * limit)) ** (1 / 3))
    size = tuple(int(n) for n in shape / factor)
    step = np.diag([*(np.array(shape, dtype=float) / size)[::-1], 1.0])
    step[:3, 3] = (np.diag(step)[:3] - 1) / 2
    nearest = np.ix_(
        *(np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1) for m, n in zip(size, shape, strict=True))
    )
    image = anatomy.image
    return Anatomy(
        anatomy.person,
        anatomy.kind,
        None if image is None else artefacts.resample(image, step, size),
        np.ascontiguousarray(anatomy.labels[nearest]),
        artefacts.resample(anatomy.white.astype(np.float32), step, size).astype(np.float16),
        artefacts.resample(anatomy.grey.astype(np.float32), step, size).astype(np.float16),
        anatomy.affine @ step,
        anatomy.matrix,
    )


def of_map(item: people.DataItem, priors: synthesis.Priors, head: preprocess.AverageHead) -> Anatomy:
    """Anatomy of a label map."""
    labels, affine = people.read_labels(item.path)
    image = synthesis.paint(labels, *synthesis.class_tables(priors, None), None)
    alignment = preprocess.align(reg.Grid(image, affine), head.targets)
    white = synthesis.is_in(labels, synthesis.WHITE).astype(np.float16)
    # Deep nuclei lie between cortex and white matter, and are left out of the measured level (below 0.9).
    deep = synthesis.is_in(labels, (10, 11, 12, 13, 49, 50, 51, 52, 26, 58))
    grey = (synthesis.is_in(labels, (*synthesis.GREY[:4], 17, 18, 53, 54)) + 0.6 * deep).astype(np.float16)
    return Anatomy(item.person, "map", None, labels, white, grey, affine, alignment.matrix)


def of_image(
    item: people.DataItem, models: list[Anatomy], priors: synthesis.Priors, head: preprocess.AverageHead
) -> Anatomy:
    """Anatomy of a real head or, for ``kind == "stripped"``, a hybrid around a real brain."""
    volume = people.read_image(item.path)
    values, _ = clean_values(volume)
    stripped = item.kind == "stripped"
    grid = reg.Grid(values, volume.affine)
    if stripped:
        grid = _with_margin(reg.shrink(grid, 1.0) if min(volume.spacing_mm) < 0.6 else grid, 40.0)
    alignment = preprocess.align(grid, head.targets)
    level = preprocess.white_level(grid, alignment.matrix, head)
    image = np.asarray(grid.values / level, dtype=np.float32)
    model = models[hash_of(item.person) % len(models)]
    labels = bend(model, priors, reg.Grid(image, grid.affine), alignment.matrix, stripped)
    brain = synthesis.is_in(labels, synthesis.WHITE + synthesis.GREY + synthesis.LESION + synthesis.VESSEL)
    if stripped:
        real = ndimage.binary_closing(image > 0.15, iterations=2)
        brain = real
        outside = labels.copy()
        outside[synthesis.is_in(labels, synthesis.WHITE + synthesis.GREY)] = 24
        labels = np.where(real & ~synthesis.is_in(labels, tuple(range(1, 100))), np.int16(24), outside)
        labels = np.where(real, np.int16(24), labels).astype(np.int16)
    white, grey = separate(image, brain)
    return Anatomy(
        item.person,
        "hybrid" if stripped else "head",
        image,
        labels.astype(np.int16),
        white.astype(np.float16),
        grey.astype(np.float16),
        grid.affine,
        alignment.matrix,
    )


def hash_of(text: str) -> int:
    """A small stable number from a name."""
    import zlib

    return zlib.crc32(text.encode())


def _with_margin(grid: reg.Grid, margin_mm: float) -> reg.Grid:
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)[::-1]
    used = [np.flatnonzero((grid.values > 0).any(tuple(a for a in range(3) if a != ax))) for ax in range(3)]
    pads, cut, low = [], [], []
    for ax in range(3):
        first, last = int(used[ax][0]), int(used[ax][-1]) + 1
        pad = round(margin_mm / spacing[ax])
        cut.append(slice(first, last))
        pads.append((pad, pad))
        low.append(first - pad)
    values = np.pad(grid.values[tuple(cut)], pads)
    affine = grid.affine.copy()
    affine[:3, 3] = affine[:3, :3] @ np.array(low[::-1], dtype=float) + affine[:3, 3]
    return reg.Grid(values, affine)


def separate(image: FloatArray, brain: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Share of white and grey matter in each voxel of a T1w image, by intensity inside `brain`.

    A slow bias is divided out first (local mean of the brighter half), then three Gaussians (fluid, grey,
    white) are fitted to the histogram by expectation maximisation.
    """
    weight = brain.astype(np.float32)
    bright = weight * (image > np.median(image[brain]))
    local = ndimage.gaussian_filter(image * bright, 12.0) / np.maximum(ndimage.gaussian_filter(bright, 12.0), 1e-3)
    flat = image / np.maximum(local, 0.3 * float(np.median(local[brain])))
    x = flat[brain][::5].astype(np.float64)
    x = x[(x > 0.02) & (x < 2.0)]
    mean = np.quantile(x, [0.06, 0.38, 0.82])
    sd, share = np.full(3, x.std() / 3), np.array([0.12, 0.45, 0.43])
    for _ in range(40):
        p = share * np.exp(-0.5 * ((x[:, None] - mean) / sd) ** 2) / sd
        p /= p.sum(1, keepdims=True) + 1e-12
        n = p.sum(0)
        share, mean = n / n.sum(), (p * x[:, None]).sum(0) / n
        sd = np.sqrt((p * (x[:, None] - mean) ** 2).sum(0) / n) + 1e-3
    fluid, grey, white = mean
    # Linear partial volume between the class means: no hard edges in what is later pulled together.
    w = np.clip((flat - grey) / max(white - grey, 1e-3), 0, 1) * weight
    g = np.clip((flat - fluid) / max(grey - fluid, 1e-3), 0, 1) * weight - w
    edge = ndimage.gaussian_filter(weight, 0.7)
    return np.asarray(w * edge, dtype=np.float32), np.asarray(np.clip(g, 0, 1) * edge, dtype=np.float32)


def bend(
    model: Anatomy, priors: synthesis.Priors, fixed: reg.Grid, matrix: Matrix, brain_only: bool
) -> npt.NDArray[np.int16]:
    """Labels of `model` bent onto `fixed`, on the grid of `fixed`."""
    import SimpleITK

    labels = model.labels
    if brain_only:
        labels = np.where(synthesis.is_in(labels, tuple(range(1, 100))), labels, 0).astype(np.int16)
    painted = synthesis.paint(labels, *synthesis.class_tables(priors, None), None)
    painted /= float(np.median(painted[model.white > 0.5]))
    moving = _to_sitk(painted, model.affine)
    target = _to_sitk(np.clip(fixed.values, 0, 1.6), fixed.affine)
    affine = SimpleITK.AffineTransform(3)
    to_model = model.matrix @ np.linalg.inv(matrix)
    affine.SetMatrix(to_model[:3, :3].reshape(-1).tolist())
    affine.SetTranslation(to_model[:3, 3].tolist())
    size = [int(np.ceil(n * s / 2.5)) for n, s in zip(target.GetSize(), target.GetSpacing(), strict=True)]
    spacing = [n * s / m for n, s, m in zip(target.GetSize(), target.GetSpacing(), size, strict=True)]
    smooth = SimpleITK.SmoothingRecursiveGaussian(target, 1.2)
    still = SimpleITK.Transform()
    origin, direction = target.GetOrigin(), target.GetDirection()
    coarse = SimpleITK.Resample(smooth, size, still, SimpleITK.sitkLinear, origin, spacing, direction)
    moved = SimpleITK.Resample(
        SimpleITK.SmoothingRecursiveGaussian(moving, 1.2), coarse, affine, SimpleITK.sitkLinear
    )
    moved = SimpleITK.HistogramMatching(moved, coarse, 128, 10, True)
    demons = SimpleITK.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(60)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(1.6)
    demons.SetNumberOfThreads(1)
    field = demons.Execute(coarse, moved)
    chain = SimpleITK.CompositeTransform([affine, SimpleITK.DisplacementFieldTransform(field)])
    bent = SimpleITK.Resample(
        _to_sitk(model.labels.astype(np.float32), model.affine), target, chain, SimpleITK.sitkNearestNeighbor
    )
    return np.asarray(SimpleITK.GetArrayFromImage(bent), dtype=np.int16)


def _to_sitk(values: npt.NDArray[Any], affine: Matrix) -> Any:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).reshape(-1).tolist())
    return image


def build_cache(shared: Path, model_dir: Path, cache: Path, log: Any = print) -> list[Path]:
    """Anatomies of everybody, training and held out, into `cache`; those already there are kept."""
    cache.mkdir(parents=True, exist_ok=True)
    head = preprocess.load_average_head(model_dir)
    priors = synthesis.load_priors(shared / "mri" / "labelmaps" / "priors")
    items = people.list_items(shared)
    made = []
    maps = [i for i in items if i.kind == "labelmaps" and i.person.startswith("synthseg")]
    for item in maps:
        path = cache / f"{item.person}.npz"
        if not path.exists():
            of_map(item, priors, head).save(path)
            log(f"{item.person}: tissues from its labels")
        made.append(path)
    # Only training maps are bent onto people, whoever they are.
    models = [Anatomy.load(cache / f"{i.person}.npz") for i in people.training_maps(shared)][:6]
    for item in items + people.further_items(shared):
        if item.kind == "t1w" or (item.kind == "stripped" and item.person in people.HYBRID_BRAINS):
            path = cache / f"{item.person}.npz"
            if not path.exists():
                of_image(item, models, priors, head).save(path)
                log(f"{item.person}: label map bent onto the image")
            made.append(path)
    for item in people.training_flairs(shared):
        path = flair_path(cache / f"{item.person}.npz")
        if not path.exists():
            volume = people.read_image(item.path)
            values, _ = clean_values(volume)
            np.savez(path, values=values.astype(np.float16), affine=volume.affine)
            log(f"{item.person}: own FLAIR kept")
    return made


def flair_path(anatomy: Path) -> Path:
    """Where the real FLAIR of a cached person lies, if there is one: values ``(K, J, I)`` and ``affine``."""
    return anatomy.with_suffix(".flair.npz")


def load_flair(anatomy: Path) -> reg.Grid | None:
    """The real FLAIR beside a cached person, or None."""
    path = flair_path(anatomy)
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as f:
        return reg.Grid(f["values"].astype(np.float32), f["affine"])
