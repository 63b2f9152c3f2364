"""What a study lacks, or has beside, against what its kind usually has."""

from __future__ import annotations

import numpy as np

from qc_node.measures.usual_study import ENOUGH_STUDIES, study_kind, surprise_sentence, surprises

T1, T2, FLAIR, DWI, ODD = (f"orientation=axial|sequence={name}" for name in ("t1", "t2", "flair", "dwi", "odd"))
HEAD = {T1, T2, FLAIR}


def test_a_series_that_is_missing_is_named() -> None:
    (found,) = surprises({T1, T2}, [HEAD] * 38 + [{T1, T2}] * 2)
    assert surprise_sentence(found) == (
        "No series axial flair; studies of this kind usually have one (38 of the last 40)."
    )


def test_a_series_that_is_extra_is_named() -> None:
    (found,) = surprises({*HEAD, ODD}, [HEAD] * 40)
    assert surprise_sentence(found).startswith("A series axial odd is extra;")


def test_a_usual_study_has_no_surprise() -> None:
    assert surprises(HEAD, [HEAD] * 40) == ()
    assert surprises([T1, T1, T2, FLAIR], [HEAD] * 40) == ()


def test_too_few_studies_say_nothing() -> None:
    assert surprises({T1}, [HEAD] * (ENOUGH_STUDIES - 1)) == ()
    assert len(surprises({T1}, [HEAD] * ENOUGH_STUDIES)) == 2


def test_what_only_some_studies_have_is_neither_missing_nor_extra() -> None:
    history = [{*HEAD, DWI} if n % 3 else HEAD for n in range(60)]
    assert surprises(HEAD, history) == surprises({*HEAD, DWI}, history) == ()


def test_studies_that_are_never_alike_have_no_extra_series() -> None:
    rng = np.random.default_rng(1)
    history = [{T1, f"sequence={rng.integers(10_000)}"} for _ in range(60)]
    assert surprises({T1, ODD}, history) == ()


def test_a_study_without_series_is_no_news() -> None:
    assert surprises([], [HEAD] * 40) == ()
    assert surprises({T1}, [[]] * 40) == ()


def test_the_kind_of_a_study_holds_no_word_of_it() -> None:
    kind = study_kind("MR2", "Kopf Meier, Hans")
    assert kind.startswith("MR2|")
    assert "meier" not in kind.casefold()
    assert kind != study_kind("MR3", "Kopf Meier, Hans") != study_kind("MR3", "Knie")
