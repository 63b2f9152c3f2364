"""Storage commitment as the outbox's rows see it: what was asked for, and what the answer changes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from qc_node.dicom.commitment import CommitmentResult
from qc_node.domain import InstanceRef
from qc_node.ledger import Ledger
from qc_node.ledger.commitments import note_commitment
from qc_node.ledger.rows import ReportDelivery


class LedgerQuestion:
    """One request for the objects of `rows`.

    Parameters
    ----------
    on_committed
        Called with the destination for each object that it has promised to keep.
    """

    def __init__(
        self,
        ledger: Ledger,
        rows: Sequence[ReportDelivery],
        wall: Callable[[], float],
        on_committed: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._ids = {row["sop_instance_uid"]: row["id"] for row in rows}
        self._wall = wall
        self._on_committed = on_committed

    def put(self, references: Sequence[InstanceRef]) -> str:
        """See :class:`~qc_node.outbox.transport.interface.CommitmentQuestion`."""
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        at = self._wall()
        for reference in references:
            self._ledger.deliveries.commitment_asked(self._ids[reference.sop_instance_uid], transaction_uid, at)
        return transaction_uid

    def answered(self, result: CommitmentResult) -> str:
        """See :class:`~qc_node.outbox.transport.interface.CommitmentQuestion`."""
        try:
            noted = note_commitment(self._ledger.deliveries, result, self._wall())
        finally:
            self._ledger.close()
        for destination in noted.kept_by:
            self._on_committed(destination)
        return noted.sentence
