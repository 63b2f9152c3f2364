"""Which reading room a series goes to, or one sentence why none.

The rules are generous: whatever claims to be a T1-weighted brain, or says nothing against it, is judged,
derived images too, because a wrong header must not hide a bad image.  A series is skipped only when a tag says
clearly that it is something else, and the sentence names that tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID

from qc_node.domain import HeaderClaims, Stage
from qc_node.series.headers import items_of, number_of, text_of
from qc_node.series.volume import OpenedSeries
from qc_node.series.words import HEAD, OTHER, body_parts_said, plain

THICK_2D_MM = 2.0
"""Slices of a 2D acquisition above this make a "clear 2D series"."""
LONG_ECHO_MS = 60.0
"""No T1-weighted sequence of the brain has a longer echo time."""

_IMAGE_SOP = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
"""Images that a reading room may judge."""

_LOCALIZER = re.compile(
    r"(?<!\w)(?:loc|loca|locali[sz]\w*|3? ?-?plane ?loc\w*|scouts?|aahead|aahscout|topo|topograms?|surview\w*|survey\w*|scano(?:gram|view)?s?|"
    r"pilot\w*|smart ?brain|tri ?-?plan\w*|reperage|repere|localizador\w*|localizzator\w*|ubersicht\w*|lokali[sz]\w*|planscout|"
    r"位置決め|定位像?|스카우트)(?!\w)"
)
_OTHER_CT = re.compile(
    r"(?<!\w)(?:dose ?-?(?:report|info|record|summary)|patient ?-?protocol|exam ?-?summary|screen ?-?(?:save|shot|cap\w*)|monitoring|"
    r"premonitoring|smart ?-?prep|bolus ?-?track\w*|test ?-?bolus|timing ?-?bolus|topogram\w*|scout\w*|surview\w*|topo|"
    r"(?:r?cbf|r?cbv|mtt|ttp|tmax|ttd|perm\w*) ?(?:map|maps|col\w*)?|perfusion ?-?maps?)(?!\w)"
)
_T1 = re.compile(
    r"(?<![a-z])(?:t1(?!\d)(?! ?rho)(?! ?map)\w*|t 1 w|me?mp ?-?rage\w*|mprage\w*|mp ?-?rage\w*|mp ?2 ?-?rage\w*|memprage\w*|mpr(?=\W)|bravo|"
    r"(?:ir ?-?)?f?spgr\w*|ir ?-?fspgr|3d ?-?tfe|turbo ?-?flash|tfl\w*|tfe|vibe|lava|thrive|ethrive|mdeft|3d ?-?flash|3d ?-?ffe|q?uick ?3d|"
    r"isotropic ?t1|anat(?:omy|omical)?|fame|t1 ?-?ffe|sag ?-?3d|inv ?-?rec ?3d|grea?t1)(?![a-z])"
)
_OTHER_MR: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(r"(?<![a-z])(?:" + words + r")(?![a-z])"))
    for name, words in (
        ("a diffusion series", r"dwi\w*|e?adc\w*|diff\w*|dti\w*|trace\w*|tracew|dki|noddi|fa map|col ?fa|tensor|ivim|resolve|b ?-?value|"
                               r"diffusion\w*|b ?[1-3]?[05]00|isotropic dwi|hardi|dsi"),
        ("a susceptibility or T2*-weighted series", r"swi\w*|swan\w*|susc\w*|venobold|t ?2 ?(?:star|s)|t2\*|hemo|qsm|mip ?images ?sw|heme?|"
                                                    r"gre ?t2\w*|t2 ?-?(?:ffe|fl2d|gre|me2d)\w*|medic|merge|pha images|mag images"),
        ("an angiography", r"mra|tof\w*|angio\w*|cemra|ce ?-?mra|mrv|venogra\w*|pca|pc ?3d|inhance|trick?s|twist|3d ?-?pc|phase ?-?contrast|"
                           r"m?n?mip(?: range)?|carotid\w*|willis|time ?-?of ?-?flight"),
        ("a FLAIR series", r"flair\w*|dark ?-?fluid|fluid ?att\w*|tirm"),
        ("a T2-weighted series", r"t2(?!\d)w?\w*|t 2 w|tse ?t2|fiesta\w*|ciss\w*|drive|b ?-?ffe|true ?-?fisp|trufi\w*|bssfp|haste\w*|ssfse\w*|cosmic|"
                                 r"balanced|constructive interference"),
        ("a proton-density-weighted series", r"pd ?-?w?\w{0,3}|proton ?-?density\w*|dens\w* proton\w*|rho|dp"),
        ("a STIR series", r"stir\w*"),
        ("a functional or perfusion series", r"f ?-?mri\w*|bold\w*|rest(?:ing)?\d?|resting ?-?state|rs ?-?f\w*|task\w*|ep2d\w*|epi\w*|asl\w*|p?c?asl\w*|"
                                             r"perf\w*|dsc\w*|dce\w*|r?cbf|r?cbv|mtt|ttp|tmax|moco ?series|mean_&_t\w*|glm\w*|sbref|func"),
        ("a calibration or field map", r"field ?-?map\w*|fmap|b[01] ?-?map\w*|calib\w*|asset ?-?cal\w*|asset|ref ?-?scan|coil ?-?sens\w*|"
                                       r"shim\w*|gre ?field\w*|pre ?-?scan|adjust\w*|fieldmapping|noise ?scan|cal ?head"),
        ("spectroscopy", r"spectro\w*|mrs|svs\w*|csi\w*|press|mega ?press|single ?voxel"),
        ("an elastography, flow or quantitative map", r"elasto\w*|mre|cine\w*|flow|csf ?flow|r2 ?\*?|t2 ?map\w*|mwf|magnetization transfer|mtr|"
                                                      r"phoenix\w*|report|screen ?-?s\w*|smartbrain|kspace|qti|mrf ?maps?"),
    )
)  # fmt: skip
_IMAGE_TYPE_MR = {
    "ADC": "a diffusion map", "DIFFUSION": "a diffusion series", "TRACEW": "a diffusion series", "FA": "a diffusion map",
    "PERFUSION": "a perfusion map", "PERFUSION_MAP": "a perfusion map", "CBF": "a perfusion map", "RCBF": "a perfusion map",
    "CBV": "a perfusion map", "RCBV": "a perfusion map", "MTT": "a perfusion map", "TTP": "a perfusion map", "TMAX": "a perfusion map",
    "ASL": "a perfusion series", "FMRI": "a functional series", "MOSAIC": "a mosaic of an echo-planar series",
    "PROJECTION IMAGE": "a projection", "MIP": "a projection", "MNIP": "a projection", "CSA MIP": "a projection", "MINIP": "a projection",
    "SWI": "a susceptibility-weighted series", "MINIMUM": "a projection", "VELOCITY": "a flow image", "PHASE MAP": "a phase image",
    "PHASE": "a phase image", "P": "a phase image", "B0 MAP": "a field map", "FIELD_MAP": "a field map", "B0": "a field map",
    "B1": "a field map", "SPECTROSCOPY": "spectroscopy", "SPEC": "spectroscopy", "T2": "a T2-weighted series",
    "T2 MAP": "a T2 map", "T2_STAR MAP": "a T2* map", "T2_STAR": "a T2*-weighted series", "R2_STAR": "an R2* map", "R2 MAP": "an R2 map",
    "PROTON_DENSITY": "a proton-density-weighted series", "FLUID_ATTENUATED": "a FLAIR series", "TOF": "an angiography",
    "DIXON": "", "STIR": "a STIR series", "ECHO_PLANAR": "an echo-planar series", "FLOW_ENCODED": "a flow image",
    "ANGIO": "an angiography", "ANGIO_TIME": "an angiography", "MAX_IP": "a projection", "MIN_IP": "a projection",
    "VOLUME_RENDER": "a rendering", "SURFACE_RENDER": "a rendering", "MEAN_&_T-MAP": "a functional map", "T-MAP": "a functional map",
}  # fmt: skip
_ANYWHERE = {"LOCALIZER", "SCOUT", "SURVEY"}
_NOT_AN_IMAGE = {"SCREEN SAVE", "SCREENSHOT", "SCREEN SHOT", "DOSE", "DOSE_INFO", "DOSE REPORT", "REF_SURVIEW", "REPORT",
                 "CSA REPORT", "PROTOCOL"}  # fmt: skip


@dataclass(frozen=True)
class Route:
    """Where a series goes: ``stage``, or None and the ``sentence`` that says why no reading room judges it."""

    stage: Stage | None
    sentence: str | None = None

    def __post_init__(self) -> None:
        if (self.stage is None) != (self.sentence is not None):
            raise ValueError("a route has either a reading room or a sentence why none")


def route(opened: OpenedSeries) -> Route:
    """The reading room for an opened series.

    No verdict is spoken about a skipped series.  Whether the pixels form a volume is not asked here:
    :meth:`~qc_node.series.volume.OpenedSeries.volume` says so.
    """
    header = opened.header
    sop = opened.instances[0].sop_class_uid or text_of(header, "SOPClassUID") or ""
    if sop and sop not in _IMAGE_SOP:
        name = UID(sop).name
        return _skip(
            "SOP Class UID (0008,0016)", name if name != sop else f"{sop}, which is unknown", "no CT or MR image"
        )
    modality = opened.modality
    if modality not in ("MR", "CT"):
        if not modality:
            return Route(
                None, "Modality (0008,0060) and SOP Class UID (0008,0016) are absent, so no reading room knows it."
            )
        return _skip("Modality (0008,0060)", modality, "neither CT nor MR")
    photometric = text_of(header, "PhotometricInterpretation")
    if photometric and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return _skip("Photometric Interpretation (0028,0004)", photometric, "a colour picture")
    types = opened.image_types - {()}
    for what, names in (("a localizer", _ANYWHERE), ("a report or screenshot", _NOT_AN_IMAGE)):
        if types and all(names & set(t) for t in types):
            return _skip("Image Type (0008,0008)", _shown(opened.claims.image_type), what)
    reason = next(_ct(opened) if modality == "CT" else _mr(opened), None)
    if reason is not None:
        return reason
    return Route(Stage.CT if modality == "CT" else Stage.BRAIN_MRI)


def _skip(tag: str, value: str, what: str) -> Route:
    return Route(None, f'{tag} says "{value[:64]}": {what}.')


def _shown(values: tuple[str, ...]) -> str:
    return "\\".join(values)


def _ct(opened: OpenedSeries) -> Iterator[Route]:
    claims = opened.claims
    perfusion = {t for kind in opened.image_types for t in kind} & {
        "PERFUSION",
        "RCBF",
        "RCBV",
        "CBF",
        "CBV",
        "MTT",
        "TTP",
        "TMAX",
    }
    if perfusion:
        yield _skip("Image Type (0008,0008)", _shown(claims.image_type), "a perfusion map")
    if all(any(re.fullmatch(r"CT_SOM\d+ MON|MONITORING", v) for v in t) for t in opened.image_types):
        yield _skip("Image Type (0008,0008)", _shown(claims.image_type), "the timing of a bolus")
    if claims.series_description and (found := _OTHER_CT.search(plain(claims.series_description))):
        yield _skip("Series Description (0008,103E)", claims.series_description, _ct_kind(found.group()))


def _ct_kind(word: str) -> str:
    if re.search(r"scout|topo|surview", word):
        return "a localizer"
    if re.search(r"monitor|prep|bolus", word):
        return "the timing of a bolus"
    if re.search(r"dose|protocol|summary|screen", word):
        return "a report or screenshot"
    return "a perfusion map"


def _mr(opened: OpenedSeries) -> Iterator[Route]:
    """Reasons against a T1-weighted brain, the clearest first."""
    header, claims = opened.header, opened.claims
    text, tag = _named(claims)
    folded = plain(text) if text else ""
    claims_t1 = bool(_T1.search(folded))
    if folded and _LOCALIZER.search(folded):
        yield _skip(tag, text, "a localizer")
    yield from _by_image_type(opened, claims_t1)
    b_value = number_of(header, "DiffusionBValue")
    if b_value is not None and b_value > 0 and not claims_t1:
        yield _skip("Diffusion b-value (0018,9087)", f"{b_value:g}", "a diffusion series")
    yield from _by_acquisition_contrast(header)
    if folded and not claims_t1:
        for what, pattern in _OTHER_MR:
            if pattern.search(folded):
                yield _skip(tag, text, what)
    yield from _by_body_part(claims)
    yield from _by_sequence(header, claims, claims_t1)
    yield from _flat(opened, header)


def _named(claims: HeaderClaims) -> tuple[str, str]:
    """The description that tells the sequence: the series' own, else the protocol's."""
    if claims.series_description and re.search(r"[^\W\d]{2}", claims.series_description):
        text = claims.series_description
        told = plain(text)
        if claims.protocol_name and not (
            _T1.search(told) or _LOCALIZER.search(told) or any(p.search(told) for _, p in _OTHER_MR)
        ):
            return claims.protocol_name, "Protocol Name (0018,1030)"
        return text, "Series Description (0008,103E)"
    return claims.protocol_name or "", "Protocol Name (0018,1030)"


def _by_image_type(opened: OpenedSeries, claims_t1: bool) -> Iterator[Route]:
    types = opened.image_types - {()}
    if not types:
        return
    found: list[str] = []
    for kind in types:
        what = next((_IMAGE_TYPE_MR[v] for v in kind[2:] if _IMAGE_TYPE_MR.get(v)), None)
        if what is None:
            return
        found.append(what)
    shown = _shown(next(iter(sorted(types))))
    # "T2" or "ADC" among the values of a series that calls itself T1 is taken for the word of a careless writer
    if claims_t1 and found[0].startswith(("a T2-weighted", "a field")):
        return
    yield _skip("Image Type (0008,0008)", shown, found[0])


def _by_acquisition_contrast(header: Dataset) -> Iterator[Route]:
    contrast = text_of(header, "AcquisitionContrast")
    if contrast is None:
        for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for item in items_of(header, groups)[:1]:
                for kind in items_of(item, "MRImageFrameTypeSequence")[:1]:
                    contrast = contrast or text_of(kind, "AcquisitionContrast")
    known = ("T2", "T2_STAR", "DIFFUSION", "PERFUSION", "FLOW_ENCODED", "FLUID_ATTENUATED", "PROTON_DENSITY", "STIR", "TOF", "TAGGING",
             "TEMPERATURE", "ASL", "OXYGENATION")  # fmt: skip
    if contrast in known:
        yield _skip("Acquisition Contrast (0008,9209)", contrast, "not T1-weighted")


def _by_body_part(claims: HeaderClaims) -> Iterator[Route]:
    """Another part of the body, unless any text speaks of the head."""
    texts = (
        (claims.series_description, "Series Description (0008,103E)"),
        (claims.protocol_name, "Protocol Name (0018,1030)"),
        (claims.body_part_examined, "Body Part Examined (0018,0015)"),
        (claims.study_description, "Study Description (0008,1030)"),
    )
    if any(HEAD.search(plain(t)) for t, _ in texts if t) or any(HEAD.search(plain(t)) for t in claims.ordered):
        return
    for text, tag in texts:
        parts = body_parts_said(text)
        if text and (parts & {"chest", "abdomen", "pelvis", "neck"} or OTHER.search(plain(text))):
            yield _skip(tag, text, "not the brain")


def _by_sequence(header: Dataset, claims: HeaderClaims, claims_t1: bool) -> Iterator[Route]:
    if claims_t1:
        return
    name = text_of(header, "SequenceName") or text_of(header, "PulseSequenceName") or ""
    if re.search(r"(?i)tof|fl3d\d*r_|fl2d\d*r_t|pc3d", name):
        yield _skip("Sequence Name (0018,0024)", name, "an angiography")
    if (text_of(header, "AngioFlag") or "").upper() == "Y":
        yield _skip("Angio Flag (0018,0025)", "Y", "an angiography")
    if "EP" in claims.scanning_sequence or (text_of(header, "EchoPlanarPulseSequence") or "").upper() == "YES":
        yield _skip(
            "Scanning Sequence (0018,0020)", _shown(claims.scanning_sequence) or "EP", "an echo-planar series"
        )
    echo = number_of(header, "EchoTime")
    if echo is None:
        for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for item in items_of(header, groups)[:1]:
                for kind in items_of(item, "MREchoSequence")[:1]:
                    echo = number_of(kind, "EffectiveEchoTime") if echo is None else echo
    if echo is not None and echo > LONG_ECHO_MS:
        yield _skip("Echo Time (0018,0081)", f"{echo:g} ms", "too long for a T1-weighted series")


def _flat(opened: OpenedSeries, header: Dataset) -> Iterator[Route]:
    """A clear 2D series: the tag says 2D and the slices are thick."""
    kind = opened.claims.acquisition_type
    if (kind or "").upper() != "2D":
        return
    thickness = opened.claims.slice_thickness_mm
    spacing = opened.spacing_mm
    widest = max(
        thickness or 0.0, number_of(header, "SpacingBetweenSlices") or 0.0, spacing[2] if spacing else 0.0
    )
    if widest > THICK_2D_MM or not widest:
        mm = f" with slices {widest:g} mm apart" if widest else ""
        yield Route(None, f'MR Acquisition Type (0018,0023) says "2D"{mm}: not a 3D series.')
