"""What words and Image Type values say about the sequence of an MR series.

Matched in text folded by :func:`~qc_node.series.headers.words.plain`.  A series that calls itself T1 is never
taken for another sequence because of a second word; one that says nothing is not taken for anything.
"""

from __future__ import annotations

import re


def _pattern(*lines: str) -> re.Pattern[str]:
    return re.compile(r"(?<![a-z])(?:" + "|".join(lines) + r")(?![a-z])")


LOCALIZER = _pattern(
    r"loc|loca|locali[sz]\w*|3? ?-?plane ?loc\w*|scouts?|aahead|aahscout|topo|topograms?|surview\w*|survey\w*",
    r"scano(?:gram|view)?s?|pilot\w*|smart ?brain|tri ?-?plan\w*|reperage|repere|localizador\w*|localizzator\w*",
    r"ubersicht\w*|lokali[sz]\w*|planscout|位置決め|定位像?|스카우트",
)
"""A localizer of any modality."""

T1 = _pattern(
    r"t1(?!\d)(?! ?rho)(?! ?map)\w*|t 1 w|me?mp ?-?rage\w*|mp ?-?rage\w*|mp ?2 ?-?rage\w*|memprage\w*|bravo",
    r"(?:ir ?-?)?f?spgr\w*|ir ?-?fspgr|3d ?-?tfe|turbo ?-?flash|tfl\w*(?! ?b1)|tfe|vibe|lava|thrive|ethrive|mdeft",
    r"3d ?-?flash|3d ?-?ffe",
)
"""A T1-weighted sequence."""

BRAIN_T1 = _pattern(r"me?mp ?-?rage\w*|mp ?-?rage\w*|mp ?2 ?-?rage\w*|memprage\w*|bravo|mdeft|ir ?-?f?spgr")
"""T1-weighted sequences that are used for the brain and hardly for anything else."""

OTHER = (
    (
        "a diffusion series",
        _pattern(
            r"dwi\w*|e?adc\w*|diff|diffusion\w*|dti\w*|trace\w*|dki|noddi|fa map|col ?fa|tensor|ivim|resolve",
            r"b ?-?value|b ?[1-3]?[05]00|hardi|dsi",
        ),
    ),
    (
        "a susceptibility or T2*-weighted series",
        _pattern(
            r"swi\w*|swan\w*|susc\w*|venobold|t ?2 ?(?:star|s)|t2\*|hemo|heme?|qsm|gre ?t2\w*|medic|merge",
            r"t2 ?-?(?:ffe|fl2d|gre|me2d)\w*|pha images|mag images|mip ?images ?sw",
        ),
    ),
    (
        "an angiography",
        _pattern(
            r"mra|tof\w*|angio\w*|cemra|ce ?-?mra|mrv|venogra\w*|pca|pc ?3d|3d ?-?pc|inhance|trick?s|twist",
            r"phase ?-?contrast|m?n?mip(?: range)?|carotid\w*|willis|time ?-?of ?-?flight",
        ),
    ),
    ("a FLAIR series", _pattern(r"flair\w*|dark ?-?fluid|fluid ?att\w*|tirm")),
    (
        "a T2-weighted series",
        _pattern(
            r"t2(?!\d)\w*|t 2 w|fiesta\w*|ciss\w*|drive|b ?-?ffe|true ?-?fisp|trufi\w*|bssfp|haste\w*|ssfse\w*",
            r"cosmic|balanced|constructive interference",
        ),
    ),
    (
        "a proton-density-weighted series",
        _pattern(r"pd ?-?w?\w{0,3}|proton ?-?density\w*|dens\w* proton\w*|rho|dp"),
    ),
    ("a STIR series", _pattern(r"stir\w*")),
    (
        "a functional or perfusion series",
        _pattern(
            r"f ?-?mri\w*|bold\w*|rest(?:ing)?\d?|resting ?-?state|rs ?-?f\w*|task\w*|ep2d\w*|epi(?!l|t|d|p)\w*",
            r"p?c?asl\w*|perf\w*|dsc\w*|dce\w*|r?cbf|r?cbv|mtt|ttp|tmax|moco ?series|mean_&_t\w*",
            r"glm\w*|sbref|func",
        ),
    ),
    (
        "a calibration or field map",
        _pattern(
            r"field ?-?map\w*|fmap|b[01] ?-?map\w*|calib\w*|asset ?-?cal\w*|asset|ref ?-?scan|coil ?-?sens\w*",
            r"shim\w*|gre ?field\w*|pre ?-?scan|adjust\w*|fieldmapping|noise ?scan|cal ?head",
        ),
    ),
    ("spectroscopy", _pattern(r"spectro\w*|mrs|svs\w*|csi\w*|press|mega ?press|single ?voxel")),
    (
        "a flow, elasticity or quantitative map",
        _pattern(
            r"elasto\w*|mre|cine\w*|flow|csf ?flow|r2 ?\*?|t2 ?map\w*|mwf|magneti[sz]ation transfer",
            r"mtr|kspace|qti|mrf ?maps?",
        ),
    ),
    ("a report or screenshot", _pattern(r"phoenix\w*|report|screen ?-?s\w*")),
)
"""Other sequences: what to call them, and the words that say so."""

_IMAGE_TYPES = {
    "a diffusion map": "ADC FA EADC",
    "a diffusion series": "DIFFUSION TRACEW",
    "a perfusion map": "PERFUSION PERFUSION_MAP CBF RCBF CBV RCBV MTT TTP TMAX",
    "a perfusion series": "ASL",
    "a functional series": "FMRI",
    "a functional map": "MEAN_&_T-MAP T-MAP",
    "a mosaic of an echo-planar series": "MOSAIC",
    "an echo-planar series": "ECHO_PLANAR",
    "a projection": "PROJECTION_IMAGE MIP MNIP CSA_MIP MINIP MINIMUM MAX_IP MIN_IP",
    "a rendering": "VOLUME_RENDER SURFACE_RENDER",
    "a susceptibility-weighted series": "SWI",
    "a flow image": "VELOCITY FLOW_ENCODED",
    "a phase image": "PHASE PHASE_MAP P",
    "a field map": "FIELD_MAP B0_MAP B0 B1",
    "spectroscopy": "SPECTROSCOPY SPEC",
    "a T2-weighted series": "T2 T2_STAR",
    "a T2 map": "T2_MAP T2_STAR_MAP R2_STAR R2_STAR_MAP R2_MAP",
    "a proton-density-weighted series": "PROTON_DENSITY",
    "a FLAIR series": "FLUID_ATTENUATED",
    "a STIR series": "STIR",
    "an angiography": "TOF ANGIO ANGIO_TIME",
}
IMAGE_TYPES = {word.replace("_", " "): what for what, words in _IMAGE_TYPES.items() for word in words.split()}
"""Value 3 and later of Image Type (0008,0008), with blanks for underscores: what the image is then."""

OTHER_CONTRASTS = frozenset(
    word
    for words in (
        "T2 T2_STAR DIFFUSION PERFUSION ASL FLOW_ENCODED TOF",
        "FLUID_ATTENUATED PROTON_DENSITY STIR",
        "TAGGING TEMPERATURE OXYGENATION",
    )
    for word in words.split()
)
"""Values of Acquisition Contrast (0008,9209) that exclude T1."""

OTHER_CT = (
    ("a localizer", _pattern(r"topogram\w*|scouts?|surview\w*|topo|locali[sz]er\w*|scanogram\w*")),
    (
        "the timing of a bolus",
        _pattern(r"monitoring|premonitoring|smart ?-?prep|bolus ?-?track\w*|test ?-?bolus|timing ?-?bolus"),
    ),
    (
        "a report or screenshot",
        _pattern(
            r"dose ?-?(?:report|info|record|summary)|patient ?-?protocol|exam ?-?summary",
            r"screen ?-?(?:save|shot|cap)\w*",
        ),
    ),
    ("a perfusion map", _pattern(r"r?cbf|r?cbv|mtt|ttp|tmax|ttd|perfusion ?-?maps?")),
)
"""CT series that are no CT of a body part: what to call them, and the words that say so."""
