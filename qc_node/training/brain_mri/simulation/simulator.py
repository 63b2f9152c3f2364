"""Drawing images: a person, a look, a motion and a scanner become what the network sees, and what was done to it.

One *base* is a person, a look and a motion; each base gives a few *variants* that differ in noise, bias
field, confounders and registration error.  Everything follows from a seed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.training.brain_mri.simulation import (
    age,
    agent,
    artefacts,
    coil,
    damage,
    implants,
    rejects,
    scanner,
    simulated,
    synthesis,
)
from qc_node.training.brain_mri.simulation.compose import Look, compose, draw_share, pull, relook
from qc_node.training.brain_mri.simulation.simulated import VOLUME_SHAPE, PackRow, Picture, Simulated
from qc_node.training.brain_mri.simulation.tissues import Anatomy, lighter, load_flair

__all__ = ["VOLUME_SHAPE", "PackRow", "Picture", "Simulated", "Simulator"]

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

STILLS = 3
"""Images of one look without motion."""
AIMS = ((0, 1), (1, 2), (1, 2), (2, 2), (0, 2))
"""Motions of one base: slight 0, moderate 1, severe 2 were aimed at; the measure decides.

Few per base: half as many bases cost a tenth of the accuracy, half as many images of each cost little."""


@dataclass(frozen=True)
class Scan:
    """One base of quality images: the person, how the head lies on the grid, and what all its images share."""

    anatomy: Anatomy
    acquisition: scanner.Acquisition
    look: Look
    sender: scanner.Sender
    seed: int
    native: bool
    whole: bool
    notes: tuple[str, ...]

    def grid(self, image: FloatArray) -> reg.Grid:
        """`image` on the grid of the acquisition, as it was sent."""
        return self.sender.on(reg.Grid(image, self.acquisition.affine))


@dataclass(frozen=True)
class View:
    """One sampling of an image: registration error, values at the slice points, tissue shares there."""

    error: Matrix
    receiver: coil.Coil | None
    slices: FloatArray
    inside: npt.NDArray[np.bool_]
    tissues: tuple[FloatArray, FloatArray, FloatArray]
    whole: tuple[FloatArray, npt.NDArray[np.bool_]] | None = None


class Simulator:
    """Draws images of a list of people.

    Parameters
    ----------
    people
        Anatomies (cached files are loaded once and kept).
    """

    def __init__(
        self, paths: list[Path], priors: synthesis.Priors, head: preprocess.AverageHead, voxels: int = 6_200_000
    ) -> None:
        self.people = [lighter(Anatomy.load(p), voxels) for p in paths]
        self.flairs = {a.person: load_flair(p) for a, p in zip(self.people, paths, strict=True)}
        self.depths: dict[str, coil.Depth] = {}
        self.flair_places: dict[str, Matrix] = {}
        self._shares: tuple[Anatomy, torch.Tensor] | None = None
        self.reject_share = 0.57
        # Of every fourth base whole volumes are kept, for the paper's networks; they cost a fifth of the time.
        self.volume_every = 4
        # Half of the images from real heads, a tenth from real brains in painted heads, the rest painted.
        share = {"head": 0.5, "hybrid": 0.12, "map": 0.38}
        kinds = [a.kind for a in self.people]
        weights = np.array([share[k] / kinds.count(k) for k in kinds])
        self.weights = weights / weights.sum()
        self.priors = priors
        self.head = head
        self.points = preprocess.slice_points()
        self.scanner = scanner.Scanner(self.points)
        self.volume_points = simulated.volume_points()
        self.volume_scanner = scanner.Scanner(self.volume_points)
        self.brain_mask = simulated.brain_mask(head, self.points)

    def base(self, seed: int, person: int | None = None) -> list[Picture]:
        """Images of one base."""
        rng = np.random.default_rng(seed)
        index = int(rng.choice(len(self.people), p=self.weights)) if person is None else person
        anatomy = self.people[index]
        notes: list[str] = []
        # The nine of "nichart" are old already.
        if not anatomy.person.startswith("nichart") and rng.random() < 0.22:
            self.depth(anatomy)
            anatomy = age.aged(anatomy, rng)
            notes.append("aged")
        # A base of quality gives seven images, one of rejects three; a third of the images are rejects.
        return (
            self._rejects(anatomy, rng, seed, notes)
            if rng.random() < self.reject_share
            else self._quality(anatomy, rng, seed, notes)
        )

    def depth(self, anatomy: Anatomy) -> coil.Depth:
        """Depth below the surface of a person's head, computed once."""
        if anatomy.person not in self.depths:
            self.depths[anatomy.person] = coil.depth_of_person(anatomy)
        return self.depths[anatomy.person]

    def _rejects(self, anatomy: Anatomy, rng: np.random.Generator, seed: int, notes: list[str]) -> list[Picture]:
        subject = rejects.RejectSource(anatomy, self.flairs.get(anatomy.person), self.depth(anatomy), notes)
        reason, grid = rejects.draw(anatomy, self.priors, rng, subject)
        whole_head = reason in ("not_t1w", "skull_stripped", "thick_slices", "segmented")
        if whole_head and grid.values.shape == anatomy.labels.shape and rng.random() < 0.35:
            # Small fields of view are no sign of a proper image.
            scan = scanner.Acquisition(grid.values, grid.affine, anatomy.matrix, np.eye(4))
            scan = scanner.cropped(scan, self.head.brain_rim_points, rng)
            grid = reg.Grid(scan.image, scan.affine)
            notes.append("cropped")
        matrix = self._place(anatomy, reason, grid, notes, rng)
        row = PackRow(anatomy.person, anatomy.kind, seed, reason, None, None, None, None, False)
        head = reason not in ("not_brain", "segmented", "orientation")
        out = []
        for n in range(3):
            pose = matrix @ scanner.registration_error(rng)
            slices, inside = preprocess.sample_slices(grid, pose)
            level, floor = simulated.levels_of(slices, inside, self.brain_mask)
            sigma = rng.uniform(0.0, 0.06)
            implant = implants.draw(rng) if head else None
            if implant is not None:
                slices = implant.on(slices, self.points, level if level > 0 else 0.0)
            spoilt, _ = self.scanner.spoil(slices, inside, level, sigma, grid.affine, matrix, rng)
            defacing = implants.draw_defacing(rng, self.head.brain_rim_points) if head else None
            if defacing is not None:
                spoilt = defacing.on(spoilt, self.points)
            if rng.random() < 0.3:
                spoilt = scanner.store(spoilt, inside, rng)
                level, floor = simulated.levels_of(spoilt, inside, self.brain_mask)
            volume = None
            if n == 0 and seed % self.volume_every == 0:
                whole, there = self._sample_volume(grid, pose)
                scale, _ = simulated.levels_of(slices, inside, self.brain_mask)
                whole, _ = self.volume_scanner.spoil(whole, there, scale, sigma, grid.affine, matrix, rng)
                volume = simulated.volume_bytes(whole, scale, floor)
            picture = preprocess.normalise(spoilt, inside, level, floor)
            words = [*notes, implant and implant.name, defacing and "defaced"]
            named = replace(row, look="|".join(w for w in words if w))
            out.append(Picture(named, picture, simulated.no_error(picture, np.nan), volume))
        return out

    def _place(
        self, anatomy: Anatomy, reason: str, grid: reg.Grid, notes: list[str], rng: np.random.Generator
    ) -> Matrix:
        """Where the head of a reject is taken to be: half of the times where it is, otherwise where it is found.

        Registration loses heads in other contrasts; the networks must know them in either place.
        """
        if rng.random() < 0.5 and reason not in ("orientation", "not_brain"):
            flair = self.flairs.get(anatomy.person)
            if "real flair" not in notes or flair is None:
                return anatomy.matrix
            if anatomy.person not in self.flair_places:
                self.flair_places[anatomy.person] = preprocess.align(flair, self.head.targets).matrix
            return self.flair_places[anatomy.person]
        return preprocess.align(grid, self.head.targets).matrix

    def _sample_volume(self, grid: reg.Grid, pose: Matrix) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """The image on the 2 mm grid, 0 outside, and where it is."""
        m = torch.from_numpy(pose).float()
        flat = self.volume_points.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
        values, inside = reg.sample(torch.from_numpy(np.ascontiguousarray(grid.values))[None], grid.affine, flat)
        return (values[0] * inside).reshape(VOLUME_SHAPE).numpy(), inside.reshape(VOLUME_SHAPE).numpy()

    def _scan(self, anatomy: Anatomy, rng: np.random.Generator, seed: int, notes: list[str]) -> Scan:
        """A look and a scanner for a person; the image of the result is clean."""
        look = Look(bool(rng.random() < 0.5), dose=agent.draw_dose(rng))
        if look.gadolinium:
            notes.append("gadolinium faint" if look.dose < 1.3 else "gadolinium")
        image = compose(anatomy, look, self.priors, rng, notes)
        native = anatomy.kind != "map" and rng.random() < 0.4
        if native:
            scan = scanner.Acquisition(image, anatomy.affine, anatomy.matrix, np.eye(4))
        else:
            scan = scanner.acquire(anatomy, image, rng)
        if rng.random() < 0.3:
            scan = scanner.cropped(scan, self.head.brain_rim_points, rng)
            notes.append("cropped")
        if rng.random() < 0.15:
            scan = replace(scan, image=scanner.confound(scan.image, int(rng.integers(0, 3)), rng))
            notes.append("confounded")
        sender = scanner.draw_sender(scan.image.size, rng)
        whole = seed % self.volume_every == 0
        return Scan(anatomy, scan, look, sender, seed, native, whole, (*notes, sender.how))

    def _quality(self, anatomy: Anatomy, rng: np.random.Generator, seed: int, notes: list[str]) -> list[Picture]:
        """Still images of one look in three contrasts; then the same person moving."""
        base = self._scan(anatomy, rng, seed, notes)
        scan = base.acquisition
        grid = base.grid(scan.image)
        out: list[Picture] = []
        for n in range(STILLS):
            receiver = coil.draw(rng)
            error = self._error(base, scan.image, scan.matrix, receiver, rng)
            tissues = self.tissues(anatomy, scan, error)
            slices, inside = preprocess.sample_slices(grid, scan.matrix @ error)
            share = draw_share(rng)
            whole = None
            if n == 0 and base.whole:
                whole = self._sample_volume(grid, scan.matrix @ error)
                shares = self.tissues(anatomy, scan, error, self.volume_points)
                # The same draws as for the slices: one image, looked at twice.
                whole = (relook(whole[0], shares, share, copy.deepcopy(rng)), whole[1])
            looked = relook(slices, tissues, share, rng)
            out += self._expose(base, View(error, receiver, looked, inside, tissues, whole), 0.0, rng)
        for aim in AIMS[int(rng.integers(len(AIMS)))]:
            out += self._moving(base, aim, rng)
        return out

    def _error(
        self,
        base: Scan,
        image: FloatArray,
        matrix: Matrix,
        receiver: coil.Coil | None,
        rng: np.random.Generator,
    ) -> Matrix:
        """A registration error: drawn, or now and then what registration makes of `image` under its coil."""
        if rng.random() >= 0.06:
            return scanner.registration_error(rng)
        scan = base.acquisition
        if receiver is not None:
            image = coil.over(image, scan.to_source @ scan.affine, receiver, self.depth(base.anatomy))
        found = preprocess.align(reg.Grid(image, scan.affine), self.head.targets).matrix
        error = np.asarray(np.linalg.inv(matrix) @ found)
        points = self.head.brain_points.numpy()
        apart = np.linalg.norm(points @ (error[:3, :3] - np.eye(3)).T + error[:3, 3], axis=1).mean()
        # A brain that was not found at all teaches nothing about its quality.
        return error if apart < 15 else scanner.registration_error(rng)

    def _moving(self, base: Scan, aim: int, rng: np.random.Generator) -> list[Picture]:
        """One motion, two exposures; small motions (`aim` 0) too, so that grade 0 is not only "untouched"."""
        scan, anatomy = base.acquisition, base.anatomy
        white, grey = self._native_tissues(anatomy, scan)
        looked = pull(scan.image, white, grey, draw_share(rng), rng)
        axis = int(rng.integers(0, 3))
        severity = float(rng.uniform(*((0.02, 0.5), (0.3, 0.9), (0.8, 1.8))[aim]))
        spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
        energy = artefacts.line_energy(looked, axis)
        trajectory = artefacts.draw_trajectory(looked.shape[axis], severity, rng, energy)
        moved = artefacts.move(looked, tuple(spacing), axis, trajectory)
        matrix = damage.realign(
            reg.Grid(moved, scan.affine), reg.Grid(looked, scan.affine), self.head.brain_points, scan.matrix
        )
        still_grid, moved_grid = base.grid(looked), base.grid(moved)
        tissues = self.tissues(anatomy, scan, np.eye(4))
        still_slices, _ = preprocess.sample_slices(still_grid, scan.matrix)
        moved_slices, _ = preprocess.sample_slices(moved_grid, matrix)
        motion = damage.motion_damage(moved_slices, still_slices, tissues[0], tissues[2])
        contrast = damage.contrast_left(still_slices, tissues[0], tissues[1])
        out: list[Picture] = []
        for n in range(2):
            receiver = coil.draw(rng)
            error = self._error(base, moved, matrix, receiver, rng)
            slices, inside = preprocess.sample_slices(moved_grid, matrix @ error)
            twin, _ = preprocess.sample_slices(still_grid, scan.matrix @ error)
            whole = self._sample_volume(moved_grid, matrix @ error) if n == 0 and base.whole else None
            tissues = self.tissues(anatomy, scan, error)
            view = View(error, receiver, slices, inside, tissues, whole)
            out += self._expose(base, view, motion, rng, contrast, twin)
        return out

    def _expose(
        self,
        base: Scan,
        view: View,
        motion: float,
        rng: np.random.Generator,
        contrast: float | None = None,
        twin: FloatArray | None = None,
    ) -> list[Picture]:
        """Coil, noise, bias field and storage of one image; measures what was done."""
        scan, slices, inside = base.acquisition, view.slices, view.inside
        white, grey, brain = view.tissues
        level, _ = damage.tissue_levels(slices, white, grey)
        if not level > 0:
            return []
        if contrast is None:
            contrast = damage.contrast_left(slices, white, grey)
        receive, middle = self._receive(base, view, self.points)
        implant = implants.draw(rng)
        if implant is not None:
            slices = implant.on(slices, self.points, level)
            twin = None if twin is None else implant.on(twin, self.points, level)
        ranges = ((0.001, 0.03), (0.045, 0.11), (0.12, 0.32))[int(rng.choice(3, p=[0.42, 0.3, 0.28]))]
        sigma = float(np.exp(rng.uniform(*np.log(ranges))))
        affine, matrix = scan.affine, scan.matrix
        spoilt, before = self.scanner.spoil(slices, inside, level, sigma, affine, matrix, rng, receive)
        noise = damage.noise_level(spoilt, before, brain, level)
        gained, _ = simulated.levels_of(spoilt, inside, self.brain_mask)
        defacing = implants.draw_defacing(rng, self.head.brain_rim_points)
        if defacing is not None:
            spoilt = defacing.on(spoilt, self.points)
        spoilt = scanner.store(spoilt, inside, rng)
        top, floor = simulated.levels_of(spoilt, inside, self.brain_mask)
        picture = preprocess.normalise(spoilt, inside, top, floor)
        if twin is None:
            error = simulated.no_error(picture, 0.0)
        else:
            gain = np.float32(1) if receive is None else receive
            error = simulated.local_error(slices * gain, twin * gain, brain, gained)
        volume = None
        if view.whole is not None:
            field, _ = self._receive(base, view, self.volume_points, middle)
            body, _ = self.volume_scanner.spoil(*view.whole, level, sigma, affine, matrix, rng, field)
            volume = simulated.volume_bytes(body, gained, min(0.0, float(body.min())))
        words = (
            *base.notes,
            view.receiver and view.receiver.name,
            implant and implant.name,
            defacing and "defaced",
        )
        row = PackRow(
            base.anatomy.person,
            base.anatomy.kind,
            base.seed,
            "ok",
            int(base.look.gadolinium),
            float(motion),
            float(contrast),
            noise,
            base.native,
            "|".join(w for w in words if w),
        )
        return [Picture(row, picture, error, volume)]

    def _receive(
        self, base: Scan, view: View, points: torch.Tensor, middle: float | None = None
    ) -> tuple[FloatArray | None, float]:
        """Sensitivity of the coil at `points`, and its median in white matter, which is divided out.

        So the noise, which is a share of the white-matter level, stays what was drawn.
        """
        if view.receiver is None:
            return None, 1.0
        scan = base.acquisition
        to_source = scan.to_source @ scan.matrix @ view.error
        field = coil.at_points(view.receiver, self.depth(base.anatomy), points, to_source)
        if middle is None:
            middle = float(np.median(field[view.tissues[0] > 0.9]))
        return field / np.float32(middle), middle

    def tissues(
        self,
        anatomy: Anatomy,
        scan: scanner.Acquisition,
        error: Matrix,
        points: torch.Tensor | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """White, grey and brain shares at the slice points (or at other `points`, ``(a, b, c, 3)``)."""
        at = self.points if points is None else points
        m = torch.from_numpy(scan.to_source @ scan.matrix @ error).float()
        flat = at.reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]
        if self._shares is None or self._shares[0] is not anatomy:
            stack = np.stack([anatomy.white, anatomy.grey]).astype(np.float32)
            self._shares = anatomy, torch.from_numpy(stack)
        values, inside = reg.sample(self._shares[1], anatomy.affine, flat)
        shares = (values * inside).reshape(2, *at.shape[:3]).numpy()
        return shares[0], shares[1], shares.sum(0)

    def _native_tissues(self, anatomy: Anatomy, scan: scanner.Acquisition) -> tuple[FloatArray, FloatArray]:
        white, grey = anatomy.white.astype(np.float32), anatomy.grey.astype(np.float32)
        if scan.image.shape == white.shape and np.array_equal(scan.affine, anatomy.affine):
            return white, grey
        index = np.linalg.inv(anatomy.affine) @ scan.to_source @ scan.affine
        shape = scan.image.shape
        return artefacts.resample(white, index, shape), artefacts.resample(grey, index, shape)
