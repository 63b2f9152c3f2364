"""What a classifier is to the rest of the program.

A new classifier is a folder and one line in :mod:`qc_node.classifiers.catalogue`.  Everything that registry, JSON,
report, pages, checks against the order and metrics must know of it stands in its :class:`ClassifierSpec`; nothing
else branches on a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qc_node.domain import Accepts, BodyPart, ModelIdentity, Question, Stage, Verdict, Volume
from qc_node.domain.wording import Card


class Prepared(Protocol):
    """A volume made ready for the networks of one classifier."""

    @property
    def network_input(self) -> npt.NDArray[Any]:
        """De-identified input of the networks, at most 10 MB as float16."""

    @property
    def thumbnails(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Small pictures by name of the view."""


class Classifier(Protocol):
    """Volumes in, verdicts out."""

    @property
    def identity(self) -> ModelIdentity:
        """Whose verdicts these are."""

    def prepare(self, volume: Volume) -> Any:
        """CPU work on one volume; never raises on a bad image."""

    def judge(self, prepared: Sequence[Any]) -> list[Verdict]:
        """One verdict for each, in one batch."""


@dataclass(frozen=True)
class Seen:
    """What a verdict says of body and contrast agent, for the checks against header and order.

    Attributes
    ----------
    regions
        Names of the regions seen; empty: another part of the body; None: nothing is said.
    body_part
        The one answer for them.
    enhanced
        Whether a contrast agent was seen; None where nothing is said.
    agent
        What to call it in a sentence.
    """

    regions: frozenset[str] | None = None
    body_part: BodyPart | None = None
    enhanced: bool | None = None
    agent: str = "contrast enhancement"


@dataclass(frozen=True)
class ClassifierSpec:
    """Everything that the rest of the program must know of one classifier.

    Attributes
    ----------
    stage
        Its name in JSON, ledger and metrics.
    title
        Its name in a sentence.
    model_folder
        Folder of its weights and card below the models folder.
    accepts
        Which series it is asked about.
    questions
        What it answers, in the order of JSON, report and review page.
    views
        Names of its thumbnails; mid-planes are ``axial``, ``coronal`` and ``sagittal``.
    network_input
        Shape and meaning of what is kept for training, in words.
    covers
        Whether its verdicts together tell which regions a study shows.
    headline
        The verdict in a line, for terminals.
    card
        The verdict as a page shows it; attention is added from :func:`qc_node.domain.needs_attention`.
    seen
        What a verdict says of body and contrast agent.
    load
        Opens the model folder on a device (``cpu``, ``cuda:N``) after checking every hash; raises
        :class:`~qc_node.domain.QcNodeError` with the file at fault.
    """

    stage: Stage
    title: str
    model_folder: str
    accepts: Accepts
    questions: tuple[Question, ...]
    views: tuple[str, ...]
    network_input: str
    covers: bool
    headline: Callable[[Verdict], str]
    card: Callable[[Verdict, Sequence[str]], Card]
    seen: Callable[[Verdict], Seen]
    load: Callable[[Path, str], Classifier]

    def __post_init__(self) -> None:
        if self.accepts.stage != self.stage:
            raise ValueError(f"{self.stage} accepts series for {self.accepts.stage}")
