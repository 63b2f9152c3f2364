"""A data folder with reports that wait in the outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qc_node.dicom.association import Peer, Timeouts
from qc_node.ledger import Ledger
from qc_node.ledger.deliveries import WrittenObject
from qc_node.outbox.sending import Destination, Outbox, RetryPolicy
from qc_node.spool import Spool
from tests.report.sources import as_bytes, report

QUICK = Timeouts(connect=2.0, association=2.0, response=2.0, network=2.0)
SOON = RetryPolicy(first_s=0.05, cap_s=0.2)


class Post:
    """One node's outbox: reports are written, then the outbox is started or stepped."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool(root)
        self.ledger = Ledger(root / "ledger.sqlite")
        self.outcomes: list[tuple[str, str]] = []
        self.clock = 1000.0

    def write_reports(self, count: int, *destinations: str, first: int = 0) -> list[str]:
        """Put `count` reports into the line; returns their UIDs in order."""
        uids = []
        for number in range(first, first + count):
            ds = report(rules_digest=f"rules {number}", instance_number=number + 1)
            uid = str(ds.SOPInstanceUID)
            name = self.spool.report_name(uid)
            self.spool.store(name, as_bytes(ds))
            written = WrittenObject(
                uid,
                str(ds.SOPClassUID),
                None,
                str(ds.StudyInstanceUID),
                number,
                "sr",
                name,
            )
            self.ledger.deliveries.post([written], destinations or ("PACS",), self.clock)
            uids.append(uid)
        return uids

    def outbox(self, *peers: Peer, **options: object) -> Outbox:
        """An outbox to `peers`, on this test's clock unless `wall` says otherwise."""
        commitment = bool(options.pop("storage_commitment", False))
        options.setdefault("wall", lambda: self.clock)
        return Outbox(
            self.ledger,
            self.spool,
            [Destination(p, commitment) for p in peers],
            on_delivery=lambda row, destination, outcome: self.outcomes.append((destination, outcome)),
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
def post(tmp_path: Path) -> Iterator[Post]:
    house = Post(tmp_path / "node")
    yield house
    house.ledger.close()


@pytest.fixture
def peer_at() -> Callable[..., Peer]:
    """A peer on loopback with short timeouts."""

    def make(port: int, ae_title: str = "PACS", name: str = "PACS", timeouts: Timeouts = QUICK) -> Peer:
        return Peer(name, ae_title, "127.0.0.1", port, "QCNODE", timeouts)

    return make
