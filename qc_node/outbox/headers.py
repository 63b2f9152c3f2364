"""Headers of files in the spool."""

from __future__ import annotations

import pydicom
from pydicom.dataset import Dataset

from qc_node.domain import QcNodeError
from qc_node.spool import Spool


def header_or_none(spool: Spool, name: str) -> Dataset | None:
    """As :func:`read_header`, and None where the file is gone."""
    return read_header(spool, name) if name and spool.has(name) else None


def read_header(spool: Spool, name: str) -> Dataset:
    """The header of a file in the spool, without pixels.

    Raises
    ------
    QcNodeError
        The file is gone.
    """
    try:
        return pydicom.dcmread(spool.path(name), stop_before_pixels=True, force=True)
    except FileNotFoundError:
        raise QcNodeError(f"The file {name} that a report needs is no longer in the data folder.") from None
