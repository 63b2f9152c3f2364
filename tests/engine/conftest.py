"""Tests of the engine have measures of their own, unless they ask for the program's."""

from __future__ import annotations

import pytest

from tests.engine.measures_of_tests import Measures, install


@pytest.fixture(autouse=True)
def measures(monkeypatch: pytest.MonkeyPatch) -> Measures:
    """Small measures in place of the program's."""
    return install(monkeypatch)
