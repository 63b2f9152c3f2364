"""What scanners and departments write over a series, and what it means.

The habits are those of Siemens (underscores, "ep2d"), Philips (short words, "B-TFE", "dADC"), GE ("Ax", "+C",
"Fractional Aniso."), Canon and Toshiba ("Locator", "FASE") and Hitachi ("BASG"), in the languages of the people
at them.  Each family of faults that was once found stands with its siblings: words glued together,
abbreviations inside other words, and words that tell another sequence beside one that T1-weighted series use too.
"""

from __future__ import annotations

import pytest

from qc_node.series.headers.sequences import another_sequence, calls_itself_t1, is_localizer
from qc_node.series.headers.words import body_parts_said, contrast_said, gadolinium_said, plain

T1 = """
Brain T1W/FFEGADO | t1_mprage_sag_p2_iso | T1W_3D_TFE | sT1W_3D_TFE | 3D T1 TFE SENSE | SAG 3D BRAVO
Ax 3D FSPGR +C
3D FSPGR ASSET | AX T1 FLAIR | T1 TIRM | 3DT1 | T13D | SAGT1 | AXT1+C | SAG T13DMPRAGE | T1強調 | 3D T1WI+C
T1WI
IRM T1 3D GADO | T1 3D dopo mdc | T1 3D con CIV | t1_vibe_fs_tra | fl3D_t1_sag | mocoMEMPRAGE_220FOV RMS
IR-FSPGR
MPRAGE localization | Pilot_MPRAGE | T1 and T2 something | 3D T1 flow comp | T1W/SE/1024 | t1_space_sag | 3D TFE
T1 perf | PD01_MPRAGE | MP2RAGE_UNI | 3D-FFE | T1 ref scan
"""
"""Said to be T1-weighted, whatever stands beside it."""

SILENT = """
EXT LOC REF | Original: Sagittal,1 stack,1 dimension,temporal position,ext loc ref
Head 3D | iso 3d | HEAD 3D sag | EPILEPSY 3D | Épilepsie 3D | kids different | CUBE
PD001 SAG 3D
SAG 3D R2 | flow comp 3D | Angioma | EPISODE 2 | PERFORMED | Stealth | Neuronavigation 3D | hypophysis
Schädel 3D
"""
"""Nothing is said, so the image decides.  Each looks like the name of another sequence."""

OTHERS = {
    "a functional or perfusion series": """
        SOURCE - 3DpCASL | 3DpCASL | 3dpcasl | 3D ASL | pCASL | eASL | PASL_3D | ep2d_BOLD_evntX4 | SE_EPI
        SEEPI | fMRI_task
        RESTING_STATE | perfusion | Perfusione | DSC | relCBF | rs-fMRI | 脳灌流 | FSPGR perfusion | MoCoSeries""",
    "a calibration or field map": """
        B0 NS | B0 | B0map | B1 DREAM | DeltaB0 | WIP B1+ | gre_field_mapping | tfl_b1map | ASSET cal
        ASSET calibration | fieldmap
        Calibration Scan | SENSE_REF | SenseRefScan | Ref_Head_32 | phase map | DistortionMap_AP | B0NS""",
    "a proton-density-weighted series": """
        PD TSE | PDW_TSE | PD | PDFS | PD FS | DP | FSE PD AXIAL OBL | densité de protons | densidad protónica
        Protonendichte | protonengewichtet | PDT2 | プロトン密度強調""",
    "a T2-weighted series": """
        t2_tse_tra | SAGT2 | T2W TFE | 3D B-TFE | sBTFE | bTFE | T2W_DRIVE | FIESTA-C | t2_ciss3d_tra | T2強調
        T2FASE | FASE | HASTE
        BASG | T2 DIXON""",
    "a FLAIR series": "AX T2 FLAIR | CORT2FLAIR | AXFLAIR | 3D FLAIR | t2_space_dark-fluid | TIRM",
    "a susceptibility or T2*-weighted series": """
        T2* | Ax T2* GRE | T2*-FFE | SWI_Images | SWIp | AX 3D SWAN | FSBB | T2W_FFE | VEN_BOLD
        t2_fl2d_tra_hemo""",
    "a diffusion series": """
        ep2d_diff_mddw_20_p2 | isoDWI | eDWI | dADC | eADC | Average DC | Fractional Aniso. | Isotropic image
        DTI ortho
        dti_tra_dir16_PA_rot | DTIb3000s5 | difusión | Difusão | diffusione | dyfuzja | 拡散強調 | AXDWI
        DWI b1000 | ABCD_dMRI_2mm""",
    "an angiography": """
        TOF 3D FSPGR | TOF_3D_multi-slab | <MIP Range> | ARM TOF | angio veineuse | Angio-RM | phlébographie
        COW | TSA
        MRV | 3D PC | polygone de Willis | s3DI_MC_TOF | 血管""",
    "spectroscopy": """
        MRS single voxel | Spektroskopie | spettroscopia | Espectroscopia | csi_se_135
        Single-slice multi-voxel single proton spectroscopy""",
    "a flow, elasticity or quantitative map": "T1 map | T1rho | R2* | csf flow | MRE | t1_map_sag",
    "a STIR series": "Sag STIR | SAGSTIR",
}

LOCALIZERS = """
localizer | FAST LOCALIZER | AAHead_Scout_64ch | 3-Plane Loc | 3-Pl T2* FGRE | Locator | Survey | CoilSurveyScan
Übersicht
Lokalisierung | repérage | centrage | localizador | localizzatore | centratura | 位置決め | LOC HEAD | Scanogram
AutoAlign
AAScout | SmartBrain | T1 localizer | 3 plan loc FSPGR
"""


def listed(texts: str) -> list[str]:
    return [text.strip() for line in texts.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", listed(T1))
def test_t1_is_t1_whatever_stands_beside_it(text: str) -> None:
    folded = plain(text)
    assert calls_itself_t1(folded) and another_sequence(folded) is None and not is_localizer(folded)


@pytest.mark.parametrize("text", listed(SILENT))
def test_words_that_only_look_like_a_sequence_say_nothing(text: str) -> None:
    folded = plain(text)
    assert not calls_itself_t1(folded) and another_sequence(folded) is None and not is_localizer(folded)


@pytest.mark.parametrize(("what", "text"), [(w, t) for w, texts in OTHERS.items() for t in listed(texts)])
def test_another_sequence_is_named(what: str, text: str) -> None:
    assert another_sequence(plain(text)) == what and not is_localizer(plain(text))


@pytest.mark.parametrize("text", listed(LOCALIZERS))
def test_a_localizer_is_one(text: str) -> None:
    assert is_localizer(plain(text))


GADOLINIUM = """
Brain T1W/FFEGADO | T1GADO | MPRAGEGADO | 3DFFEGADO | FSPGRGADO | SAGT1GADO | GADOT1 | GADOMPRAGE | POSTGADO T1
APRESGADO
T1 +GD | T1+Gd | MPRAGE_Gd | 3DT1GD | T1GD | AX T1+C | AXT1+C | T1 GADO+ | AX T1 GAD | T1FSGD
COR T1 GADO FATSAT
"""
GIVEN = """
T1 KM | T1KM | MPRAGEKM | t1_mprage_+KM | mit KM | mKM | nach KM | TFEINJ | T1INJ | T1 INJ | T1 IV+ | MPRAGE+C
3D T1WI+C | CE-T1WI
T1 dopo mdc | T1 MDC | c/contraste | T1 con CIV | pós-contraste | 造影後 | 造影T1 | T1 ZOUEI | 增强 | 조영후
post cte | avec injection
"""
NOT_GIVEN = """
MPRAGESANSINJ | SANSGADO | T1 ss gado | T1 SS INJ | o. KM | oKM | ohne KM | T1 IV- | T1 C- | s/contraste | T1 S/C
senza mdc
avant injection | T1 avant gado | vor KM | PREGADO | 造影前 | 造影なし | 単純 | 平扫 | 增强前 | 조영전 | 비조영
nativ | sin CIV
"""
NOTHING_SAID = """
foie | higado | HÍGADO | fígado | intestino delgado | HIGADO T1 | brigade | Morgado | T1 basal ganglia | Gdansk
MEGADOSE | EP2D
t1_mprage_sag_p2_iso | SAGT2 | FSE PD | B0 NS | ext loc ref | 3DpCASL | T1WI | SE | COR FS | injury
"""


@pytest.mark.parametrize("text", listed(GADOLINIUM))
def test_gadolinium_is_read_also_where_it_is_glued_to_the_sequence(text: str) -> None:
    assert contrast_said(text) is True and gadolinium_said(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((t, True) for t in listed(GIVEN)),
        *((t, False) for t in listed(NOT_GIVEN)),
        *((t, None) for t in listed(NOTHING_SAID)),
    ],
)
def test_an_agent_is_said_to_be_given_or_not(text: str, said: bool | None) -> None:
    assert contrast_said(text) is said
    if not said:
        assert not gadolinium_said(text)


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("HÍGADO", {"abdomen"}),
        ("頭頸部", {"head", "neck"}),
        ("胸腹部CT", {"chest", "abdomen"}),
        ("腹部骨盤", {"abdomen", "pelvis"}),
        ("COR CTA HEAD", {"head"}),
        ("femoral head", set()),
        ("femoral neck left", set()),
        ("collo del femore", set()),
        ("head of pancreas", set()),
        ("CHEST Head First Supine", {"chest"}),
        ("CORONARY CTA", {"chest"}),
    ],
)
def test_regions_are_no_parts_of_other_words(text: str, regions: set[str]) -> None:
    assert body_parts_said(text) - {"other"} == regions
