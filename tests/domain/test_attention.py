"""What calls, and how calls are counted; which scanner a header names."""

from __future__ import annotations

import pytest

from qc_node.domain.attention import (
    CALL_Z,
    EVENT_OF,
    EVENTS,
    FORGETTING,
    SEEN,
    AlarmAnswer,
    AttentionKind,
    Called,
    count_calls,
    of_failure,
    of_measures,
    of_series,
    of_study,
    of_vote,
)
from qc_node.domain.measure import Baseline, Better, ImageFinding, Measure, Unit, Unusual
from qc_node.domain.mismatch import for_outsiders
from qc_node.domain.station import LONGEST, station_of
from tests.web.conftest import brain, ct, rejected, undecided

CLAIM = 'Series Description (0008,103E) says "Chest"; found: abdomen.'
RULE = 'The rule for orders like "abd" expects chest; found: abdomen.'


@pytest.mark.parametrize(
    ("verdicts", "warnings", "kinds"),
    [
        ([brain()], ["Slices lie apart."], []),
        ([undecided()], [], []),
        ([brain(motion=2)], [], ["verdict"]),
        ([brain()], ["Ordered: knee; found: head."], ["order"]),
        ([ct("abdomen")], [CLAIM, "The field of view is cut."], ["order"]),
        ([ct("abdomen")], [RULE], ["order"]),
        ([ct("chest"), rejected()], ["Ordered: head; found: chest."], ["verdict", "order"]),
        ([], [], []),
    ],
)
def test_what_of_a_series_calls(verdicts: list[object], warnings: list[str], kinds: list[str]) -> None:
    assert [cause.kind for cause in of_series(verdicts, warnings, "said")] == kinds  # type: ignore[arg-type]


def test_an_order_says_every_mismatch_and_nothing_else() -> None:
    (cause,) = of_series([ct()], [CLAIM, "The field of view is cut.", RULE])
    assert cause.sentence == f"{CLAIM} {RULE}"


def test_a_failed_series_calls_unless_it_is_being_removed() -> None:
    assert [c.sentence for c in of_failure("failed", "No pixels.")] == ["No pixels."]
    assert (
        of_failure("failed", FORGETTING)
        == of_failure("skipped", "A localizer.")
        == of_failure("judged", None)
        == ()
    )


def test_a_study_that_lacks_nothing_calls_nobody() -> None:
    assert of_study(()) == ()
    assert [c.sentence for c in of_study(["No neck.", "No venous phase."])] == ["No neck. No venous phase."]


@pytest.mark.parametrize(
    ("vote", "role", "calls"),
    [
        ("poor", "radiologist", 1),
        ("poor", "physicist", 1),
        ("poor", "technologist", 0),
        ("good", "radiologist", 0),
    ],
)
def test_whose_vote_calls(vote: str, role: str, calls: int) -> None:
    assert len(of_vote(vote, role, ["motion"])) == calls


def test_only_the_calls_of_one_judging_end_with_the_next() -> None:
    assert [kind.value for kind in AttentionKind if kind.of_a_run] == [
        "verdict",
        "order",
        "failed",
        "unusual",
    ]


def measure(better: Better) -> Measure:
    return Measure("m", "noise in air", Unit.ONE, better, 0, 1e9, frozenset({"MR"}), "own")


@pytest.mark.parametrize(
    ("better", "z", "kind", "calls"),
    [
        (Better.LOWER, CALL_Z, "outlier", True),
        (Better.LOWER, CALL_Z - 0.1, "outlier", False),
        (Better.LOWER, -99.0, "outlier", False),
        (Better.HIGHER, -CALL_Z, "outlier", True),
        (Better.HIGHER, 99.0, "outlier", False),
        (Better.NEITHER, 99.0, "outlier", False),
        (Better.LOWER, 99.0, "drift", False),
    ],
)
def test_only_what_is_far_worse_in_one_series_calls(better: Better, z: float, kind: str, calls: bool) -> None:
    unusual = Unusual("m", 1.0, z, Baseline(0.5, 0.1, 60), kind)
    assert bool(of_measures([unusual], [], {"m": measure(better)})) is calls
    assert of_measures([unusual], [], {}) == (), "a measure of another version calls nobody"


def test_what_is_certain_of_an_image_calls_and_says_so_first() -> None:
    unusual = Unusual("m", 1.0, 9.0, Baseline(0.5, 0.1, 60))
    found = ImageFinding("clipping", "The body is clipped.")
    (cause,) = of_measures([unusual], [found], {"m": measure(Better.LOWER)})
    assert cause.kind is AttentionKind.UNUSUAL and EVENT_OF[cause.kind] in EVENTS
    said = "The body is clipped. Noise in air is 9.0 times the usual spread above normal."
    assert cause.sentence == said


def test_calls_are_counted_by_day_and_scanner_votes_beside() -> None:
    called = [
        Called("MR", "2026-01-01", "verdict", "repeated"),
        Called("MR", "2026-01-02", "order", "patient_moved"),
        Called("MR", "2026-01-02", "failed", SEEN),
        Called("MR", "2026-01-02", "verdict", None),
        Called("MR", "2026-01-02", "vote", "noted"),
        Called("CT", "2026-01-02", "vote", None),
    ]
    first, second, third = count_calls(called)
    assert (first.scanner, first.raised, first.acted, first.share, first.votes) == ("CT", 0, 0, None, 1)
    assert (second.scanner, second.raised, second.acted, second.share) == ("MR", 3, 1, 1 / 3)
    assert second.answered == {"patient_moved": 1, "seen": 1} and second.votes_answered == {"noted": 1}
    assert (third.day, third.raised, third.acted) == ("2026-01-01", 1, 1)
    assert second.as_dict(2)["over_budget"] and not second.as_dict(3)["over_budget"]


def test_noting_something_is_not_acting_on_it() -> None:
    assert [answer.value for answer in AlarmAnswer if answer.acted] == ["repeated", "patient_moved"]


@pytest.mark.parametrize("sentence", [RULE, "Ordered: knee; found: head."])
def test_the_words_of_a_rule_are_no_quotation_of_a_header(sentence: str) -> None:
    assert for_outsiders(sentence) == sentence


def test_a_quotation_of_a_header_is_not_for_others() -> None:
    assert for_outsiders(CLAIM) == "Series Description (0008,103E) says …; found: abdomen."


@pytest.mark.parametrize(
    ("name", "rest", "station"),
    [
        ("MR750-ROOM1", ("GE", "MR750", "17"), "MR750-ROOM1"),
        (" \0MR\x1b[31m  1\n", (), "MR [31m 1"),
        ("", ("SIEMENS", " Skyra ", "45123"), "SIEMENS Skyra 45123"),
        ("", ("SIEMENS", "", ""), ""),
        ("x" * 999, (), "x" * LONGEST),
        ("磁共振1", (), "磁共振1"),
    ],
)
def test_which_scanner_a_header_names(name: str, rest: tuple[str, ...], station: str) -> None:
    assert station_of(name, *rest) == station
