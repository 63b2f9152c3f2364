"""The one registration: what it refuses, what it makes known, and that no shipped classifier is forgotten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from qc_node.classifiers import catalogue
from qc_node.classifiers.interface import ClassifierSpec
from qc_node.domain import (
    Accepts,
    AnswerKind,
    BodyPart,
    Content,
    HeaderClaims,
    Question,
    SeriesKey,
    Stage,
    Volume,
    needs_attention,
    results_json,
    verdict_from_json,
    verdict_to_json,
    vote_level,
)
from qc_node.domain.wording import Tone
from qc_node.engine.judging import Pending, SeriesOutcome, decide, outcome_json, prepare
from qc_node.engine.orders import check
from qc_node.engine.registry import Registry
from qc_node.operations.metrics import Metrics
from qc_node.report import codes
from qc_node.report.items import codes_named, text_named
from qc_node.report.key_objects import flag_sentence
from qc_node.report.reading import read_report
from qc_node.report.tree import as_text
from qc_node.series.headers.routing import Route
from tests.classifiers import invented
from tests.part_settings import make_rule
from tests.report.sources import report, source, written
from tests.report.test_structured_report import groups

ROOT = Path(__file__).resolve().parents[2]
CHEST = "816094009"


@pytest.fixture
def known() -> Iterator[ClassifierSpec]:
    with invented.registered() as spec:
        yield spec


# -- no shipped classifier is forgotten --------------------------------------------------------------
def test_every_folder_of_a_classifier_is_registered_once() -> None:
    folders = {p.parent.name for p in (ROOT / "qc_node" / "classifiers").glob("*/spec.py")}
    modules = {spec.load.__module__.split(".")[-2] for spec in catalogue.specs()}
    assert folders == modules and len(catalogue.specs()) == len(folders)


def test_every_registered_classifier_has_a_model_folder_with_a_card_of_its_stage() -> None:
    identities = Registry(ROOT / "models").verify()
    assert set(identities) == {spec.stage for spec in catalogue.specs()}


@pytest.mark.parametrize("spec", catalogue.specs(), ids=lambda spec: spec.stage)
def test_the_views_and_the_input_of_the_registration_are_what_the_classifier_makes(spec: ClassifierSpec) -> None:
    classifier = Registry(ROOT / "models").classifier(spec.stage)
    volume = Volume(np.zeros((8, 16, 16), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]), modality=spec.accepts.modality)
    prepared = classifier.prepare(volume)
    assert set(prepared.thumbnails) == set(spec.views)
    assert prepared.network_input.dtype == np.float16
    (said,) = classifier.judge([prepared])
    assert said.stage == spec.stage and {f.question for f in said.findings} <= set(spec.questions)


def test_the_catalogue_is_cheap_to_import() -> None:
    code = "import sys, qc_node.classifiers.catalogue; print('torch' in sys.modules, 'SimpleITK' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]


# -- what a registration refuses ---------------------------------------------------------------------
def test_two_classifiers_share_neither_stage_nor_folder_nor_question(known: ClassifierSpec) -> None:
    other = Accepts(Stage("other"), "PT", Content.ANY)
    with pytest.raises(ValueError, match="share a stage or a model folder"):
        catalogue.register(known)
    with pytest.raises(ValueError, match="share a stage or a model folder"):
        catalogue.register(replace(known, stage=Stage("other"), accepts=other))
    with pytest.raises(ValueError, match="both ask pet_uptake, pet_corrected, pet_grain"):
        catalogue.register(replace(known, stage=Stage("other"), accepts=other, model_folder="other"))
    with pytest.raises(ValueError, match="accepts series for"):
        replace(known, stage=Stage("other"))


def test_every_line_of_a_registration_is_needed() -> None:
    fields = ClassifierSpec.__dataclass_fields__
    for name in fields:
        rest = {n: getattr(invented.spec(), n) for n in fields if n != name}
        with pytest.raises(TypeError, match=name):
            ClassifierSpec(**rest)


def test_a_question_knows_only_its_own_answers() -> None:
    with pytest.raises(ValueError, match="exists already"):
        Question("tier", AnswerKind.TIER, "Tier", "unknown")
    with pytest.raises(ValueError, match="a choice has choices"):
        Question("choice_without_choices", AnswerKind.CHOICE, "C", "unknown")
    with pytest.raises(ValueError, match="has no answer maybe"):
        Question("odd_words", AnswerKind.YES_NO, "O", "unknown", {"maybe": "perhaps"})
    for question in catalogue.questions():
        assert [question.key(question.answer(key)) for key in question.answers] == list(question.answers)
        with pytest.raises(ValueError, match="no answer"):
            question.answer("nothing of the kind")


# -- an invented classifier everywhere ---------------------------------------------------------------
def test_its_answers_are_unharmed_in_json_and_in_the_ledgers_copy(known: ClassifierSpec) -> None:
    said = invented.verdict()
    assert results_json(said, catalogue.questions_of(said)) == {
        "pet_uptake": {
            "value": "extravasated",
            "probabilities": {"normal": 0.1, "extravasated": 0.9},
            "abstained": None,
        },
        "pet_corrected": {"value": False, "probability": 0.25, "abstained": None},
        "pet_grain": {"grade": 2, "probabilities": [0.1, 0.2, 0.7], "abstained": None},
    }
    assert verdict_from_json(verdict_to_json(said)) == said


def test_its_answers_are_unharmed_in_the_report_at_the_right_site(known: ClassifierSpec) -> None:
    ds = written(report(invented.verdict(), source(Modality="PT")))
    found = groups(ds)
    assert list(found) == [f"pet_invented/{q.value}" for q in invented.QUESTIONS]
    for group in found.values():
        assert [c.value for c in codes_named(group, codes.FINDING_SITE)] == [CHEST]
        assert text_named(group, codes.ALGORITHM_NAME) == "invented-pet"
    own = codes_named(found["pet_invented/pet_uptake"], codes.question_code(invented.UPTAKE))
    assert [(c.scheme, c.meaning) for c in own] == [("99QCNODE", "Uptake: tracer beside the vein")]
    read = read_report(ds).verdict
    assert [(f.question, f.value) for f in read.findings] == [
        (f.question, f.value) for f in invented.verdict().findings
    ]
    assert "tracer beside the vein" in as_text(ds)
    assert flag_sentence(invented.verdict()) == "Uptake: tracer beside the vein."


def test_its_answers_are_unharmed_on_a_card(known: ClassifierSpec) -> None:
    card = catalogue.card(invented.verdict(), ("The order says MR.",))
    assert card.headline == "Tracer beside the vein, not corrected, severe grain"
    assert (card.tone, card.attention, card.detail) == (Tone.POOR, True, "The order says MR.")
    good = catalogue.card(invented.verdict("normal"))
    assert (good.tone, good.attention) == (Tone.GOOD, False)
    assert catalogue.card(invented.verdict(None)).tone is Tone.OPEN
    assert catalogue.headline(invented.verdict(None)).startswith("uptake undetermined")


def test_attention_and_level_follow_from_its_questions(known: ClassifierSpec) -> None:
    assert needs_attention(invented.verdict()) and vote_level(invented.verdict()) == 2
    assert not needs_attention(invented.verdict("normal")) and vote_level(invented.verdict("normal")) == 0
    assert vote_level(invented.verdict(None)) is None


def test_it_is_checked_against_header_and_order(known: ClassifierSpec) -> None:
    claims = HeaderClaims(modality="PT", body_part_examined="HEAD", ordered=("PET abdomen",))
    said = check(claims, invented.verdict(), (1, 1, 1), [make_rule("PET", body_part=BodyPart.ABDOMEN)])
    assert said == (
        'Body Part Examined (0018,0015) says "HEAD"; found: chest.',
        "Ordered: abdomen; found: chest.",
        'The rule for orders like "PET" expects abdomen; found: chest.',
    )


def test_it_is_counted_under_its_own_name(known: ClassifierSpec) -> None:
    metrics = Metrics((), ())
    metrics.verdict(invented.verdict())
    metrics.series_finished("pet_invented", "judged")
    metrics.series_finished("never_heard_of", "judged")
    text = generate_latest(metrics.registry).decode()
    for line in (
        'qc_node_verdicts_total{finding="pet_uptake",stage="pet_invented",value="extravasated"} 1.0',
        'qc_node_series_total{outcome="judged",stage="pet_invented"} 1.0',
        'qc_node_series_total{outcome="judged",stage="other"} 1.0',
    ):
        assert line in text


def test_after_its_removal_old_verdicts_are_still_shown() -> None:
    with invented.registered():
        kept = verdict_to_json(invented.verdict())
    kept["findings"][0]["question"] = "asked_by_nobody"
    said = verdict_from_json(kept)
    assert catalogue.card(said).headline == "Extravasated, not corrected, severe grain"
    assert check(HeaderClaims(body_part_examined="HEAD"), said, (1, 1, 1)) == ()
    assert set(results_json(said, catalogue.questions_of(said))) == {
        "asked_by_nobody",
        "pet_corrected",
        "pet_grain",
    }


# -- several classifiers on one series ---------------------------------------------------------------
def judged_ct(*, fails: bool = False) -> SeriesOutcome:
    """A CT series that the CT classifier and the invented one both accept."""
    with invented.registered(Accepts(invented.STAGE, "CT", Content.CT_VOLUME), fails=fails):
        registry = Registry(ROOT / "models")
        blank = SeriesOutcome("here", SeriesKey("1.2", "1.2.3"), "CT", 8, HeaderClaims(modality="CT"))
        volume = Volume(np.zeros((8, 16, 16), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]), modality="CT")
        route = Route(Stage.CT, also=(invented.STAGE,))
        ready = prepare(blank, route, lambda: volume, registry.classifier, lambda: 0.0)
        assert isinstance(ready, Pending)
        (outcome,) = decide([ready], registry.classifier, (), lambda: 0.0)
    return outcome


def test_each_classifier_that_accepts_a_series_gives_a_verdict_and_the_routed_stage_stays() -> None:
    outcome = judged_ct()
    assert outcome.stage == Stage.CT and [v.stage for v in outcome.verdicts] == [Stage.CT, invented.STAGE]
    assert outcome.also[0].network_input is not None and set(outcome.also[0].thumbnails) == {"axial"}
    line = outcome_json(outcome)
    assert line["stage"] == "ct" and line["model"]["name"] != "invented-pet"
    assert list(line["results"])[:2] == ["pet_uptake", "pet_corrected"] or "body_part" in line["results"]
    assert line["results"]["pet_uptake"]["value"] == "extravasated"
    assert "The dose is not known." in line["warnings"]


def test_a_further_classifier_that_fails_costs_a_warning_and_not_the_verdict() -> None:
    outcome = judged_ct(fails=True)
    assert [v.stage for v in outcome.verdicts] == [Stage.CT]
    assert "The classifier pet_invented could not judge this series." in outcome.warnings
