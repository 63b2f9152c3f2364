"""Logs: one parseable line each, and no way for a data element or a UID to get in."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from qc_node.domain import QcNodeError
from qc_node.operations import logs
from qc_node.spool import digest

UID = "1.3.12.2.1107.5.2.32.35177.2024010112345678901234567"


class Lines:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def getvalue(self) -> str:
        return self._capsys.readouterr().err


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    root = logging.getLogger()
    before, level, show = list(root.handlers), root.level, warnings.showwarning
    yield Lines(capsys)
    root.handlers[:] = before
    root.setLevel(level)
    warnings.showwarning = show


def test_json_lines(lines: Lines) -> None:
    logs.configure("json", "info")
    logging.getLogger("qc_node.test").info("series %s of %d images\nclosed", digest(UID), 3)
    text = lines.getvalue()
    said = json.loads(text)
    assert said["message"] == f"series {digest(UID)} of 3 images\nclosed"
    assert said["level"] == "info" and said["logger"] == "qc_node.test" and said["time"].endswith("Z")
    assert text.count("\n") == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_uid_never_gets_in(lines: Lines, log_format: str) -> None:
    logs.configure(log_format, "debug")
    log = logging.getLogger("qc_node.test")
    log.warning("stored %s", UID)
    try:
        raise QcNodeError(f"{UID} has no pixels.")
    except QcNodeError:
        log.exception("failed")
    text = lines.getvalue()
    assert UID not in text
    assert text.count(digest(UID)) == 2


@pytest.mark.parametrize(
    "kept", ["10.0.0.1:11112", "torch 2.13.0", "1.2.840.10008.5.1.4.1.1.4", "1,234.5", "0.12345"]
)
def test_what_is_no_uid_stays(kept: str) -> None:
    assert logs.without_uids(f"a {kept} b") == f"a {kept} b"


@pytest.mark.parametrize("around", ["{}", "'{}'", "({})", "x={},", "{}."])
def test_uids_are_found_in_any_company(around: str) -> None:
    assert UID not in logs.without_uids(around.format(UID))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_foreign_exception_keeps_its_message_to_itself(lines: Lines, log_format: str) -> None:
    logs.configure(log_format, "info")
    quoted = "^".join(["DOE", "JANE"])
    try:
        raise ValueError(quoted)
    except ValueError:
        logging.getLogger("qc_node.test").exception("a file could not be read")
    text = lines.getvalue()
    assert quoted not in text
    assert "ValueError" in text and "test_logs.py" in text


def test_an_os_error_is_told(lines: Lines) -> None:
    logs.configure("text", "info")
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        logging.getLogger("qc_node.test").exception("a file could not be written")
    assert "No space left on device" in lines.getvalue()


def test_pynetdicom_prints_no_datasets_even_at_debug(lines: Lines) -> None:
    from pynetdicom import _config

    logs.configure("text", "debug")
    for name in ("pynetdicom.acse", "pynetdicom.events", "pynetdicom._handlers"):
        logging.getLogger(name).info("(0010,0010) PN [DOE^JANE]")
        logging.getLogger(name).debug("(0010,0010) PN [DOE^JANE]")
        logging.getLogger(name).error("(0010,0010) PN [DOE^JANE]")
    assert lines.getvalue() == ""
    assert _config.LOG_HANDLER_LEVEL == "none"
    assert not _config.LOG_REQUEST_IDENTIFIERS and not _config.LOG_RESPONSE_IDENTIFIERS


def test_a_warning_says_where_and_not_what(lines: Lines) -> None:
    logs.configure("text", "debug")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._log_warning
        warnings.warn("Invalid value for VR PN: 'DOE^JANE'", UserWarning, stacklevel=1)
    text = lines.getvalue()
    assert "UserWarning" in text and "DOE" not in text


def test_a_child_process_can_be_told(lines: Lines) -> None:
    config = json.dumps(logs.dict_config("json", "info"))
    code = (
        "import sys, json, logging, logging.config\n"
        "logging.config.dictConfig(json.loads(sys.argv[1]))\n"
        f"logging.getLogger('x').info('{UID}')"
    )
    result = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, timeout=60)
    assert json.loads(result.stderr)["message"] == f"uid:{digest(UID)}"
