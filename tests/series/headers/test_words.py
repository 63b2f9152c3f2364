"""What descriptions of many departments say, and what they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_node.domain import BodyPart
from qc_node.series.headers.words import (
    agent_stated,
    body_part_said,
    body_parts_said,
    both_said,
    contrast_said,
    gadolinium_said,
    only_oral,
)

GIVEN = (
    "T1 MPRAGE POST GAD",
    "t1_mprage_sag_KM",
    "AX T1 +C",
    "T1 C+",
    "3D T1 GADO",
    "t1_mpr_sag_iso nach KM",
    "T1postGd",
    "CT ABD/PEL W CONTRAST",
    "CT CH/ABD/PEL W/ CONTRAST",
    "TDM thoraco-abdo-pelvien avec injection",
    "CE-MRA",
    "TC addome con mdc",
    "RM cerebral con gadolinio",
    "CT thorax z kontrastem",
    "頭部造影",
    "胸部增强",
    "mit KM i.v.",
    "Post-contrast T1",
    "T1 Dotarem",
    "Omnipaque 300",
    "с контрастом",
    "met contrast",
    "med kontrast",
    "MPRAGE_GD",
    "t1_mprage_tra_p2_iso_Gd",
    "SAG 3D T1 POST",
    "gadolínio",
    "apres injection de gadolinium",
    "T1 CE",
    "Prohance",
)
NOT_GIVEN = (
    "CT HEAD W/O CONTRAST",
    "CT HEAD WO",
    "CT Thorax nativ",
    "TDM cérébral sans injection",
    "Scanner IV-",
    "NON CONTRAST",
    "TC torace senza mdc",
    "TC cranio basale",
    "RM cerebral sin contraste",
    "TK głowy bez kontrastu",
    "頭部単純CT",
    "颅脑平扫",
    "noncontrast",
    "unenhanced",
    "5/5mm Plain",
    "CT, HEAD/BRAIN WO CONTRAST",
    "CT BRAIN WO IVCON",
    "ohne KM",
    "КТ головного мозга без контраста",
    "zonder contrast",
    "uden kontrast",
    "no iv contrast given",
    "SAG 3D T1 PRE",
    "pre-contrast T1",
    "T1 nativ",
    "sem contraste",
    "without gadolinium",
)
SILENT = (
    "mprage",
    "T1 SE post fossa",
    "phase contrast",
    "PC MRA",
    "SAG T1 postop",
    "T1 FLAIR",
    "perfusion",
    "MRA TOF",
    "t1_fl2d_sag",
    "STD BRAIN 5MM",
    "posterior",
    "post processing",
    "preop planning",
    "Gdansk",
    "CEREBRUM",
    "multi-contrast",
    "",
    "head^general",
    "T1 SAG",
    "mocoMEMPRAGE_220FOV RMS",
    "ct_soft_tissue_contrast",
)


@pytest.mark.parametrize("text", GIVEN)
def test_contrast_given(text: str) -> None:
    assert contrast_said(text) is True


@pytest.mark.parametrize("text", NOT_GIVEN)
def test_contrast_not_given(text: str) -> None:
    assert contrast_said(text) is False
    assert not gadolinium_said(text)


@pytest.mark.parametrize("text", SILENT)
def test_nothing_said_about_contrast(text: str) -> None:
    assert contrast_said(text) is None
    assert not gadolinium_said(text)


@pytest.mark.parametrize(
    "text",
    [
        "MRI BRAIN W/WO CONTRAST",
        "CT ABDOMEN W WO CONTRAST",
        "MRT Kopf ohne und mit KM",
        "IRM sans et avec injection",
        "RM sin y con contraste",
    ],
)
def test_with_and_without(text: str) -> None:
    assert contrast_said(text) is True and both_said(text)


def test_phases_speak_of_contrast_in_ct_only() -> None:
    for text in ("arterial", "Abdomen venös", "portal venous phase", "CT ABD W"):
        assert contrast_said(text, ct=True) is True and contrast_said(text) is None
    assert contrast_said("CTA CHEST", ct=True) is True


def test_gadolinium_by_name() -> None:
    assert all(
        map(gadolinium_said, ("POST GAD", "Gd-DTPA", "Gadovist 7 ml", "T1 + GADO", "Multihance", "гадолиний"))
    )
    assert not any(map(gadolinium_said, ("with contrast", "Omnipaque", "badge", "cadaver", "sans gado", None)))


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("APPLIED", True),
        ("ISOVUE300/100", True),
        ("11 ml Omniscan", True),
        ("off", False),
        ("NONE", False),
        ("no", False),
        ("", None),
        (None, None),
        ("kein", False),
        ("0", False),
        ("---", False),
    ],
)
def test_contrast_agent(text: str | None, stated: bool | None) -> None:
    assert agent_stated(text) is stated


def test_oral_agents_do_not_enhance_vessels() -> None:
    assert only_oral("with oral contrast only") and only_oral("PO GASTROGRAFIN")
    assert (
        not only_oral("oral and IV contrast") and not only_oral("GASTRO & OMNI") and not only_oral("temporal lobe")
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("BRAIN", BodyPart.BRAIN),
        ("Schädel", BodyPart.BRAIN),
        ("TDM cérébral", BodyPart.BRAIN),
        ("head^general", BodyPart.BRAIN),
        ("cráneo", BodyPart.BRAIN),
        ("NECK", BodyPart.NECK),
        ("Hals", BodyPart.NECK),
        ("Thorax", BodyPart.CHEST),
        ("PE protocol", BodyPart.CHEST),
        ("胸部CT", BodyPart.CHEST),
        ("abd", BodyPart.ABDOMEN),
        ("腹部", BodyPart.ABDOMEN),
        ("ABDOMEN/PELVIS", BodyPart.ABDOMEN_PELVIS),
        ("CT ABD PEL", BodyPart.ABDOMEN_PELVIS),
        ("A/P", BodyPart.ABDOMEN_PELVIS),
        ("Abdomen und Becken", BodyPart.ABDOMEN_PELVIS),
        ("LSPINE", BodyPart.OTHER),
        ("KNEE", BodyPart.OTHER),
        ("head phantom", BodyPart.OTHER),
        ("CT CAP", None),
        ("HEADNECK", None),
        ("T1 SAG", None),
        ("coronal", None),
        ("earliest", None),
        ("AC-PC", None),
        ("CT Body 3.0", None),
        ("chestnut", None),
        (None, None),
    ],
)
def test_body_parts(text: str | None, part: BodyPart | None) -> None:
    assert body_part_said(text) is part


def test_several_regions() -> None:
    assert body_parts_said("CT CH/AB/PEL") == {"chest", "abdomen", "pelvis"}
    assert body_parts_said("NECKCHESTABDPELV") == {"neck", "chest", "abdomen", "pelvis"}


@given(st.text(max_size=80))
def test_any_text_is_taken(text: str) -> None:
    assert contrast_said(text) in (True, False, None)
    assert body_parts_said(text) <= {"head", "neck", "chest", "abdomen", "pelvis", "other"}
    assert agent_stated(text) in (True, False, None)
