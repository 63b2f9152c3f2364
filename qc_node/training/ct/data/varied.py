"""The shared CT volumes as other scanners would have made them, kept as the coarse copies that the networks read.

A folder of ``.npz``, one per volume and variation, outside the repository: it is derived from single persons'
images.  Rules and networks can be judged on it again without touching the volumes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qc_node.classifiers.ct.anatomy import axis_position
from qc_node.classifiers.ct.calibration import calibrate
from qc_node.classifiers.ct.projections import COARSE_MM, project
from qc_node.domain import BodyPart, QcNodeError, Volume
from qc_node.series.files.nifti import read_nifti
from qc_node.series.files.sources import find_series
from qc_node.training.ct.data.pack import landmarks_mm, read_landmarks, real_rows
from qc_node.training.ct.data.trials import crop_part, index_part
from qc_node.training.ct.simulation import scanners
from qc_node.training.ct.simulation.scanners import Source

Change: TypeAlias = Callable[[Source, np.random.Generator], Source]

SEED = 11
ORIGINAL = "original"
LEAST_COVERAGE = 0.6
"""A varied coverage keeps at least this share of the slices."""


@dataclass(frozen=True)
class Varied:
    """One varied volume.

    Attributes
    ----------
    name, person
        The volume and whose it is; every count is by person.
    variation
        Name in :data:`VARIATIONS`.
    coarse, edge
        ``(Z, 96, 96)`` int16 HU and ``(Z,)`` share of the border that is body.
    position
        ``(Z,)`` mm on the body axis, NaN where no landmarks were marked.
    label, use
        Body part as the index has it, and whether the series counts as ``"whole"``, ``"part"`` or neither.
    enhanced
        1, 0, or -1 where unknown.
    problem
        Why the classifier refuses the values, empty where it does not.
    """

    name: str
    person: str
    variation: str
    coarse: npt.NDArray[np.int16]
    edge: npt.NDArray[np.float32]
    position: npt.NDArray[np.float32]
    label: str
    use: str
    enhanced: int
    problem: str

    @property
    def on_axis(self) -> bool:
        """Does it show head or trunk?  Limbs and test objects offer no vessels to judge."""
        return bool(np.isfinite(self.position).any()) or not self.label.startswith("other")

    @property
    def part(self) -> BodyPart | None:
        """The true body part: of the index where the ends are as they were, by the rules where they moved."""
        if self.use in ("whole", "part") and not self.variation.startswith(("coverage", "mixed")):
            return index_part(self.label)
        if self.label.startswith("other") and not np.isfinite(self.position).any():
            return BodyPart.OTHER
        return crop_part(self.position) if np.isfinite(self.position).all() else None

    def save(self, folder: Path) -> None:
        """Write ``folder/name__variation.npz``."""
        facts = [self.name, self.person, self.variation, self.label, self.use, str(self.enhanced), self.problem]
        temporary = folder / f".{self.name}__{self.variation}.tmp"
        with temporary.open("wb") as handle:
            np.savez_compressed(
                handle, coarse=self.coarse, edge=self.edge, position=self.position, facts=np.array(facts)
            )
        temporary.replace(folder / f"{self.name}__{self.variation}.npz")


def load(path: Path) -> Varied:
    """One file that :meth:`Varied.save` wrote."""
    with np.load(path, allow_pickle=False) as data:
        name, person, variation, label, use, enhanced, problem = (str(f) for f in data["facts"])
        return Varied(
            name,
            person,
            variation,
            data["coarse"],
            data["edge"],
            data["position"],
            label,
            use,
            int(enhanced),
            problem,
        )


def files(folder: Path) -> list[Path]:
    """Every varied volume in `folder`, in order of name.

    Raises
    ------
    QcNodeError
        There is none.
    """
    found = sorted(folder.glob("*__*.npz"))
    if not found:
        raise QcNodeError(f"{folder}: there is no varied CT here; give --data to make it.")
    return found


def _coverage(source: Source, rng: np.random.Generator) -> Source:
    keep = rng.uniform(LEAST_COVERAGE, 0.95)
    first = rng.uniform(0, 1 - keep)
    return scanners.coverage(source, first, first + keep)


def _mixed(source: Source, rng: np.random.Generator) -> Source:
    """A scanner that differs in several respects at once, each mildly."""
    keep = rng.uniform(0.7, 1.0)
    first = rng.uniform(0, 1 - keep)
    source = scanners.coverage(source, first, first + keep)
    if rng.random() < 0.5:
        source = scanners.kernel(source, "smooth", rng)
    source = scanners.dose(source, rng.uniform(8, 25), "standard", rng)
    return scanners.calibration(source, float(rng.uniform(-10, 10)))


VARIATIONS: Mapping[str, Change] = {
    ORIGINAL: lambda s, _: s,
    "dose-10-soft": lambda s, rng: scanners.dose(s, 10, "soft", rng),
    "dose-25-standard": lambda s, rng: scanners.dose(s, 25, "standard", rng),
    "dose-40-sharp": lambda s, rng: scanners.dose(s, 40, "sharp", rng),
    "kernel-smooth": lambda s, rng: scanners.kernel(s, "smooth", rng),
    "kernel-sharp": lambda s, rng: scanners.kernel(s, "sharp", rng),
    "kernel-lung": lambda s, rng: scanners.kernel(s, "lung", rng),
    "phase-0.42": lambda s, _: scanners.phase(s, 0.42),
    "phase-0.6": lambda s, _: scanners.phase(s, 0.6),
    "phase-1.5": lambda s, _: scanners.phase(s, 1.5),
    "phase-2": lambda s, _: scanners.phase(s, 2.0),
    "coverage-a": _coverage,
    "coverage-b": _coverage,
    "coverage-c": _coverage,
    "field-70-square": lambda s, rng: scanners.field_of_view(s, 0.7, rng, circle=False),
    "field-70-circle": lambda s, rng: scanners.field_of_view(s, 0.7, rng, circle=True),
    "scale-low-15": lambda s, _: scanners.calibration(s, -15),
    "scale-high-15": lambda s, _: scanners.calibration(s, 15),
    "table": scanners.table,
    "thick-5": lambda s, _: scanners.thick(s, 5.0),
    "mixed": _mixed,
}
"""Name to what it does.  ``phase-…`` is made of enhanced series only: what is plain stays plain."""


@dataclass(frozen=True)
class _Row:
    name: str
    person: str
    label: str
    use: str
    enhanced: int
    read: Callable[[], Volume]
    masked: bool


def rows(data: Path) -> Iterator[_Row]:
    """The 61 series of ``ct/INDEX.csv`` and those of ``ct/further``, which nobody learns from."""
    marks = read_landmarks()
    for row in real_rows(data):
        name = Path(row["file"]).name.removesuffix(".nii.gz")
        mark = marks.get(name)
        told = {"yes": 1, "no": 0}.get(row["contrast"], -1) if "phantom" not in row["body_part"] else -1
        read = partial(read_nifti, data / "ct" / row["file"], "CT")
        use = mark["use"] if mark else "whole"
        yield _Row(name, row["subject"], row["body_part"], use, told, read, name.startswith("openkbp"))
    index = data / "ct" / "further" / "INDEX.csv"
    if index.is_file():
        with index.open(encoding="utf-8", newline="") as handle:
            further = list(csv.DictReader(handle))
        for row in further:
            path = data / "ct" / row["file"]
            name = path.name.removesuffix(".nii.gz").removesuffix(".tar.xz")
            told = {"yes": 1, "no": 0}.get(row["contrast"], -1)
            read = partial(read_nifti, path, "CT") if path.name.endswith(".nii.gz") else partial(_series, path)
            yield _Row(name, row["subject"], row["body_part"], "whole", told, read, False)


def _series(archive: Path) -> Volume:
    """The one DICOM series of an archive, read as the node reads it."""
    return next(source.volume() for source in find_series([archive]))


def make(
    data: Path, folder: Path, log: Callable[[str], None], only: Sequence[str] = (), series: Sequence[str] = ()
) -> None:
    """Write every varied volume that `folder` does not hold yet; `only` and `series` choose (default: all)."""
    folder.mkdir(parents=True, exist_ok=True)
    marks = read_landmarks()
    everything = [row for row in rows(data) if not series or row.name in series]
    for number, row in enumerate(everything, 1):
        wanted = {
            name: change
            for name, change in VARIATIONS.items()
            if (not only or name in only)
            and not (name.startswith("phase") and row.enhanced != 1)
            and not (folder / f"{row.name}__{name}.npz").exists()
        }
        if not wanted:
            continue
        volume = row.read()
        try:
            source = Source.of(volume, masked=row.masked)
        except ValueError:  # a tilted gantry
            source = Source.upright(volume)
        landmarks = landmarks_mm(marks[row.name], volume) if row.name in marks else {}
        for name, change in wanted.items():
            rng = np.random.default_rng([SEED, *name.encode(), *row.name.encode()])
            varied = change(source, rng)
            projections = project(varied.volume())
            depth = varied.top_mm + (np.arange(len(projections.coarse)) + 0.5) * COARSE_MM
            position = axis_position(depth, landmarks) if landmarks else np.full(len(depth), np.nan)
            Varied(
                row.name,
                row.person,
                name,
                projections.coarse,
                projections.edge_fraction,
                position.astype(np.float32),
                row.label,
                row.use,
                row.enhanced,
                calibrate(varied.volume()).problem or "",
            ).save(folder)
        log(f"{number}/{len(everything)} {row.name}: {len(wanted)} variations")
