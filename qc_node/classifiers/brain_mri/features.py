"""What can be measured on the slices, given where the tissues of the average head are.

Some two hundred numbers per image: grey values and their spread in known places (contrast, enhancement),
differences of neighbours in brain and air (noise), spectra and their direction (motion), likeness to the
average head (straight rejects).  A small network on them needs few people to learn from, unlike one on
pixels.  In the spirit of image quality metrics (MRIQC; Esteban et al. 2017), but
without a segmentation that could fail: the masks come from the registration alone.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from qc_node.classifiers.brain_mri import preprocess
from qc_node.classifiers.brain_mri import registration as reg

N_FEATURES = 241
"""Length of the vector."""
VERSION = 2
"""Goes up with every change of a number, so that cached features and old weights are told apart."""

RIPPLE_MM = (1, 2, 3, 4, 6)
"""Half wavelengths looked for."""
AXIS_OF = {(0, 0): 1, (0, 1): 0, (1, 0): 2, (1, 1): 0, (2, 0): 2, (2, 1): 1}
"""Plane and direction (0 down the rows, 1 along the columns) -> left-right 0, front-back 1, head-foot 2."""

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class FeatureMaker:
    """Measures slices in the frame of one average head."""

    def __init__(self, head: preprocess.AverageHead) -> None:
        points = preprocess.slice_points()
        channels = torch.from_numpy(np.ascontiguousarray(head.channels))
        values, _ = reg.sample(channels, head.affine, points.reshape(-1, 3))
        image, brain, white, grey, fluid, vessel, inside = values.reshape(7, *points.shape[:3]).numpy()
        self.image: FloatArray = image
        self.brain: Mask = brain > 0.9
        self.white: Mask = white > 0.65
        self.grey: Mask = grey > 0.5
        self.fluid: Mask = fluid > 0.6
        self.vessel: Mask = vessel > 0.3
        self.head: Mask = inside > 0.5
        self.shell: Mask = (inside > 0.9) & (brain < 0.02)
        self.air: Mask = inside < 0.01
        self.planes = preprocess.slice_planes().numpy()
        self.window: FloatArray = _taper(self.brain)
        deep = np.stack([ndimage.binary_erosion(m, iterations=2) for m in self.white])
        inner = np.stack([ndimage.binary_erosion(m, iterations=3) for m in self.brain])
        regions = {"deep": deep, "inner": inner, "shell": self.shell, "air": self.air}
        # A few thousand places per plane are enough for a median and much faster.
        self.places = {
            (plane, name): _thinned(mask & (self.planes == plane)[:, None, None])
            for name, mask in regions.items()
            for plane in range(3)
        }

    @cached_property
    def names(self) -> list[str]:
        """Name of each number, in order."""
        return list(self._measure(np.where(self.head, self.image, 0.01).astype(np.float32)))

    def __call__(self, slices: npt.NDArray[np.floating]) -> FloatArray:
        """Slices ``(S, H, W)`` as the classifier makes them -> ``(n_features,)``; always finite."""
        values = np.array(list(self._measure(slices.astype(np.float32)).values()), dtype=np.float64)
        return np.clip(np.nan_to_num(values, nan=0.0, posinf=50.0, neginf=-50.0), -50, 50).astype(np.float32)

    def _measure(self, x: FloatArray) -> dict[str, float]:
        out: dict[str, float] = {}
        self._grey_values(x, out)
        self._neighbours(x, out)
        self._air(x, out)
        self._spectra(x, out)
        self._ripples(x, out)
        self._likeness(x, out)
        return out

    def _grey_values(self, x: FloatArray, out: dict[str, float]) -> None:
        smooth = _box(x)
        for name, mask, points in (
            ("brain", self.brain, (1, 5, 20, 35, 50, 65, 80, 90, 95, 99, 99.7)),
            ("vessel", self.vessel, (25, 50, 75, 90, 98)),
            ("shell", self.shell, (10, 50, 90, 98)),
        ):
            for q, v in zip(points, _quantiles(smooth[mask], points), strict=True):
                out[f"{name} {q}"] = v
        white, grey, fluid = (float(np.median(smooth[m])) for m in (self.white, self.grey, self.fluid))
        out["white minus grey"] = (white - grey) / max(abs(white), 0.1)
        out["fluid over white"] = fluid / max(abs(white), 0.1)
        out["grey over white"] = grey / max(abs(white), 0.1)
        # Bright specks and tubes: what an opening removes.
        peaks = smooth - _dilate(_erode(smooth))
        for name, mask in (("brain", self.brain), ("vessel", self.vessel)):
            for q, v in zip((90, 99, 99.7), _quantiles(peaks[mask], (90, 99, 99.7)), strict=True):
                out[f"peaks {name} {q}"] = v
        out["bright share brain"] = float(np.log(1e-4 + (smooth[self.brain] > 1.3).mean()))
        out["bright share vessel"] = float(np.log(1e-3 + (smooth[self.vessel] > 1.2).mean()))
        out["vessel over shell"] = out["vessel 90"] / max(out["shell 90"], 0.2)
        # How far apart the two tissues are, wherever exactly they lie: two groups in the deep brain.
        inner = smooth[self.brain]
        low, high = _quantiles(inner, (15, 92))
        inner = inner[(inner > 0.45) & (inner < max(high * 1.3, 0.5))]
        if inner.size > 500:
            counts, edges = np.histogram(inner, 64)
            middle = (edges[1:] + edges[:-1]) / 2
            w = np.cumsum(counts) / counts.sum()
            m = np.cumsum(counts * middle) / counts.sum()
            between = (m[-1] * w - m) ** 2 / np.maximum(w * (1 - w), 1e-6)
            cut = int(between[:-1].argmax())
            lower, upper = inner[inner <= edges[cut + 1]], inner[inner > edges[cut + 1]]
            if lower.size and upper.size:
                out["two groups apart"] = float((upper.mean() - lower.mean()) / max(upper.mean(), 0.1))
                out["two groups clear"] = float(between[cut] / max(float(inner.var()), 1e-6))
        out.setdefault("two groups apart", 0.0)
        out.setdefault("two groups clear", 0.0)
        out["spread brain"] = float(high - low)

    def _neighbours(self, x: FloatArray, out: dict[str, float]) -> None:
        """Differences of neighbours at 1, 2 and 4 mm: noise is fine, ringing coarser, anatomy coarsest."""
        level = x
        brain, white, air, edge = self.brain, self.white, self.air, self.head
        for scale in (1, 2, 4):
            mean, rows, columns, both = _haar(level)
            brain, white, air, edge = (m[:, ::2, ::2] for m in (brain, white, air, edge))
            for name, mask in (("brain", brain), ("white", white), ("air", air)):
                spread = [_mad(d[mask]) for d in (rows, columns, both)]
                out[f"fine {scale} {name} both"] = float(np.log(spread[2] + 1e-3))
                out[f"fine {scale} {name} rows+columns"] = float(np.log(spread[0] + spread[1] + 1e-3))
                if name == "brain":
                    out[f"fine {scale} tail"] = float(
                        np.log(np.quantile(np.abs(both[mask]), 0.98) + 1e-3) - np.log(spread[2] + 1e-3)
                    )
            level = mean

    def _air(self, x: FloatArray, out: dict[str, float]) -> None:
        """Signal where there is no head: noise fills it evenly, ghosts do not."""
        smooth = _box(_box(x))
        for plane in range(3):
            here = self.planes == plane
            air = smooth[here][self.air[here]]
            air = air[air != 0]
            if air.size < 200:
                values = [0.0, 0.0, 0.0]
            else:
                values = _quantiles(air, (50, 90, 99))
            out[f"air {plane} median"] = float(np.log(abs(values[0]) + 3e-3))
            out[f"air {plane} 90"] = float(np.log(abs(values[1] - values[0]) + 3e-3))
            out[f"air {plane} 99"] = float(np.log(abs(values[2] - values[0]) + 3e-3))
        out["zero share air"] = float((x[self.air] == 0).mean())
        out["zero share head"] = float((x[self.head] == 0).mean())
        out["dark share brain"] = float((x[self.brain] < 0.1).mean())

    def _spectra(self, x: FloatArray, out: dict[str, float]) -> None:
        """Power of the brain in bands, and how much of it runs along rows or columns."""
        n = x.shape[-1]
        f = np.fft.fftfreq(n)
        fy, fx = f[:, None], np.fft.rfftfreq(n)[None]
        radius = np.hypot(fy, fx)
        mean = np.array([float(s[b].mean()) for s, b in zip(x, self.brain, strict=True)])[:, None, None]
        power = np.abs(np.fft.rfft2((x - mean) * self.window)) ** 2
        bands = (0.02, 0.05, 0.09, 0.14, 0.2, 0.28, 0.38, 0.5)
        along = np.abs(fx) > 2 * np.abs(fy)
        down = np.abs(fy) > 2 * np.abs(fx)
        for plane in range(3):
            here = power[self.planes == plane].mean(0)
            total = None
            for low, high in pairwise(bands):
                ring = (radius >= low) & (radius < high)
                band = float(np.log(here[ring].mean() + 1e-6))
                total = band if total is None else total
                out[f"band {plane} {low}"] = band - total if low > bands[0] else band
                direction = np.log((here[ring & along].mean() + 1e-6) / (here[ring & down].mean() + 1e-6))
                out[f"direction {plane} {low}"] = float(direction)

    def _ripples(self, x: FloatArray, out: dict[str, float]) -> None:
        """Waves along left-right, front-back and head-foot: motion ripples along the phase axis alone.

        Which axis that is differs from scan to scan, so the axes are sorted: the strongest, the weakest, and
        how far the strongest stands out.
        """
        calm = [ndimage.uniform_filter1d(x, 3, -1), ndimage.uniform_filter1d(x, 3, -2)]
        places = {key: at[x.reshape(-1)[at] != 0] for key, at in self.places.items()}
        for step in RIPPLE_MM:
            waves = [_wave(calm[0], step, -2).reshape(-1), _wave(calm[1], step, -1).reshape(-1)]
            for name in ("deep", "inner", "shell", "air"):
                common, wide = np.full(3, np.log(2e-3)), np.full(3, np.log(2e-3))
                for (plane, direction), axis in AXIS_OF.items():
                    values = waves[direction][places[plane, name]]
                    if values.size > 50:
                        # Every axis is seen in two planes.
                        common[axis] += 0.5 * np.log1p(_mad(values) / 2e-3)
                        wide[axis] += 0.5 * np.log1p(float(np.quantile(np.abs(values), 0.95)) / 2e-3)
                for kind, power in (("common", common), ("wide", wide)):
                    low, middle, top = np.sort(power)
                    out[f"ripple {step} {name} {kind} top"] = float(top)
                    out[f"ripple {step} {name} {kind} low"] = float(low)
                    out[f"ripple {step} {name} {kind} alone"] = float(top - middle)

    def _likeness(self, x: FloatArray, out: dict[str, float]) -> None:
        scores = []
        for s, average, mask in zip(x, self.image, self.head, strict=True):
            a, b = s[mask], average[mask]
            a, b = a - a.mean(), b - b.mean()
            scores.append(float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6)))
        for plane in range(3):
            part = np.array(scores)[self.planes == plane]
            out[f"likeness {plane}"] = float(part.mean())
            out[f"least likeness {plane}"] = float(part.min())
        a, b = _box(x)[self.brain], self.image[self.brain]
        out["likeness brain"] = float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 else 0.0
        edges = np.abs(np.diff(_box(x), axis=-1))[..., :-1, :][self.brain[..., :-1, :-1]]
        for q, v in zip((50, 80, 95), _quantiles(edges, (50, 80, 95)), strict=True):
            out[f"edges {q}"] = float(np.log(v + 1e-3))
        flat = (np.diff(x, axis=-1)[..., :-1, :] == 0)[self.brain[..., :-1, :-1]]
        out["flat share"] = float(flat.mean())


def _thinned(mask: Mask, most: int = 4000) -> npt.NDArray[np.int64]:
    """Flat indices of at most about `most` places of a mask, evenly."""
    at = np.flatnonzero(mask)
    return at[:: max(1, len(at) // most)]


def _wave(x: FloatArray, step: int, axis: int) -> FloatArray:
    """Second difference over `step` pixels along `axis`: strongest for waves of twice that length."""
    mean = x if step == 1 else ndimage.uniform_filter1d(x, step, axis)
    return np.asarray(mean - 0.5 * (np.roll(mean, step, axis) + np.roll(mean, -step, axis)), dtype=np.float32)


def _quantiles(values: FloatArray, percent: tuple[float, ...]) -> list[float]:
    if values.size == 0:
        return [0.0] * len(percent)
    return [float(v) for v in np.quantile(values, np.array(percent) / 100.0)]


def _mad(values: FloatArray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _box(x: FloatArray) -> FloatArray:
    """Mean over 3 x 3 neighbours."""
    t = torch.from_numpy(np.ascontiguousarray(x))[:, None]
    return np.asarray(torch.nn.functional.avg_pool2d(t, 3, 1, 1, count_include_pad=False)[:, 0].numpy())


def _dilate(x: FloatArray, size: int = 7) -> FloatArray:
    t = torch.from_numpy(np.ascontiguousarray(x))[:, None]
    rows = torch.nn.functional.max_pool2d(t, (size, 1), 1, (size // 2, 0))
    return np.asarray(torch.nn.functional.max_pool2d(rows, (1, size), 1, (0, size // 2))[:, 0].numpy())


def _erode(x: FloatArray, size: int = 7) -> FloatArray:
    return -_dilate(-x, size)


def _haar(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mean and three differences (normalised like the mean of four voxels' noise: SD kept) at half size."""
    a, b, c, d = x[:, 0::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 0::2], x[:, 1::2, 1::2]
    parts = ((a + b + c + d) / 4, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2)
    mean, rows, columns, both = (np.asarray(p, dtype=np.float32) for p in parts)
    return mean, rows, columns, both


def _taper(mask: Mask) -> FloatArray:
    """The mask with soft edges, so that its outline does not ring in the spectrum."""
    soft = mask.astype(np.float32)
    for _ in range(6):
        soft = _box(soft)
    return soft * mask
