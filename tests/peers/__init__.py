"""Real peers for the tests: Orthanc, DCMTK, dicom3tools and PixelMed, on free loopback ports.

Tests speak to them in verbs (``orthanc.received_uids()``, ``storescp.stop()``) and wait for what they can
observe (:func:`wait_for`), never for a time.  A missing program skips the test with its name, or fails
it when ``QC_NODE_REQUIRE_PEERS=1`` (CI), so that a green run cannot be an empty one.
"""

from tests.peers.dcmtk import EchoScu, StoreScp, dsrdump, echo, store
from tests.peers.orthanc import Orthanc
from tests.peers.process import OwnedProcess, environment, find_free_port, require, wait_for
from tests.peers.validators import Verdict, validate

__all__ = [
    "EchoScu",
    "Orthanc",
    "OwnedProcess",
    "StoreScp",
    "Verdict",
    "dsrdump",
    "echo",
    "environment",
    "find_free_port",
    "require",
    "store",
    "validate",
    "wait_for",
]
