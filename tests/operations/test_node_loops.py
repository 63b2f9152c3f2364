"""The health of a node asks each of its loops."""

from __future__ import annotations

from pathlib import Path

from qc_node.config import load
from qc_node.node import Node
from tests.peers import wait_for
from tests.peers.process import find_free_port


def test_no_loop_of_a_node_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    config = tmp_path / "qc-node.toml"
    config.write_text(f"""
        [node]
        host = "127.0.0.1"
        data_dir = "{tmp_path / "data"}"
        [pacs]
        destination = "PACS"
        [web]
        port = {find_free_port()}
        [[peer]]
        name = "PACS"
        ae_title = "PACS"
        host = "127.0.0.1"
        port = {find_free_port()}
        role = ["send"]
    """)
    node = Node(load(config, {}))
    web = node._open_web()
    try:
        names = {loop.name for loop in node._all_loops()}
        assert names == {
            *("completion", "pacs-questions", "writing", "retention", "ledger-watch", "drain"),
            *("outbox-PACS", "follow-up", "measured-reports", "summaries", "notifications"),
        }
        wait_for(lambda: node._all_loops()[-1].alive())
        assert "loops" in {check.name for check in node._health.ready().checks}
    finally:
        web.stop()
        node.ledger.close()
