"""Stripes across the whole image, as a spike in k-space leaves them (a spark, a loose screw, a bad gradient).

None of the three graded artefacts looks like that, and none of the networks has learnt it: an image that is
plainly spoilt would pass as good.  A single wave is one point in the spectrum of a slice; nothing in a head
is, so it can be measured rather than learnt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

VISIBLE = 0.025
"""Root mean square of the stripes over the white-matter level from which grades are not told any more; the mild
spikes among the training images have up to 0.013, images without one 0."""

_OUTLIER = 40.0
"""How far a point stands above the median of its ring to be a wave; noise reaches 13 among ten thousand."""
_BAND = (0.03, 0.5)
"""Cycles per mm; below lies anatomy."""
_RINGS = 24


def stripe_level(slices: npt.NDArray[np.floating], window: npt.NDArray[np.float32]) -> float:
    """How strong single waves are, inside the brain.

    Parameters
    ----------
    slices
        ``(S, H, W)``, white matter about 1.
    window
        ``(S, H, W)``: 1 in the brain of the average head, with soft edges.

    Returns
    -------
    float
        Root mean square over the white-matter level, median of the slices; 0 where no wave stands out.
    """
    x = slices.astype(np.float32)
    weight = np.maximum(window.sum((1, 2)), 1e-6)
    mean = (x * window).sum((1, 2)) / weight
    power = np.abs(np.fft.rfft2((x - mean[:, None, None]) * window)) ** 2
    h, w = x.shape[1:]
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    edges = np.linspace(*_BAND, _RINGS + 1)
    ring = np.digitize(radius, edges)
    outliers = np.zeros(len(x))
    for number in range(1, _RINGS + 1):
        values = power[:, ring == number]
        usual = np.median(values, axis=1, keepdims=True)
        outliers += np.where(values > _OUTLIER * usual, values, 0).sum(1)
    # Parseval; half of the spectrum was looked at.
    variance = 2 * outliers / (h * w) / np.maximum((window**2).sum((1, 2)), 1e-6)
    level = float(np.median(np.sqrt(variance)))
    return level if np.isfinite(level) else 0.0
