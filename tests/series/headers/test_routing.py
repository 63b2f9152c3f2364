"""Which classifier, or which tag says none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import PositronEmissionTomographyImageStorage

from qc_node.classifiers import catalogue
from qc_node.domain import Accepts, Content, Stage
from qc_node.series.headers import routing
from qc_node.series.headers.routing import Route
from qc_node.series.volume.stack import OpenedSeries, open_series
from tests.series.makers import item, make_enhanced, make_series, voxels

SHAPE = (3, 8, 8)


def route(opened: OpenedSeries) -> Route:
    return routing.route(opened, catalogue.accepts())


def routed(folder: Path, modality: str = "MR", thickness: float = 1.0, **values: object) -> Route:
    def change(_: int, ds: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    return route(open_series(make_series(folder, voxels(SHAPE), modality, (1, 1, thickness), change=change)))


JUDGED: tuple[dict[str, Any], ...] = (
    {},
    {"SeriesDescription": "t1_mprage_sag_p2_iso", "BodyPartExamined": "HEAD"},
    {"SeriesDescription": "SAG T1 BRAVO", "BodyPartExamined": "CSPINE"},
    {"SeriesDescription": "AX T1 FLAIR 3D", "EchoTime": 20},
    {"SeriesDescription": "MPR cor T1", "ImageType": ["DERIVED", "SECONDARY", "MPR"]},
    {"SeriesDescription": "3D TFE", "MRAcquisitionType": "3D"},
    {"SeriesDescription": "T1 and T2 something"},
    {"SeriesDescription": "EPILEPSY 3D"},
    {"SeriesDescription": "kids different"},
    {"SeriesDescription": "Brain", "ProtocolName": "BRAIN MRA FLAIR DWI", "Manufacturer": "GE MEDICAL SYSTEMS"},
    {"SeriesDescription": "T1 AP", "BodyPartExamined": "BRAIN"},
    {"SeriesDescription": "Subtraction T1", "ImageType": ["DERIVED", "PRIMARY", "SUBTRACTION"]},
    {"StudyDescription": "MR phantom"},
    {"StudyDescription": "Brain and lumbar spine"},
    {"SeriesDescription": "T1", "ImageType": ["ORIGINAL", "PRIMARY", "T2"]},
)


@pytest.mark.parametrize("values", JUDGED)
def test_what_may_be_a_t1w_brain_is_judged(tmp_path: Path, values: dict[str, Any]) -> None:
    assert routed(tmp_path, **values) == Route(Stage.BRAIN_MRI)


def test_a_silent_thick_series_is_judged(tmp_path: Path) -> None:
    assert routed(tmp_path, thickness=5.0, SeriesDescription="SAG") == Route(Stage.BRAIN_MRI)


SKIPPED = (
    ({"SeriesDescription": "localizer"}, "(0008,103E)"),
    ({"SeriesDescription": "AAHead_Scout_64ch"}, "(0008,103E)"),
    ({"SeriesDescription": "3-Plane Loc"}, "(0008,103E)"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "(0008,0008)"),
    ({"SeriesDescription": "t2_tse_tra"}, "(0008,103E)"),
    ({"SeriesDescription": "T2W_TSE"}, "(0008,103E)"),
    ({"SeriesDescription": "AX T2 FLAIR"}, "(0008,103E)"),
    ({"SeriesDescription": "FLAIR SPACE"}, "(0008,103E)"),
    ({"SeriesDescription": "ep2d_diff_mddw_20_p2"}, "(0008,103E)"),
    ({"SeriesDescription": "eADC"}, "(0008,103E)"),
    ({"SeriesDescription": "SWI_Images"}, "(0008,103E)"),
    ({"SeriesDescription": "TOF_3D_multi-slab"}, "(0008,103E)"),
    ({"SeriesDescription": "PD TSE"}, "(0008,103E)"),
    ({"SeriesDescription": "relCBF"}, "(0008,103E)"),
    ({"SeriesDescription": "MRS single voxel"}, "(0008,103E)"),
    ({"SeriesDescription": "gre_field_mapping"}, "(0008,103E)"),
    ({"SeriesDescription": "resting state fMRI"}, "(0008,103E)"),
    ({"SeriesDescription": "Sag STIR"}, "(0008,103E)"),
    ({"ProtocolName": "ax_dwi"}, "(0018,1030)"),
    ({"DiffusionBValue": 1000.0}, "(0018,9087)"),
    ({"ScanningSequence": "EP"}, "(0018,0020)"),
    ({"EchoTime": 98}, "(0018,0081)"),
    ({"AngioFlag": "Y"}, "(0018,0025)"),
    ({"SequenceName": "*fl3d1r_t70"}, "(0018,0024)"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW"]}, "(0008,0008)"),
    ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "CSA MIP"]}, "(0008,0008)"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "(0008,0008)"),
    ({"AcquisitionContrast": "FLUID_ATTENUATED"}, "(0008,9209)"),
    ({"BodyPartExamined": "LSPINE", "SeriesDescription": "T1 SAG"}, "(0018,0015)"),
    ({"BodyPartExamined": "KNEE"}, "(0018,0015)"),
    ({"SeriesDescription": "SAG T1 L-SPINE", "StudyDescription": "MR brain"}, "(0008,103E)"),
    ({"StudyDescription": "MRI SHOULDER"}, "(0008,1030)"),
    ({"SeriesDescription": "t1_vibe_fs_tra_bh", "BodyPartExamined": "ABDOMEN"}, "(0018,0015)"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "(0028,0004)"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "(0008,0016)"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}, "(0008,0016)"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59"}, "(0008,0016)"),
    ({"SOPClassUID": "1.2.3.999"}, "(0008,0016)"),
    ({"Modality": "PT"}, "(0008,0060)"),
    ({"Modality": None, "SOPClassUID": None}, "(0008,0060)"),
)


@pytest.mark.parametrize(("values", "tag"), SKIPPED)
def test_clear_others_are_skipped_with_the_tag_that_says_so(
    tmp_path: Path, values: dict[str, Any], tag: str
) -> None:
    where = routed(tmp_path, **values)
    assert where.stage is None
    assert where.sentence is not None and tag in where.sentence and where.sentence.endswith(".")


def test_clear_2d_is_skipped_but_thin_2d_is_not(tmp_path: Path) -> None:
    thick = routed(tmp_path / "a", thickness=4.0, MRAcquisitionType="2D", SeriesDescription="t1_fl2d_sag")
    assert thick.stage is None and "(0018,0023)" in str(thick.sentence)
    thin = routed(tmp_path / "b", thickness=1.0, MRAcquisitionType="2D", SeriesDescription="t1 mpr")
    assert thin.stage == Stage.BRAIN_MRI


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"SeriesDescription": "KNEE"},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        {"Modality": None},
        {"SeriesDescription": "Thorax 1.0 Br40"},
    ],
)
def test_ct_is_judged_by_modality(tmp_path: Path, values: dict[str, Any]) -> None:
    assert routed(tmp_path, "CT", **values) == Route(Stage.CT)


@pytest.mark.parametrize(
    ("values", "tag"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "(0008,0008)"),
        ({"SeriesDescription": "Topogram 0.6 T20f"}, "(0008,103E)"),
        ({"SeriesDescription": "Patient Protocol"}, "(0008,103E)"),
        ({"SeriesDescription": "Dose Report"}, "(0008,103E)"),
        ({"SeriesDescription": "Monitoring 10.0"}, "(0008,103E)"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 MON"]}, "(0008,0008)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "(0008,0008)"),
    ],
)
def test_what_is_no_ct_of_a_body_part_is_skipped(tmp_path: Path, values: dict[str, Any], tag: str) -> None:
    where = routed(tmp_path, "CT", **values)
    assert where.stage is None and tag in str(where.sentence)


def test_one_scout_among_axial_images_does_not_skip_the_series(tmp_path: Path) -> None:
    def scout(k: int, ds: Dataset) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if k else "LOCALIZER"]

    assert route(open_series(make_series(tmp_path, voxels(SHAPE), "CT", change=scout))).stage == Stage.CT


def test_enhanced_frames_tell_their_contrast(tmp_path: Path) -> None:
    def contrast(word: str) -> object:
        def change(ds: Dataset) -> None:
            shared = ds.SharedFunctionalGroupsSequence[0]
            shared.MRImageFrameTypeSequence = item(AcquisitionContrast=word)
            ds.SharedFunctionalGroupsSequence = Sequence([shared])

        return change

    t1 = route(open_series([make_enhanced(tmp_path / "a.dcm", voxels(SHAPE), change=contrast("T1"))]))  # type: ignore[arg-type]
    t2 = route(open_series([make_enhanced(tmp_path / "b.dcm", voxels(SHAPE), change=contrast("T2"))]))  # type: ignore[arg-type]
    assert t1.stage == Stage.BRAIN_MRI
    assert t2.stage is None and "(0008,9209)" in str(t2.sentence)


def test_a_route_has_a_room_or_a_reason() -> None:
    with pytest.raises(ValueError, match="either"):
        Route(None)
    with pytest.raises(ValueError, match="either"):
        Route(Stage.CT, "Because.")


def test_another_modality_is_judged_where_a_classifier_accepts_it(tmp_path: Path) -> None:
    series = make_series(tmp_path, voxels(SHAPE), "MR", change=lambda _, ds: setattr(ds, "Modality", "PT"))
    for path in series:
        ds = dcmread(path)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        ds.save_as(path)
    opened = open_series(series)
    assert "no CT or MR image" in str(routing.route(opened, catalogue.accepts()).sentence)
    pet = Accepts(Stage("pet"), "PT", Content.ANY)
    assert routing.route(opened, (*catalogue.accepts(), pet)) == Route(Stage("pet"))


def test_two_classifiers_that_accept_a_series_are_both_asked_and_the_first_is_the_routed_one(
    tmp_path: Path,
) -> None:
    opened = open_series(make_series(tmp_path, voxels(SHAPE), "CT"))
    second = Accepts(Stage("second"), "CT", Content.ANY)
    found = routing.route(opened, (*catalogue.accepts(), second))
    assert (found.stage, found.also) == (Stage.CT, (Stage("second"),))
    assert found.stages == (Stage.CT, Stage("second"))


@pytest.mark.parametrize(
    ("modalities", "words"),
    [(("CT",), "not CT"), (("CT", "MR"), "neither CT nor MR"), (("CT", "MR", "PT"), "neither CT, MR nor PT")],
)
def test_the_sentence_names_every_modality_that_is_judged(modalities: tuple[str, ...], words: str) -> None:
    assert routing.neither(modalities) == words
