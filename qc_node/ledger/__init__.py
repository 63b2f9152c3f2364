"""The ledger: one table per noun, and the only SQL in the house.

Every step of the walk is *read row, do pure work, write row*; whatever a ``kill -9`` interrupts is found
again here.
"""

from __future__ import annotations

from pathlib import Path

from qc_node.ledger.database import Database
from qc_node.ledger.deliveries import Deliveries
from qc_node.ledger.instances import Instances, Received
from qc_node.ledger.series import SeriesTable
from qc_node.ledger.studies import Studies
from qc_node.ledger.verdicts import Verdicts

__all__ = ["Ledger", "Received"]


class Ledger:
    """All tables of one data folder.

    Parameters
    ----------
    path
        The SQLite file; created and migrated when needed.

    Raises
    ------
    QcNodeError
        The file cannot be opened or is newer than this program.
    """

    def __init__(self, path: Path) -> None:
        self.db = Database(path)
        self.instances = Instances(self.db)
        self.series = SeriesTable(self.db)
        self.studies = Studies(self.db)
        self.verdicts = Verdicts(self.db)
        self.deliveries = Deliveries(self.db)

    def close(self) -> None:
        """Close the calling thread's connection."""
        self.db.close()
