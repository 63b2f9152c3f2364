"""Widths of edges whose width is known, and of real radiographs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from scipy import ndimage, special

from qc_node.measures import edges, patterns, spectrum

Image = tuple[npt.NDArray[np.float32], tuple[float, float]]
TEN_TO_NINETY = 2.563
"""Of a step blurred with a Gaussian, in its sigma."""
RADIOGRAPHS = ("082_dx_image.dcm", "149_RG2_JPLY_fixed.dcm")


def disc(sigma: float, spacing: tuple[float, float] = (1.0, 1.0), radius: float = 60.0) -> npt.NDArray[np.float32]:
    """A bright disc of `radius` mm whose border was blurred with `sigma` mm."""
    j, i = np.ogrid[:200, :200]
    distance = np.hypot((j - 100) * spacing[0], (i - 100) * spacing[1]) - radius
    return np.asarray(500 * special.erfc(distance / sigma / np.sqrt(2)), np.float32)


def width(pixels: npt.NDArray[np.generic], spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    found = edges.of_image(pixels, spacing)["edge_width_mm"]
    assert isinstance(found, float), found
    return found


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_a_gaussian_edge_has_its_width_within_eight_percent(sigma: float) -> None:
    assert width(disc(sigma)) == pytest.approx(TEN_TO_NINETY * sigma, rel=0.08)


def test_a_width_is_in_millimetres() -> None:
    assert width(disc(0.4, (0.2, 0.2), 12.0), (0.2, 0.2)) == pytest.approx(TEN_TO_NINETY * 0.4, rel=0.08)
    assert width(disc(2.0, (1.0, 0.8)), (1.0, 0.8)) == pytest.approx(TEN_TO_NINETY * 2, rel=0.08)


def test_noise_makes_no_edge_wide_or_narrow() -> None:
    noise = np.random.default_rng(1).normal(0, 50, (200, 200))
    assert width(disc(2.0) + noise) == pytest.approx(width(disc(2.0)), rel=0.15)


def test_why_there_is_no_width() -> None:
    assert edges.of_image(disc(1.0), None) == {"edge_width_mm": edges.NO_SPACING}
    assert edges.of_image(np.zeros((200, 200)), (1.0, 1.0)) == {"edge_width_mm": edges.NO_EDGES}


@pytest.mark.parametrize("axis", [0, 1])
def test_motion_that_leaves_half_of_the_edges_sharp_is_seen(axis: int) -> None:
    still = np.tile(disc(1.5, radius=75), (2, 2)) + np.random.default_rng(3).normal(0, 2, (400, 400))
    moved = ndimage.uniform_filter1d(still, 9, axis=axis)
    assert width(moved) > 1.5 * width(still)


@pytest.fixture(params=RADIOGRAPHS)
def radiograph(
    request: pytest.FixtureRequest, shared_data: Path
) -> tuple[npt.NDArray[np.float32], tuple[float, float]]:
    with tarfile.open(shared_data / "dicom" / "interoperability.tar.xz") as archive:
        member = archive.extractfile(f"interoperability/{request.param}")
        assert member is not None
        image = pydicom.dcmread(io.BytesIO(member.read()))
    spacing = image.get("ImagerPixelSpacing") or image.PixelSpacing
    return image.pixel_array.astype(np.float32), (float(spacing[0]), float(spacing[1]))


@pytest.mark.data
@pytest.mark.slow
def test_real_radiographs_obey_the_same_laws(radiograph: Image) -> None:
    pixels, spacing = radiograph
    blurred = [ndimage.gaussian_filter(pixels, sigma) for sigma in (1, 2, 3)]
    widths = [width(image, spacing) for image in (pixels, *blurred)]
    assert widths == sorted(set(widths))
    moved = [width(ndimage.uniform_filter1d(pixels, 9, axis=axis), spacing) for axis in (0, 1)]
    assert min(moved) > 1.2 * widths[0]
    slopes = [spectrum.of_image(image, spacing)["spectrum_slope"] for image in (pixels, *blurred)]
    assert slopes == sorted(slopes, key=float, reverse=True)
    contrast = float(np.percentile(pixels, 95) - np.percentile(pixels, 5))
    j, i = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    waved = pixels + np.float32(0.04 * contrast) * np.cos(2 * np.pi * (0.21 * i + 0.17 * j))
    assert patterns.of_image(pixels)["wave_level"] == 0
    assert patterns.of_image(waved)["wave_level"] == pytest.approx(4, rel=0.1)
    lined = pixels.copy()
    lined[len(lined) // 3] += 0.5 * contrast
    before, after = (float(patterns.of_image(image)["line_level"]) for image in (pixels, lined))
    assert before < 1
    assert after == pytest.approx(50, rel=0.3)
    assert width(lined, spacing) == pytest.approx(widths[0], rel=0.1)
