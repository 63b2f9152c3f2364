"""A verdict is a value.

A classifier returns it, the report prints it, the web shows it, the ledger stores it.  Nobody derives a tier, a
grade or a reason a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qc_node.domain.questions import GRADED, Answer, Question
from qc_node.domain.vocabulary import Grade, Reason, Region, Stage, Tier


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights answered.

    ``sha256`` is the hash of the weights file, or for a bundle of several files the hash of the sorted
    lines ``"<sha256>  <file name>\\n"``.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes
    ----------
    question
        What was asked.
    value
        ``bool`` for binary questions, ``int`` for grades (0-2) and tier (1-3), a :class:`BodyPart` value
        for the body part; None when abstained.
    probabilities
        Calibrated probability of each answer, in [0, 1]: keys ``"yes"``/``"no"``, ``"0"``/``"1"``/``"2"``
        or body parts.  Empty for the tier, which follows from the grades, and where no network was asked
        (a certain rule answered).
    reason
        Why, where there is something to say (always for a straight reject).
    abstained
        None, or one sentence why there is no answer.
    """

    question: Question
    value: Answer | None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    reason: Reason | None = None
    abstained: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.abstained is not None):
            raise ValueError(f"{self.question}: a finding has either a value or a sentence why not")

    @property
    def key(self) -> str | None:
        """The answer as probabilities, labels and metrics spell it; None when abstained."""
        return None if self.value is None else self.question.key(self.value)

    @property
    def probability(self) -> float | None:
        """Probability of the given answer; None when abstained, and where no network was asked."""
        return None if self.key is None else self.probabilities.get(self.key)

    @property
    def measured(self) -> bool:
        """Whether a rule on what was measured answered, so that no probability is involved.

        What follows from other answers is as sure as they are, and not said to be measured.
        """
        return self.value is not None and not self.probabilities and not self.question.follows

    @property
    def words(self) -> str:
        """The answer in the words of a page."""
        return self.question.say(self.value)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What part of the body a CT covers; ``top`` and ``bottom`` name the outermost landmark seen."""

    regions: tuple[Region, ...]
    top: str | None
    bottom: str | None
    truncated: bool


@dataclass(frozen=True)
class Verdict:
    """What one classifier says about one series.

    A straight reject carries only :attr:`Question.STRAIGHT_REJECT`: the other answers are not defined.
    """

    stage: Stage
    model: ModelIdentity
    findings: tuple[Finding, ...]
    coverage: Coverage | None = None
    warnings: tuple[str, ...] = ()

    def finding(self, question: Question) -> Finding | None:
        """The answer to `question`, or None where it is not defined."""
        return next((f for f in self.findings if f.question is question), None)


def tier_from_grades(motion: int, contrast: int, noise: int) -> Tier:
    """The tier that follows from the three grades (Bottani et al. 2022, Table 2).

    1 = all 0; 2 = at least one 1 and none 2; 3 = at least one 2.
    """
    return Tier(max(motion, contrast, noise) + 1)


def tier_finding(grades: Sequence[Finding]) -> Finding:
    """The tier as a finding.

    A severe grade decides even when another was not given; otherwise one missing grade leaves the tier
    open, because it could still be the worst of the three.
    """
    known = [int(f.value) for f in grades if f.value is not None]
    if len(known) == len(GRADED):
        return Finding(Question.TIER, int(tier_from_grades(*known)))
    if Grade.SEVERE in known:
        return Finding(Question.TIER, int(Tier.POOR))
    missing = ", ".join(f.question.value for f in grades if f.value is None)
    return Finding(Question.TIER, None, abstained=f"The tier needs every grade and {missing} could not be graded.")


# -- what follows from a verdict, and from nothing else ----------------------------------------------
def needs_attention(verdict: Verdict) -> bool:
    """Whether somebody should look at the series while the patient is still there."""
    return any(f.key in f.question.attention for f in verdict.findings)


def vote_level(verdict: Verdict) -> int | None:
    """The verdict on the scale of the votes: 0 good, 1 acceptable, 2 poor.

    None where it says nothing of quality.
    """
    levels = (f.question.levels.get(f.key) for f in verdict.findings if f.key is not None)
    return next((level for level in levels if level is not None), None)


_CUT_SHORT = frozenset(
    {Reason.COVERAGE, Reason.TOO_FEW_SLICES, Reason.FIELD_OF_VIEW, Reason.THICK_SLICES, Reason.NOT_BRAIN}
)


def looks_cut_short(verdict: Verdict) -> bool:
    """Whether what was seen could come from a series of which images are still on their way.

    Half a head has a small field of view, or does not look like a head; every second slice is a thick slice.
    """
    rejected = any(f.reason in _CUT_SHORT and f.question.attention for f in verdict.findings)
    return rejected or bool(verdict.coverage and verdict.coverage.truncated)
