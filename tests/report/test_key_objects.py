"""The node's own flag, and key objects of other writers."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from qc_node.domain import InstanceRef, QcNodeError, Reason, SeriesKey, Verdict
from qc_node.report import codes
from qc_node.report.items import (
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    children,
    code_item,
    container,
    image_item,
    person_item,
    text_item,
    uid_item,
)
from qc_node.report.key_objects import KEY_OBJECT_SELECTION, build_flag, flag_sentence, read_key_object
from qc_node.report.modules import evidence_sequence
from qc_node.report.uids import device_uid
from tests.report.sources import (
    CREATED,
    MODEL,
    MR_IMAGE,
    as_bytes,
    evidence,
    key,
    mri_verdict,
    rejected,
    report,
    source,
    written,
)

UID_OF_0_1_0 = "2.25.247668860532487699479111228422599245152"
"""What version 0.1.0 called `flag()`."""


def flag(verdict: Verdict | None = None, header: Dataset | None = None, count: int = 3, **changes: Any) -> Dataset:
    header = header or source()
    options = {"software_version": "0.1.0", "node": "QCNODE", "created": CREATED, **changes}
    return build_flag(header, evidence(count), key(header), verdict or mri_verdict(2), **options)


def test_flag_is_a_quality_issue_on_every_image_of_the_series() -> None:
    ds = written(flag())
    said = read_key_object(ds)
    assert (said.title.value, said.title.meaning) == ("113010", "Quality Issue")
    assert {ref for _, ref in said.references} == set(evidence())
    assert said.series == (key(source()),)
    assert (ds.Modality, ds.SOPClassUID) == ("KO", KEY_OBJECT_SELECTION)
    assert ds.SeriesInstanceUID not in (source().SeriesInstanceUID, report().SeriesInstanceUID)


def test_flag_is_made_by_a_device_that_is_the_model() -> None:
    said = read_key_object(written(flag()))
    assert (said.observer_type, said.observer_name) == ("device", "QCNODE")
    assert said.observer_device_uid == device_uid("QCNODE", MODEL)
    assert said.written_at == "20260102030405"


def test_images_have_no_concept_name_and_nothing_says_rejected() -> None:
    ds = written(flag())
    images = [c for c in children(ds) if c.ValueType == "IMAGE"]
    assert len(images) == 3
    assert all("ConceptNameCodeSequence" not in i for i in images)
    assert "113001" not in as_bytes(flag()).decode("latin-1")


def test_flag_uid_does_not_change_with_the_time() -> None:
    later = CREATED + datetime.timedelta(days=1)
    assert flag().SOPInstanceUID == flag(created=later).SOPInstanceUID
    assert flag().SOPInstanceUID == flag(software_version="9.9").SOPInstanceUID == UID_OF_0_1_0


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            mri_verdict(2, 0, 2),
            "Image quality tier 3 (grade of motion 2, noise 2). Look at the images before you repeat the series.",
        ),
        (mri_verdict(0, 0, 0), "Image quality tier 1."),
        (
            rejected(Reason.SKULL_STRIPPED),
            "Probably not a proper whole-head 3D T1-weighted image: skull and scalp were removed. "
            "Very likely (97 %). Look at the images before you repeat the series.",
        ),
    ],
)
def test_flag_says_why(verdict: Verdict, sentence: str) -> None:
    assert flag_sentence(verdict) == sentence
    assert (
        read_key_object(written(flag(verdict))).description
        == f"{sentence} Automated, unverified; not for diagnosis."
    )


def foreign(*context: Dataset, title: codes.Code = codes.REJECTED_FOR_QUALITY, images: bool = True) -> Dataset:
    """A key object as a workstation writes it."""
    ds = source("MR")
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = KEY_OBJECT_SELECTION, "1.2.3.9", "KO"
    ds.ContentDate, ds.ContentTime = "20260105", "101112.5"
    a, b = SeriesKey("1.2.3", "1.2.3.1"), SeriesKey("1.2.3", "1.2.3.2")
    refs = {
        a: [InstanceRef("1.2.840.10008.5.1.4.1.1.4", "1.2.3.1.1")],
        b: [InstanceRef("1.2.840.10008.5.1.4.1.1.4", "1.2.3.2.1")],
    }
    ds.CurrentRequestedProcedureEvidenceSequence = evidence_sequence(refs)
    pointed = [image_item(MR_IMAGE, "1.2.3.2.1")] if images else []
    ds.update(container(title, [*context, *pointed], relationship=None))
    ds.file_meta = flag().file_meta
    return written(ds)


def test_key_object_of_a_person() -> None:
    said = read_key_object(
        foreign(
            code_item(codes.TITLE_MODIFIER, codes.NO_IMAGE, HAS_CONCEPT_MOD),
            code_item(codes.OBSERVER_TYPE, codes.PERSON, HAS_OBS_CONTEXT),
            person_item(codes.PERSON_NAME, "Roe^Richard"),
            text_item(codes.PERSON_LOGIN, "rroe", HAS_OBS_CONTEXT),
            text_item(codes.PERSON_ORGANIZATION, "Ward 7", HAS_OBS_CONTEXT),
            text_item(codes.KEY_OBJECT_DESCRIPTION, "blurred"),
        )
    )
    assert said.title == codes.REJECTED_FOR_QUALITY
    assert (said.observer_type, said.observer_name) == ("person", "Roe^Richard")
    assert (said.observer_login, said.observer_organization) == ("rroe", "Ward 7")
    assert said.modifiers == (codes.NO_IMAGE,)
    assert said.description == "blurred"
    assert (said.study_instance_uid, said.written_at) == ("1.2.3", "20260105101112")
    assert said.series == (SeriesKey("1.2.3", "1.2.3.2"),)


def test_key_object_without_observer_type_means_a_person_when_it_names_one() -> None:
    assert read_key_object(foreign(person_item(codes.PERSON_NAME, "Roe"))).observer_type == "person"


def test_person_and_device_together_is_the_person() -> None:
    said = read_key_object(
        foreign(
            code_item(codes.OBSERVER_TYPE, codes.DEVICE, HAS_OBS_CONTEXT),
            uid_item(codes.DEVICE_UID, "1.2.7"),
            text_item(codes.DEVICE_NAME, "Workstation", HAS_OBS_CONTEXT),
            code_item(codes.OBSERVER_TYPE, codes.PERSON, HAS_OBS_CONTEXT),
            person_item(codes.PERSON_NAME, "Roe"),
        )
    )
    assert (said.observer_type, said.observer_name, said.observer_device_uid) == ("person", "Roe", None)


def test_key_object_of_nobody_on_nothing_in_particular() -> None:
    said = read_key_object(foreign(images=False))
    assert (said.observer_type, said.observer_name) == (None, None)
    assert len(said.references) == 2


def test_what_is_no_key_object_is_refused() -> None:
    untitled = foreign()
    del untitled.ConceptNameCodeSequence
    broken = foreign()
    del broken.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID
    for ds in (source(), report(), untitled, broken, Dataset()):
        with pytest.raises(QcNodeError, match="key object"):
            read_key_object(ds)


def test_empty_sequences_are_survived() -> None:
    ds = foreign(images=False)
    ds.CurrentRequestedProcedureEvidenceSequence = DicomSequence()
    assert read_key_object(ds).study_instance_uid == source().StudyInstanceUID
