"""A loop goes on whatever its step does, and says each trouble once."""

from __future__ import annotations

import logging
import threading

import pytest

from qc_node.domain import QcNodeError
from qc_node.periodic import Periodic
from tests.peers import wait_for


def test_a_trouble_that_stays_is_one_line_and_one_that_comes_back_is_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = [QcNodeError("The ledger is damaged."), QcNodeError("The ledger is damaged."), None, None]
    told += [QcNodeError("The ledger is damaged.")]
    done = threading.Event()

    def step() -> None:
        if not told:
            done.set()
        elif (error := told.pop(0)) is not None:
            raise error

    loop = Periodic("tested", step, idle_s=0.001)
    with caplog.at_level(logging.ERROR):
        loop.start()
        assert wait_for(done.is_set, 10)
        loop.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the loop tested goes on: The ledger is damaged.",
        "the loop tested goes on: The ledger is damaged.",
    ]
    assert not any(record.exc_info for record in caplog.records), "a sentence needs no traceback"
