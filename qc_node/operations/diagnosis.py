"""What the doctor says: a sentence, and how much it matters."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How much a sentence matters; only a fault makes the doctor exit with 1."""

    OK = "ok"
    """All is well, or a figure to know."""
    QUESTION = "question"
    """What only a person can answer."""
    WARNING = "warning"
    """The node runs, and somebody should look."""
    FAULT = "fault"
    """The node does not start, or loses what it should keep."""


class Diagnosis(NamedTuple):
    """What was looked at, and what was found."""

    level: Level
    sentence: str

    @property
    def ok(self) -> bool:
        """Whether this is no fault."""
        return self.level is not Level.FAULT


def fine(sentence: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(Level.OK, sentence)


def question(sentence: str) -> Diagnosis:
    """A person has to answer."""
    return Diagnosis(Level.QUESTION, sentence)


def warning(sentence: str) -> Diagnosis:
    """Somebody should look."""
    return Diagnosis(Level.WARNING, sentence)


def fault(sentence: str) -> Diagnosis:
    """It must be mended."""
    return Diagnosis(Level.FAULT, sentence)
