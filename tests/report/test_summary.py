"""The QC summary: what it says of itself in DICOM, and what people see."""

from __future__ import annotations

import io
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset

from qc_node.domain import InstanceRef, Verdict
from qc_node.domain.wording import Card, Tone
from qc_node.report.documents import DISCLAIMER, SERIES_NUMBER_BASE
from qc_node.report.summary import SERIES_NUMBER, SUMMARY_CLASS, build_summary
from qc_node.report.summary_picture import COLOURS, SIDE, Picture, SummaryPage, draw
from qc_node.report.uids import Edition
from tests.peers import validators
from tests.peers.process import require
from tests.report.measured import BLOCK
from tests.report.sources import (
    CREATED,
    as_bytes,
    ct_verdict,
    evidence,
    key,
    mri_verdict,
    report,
    source,
    written,
)

PAGE = SummaryPage("MR, series 5, 3 images", Card("Good quality", Tone.GOOD))


def summary(header: Dataset | None = None, *verdicts: Verdict, **changes: Any) -> Dataset:
    """A picture with defaults for everything."""
    header = source() if header is None else header
    options: dict[str, Any] = {
        "software_version": "0.1.0",
        "node": "QCNODE",
        "rules_digest": "r0",
        "created": CREATED,
        "instance_number": 1,
        **changes,
    }
    refs = options.pop("evidence", evidence())
    series = options.pop("series", key(header))
    picture = options.pop("picture", None)
    picture = draw(PAGE) if picture is None else picture
    return build_summary(header, refs, series, verdicts or (mri_verdict(),), picture, **options)


# -- the object --------------------------------------------------------------------------------------
def test_it_is_an_image_of_the_study_and_says_that_it_is_none_of_the_patient() -> None:
    ds = written(summary())
    assert (ds.SOPClassUID, ds.Modality, list(ds.ImageType), ds.ConversionType) == (
        "1.2.840.10008.5.1.4.1.1.7",
        "OT",
        ["DERIVED", "SECONDARY"],
        "WSD",
    )
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == SUMMARY_CLASS
    assert (ds.PatientID, ds.StudyInstanceUID, ds.AccessionNumber) == ("QC-1", source().StudyInstanceUID, "A7")
    assert (ds.SeriesDescription, ds.BurnedInAnnotation, ds.Manufacturer) == ("QC summary", "NO", "qc-node")
    assert ds.DateOfSecondaryCapture == ds.ContentDate and ds.TimeOfSecondaryCapture == ds.ContentTime
    assert "not for diagnosis" in ds.DerivationDescription
    assert ds.PatientOrientation in ("", None)
    for absent in ("PixelSpacing", "FrameOfReferenceUID", "RecognizableVisualFeatures", "SeriesTime"):
        assert absent not in ds
    assert [item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence] == sorted(
        ref.sop_instance_uid for ref in evidence()
    )
    assert [item.ManufacturerModelName for item in ds.ContributingEquipmentSequence] == ["qc-test"]


def test_its_pixels_are_the_picture() -> None:
    ds = written(summary())
    assert (ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration) == (3, "RGB", 0)
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation) == (8, 8, 7, 0)
    assert ds["PixelData"].VR == "OB"
    assert np.array_equal(ds.pixel_array, draw(PAGE))


def test_an_odd_number_of_bytes_is_made_even() -> None:
    ds = written(summary(picture=np.full((3, 3, 3), 7, np.uint8)))
    assert len(ds.PixelData) == 28 and np.array_equal(ds.pixel_array, np.full((3, 3, 3), 7))


def test_its_series_is_that_of_the_study_behind_every_report() -> None:
    one, other = summary(), summary(source(SeriesInstanceUID="1.2.9", SeriesNumber="89999"))
    assert one.SeriesInstanceUID == other.SeriesInstanceUID and one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesNumber == other.SeriesNumber == SERIES_NUMBER
    highest = report(header=source(SeriesNumber=str(SERIES_NUMBER_BASE - 1))).SeriesNumber
    assert highest < SERIES_NUMBER
    assert report().SeriesInstanceUID != one.SeriesInstanceUID


@pytest.mark.parametrize(
    "changes",
    [
        {"evidence": evidence(4)},
        {"evidence": [InstanceRef(r.sop_class_uid, r.sop_instance_uid, "other") for r in evidence()]},
        {"rules_digest": "r1"},
        {"edition": Edition(("relink 1",))},
        {"edition": Edition((), ("patient 1",))},
    ],
)
def test_its_uid_changes_with_its_causes(changes: dict[str, Any]) -> None:
    assert summary(**changes).SOPInstanceUID != summary().SOPInstanceUID


def test_its_uid_does_not_change_with_time_number_words_or_release() -> None:
    later, other = CREATED.replace(year=2027), np.ones((4, 4, 3), np.uint8)
    changed = summary(created=later, instance_number=9, earlier="1.2.3", software_version="9.9", picture=other)
    assert changed.SOPInstanceUID == summary().SOPInstanceUID
    assert changed.SeriesInstanceUID != summary().SeriesInstanceUID, "Software Versions is of the series"


def test_another_patient_has_another_series_and_a_series_of_another_study_has_not() -> None:
    assert summary(edition=Edition((), ("patient 1",))).SeriesInstanceUID != summary().SeriesInstanceUID
    study = str(source().StudyInstanceUID)
    assert summary(edition=Edition((), (study,))).SeriesInstanceUID == summary().SeriesInstanceUID


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert as_bytes(summary()) == as_bytes(summary())


def test_the_picture_that_it_replaces_is_referred_to_and_never_itself() -> None:
    (item,) = summary(earlier="1.2.3").ReferencedImageSequence
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (SUMMARY_CLASS, "1.2.3")
    assert "ReferencedImageSequence" not in summary()
    assert "ReferencedImageSequence" not in summary(earlier=str(summary().SOPInstanceUID))


@pytest.mark.parametrize(
    "wrong",
    [{"evidence": []}, {"picture": np.zeros((4, 4), np.uint8)}, {"picture": np.zeros((4, 4, 3), np.float32)}],
)
def test_what_makes_no_picture_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a summary needs"):
        summary(**wrong)


def measured_only() -> Dataset:
    """The picture of a series that nobody judged."""
    header = source("DX")
    return build_summary(
        header,
        evidence(),
        key(header),
        (),
        draw(PAGE),
        software_version="0.1.0",
        node="QCNODE",
        rules_digest="r0",
        created=CREATED,
        instance_number=1,
        measures=BLOCK,
    )


NAMED = [
    source(),
    source("CT", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Ärmel"),
    source(PatientID="", PatientName="", StudyDate="", StudyTime="", SeriesNumber=None, StudyID=None),
    source(TimezoneOffsetFromUTC="+0900", PatientAge="003M", PatientIdentityRemoved="YES"),
]
EXPECTED = re.compile("Laterality|needed to build DICOMDIR|Extended SOP Class|not present in standard DICOM IOD")
"""Warnings that no picture, or none of such a source, can do without."""


@pytest.mark.peer
def test_it_is_valid_to_dciodvfy(tmp_path: Path) -> None:
    kinds = [summary(header) for header in NAMED]
    kinds += [summary(source("CT"), ct_verdict(), mri_verdict(), evidence=evidence(1200), earlier="1.2.3")]
    kinds.append(measured_only())
    for number, ds in enumerate(kinds):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(as_bytes(ds))
        errors, warnings = validators.check_iod(path)
        assert errors == [], number
        assert [w for w in warnings if not EXPECTED.search(w)] == [], number


@pytest.mark.peer
def test_dcmtk_reads_the_pixels(tmp_path: Path) -> None:
    path, image = tmp_path / "summary.dcm", tmp_path / "summary.ppm"
    path.write_bytes(as_bytes(summary()))
    (program,) = require("dcmj2pnm")
    done = subprocess.run([program, "+op", str(path), str(image)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(image) as picture:
        assert np.array_equal(np.asarray(picture), draw(PAGE))


# -- what people see ---------------------------------------------------------------------------------
GREY = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
VIEWS = {"axial": GREY, "coronal": GREY.T, "sagittal": GREY}
HEADLINES = ["Good quality", "Abdomen and pelvis, without contrast", "word " * 30, "W" * 200]


def inked(picture: Picture, top: int, bottom: int) -> int:
    """How many pixels of some rows are not the ground."""
    return int((np.abs(picture[top:bottom].astype(int) - picture[30, 5].astype(int)).sum(axis=2) > 40).sum())


@pytest.mark.parametrize("tone", list(Tone))
def test_each_tone_has_a_bar_of_its_colour_and_a_shape_of_its_own(tone: Tone) -> None:
    picture = draw(SummaryPage("x", Card("x", tone)))
    assert picture.shape == (SIDE, SIDE, 3) and tuple(picture[5, 500]) == COLOURS[tone]
    shapes = {}
    for other in Tone:
        mark = draw(SummaryPage("x", Card("x", other)))[452:532, 36:112]
        shapes[other] = (mark == np.array(COLOURS[other])).all(axis=2)
    assert all(not np.array_equal(shapes[tone], shape) for other, shape in shapes.items() if other is not tone)
    assert shapes[tone].sum() > 700


def contrast(colour: tuple[int, ...], ground: tuple[int, ...]) -> float:
    """WCAG 2.2 contrast ratio."""

    def light(rgb: tuple[int, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(colour), light(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_from_the_ground() -> None:
    ground = tuple(int(v) for v in draw(PAGE)[30, 5])
    assert min(contrast(colour, ground) for colour in COLOURS.values()) > 6.0


@pytest.mark.parametrize("words", HEADLINES)
def test_a_headline_of_any_length_stays_between_pictures_and_text_where_no_viewer_writes(words: str) -> None:
    picture = draw(SummaryPage("x", Card(words, Tone.POOR), views=VIEWS))
    without = draw(SummaryPage("x", Card("", Tone.POOR), views=VIEWS))
    differs = np.flatnonzero((picture != without).any(axis=(1, 2)))
    assert differs.size and differs.min() >= 440 and differs.max() < 574


def test_every_sentence_adds_ink_and_none_runs_into_the_foot() -> None:
    sentences = [f"Ordered: region {n} with contrast; found: another region without contrast." for n in range(4)]
    pages = [draw(SummaryPage("x", Card("x", Tone.USABLE), sentences[:n], VIEWS)) for n in range(5)]
    ink = [inked(picture, 566, 850) for picture in pages]
    assert ink[0] == 0 and all(more > less + 300 for less, more in pairwise(ink[:4])), "the last may be smaller"
    assert ink[4] > ink[2]
    assert all(np.array_equal(pages[0][855:], picture[855:]) for picture in pages)


MEASURED = ["noise in air 12.3 grey values", "edge width 0.93 mm", "tube voltage 120 kV"] * 3
UNUSUAL = ["Noise in air is 9.1 times the usual spread above normal.", "Another.", "A third."]
FOOT = 852
"""Row of the line above model and time."""


@pytest.mark.parametrize("notes", [[], ["Ordered: chest; found: head."], ["Ordered: chest; found: head."] * 9])
def test_measures_stand_above_the_foot_and_cover_nothing_of_the_verdict(notes: list[str]) -> None:
    card = Card("Poor quality", Tone.POOR, "Severe noise and some motion.", sure="Likely (87 %)")
    without = draw(SummaryPage("x", card, notes[:1], VIEWS, ["y"]))
    picture = draw(SummaryPage("x", card, notes, VIEWS, ["y"], MEASURED, UNUSUAL))
    assert np.array_equal(picture[: 578 + 39], without[: 578 + 39]), "headline and first sentence stay"
    assert np.array_equal(picture[FOOT:], without[FOOT:])
    lines = 2 if notes else 3
    assert inked(picture, FOOT - 6 - 33 * lines, FOOT - 2) > 2000 * lines
    assert inked(picture, FOOT - 6 - 33 * lines - 8, FOOT - 6 - 33 * lines) == 0, "room to what stands above"


def test_measures_are_no_smaller_than_any_other_text_and_none_is_broken() -> None:
    one = draw(SummaryPage("x", PAGE.card, measured=MEASURED[:1]))
    rows = np.flatnonzero((one != draw(PAGE_X)).any(axis=(1, 2)))
    assert 18 < np.ptp(rows) < 33, "one line of letters of 27 pixels"
    long = draw(SummaryPage("x", PAGE.card, measured=["w" * 200, *MEASURED[:1]]))
    assert np.array_equal(long, one), "what does not fit a line is left out, not cut"


PAGE_X = SummaryPage("x", PAGE.card)


def test_a_page_without_measures_is_drawn_as_before() -> None:
    assert np.array_equal(draw(SummaryPage("x", PAGE.card, measured=[], unusual=[])), draw(PAGE_X))


def test_pictures_of_another_name_are_drawn_where_there_are_no_mid_planes() -> None:
    others = draw(SummaryPage("x", PAGE.card, views={"1 of 2": GREY, "2 of 2": GREY}))
    assert inked(others[:, :344], 88, 392) > 20_000 and inked(others[:, 360:664], 88, 392) > 20_000
    mixed = draw(SummaryPage("x", PAGE.card, views={"other": GREY, **VIEWS}))
    assert np.array_equal(mixed, draw(SummaryPage("x", PAGE.card, views=VIEWS)))


def test_the_picture_of_a_series_that_was_only_measured_names_no_classifier() -> None:
    ds = measured_only()
    assert "ContributingEquipmentSequence" not in ds
    assert ds.SeriesInstanceUID == summary().SeriesInstanceUID
    assert summary(measures=BLOCK).SOPInstanceUID not in (ds.SOPInstanceUID, summary().SOPInstanceUID)


def test_a_sentence_is_not_said_twice() -> None:
    note = "Ordered: chest; found: abdomen."
    both = SummaryPage("x", Card("Abdomen", Tone.USABLE, note), [note])
    assert np.array_equal(draw(both), draw(SummaryPage("x", Card("Abdomen", Tone.USABLE), [note])))


def test_views_have_their_shape_and_a_picture_without_any_says_so() -> None:
    with_views, without = draw(SummaryPage("x", PAGE.card, views=VIEWS)), draw(SummaryPage("x", PAGE.card))
    assert inked(with_views, 88, 392) > 50_000 and 300 < inked(without, 88, 392) < 20_000
    left = with_views[88:392, 40:344]
    assert (left[:30] == with_views[30, 5]).all(), "three by four lies in a square"


def test_the_disclaimer_is_on_every_picture() -> None:
    assert DISCLAIMER == "Automated, unverified; not for diagnosis."
    full = draw(SummaryPage("x", Card("x", Tone.POOR, "x " * 900), ["y " * 900] * 9, VIEWS, ["z " * 300] * 9))
    empty = draw(SummaryPage("", Card("", Tone.OPEN)))
    assert np.array_equal(full[975:], empty[975:]) and inked(empty, 975, SIDE) > 2000


@settings(max_examples=15, deadline=None)
@given(
    headline=st.text(max_size=60),
    detail=st.text(max_size=300),
    notes=st.lists(st.text(max_size=120), max_size=5),
    rows=st.integers(1, 400),
    columns=st.integers(1, 400),
)
def test_any_words_and_any_view_give_a_picture(
    headline: str, detail: str, notes: list[str], rows: int, columns: int
) -> None:
    views = {
        "axial": np.zeros((rows, columns), np.uint8),
        "other": GREY,
        "coronal": np.zeros((0, 3), np.uint8),
    }
    assert draw(SummaryPage("x", Card(headline, Tone.OPEN, detail), notes, views)).shape == (SIDE, SIDE, 3)


def test_a_picture_takes_as_much_room_as_its_pixels() -> None:
    size = len(as_bytes(summary(evidence=evidence(300))))
    assert 3 * SIDE * SIDE < size < 3 * SIDE * SIDE + 50_000
    assert pydicom.dcmread(io.BytesIO(as_bytes(summary())), stop_before_pixels=True).Rows == SIDE
