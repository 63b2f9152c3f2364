"""Claimed and ordered against seen: each mismatch is one plain sentence.

Header text is a claim, never evidence (:mod:`qc_node.series.headers.words` says how unreliable it is), so what a
classifier saw is never changed by it; and what a classifier abstained from contradicts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from qc_node.classifiers import catalogue
from qc_node.classifiers.interface import Seen
from qc_node.domain import REGIONS_OF, BodyPart, HeaderClaims, Verdict
from qc_node.series.headers.words import (
    agent_stated,
    body_part_said,
    body_parts_said,
    both_said,
    contrast_said,
    only_oral,
)

_BODY_PART = "Body Part Examined (0018,0015)"
_ORDER = ("head", "neck", "chest", "abdomen", "pelvis", "other")

GAP_FACTOR = 1.5
"""Slices further apart than this many thicknesses (and half a millimetre more) leave tissue unseen."""


@dataclass(frozen=True)
class Rule:
    """One ``[[rule]]`` of the configuration: what a department expects of series that follow an order.

    Attributes
    ----------
    order
        Regular expression, searched in what was ordered without regard to case.
    modality
        Only series of this modality; None for all.
    body_part, contrast, max_slice_thickness_mm
        What each judged series should show; None where nothing is expected.
    series
        Regular expressions; each must match the description of some series when the study closes.
    """

    order: str
    modality: str | None
    body_part: BodyPart | None
    contrast: bool | None
    max_slice_thickness_mm: float | None
    series: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.body_part is not None:
            object.__setattr__(self, "body_part", BodyPart(self.body_part))
        object.__setattr__(self, "series", tuple(self.series))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.order, re.IGNORECASE)

    def asks(self, ordered: Iterable[str], modality: str = "") -> bool:
        """Whether the rule speaks about a series of `modality` (empty: any) of which `ordered` was ordered."""
        if self.modality and modality and self.modality != modality:
            return False
        return any(self._pattern.search(text) for text in ordered)


def ordered_texts(claims: HeaderClaims) -> tuple[str, ...]:
    """Everything that tells what was ordered; Study Description last, because people write other things there."""
    return (*claims.ordered, *((claims.study_description,) if claims.study_description else ()))


def claimed_body_part(claims: HeaderClaims) -> BodyPart | None:
    """The body part that the header claims, by the first tag that names one; None where none does."""
    for _, text in _own_texts(claims):
        if body_parts_said(text):
            return body_part_said(text)
    return next((body_part_said(t) for t in ordered_texts(claims) if body_parts_said(t)), None)


def _own_texts(claims: HeaderClaims) -> list[tuple[str, str]]:
    """What the series says about itself: tag and text."""
    pairs = (
        (_BODY_PART, claims.body_part_examined),
        ("Series Description (0008,103E)", claims.series_description),
        ("Protocol Name (0018,1030)", claims.protocol_name),
    )
    # the same words under two tags are one claim
    texts = [text for _, text in pairs]
    return [(tag, text) for n, (tag, text) in enumerate(pairs) if text and text not in texts[:n]]


# -- what was seen -----------------------------------------------------------------------------------
def _seen(verdict: Verdict) -> Seen:
    """What the classifier saw; one that is not here any more contradicts nothing."""
    spec = catalogue.spec_of(verdict.stage)
    return Seen() if spec is None else spec.seen(verdict)


def _words(seen: Seen) -> str:
    """What was seen, for sentences: "abdomen without contrast"."""
    parts = []
    if seen.regions is not None:
        parts.append(_named(seen.regions) if seen.regions else "another body part")
    if seen.enhanced is not None:
        parts.append("with contrast" if seen.enhanced else "without contrast")
    return " ".join(parts)


def _is_ct(verdict: Verdict) -> bool:
    """Whether words about contrast are to be read as those of CT."""
    spec = catalogue.spec_of(verdict.stage)
    return spec is not None and spec.accepts.modality == "CT"


def _named(regions: Iterable[str]) -> str:
    known = set(regions)
    return "-".join(r for r in _ORDER if r in known)


# -- comparing ---------------------------------------------------------------------------------------
def check(
    claims: HeaderClaims, verdict: Verdict, spacing_mm: tuple[float, float, float], rules: Sequence[Rule] = ()
) -> tuple[str, ...]:
    """Every mismatch of what was claimed, ordered or expected with what was seen.

    Parameters
    ----------
    claims
        What the header claims.
    verdict
        What was seen.  A finding that abstained, or is not defined for a straight reject, contradicts nothing.
    spacing_mm
        Distance of neighbours along (column, row, slice).
    rules
        What the department expects.

    Returns
    -------
    tuple of str
        Sentences, each once, in the order: claims of the series, order, rules, slice thickness.
    """
    seen = _seen(verdict)
    asked = [rule for rule in rules if rule.asks(ordered_texts(claims), claims.modality)]
    found = [
        *_claimed_parts(claims, seen),
        *_claimed_contrast(claims, seen, ct=_is_ct(verdict)),
        *_ordered(claims, seen, ct=_is_ct(verdict)),
        *(s for rule in asked for s in _ruled(rule, claims, seen, spacing_mm)),
        *_gaps(claims, spacing_mm),
    ]
    return tuple(dict.fromkeys(found))


def _claimed_parts(claims: HeaderClaims, seen: Seen) -> Iterable[str]:
    if seen.regions is None:
        return
    told: set[frozenset[str]] = set()
    for tag, text in _own_texts(claims):
        said = body_parts_said(text) - {"other"}
        # Words of a whole protocol stand on each of its series: what one does not show, another may.
        if said and not said & seen.regions and said not in told:
            told.add(said)
            yield f'{tag} says "{_short(text)}"; found: {_named(seen.regions) or "another body part"}.'


def _claimed_contrast(claims: HeaderClaims, seen: Seen, ct: bool) -> Iterable[str]:
    if seen.enhanced is None:
        return
    texts = [(tag, text, contrast_said(text, ct=ct)) for tag, text in _own_texts(claims) if tag != _BODY_PART]
    agent = claims.contrast_agent or ""
    texts.insert(0, ("Contrast/Bolus Agent (0018,0010)", agent, agent_stated(agent)))
    for tag, text, said in texts:
        if said is None or said is seen.enhanced or only_oral(text) or both_said(text):
            continue
        yield f'{tag} says "{_short(text)}"; {"" if seen.enhanced else "no "}{seen.agent} was seen.'


def _ordered(claims: HeaderClaims, seen: Seen, ct: bool) -> Iterable[str]:
    texts = ordered_texts(claims)
    regions = next((r for t in texts if (r := body_parts_said(t) - {"other"})), frozenset())
    contrast = _ordered_contrast(texts, ct)
    wrong_part = False
    if regions and seen.regions is not None:
        # of an order for several regions, one series may show one and the next another
        wrong_part = not regions & seen.regions
    wrong_contrast = contrast is not None and seen.enhanced is not None and contrast is not seen.enhanced
    if wrong_contrast and contrast and not wrong_part:
        # an examination with contrast has plain series too: all those of MR, and a CT that calls itself plain
        own = [contrast_said(text, ct=ct) for _, text in _own_texts(claims)]
        wrong_contrast = ct and False not in own
    if not (wrong_part or wrong_contrast):
        return
    wish = _named(regions) if regions else ""
    if contrast is not None:
        wish = f"{wish} {'with' if contrast else 'without'} contrast".strip()
    yield f"Ordered: {wish}; found: {_words(seen)}."


def _ordered_contrast(texts: Sequence[str], ct: bool) -> bool | None:
    """With, without, or open: an order for both phases can be missed by no single series."""
    if any(both_said(t) for t in texts):
        return None
    said = ((t, contrast_said(t, ct=ct)) for t in texts)
    return next((c for t, c in said if c is not None and not only_oral(t)), None)


def _ruled(rule: Rule, claims: HeaderClaims, seen: Seen, spacing_mm: tuple[float, float, float]) -> Iterable[str]:
    head = f'The rule for orders like "{rule.order}" expects'
    if rule.body_part is not None and seen.regions is not None and seen.body_part is not rule.body_part:
        wanted = REGIONS_OF[rule.body_part]
        if not wanted or not wanted <= seen.regions:
            name = rule.body_part.value.replace("_", "-")
            yield f"{head} {name}; found: {_named(seen.regions) or 'another body part'}."
    if rule.contrast is not None and seen.enhanced is not None and rule.contrast is not seen.enhanced:
        yield (
            f"{head} a series {'with' if rule.contrast else 'without'} contrast; "
            f"found: {'with' if seen.enhanced else 'without'} contrast."
        )
    limit = rule.max_slice_thickness_mm
    thickness = claims.slice_thickness_mm or spacing_mm[2]
    if limit is not None and thickness > limit + 1e-3:
        yield f"{head} slices of at most {limit:g} mm; they are {thickness:.3g} mm thick."


def _gaps(claims: HeaderClaims, spacing_mm: tuple[float, float, float]) -> Iterable[str]:
    thickness = claims.slice_thickness_mm
    if thickness and spacing_mm[2] > GAP_FACTOR * thickness + 0.5:
        yield (
            f"Slice Thickness (0018,0050) is {thickness:g} mm, but the slices lie {spacing_mm[2]:.3g} mm apart, "
            "so tissue between them was not imaged."
        )


def _short(text: str) -> str:
    return text if len(text) <= 64 else text[:63] + "…"


# -- the closed study --------------------------------------------------------------------------------
def missing_series(
    rules: Sequence[Rule], ordered: Sequence[str], series: Sequence[HeaderClaims | str]
) -> tuple[str, ...]:
    """Series that a rule expects and that the closed study does not have.

    Parameters
    ----------
    rules
        What the department expects.
    ordered
        What was ordered (:func:`ordered_texts` of any series of the study).
    series
        The series of the study: claims, or descriptions.
    """
    texts = [(s.modality, _searchable(s)) if isinstance(s, HeaderClaims) else ("", s) for s in series]
    found = []
    for rule in rules:
        if not rule.series or not rule.asks(ordered):
            continue
        modalities = {m for m, _ in texts if m}
        if rule.modality and modalities and rule.modality not in modalities:
            # a study without any series of the modality is another examination under the same order
            continue
        for pattern in rule.series:
            here = (t for m, t in texts if not rule.modality or not m or m == rule.modality)
            if not any(re.search(pattern, text, re.IGNORECASE) for text in here):
                found.append(
                    f'Orders like "{rule.order}" expect a series like "{pattern}", and the study has none.'
                )
    return tuple(dict.fromkeys(found))


def _searchable(claims: HeaderClaims) -> str:
    parts = (claims.series_description, claims.protocol_name, claims.body_part_examined)
    return "\n".join(part for part in parts if part)


def _covers(verdict: Verdict) -> bool:
    spec = catalogue.spec_of(verdict.stage)
    return spec is not None and spec.covers


def uncovered_regions(ordered: Sequence[str], verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Ordered regions that no CT series of the closed study shows (the forgotten neck of the ImageQC-net paper).

    Says nothing while any CT of the study abstained from its body part: the region may be there.
    """
    shown = _shown(verdicts)
    wanted = next((r for t in ordered if (r := body_parts_said(t) - {"other"})), frozenset())
    if shown is None or not wanted - shown:
        return ()
    return (f"Ordered: {_named(wanted)}; no series of the study shows the {_listed(wanted - shown)}.",)


def uncovered_claims(
    series: Sequence[tuple[HeaderClaims, Sequence[Verdict]]], ordered: Sequence[str] = ()
) -> tuple[str, ...]:
    """What CT series claim to show and no series of the closed study shows: "CT CAP" above an abdomen alone.

    A series that shows nothing of what it claims was told when it was judged (:func:`check`), and regions that an
    order names by :func:`uncovered_regions`.

    Parameters
    ----------
    series
        Claims and verdicts of each series of the study.
    ordered
        What was ordered.
    """
    shown = _shown([v for _, verdicts in series for v in verdicts])
    if shown is None:
        return ()
    told = {next((r for t in ordered if (r := body_parts_said(t) - {"other"})), frozenset()) - shown}
    found = []
    for claims, verdicts in series:
        own = frozenset().union(*(_seen(v).regions or frozenset() for v in verdicts if _covers(v)))
        for tag, text in _own_texts(claims):
            said = body_parts_said(text) - {"other"}
            missing = said - shown
            if said & own and missing and not any(missing <= known for known in told):
                told.add(missing)
                found.append(f'{tag} says "{_short(text)}"; no series of the study shows the {_listed(missing)}.')
    return tuple(found)


def _shown(verdicts: Sequence[Verdict]) -> frozenset[str] | None:
    """The regions that the CT series of a study show together; None where there is none or one abstained."""
    seen = [_seen(v).regions for v in verdicts if _covers(v)]
    known = [regions for regions in seen if regions is not None]
    return None if not seen or len(known) < len(seen) else frozenset().union(*known)


def _listed(regions: Iterable[str]) -> str:
    known = set(regions)
    return " and the ".join(r for r in _ORDER if r in known)
