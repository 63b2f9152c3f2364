"""What people read: what is seen, how sure it is, and what to do."""

from __future__ import annotations

import pytest
from hypothesis import given

from qc_node.classifiers import catalogue
from qc_node.domain import GRADED, Finding, ModelIdentity, Question, Reason, Stage, Verdict, tier_finding
from qc_node.domain.wording import (
    ADVICE,
    LOOK,
    LOOK_FIRST,
    MEASURED,
    NOTHING,
    REPEAT,
    UNSURE,
    Tone,
    likelihood,
    sureness,
)
from tests.domain.test_verdict import verdicts

MODEL = ModelIdentity("test", "1", "0" * 64)


def reject(value: bool | None, reason: Reason | None = None, probability: float | None = None) -> Finding:
    shares = {} if probability is None else {"yes": probability, "no": 1 - probability}
    return Finding(Question.STRAIGHT_REJECT, value, shares, reason, "It fits badly." if value is None else None)


def brain(*grades: int | None, p: float = 0.98) -> Verdict:
    """A head with these grades of motion, contrast and noise, each given with probability `p`."""
    findings = [
        Finding(
            q,
            g,
            {k: p if k == str(g or 0) else (1 - p) / 2 for k in "012"},
            None,
            None if g is not None else "No.",
        )
        for q, g in zip(GRADED, grades, strict=True)
    ]
    agent = Finding(Question.GADOLINIUM, True, {"yes": 0.9, "no": 0.1})
    return Verdict(Stage.BRAIN_MRI, MODEL, (reject(False, None, 0.02), agent, *findings, tier_finding(findings)))


def ct(part: str | None, enhanced: bool | None, reason: Reason | None = None) -> Verdict:
    why = (None if part else "On a border.", None if enhanced is not None else "No vessel was seen.")
    shares = {part: 0.96, "other": 0.04} if part else {}
    contrast = {"yes": 0.85, "no": 0.15} if enhanced is not None else {}
    return Verdict(
        Stage.CT,
        MODEL,
        (
            Finding(Question.BODY_PART, part, shares, reason, why[0]),
            Finding(Question.CONTRAST_ENHANCED, enhanced, contrast, reason, why[1]),
        ),
    )


def test_every_reason_has_something_to_do() -> None:
    assert set(ADVICE) == set(Reason)


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (1.0, "Very likely (over 99 %)"),
        (0.95, "Very likely (95 %)"),
        (0.8, "Likely (80 %)"),
        (0.6, "More likely than not (60 %)"),
        (0.4, "Not sure (40 %)"),
    ],
)
def test_a_network_is_at_most_very_likely(probability: float, words: str) -> None:
    assert likelihood(probability) == words and words != MEASURED


@pytest.mark.parametrize("reason", Reason)
def test_only_what_was_measured_is_sure_and_asks_for_a_repeat(reason: Reason) -> None:
    measured = catalogue.card(Verdict(Stage.BRAIN_MRI, MODEL, (reject(True, reason),)))
    likely = catalogue.card(Verdict(Stage.BRAIN_MRI, MODEL, (reject(True, reason, 0.9),)))
    assert (measured.sure, measured.action) == (MEASURED, ADVICE[reason])
    assert (likely.sure, likely.action) == ("Likely (90 %)", LOOK_FIRST)
    assert measured.headline != likely.headline and measured.attention and likely.attention


@pytest.mark.parametrize(
    ("verdict", "tone", "sure", "action"),
    [
        (brain(0, 0, 0), Tone.GOOD, "Likely (94 %)", NOTHING),
        (brain(1, 0, 0), Tone.USABLE, "Very likely (96 %)", "Repeat only if fine detail matters."),
        (brain(2, 0, 0), Tone.POOR, "Very likely (98 %)", LOOK_FIRST),
        (brain(2, None, 0), Tone.POOR, "Very likely (98 %)", LOOK_FIRST),
        (brain(None, 0, 0), Tone.OPEN, UNSURE, LOOK),
        (Verdict(Stage.BRAIN_MRI, MODEL, (reject(None),)), Tone.OPEN, UNSURE, "Look at the images."),
        (ct("chest", True), Tone.GOOD, "Body part very likely (96 %), contrast likely (85 %)", NOTHING),
        (ct("chest", None), Tone.OPEN, "Body part very likely (96 %)", LOOK),
        (ct(None, None), Tone.OPEN, UNSURE, LOOK),
    ],
)
def test_every_kind_of_verdict_says_how_sure_and_what_to_do(
    verdict: Verdict, tone: Tone, sure: str, action: str
) -> None:
    said = catalogue.card(verdict)
    assert (said.tone, said.sure, said.action) == (tone, sure, action)
    assert said.action in catalogue.in_words([verdict])


def test_a_withheld_answer_says_why_on_page_and_terminal() -> None:
    for verdict, why in (
        (ct("chest", None), "No vessel was seen."),
        (brain(None, 0, 0), "motion could not be graded"),
    ):
        assert why in catalogue.card(verdict).detail and why in catalogue.in_words([verdict])
    undecided = Verdict(Stage.BRAIN_MRI, MODEL, (reject(None),))
    assert catalogue.in_words([undecided]) == (f"undetermined: It fits badly. {UNSURE}. Look at the images.")


def test_a_mismatch_of_ct_asks_to_compare_and_a_remark_of_the_classifier_alone_keeps_it_grey() -> None:
    order = "Ordered: head; found: chest."
    mismatch = catalogue.card(ct("chest", None), (order,))
    assert mismatch.tone is Tone.USABLE and "order" in mismatch.action and mismatch.detail.startswith(order)
    remark = "The slices run from feet to head."
    own = ct(None, None)
    own = Verdict(own.stage, own.model, own.findings, warnings=(remark,))
    assert catalogue.card(own, (remark,)).tone is Tone.OPEN
    blank = catalogue.card(ct(None, None, Reason.BLANK))
    assert blank.tone is Tone.OPEN and "empty" in blank.action


def test_sureness_of_what_follows_from_other_answers_is_not_measured() -> None:
    assert sureness(Finding(Question.TIER, 1)) == "" and sureness(None) == UNSURE
    assert sureness(reject(True, Reason.BLANK)) == MEASURED


@given(verdicts)
def test_red_always_calls_and_the_undetermined_is_grey_and_never_does(verdict: Verdict) -> None:
    said = catalogue.card(verdict)
    if said.tone is Tone.POOR:
        assert said.attention
    if said.action == REPEAT:
        assert any(f.measured for f in verdict.findings)
    if all(f.value is None for f in verdict.findings):
        assert (said.tone, said.attention) == (Tone.OPEN, False)
