"""What words in descriptions mean: contrast agents and parts of the body, in the languages of the scanners.

Free text in headers is written by people in a hurry and copied from protocol to protocol.  In the AP-HP data
warehouse 987 of 1,629 MR images without gadolinium spoke of an injection (Bottani et al. 2022), so what these
functions find is a claim to compare with, never evidence.

Everything is matched as words: text is folded to lower case without accents, and cut where letters meet
digits or small letters meet capitals ("T1postGd"), behind "3D" ("3DpCASL"), and where people glue the words of
sequences to each other ("FFEGADO", "SAGT2").  Only known words are cut from each other: "higado" is a liver.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from qc_node.domain import BodyPart

_CAMEL = re.compile(
    r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z]{2})|"
    r"(?<=[0-9])(?=[A-Za-z])(?<!(?<![A-Za-z0-9])[23](?=[dD]))(?![wWdD](?:\b|_))|"
    r"(?<=(?<![A-Za-z0-9])[23][dD])(?=[A-Za-z])|(?<=[A-Z]{2})(?=(?:post|pre|gado|native?)\b)"
)
_WEIGHTING_3D = re.compile(r"(?i)(?<=t[12])(?=3d)")
_VOICED = "\u3099\u309a"
"""Marks of Japanese that make another letter, not an accent."""
_STAR = re.compile(r"(?<=[tTrR]2)\s?\*")
_SPLIT = re.compile(r"[\s_^.,;:()\[\]{}<>|=*#\"'!?~]+")


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """`text` folded for matching: lower case, no accents, single blanks, one blank at each end."""
    text = unicodedata.normalize("NFKC", text)
    text = _WEIGHTING_3D.sub(" ", _STAR.sub(" star ", text))
    text = _CAMEL.sub(" ", text.replace("ł", "l").replace("Ł", "L").replace("ß", "ss"))
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(c for c in text if not unicodedata.combining(c) or c in _VOICED)
    text = _SPLIT.sub(" ", unicodedata.normalize("NFC", text)).strip()
    return f" {_TOKEN.sub(_apart, text)} "


# -- words that are written as one: closed lists, so that no word of a language is cut ---------------
_PLANES = "(?:axi?(?:al)?|sag(?:ittal)?|cor(?:onal)?|tra(?:ns)?)"
_SEQUENCES = (
    "(?:[dw]?(?:t[12]w?|ffe|tfe|fl3d|flash|tfl|f?spgr|bravo|(?:mp)?2?rage|mpr|vibe|lava|thrive|tse|fse|se|gre|space"
    f"|cube|vista|dixon|flair|spir|fatsat|fs|ir|iso|brain|crane|head)|{_PLANES})"
)
_WHETHER = "(?:post|pre|apres|avant|avec|sans|nach|vor|mit|ohne|con|sin|senza|dopo|non|no|wo|w)"
_AGENTS = r"(?:gado(?:lin[a-z]*|vist|ter[a-z]*|but[a-z]*)?|gad|gd|km|mdc|inj(?:ect[a-z]*)?)"
_WEIGHTED = r"(?:t[12](?!\d)|flair|dwi|dti|adc|pd|stir|swi|tof|asl|mprage|bravo|f?spgr)[a-z0-9]*"
_TOKEN = re.compile(r"(?<![^\W_])[a-z][a-z0-9]{3,}(?![^\W_])")
_GLUED = (
    re.compile(f"({_SEQUENCES}+)({_WHETHER}?)({_AGENTS})"),
    re.compile(f"({_WHETHER}?)({_AGENTS})({_SEQUENCES}+)"),
    re.compile(f"({_WHETHER})({_AGENTS})"),
    re.compile(f"({_PLANES})({_WEIGHTED})"),
)


def _apart(token: re.Match[str]) -> str:
    """The parts of one word that is several: ``ffegado`` is ``ffe gado``."""
    for pattern in _GLUED:
        found = pattern.fullmatch(token[0])
        if found is not None:
            return " ".join(part for part in found.groups() if part)
    return token[0]


def _joined(table: str) -> str:
    """One pattern of a table in which ``|`` or a new line stands between alternatives."""
    return "|".join(line.strip() for line in table.strip().splitlines())


def _words(table: str) -> re.Pattern[str]:
    """A pattern for whole words; those in `table` may be regular expressions."""
    return re.compile(r"(?<![^\W\d_])(?:" + _joined(table) + r")(?![^\W\d_])")


# -- contrast agents ---------------------------------------------------------------------------------
_GADOLINIUM = _words(r"""
    gd|gad|gado|gadolin(?:i(?:um|o|u)?|e)?|gadoliniy|gadolinum|gd ?-? ?dtpa|gd ?-? ?dota
    gado(?:butrol|vist|teri(?:c|dol|ate)|pentet\w*|benat\w*|diamid\w*|xet\w*|piclenol|versetamide)|gadavist
    dotarem|artirem|clariscan|magnevist|magnograf|prohance|multihance|omniscan|primovist|eovist|elucirem|vueway
    optimark|dotagraf|cyclolux|гадолини\w*|гадовист|ガドリニウム\w*|ガドビスト|ga?dol\w+ ?dtpa|mpragegd|t1gd
    ce ?t1w?|t1w?ce|t1w? ?\+ ?c|t1w? ?c ?\+
    """)

_IODINE = _words(r"""
    iohexol|omnipaque|ultravist|iopromid\w*|visipaque|iodixanol|isovue ?\d*|iopamidol|iopamiro|solutrast|iomeron
    imeron|iomeprol|optiray|ioversol|xenetix|iobitridol|accupaque|oxilan|hexabrix|niopam|scanlux|iodine
    iodinated|jod(?:haltig\w*)?|omni
    """)

_WITHOUT = _joined(r"""
    without|w ?/ ?o|wo|w-o|no|non|not|ohne|kein(?:e|en)?|sans|sin|senza|sem|zonder|bez|utan|uten|uden|ilman|без
    pre|vor|avant|antes(?: de)?|prima(?: del)?|przed|fore|for|before|ss|s ?/
    """)
_AGENT = _joined(r"""
    contrast\w*|contraste?s?|kontrast\w*|contrasto|iv ?-? ?con(?:t|trast)?|i ?v ?con(?:trast)?|iv ?-? ?c|iv|con
    cm|km|mdc|mdk|pdc|pc|gad\w*|gd|inj(?:ect\w*|ec)?|civ|i ?\.? ?v\.? ?contrast|enhance(?:d|ment)|контраст\w*|c
    k ?m|medio de contraste|mezzo di contrasto|produit de contraste|contrastmiddel\w*|contrastmedium|ivcon
    varjoaine\w*|cte|gadol\w*
    """)

_NEGATIVE = re.compile(
    rf"(?<!\w)(?:{_WITHOUT})"
    r" ?-? ?(?:(?:iv|i v|oral|any|de|le|du|el|il|and|prod\w*|medio|mezzo) ){0,2}"
    rf"(?:{_AGENT})(?!\w)|"
    + _joined(r"""
    (?<!\w)(?:pre ?-?(?:contrast\w*|gad\w*|gd|con|c|inj\w*|km)|non ?-?(?:contrast\w*|con|enh\w*|ce|inj\w*)
    ncct|nect|unenhanced|native?|nativ(?:a|e|o|na|ni)?|plain
    basale?(?! ?(?:gangl|cist|kern|nucl))|blanco|blank|directo?|sinc|c ?-(?!\w)
    iv ?-(?!\w)|kontrastsiz|kontrastfri|kontrastlos|ungespritzt|w ?/? ?o|w-o|wo|spc)(?!\w)
    平扫|単純|非造影|造影 ?(?:剤 ?)?(?:前|な ?し|無 ?し|無)|增强前|未增强|비조영|조영 ?(?:증강 ?)?전
    (?<!\w)o ?(?:km|kontrast\w*|mdc)(?!\w)
    без (?:в ?/ ?в )?контраст\w*|нативн\w*
    """)
)
_STUDY_BOTH = re.compile(
    _joined(r"""
    (?<!\w)(?:w ?(?:/|&|and|\+|-)? ?(?:and ?)?(?:w ?/ ?o|wo)|w ?/ ?o ?(?:&|and|\+|/)? ?w ?/?
    wo ?(?:&|and|/|\+)? ?w|with ?(?:and|&|/|or|\+)? ?(?:w ?/ ?o|wo|without)|without ?(?:and|&|/|\+) ?with
    pre ?(?:and|&|/|\+|-|u|et|y|e)? ?post|sans ?(?:et|puis|/|\+|&) ?avec|avec ?(?:et|/|\+|&) ?sans
    sin ?(?:y|/|\+|&) ?con|con ?(?:y|e|/|\+|&) ?(?:sin|senza)|senza ?(?:e|ed|/|\+|&) ?con
    ohne ?(?:und|u|/|\+|&) ?mit|mit ?(?:und|u|/|\+|&) ?ohne|nativ ?(?:und|u|/|\+|&) ?(?:km|kontrast\w*)
    zonder ?(?:en|/|\+|&) ?met|met ?(?:en|/|\+|&) ?zonder|bez ?(?:i|/|\+|&) ?(?:po|z)
    nativ ?(?:a|och|og) ?(?:post|med))(?!\w)
    """)
)
_POSITIVE = re.compile(
    _joined(r"""
    (?<!\w)(?:with|w ?/?|mit|nach|n|avec|apres|con|dopo|despues(?: de)?|com|apos|pos|met|na|z|ze|po|med|etter
    efter|s|с|после|post|\+|c ?/|plus|i ?v|iv|oral)
    """)
    + r" ?-? ?(?:(?:iv|i v|oral|de|le|du|el|il|the|prod\w*|medio|mezzo|dose|injection|administration|podaniu) ?)"
    + r"{0,3}"
    + _joined(r"""
    (?:contrast\w*|contraste?s?|kontrast\w*|contrasto|con|cm|km|mdc|mdk|pdc|gad\w*|gd|inj(?:ect\w*|ec)?|civ
    контраст\w*|iv|enh\w*)(?!\w)
    (?<!\w)(?:contrast(?:e|ed|o)?(?:mittel\w*|middel\w*|medium\w*)?|kontrast\w*
    contrast ?-?(?:enhanced|agent|media|medium)|enhanced|ce|cect|c ?\+|\+ ?c|km|mdc|iv ?\+|\+ ?iv
    post ?-?(?:con|contrast\w*|gad\w*|gd|inj\w*|km|c|mdc|ce)|injecte\w*|injected|injection|inj|postcontrast\w*
    dce|kontrastli|contrastad\w*|ivcon|cta|ceus|ce ?-?mra|контраст\w*|с в ?/ ?в)(?!\w)
    增强|造影|조영|\+ ?c(?!\w)|(?<!\w)(?:zoue?i|p[oó]s ?-?(?:contraste?|gad\w*|gd)|m ?km)(?!\w)
    """)
)
_POST = re.compile(
    _joined(r"""
    (?<!\w)post(?! ?-?(?:op|ops|fossa|surg|surgery|surgical|operat|proc|process|processing|processed|treat
    treatment|trauma|traumatic|mortem|stroke|ictal|rt|radiation|rad|rx|chemo|therapy|tx|biopsy|stim|task
    exercise|void|coil|stent|angio|recon|dti|test|ant|lat|cranial|hoc|covid|natal|partum)(?!\w))(?!\w)
    """)
)
_PRE = re.compile(
    _joined(r"""
    (?<!\w)pre(?! ?-?(?:op|ops|surg|surgery|scan|process|processed|treat|treatment|rt|chemo|tx|void)(?!\w))(?!\w)
    """)
)
_PHASES = re.compile(
    _joined(r"""
    (?<!\w)(?:arterial?(?:le|ell?e?)?|arteriell?e?|arteriosa|arteriel|portal(?:venous|ven\w*|e|is)?
    portal ?-?ven\w*|pv ?phase|venous|venos[ao]?|veineux|venose?|delayed|nephro\w*|pyelo\w*|corticomed\w*
    excretory|urographic|spatphase|late phase|tardif|tardiv[ao]|angio\w*|cta|cect|pe protocol|triple ?-?phase
    bolus)(?!\w)
    """)
)
_NOT_CONTRAST = re.compile(
    _joined(r"""
    (?<!\w)(?:phase ?-?contrast|pc ?-?(?:mra|angio\w*|flow)
    contrast ?-?(?:resolution|to|ratio|transfer|weighted|optimi[sz]ed)
    (?:soft|tissue|low|high|image|t1w?|t2w?|flow|susceptibility|magnetization|magnetisation
    gray|grey|gw|gm ?-?wm) ?-?contrast
    without ?-?contact|multi ?-?contrast|dual ?-?contrast|contrast ?-?off)(?!\w)
    """)
)
_ORAL = _words(r"""
    oral\w*|orale?s?|po|per os|rect(?:al|um)\w*|rektal\w*|enema|gastro\w*|peroral\w*|barium\w*|readi ?-?cat
    micropaque|e ?-?z ?-?cat|water
    """)
_INTRAVENOUS = _words(r"""
    iv|i v|intraven\w*|omni\w*|iohexol|ultravist|visipaque|isovue|iomeron|imeron|optiray|xenetix
    """)
_NONE = _words(r"""
    none|no|off|0|n|nil|na|n/a|keine?s?|ohne|aucun|sans|sin|nessuno|senza|false|not applicable|without|brak|nein
    non|unknown|ingen|geen
    """)


def contrast_said(text: str | None, ct: bool = False) -> bool | None:
    """Whether `text` speaks of an intravascular contrast agent: given, not given, or nothing said.

    Parameters
    ----------
    text
        One description.  "With and without" means that an agent was given at some time, thus True.
    ct
        Also take phases ("portal venous", "CTA") as said; for MR they describe sequences without agent too.
    """
    if not text or not text.strip():
        return None
    folded = _NOT_CONTRAST.sub(" ", plain(text))
    if _STUDY_BOTH.search(folded):
        return True
    negative = bool(_NEGATIVE.search(folded) or _PRE.search(folded))
    rest = _NEGATIVE.sub(" ; ", folded)
    if _GADOLINIUM.search(rest) or _IODINE.search(rest) or _POSITIVE.search(rest) or _POST.search(rest):
        return True
    if ct and not negative and (_PHASES.search(rest) or re.search(r"[a-z] w ?/? $", rest)):
        return True
    return False if negative else None


def both_said(text: str | None) -> bool:
    """Whether `text` asks for images with and without an agent, so that neither can be missed in one series."""
    return bool(text and _STUDY_BOTH.search(_NOT_CONTRAST.sub(" ", plain(text))))


def only_oral(text: str | None) -> bool:
    """Whether `text` speaks of an oral or rectal agent and of no intravascular one."""
    folded = plain(text or "")
    return bool(_ORAL.search(folded)) and not _INTRAVENOUS.search(folded)


def gadolinium_said(text: str | None) -> bool:
    """Whether `text` names gadolinium or one of its preparations as given."""
    if not text:
        return False
    folded = plain(text)
    return bool(_GADOLINIUM.search(_NEGATIVE.sub(" ; ", folded)))


def agent_stated(text: str | None) -> bool | None:
    """What Contrast/Bolus Agent (0018,0010) states: an agent, "none" in one of many spellings, or nothing."""
    if not text or not text.strip():
        return None
    folded = plain(text).strip()
    return not (_NONE.fullmatch(folded) or not re.search(r"\w", folded))


# -- parts of the body -------------------------------------------------------------------------------
HEAD = _words(r"""
    brain\w*|head|skull|cranium|crani(?:al|o|um)\w*|cerebr\w*|encephal\w*|encefal\w*|neuro\w*|kopf|schadel
    schaedel|hirn|gehirn|ccr?t|cct|tete|crane|cerveau|cabeza|cerebro|craneo|cranio|testa|cervello|capo|cabeca
    cranio|hoofd|hersen\w*|schedel|glow[ay]\w*|mozg\w*|huvud|hode|hoved|hjarna|hjerne|mozek|hlava|beyin|kafa
    pituitary|hypophys\w*|hippocamp\w*|sella|iac|stroke|epilep\w*|schlaganfall|avc|ms protocol|голов\w*|мозг\w*
    головного|頭部\w*|頭|脳\w*|颅脑\w*|头部?\w*|뇌\w*|두부
    """)
NECK = _words(r"""
    neck|hals\w*|cou|cuello|collo|pescoco|szyj\w*|larynx|thyroid|soft tissue neck|cervical soft|parotid\w*
    larynge\w*|ше[яи]\w*|頸部\w*|颈部?\w*|경부|nek|boyun
    """)
CHEST = _words(r"""
    chest|thora\w*|torax\w*|torac\w*|lung\w*|pulmo\w*|polmon\w*|poumons?|brust\w*|lunge\w*|mediastin\w*|hrct
    klatk\w*|pluc\w*|borst\w*|longen|heart|cardiac|coronar\w*|herz|pe protocol|ctpa|coronary ?cta|ccta|грудн\w*
    легк\w*|胸部\w*|胸|肺\w*|흉부|akciger|toraks\w*
    """)
ABDOMEN = _words(r"""
    abd|abdo|abdom\w*|addom\w*|liver|leber\w*|foie|higado|fegato|kidneys?|renal|niere\w*|pancrea\w*|pankrea\w*
    adrenal\w*|oberbauch|upper abd\w*|hepat\w*|epigast\w*|wiel?ofaz\w*|watrob\w*|lever|брюшн\w*|печен\w*|腹部\w*
    上腹部?|肝\w*|복부|batin|bauch|buik|buk\w*
    """)
PELVIS = _words(r"""
    pelv\w*|pelwis|becken\w*|bassin|bacino|bekken\w*|bladder|prostat\w*|uter\w*|rect(?:al|um)|miednic\w*|backen
    ташов\w*|таза?\w*|骨盤\w*|盆腔\w*|골반
    """)
BOTH = _words(r"""
    ct ?-?a ?[/&]? ?p|a ?[/&] ?p|abd ?[/&+-]? ?pelv?\w*|abdpel\w*|abdomen ?[-/&+]? ?pelvis|abdopelv\w*
    abdomino ?-?pelv\w*|abdpelv\w*|kub
    """)
TRUNK = _words(r"cap|tap|c ?/ ?a ?/ ?p|ch ?/ ?ab\w* ?/ ?pel\w*|chest ?[/,&-] ?abd\w* ?[/,&-] ?pel\w*")
SPINE_OR_LIMB = _words(r"""
    spine|[ctl] ?-?spine|[ctl] ?-?sp|lumb\w*|sacr\w*|cervical spine|thoracic spine|wirbel\w*|[hlb]ws|rachis
    columna|colonna|coluna|kregosl\w*|wervel\w*|vertebr\w*|knees?|knie\w*|genou|rodilla|ginocchio|joelho
    kolan\w*|shoulders?|schulter\w*|epaule|hombro|spalla|bark\w*|elbow|ellenbogen|coude|codo|gomito|wrist
    handgelenk|poignet|muneca|polso|hand|hands|hips?|hufte\w*|hueft\w*|hanche|cadera|anca|ankles?|sprunggelenk
    cheville|tobillo|caviglia|foot|feet|fuss|pied|piede|femur|tibia|leg|legs|thigh|calf|lower ?-?leg|extremit\w*
    arm|arms|humerus|forearm|finger|toe|limb|jaw|breasts?|mamma\w*|brust mr|腰椎\w*|頸椎\w*|胸椎\w*|脊柱\w*
    膝\w*|позвоноч\w*|колен\w*|cspine|tspine|lspine|sspine|clspine|lsspine|ctspine
    """)
_PHANTOM = _words(r"phantom\w*|fantom\w*|qa|quality ?-?(?:assurance|control)|kalibr\w*")
_CERVICAL = _words(r"c ?-?spine|cervical ?spine|cervical|cspine|hws|cervicale?s?")


_COMPOUND = {
    "headneck": "head neck",
    "headneckchest": "head neck chest",
    "neckchest": "neck chest",
    "neckchestabdomen": "neck chest abdomen",
    "neckchestabdpel": "neck chest abdomen pelvis",
    "neckchestabdpelv": "neck chest abdomen pelvis",
    "chestabd": "chest abdomen",
    "chestabdomen": "chest abdomen",
    "thoraxabdomen": "chest abdomen",
    "chestabdpelvis": "chest abdomen pelvis",
    "abdomenpelvis": "abdomen pelvis",
    "abdpelvis": "abdomen pelvis",
    "pelvisabdomen": "abdomen pelvis",
}
"""Defined terms of Body Part Examined (PS3.16 annex L) that are several words without blanks."""

_WITHOUT_BLANKS = (
    ("頭頸|頭頚|头颈", "head neck"),
    ("頸胸|頚胸|颈胸", "neck chest"),
    ("胸腹", "chest abdomen"),
    ("腹部?骨盤|腹部?盆|腹骨盤|腹盆", "abdomen pelvis"),
)
"""Several regions in one word of Japanese or Chinese."""

_PART_OF_ANOTHER = re.compile(
    r"(?<!\w)(?:(?:femor\w*|radial|humer\w*|pancrea\w*|metatars\w*|bladder) ?(?:head|neck)"
    r"|(?:head|neck) of (?:the )?(?:femur|pancreas|humerus|radius)|collo (?:del )?femor\w*|col (?:du )?femur"
    r"|(?:head|feet) first)(?!\w)"
)
"""Heads and necks of bones and organs, and the position of the patient."""


def body_parts_said(text: str | None) -> frozenset[str]:
    """Which regions `text` names: ``head neck chest abdomen pelvis other``; empty when it names none."""
    if not text:
        return frozenset()
    folded = plain(text)
    found: set[str] = set()
    for word in (folded.strip(), *folded.split()):
        found |= set(_COMPOUND.get(word, "").split())
    for glued, regions in _WITHOUT_BLANKS:
        if re.search(glued, folded):
            found |= set(regions.split())
    folded = _PART_OF_ANOTHER.sub(" ; ", folded)
    if _PHANTOM.search(folded):
        return frozenset({"other"})
    if SPINE_OR_LIMB.search(folded):
        found.add("other")
        folded = _CERVICAL.sub(" ", folded)
    for name, pattern in (
        ("head", HEAD),
        ("neck", NECK),
        ("chest", CHEST),
        ("abdomen", ABDOMEN),
        ("pelvis", PELVIS),
    ):
        if pattern.search(folded):
            found.add(name)
    if BOTH.search(folded):
        found |= {"abdomen", "pelvis"}
    if TRUNK.search(folded):
        found |= {"chest", "abdomen", "pelvis"}
    return frozenset(found)


def body_part_said(text: str | None) -> BodyPart | None:
    """The one answer of :class:`~qc_node.domain.BodyPart` that `text` amounts to; None when it names none.

    Several regions that no single answer covers (chest and abdomen) are None too: they contradict nothing.
    """
    regions = body_parts_said(text)
    single = {
        frozenset({"head"}): BodyPart.BRAIN,
        frozenset({"neck"}): BodyPart.NECK,
        frozenset({"chest"}): BodyPart.CHEST,
        frozenset({"abdomen"}): BodyPart.ABDOMEN,
        frozenset({"abdomen", "pelvis"}): BodyPart.ABDOMEN_PELVIS,
        frozenset({"other"}): BodyPart.OTHER,
        frozenset({"pelvis"}): BodyPart.OTHER,
    }
    return single.get(regions)
