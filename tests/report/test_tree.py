"""The report in the terminal."""

from __future__ import annotations

import itertools

from pydicom.dataset import Dataset

from qc_node.report.tree import as_text
from tests.report.sources import evidence, mri_verdict, report, source
from tests.report.test_key_objects import flag


def test_tree_shows_every_group_and_answer() -> None:
    text = as_text(report(mri_verdict(1), warnings=["Slice thickness is 5 mm."]))
    assert text.startswith("Imaging Measurement Report\n")
    assert text.count("Measurement Group") == 6
    assert "Imaging Series Quality: Usable - Meets the quality control standard" in text
    assert "Probability of Grade 1: moderate: 0.9" in text
    assert "   └─ Comment: Slice thickness is 5 mm." in text
    assert "\x1b" not in text and "122741" not in text


def test_codes_and_colours_on_request() -> None:
    assert "Imaging Series Quality: Good image quality (122741, DCM)" in as_text(report(), codes=True, width=200)
    assert "\x1b[90m" in as_text(report(), codes=True, colour=True)


def test_branches_join() -> None:
    for above, below in itertools.pairwise(as_text(report()).splitlines()):
        for column, mark in enumerate(above):
            if mark == "├":
                assert below[column] in "│├└"
            if mark == "└":
                assert below[column : column + 1] not in ("│", "├", "└")


def test_long_text_wraps_within_the_width() -> None:
    text = as_text(report(warnings=["word " * 100]), width=80)
    assert max(map(len, text.splitlines())) <= 80


def test_many_images_are_counted() -> None:
    text = as_text(flag())
    assert text.startswith("Quality Issue\n")
    assert all(e.sop_instance_uid in text for e in evidence())
    from qc_node.report.key_objects import build_flag
    from tests.report.sources import CREATED, key

    many = build_flag(
        source(), evidence(175), key(source()), mri_verdict(2), software_version="1", node="N", created=CREATED
    )
    assert "175 images" in as_text(many)


def test_text_of_others_never_commands_the_terminal() -> None:
    ds = report(warnings=["plain"])
    ds.ContentSequence[-1].ContentSequence[0].TextValue = "\x1b[2Jgone\x07"
    assert "\x1b" not in as_text(ds) and "\x07" not in as_text(ds)


def test_any_data_set_has_a_tree() -> None:
    assert as_text(Dataset()) == "Structured Report\n"
    assert as_text(source()) == "Structured Report\n"
