"""The error that people read."""

from __future__ import annotations


class QcNodeError(Exception):
    """An error that is its own explanation: one sentence naming the file, tag or key at fault.

    The command line prints ``str(error)`` and exits 1; a traceback is shown only with ``--debug``.
    """
