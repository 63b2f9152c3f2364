"""What all tests share: where the real images are, free loopback ports, what runs first."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.peers.process import find_free_port

pytest_plugins = ["tests.peers.fixtures"]

ROOT = Path(__file__).resolve().parent.parent
NIGHTLY_TIMEOUT_S = 1800

# Several test processes share the cores: an example that takes 200 ms says nothing.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nightly tests have more time; long ones come first where several processes share the work."""
    for item in items:
        if item.get_closest_marker("nightly") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(NIGHTLY_TIMEOUT_S))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("nightly", "slow")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Modules with the mark ``xdist_group`` stay in one process.

    xdist 3.8 writes the group into a field of the item that pytest 9.2 no longer reads, so its own ``loadgroup``
    spreads them; here the controller looks into the module instead.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class ByModule(LoadGroupScheduling):  # type: ignore[misc]  # xdist ships no types
        """Groups by module where the module asks for it."""

        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if stays_together(module) else nodeid

    return ByModule(config, log)


@cache
def stays_together(module: str) -> bool:
    """Whether the tests of a module (a path from the root) share something and belong into one process."""
    path = ROOT / module
    return path.is_file() and "mark.xdist_group(" in path.read_text(encoding="utf-8")


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
