"""What is said when a series or a file cannot be looked at."""

from __future__ import annotations

from qc_node.domain import QcNodeError


class SeriesRefused(QcNodeError):
    """The files of a series do not make one regular volume; the sentence names the tag at fault."""


class NotDicom(QcNodeError):
    """A file is not a DICOM object that can be read."""
