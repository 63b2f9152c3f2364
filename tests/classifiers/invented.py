"""A classifier that does not exist: for PET, with questions of every kind that nobody else asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qc_node.classifiers import catalogue
from qc_node.classifiers.interface import Classifier, ClassifierSpec, Seen
from qc_node.domain import (
    Accepts,
    AnswerKind,
    BodyPart,
    Content,
    Finding,
    ModelIdentity,
    Question,
    Reason,
    Stage,
    Verdict,
    Volume,
)
from qc_node.domain.wording import plain_card, plain_headline

STAGE = Stage("pet_invented")
MODEL = ModelIdentity("invented-pet", "0.1", "ab" * 32)

UPTAKE = Question(
    "pet_uptake",
    AnswerKind.CHOICE,
    "Uptake",
    "uptake undetermined",
    {"normal": "normal uptake", "extravasated": "tracer beside the vein"},
    choices=("normal", "extravasated"),
    attention=frozenset({"extravasated"}),
    levels={"normal": 0, "extravasated": 2},
    site=BodyPart.CHEST,
)
CORRECTED = Question(
    "pet_corrected",
    AnswerKind.YES_NO,
    "Corrected",
    "correction undetermined",
    {"no": "not corrected"},
    site=BodyPart.CHEST,
)
GRAIN = Question(
    "pet_grain", AnswerKind.GRADE, "Grain", "grain undetermined", {"2": "severe grain"}, site=BodyPart.CHEST
)
QUESTIONS = (UPTAKE, CORRECTED, GRAIN)


def verdict(uptake: str | None = "extravasated", corrected: bool = False, grain: int = 2) -> Verdict:
    """What the invented classifier says; None abstains."""
    tracer = Finding(UPTAKE, uptake, {"normal": 0.1, "extravasated": 0.9}, abstained=None if uptake else "Unsure.")
    return Verdict(
        STAGE,
        MODEL,
        (
            tracer,
            Finding(CORRECTED, corrected, {"yes": 0.25, "no": 0.75}),
            Finding(GRAIN, grain, {"0": 0.1, "1": 0.2, "2": 0.7}, Reason.NOISE),
        ),
        warnings=("The dose is not known.",),
    )


@dataclass
class PreparedPet:
    network_input: npt.NDArray[np.float16]
    thumbnails: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


@dataclass
class InventedClassifier:
    """Says :func:`verdict` of everything, or falls over."""

    fails: bool = False
    identity: ModelIdentity = MODEL

    def prepare(self, volume: Volume) -> PreparedPet:
        return PreparedPet(np.ones((2, 2), np.float16), {"axial": np.zeros((8, 8), np.uint8)})

    def judge(self, prepared: Sequence[PreparedPet]) -> list[Verdict]:
        if self.fails:
            raise ZeroDivisionError("an invented fault")
        return [verdict() for _ in prepared]


def spec(accepts: Accepts | None = None, *, fails: bool = False) -> ClassifierSpec:
    """Its one registration."""

    def load(folder: Path, device: str) -> Classifier:
        return InventedClassifier(fails)

    return ClassifierSpec(
        stage=STAGE,
        title="invented PET",
        model_folder="pet-invented",
        accepts=accepts or Accepts(STAGE, "PT", Content.ANY),
        questions=QUESTIONS,
        views=("axial",),
        network_input="ones",
        covers=False,
        headline=plain_headline,
        card=plain_card,
        seen=lambda said: Seen(frozenset({"chest"}), BodyPart.CHEST, None, "tracer"),
        load=load,
    )


@contextmanager
def registered(accepts: Accepts | None = None, *, fails: bool = False) -> Iterator[ClassifierSpec]:
    """The invented classifier is part of the program inside the ``with``."""
    one = spec(accepts, fails=fails)
    catalogue.register(one)
    try:
        yield one
    finally:
        catalogue.forget(STAGE)
