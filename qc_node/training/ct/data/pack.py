"""The CT pack: every volume as the coarse copy that the networks read, with the truth for each slice.

A pack is a folder of ``.npz`` files outside the repository, one per volume or made head or body.  It is
derived from single persons' images and never leaves the machine.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct.anatomy import CLASSES, LIMB, NOTHING, SECTION_MM, SECTIONS, axis_position
from qc_node.classifiers.ct.projections import COARSE_MM, project
from qc_node.domain import QcNodeError, Volume
from qc_node.series.files.nifti import read_nifti

LANDMARK_FILE = Path(__file__).with_name("landmarks.csv")
"""Slice numbers of landmarks, marked by eye on each volume's projections, counted from the caudal end."""


@dataclass(frozen=True)
class PackItem:
    """One packed volume.

    Attributes
    ----------
    name, person
        Split by `person`, always.
    kind
        ``"real"``, ``"virtual"`` (a real scan without its enhancement), ``"head"`` (from a label map) or
        ``"body"`` (procedural).
    coarse
        ``(Z, 96, 96)`` int16 HU, see ``projections.Projections``.
    position
        ``(Z,)`` mm on the body axis, NaN where unknown; limbs and objects have none.
    section
        -1 where `position` holds, else LIMB or NOTHING, or -2 where the truth is unknown.
    enhanced
        1, 0, or -1 where unknown.
    use
        ``"whole"``, ``"part"`` or empty; which volumes count as whole series was fixed before training.
    label
        Body part as INDEX.csv has it.
    """

    name: str
    person: str
    kind: str
    coarse: npt.NDArray[np.int16]
    position: npt.NDArray[np.float32]
    section: int
    enhanced: int
    use: str
    label: str

    def save(self, folder: Path) -> None:
        """Write the item as ``folder/name.npz``."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = [self.name, self.person, self.kind, str(self.section), str(self.enhanced), self.use, self.label]
        temporary = folder / f".{self.name}.tmp"
        with temporary.open("wb") as handle:
            np.savez_compressed(handle, coarse=self.coarse, position=self.position, facts=np.array(facts))
        temporary.replace(folder / f"{self.name}.npz")


def load_pack(folder: Path, kinds: tuple[str, ...] = ("real", "virtual", "head", "body")) -> list[PackItem]:
    """Every item of `kinds` in `folder`, sorted by name.

    Raises
    ------
    QcNodeError
        If the folder holds no item.
    """
    items = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            name, person, kind, section, enhanced, use, label = (str(f) for f in data["facts"])
            if kind in kinds:
                items.append(
                    PackItem(
                        name,
                        person,
                        kind,
                        data["coarse"],
                        data["position"],
                        int(section),
                        int(enhanced),
                        use,
                        label,
                    )
                )
    if not items:
        raise QcNodeError(f"{folder}: there is no packed CT here; run qc-node train ct with --data first.")
    return items


def soft_targets(position: npt.NDArray[np.float32], section: int) -> npt.NDArray[np.float32]:
    """``(Z, CLASSES)`` target of the position network: a Gaussian of 20 mm around the true position."""
    target = np.zeros((len(position), CLASSES), np.float32)
    if section in (LIMB, NOTHING):
        target[:, section] = 1.0
        return target
    centres = (np.arange(SECTIONS) + 0.5) * SECTION_MM
    at = np.clip(np.nan_to_num(position), 0.0, SECTIONS * SECTION_MM)
    target[:, :SECTIONS] = np.exp(-0.5 * ((at[:, None] - centres) / 22.0) ** 2)
    target[:, :SECTIONS] /= target[:, :SECTIONS].sum(1, keepdims=True)
    beyond = position > SECTIONS * SECTION_MM + 40.0  # below the ischium: thighs
    target[beyond] = 0.0
    target[beyond, LIMB] = 1.0
    return target


def read_landmarks(path: Path = LANDMARK_FILE) -> dict[str, dict[str, str]]:
    """Rows of the landmark table by volume name."""
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["file"]: row for row in csv.DictReader(handle)}


def real_rows(data: Path) -> list[dict[str, str]]:
    """Rows of ``ct/INDEX.csv`` below `data`."""
    path = data / "ct" / "INDEX.csv"
    if not path.is_file():
        raise QcNodeError(f"{path}: the list of CT volumes is missing.")
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def landmarks_mm(row: Mapping[str, str], volume: Volume) -> dict[str, float]:
    """Landmark name to distance from the top of the volume in mm."""
    step, count = volume.spacing_mm[2], volume.shape[0]
    names = ("vertex", "skull_base", "apex", "dome", "crest", "hip")
    return {n: (count - float(row[n]) - 0.5) * step for n in names if row.get(n)}


def pack_real(data: Path) -> Iterator[PackItem]:
    """Every volume of the shared data as an item."""
    marks = read_landmarks()
    for row in real_rows(data):
        name = Path(row["file"]).name.removesuffix(".nii.gz")
        volume = read_nifti(data / "ct" / row["file"], "CT")
        coarse = project(volume).coarse
        position = np.full(len(coarse), np.nan, np.float32)
        mark = marks.get(name)
        section = -1
        if mark:
            depth = (np.arange(len(coarse)) + 0.5) * COARSE_MM
            position = axis_position(depth, landmarks_mm(mark, volume)).astype(np.float32)
        elif "phantom" in row["body_part"]:
            section = NOTHING
        elif "pelvis" in row["body_part"]:
            section = -2  # half a pelvis: neither a limb nor a place on the axis that was marked
        else:
            section = LIMB
        enhanced = {"yes": 1, "no": 0}.get(row["contrast"], -1)
        if section == NOTHING:
            enhanced = -1
        use = mark["use"] if mark else "whole"
        yield PackItem(name, row["subject"], "real", coarse, position, section, enhanced, use, row["body_part"])


def pack_heads(data: Path, per_map: int, seed: int) -> Iterator[PackItem]:
    """`per_map` heads from every label map, half of them enhanced."""
    from qc_node.training.ct.simulation.heads import make_head, read_labels

    for number, path in enumerate(sorted((data / "mri" / "labelmaps").glob("synthseg*.nii.gz"))):
        labels = read_labels(path)
        person = path.name.split("_")[0]
        for variant in range(per_map):
            rng = np.random.default_rng([seed, number, variant])
            head = make_head(labels, enhanced=variant % 2 == 1, rng=rng)
            coarse = project(head.volume).coarse
            depth = (np.arange(len(coarse)) + 0.5) * COARSE_MM
            position = axis_position(depth, {"vertex": head.vertex_mm, "skull_base": head.skull_base_mm})
            yield PackItem(
                f"{person}_{variant}",
                person,
                "head",
                coarse,
                position.astype(np.float32),
                -1,
                int(head.enhanced),
                "",
                "brain",
            )


def pack_bodies(count: int, seed: int) -> Iterator[PackItem]:
    """`count` procedural trunks, half of them enhanced; each is a person."""
    from qc_node.training.ct.simulation.bodies import make_body

    for number in range(count):
        rng = np.random.default_rng([seed, number])
        volume, top, _ = make_body(enhanced=number % 2 == 1, rng=rng)
        coarse = project(volume).coarse
        position = top + (np.arange(len(coarse)) + 0.5) * COARSE_MM
        name = f"body_{number:03d}"
        yield PackItem(
            name, name, "body", coarse, position.astype(np.float32), -1, number % 2, "", "abdomen_pelvis"
        )


_BRIGHT = ("crlm1004_2", "kits00072_2")
"""Volumes whose kidneys or heart are as bright as spongy bone: there only cortical bone tells bone."""


def virtual_plain(hu: npt.NDArray[np.int16], rng: np.random.Generator, level: int = 210) -> npt.NDArray[np.int16]:
    """An enhanced trunk with its enhancement taken away.

    Bone (above `level` HU, closed and filled in the slice, with a core 120 HU denser) keeps its values; of
    the rest, what is brighter than muscle falls to what blood and organs measure without contrast.  Oral
    contrast and calcification stay bright, as they do in a plain scan.

    Parameters
    ----------
    hu
        ``(z, y, x)`` at about 2 mm.
    """
    from scipy import ndimage

    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 5)
    dense = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, disc)) for plane in hu > level])
    labels, count = ndimage.label(dense)
    core = ndimage.maximum(hu, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    bone = np.concatenate([[False], np.asarray(core) > level + 120])[labels]
    bone = ndimage.binary_dilation(bone, iterations=1)
    shift = rng.uniform(-6, 6)
    plain = np.interp(hu, [55, 60, 90, 130, 400], [55, 55 + shift, 55 + shift, 43 + shift, 38 + shift])
    plain += rng.normal(0, 8, hu.shape)
    result: npt.NDArray[np.int16] = np.where(bone | (hu < 55), hu, plain).astype(np.int16)
    return result


def pack_virtual(data: Path, seed: int) -> Iterator[PackItem]:
    """The enhanced abdomens as virtual plain scans: the plain class has one real person there."""
    marks = read_landmarks()
    for row in real_rows(data):
        name = Path(row["file"]).name.removesuffix(".nii.gz")
        if row["body_part"] != "abdomen" or row["contrast"] != "yes":
            continue
        volume = read_nifti(data / "ct" / row["file"], "CT")
        rng = np.random.default_rng([seed, len(name)])
        hu = virtual_plain(volume.voxels.astype(np.int16), rng, 320 if name in _BRIGHT else 210)
        plain = Volume(hu, volume.affine, modality="CT")
        coarse = project(plain).coarse
        depth = (np.arange(len(coarse)) + 0.5) * COARSE_MM
        position = axis_position(depth, landmarks_mm(marks[name], volume)).astype(np.float32)
        yield PackItem(f"{name}_plain", row["subject"], "virtual", coarse, position, -1, 0, "", row["body_part"])
