"""A listener that cannot be opened, or must not: one sentence, exit code 1, no traceback.

Other bad input: tests/end_to_end/test_bad_input.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path, free_port: Callable[[], int]) -> Callable[..., str]:
    """A function that runs the node with `environ` on top, expects it to refuse, and returns its last line."""

    def call(**environ: str) -> str:
        defaults = {f"QC_NODE_{section}__PORT": str(free_port()) for section in ("NODE", "WEB", "METRICS")}
        defaults |= {"QC_NODE_NODE__DATA_DIR": str(tmp_path / "data"), "QC_NODE_DISK__LOW_WATERMARK_GB": "0"}
        result = subprocess.run(
            [sys.executable, "-m", "qc_node", "run"],
            env=os.environ | defaults | environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 1, result.stderr
        assert "Traceback" not in result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("qc-node: ") and last.endswith(".") and "unexpected" not in last
        return last

    return call


@contextmanager
def taken() -> Iterator[str]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield str(s.getsockname()[1])


@pytest.mark.parametrize("section", ["WEB", "METRICS"])
def test_a_port_in_use(run: Callable[..., str], section: str) -> None:
    with taken() as port:
        last = run(**{f"QC_NODE_{section}__PORT": port})
    assert port in last and "in use" in last


def test_pages_open_to_the_network_without_a_secret(run: Callable[..., str]) -> None:
    assert "web.secret" in run(QC_NODE_WEB__HOST="0.0.0.0")
