"""Structured logs without patient data.

A UID is not a name, but joined with a PACS it leads to one.  So log lines carry :func:`qc_node.spool.digest`
of a UID, and whatever UID slips into a message all the same is replaced by its digest here.  The
ledger knows both.  What other libraries say is
reduced to what cannot hold an element value: pynetdicom and pydicom are silent (what they report, the node
says in one sentence of its own), warnings appear with their category and place only, and a foreign exception
with its type and frames only.
"""

from __future__ import annotations

import json
import logging
import logging.config
import re
import sqlite3
import sys
import traceback
import warnings
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from qc_node.domain import QcNodeError
from qc_node.spool import digest

OUTSPOKEN = (QcNodeError, OSError, sqlite3.Error, ImportError, MemoryError)
"""Exceptions whose message is logged: it is about files, addresses and modules, never about a data element."""

UID = re.compile(r"(?<![\w.])[0-2](?:\.\d{1,40}){5,}(?![\w.]*\w)")
"""Six components or more: longer than a version or an IPv4 address."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def without_uids(text: str) -> str:
    """`text` with every UID that is not the standard's own replaced by ``uid:`` and its digest.

    Examples
    --------
    >>> without_uids("stored 1.2.840.10008.5.1.4.1.1.4 from 10.0.0.1")
    'stored 1.2.840.10008.5.1.4.1.1.4 from 10.0.0.1'
    >>> without_uids("stored 1.2.3.4.5.6.7")
    'stored uid:6e9396e6eb18b56e81accf08c69d4f6d'
    """
    from qc_node.dicom.uids import STANDARD_ROOT  # brings pydicom, which the node needs only once its port is open

    return UID.sub(lambda m: m[0] if m[0].startswith(STANDARD_ROOT) else f"uid:{digest(m[0])}", text)


def frames_of(exc_info: ExcInfo) -> str:
    """A traceback whose last line withholds the message of a foreign exception."""
    kind, error, trace = exc_info
    if kind is None or error is None:
        return ""
    lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace)]
    said = f": {error}" if isinstance(error, OUTSPOKEN) else " (message withheld: it may quote a data element)"
    return "".join([*lines, f"{kind.__name__}{said}"])


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback, without what may quote a data element."""
        return without_uids(frames_of(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """The stack, without UIDs."""
        return without_uids(stack_info)


class TextFormatter(_Formatter):
    """``2026-01-31T12:00:00.000Z INFO qc_node.node: message``, for eyes."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        line = f"{_time(record)} {record.levelname} {record.name}: {without_uids(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(_Formatter):
    """One JSON object per line: ``time``, ``level``, ``logger``, ``message``, ``process``, ``thread``,
    ``trace``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_uids(record.getMessage()),
            "process": record.process,
            "thread": record.threadName,
        }
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dict_config(log_format: str, level: str) -> dict[str, Any]:
    """Configuration for :func:`logging.config.dictConfig`, of plain values that a child can get as JSON.

    Parameters
    ----------
    log_format
        ``text`` or ``json``.
    level
        ``debug``, ``info``, ``warning`` or ``error``.
    """
    formatter = JsonFormatter if log_format == "json" else TextFormatter
    at_least_warning = "ERROR" if level == "error" else "WARNING"
    foreign = ("highdicom", "uvicorn.access", "asyncio", "httpx", "PIL", "matplotlib")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"{formatter.__module__}.{formatter.__qualname__}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {name: {"level": at_least_warning, "propagate": True} for name in foreign}
        | {name: {"level": "CRITICAL", "propagate": True} for name in ("pynetdicom", "pydicom")},
    }


def configure(log_format: str = "text", level: str = "info") -> None:
    """Log to standard error from now on, and keep libraries from printing data elements."""
    logging.config.dictConfig(dict_config(log_format, level))
    warnings.showwarning = _log_warning
    if "pynetdicom" in sys.modules:  # else dicom.association does this when it imports it
        from qc_node.dicom.association import hush

        hush()


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    """Say where a library warned, not what: pydicom's warnings quote element values."""
    logging.getLogger("qc_node.warnings").debug("%s at %s:%d", category.__name__, filename, lineno)
