"""Noise of MR magnitudes, measured twice by independent means, and the signal above it.

In air a magnitude is noise alone: its mean square is twice the variance of each channel of a complex image
(Gudbjartsson and Patz 1995).  With several channels added by their squares it is more; so it compares series of
one scanner and protocol, as everything here.  In the body noise is what is left in the finest diagonal detail of
an image (Donoho and Johnstone 1994), in those places that are flattest on a coarser scale; near the floor of
magnitudes it is corrected after Koay and Basser (2006).

An image that was interpolated, filtered or filled with zeros in k-space has less of the finest detail: there the
noise of the body reads too low, by a factor that is the same for all series of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from qc_node.domain.measurable import Slices
from qc_node.domain.measure import Better, Measure, Unit
from qc_node.measures.regions import Regions

FloatArray = npt.NDArray[np.float32]

_MR = frozenset({"MR"})
_AIR = "Gudbjartsson and Patz 1995"
_BODY = "Donoho and Johnstone 1994; Koay and Basser 2006"

MEASURES = (
    Measure("noise_air", "raw noise in air", Unit.GREY, Better.LOWER, 0, np.inf, _MR, _AIR, charted=False),
    Measure("noise_object", "noise in the body", Unit.GREY, Better.LOWER, 0, np.inf, _MR, _BODY, charted=False),
    Measure("noise_air_percent", "noise in air", Unit.PERCENT, Better.LOWER, 0, 1000, _MR, "own", with_size=True),
    Measure("noise_percent", "noise", Unit.PERCENT, Better.LOWER, 0, 1000, _MR, "own", with_size=True),
    Measure("snr_object", "signal to noise ratio", Unit.ONE, Better.HIGHER, 0, 1e6, _MR, "own", charted=False),
)

LEAST_AIR_BLOCKS, LEAST_AIR_VOXELS = 20, 500
"""Less air is no measure."""
MOSTLY_BLANKED, LEAST_OF_OUTSIDE = 0.3, 0.1
"""Shares of all that is not body: where so much was blanked and so little is air, the air was blanked."""
SIGNED = 0.3
"""Mean of air, over its root mean square, below which its values are not magnitudes (magnitudes: 0.89)."""
TOO_MANY_ZEROS = 0.2
"""Share of zeros in air above what noise that was rounded would have, from which a part of it was blanked."""
PLANES = 48
"""So many slices, evenly spaced, are enough for a median."""
GROUP = 4
"""Coefficients along the side of a group; each stands for 2 x 2 pixels."""
FLAT = 0.25
"""Share of the groups that is used: the flattest.  Of pure noise, detail does not depend on what is coarser, so
the choice shifts nothing; of a body it leaves out edges and texture."""
LEAST_GROUPS = 24

LEAST_SNR = 0.5
"""Below this the signal is what the rounding of its noise leaves."""

ZEROED = "The scanner blanked the air around the body, so there is no noise in it."
LITTLE_AIR = "There is too little air in the image."
NOT_MAGNITUDES = "The values in air are signed, so they are no magnitudes."
LITTLE_BODY = "Too little of the body can be seen for noise to be measured in it."
TOO_SMOOTH = (
    "The body has no fine detail at all, so the image was made smooth or its noise is below one grey value."
)


@dataclass(frozen=True, slots=True)
class Detail:
    """Noise in the body.

    Attributes
    ----------
    sigma
        Standard deviation of the Gaussian noise behind the magnitudes, in stored values.
    level
        Mean of the places where it was measured, in stored values.
    """

    sigma: float
    level: float


def of_noise(slices: Slices, regions: Regions | str) -> dict[str, float | str]:
    """Every measure of :data:`MEASURES`, or why it has no value."""
    if isinstance(regions, str):
        return {m.name: regions for m in MEASURES}
    air = air_sigma(regions)
    detail = body_detail(slices, regions)
    scale = regions.scale
    out: dict[str, float | str] = {
        "noise_air": air if isinstance(air, str) else air * scale,
        "noise_object": detail if isinstance(detail, str) else detail.sigma * scale,
    }
    if isinstance(detail, str):
        return {**out, **dict.fromkeys(("noise_percent", "noise_air_percent", "snr_object"), detail)}
    signal = body_signal(regions, detail.sigma)
    if not signal > LEAST_SNR * detail.sigma:
        return {**out, **dict.fromkeys(("noise_percent", "noise_air_percent", "snr_object"), LITTLE_BODY)}
    out["noise_percent"] = 100.0 * detail.sigma / signal
    out["noise_air_percent"] = air if isinstance(air, str) else 100.0 * air / signal
    out["snr_object"] = signal / detail.sigma
    return out


def body_signal(regions: Regions, sigma: float) -> float:
    """Median signal of the body without what noise adds to magnitudes, in stored values."""
    square = float(np.median(regions.square[regions.tissue])) - 2 * sigma**2
    return float(np.sqrt(max(square, 0.0)))


def chi2_median(n: float) -> float:
    """Median of the mean of `n` squared standard normal values (Wilson and Hilferty 1931).

    Examples
    --------
    >>> round(chi2_median(16), 4)
    0.9589
    """
    return float((1.0 - 2.0 / (9.0 * n)) ** 3)


def air_sigma(regions: Regions) -> float | str:
    """Sigma of each channel of the complex image by the magnitudes in air, in stored values; or why not."""
    air, outside = regions.air, ~regions.body
    count = int(air.sum())
    blanked = float(regions.blanked[outside].mean()) if outside.any() else 0.0
    if blanked > MOSTLY_BLANKED and count < LEAST_OF_OUTSIDE * outside.sum():
        return ZEROED  # what is left is a shell around the body: ringing and the rim of the mask
    if count < LEAST_AIR_BLOCKS or count * regions.block_size < LEAST_AIR_VOXELS:
        return LITTLE_AIR
    square = float(np.median(regions.square[air]))
    if not square > 0:
        return ZEROED
    if abs(float(np.median(regions.mean[air]))) < SIGNED * np.sqrt(square):
        return NOT_MAGNITUDES
    sigma = float(np.sqrt(square / 2 / chi2_median(2 * regions.block_size)))
    zeros = float(np.median(regions.empty[air])) if regions.lowest == 0 else 0.0
    expected = 1 - np.exp(-0.125 / sigma**2) if regions.whole_numbers else 0.0
    return ZEROED if zeros > expected + TOO_MANY_ZEROS else sigma


def body_detail(slices: Slices, regions: Regions) -> Detail | str:
    """Noise in the body by the finest diagonal detail of slices."""
    parts = [_groups(slices, regions, k) for k in _planes(regions)]
    if not parts:
        return LITTLE_BODY
    detail, rough, level = (np.concatenate(p) for p in zip(*parts, strict=True))
    seen = rough > 0
    if int(seen.sum()) < LEAST_GROUPS:
        return LITTLE_BODY if rough.size < LEAST_GROUPS else TOO_SMOOTH
    detail, rough, level = detail[seen], rough[seen], level[seen]
    flat = rough <= np.quantile(rough, FLAT)
    square = float(np.median(detail[flat])) / chi2_median(GROUP**2)
    if not square > 0:
        return TOO_SMOOTH
    mean = float(np.median(level[flat]))
    s = float(np.sqrt(square))
    # Where values reach below zero by more than noise they are no magnitudes, and nothing is to be corrected.
    return Detail(s if regions.lowest < -s else s / float(np.sqrt(rician_share(mean / s))), mean)


def _planes(regions: Regions) -> list[int]:
    """Slices to look at: evenly spaced among those with a body, one at most per layer of blocks."""
    layers = np.flatnonzero(regions.tissue.any((1, 2)))
    step = max(1, len(layers) // PLANES)
    return [int(regions.starts[0] + n * regions.factors[0] + regions.factors[0] // 2) for n in layers[::step]]


def _groups(slices: Slices, regions: Regions, k: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each group of a slice that lies in tissue: mean square detail, variance of what is coarser, and mean."""
    voxels = slices.volume.voxels[k]
    side = 2 * GROUP
    nj, ni = (n // side for n in voxels.shape)
    j0, i0 = (n % side // 2 for n in voxels.shape)
    if not nj or not ni:
        return (np.zeros(0, np.float32),) * 3
    where = _in_tissue(regions, k, nj, ni, j0, i0)
    tiles = voxels[j0 : j0 + nj * side, i0 : i0 + ni * side].reshape(nj, side, ni, side).swapaxes(1, 2)[where]
    x = tiles.astype(np.float32)
    a, b, c, d = x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]
    detail = ((a - b - c + d) / 2) ** 2
    coarse = (a + b + c + d) / 4
    volume = slices.volume
    level = coarse.mean((1, 2)) + np.float32(volume.intercept / volume.slope)
    out = detail.mean((1, 2)), coarse.var((1, 2)), np.abs(level)
    finite = np.isfinite(out[0]) & np.isfinite(out[1])
    return out[0][finite], out[1][finite], out[2][finite]


def _in_tissue(regions: Regions, k: int, nj: int, ni: int, j0: int, i0: int) -> npt.NDArray[np.bool_]:
    """Which groups of slice `k` have tissue in all blocks that they touch at their corners."""
    layer = regions.tissue[min((k - regions.starts[0]) // regions.factors[0], len(regions.tissue) - 1)]
    side = 2 * GROUP
    rows = [_block(j0 + side * np.arange(nj) + at, regions, 1) for at in (0, side - 1)]
    columns = [_block(i0 + side * np.arange(ni) + at, regions, 2) for at in (0, side - 1)]
    return np.asarray(np.logical_and.reduce([layer[np.ix_(r, c)] for r in rows for c in columns]))


def _block(index: npt.NDArray[np.intp], regions: Regions, axis: int) -> npt.NDArray[np.intp]:
    """The block that a voxel lies in along one axis."""
    at = (index - regions.starts[axis]) // regions.factors[axis]
    return np.clip(at, 0, regions.tissue.shape[axis] - 1)


def rician_share(ratio: float) -> float:
    """Variance of magnitudes over that of the Gaussian noise behind them, by their mean over their spread.

    Koay and Basser (2006), equations 18 to 20: the fixed point of theta.

    Parameters
    ----------
    ratio
        Mean over standard deviation of the magnitudes; below 1.913 there is no signal.

    Returns
    -------
    float
        0.4292 (no signal) to 1.
    """
    no_signal = 2.0 - np.pi / 2
    if ratio >= 40.0:
        return 1.0
    if not ratio > np.sqrt(np.pi / (4.0 - np.pi)):
        return float(no_signal)
    theta = ratio
    for _ in range(200):
        following = float(np.sqrt(max(_xi(theta) * (1 + ratio**2) - 2, 0.0)))
        if abs(following - theta) < 1e-6:
            break
        theta = following
    return float(np.clip(_xi(theta), no_signal, 1.0))


def _xi(theta: float) -> float:
    """Variance of a Rician variable of signal `theta` over that of its Gaussian noise."""
    half, quarter = theta**2 / 2, theta**2 / 4
    # ive is scaled by exp(-quarter); both together are squared, which is exp(-half).
    bessel = (1 + half) * special.ive(0, quarter) + half * special.ive(1, quarter)
    return float(2 + theta**2 - np.pi / 2 * bessel**2)
