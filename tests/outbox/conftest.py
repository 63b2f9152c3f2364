"""A data folder with reports that wait in the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qc_node.dicom.association import Peer
from qc_node.ledger import Ledger, Received
from qc_node.ledger.deliveries import WrittenObject
from qc_node.outbox.sending import Destination, Outbox, RetryPolicy
from qc_node.outbox.transport.dimse import DimseTransport
from qc_node.outbox.transport.interface import Transport
from qc_node.spool import Spool
from tests.ledger.makers import number_of
from tests.report.sources import as_bytes, report

SOON = RetryPolicy(first_s=0.05, cap_s=0.2)


class Sender:
    """One node's outbox: reports are written, then the outbox is started or stepped."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool(root)
        self.ledger = Ledger(root / "ledger.sqlite")
        self.outcomes: list[tuple[str, str]] = []
        self.clock = 1000.0

    def series(self, series_uid: str) -> int:
        """A received series for reports to be about; returns its number."""
        image = Received(
            f"{series_uid}.1", "1.2", series_uid, "ST", "1.2", "CT", "CT1", f"images/{series_uid}", 9, 1.0
        )
        self.ledger.instances.add([image])
        return number_of(self.ledger, series_uid)

    def write_reports(
        self,
        count: int,
        *destinations: str,
        first: int = 0,
        series_id: int | None = None,
        kind: str = "sr",
        run: int | None = None,
        predecessor: str | None = None,
    ) -> list[str]:
        """Put `count` reports into the outbox; returns their UIDs in order.

        Each is about nothing in particular, or all are of one series, one run after the other or all of `run`.
        """
        uids = []
        for number in range(first, first + count):
            ds = report(rules_digest=f"rules {number}", instance_number=number + 1)
            uid = str(ds.SOPInstanceUID)
            name = self.spool.report_name(uid)
            self.spool.store(name, as_bytes(ds))
            written = WrittenObject(
                uid,
                str(ds.SOPClassUID),
                series_id,
                str(ds.StudyInstanceUID),
                number if run is None else run,
                kind,
                name,
                predecessor,
            )
            self.ledger.deliveries.post([written], destinations or ("PACS",), self.clock)
            uids.append(uid)
        return uids

    def outbox(self, *destinations: Peer | Transport, **options: object) -> Outbox:
        """An outbox to peers, or by transports, on this test's clock unless `wall` says otherwise."""
        commitment = bool(options.pop("storage_commitment", False))
        options.setdefault("wall", lambda: self.clock)
        return Outbox(
            self.ledger,
            self.spool,
            [Destination(DimseTransport(d) if isinstance(d, Peer) else d, commitment) for d in destinations],
            on_delivery=lambda row, destination, outcome: self.outcomes.append((destination, outcome)),
            on_committed=lambda destination: self.outcomes.append((destination, "committed")),
            retry=options.pop("retry", SOON),  # type: ignore[arg-type]
            jitter=lambda: 0.0,
            **options,  # type: ignore[arg-type]
        )

    def counts(self) -> dict[str, int]:
        return self.ledger.deliveries.counts()

    def bytes_of(self, uid: str) -> bytes:
        return self.spool.path(self.spool.report_name(uid)).read_bytes()

    def errors(self) -> list[str | None]:
        return [row["last_error"] for row in self.ledger.db.rows("SELECT last_error FROM deliveries ORDER BY id")]


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    sender = Sender(tmp_path / "node")
    yield sender
    sender.ledger.close()
