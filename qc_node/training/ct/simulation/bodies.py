"""Procedural trunks in Hounsfield units: lung base to thigh, plain or enhanced.

Only one real person here shows a pelvis and only one a plain abdomen, so bodies are also built from
ellipsoids and bars with the proportions of an anatomy atlas: spine, ribs, iliac wings, sacrum, hips,
femora, liver, spleen, kidneys, stomach, bowel, great vessels, bladder, muscles and fat.  They are crude on
purpose and vary widely, so that a network learns the arrangement and not the texture.  Oral contrast,
calcified aortas, hip prostheses and excreted contrast appear whether or not vessels are enhanced.
Everything measured on these bodies is *simulated*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qc_node.classifiers.ct.projections import COARSE_MM
from qc_node.domain import Volume

_PIXEL_MM = 2.0
_SIZE = 200
_KNOTS = [380.0, 450.0, 520.0, 600.0, 660.0, 720.0, 780.0, 830.0, 880.0, 1060.0]
_WIDTHS = [158.0, 156.0, 154.0, 150.0, 148.0, 160.0, 172.0, 178.0, 172.0, 160.0]
_DEPTHS = [112.0, 112.0, 108.0, 102.0, 98.0, 102.0, 108.0, 108.0, 98.0, 85.0]


@dataclass(frozen=True)
class Phase:
    """HU of perfused tissue."""

    name: str
    artery: float
    vein: float
    heart: float
    liver: float
    spleen: float
    kidney: float
    wall: float
    muscle: float


def draw_phase(enhanced: bool, rng: np.random.Generator) -> Phase:
    """A plain, arterial or portal venous phase."""
    u = rng.uniform
    muscle = u(45, 60)
    if not enhanced:
        blood = u(32, 52)
        return Phase("plain", blood, blood, blood, u(20, 65), u(42, 56), u(26, 40), u(30, 50), muscle)
    if rng.random() < 0.35:
        artery = u(190, 420)
        return Phase(
            "arterial", artery, u(45, 110), artery * 0.9, u(58, 85), u(95, 150), u(120, 210), u(50, 90), muscle + 4
        )
    artery = u(115, 190)
    return Phase(
        "portal",
        artery,
        artery * u(0.85, 1.05),
        artery,
        u(80, 130),
        u(95, 135),
        u(130, 220),
        u(65, 110),
        muscle + 8,
    )


def make_body(*, enhanced: bool, rng: np.random.Generator) -> tuple[Volume, float, str]:
    """One trunk.

    Returns
    -------
    tuple
        The volume (2 mm in plane, 4 mm slices, in HU), the body-axis position of its first (cranial) slice
        in mm, and the name of the contrast phase.  One slice is 4 mm of the body axis.
    """
    phase = draw_phase(enhanced, rng)
    top = float(
        rng.choice([rng.uniform(385, 460), rng.uniform(440, 640), rng.uniform(640, 760)], p=[0.5, 0.3, 0.2])
    )
    bottom = float(rng.uniform(max(top + 120, 700), max(top + 160, 1050)))
    painter = _Painter(phase, rng)
    slices = [painter.slice(s) for s in np.arange(top, bottom, COARSE_MM)]
    hu = ndimage.gaussian_filter(np.stack(slices), (0.4, rng.uniform(0.4, 1.0), rng.uniform(0.4, 1.0)))
    hu += rng.normal(0, rng.uniform(4, 25), hu.shape).astype(np.float32)
    if rng.random() < 0.08:
        _prosthesis(hu, top, rng)
    affine = np.diag([_PIXEL_MM, _PIXEL_MM, -COARSE_MM, 1.0])
    return Volume(np.clip(hu, -1024, 3071).astype(np.int16), affine, modality="CT"), top, phase.name


class _Painter:
    """Draws axial slices of one person; later strokes cover earlier ones."""

    def __init__(self, phase: Phase, rng: np.random.Generator) -> None:
        self.phase, self.rng = phase, rng
        half = _SIZE * _PIXEL_MM / 2
        axis = np.arange(_SIZE, dtype=np.float32) * _PIXEL_MM - half + _PIXEL_MM / 2
        u = rng.uniform
        size = u(0.82, 1.12)
        self.x, self.y = axis[None] / size, axis[:, None] / (size * u(0.88, 1.1))
        self.fat = u(6, 38)
        self.round = u(2.0, 2.8)
        self.spine_y = 44 + u(-6, 6)
        self.jitter = rng.normal(0, 6, (24, 3))
        self.stretch = rng.normal(1, 0.1, 24).clip(0.75, 1.3)
        self.bone = u(180, 420)
        self.marrow = u(90, 230)
        self.oral = rng.random() < 0.35
        self.excreted = rng.random() < (0.35 if phase.name != "plain" else 0.08)
        self.lime = rng.random() < 0.3
        self.legs = u(0, 25)
        self.arms = rng.random() < 0.25
        self.fatty = u(-115, -90)
        self.loops = [
            (u(-105, 105), u(-70, 25), u(545, 800), u(10, 24), u(8, 20), u(12, 40), self._content())
            for _ in range(int(rng.integers(25, 60)))
        ]
        self.canvas = np.empty((_SIZE, _SIZE), np.float32)

    def _content(self) -> float:
        u = self.rng.uniform
        options: list[Callable[[], float]] = [
            lambda: u(0, 40),
            lambda: -950.0,
            lambda: u(20, 60),
            lambda: u(-60, 20),
        ]
        if self.oral:
            options += [lambda: u(120, 500)] * 3
        return options[int(self.rng.integers(len(options)))]()

    def _put(self, x: float, y: float, rx: float, ry: float, value: float, angle: float = 0.0) -> None:
        if rx < 1 or ry < 1:
            return
        c, s = np.cos(angle), np.sin(angle)
        dx, dy = self.x - x, self.y - y
        self.canvas[((dx * c + dy * s) / rx) ** 2 + ((dy * c - dx * s) / ry) ** 2 <= 1] = value

    def _organ(
        self,
        n: int,
        s: float,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        value: float,
        angle: float = 0.0,
    ) -> None:
        """The cut at `s` through an ellipsoid at (x, y, s) with radii along the same axes."""
        x, y, z = centre + self.jitter[n]
        scale = self.stretch[n]
        left = 1 - ((s - z) / (radii[2] * scale)) ** 2
        if left > 0:
            cut = np.sqrt(left) * scale
            self._put(x, y, radii[0] * cut, radii[1] * cut, value, angle)

    def _bone(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0, shell: float = 3.0) -> None:
        self._put(x, y, rx, ry, self.bone + 250, angle)
        self._put(x, y, rx - shell, ry - shell, self.marrow, angle)

    def slice(self, s: float) -> npt.NDArray[np.float32]:
        """The axial slice at `s` mm on the body axis: ``(200, 200)`` HU, anterior first, right first."""
        self.canvas.fill(-1000.0)
        w, d = float(np.interp(s, _KNOTS, _WIDTHS)), float(np.interp(s, _KNOTS, _DEPTHS))
        if s < 885:
            self._trunk(s, w, d)
        if s > 800:
            self._thighs(s)
        if self.arms and s < 820:
            for side in (-1, 1):
                self._put(side * (w + 32), 15, 30, 34, self.phase.muscle)
                self._bone(side * (w + 32), 15, 11, 11)
        return self.canvas.copy()

    def _trunk(self, s: float, w: float, d: float) -> None:
        p, r = self.phase, self.round

        def shape(a: float, b: float) -> npt.NDArray[np.bool_]:
            inside: npt.NDArray[np.bool_] = np.abs(self.x / a) ** r + np.abs(self.y / b) ** r <= 1
            return inside

        fade = np.clip((s - 850) / 35, 0, 1)  # between the thighs the trunk ends
        self.canvas[shape(w, d * (1 - 0.5 * fade))] = self.fatty
        self.canvas[shape(w - self.fat, d - self.fat)] = p.muscle
        inner = 14.0 if s < 700 else 24.0
        self.canvas[shape(w - self.fat - inner, d - self.fat - inner)] = self.fatty
        chest = float(np.clip((470 - s) / 30, 0, 1))
        outside = ~shape(w - self.fat - 8, d - self.fat - 8)
        wall = self.canvas[outside]
        self._soft_organs(s)
        self.canvas[outside] = wall
        if s < 500:
            self._lung(s, w, d, chest)
        self._muscles(s)
        if s < 610:
            self._ribs(s, w, d)
        self._spine(s)
        if s > 668:
            self._pelvis(s)
        self._vessels(s)

    def _soft_organs(self, s: float) -> None:
        p, n = self.phase, self._organ
        n(0, s, (-62, -8, 525), (78, 72, 88), p.liver)
        n(1, s, (10, -35, 500), (55, 40, 45), p.liver)
        n(2, s, (96, 28, 525), (27, 40, 52), p.spleen)
        n(3, s, (55, -38, 535), (42, 30, 52), 25.0 if not self.oral else 180.0)
        n(4, s, (10, -12, 580), (55, 12, 22), p.wall + 10)
        for side, index, z in ((-1, 5, 612), (1, 6, 597)):
            n(index, s, (side * 58, 40, z), (27, 24, 54), p.kidney)
            n(index, s, (side * 50, 38, z), (10, 9, 25), 300.0 if self.excreted else 5.0)
        n(7, s, (25, -25, 405), (66, 50, 58), p.heart)
        for x, y, middle, rx, ry, rz, content in self.loops:
            left = 1 - ((s - middle) / rz) ** 2
            if left > 0:
                cut = np.sqrt(left)
                self._put(x, y, rx * cut, ry * cut, p.wall)
                self._put(x, y, rx * cut - 3, ry * cut - 3, content)
        n(8, s, (0, -28, 815), (38, 32, 34), 250.0 if self.excreted else 6.0)
        n(9, s, (0, 12, 822), (24, 18, 28), p.wall + 15)
        if 760 < s < 870:
            self._put(self.jitter[10, 0], 48, 17, 15, p.wall)
            self._put(self.jitter[10, 0], 48, 11, 9, -900.0 if self.jitter[10, 1] > 0 else 20.0)

    def _lung(self, s: float, w: float, d: float, chest: float) -> None:
        shape = np.abs(self.x / (w - self.fat - 20)) ** 2.2 + np.abs(self.y / (d - self.fat - 16)) ** 2.2 <= 1
        dome = ((self.x + 65) / 85) ** 2 + ((self.y + 5) / 80) ** 2
        left_dome = ((self.x - 70) / 75) ** 2 + ((self.y + 5) / 75) ** 2
        height = np.minimum(dome, left_dome + 0.15)
        # Lung lies above a dome-shaped floor that is deepest at the chest wall.
        lung = shape & (s < 455 + 60 * (height - 0.25) + self.jitter[11, 2])
        heart = (((self.x - 25) / 62) ** 2 + ((self.y + 22) / 52) ** 2 <= 1) & (s < 462)
        middle = np.abs(self.x) < 26
        self.canvas[lung & ~heart & ~(middle & (self.y > -20))] = -850.0
        if chest > 0:
            self.canvas[shape & heart] = self.phase.heart

    def _muscles(self, s: float) -> None:
        m, y = self.phase.muscle, self.spine_y
        for side in (-1, 1):
            self._put(side * 36, y + 30, 30, 20, m)
            if 560 < s < 800:
                grow = np.clip((s - 560) / 150, 0, 1)
                move = np.clip((s - 690) / 110, 0, 1)
                self._put(side * (34 + 12 * grow + 40 * move), y - 6 - 55 * move, 8 + 16 * grow, 10 + 14 * grow, m)
            if 690 < s < 880:
                self._put(side * 92, 48 + 8 * np.clip((s - 700) / 100, 0, 1), 62, 34, m, side * 0.35)
            if 790 < s < 880:
                self._put(side * 88, -30, 42, 30, m)
                self._put(side * 40, 18, 16, 30, m)

    def _ribs(self, s: float, w: float, d: float) -> None:
        a, b = w - self.fat - 9, d - self.fat - 8
        count = 9 if s < 520 else 6
        for side in (-1, 1):
            for k in range(count):
                angle = 0.35 + 2.45 * ((k + (s / 26.0) % 1.0) / count)
                if s > 540 and angle > 1.9:
                    continue
                # From the spine (behind) round to the front.
                self._bone(side * a * np.sin(angle), b * np.cos(angle), 8, 5, -side * angle, 2.0)
        if s < 445:
            self._bone(0, -b, 18, 6)

    def _spine(self, s: float) -> None:
        if s > 730:
            return
        y = self.spine_y
        disc = (s / 34.0) % 1.0 > 0.75
        if disc:
            self._put(0, y, 24, 18, 75.0)
        else:
            self._bone(0, y, 24, 18, 0.0, 2.5)
        self._bone(0, y + 40, 4, 14, 0.0, 2.0)
        for side in (-1, 1):
            self._bone(side * 17, y + 24, 6, 12, side * 0.5, 2.0)
            if not disc:
                self._bone(side * 34, y + 18, 16, 4, side * 0.2, 2.0)
        self._put(0, y + 20, 10, 8, 22.0)

    def _pelvis(self, s: float) -> None:
        flare = np.clip((s - 668) / 40, 0.05, 1)
        for side in (-1, 1):
            if s < 782:
                # An iliac wing: a bar from the sacroiliac joint forward and outward.
                shrink = np.clip((s - 735) / 60, 0, 1)
                x0, y0 = 48 + 10 * shrink, 58 - 15 * shrink
                x1, y1 = 124 - 18 * shrink, -22 + 30 * (1 - flare) + 10 * shrink
                x0, y0 = x1 + (x0 - x1) * flare, y1 + (y0 - y1) * flare
                length, angle = np.hypot(x1 - x0, y1 - y0) / 2, np.arctan2(y1 - y0, x1 - x0)
                self._bone(side * (x0 + x1) / 2, (y0 + y1) / 2, length + 6, 8 + 3 * shrink, side * angle)
            if 772 < s < 848:
                size = np.sqrt(max(0.0, 1 - ((s - 805) / 42) ** 2))
                self._bone(side * 84, 2, 36 * size, 32 * size)
            if 786 < s < 836:
                size = np.sqrt(max(0.0, 1 - ((s - 811) / 25) ** 2))
                self._put(side * 92, 2, 27 * size, 27 * size, 40.0)
                self._bone(side * 92, 2, 24 * size, 24 * size, 0.0, 2.0)
            if 826 < s < 858:
                self._bone(side * 36, -38, 32, 8, -side * 0.45)
            if 822 < s < 884:
                self._bone(side * 58, 36, 15, 20, side * 0.5)
        if 700 < s < 815:
            taper = np.clip((s - 700) / 115, 0, 1)
            self._bone(
                0,
                self.spine_y + 14 + 26 * np.sin(np.pi * min(1.0, taper * 1.1)) * 0.9,
                48 - 34 * taper,
                20 - 10 * taper,
            )

    def _thighs(self, s: float) -> None:
        apart = np.clip((s - 850) / 60, 0, 1)
        for side in (-1, 1):
            x = side * (82 + self.legs * apart)
            if s > 865:
                self._put(x, 2, 80, 84, self.fatty)
                self._put(x, 2, 80 - self.fat * 0.7, 84 - self.fat * 0.7, self.phase.muscle)
                self._put(x - side * 38, -20, 6, 6, self.phase.artery)
            if 815 < s < 875:
                self._bone(side * 132 if s < 850 else side * 124, 10, 18, 20)
            if s > 835:
                shaft = side * (108 if s < 880 else 100) + (x - side * 82) * 0.6
                self._put(shaft, -2, 14, 14, self.bone + 900)
                self._put(shaft, -2, 7.5, 7.5, -40.0)

    def _vessels(self, s: float) -> None:
        p, y = self.phase, self.spine_y
        if s < 668:
            self._put(6 + self.jitter[12, 0] * 0.5, y - 30, 11, 11, p.artery)
            self._put(
                -19 + self.jitter[13, 0] * 0.5,
                y - 28,
                13,
                10,
                p.vein if s < 600 or p.name != "arterial" else min(p.vein, 60.0),
            )
            if self.lime:
                self._put(15 + self.jitter[12, 0] * 0.5, y - 34, 2.5, 4, 700.0)
            if 480 < s < 545:
                self._put(-40, -5, 8, 7, p.vein)
        elif s < 870:
            out = np.clip((s - 668) / 140, 0, 1)
            for side in (-1, 1):
                self._put(side * (12 + 55 * out), y - 28 - 60 * out, 6, 6, p.artery)
                self._put(
                    side * (14 + 48 * out),
                    y - 18 - 62 * out,
                    7,
                    7,
                    min(p.vein, 70.0) if p.name == "arterial" else p.vein,
                )


def _prosthesis(hu: npt.NDArray[np.float32], top: float, rng: np.random.Generator) -> None:
    """A metal hip with streaks."""
    row = int((811 - top) / COARSE_MM)
    if not 4 < row < len(hu) - 4:
        return
    side = int(rng.choice([-1, 1]))
    x, y = int(_SIZE / 2 + side * 90 / _PIXEL_MM), _SIZE // 2
    for k in range(max(0, row - 5), min(len(hu), row + 6)):
        hu[k, y - 9 : y + 10, x - 9 : x + 10] = 3071.0
        streak = rng.normal(0, 120, _SIZE)
        hu[k, y - 5 : y + 6] += np.where(hu[k, y - 5 : y + 6] > -900, streak, 0)
