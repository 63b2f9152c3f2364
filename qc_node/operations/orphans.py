"""Files that no row knows: a process was killed between a file and its row, or deleted the row first.

They may hold patient data, and nothing else would ever delete them.  A file is an orphan when two looks, hours of
this process's life apart, find the same file and no row for it; whatever the clocks say, no file is that young
whose row is only about to be written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from itertools import islice

from qc_node.domain.name_set import NameSet
from qc_node.ledger import Ledger
from qc_node.operations.retention import GoOn
from qc_node.receiver.recovery import Recovery
from qc_node.spool import FileIdentity, Spool

log = logging.getLogger("qc_node.retention")

KINDS = ("images", "training", "thumbnails", "quarantine", "reports", "tmp")
"""Folders that are looked through; in ``tmp`` are files of receiving processes that died while the node lived."""

PRECIOUS = ("training", "thumbnails", "reports")
"""Where nothing is deleted that may belong to another ledger than the one that is there."""

FEW = 10
"""So many, and a tenth of what is known, may be nobody's there."""
SUSPECT = (
    "%d files in %s/ belong to nothing that the ledger knows, and only %d do: is it the right ledger?"
    " None of them is deleted; restore the ledger, or delete them by hand"
)
MOST = 100_000
"""So many files are remembered from one look to the next."""


class Orphans:
    """Looks through the data folder.

    Parameters
    ----------
    on_removed
        Called with the kind, one of :data:`KINDS`, of each file that was deleted.
    wall
        Seconds since the epoch, for the rows of images that are taken in after all.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        on_removed: Callable[[str], None] = lambda kind: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._on_removed = on_removed
        self._recovery = Recovery(spool, ledger, wall, on_copy=lambda name: self._tell("images", name))
        self._seen: dict[str, FileIdentity] = {}

    def look(self, go_on: GoOn = lambda: True) -> int:
        """Delete what an earlier look has seen as nobody's too; how many files are nobody's so far.

        An image is not deleted: a whole one is taken in, as at a start, and goes in its time; one that cannot be
        read goes into quarantine; only a copy of one that is stored elsewhere goes.  Ends early when `go_on` says
        so.
        """
        seen: dict[str, FileIdentity] = {}
        for kind in KINDS:
            if not go_on():
                break
            known = NameSet(() if kind == "tmp" else self._ledger.removals.named(kind))
            found = dict(islice(self._nobodys(kind, known, go_on), MOST))
            if kind in PRECIOUS and len(found) > FEW + len(known) / 10:
                log.error(SUSPECT, len(found), kind, len(known))
                continue
            for name, now in found.items():
                if self._seen.get(name) != now:
                    seen[name] = now
                else:
                    self._deal_with(kind, name, now)
        self._seen = seen
        return len(seen)

    def _nobodys(self, kind: str, known: NameSet, go_on: GoOn) -> Iterator[tuple[str, FileIdentity]]:
        folders = self._spool.image_folders() if kind == "images" else self._spool.files(kind)
        for names in folders:
            for name in known.lacks(names):
                if (now := self._spool.identity(name)) is not None:
                    yield name, now
            if not go_on():
                return

    def _deal_with(self, kind: str, name: str, seen: FileIdentity) -> None:
        if kind == "images":
            if self._recovery.take_in(name):
                log.warning("%s had lost its row and was taken in again", name)
        elif self._spool.identity(name) == seen:
            self._spool.remove(name)
            self._tell(kind, name)

    def _tell(self, kind: str, name: str) -> None:
        log.warning("%s belonged to nothing and was deleted", name)
        self._on_removed(kind)
