"""Which classifiers a series is for, or one sentence why none.

The rules are generous: whatever claims to be a T1-weighted brain, or says nothing against it, is judged,
derived images too, because a wrong header must not hide a bad image.  A series is skipped only when a tag says
clearly that it is something else, and the sentence names that tag.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.uid import UID

from qc_node.dicom.uids import IMAGE_MODALITIES
from qc_node.domain import Accepts, Content, HeaderClaims, Stage
from qc_node.series.headers.claims import items_of, number_of, text_of
from qc_node.series.headers.sequences import (
    BRAIN_T1,
    IMAGE_TYPES,
    OTHER_CONTRASTS,
    OTHER_CT,
    another_sequence,
    calls_itself_t1,
    is_localizer,
)
from qc_node.series.headers.words import ABDOMEN, CHEST, HEAD, NECK, PELVIS, SPINE_OR_LIMB, plain
from qc_node.series.volume.stack import OpenedSeries

THICK_2D_MM = 2.0
"""Slices of a 2D acquisition above this make a "clear 2D series"."""
LONG_ECHO_MS = 60.0
"""No T1-weighted sequence of the brain has a longer echo time."""

LOCALIZER_TYPES = frozenset({"LOCALIZER", "SCOUT", "SURVEY"})
"""Values of Image Type (0008,0008) of what is planned with."""
REPORT_TYPES = frozenset(
    {"SCREEN SAVE", "SCREENSHOT", "SCREEN SHOT", "DOSE", "DOSE_INFO", "DOSE REPORT", "REF_SURVIEW", "REPORT"}
    | {"CSA REPORT", "PROTOCOL"}
)
"""Those of pictures of text."""


@dataclass(frozen=True)
class Route:
    """Where a series goes: ``stage``, or None and the ``sentence`` that says why no classifier judges it.

    ``also`` are further classifiers that accept the series; the first one is the routed one.
    """

    stage: Stage | None
    sentence: str | None = None
    also: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        if (self.stage is None) != (self.sentence is not None):
            raise ValueError("a route has either a classifier or a sentence why none")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every classifier that is asked, the routed one first."""
        return () if self.stage is None else (self.stage, *self.also)


def to_stages(stages: Sequence[Stage]) -> Route:
    """A route to one or more classifiers."""
    return Route(stages[0], also=tuple(stages[1:]))


def route(opened: OpenedSeries, accepts: Sequence[Accepts]) -> Route:
    """The classifiers for an opened series, of those that say what they accept.

    No verdict is spoken about a skipped series.  Whether the pixels form a volume is not asked here:
    :meth:`~qc_node.series.volume.stack.OpenedSeries.volume` says so.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that are read here and taken as absent
        return _route(opened, accepts)


def known_modalities(accepts: Sequence[Accepts]) -> tuple[str, ...]:
    """The modalities that any classifier accepts, in alphabetical order."""
    return tuple(sorted({a.modality for a in accepts}))


def neither(modalities: Sequence[str]) -> str:
    """ "neither CT nor MR"; "not CT" of a single one."""
    *first, last = modalities
    return f"neither {', '.join(first)} nor {last}" if first else f"not {last}"


def _route(opened: OpenedSeries, accepts: Sequence[Accepts]) -> Route:
    header = opened.header
    known = known_modalities(accepts)
    sop = opened.instances[0].sop_class_uid or text_of(header, "SOPClassUID") or ""
    if sop and IMAGE_MODALITIES.get(sop) not in known:
        name = UID(sop, validation_mode=IGNORE).name
        what = f"no {', '.join(known[:-1])} or {known[-1]} image" if known[:-1] else f"no {known[-1]} image"
        return _skip("SOP Class UID (0008,0016)", name if name != sop else f"{sop}, which is unknown", what)
    modality = opened.modality
    if modality not in known:
        if not modality:
            return Route(
                None, "Modality (0008,0060) and SOP Class UID (0008,0016) are absent, so no classifier knows it."
            )
        return _skip("Modality (0008,0060)", modality, neither(known))
    photometric = text_of(header, "PhotometricInterpretation")
    if photometric and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return _skip("Photometric Interpretation (0028,0004)", photometric, "a colour picture")
    types = opened.image_types - {()}
    for what, names in (("a localizer", LOCALIZER_TYPES), ("a report or screenshot", REPORT_TYPES)):
        if types and all(names & set(t) for t in types):
            return _skip("Image Type (0008,0008)", _shown(opened.claims.image_type), what)
    refusals = {a.stage: _refusal(opened, a.content) for a in accepts if a.modality == modality}
    stages = [stage for stage, refusal in refusals.items() if refusal is None]
    return to_stages(stages) if stages else next(r for r in refusals.values() if r is not None)


def _refusal(opened: OpenedSeries, content: Content) -> Route | None:
    """Why a series is not what a classifier wants; None where nothing speaks against it."""
    match content:
        case Content.T1W_HEAD:
            return next(_mr(opened), None)
        case Content.CT_VOLUME:
            return next(_ct(opened), None)
        case Content.ANY:
            return None
        case _ as never:
            assert_never(never)


def _skip(tag: str, value: str, what: str) -> Route:
    return Route(None, f'{tag} says "{value[:64]}": {what}.')


def _shown(values: tuple[str, ...]) -> str:
    return "\\".join(values)


def _ct(opened: OpenedSeries) -> Iterator[Route]:
    claims = opened.claims
    types = opened.image_types - {()}
    shown = _shown(claims.image_type)
    if types and all(any(IMAGE_TYPES.get(v) == "a perfusion map" for v in t) for t in types):
        yield _skip("Image Type (0008,0008)", shown, "a perfusion map")
    if types and all(any(re.fullmatch(r"CT_SOM\d+ MON|MONITORING", v) for v in t) for t in types):
        yield _skip("Image Type (0008,0008)", shown, "the timing of a bolus")
    if claims.series_description:
        for what, pattern in OTHER_CT:
            if pattern.search(plain(claims.series_description)):
                yield _skip("Series Description (0008,103E)", claims.series_description, what)


def _mr(opened: OpenedSeries) -> Iterator[Route]:
    """Reasons against a T1-weighted brain, the clearest first."""
    header, claims = opened.header, opened.claims
    text, tag = _named(claims)
    folded = plain(text) if text else ""
    other = another_sequence(folded)
    claims_t1 = other is None and calls_itself_t1(folded)
    if is_localizer(folded):
        yield _skip(tag, text, "a localizer")
    yield from _by_image_type(opened, claims_t1)
    b_value = number_of(header, "DiffusionBValue")
    if b_value is not None and b_value > 0 and not claims_t1:
        yield _skip("Diffusion b-value (0018,9087)", f"{b_value:g}", "a diffusion series")
    contrast = text_of(header, "AcquisitionContrast") or text_of(
        _group(header, "MRImageFrameTypeSequence"), "AcquisitionContrast"
    )
    if contrast in OTHER_CONTRASTS:
        yield _skip("Acquisition Contrast (0008,9209)", contrast or "", "not T1-weighted")
    if other is not None:
        yield _skip(tag, text, other)
    yield from _by_body_part(claims)
    yield from _by_sequence(header, claims, claims_t1)
    yield from _flat(opened, header)


def _named(claims: HeaderClaims) -> tuple[str, str]:
    """The description that tells the sequence: the series' own, else the protocol's."""
    text = claims.series_description or ""
    told = plain(text)
    speaks = calls_itself_t1(told) or is_localizer(told) or another_sequence(told) is not None
    # GE's protocol name is that of the whole examination and lists what the other series are
    own_step = not (claims.manufacturer or "").upper().startswith("GE")
    if not speaks and own_step and claims.protocol_name:
        return claims.protocol_name, "Protocol Name (0018,1030)"
    return text, "Series Description (0008,103E)"


def _by_image_type(opened: OpenedSeries, claims_t1: bool) -> Iterator[Route]:
    types = opened.image_types - {()}
    found: list[str] = []
    for kind in types:
        what = next((known for v in kind[2:] if (known := IMAGE_TYPES.get(v.replace("_", " ")))), None)
        if what is None:
            return
        found.append(what)
    # "T2" or "B0" among the values of a series that calls itself T1 is taken for the word of a careless writer
    if found and not (claims_t1 and found[0].startswith(("a T2-weighted", "a field"))):
        yield _skip("Image Type (0008,0008)", _shown(min(types)), found[0])


def _group(header: Dataset, keyword: str) -> Dataset | None:
    """The first item of a functional group of an enhanced object, shared or of the first frame."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in items_of(header, groups)[:1]:
            for found in items_of(item, keyword)[:1]:
                return found
    return None


def _by_body_part(claims: HeaderClaims) -> Iterator[Route]:
    """Another part of the body.  The first text that names a part decides; the series' own words come first."""
    study = (claims.study_description, *claims.ordered)
    names_brain_sequence = bool(BRAIN_T1.search(plain(_named(claims)[0])))
    for text, tag in (
        (claims.series_description, "Series Description (0008,103E)"),
        (claims.protocol_name, "Protocol Name (0018,1030)"),
        (claims.body_part_examined, "Body Part Examined (0018,0015)"),
        (claims.study_description, "Study Description (0008,1030)"),
    ):
        folded = plain(text or "")
        if HEAD.search(folded):
            return
        if not any(part.search(folded) for part in (SPINE_OR_LIMB, NECK, CHEST, ABDOMEN, PELVIS)):
            continue
        own_words = tag.startswith(("Series", "Protocol"))
        if not own_words and (names_brain_sequence or any(HEAD.search(plain(t)) for t in study if t)):
            return
        yield _skip(tag, text or "", "not the brain")
        return


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
        echo = number_of(_group(header, "MREchoSequence"), "EffectiveEchoTime")
    if echo is not None and echo > LONG_ECHO_MS:
        yield _skip("Echo Time (0018,0081)", f"{echo:g} ms", "too long for a T1-weighted series")


def _flat(opened: OpenedSeries, header: Dataset) -> Iterator[Route]:
    """A clear 2D series: the tag says 2D and the slices are thick."""
    if (opened.claims.acquisition_type or "").upper() != "2D":
        return
    thickness = opened.claims.slice_thickness_mm
    spacing = opened.spacing_mm
    widest = max(
        thickness or 0.0, number_of(header, "SpacingBetweenSlices") or 0.0, spacing[2] if spacing else 0.0
    )
    if widest > THICK_2D_MM or not widest:
        mm = f" with slices {widest:g} mm apart" if widest else ""
        yield Route(None, f'MR Acquisition Type (0018,0023) says "2D"{mm}: not a 3D series.')
