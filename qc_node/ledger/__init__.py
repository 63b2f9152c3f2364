"""The ledger: one table per noun, a file per table, and the only SQL of the program.

Every step of the walk is *read row, do pure work, write row*; whatever a ``kill -9`` interrupts is found
again here.  Rows are typed (:mod:`qc_node.ledger.rows`).
"""

from __future__ import annotations

from pathlib import Path

from qc_node.ledger.alarms import Alarms
from qc_node.ledger.audit import Audit
from qc_node.ledger.cases import Cases
from qc_node.ledger.contexts import Contexts
from qc_node.ledger.control_charts import ControlCharts
from qc_node.ledger.database import Database, prove_writable
from qc_node.ledger.deliveries import Deliveries
from qc_node.ledger.gradings import Gradings
from qc_node.ledger.history import History
from qc_node.ledger.instances import Instances, Received
from qc_node.ledger.integrity import LedgerDamagedError, LedgerError, damaged, quick_check
from qc_node.ledger.kept_inputs import KeptInputs
from qc_node.ledger.labels import Labels
from qc_node.ledger.measured import MeasuredTable
from qc_node.ledger.models import Models
from qc_node.ledger.notifications import Notifications
from qc_node.ledger.patients import Patients
from qc_node.ledger.prompts import Prompts
from qc_node.ledger.readers import Readers
from qc_node.ledger.relinks import Relinks
from qc_node.ledger.removals import Removals
from qc_node.ledger.search import SeriesSearch
from qc_node.ledger.series import SeriesTable
from qc_node.ledger.sessions import Sessions
from qc_node.ledger.studies import Studies
from qc_node.ledger.summaries import Summaries
from qc_node.ledger.verdicts import Verdicts
from qc_node.ledger.votes import NewAct, NewVote, Votes

__all__ = ["Ledger", "LedgerDamagedError", "LedgerError", "NewAct", "NewVote", "Received"]


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
        self.search = SeriesSearch(self.db)
        self.studies = Studies(self.db)
        self.verdicts = Verdicts(self.db)
        self.models = Models(self.db)
        self.deliveries = Deliveries(self.db)
        self.readers = Readers(self.db)
        self.cases = Cases(self.db)
        self.votes = Votes(self.db)
        self.alarms = Alarms(self.db)
        self.sessions = Sessions(self.db)
        self.contexts = Contexts(self.db)
        self.notifications = Notifications(self.db)
        self.labels = Labels(self.db)
        self.prompts = Prompts(self.db)
        self.gradings = Gradings(self.db)
        self.audit = Audit(self.db)
        self.relinks = Relinks(self.db)
        self.removals = Removals(self.db)
        self.summaries = Summaries(self.db)
        self.patients = Patients(self.db)
        self.history = History(self.db)
        self.measured = MeasuredTable(self.db)
        self.kept_inputs = KeptInputs(self.db)
        self.control_charts = ControlCharts(self.db)

    def prove_writable(self, timeout_s: float = 2.0) -> None:
        """Write a row on a connection of its own and remove it again.

        Raises
        ------
        QcNodeError
            Another writer holds the lock for longer than `timeout_s`; the disk is full, read-only or gone.
        """
        prove_writable(self.db.path, timeout_s)

    @property
    def damage(self) -> str | None:
        """What has shown that the file is damaged, as a sentence; None as long as nothing has."""
        return self.db.damage

    def look_for_damage(self, limit_s: float) -> None:
        """Walk through the whole file, for at most `limit_s` seconds; what is found stays in :attr:`damage`."""
        with self.db.explaining():
            found = quick_check(self.db.path, limit_s)
        if found.problems:
            self.db.note_damage(str(damaged(self.db.path, found.problems[0])))

    def close(self) -> None:
        """Close the calling thread's connection."""
        self.db.close()
