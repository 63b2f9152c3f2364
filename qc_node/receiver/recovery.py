"""After a crash: nothing lost, nothing doubled.

A process can die between the name of a file and its ledger row.  The sender got no answer and will send again,
but it need not: the file is complete, so it is adopted.  After a power cut rows may be missing that were
answered for (the files were durable, the rows not yet): they are made again here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from qc_node.dicom import received_header
from qc_node.dicom.elements import ScanError, Window
from qc_node.dicom.part10 import is_whole, look_into, read_head
from qc_node.dicom.received_header import HeaderError
from qc_node.ledger import Ledger
from qc_node.receiver.store import Request, received
from qc_node.spool import Spool


def recover(spool: Spool, ledger: Ledger, clock: Callable[[], float] = time.time) -> int:
    """Sweep half-written files and adopt whole ones that have no row; run it before the receiver starts.

    Returns how many were adopted.  What cannot be read goes into quarantine with a reason.  A second run finds
    nothing to do.
    """
    spool.sweep()
    adopted = 0
    known = ledger.instances.paths()
    for name in list(spool.images_on_disk()):
        if name in known:
            continue
        adopted += _adopt(spool, ledger, name, clock())
    return adopted


def _adopt(spool: Spool, ledger: Ledger, name: str, at: float) -> bool:
    path = spool.path(name)
    try:
        with path.open("rb") as file:
            data = look_into(file.fileno())
            written = os.fstat(file.fileno()).st_mtime
        if not is_whole(data):
            raise HeaderError("A power cut left it incomplete; it was never answered with success.")
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
    if newest is not None and spool.has(newest["path"]):
        spool.remove(name)  # the same instance is stored under another series; this copy was never answered
        return False
    version = 1 if newest is None else newest["version"] + 1
    row = received(facts, request, name, len(data), min(written, at), version)
    ledger.instances.add([row], spool.count_there)
    return True


def _put_away(spool: Spool, ledger: Ledger, path: Path, name: str, reason: str, at: float) -> None:
    kept = spool.quarantine(path.read_bytes(), ".dcm")
    ledger.instances.quarantine(kept, f"Found without a ledger row at start: {reason}", "", at)
    spool.remove(name)
