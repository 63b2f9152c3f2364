"""Stored slices as numbers, in three planes: however a series was acquired, the patient is the right way up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from qc_node.ledger import Received
from qc_node.spool import Spool
from qc_node.web import slices
from tests.report.sources import source
from tests.web.conftest import Browse, Clinic

HEAD, BACK, LEFT = 12, 9, 7
"""Size of the volume along head, posterior and left."""


def volume() -> np.ndarray:
    """Each voxel says where it is: axes head, posterior, left, increasing."""
    h, p, left = np.mgrid[:HEAD, :BACK, :LEFT]
    found: np.ndarray = (100 * h + 10 * p + left).astype(np.uint16)
    return found


ACQUIRED = {
    # image columns run along, rows run along: (patient axis 0 left 1 posterior 2 head, direction)
    "axial": ((0, 1), (1, 1)),
    "axial, upside down": ((0, -1), (1, -1)),
    "coronal": ((0, 1), (2, -1)),
    "sagittal": ((1, 1), (2, -1)),
    "sagittal, turned": ((2, 1), (1, 1)),
}


def store(spool: Spool, acquired: str, *, modality: str = "MR") -> list[str]:
    """Files of the volume, acquired this way, with 1 mm voxels but 2 mm along the head."""
    (across, along), (down, below) = ACQUIRED[acquired]
    spacing = (1.0, 1.0, 2.0)
    through = 3 - across - down
    row, column = np.zeros(3), np.zeros(3)
    row[across], column[down] = along, below
    lps = volume().transpose(2, 1, 0)
    names = []
    for n in range(lps.shape[through]):
        cut = np.take(lps, n, through)  # the two other axes, in patient order
        cut = cut.T if across < down else cut  # rows first
        cut = cut[:: int(below), :: int(along)]
        position = np.zeros(3)
        position[through] = n * spacing[through]
        ds = source()
        ds.SOPInstanceUID, ds.Modality = f"1.7.1.{n + 1}", modality
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [*row, *column], [*position]
        ds.PixelSpacing = [spacing[down], spacing[across]]
        ds.Rows, ds.Columns = cut.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        if modality == "CT":
            ds.RescaleSlope, ds.RescaleIntercept = 2, -1024
        ds.PixelData = np.ascontiguousarray(cut).tobytes()
        name = f"images/{n}.dcm"
        (spool.root / "images").mkdir(exist_ok=True)
        ds.save_as(spool.root / name, enforce_file_format=True)
        names.append(name)
    return names


@pytest.mark.parametrize("acquired", ACQUIRED)
def test_the_patient_is_the_right_way_up_in_every_plane(tmp_path: Path, acquired: str) -> None:
    spool = Spool(tmp_path)
    stack = slices.read_stack(spool, store(spool, acquired))
    told = slices.describe(stack)
    assert {*told["planes"], *told["others"]} == {"axial", "coronal", "sagittal"}
    expected = {
        "axial": (volume(), 1.0),
        "coronal": (volume()[::-1].transpose(1, 0, 2), 2.0),
        "sagittal": (volume()[::-1].transpose(2, 0, 1), 2.0),
    }
    for plane, (whole, aspect) in expected.items():
        for n in (0, 3, len(whole) - 1):
            cut, found, count = slices.numbers(spool, stack, plane, n)
            assert count == len(whole) and found == pytest.approx(aspect), plane
            assert np.array_equal(cut * stack.step + stack.least, whole[n]), (plane, n)
        with pytest.raises(IndexError):
            slices.numbers(spool, stack, plane, len(whole))


def test_a_ct_is_in_hounsfield_units_and_has_its_windows(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    stack = slices.read_stack(spool, store(spool, "axial", modality="CT"))
    cut, _, _ = slices.numbers(spool, stack, "axial", 2)
    assert np.array_equal(cut * stack.step + stack.least, volume()[2] * 2.0 - 1024)
    told = slices.describe(stack)
    assert told["unit"] == "HU" and {w["name"] for w in told["windows"]} == {
        "brain",
        "soft",
        "lung",
        "bone",
        "air",
    }


def test_the_window_for_air_shows_faint_noise_outside_the_head() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.rayleigh(8, (128, 128))
    pixels[30:98, 30:98] = 900
    low, high = slices._air(pixels, 0.0, 900.0)
    noise = pixels[:20]
    assert low == 0 and np.percentile(noise, 99) < high < 0.1 * 900
    assert noise.mean() / (high - low) > 0.15, "noise is grey, not black"


def test_slices_travel_as_numbers_and_removed_ones_say_so(clinic: Clinic, browse: Browse) -> None:
    names = store(clinic.spool, "sagittal")
    now = clinic.clock.now
    clinic.ledger.instances.add(
        [Received(f"1.7.1.{n + 1}", "1", "1.7.1", "1.7", "1", "MR", "MR", x, 1, now) for n, x in enumerate(names)]
    )
    number, browser = clinic.number("1.7.1"), browse()
    told = browser.get(f"/api/slices/{number}").json()
    assert told["planes"] == {"sagittal": LEFT} and told["others"] == ["axial", "coronal"] and not told["sentence"]
    answer = browser.get(f"/api/slices/{number}/axial/5")
    size = int(answer.headers["x-rows"]), int(answer.headers["x-columns"])
    assert size == (BACK, LEFT) and answer.headers["x-slices"] == str(HEAD)
    assert np.array_equal(np.frombuffer(answer.content, "<u2").reshape(size), volume()[5])
    assert answer.headers["cache-control"] == "no-store"
    assert browser.get(f"/api/slices/{number}/axial/12").status_code == 404
    assert browser.get(f"/api/slices/{number}/oblique/1").status_code == 422
    clinic.ledger.db.conn.execute("UPDATE series SET images_removed_at = 1.0")
    told = browser.get(f"/api/slices/{number}").json()
    assert told["planes"] == {} and "removed" in told["sentence"]
    assert browser.get(f"/api/slices/{number}/axial/5").status_code == 404
    assert browser.get("/api/slices/77").status_code == 404
    assert browse(public_base="https://qc.example").get(f"/api/slices/{number}").status_code in (400, 401)
