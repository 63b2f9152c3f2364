"""What all tests share: where the real images are, free loopback ports, one thread for each process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.process import find_free_port

pytest_plugins = ["tests.peers.fixtures"]

ROOT = Path(__file__).resolve().parent.parent

# Several test processes share the cores (pytest-xdist), and so do the programs that they start: none of them
# takes more than one.  Set before NumPy, torch and SimpleITK are imported, which read it once.
for _limit in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
):
    os.environ.setdefault(_limit, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no process is left alone with one at the end; otherwise as written."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("nightly", "slow")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the project; the test is skipped where it is absent."""
    folder = Path(os.environ.get("QC_NODE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared images are not here ({folder}); set QC_NODE_SHARED_DATA")
    return folder


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that returns a loopback TCP port nobody listens on."""
    return find_free_port
