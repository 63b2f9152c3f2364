"""How a series was acquired, by headers of every vendor's making; nothing that people type gets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from qc_node.dicom.received_header import facts
from qc_node.domain.technique import PARAMETERS, Technique
from qc_node.series.headers.acquisition import exposed_views, hashed, technique_of, weighting
from qc_node.series.headers.acquisition_values import body_size
from qc_node.series.raw_header import scan_file
from qc_node.series.volume.stack import open_series
from tests.series.makers import SAGITTAL, item, make_enhanced, make_radiograph, make_series, voxels

PICTURE = np.zeros((16, 16), "<u2")
MR: dict[str, Any] = {
    "StationName": "MR2",
    "SoftwareVersions": ["syngo MR", "E11"],
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "SequenceName": "*tfl3d1_16ns",
    "MRAcquisitionType": "3D",
    "RepetitionTime": 2300,
    "EchoTime": 2.98,
    "InversionTime": 900,
    "FlipAngle": 9,
    "AcquisitionMatrix": [0, 256, 240, 0],
    "PixelBandwidth": 240,
    "ReceiveCoilName": "HeadNeck_64",
    "NumberOfAverages": 1,
    "EchoTrainLength": 1,
    "MagneticFieldStrength": 3,
    "ProtocolName": "t1_mprage_sag",
    "SeriesDescription": "t1_mprage_sag RR",
    "BodyPartExamined": "BRAIN",
    "PatientSize": 1.8,
    "PatientWeight": 81,
}


def of(tmp_path: Path, modality: str = "MR", slices: int = 3, **values: Any) -> Technique:
    def change(k: int, ds: Dataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value[k] if isinstance(value, tuple) else value)

    paths = make_series(tmp_path, voxels((slices, 8, 8)), modality, orientation=SAGITTAL, change=change)
    return technique_of(open_series(paths))


def of_radiograph(tmp_path: Path, **values: Any) -> Technique:
    def change(ds: Dataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return technique_of(open_series([make_radiograph(tmp_path / "a.dcm", PICTURE, change)]))


# -- MR ----------------------------------------------------------------------------------------------
def test_of_a_classic_mr(tmp_path: Path) -> None:
    found = of(tmp_path, **MR)
    assert (found.modality, found.station, found.software) == ("MR", "MR2", "syngo MR E11")
    assert found.protocol_key == (
        f"body_part=brain|contrast=no|dimension=3d|kind=original|name={hashed('t1_mprage_sag')}"
        "|orientation=sagittal|sequence=ir_gr_sk_sp_mp_tfl3dns|weighting=t1"
    )
    assert found.parameters == {
        "repetition_time": 2300.0,
        "echo_time": 2.98,
        "inversion_time": 900.0,
        "flip_angle": 9.0,
        "bandwidth": 240.0,
        "averages": 1.0,
        "echo_train": 1.0,
        "pixel_mm": pytest.approx((0.8 * 0.7) ** 0.5, rel=1e-5),
        "matrix": "256x240",
        "coil": "HeadNeck_64",
        "field_t": 3.0,
        "slice_mm": 2.5,
        "slice_distance_mm": 2.5,
    }
    assert found.parameters.keys() <= PARAMETERS.keys()
    assert found.stated == {} and found.body_size == 25.0


def test_of_an_enhanced_mr(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        shared = ds.SharedFunctionalGroupsSequence[0]
        shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=7.6, FlipAngle=8.0, EchoTrainLength=225)
        shared.MRFOVGeometrySequence = item(
            MRAcquisitionFrequencyEncodingSteps=256, MRAcquisitionPhaseEncodingStepsInPlane=192
        )
        shared.MRReceiveCoilSequence = item(ReceiveCoilName="SENSE-Head-8")
        shared.MRAveragesSequence = item(NumberOfAverages=2.0)
        shared.MRImagingModifierSequence = item(PixelBandwidth=193.0)
        shared.MRModifierSequence = item(InversionTimes=[950.0])
        ds.EchoPulseSequence, ds.PulseSequenceName, ds.MRAcquisitionType = "GRADIENT", "T1TFE", "3D"

    found = technique_of(
        open_series([make_enhanced(tmp_path / "e.dcm", voxels((4, 8, 8)), echoes=(3.5,), change=change)])
    )
    assert found.parameters == {
        "repetition_time": 7.6,
        "echo_time": 3.5,
        "inversion_time": 950.0,
        "flip_angle": 8.0,
        "bandwidth": 193.0,
        "averages": 2.0,
        "echo_train": 225.0,
        "matrix": "256x192",
        "coil": "SENSE-Head-8",
        "pixel_mm": pytest.approx((0.8 * 0.7) ** 0.5, rel=1e-5),
        "slice_mm": 2.5,
        "slice_distance_mm": 2.5,
    }
    assert found.protocol["sequence"] == "gradient_ttfe" and found.protocol["weighting"] == "t1"
    assert found.protocol["orientation"] == "axial" and found.protocol["dimension"] == "3d"


@pytest.mark.parametrize(
    "change",
    [
        {"SequenceName": "*tfl3d1_18ns"},  # numbers vary with the day
        {"SeriesDescription": "t1_mprage_sag"},
        {"ProtocolName": "T1 MPRAGE sag repeat"},
        {"EchoTime": 3.1},
        {"ContrastBolusAgent": "none"},
        {"PatientID": "P2", "PatientName": "Other^One", "StudyDescription": "Head with contrast"},
    ],
)
def test_what_does_not_make_another_protocol(tmp_path: Path, change: dict[str, Any]) -> None:
    assert of(tmp_path / "a", **MR).protocol_key == of(tmp_path / "b", **{**MR, **change}).protocol_key


@pytest.mark.parametrize(
    "change",
    [
        {"ProtocolName": "t1_space_sag"},
        {"MRAcquisitionType": "2D"},
        {"ContrastBolusAgent": "Gadovist 8 ml"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS3D"]},
        {"ScanningSequence": "SE"},
        {"EchoTime": 40},
        {"BodyPartExamined": "KNEE"},
    ],
)
def test_what_makes_another_protocol(tmp_path: Path, change: dict[str, Any]) -> None:
    assert of(tmp_path / "a", **MR).protocol_key != of(tmp_path / "b", **{**MR, **change}).protocol_key


def test_nothing_that_people_type_is_in_the_protocol(tmp_path: Path) -> None:
    secret = "MUELLER"
    everywhere: dict[str, Any] = {
        **MR,
        **dict.fromkeys(("ProtocolName", "SeriesDescription", "BodyPartExamined", "StudyDescription"), secret),
        "ScanningSequence": secret,
        "SequenceVariant": secret,
        "ImageType": [secret, "PRIMARY", secret],
        "ContrastBolusAgent": secret,
        "MRAcquisitionType": secret,
    }
    assert secret.casefold() not in of(tmp_path / "mr", **everywhere).protocol_key.casefold()
    assert secret.casefold() not in str(of(tmp_path / "mr2", **everywhere).parameters).casefold()
    ct = of(tmp_path / "ct", "CT", **{k: v for k, v in everywhere.items() if k not in ("ReceiveCoilName",)})
    assert secret.casefold() not in ct.protocol_key.casefold()


@pytest.mark.parametrize("modality", ["MR", "CT", "DX"])
def test_a_patient_who_is_named_where_a_code_belongs_is_in_nothing(tmp_path: Path, modality: str) -> None:
    """Charts are exported, and departures quote what was set."""
    secret = "ZWICKLBAUER"
    fields = ("ReceiveCoilName", "ConvolutionKernel", "FilterType", "Grid", "SequenceName", "SoftwareVersions")
    values: dict[str, Any] = {"PatientName": f"{secret}^Otto", **dict.fromkeys(fields, f"{secret} 2")}
    values["ViewPosition"] = secret
    found = of_radiograph(tmp_path / "a", **values) if modality == "DX" else of(tmp_path / "a", modality, **values)
    assert secret.casefold() not in str(found).casefold()
    other = {**values, "PatientName": "Other^Name"}
    found = of_radiograph(tmp_path / "b", **other) if modality == "DX" else of(tmp_path / "b", modality, **other)
    assert secret.casefold() in str(found).casefold(), "the field is read at all"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RepetitionTime", "-5"), ("EchoTime", "0"), ("FlipAngle", ""), ("PixelBandwidth", "1e300")],
)
def test_broken_values_are_left_out(tmp_path: Path, keyword: str, value: str) -> None:
    name = {"RepetitionTime": "repetition_time", "EchoTime": "echo_time", "FlipAngle": "flip_angle"}
    found = of(tmp_path, **{**MR, keyword: value})
    assert name.get(keyword, "bandwidth") not in found.parameters


def test_an_empty_header_is_a_technique(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert (found.station, found.software, found.body_size, found.stated) == ("", "", None, {})


@pytest.mark.parametrize("station", ["MR-RAUM-Ä", "", "  A  B "])
def test_the_station_is_that_of_the_receiver(tmp_path: Path, station: str) -> None:
    values = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra", "DeviceSerialNumber": "45"}

    def change(k: int, ds: Dataset) -> None:
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.StationName = station
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    (path, *_) = make_series(tmp_path, voxels((1, 8, 8)), change=change)
    raw = scan_file(path)
    data = path.read_bytes()
    start = data.index(b"\x08\x00", 132 + 12)  # behind the meta group
    received = facts(memoryview(data), raw.transfer_syntax, data.index(b"\x08\x00\x05\x00CS", start - 2))
    assert technique_of(open_series([path])).station == received.station != ""


@pytest.mark.parametrize(
    ("times", "class_"),
    [
        ((85, 4000, None, None, False), "t2"),
        ((12, 500, None, None, False), "t1"),
        ((20, 3000, None, None, False), "pd"),
        ((100, 9000, 2500, None, False), "flair"),
        ((40, 4000, 160, None, False), "stir"),
        ((20, 600, None, None, True), "t2star"),
        ((60, 5000, None, 1000, False), "dwi"),
        ((None, 500, None, None, False), ""),
    ],
)
def test_weightings(times: tuple[Any, ...], class_: str) -> None:
    assert weighting(*times) == class_


# -- CT ----------------------------------------------------------------------------------------------
CT: dict[str, Any] = {
    "ConvolutionKernel": ["Br40f", "3"],
    "KVP": 120,
    "FilterType": "FLAT",
    "SpiralPitchFactor": 0.8,
}


def test_of_a_ct_by_the_median_of_its_slices(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        "CT",
        5,
        **CT,
        Exposure=(90, 100, 300, 110, 120),
        XRayTubeCurrent=200,
        CTDIvol=(5.0, 6.0, 9.0, 7.0, 8.0),
    )
    assert found.parameters["mas"] == 110 and found.parameters["kernel"] == "Br40f 3"
    assert found.stated == {"kvp": 120.0, "mas": 110.0, "ctdi_vol": 7.0}
    assert found.protocol["kernel"] == "Br40f_3" and found.protocol["slice"] == "2.5"


def test_an_exposure_in_another_unit_is_told_by_current_and_time(tmp_path: Path) -> None:
    found = of(tmp_path, "CT", 2, **CT, Exposure=5100, XRayTubeCurrent=300, ExposureTime=500)
    assert found.stated["mas"] == 150.0


# -- X-ray -------------------------------------------------------------------------------------------
DX: dict[str, Any] = {
    "BodyPartExamined": "CHEST",
    "ViewPosition": "PA",
    "ImageLaterality": "U",
    "KVP": 125,
    "ExposureInuAs": 1640,
    "Exposure": 2,
    "ExposureTime": 8,
    "ExposureIndex": 310,
    "TargetExposureIndex": 250,
    "DeviationIndex": 0.93,
    "Grid": ["PARALLEL", "FOCUSED"],
    "DistanceSourceToDetector": 1800,
    "FilterType": "NONE",
    "PatientSize": 180,
    "PatientWeight": 81,
}


def test_of_a_radiograph(tmp_path: Path) -> None:
    found = of_radiograph(tmp_path, **DX)
    assert found.protocol_key == "body_part=chest|kind=original|side=u|view=pa"
    assert found.parameters == {
        "pixel_mm": 0.2,
        "kvp": 125.0,
        "mas": 1.64,
        "filter": "NONE",
        "grid": "PARALLEL FOCUSED",
        "detector_distance_mm": 1800.0,
    }
    assert found.stated == {
        "kvp": 125.0,
        "mas": 1.64,
        "exposure_index": 310.0,
        "target_exposure_index": 250.0,
        "deviation_index": 0.93,
    }
    assert found.body_size == 25.0  # the size was stated in cm


def test_views_of_a_mammography(tmp_path: Path) -> None:
    paths = []
    for n, (view, side) in enumerate([("CC", "L"), ("MLO", "L"), ("CC", "R")]):

        def change(ds: Dataset, view: str = view, side: str = side) -> None:
            ds.ViewPosition, ds.ImageLaterality, ds.BodyPartThickness, ds.PatientWeight = view, side, 52, 70

        paths.append(make_radiograph(tmp_path / f"{n}.dcm", PICTURE, change, modality="MG"))
    found = technique_of(open_series(paths))
    assert (found.protocol["view"], found.protocol["side"]) == ("cc+mlo", "l+r")
    assert found.body_size == 52.0


def test_of_several_exposures_the_one_farthest_from_its_target_counts(tmp_path: Path) -> None:
    paths = []
    for n, (index, deviation) in enumerate([(260.0, 0.2), (30.0, None), (400.0, 2.0), (None, 1790.0)]):

        def change(ds: Dataset, index: float | None = index, deviation: float | None = deviation) -> None:
            ds.ExposureIndex, ds.TargetExposureIndex, ds.DeviationIndex = index, 250, deviation

        paths.append(make_radiograph(tmp_path / f"{n}.dcm", PICTURE, change, modality="DX"))
    stated = technique_of(open_series(paths)).stated
    assert (stated["exposure_index"], stated["target_exposure_index"]) == (30.0, 250.0)
    assert "deviation_index" not in stated, "that image states none: it follows from its parts"


def test_a_view_by_its_code(tmp_path: Path) -> None:
    found = of_radiograph(tmp_path, ViewCodeSequence=item(CodeValue="R-10226", CodeMeaning="mediolateral oblique"))
    assert found.protocol["view"] == "R-10226"


def test_exposed_views(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.AcquisitionDate, ds.AcquisitionTime = "20260102", "101500.5"
        ds.ViewPosition, ds.BodyPartExamined, ds.Laterality = "AP", "KNEE", "L"

    (one,) = exposed_views(open_series([make_radiograph(tmp_path / "a.dcm", PICTURE, change)]))
    assert (one.view, one.laterality, one.body_part) == ("ap", "l", "knee") and one.at is not None


@pytest.mark.parametrize(
    ("size", "weight", "found"),
    [(1.8, 81, 25.0), (180, 81, 25.0), (0, 81, None), (1.8, 0, None), (None, 81, None)],
)
def test_body_size(size: float | None, weight: float, found: float | None) -> None:
    ds = Dataset()
    ds.PatientSize, ds.PatientWeight = size, weight
    assert body_size(ds, "MR") == found


def test_broken_sequences_are_no_claim(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.ViewCodeSequence = Sequence([])
        ds.AnatomicRegionSequence = Sequence([Dataset()])
        ds.add_new(0x00181411, "LO", "much")

    found = technique_of(open_series([make_radiograph(tmp_path / "a.dcm", PICTURE, change)]))
    assert "view" not in found.protocol and "exposure_index" not in found.stated
