"""Claimed and ordered against seen: every mismatch one sentence, and none against an abstention."""

from __future__ import annotations

import pytest

from qc_node.domain import (
    BodyPart,
    Coverage,
    Finding,
    HeaderClaims,
    ModelIdentity,
    Question,
    Reason,
    Region,
    Stage,
    Verdict,
)
from qc_node.engine.orders import check, claimed_body_part, missing_series, ordered_texts, uncovered_regions
from tests.part_settings import make_rule

MODEL = ModelIdentity("test", "1", "0" * 64)
THIN = (0.8, 0.8, 2.0)


def ct(part: BodyPart | None, contrast: bool | None, *regions: Region) -> Verdict:
    def finding(question: Question, value: bool | str | None) -> Finding:
        return Finding(question, value, abstained="Not sure." if value is None else None)

    return Verdict(
        Stage.CT,
        MODEL,
        (
            finding(Question.BODY_PART, part.value if part else None),
            finding(Question.CONTRAST_ENHANCED, contrast),
        ),
        Coverage(regions, None, None, False) if regions else None,
    )


def mr(reject: bool = False, gadolinium: bool | None = False, reason: Reason | None = None) -> Verdict:
    findings = [Finding(Question.STRAIGHT_REJECT, reject, reason=reason)]
    if not reject:
        sure = gadolinium is not None
        findings.append(Finding(Question.GADOLINIUM, gadolinium, abstained=None if sure else "Not sure."))
    return Verdict(Stage.BRAIN_MRI, MODEL, tuple(findings))


def ct_claims(**values: object) -> HeaderClaims:
    return HeaderClaims(modality="CT", **values)  # type: ignore[arg-type]


def mr_claims(**values: object) -> HeaderClaims:
    return HeaderClaims(modality="MR", **values)  # type: ignore[arg-type]


# -- ordered against seen ----------------------------------------------------------------------------
def test_the_sentence_of_the_issue() -> None:
    claims = ct_claims(ordered=("CT abdomen-pelvis with contrast",))
    assert check(claims, ct(BodyPart.ABDOMEN, False), THIN) == (
        "Ordered: abdomen-pelvis with contrast; found: abdomen without contrast.",
    )


def test_plain_chest_under_an_order_for_an_enhanced_abdomen() -> None:
    claims = ct_claims(ordered=("CT ABD/PEL W CONTRAST",), series_description="Thorax nativ")
    (sentence,) = check(claims, ct(BodyPart.CHEST, False), THIN)
    assert sentence == "Ordered: abdomen-pelvis with contrast; found: chest without contrast."


@pytest.mark.parametrize(
    ("ordered", "verdict"),
    [
        ("CT abdomen-pelvis with contrast", ct(BodyPart.ABDOMEN_PELVIS, True)),
        ("CT chest", ct(BodyPart.CHEST, True)),
        ("CT chest", ct(BodyPart.CHEST, False, Region.CHEST, Region.ABDOMEN)),
        (
            "CT abdomen-pelvis with contrast",
            ct(BodyPart.ABDOMEN, True),
        ),  # the arterial phase; the study tells the rest
        ("CT neck and chest with contrast", ct(BodyPart.NECK, True)),
        ("CT neck and chest with contrast", ct(BodyPart.CHEST, True)),
        ("CT head without and with contrast", ct(BodyPart.BRAIN, False)),
        ("CT chest abdomen pelvis", ct(BodyPart.OTHER, True, Region.CHEST, Region.ABDOMEN, Region.PELVIS)),
        ("CT with oral contrast", ct(BodyPart.ABDOMEN, False)),
        ("Staging", ct(BodyPart.OTHER, False)),
        ("CT L-spine", ct(BodyPart.ABDOMEN_PELVIS, False)),
    ],
)
def test_what_was_ordered_and_seen_is_silent(ordered: str, verdict: Verdict) -> None:
    assert check(ct_claims(ordered=(ordered,)), verdict, THIN) == ()


@pytest.mark.parametrize("said", ["CT CAP", "Thorax Abdomen", "HEADNECK"])
def test_a_series_may_show_less_than_its_words(said: str) -> None:
    seen = ct(BodyPart.BRAIN if said == "HEADNECK" else BodyPart.ABDOMEN, None)
    assert check(ct_claims(body_part_examined=said, series_description=said), seen, THIN) == ()


def test_order_for_two_regions_and_neither_seen() -> None:
    (sentence,) = check(ct_claims(ordered=("CT neck and chest",)), ct(BodyPart.BRAIN, False), THIN)
    assert sentence == "Ordered: neck-chest; found: head without contrast."


def test_the_plain_phase_of_an_enhanced_ct_is_no_mismatch() -> None:
    plain = ct_claims(ordered=("CT abdomen with contrast",), series_description="Abdomen nativ")
    assert check(plain, ct(BodyPart.ABDOMEN, False), THIN) == ()
    silent = ct_claims(ordered=("CT abdomen with contrast",), series_description="Abdomen 3.0")
    assert len(check(silent, ct(BodyPart.ABDOMEN, False), THIN)) == 1


def test_study_description_counts_as_an_order_after_the_others() -> None:
    claims = ct_claims(study_description="CT HEAD W/O CONTRAST")
    assert check(claims, ct(BodyPart.BRAIN, True), THIN) == (
        "Ordered: head without contrast; found: head with contrast.",
    )
    assert ordered_texts(ct_claims(ordered=("a",), study_description="b")) == ("a", "b")


def test_mr_order_with_contrast_has_plain_series_too() -> None:
    claims = mr_claims(ordered=("MRI brain with gadolinium",))
    assert check(claims, mr(gadolinium=False), THIN) == ()
    against = mr_claims(ordered=("MRI brain without contrast",))
    assert check(against, mr(gadolinium=True), THIN) == (
        "Ordered: head without contrast; found: head with contrast.",
    )


# -- claimed against seen ----------------------------------------------------------------------------
def test_body_part_claimed_against_seen() -> None:
    (sentence,) = check(ct_claims(body_part_examined="BRAIN"), ct(BodyPart.OTHER, False), THIN)
    assert sentence == 'Body Part Examined (0018,0015) says "BRAIN"; found: another body part.'
    assert check(ct_claims(body_part_examined="BRAIN"), ct(BodyPart.BRAIN, False), THIN) == ()
    assert check(ct_claims(body_part_examined="PARTIALBODY"), ct(BodyPart.ABDOMEN, True), THIN) == ()


def test_the_same_words_under_two_tags_are_one_sentence() -> None:
    claims = ct_claims(series_description="Thorax", protocol_name="Thorax")
    assert len(check(claims, ct(BodyPart.BRAIN, False), THIN)) == 1
    other_words = ct_claims(series_description="STD BRAIN 5MM", protocol_name="Head", body_part_examined="HEAD")
    assert len(check(other_words, ct(BodyPart.CHEST, False), THIN)) == 1


@pytest.mark.parametrize(
    ("claims", "seen", "expected"),
    [
        (
            {"contrast_agent": "APPLIED"},
            False,
            'Contrast/Bolus Agent (0018,0010) says "APPLIED"; no contrast enhancement was seen.',
        ),
        (
            {"contrast_agent": "none"},
            True,
            'Contrast/Bolus Agent (0018,0010) says "none"; contrast enhancement was seen.',
        ),
        (
            {"series_description": "nativ"},
            True,
            'Series Description (0008,103E) says "nativ"; contrast enhancement was seen.',
        ),
        ({"contrast_agent": "APPLIED"}, True, None),
        ({"contrast_agent": "oral"}, False, None),
        ({"series_description": "Lung 1.0"}, True, None),
    ],
)
def test_contrast_claimed_against_seen(claims: dict[str, str], seen: bool, expected: str | None) -> None:
    found = check(ct_claims(**claims), ct(BodyPart.CHEST, seen), THIN)
    assert found == ((expected,) if expected else ())


def test_gadolinium_claimed_against_seen() -> None:
    claims = mr_claims(series_description="t1_mprage_post_Gd", contrast_agent="Dotarem")
    found = check(claims, mr(gadolinium=False), THIN)
    assert len(found) == 2 and all("no gadolinium was seen" in s for s in found)
    assert check(claims, mr(gadolinium=True), THIN) == ()


# -- nothing against an abstention -------------------------------------------------------------------
LOUD = {
    "body_part_examined": "CHEST",
    "contrast_agent": "Iomeron",
    "series_description": "Thorax KM",
    "ordered": ("CT chest with contrast",),
}
RULES = (make_rule("chest|brain", body_part=BodyPart.CHEST, contrast=True),)


def test_an_abstained_finding_contradicts_nothing() -> None:
    assert check(ct_claims(**LOUD), ct(None, None), THIN, RULES) == ()
    only_part = check(ct_claims(**LOUD), ct(None, False), THIN, RULES)
    assert only_part and not any("found: another" in s or "head" in s for s in only_part)
    only_contrast = check(ct_claims(**LOUD), ct(BodyPart.BRAIN, None), THIN, RULES)
    assert only_contrast and not any("without contrast" in s or "was seen" in s for s in only_contrast)


def test_a_straight_reject_contradicts_only_what_it_says() -> None:
    claims = mr_claims(contrast_agent="Dotarem", body_part_examined="BRAIN")
    assert check(claims, mr(True, reason=Reason.MOTION), THIN) == ()
    assert check(claims, mr(True, reason=Reason.NOT_BRAIN), THIN) == (
        'Body Part Examined (0018,0015) says "BRAIN"; found: another body part.',
    )


def test_another_body_part_is_never_a_guess() -> None:
    """A head that a network doubted, or that fitted badly, was called "another body part" in the order check."""
    claims = mr_claims(body_part_examined="BRAIN", ordered=("MRI brain with gadolinium",))
    guess = Finding(Question.STRAIGHT_REJECT, True, {"yes": 0.98, "no": 0.02}, Reason.NOT_BRAIN)
    doubt = Finding(Question.STRAIGHT_REJECT, None, {"yes": 0.5, "no": 0.5}, abstained="The head fits badly.")
    agent = Finding(Question.GADOLINIUM, False, {"yes": 0.1, "no": 0.9})
    rule = make_rule("brain", body_part="brain", contrast=True)
    for findings in ((guess,), (doubt,), (doubt, agent)):
        assert check(claims, Verdict(Stage.BRAIN_MRI, MODEL, findings), THIN, [rule]) == ()


@pytest.mark.parametrize(
    ("part", "probability", "mismatches"),
    [("other", 0.94, 0), ("other", 0.97, 1), ("chest", 0.6, 0), ("chest", 0.85, 1)],
)
def test_a_ct_answer_that_is_not_likely_contradicts_nobody(part: str, probability: float, mismatches: int) -> None:
    body = Finding(Question.BODY_PART, part, {part: probability, "brain": 1 - probability})
    contrast = Finding(Question.CONTRAST_ENHANCED, False, {"yes": 0.25, "no": 0.75})
    verdict = Verdict(Stage.CT, MODEL, (body, contrast))
    claims = ct_claims(body_part_examined="BRAIN", contrast_agent="Imeron 350")
    assert len(check(claims, verdict, THIN)) == mismatches


# -- rules and slice thickness -----------------------------------------------------------------------
def test_rules_speak_only_about_their_orders_and_modality() -> None:
    rule = make_rule(
        "(?i)abdomen", modality="CT", body_part=BodyPart.ABDOMEN, contrast=True, max_slice_thickness_mm=3
    )
    claims = ct_claims(ordered=("CT ABDOMEN",), slice_thickness_mm=5.0)
    found = check(claims, ct(BodyPart.ABDOMEN, False), (1, 1, 5), [rule])
    assert found == (
        'The rule for orders like "(?i)abdomen" expects a series with contrast; found: without contrast.',
        'The rule for orders like "(?i)abdomen" expects slices of at most 3 mm; they are 5 mm thick.',
    )
    assert check(ct_claims(ordered=("CT CHEST",)), ct(BodyPart.CHEST, False), THIN, [rule]) == ()
    assert check(mr_claims(ordered=("MR ABDOMEN",)), mr(), THIN, [rule]) == (
        "Ordered: abdomen; found: head without contrast.",
    )


def test_rule_on_the_body_part() -> None:
    rule = make_rule("trauma", body_part="neck")  # as the configuration gives it
    claims = ct_claims(ordered=("Trauma",))
    (sentence,) = check(claims, ct(BodyPart.BRAIN, False), THIN, [rule])
    assert "expects neck; found: head" in sentence
    assert check(claims, ct(BodyPart.OTHER, False, Region.HEAD, Region.NECK), THIN, [rule]) == ()


def test_gaps_between_slices_are_named() -> None:
    claims = ct_claims(slice_thickness_mm=1.0)
    (sentence,) = check(claims, ct(BodyPart.CHEST, False), (0.7, 0.7, 10.0))
    assert "(0018,0050) is 1 mm" in sentence and "10 mm apart" in sentence
    assert check(ct_claims(slice_thickness_mm=5.0), ct(BodyPart.CHEST, False), (0.7, 0.7, 2.5)) == ()


# -- claimed body part -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("claims", "part"),
    [
        ({"body_part_examined": "ABDOMEN", "series_description": "Thorax"}, BodyPart.ABDOMEN),
        ({"body_part_examined": "XYZ", "series_description": "Hals KM"}, BodyPart.NECK),
        ({"protocol_name": "1A TRAUMA/PLAIN HEAD DM /Head"}, BodyPart.BRAIN),
        ({"ordered": ("CT ABD/PEL",)}, BodyPart.ABDOMEN_PELVIS),
        ({"study_description": "CT CAP"}, None),
        ({"series_description": "armchair thoracoabdominalish"}, BodyPart.CHEST),
        ({}, None),
    ],
)
def test_claimed_body_part(claims: dict[str, object], part: BodyPart | None) -> None:
    assert claimed_body_part(ct_claims(**claims)) is part


# -- the closed study --------------------------------------------------------------------------------
def test_the_forgotten_neck() -> None:
    rule = make_rule("neck.*chest", modality="CT", series=("neck|hals", "chest|thorax"))
    order = ["CT neck and chest"]
    assert missing_series([rule], order, [ct_claims(series_description="Thorax 3.0")]) == (
        'Orders like "neck.*chest" expect a series like "neck|hals", and the study has none.',
    )
    assert missing_series([rule], order, ["Hals 3.0", "Thorax 3.0"]) == ()
    assert missing_series([rule], ["CT head"], []) == ()
    assert len(missing_series([rule], order, [])) == 2
    both = [ct_claims(series_description="a", body_part_examined="NECK"), ct_claims(protocol_name="Chest")]
    assert missing_series([rule], order, both) == ()
    assert (
        len(
            missing_series(
                [rule], order, [ct_claims(series_description="x"), mr_claims(series_description="neck")]
            )
        )
        == 2
    )


def test_regions_that_no_series_shows() -> None:
    order = ("CT neck and chest",)
    assert uncovered_regions(order, [ct(BodyPart.CHEST, True)]) == (
        "Ordered: neck-chest; no series of the study shows the neck.",
    )
    assert uncovered_regions(order, [ct(BodyPart.CHEST, True), ct(BodyPart.NECK, True)]) == ()
    assert uncovered_regions(order, [ct(BodyPart.CHEST, True), ct(None, None)]) == ()
    assert (
        uncovered_regions(order, [mr()]) == () and uncovered_regions(("Staging",), [ct(BodyPart.NECK, True)]) == ()
    )
