"""Field, direct radiation and body of X-ray images: made ones of known geometry, and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from qc_node.domain.measurable import Radiograph
from qc_node.measures.collimation import irradiated, of_field, reduced
from tests.measures.xray_faults import read_images


def made(tilt: float = 0.0, open_share: float = 0.6) -> tuple[Radiograph, npt.NDArray[np.bool_]]:
    """A cylinder in direct radiation between two blades of a tilted collimator; the image and its field."""
    y, x = np.mgrid[-500:500, -400:400].astype(float)
    turned = x * np.cos(np.deg2rad(tilt)) + y * np.sin(np.deg2rad(tilt))
    field = np.abs(turned) < 400 * open_share
    body = 3000 * np.sqrt((1 - (x / 120) ** 2).clip(0))
    greys = np.where(field, 100 + body, 3800) + np.random.default_rng(0).normal(0, 20, x.shape)
    return Radiograph(ndimage.gaussian_filter(greys, 1).astype(np.uint16), 0, 4095), field


def shares(image: Radiograph) -> dict[str, float]:
    return {name: value for name, value in of_field(irradiated(image)).items() if not isinstance(value, str)}


@pytest.mark.parametrize("tilt", [-10, -5, 0, 3, 10])
def test_field_is_found_between_tilted_blades(tilt: float) -> None:
    image, field = made(tilt)
    assert of_field(irradiated(image))["field_share"] == pytest.approx(100 * field.mean(), abs=3)


def test_image_without_blades_is_all_field() -> None:
    assert of_field(irradiated(made(open_share=2)[0]))["field_share"] == 100


def test_direct_radiation_is_what_is_beside_the_body() -> None:
    image, field = made()
    body = 240 * 1000 / field.sum()
    assert of_field(irradiated(image))["direct_share"] == pytest.approx(100 * (1 - body), abs=4)


def test_turning_the_image_changes_little() -> None:
    image, _ = made(4)
    upright = of_field(irradiated(image))
    for turns in (1, 2, 3):
        turned = of_field(irradiated(Radiograph(np.rot90(image.pixels, turns), 0, 4095)))
        assert turned == pytest.approx(upright, abs=1.5)


@pytest.mark.parametrize(
    ("name", "field", "direct"),
    [
        ("chest", (95, 100), (0, 4)),
        ("leg", (43, 47), (34, 44)),
        ("hip", (68, 73), (35, 44)),
        ("dog", (98, 100), (9, 16)),
    ],
)
def test_real_images_have_the_field_that_people_see(
    shared_data: Path, name: str, field: tuple[float, float], direct: tuple[float, float]
) -> None:
    """Ranges by eye: the blades of leg and hip were read off the picture (44 and 71 % between them)."""
    found = shares(read_images(shared_data)[name])
    assert field[0] <= found["field_share"] <= field[1]
    assert direct[0] <= found["direct_share"] <= direct[1]


def test_block_means_are_means() -> None:
    pixels = np.arange(70 * 50, dtype=np.uint16).reshape(70, 50)
    expected = pixels[:68, :48].reshape(17, 4, 12, 4).mean(axis=(1, 3))
    assert np.allclose(reduced(pixels, 4), expected)
