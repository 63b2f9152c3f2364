"""Grades follow from measured damage, with a zone between them that belongs to nobody."""

from __future__ import annotations

import math

import pytest

from qc_node.classifiers.brain_mri import grading
from qc_node.domain import GRADED, Question


@pytest.mark.parametrize("question", GRADED)
def test_grades_rise_with_damage_and_leave_a_zone(question: Question) -> None:
    cut = grading.CUTS[question]
    assert grading.grade_of(question, cut.none) == 0
    assert grading.grade_of(question, cut.moderate[0]) == 1
    assert grading.grade_of(question, cut.moderate[1]) == 1
    assert grading.grade_of(question, cut.severe) == 2
    assert grading.grade_of(question, (cut.none + cut.moderate[0]) / 2) is None
    assert grading.grade_of(question, (cut.moderate[1] + cut.severe) / 2) is None
    assert grading.grade_of(question, math.nan) is None


@pytest.mark.parametrize("question", GRADED)
def test_with_the_zone_everything_has_a_grade_and_outside_it_the_same_one(question: Question) -> None:
    for step in range(-50, 200):
        damage = step / 200
        grade = grading.grade_of(question, damage)
        nearest = grading.nearest_grade(question, damage)
        assert nearest in (0, 1, 2)
        assert grade is None or grade == nearest
