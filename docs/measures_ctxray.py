"""Draws docs/images/measures-ct.png and measures-xray.png: what planted faults do to the measures of CT and X-ray.

    python docs/measures_ctxray.py SHARED_DATA

Needs the shared images and matplotlib (``pip install .[train]``).  The pictures hold curves and made phantoms,
never a real image.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qc_node.domain.measurable import Radiograph
from qc_node.domain.technique import Technique
from qc_node.measures.collimation import irradiated, of_field
from qc_node.measures.ct import of_ct
from qc_node.measures.exposure import of_greys
from qc_node.measures.radiographs import grid_lines
from tests.measures.ct_faults import cropped, read_archive, read_nifti, slices_of, with_metal
from tests.measures.test_collimation import made
from tests.measures.xray_faults import overexposed, read_images, underexposed

IMAGES = Path(__file__).parent / "images"
STEPS = (0, 1, 2, 3, 5, 10, 20, 30)
LARGE = ("chest", "leg", "hip")


def draw_ct(data: Path) -> None:
    """Noise against its law, metal and streaks against the size of a rod, outline against the crop."""
    figure, (noise, metal, cut) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    abdomen, abdomen_mm = read_archive(data / "dicom" / "ct_crlm1004_2.tar.xz")
    chest, chest_mm = read_nifti(data / "ct" / "volumes" / "lidc0314_30026.nii.gz")
    for label, hu, spacing in (
        ("abdomen 0.8 mm", abdomen[::4], abdomen_mm),
        ("chest 2 mm", chest[60:90], chest_mm),
    ):
        _noise_law(noise, label, hu, spacing)
    _titled(noise, "Noise planted (times its own)", "noise_hu over the law")
    noise.axhspan(0.9, 1.1, color="0.93", zorder=0)
    _metal(metal, abdomen[::4, ::4, ::4], tuple(4 * mm for mm in abdomen_mm))
    crops = range(0, 32, 4)
    shares = [_ct(cropped(chest[60:90], columns), chest_mm)["cut_outline"] for columns in crops]
    cut.plot([2 * columns for columns in crops], shares, "o-", color="tab:blue")
    _titled(cut, "Cropped at each side (mm)", "cut_outline (%)")
    _save(figure, "measures-ct.png")


def _noise_law(axes: Any, label: str, hu: Any, spacing: Any) -> None:
    base = _ct(hu, spacing)["noise_hu"]
    ratios = []
    for times in STEPS:
        noisy = hu + np.random.default_rng(times).normal(0, times * base, hu.shape) if times else hu
        ratios.append(_ct(noisy, spacing)["noise_hu"] / (base * np.hypot(1, times)))
    axes.plot(STEPS, ratios, "o-", label=f"{label}, {base:.1f} HU")
    axes.legend()


def _metal(axes: Any, hu: Any, spacing: Any) -> None:
    radii, shares, streaks = (2.0, 4.0, 6.0, 8.0, 10.0), [], []
    for radius in radii:
        rod = hu.copy()
        for k in (4, 6):
            rod[k] = with_metal(hu[k], spacing[0], (70, 64), radius, seed=k)
        found = _ct(rod, spacing)
        shares.append(100 * found["metal_share"])
        streaks.append(found["metal_streaks"])
    axes.plot(radii, streaks, "o-", label="metal_streaks (HU)")
    axes.plot(radii, shares, "s--", label="metal_share (1/100 %)")
    axes.legend()
    _titled(axes, "Radius of a metal rod (mm)", "")


def draw_xray(data: Path) -> None:
    """A made phantom with what is found in it; grain, level and clipping against exposure; lines of a grid."""
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.4), layout="constrained")
    _phantom(axes[0])
    images = read_images(data)
    for name in LARGE:
        _exposure(axes[1:4], name, images[name])
        _lines(axes[4], name, images[name])
    for panel, title in zip(axes[1:4], ("grain (%)", "field_level (%)", "black_clipped (%)"), strict=True):
        _titled(panel, "Times the usual exposure", title)
        panel.set_xscale("log", base=2)
    axes[1].axhline(2, color="0.6", ls=":")
    axes[3].axhline(5, color="0.6", ls=":")
    axes[4].set_yscale("log")
    axes[4].legend()
    _titled(axes[4], "Lines planted (% of greys)", "grid_lines")
    _save(figure, "measures-xray.png")


def _phantom(axes: Any) -> None:
    image, _ = made(6)
    found = irradiated(image)
    grey = 0.8 * found.values / found.values.max()
    colours = np.stack([np.where(~found.field, 1, grey), grey, np.where(found.direct, 1, grey)], axis=-1)
    axes.imshow(colours)
    axes.set_title("made phantom: red outside the\nfield, blue direct radiation", fontsize=9)
    axes.axis("off")


def _exposure(axes: Any, name: str, image: Radiograph) -> None:
    down, up = (16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 32)
    grain = [_greys(underexposed(image, times))["grain"] for times in down]
    axes[0].plot([1 / times for times in down], grain, "o-", label=name)
    bright = [_greys(underexposed(image, times, 0, False))["field_level"] for times in down[2:]]
    dark = [_greys(overexposed(image, times)) for times in up]
    levels = bright + [one["field_level"] for one in dark[1:]]
    axes[1].plot([1 / times for times in down[2:]] + list(up[1:]), levels, "o-", label=name)
    axes[2].plot(up, [one["black_clipped"] for one in dark], "o-", label=name)


def _lines(axes: Any, name: str, image: Radiograph) -> None:
    shares = (0, 0.1, 0.2, 0.5, 1)
    span = np.ptp(np.percentile(image.pixels, (1, 99)))
    wave = 1 + np.sin(2 * np.pi * 0.31 * np.arange(image.pixels.shape[1]))
    found = [grid_lines((image.pixels + share / 100 * span * wave).astype(np.int32)) for share in shares]
    axes.plot(shares, found, "o-", label=name)


def _ct(hu: Any, spacing: Any) -> dict[str, Any]:
    return dict(of_ct(slices_of(hu, spacing), Technique("CT")))


def _greys(image: Radiograph) -> dict[str, Any]:
    found = irradiated(image)
    return of_field(found) | of_greys(image, found)


def _titled(axes: Any, below: str, beside: str) -> None:
    axes.set_xlabel(below)
    axes.set_title(beside, fontsize=10)
    axes.grid(alpha=0.3)


def _save(figure: Any, name: str) -> None:
    figure.savefig(IMAGES / name, dpi=80)
    plt.close(figure)


def main(arguments: Iterable[str]) -> None:
    """Draw both pictures."""
    (data,) = map(Path, arguments)
    draw_ct(data)
    draw_xray(data)


if __name__ == "__main__":
    main(sys.argv[1:])
