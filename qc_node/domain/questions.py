"""What a classifier can be asked, and everything that follows from the kind of the answer.

A question carries what JSON, report, pages and metrics need to show any answer to it, so that none of them knows
a question by name.  One question is one measurement group of the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, assert_never

from qc_node.domain.vocabulary import BodyPart, Grade, Tier

Answer = bool | int | str
"""``bool`` for yes or no, ``int`` for a grade (0-2) or a tier (1-3), text for a choice."""


class AnswerKind(StrEnum):
    """The closed set of forms that an answer has; whoever matches it ends in ``assert_never``."""

    YES_NO = "yes_no"
    GRADE = "grade"
    """Severity 0-2 of one characteristic (Bottani et al. 2022, section 2.2.2)."""
    TIER = "tier"
    """Overall quality 1-3."""
    CHOICE = "choice"
    """One of :attr:`Question.choices`."""


@dataclass(frozen=True, eq=False)
class Question:
    """One question.  There is one object for each name; two of one name are the same question.

    Attributes
    ----------
    value
        Its name in JSON, ledger and metrics.
    kind
        The form of its answers.
    title
        Head of a column, at most three words.
    words
        What a page says for an answer, by :meth:`key`; answers without words are said as they are spelt.
    unknown
        What a page says where the answer is undetermined.
    choices
        All answers, for :attr:`AnswerKind.CHOICE`.
    attention
        Answers (keys) for which somebody should look while the patient is still there.
    levels
        Answers (keys) as a level of the votes: 0 good, 1 acceptable, 2 poor.  Empty where an answer says nothing
        of quality.
    site
        Finding Site of its answers; None: the body part that the verdict names.
    explains
        Whether JSON gives the reason beside the answer.
    about_contrast
        Whether it asks for a contrast agent, so that the report quotes the agent that the header states.
    follows
        Whether its answer follows from other answers, so that nobody corrects it on its own.
    """

    value: str
    kind: AnswerKind
    title: str
    unknown: str
    words: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    attention: frozenset[str] = frozenset()
    levels: Mapping[str, int] = field(default_factory=dict)
    site: BodyPart | None = None
    explains: bool = False
    about_contrast: bool = False
    follows: bool = False

    _known: ClassVar[dict[str, Question]] = {}

    STRAIGHT_REJECT: ClassVar[Question]
    GADOLINIUM: ClassVar[Question]
    MOTION: ClassVar[Question]
    CONTRAST: ClassVar[Question]
    NOISE: ClassVar[Question]
    TIER: ClassVar[Question]
    BODY_PART: ClassVar[Question]
    CONTRAST_ENHANCED: ClassVar[Question]

    def __post_init__(self) -> None:
        if self.value in self._known:
            raise ValueError(f"the question {self.value} exists already")
        if (self.kind is AnswerKind.CHOICE) != bool(self.choices):
            raise ValueError(f"{self.value}: a choice has choices, and nothing else has")
        for named in (self.words, self.attention, self.levels):
            strangers = set(named) - set(self.answers)
            if strangers:
                raise ValueError(f"{self.value} has no answer {', '.join(sorted(strangers))}")
        self._known[self.value] = self

    def __str__(self) -> str:
        return self.value

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Question.named, (self.value,)

    @classmethod
    def named(cls, name: str) -> Question:
        """The question of this name.

        Raises
        ------
        KeyError
            No classifier of this program asks it.
        """
        return cls._known[name]

    @property
    def answers(self) -> tuple[str, ...]:
        """The keys of all answers, in the order in which reports give their probabilities."""
        match self.kind:
            case AnswerKind.YES_NO:
                return ("yes", "no")
            case AnswerKind.GRADE:
                return tuple(str(int(g)) for g in Grade)
            case AnswerKind.TIER:
                return tuple(str(int(t)) for t in Tier)
            case AnswerKind.CHOICE:
                return self.choices
            case _ as never:
                assert_never(never)

    def key(self, answer: Answer) -> str:
        """How probabilities, labels and metrics spell `answer`."""
        if isinstance(answer, bool):
            return "yes" if answer else "no"
        return str(answer)

    def answer(self, key: str) -> Answer:
        """The inverse of :meth:`key`.

        Raises
        ------
        ValueError
            `key` is no answer to this question.
        """
        if key not in self.answers:
            raise ValueError(f"{key} is no answer to {self.value}")
        match self.kind:
            case AnswerKind.YES_NO:
                return key == "yes"
            case AnswerKind.GRADE | AnswerKind.TIER:
                return int(key)
            case AnswerKind.CHOICE:
                return key
            case _ as never:
                assert_never(never)

    def say(self, answer: Answer | None) -> str:
        """`answer` in the words of a page; None is :attr:`unknown`."""
        if answer is None:
            return self.unknown
        key = self.key(answer)
        return self.words.get(key, key)


def _grade(name: str, title: str, some: str, severe: str) -> Question:
    words = {"0": f"no {name}" if name != "contrast" else "good contrast", "1": some, "2": severe}
    return Question(name, AnswerKind.GRADE, title, f"{name} undetermined", words, site=BodyPart.BRAIN)


Question.STRAIGHT_REJECT = Question(
    "straight_reject",
    AnswerKind.YES_NO,
    "Straight reject",
    "proper T1w brain? undetermined",
    {"yes": "straight reject", "no": "a proper T1w brain"},
    attention=frozenset({"yes"}),
    levels={"yes": 2},
    site=BodyPart.BRAIN,
    explains=True,
)
"""Is this *not* a proper whole-head 3D T1w brain image? (Bottani et al. 2022, section 2.2)"""
Question.GADOLINIUM = Question(
    "gadolinium",
    AnswerKind.YES_NO,
    "Gadolinium",
    "gadolinium undetermined",
    {"yes": "with gadolinium", "no": "no gadolinium"},
    site=BodyPart.BRAIN,
    about_contrast=True,
)
"""Was a gadolinium-based contrast agent given?"""
Question.MOTION = _grade("motion", "Motion", "some motion", "severe motion")
Question.CONTRAST = _grade("contrast", "Contrast", "medium contrast", "bad contrast")
"""Grey/white-matter contrast."""
Question.NOISE = _grade("noise", "Noise", "some noise", "severe noise")
Question.TIER = Question(
    "tier",
    AnswerKind.TIER,
    "Tier",
    "quality undetermined",
    {"1": "good", "2": "usable", "3": "poor"},
    attention=frozenset({"3"}),
    levels={"1": 0, "2": 1, "3": 2},
    site=BodyPart.BRAIN,
    follows=True,
)
"""Overall quality; follows from the three grades and from nothing else."""
Question.BODY_PART = Question(
    "body_part",
    AnswerKind.CHOICE,
    "Body part",
    "Body part undetermined",
    {
        "brain": "Brain",
        "neck": "Neck",
        "chest": "Chest",
        "abdomen": "Abdomen",
        "abdomen_pelvis": "Abdomen and pelvis",
        "other": "Another body part",
    },
    choices=tuple(part.value for part in BodyPart),
)
"""Which part of the body a CT shows."""
Question.CONTRAST_ENHANCED = Question(
    "contrast_enhanced",
    AnswerKind.YES_NO,
    "Enhanced",
    "contrast undetermined",
    {"yes": "contrast-enhanced", "no": "without contrast"},
    about_contrast=True,
)
"""Is the CT enhanced by an intravascular iodinated agent?"""

GRADED = (Question.MOTION, Question.CONTRAST, Question.NOISE)
"""The three characteristics that carry a grade, in the order of the contract."""
