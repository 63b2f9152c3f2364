"""SIGHUP reads the configuration again; nothing ends of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.node_process import NodeProcess
from tests.peers import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reload")]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    one = NodeProcess(tmp_path / "node", None)
    yield one
    one.stop()


def hang_up(node: NodeProcess, old: str, new: str) -> str:
    """Change the configuration, send SIGHUP to the whole group as a closed terminal does; what the log says."""
    text = node.config.read_text()
    assert old in text
    node.config.write_text(text.replace(old, new))
    before = len(node.log.read_text())
    assert node.process is not None
    os.killpg(node.process.pid, signal.SIGHUP)
    wait_for(lambda: "configuration was read again" in node.log.read_text()[before:], 20)
    wait_for(node.ready, 20)
    return node.log.read_text()[before:]


def children(node: NodeProcess) -> set[str]:
    assert node.process is not None
    tasks = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


def test_a_hang_up_changes_what_may_change_and_ends_nothing(node: NodeProcess) -> None:
    node.start()
    processes = children(node)
    assert len(processes) == 2, "the classifier and the receiver"
    said = hang_up(node, "quiet_s = 1.5", "quiet_s = 2.5")
    assert "changed at once: [completion] quiet_s" in said and "need a restart" not in said

    said = hang_up(node, "low_watermark_gb = 0.001", "low_watermark_gb = 0.002")
    assert "changed at once: nothing" in said
    assert "these changes need a restart: [disk] low_watermark_gb" in said

    said = hang_up(node, "quiet_s = 2.5", "quiet_s = 0")
    assert "stays as it was" in said and str(node.config) in said
    assert children(node) == processes, "neither the classifier nor the receiver ended"
    assert node.terminate() == 0
