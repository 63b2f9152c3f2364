"""After a crash: nothing lost, nothing doubled.

A process can die between the rename of a file and its ledger row.  The sender got no answer and will send again,
but it need not: the file is complete, so it is adopted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from qc_node.dicom import received_header
from qc_node.dicom.elements import ScanError, Window
from qc_node.dicom.part10 import look_into, read_head
from qc_node.dicom.received_header import HeaderError
from qc_node.ledger import Ledger
from qc_node.receiver.store import Request, received
from qc_node.spool import Spool


def recover(spool: Spool, ledger: Ledger, clock: Callable[[], float] = time.time, before: float = math.inf) -> int:
    """Adopt whole files that have no row.

    Returns how many were adopted.  What cannot be read goes into quarantine with a reason.  A second run finds
    nothing to do.

    Parameters
    ----------
    before
        Only files that were last touched before this time (seconds since the epoch): beside a running receiver
        what is newer is the receiver's, and its row is on the way.
    """
    adopted = 0
    known = ledger.instances.paths()
    for name in spool.images_on_disk():
        if name not in known and _touched(spool.root / name) < before:
            adopted += _adopt(spool, ledger, name, clock())
    return adopted


def _touched(path: Path) -> float:
    """When the file was last written or renamed; never, for one that is gone."""
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return math.inf


def _adopt(spool: Spool, ledger: Ledger, name: str, at: float) -> bool:
    path = spool.path(name)
    try:
        with path.open("rb") as file:
            data = look_into(file.fileno())
        head = read_head(Window(data))
        request = Request(
            head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid, head.source_ae_title
        )
        facts = received_header.facts(data, head.transfer_syntax_uid, head.start)
        refusal = received_header.check(facts, request.sop_class_uid, request.sop_instance_uid)
        if refusal is not None:
            raise HeaderError(refusal[1])
    except ScanError as error:
        _put_away(spool, ledger, path, name, f"It has no readable head: {error}.", at)
        return False
    except (HeaderError, ValueError) as error:
        _put_away(spool, ledger, path, name, str(error), at)
        return False
    newest = ledger.instances.newest(facts.sop_instance_uid)
    if newest is not None and newest["path"] == name:
        return False  # sent again meanwhile: the file is that of the row
    if newest is not None and spool.has(newest["path"]):
        spool.remove(name)  # the same instance is stored under another series; this copy was never answered
        return False
    version = 1 if newest is None else newest["version"] + 1
    ledger.instances.add([received(facts, request, name, len(data), at, version)], spool.count_there)
    return True


def _put_away(spool: Spool, ledger: Ledger, path: Path, name: str, reason: str, at: float) -> None:
    kept = spool.quarantine(path.read_bytes(), ".dcm")
    ledger.instances.quarantine(kept, f"Found without a ledger row at start: {reason}", "", at)
    spool.remove(name)
