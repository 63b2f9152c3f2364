"""Unique identifiers of DICOM (PS3.6 annex A) and the node's own identity."""

from __future__ import annotations

from qc_node import __version__

IMPLEMENTATION_CLASS_UID = "2.25.262436012374016519218214478364186120573"
IMPLEMENTATION_VERSION = f"QCNODE_{__version__}"

IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED_LE, EXPLICIT_BE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"

IMPLICIT = frozenset((IMPLICIT_LE, "1.2.840.10008.1.20", "1.2.840.113619.5.2"))
"""Data sets in Implicit VR Little Endian: the default, Papyrus 3 and GE's private one with big-endian pixels."""
DEFLATED = frozenset((DEFLATED_LE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))
"""Data sets that are deflated as a whole."""
