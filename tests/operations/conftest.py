"""A data folder with a series in each state, and a function that backs it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qc_node.operations.backup import BackedUp, BackupWishes, back_up
from tests.operations.site import NOW, Site, quiet


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.ledger.close()


@pytest.fixture
def backup(site: Site, tmp_path: Path) -> Callable[..., BackedUp]:
    def make(*, at: float = NOW, folder: Path = tmp_path / "backup", **wishes: bool) -> BackedUp:
        return back_up(site.root, folder, BackupWishes(**wishes), at, quiet)

    return make
