"""What another scanner, protocol or phase would have made of a real CT volume.

Networks and rules are to hold on scanners that nobody here has.  Real ones are few, so real volumes are varied at
the source, before anything of the node has touched them, in what clinics vary: dose, reconstruction kernel, phase
of enhancement, coverage, field of view, calibration, table and slice thickness.  Everything is drawn from the
generator that is handed in.  Figures measured on such volumes are figures on *varied real* volumes: the anatomy is
real, the scanner is simulated.

Physical sources: noise of a reconstruction has the square root of the backprojected 1/photons as its local height
and the kernel's high-pass ramp as its spectrum (Kijewski & Judy 1987); where the path is long, few photons are
left and streaks run along it (Hsieh 1998); enhancement is linear in iodine, so a weaker phase is a scaled excess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from qc_node.classifiers.ct.body import TISSUE
from qc_node.classifiers.ct.calibration import AIR, CEILING
from qc_node.domain import Volume

FloatArray = npt.NDArray[np.float32]
Kernel = Literal["soft", "standard", "sharp"]

UNENHANCED_HU = 60.0
"""What blood and organs do not exceed without contrast: the excess above it is enhancement."""
_BRIGHTEST_BLOOD = 900.0
_PATH_PER_MM = 0.0095
"""Half the attenuation of water at 70 keV (0.0195 per mm): tube current modulation takes away the other half."""
_EDGE_MM = 0.5
"""Width of what sharp kernels raise."""
_LONG_PATH_MM = 300.0
"""Water along a ray from which on streaks appear: shoulders and hips."""


@dataclass(frozen=True)
class Source:
    """A volume on its way through a simulated scanner.

    Attributes
    ----------
    hu
        ``(z, y, x)`` HU; superior, anterior and right first.
    spacing
        ``(z, y, x)`` in mm.
    top_mm
        How far below the top of the original volume the first slice begins.
    masked
        True where the collection has erased what lies around the body: there is no noise.
    """

    hu: FloatArray
    spacing: tuple[float, float, float]
    top_mm: float = 0.0
    masked: bool = False

    @classmethod
    def of(cls, volume: Volume, *, masked: bool = False) -> Source:
        """From a volume whose axes are those of the body, in any direction.

        Raises
        ------
        ValueError
            The axes are oblique.
        """
        steps = np.diag(volume.affine)[:3]
        if np.abs(volume.affine[:3, :3] - np.diag(steps)).max() > 1e-3 * np.abs(steps).min():
            raise ValueError("the axes of the volume are not those of the body")
        hu = volume.voxels.astype(np.float32) * np.float32(volume.slope) + np.float32(volume.intercept)
        # LPS: x grows to the left, y backwards, z upwards.
        for axis, step, wanted in ((0, steps[2], -1), (1, steps[1], 1), (2, steps[0], 1)):
            if np.sign(step) != wanted:
                hu = np.flip(hu, axis)
        dx, dy, dz = (float(abs(s)) for s in steps)
        return cls(np.clip(np.ascontiguousarray(hu), AIR, CEILING), (dz, dy, dx), 0.0, masked)

    @classmethod
    def upright(cls, volume: Volume, step_mm: float = 2.0) -> Source:
        """From a volume in any pose, as a tilted gantry leaves it: interpolated along the axes of the body."""
        k, j, i = volume.shape
        corners = np.array([(x, y, z, 1) for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)], float)
        low, high = (f((volume.affine @ corners.T)[:3], axis=1) for f in (np.min, np.max))
        out = np.diag([step_mm, step_mm, -step_mm, 1.0])
        out[:3, 3] = low[0], low[1], high[2]
        size = np.ceil((high - low) / step_mm).astype(int) + 1
        # From (z, y, x) of the result to (k, j, i) of the volume.
        turn = np.linalg.inv(volume.affine) @ out
        matrix = turn[:3, :3][::-1, ::-1]
        hu = volume.voxels.astype(np.float32) * np.float32(volume.slope) + np.float32(volume.intercept)
        smooth = ndimage.gaussian_filter(hu, [max(0.0, 0.5 * (step_mm / s - 1)) for s in volume.spacing_mm[::-1]])
        found = ndimage.affine_transform(
            smooth, matrix, turn[:3, 3][::-1], tuple(size[::-1]), order=1, cval=float(AIR)
        )
        return cls(np.clip(found, AIR, CEILING), (step_mm, step_mm, step_mm))

    def volume(self) -> Volume:
        """As the classifier wants it: int16 HU."""
        dz, dy, dx = self.spacing
        hu = np.rint(np.clip(self.hu, AIR, CEILING)).astype(np.int16)
        return Volume(hu, np.diag([dx, dy, -dz, 1.0]), modality="CT")

    def with_hu(self, hu: npt.NDArray[np.floating]) -> Source:
        """The same geometry with other values; erased surroundings stay erased."""
        if self.masked:
            hu = np.where(self.hu <= -995, self.hu, hu)
        return replace(self, hu=np.clip(hu, AIR, CEILING).astype(np.float32))


def _paths(hu: FloatArray, spacing: tuple[float, float, float]) -> tuple[FloatArray, FloatArray]:
    """mm of water along every row ``(z, y, 1)`` and every column ``(z, 1, x)``."""
    water = np.clip(1.0 + hu / 1000.0, 0.0, 2.0)
    return water.sum(2, keepdims=True) * spacing[2], water.sum(1, keepdims=True) * spacing[1]


def _blurred(hu: FloatArray, sigma_mm: float, spacing: tuple[float, float, float]) -> FloatArray:
    sigma = (0.0, sigma_mm / spacing[1], sigma_mm / spacing[2])
    blurred: FloatArray = ndimage.gaussian_filter(hu, sigma, mode="nearest", truncate=3.0)
    return blurred


def dose(source: Source, sigma: float, kernel: Kernel, rng: np.random.Generator) -> Source:
    """Fewer photons: noise of `sigma` HU in the middle of the body, with the correlation that `kernel` leaves.

    Voxels of more than 2 mm average it as a scanner's would.  Long paths add streaks along the row.
    """
    white = rng.standard_normal(source.hu.shape).astype(np.float32)
    if kernel == "soft":
        noise = ndimage.gaussian_filter(white, (0.4, 1.0, 1.0))
    elif kernel == "standard":
        noise = ndimage.gaussian_filter(white, (0.3, 0.5, 0.5))
    else:
        noise = white - 0.7 * ndimage.gaussian_filter(white, (0.0, 1.0, 1.0))
    noise /= noise.std()
    row, column = _paths(source.hu, source.spacing)
    variance = np.exp(_PATH_PER_MM * row) + np.exp(_PATH_PER_MM * column)
    body = source.hu > TISSUE
    middle = np.median(variance[body]) if body.any() else 1.0
    height = np.clip(np.sqrt(variance / middle), 0.4, 2.5)
    coarser = min(1.0, float(np.sqrt(8.0 / np.prod(source.spacing))))
    streak = ndimage.uniform_filter1d(
        rng.standard_normal(source.hu.shape).astype(np.float32), max(3, round(60 / source.spacing[2])), axis=2
    )
    streak *= np.clip((row - _LONG_PATH_MM) / 100.0, 0.0, 2.0) / max(float(streak.std()), 1e-6)
    return source.with_hu(source.hu + sigma * coarser * (noise * height + streak))


def kernel(source: Source, kind: Literal["smooth", "sharp", "lung"], rng: np.random.Generator) -> Source:
    """Another reconstruction kernel: smoothed, or with the raised edges and the noise of a bone or lung kernel.

    Sharp kernels raise what is finer than 3 mm, up to the double or threefold at 0.6 line pairs per mm; voxels of
    4 mm, as openKBP has, average nearly all of it.
    """
    if kind == "smooth":
        return source.with_hu(_blurred(source.hu, 1.6, source.spacing))
    gain, sigma = (1.0, 18.0) if kind == "sharp" else (2.0, 40.0)
    return dose(source.with_hu(_raised(source.hu, gain, source.spacing)), sigma, "sharp", rng)


def _raised(hu: FloatArray, gain: float, spacing: tuple[float, float, float]) -> FloatArray:
    """Every slice with its fine detail times ``1 + gain``: unsharp masking with a Gaussian of 0.5 mm.

    A Gaussian narrower than a voxel cannot be sampled; its transfer function can.
    """
    margin = 8
    padded = np.pad(hu, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    y = fft.fftfreq(padded.shape[1], spacing[1])[:, None]
    x = fft.rfftfreq(padded.shape[2], spacing[2])[None]
    response = 1.0 + gain * (1.0 - np.exp(-2.0 * (np.pi * _EDGE_MM) ** 2 * (y**2 + x**2)))
    raised = fft.irfft2(fft.rfft2(padded, axes=(1, 2)) * response, s=padded.shape[1:], axes=(1, 2))
    return np.asarray(raised[:, margin:-margin, margin:-margin], np.float32)


def bones(hu: FloatArray, spacing: tuple[float, float, float]) -> npt.NDArray[np.bool_]:
    """Cortical bone and what it encloses in the slice; bright blood is homogeneous and therefore none.

    Cortical is what exceeds both 320 HU and 1.35 times the brightest homogeneous tissue.
    """
    part = hu[::2]
    mean = ndimage.uniform_filter(part, 5)
    spread = np.sqrt(np.maximum(0.0, ndimage.uniform_filter(part * part, 5) - mean * mean))
    calm = mean[(spread < 30) & (mean > 20)]
    level = float(np.clip(1.35 * np.percentile(calm, 99.9), 320, 800)) if calm.size else 320.0
    labels, count = ndimage.label(hu > level)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    cortical = (sizes * np.prod(spacing) >= 100)[labels]
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), max(1, round(8 / spacing[1])))
    filled = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, disc)) for plane in cortical])
    found: npt.NDArray[np.bool_] = ndimage.binary_dilation(filled, ndimage.generate_binary_structure(3, 1))
    return found


def phase(source: Source, share: float) -> Source:
    """The same scan with `share` of its enhancement: below 1 later or less agent, above 1 more agent or fewer kV.

    The excess above 60 HU of everything that is no bone is scaled; noise is not.  Spongy bone that no cortex
    encloses is scaled with it, as more and less of it exists too; so are oral contrast and calcification.
    """
    smooth = ndimage.gaussian_filter(source.hu, (0.5, 0.7, 0.7))
    excess = np.clip(smooth - UNENHANCED_HU, 0.0, None)
    wanted = np.minimum(excess * share, np.maximum(excess, _BRIGHTEST_BLOOD - UNENHANCED_HU))
    return source.with_hu(source.hu + np.where(bones(source.hu, source.spacing), 0.0, wanted - excess))


def coverage(source: Source, first: float, last: float) -> Source:
    """Only what lies between `first` and `last`, both as shares of the length from the top (0..1)."""
    count = len(source.hu)
    low = round(first * count)
    high = max(low + 1, round(last * count))
    return replace(source, hu=source.hu[low:high], top_mm=source.top_mm + low * source.spacing[0])


def field_of_view(source: Source, share: float, rng: np.random.Generator, *, circle: bool) -> Source:
    """Reconstructed at `share` of the width, near the middle; `circle` leaves the corners of the square empty."""
    _, ny, nx = source.hu.shape
    window, middle = [], []
    for size in (ny, nx):
        length = max(8, round(size * share))
        start = int(np.clip(round((size - length) / 2 + rng.uniform(-0.08, 0.08) * size), 0, size - length))
        window.append(slice(start, start + length))
        middle.append(length)
    hu = source.hu[:, window[0], window[1]].copy()
    if circle:
        y, x = np.ogrid[: middle[0], : middle[1]]
        radius = max(middle) / 2
        outside = (y - (middle[0] - 1) / 2) ** 2 + (x - (middle[1] - 1) / 2) ** 2 > radius**2
        hu[:, outside] = AIR
    return replace(source, hu=hu)


def calibration(source: Source, offset: float) -> Source:
    """A scale that is `offset` HU high everywhere, air included."""
    return source.with_hu(source.hu + np.float32(offset))


def table(source: Source, rng: np.random.Generator) -> Source:
    """A curved couch that touches the back, a mattress on it and a blanket over the front.

    The picture grows behind and to the sides, as a scanner's field of view would show them.
    """
    _, dy, dx = source.spacing
    behind, beside = round(70 / dy), round(50 / dx)
    air = float(np.percentile(source.hu, 1)) if source.masked else -1000.0
    hu = np.pad(
        source.hu, ((0, 0), (round(20 / dy), behind), (beside, beside)), constant_values=np.float32(min(air, -990))
    )
    tissue = hu > TISSUE
    if not tissue.any():
        return source
    rows = np.flatnonzero(tissue.any((0, 2)))
    columns = np.flatnonzero(tissue.any((0, 1)))
    back, middle = float(rows[-1]) * dy, float(columns.mean()) * dx
    y, x = np.mgrid[: hu.shape[1], : hu.shape[2]].astype(np.float32)
    y, x = y * dy, x * dx - middle
    half = max(180.0, float(len(columns)) * dx / 2)
    on: npt.NDArray[np.bool_] = np.abs(x) < half
    surface = back + 2.0 - rng.uniform(8, 25) * (x / half) ** 2
    depth = y - surface
    shell = on & (((depth > 12) & (depth < 12 + dy * 1.01)) | ((depth > 45) & (depth < 45 + dy * 1.01)))
    mattress, foam = on & (depth >= 0) & (depth <= 12), on & (depth > 12) & (depth < 45)
    free: npt.NDArray[np.bool_] = hu < -700
    for mask, value in ((mattress, -820.0), (foam, -930.0), (shell, rng.uniform(-150, 150))):
        hu[free & np.asarray(mask)] = value
    first = np.where(tissue.any(1), tissue.argmax(1), hu.shape[1]).astype(np.float32)  # (z, x)
    lifted = ndimage.minimum_filter1d(ndimage.gaussian_filter(first, (2, 3)), 5, axis=1) - 2
    rows_of = np.arange(hu.shape[1])[None, :, None]
    top = np.floor(lifted)[:, None]
    blanket = (rows_of >= top) & (rows_of < top + 1) & tissue.any(1, keepdims=True)
    hu[blanket & free] = rng.uniform(-500, -150)
    return replace(source, hu=hu)


def thick(source: Source, thickness_mm: float) -> Source:
    """Slices of `thickness_mm`, each the mean of what it covers; thinner ones only."""
    step = source.spacing[0]
    if thickness_mm <= step:
        return source
    count = max(1, int(len(source.hu) * step / thickness_mm))
    edges = np.arange(count + 1) * thickness_mm / step
    total = np.concatenate([np.zeros((1, *source.hu.shape[1:])), np.cumsum(source.hu, 0, dtype=np.float64)])
    low = np.minimum(edges.astype(int), len(source.hu) - 1)
    at = total[low] + (edges - low)[:, None, None] * source.hu[low]
    mean = np.diff(at, axis=0) / (thickness_mm / step)
    return replace(source, hu=mean.astype(np.float32), spacing=(thickness_mm, *source.spacing[1:]))
