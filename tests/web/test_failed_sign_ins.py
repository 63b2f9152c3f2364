"""Sign-ins that fail are counted and logged, without what was typed, and without a line for each guess."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qc_node.operations.metrics import SIGN_IN_WAYS, Metrics
from qc_node.web.access import readers
from qc_node.web.access.failures import MOST_ADDRESSES, SAID, FailedSignIns
from qc_node.web.app import create_app
from tests.web.conftest import Browse, Clinic, Clock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "qc_node.web"]


def test_a_wrong_pin_an_unknown_login_and_a_disabled_reader_look_the_same(
    clinic: Clinic, browse: Browse, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.reader("anna", name="Anna", pin="271828")
    clinic.reader("gone", name="Gone", pin="314159")
    readers.disable(clinic.ledger, "gone", clinic.clock())
    browser = browse()
    tries = {"anna": "999999", "nobody": "271828", "gone": "314159", "271828": "anna"}
    said = {
        browser.post("/sign-in", data={"login": login, "pin": pin}).text.replace(login, "")
        for login, pin in tries.items()
    }
    assert len(said) == 1
    assert lines(caplog) == ["a sign-in from testclient failed: login and PIN do not match"]
    assert not any(typed in caplog.text for typed in ("anna", "nobody", "gone", "271828"))


def test_a_thousand_guesses_are_not_a_thousand_lines(
    clinic: Clinic, browse: Browse, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[str] = []
    browser = browse(create_app(replace(clinic.deps(), on_failed_sign_in=counted.append)))
    for _ in range(200):
        browser.post("/api/sign-in", json={"token": "x" * 43})
    assert len(lines(caplog)) == 1
    assert (counted.count("link"), counted.count("too many")) == (10, 190)
    clinic.clock.forward(61)
    browser.post("/api/sign-in", json={"token": "x" * 43})
    assert lines(caplog)[1:] == [
        "a sign-in from testclient failed: the personal link is not valid; 199 more since the last line"
    ]


def test_another_address_has_its_own_line_and_the_memory_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    failures = FailedSignIns(clock, lambda way: None)
    for n in range(2 * MOST_ADDRESSES):
        failures.note("pin", f"192.0.2.{n}")
    assert len(lines(caplog)) == 2 * MOST_ADDRESSES
    assert len(failures._silent) == MOST_ADDRESSES
    for n in range(50):
        failures.note("pin", f"2001:db8::{n:x}")
    assert len(lines(caplog)) == 2 * MOST_ADDRESSES + 1, "one place, whatever addresses it takes"
    clock.forward(-3600)
    failures.note("pin", "2001:db8::1")
    assert len(lines(caplog)) == 2 * MOST_ADDRESSES + 2, "a clock that was set back silences nobody for long"


def test_every_way_is_a_value_of_the_metric() -> None:
    assert set(SAID) == set(SIGN_IN_WAYS)
    metrics = Metrics()
    metrics.failed_sign_in("pin")
    metrics.failed_sign_in("<script>")
    exposed = str(metrics.render())
    assert 'qc_node_failed_sign_ins_total{way="pin"} 1.0' in exposed
    assert "<script>" not in exposed and 'way="other"' in exposed
