"""What words and Image Type values say about the sequence of an MR series.

Matched in text folded by :func:`~qc_node.series.headers.words.plain`.  A series that calls itself T1 is never
taken for another sequence because of a second word; one that says nothing is not taken for anything.
"""

from __future__ import annotations

import re


def _pattern(*lines: str) -> re.Pattern[str]:
    return re.compile(r"(?<![a-z])(?:" + "|".join(lines) + r")(?![a-z])")


LOCALIZER = _pattern(
    r"(?<!ext )loca?(?! ?-?ref\w*)|(?<!ext )locali[sz]\w*(?! ?-?ref\w*)|locators?|3? ?-?plane ?loc\w*",
    r"scouts?|3 ?-?pl(?:ane)? ?(?:t2|ssfse|fgre|fiesta|scout|survey)\w*|aa(?:head|h?scout)|auto ?align\w*|topo",
    r"topograms?|surview\w*|survey\w*|scano(?:gram|view)?s?|pilot\w*|smart ?brain|tri ?-?plan\w*|reperage|repere",
    r"centrage|localizador\w*|localizzator\w*|centratura|posizionamento|ubersicht\w*|lokali[sz]\w*|planscout",
    r"位置決め|位置合わせ|ポジショニング|定位像?|스카우트",
)
"""A localizer of any modality.

"Ext loc ref" is a volume that external localizers (frames, markers) refer to, not a localizer.
"""

T1_SAID = _pattern(
    r"t1(?!\d)(?! ?rho)(?! ?map)\w*|t 1 w|me?mp ?-?rage\w*|mp ?-?rage\w*|mp ?2 ?-?rage\w*|memprage\w*|bravo",
    r"mdeft|ir ?-?f?spgr\w*",
)
"""A series that calls itself T1-weighted, or names a sequence that is nothing else."""

T1_FAMILY = _pattern(
    r"(?<!b[ -])(?:3d ?-?)?tfe|f?spgr\w*|turbo ?-?flash|tfl\w*(?! ?b1)|vibe|lava|e?thrive|3d ?-?(?:flash|ffe)",
)
"""A family of sequences that T1-weighted series are made with, and angiographies and field maps as well:
another word beside it ("TOF FSPGR", "T2W TFE") tells more."""

BRAIN_T1 = _pattern(r"me?mp ?-?rage\w*|mp ?-?rage\w*|mp ?2 ?-?rage\w*|memprage\w*|bravo|mdeft|ir ?-?f?spgr")
"""T1-weighted sequences that are used for the brain and hardly for anything else."""

OTHER = (
    (
        "a diffusion series",
        _pattern(
            r"[eis]{0,2}dwi\w*|[der]?s?adc\w*|diff|diff?us(?:ion|ao|io|ie|ne|ja)\w*|diffusion\w*|dyfuz\w*",
            r"диффуз\w*|拡散\w*",
            r"弥散\w*|확산\w*|dti\w*|trace\w*|dki|noddi|fa ?-?map|col ?fa|tensor|ivim|resolve|hardi|dsi|mpg",
            r"d ?-?mri",
            r"b ?-?value|b ?[1-3]?[05]00|average dc|fractional aniso\w*|isotropic image|anisotropy",
            r"(?:fiber|fibre) ?track\w*",
            r"tractogra\w*|faser\w*",
        ),
    ),
    (
        "a susceptibility or T2*-weighted series",
        _pattern(
            r"s?swi\w*|swan\w*|susc\w*|venobold|ven ?bold|t ?2 ?-?(?:star|s)|hemo|heme?|qsm|gre ?t2\w*|medic",
            r"merge",
            r"t2w? ?-?(?:3d ?)?-?(?:ffe|fl2d|gre|me2d)\w*|pha images|mag images|mip ?images ?sw|filt ?pha|fsbb",
            r"磁化率\w*",
        ),
    ),
    (
        "an angiography",
        _pattern(
            r"mra|tof\w*|angio(?!m[ae]|ed|path|pat)\w*|cemra|ce ?-?mra|mrv|v(?:ei|e)nogra\w*|phlebo\w*|pca",
            r"pc ?3d|3d ?-?pc",
            r"inhance|tricks?|twist|phase ?-?contrast|m?n?mip(?: range)?|carotid\w*|willis|cow|tsa",
            r"time ?-?of ?-?flight",
            r"血管\w*|혈관\w*",
        ),
    ),
    ("a FLAIR series", _pattern(r"flair\w*|dark ?-?fluid|fluid ?att\w*|tirm")),
    (
        "a T2-weighted series",
        _pattern(
            r"t2(?!\d)\w*|t 2 w|fiesta\w*|ciss\w*|drive|s?b ?-?(?:ffe|tfe)\w*|true ?-?fisp|trufi\w*",
            r"(?:b|true ?)ssfp",
            r"haste\w*|ssfse\w*|fase\d*|cosmic|balanced|constructive interference|[bp]?basg|sarge",
        ),
    ),
    (
        "a proton-density-weighted series",
        _pattern(
            r"pd(?!\d)(?:w\w{0,6}|fs\w*|fat\w*|spai?r|spir|[tf]?se|t2\w*|i)?|dp(?!\d)",
            r"(?<!t1 )(?<!t1)(?<!t2 )rho",
            r"proton ?-?density\w*|dens\w* (?:d[ei] )?proton\w*|proton(?:en)?(?:dicht|gewicht)\w*",
            r"プロトン\w*|质子\w*",
        ),
    ),
    ("a STIR series", _pattern(r"stir\w*")),
    (
        "a functional or perfusion series",
        _pattern(
            r"f ?-?mri\w*|bold\w*|rest(?:ing)?\d?|resting ?-?state|rs ?-?f\w*|task\w*|ep2d\w*",
            r"epi(?!l|t|d|p|s)\w*|灌流\w*|灌注\w*|관류\w*",
            r"se ?-?epi\w*|[pe]?c?asl\w*|perf(?:us\w*|o)?|perfuz\w*|перфуз\w*|dsc\w*|dce\w*",
            r"(?:r|rel)?cb[fv]|mtt|ttp|tmax|mo ?co ?series|mean_&_t\w*|glm\w*|sbref|func",
        ),
    ),
    (
        "a calibration or field map",
        _pattern(
            r"field ?-?map\w*|distortion ?-?(?:map|corr)\w*|fmap",
            r"(?:delta ?)?b[01](?![\d.])(?: ?-?map\w*)?|calib\w*|asset ?-?cal\w*",
            r"asset ?ref\w*",
            r"ref ?-?scan|sense ?-?ref\w*|ref ?-?(?:32|16|8|head)\w*|coil ?-?sens\w*|shim\w*|gre ?field\w*",
            r"pre ?-?scan",
            r"adjust\w*|fieldmapping|phase ?-?map\w*|noise ?scan|cal ?(?:head|brain|hns|32|8hr)\w*",
            r"actual flip\w*|(?<=^ )asset(?= $)",
        ),
    ),
    (
        "spectroscopy",
        _pattern(
            r"e?spe[ck]tro\w*|spettro\w*|mrs|mrsi|svs\w*|csi\w*|press|probe ?-?(?:p|sv|si)|mega ?press",
            r"single ?voxel",
        ),
    ),
    (
        "a flow, elasticity or quantitative map",
        _pattern(
            r"elasto\w*|mre|cine\w*|(?:csf ?|liquor)?flow(?! ?-?(?:comp|void|sens|artefa|artifa)\w*)",
            r"r2 ?(?:star|map\w*)",
            r"t[12] ?-?map\w*|t[12] ?-?rho\w*|mwf|magneti[sz]ation transfer|mtr|kspace|qti|mrf ?maps?",
        ),
    ),
    ("a report or screenshot", _pattern(r"phoenix\w*|report|screen ?-?s\w*")),
)
"""Other sequences: what to call them, and the words that say so."""


def is_localizer(folded: str) -> bool:
    """Whether a text, folded, names a localizer.

    A brain is imaged with MPRAGE, hardly ever located with it: "MPRAGE_localization" is for surgeons.
    """
    return bool(LOCALIZER.search(folded)) and not BRAIN_T1.search(folded)


def calls_itself_t1(folded: str) -> bool:
    """Whether a text, folded, names a T1-weighted sequence or a family that such are made with."""
    return bool(T1_SAID.search(folded) or T1_FAMILY.search(folded))


def another_sequence(folded: str) -> str | None:
    """What a text, folded, says that a series is if it is not T1-weighted; None where it says nothing else.

    A series that calls itself T1 is never taken for another one because of a second word; the name of a family of
    sequences does not protect it.

    Examples
    --------
    >>> another_sequence(" 3d tof fspgr "), another_sequence(" t1 tof "), another_sequence(" 3d fspgr ")
    ('an angiography', None, None)
    """
    if T1_SAID.search(folded):
        return None
    return next((what for what, pattern in OTHER if pattern.search(folded)), None)


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
