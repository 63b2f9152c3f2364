"""The models that gave verdicts here, and the names (champion, challenger, shadow) that weights bear."""

from __future__ import annotations

from qc_node.domain import ModelIdentity
from qc_node.ledger.database import Database
from qc_node.ledger.rows import AliasRow, ModelRow


class Models:
    """Weights are named by their digest; an alias is a row, the newest one counts, and the history stays."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def note(self, stage: str, model: ModelIdentity, at: float) -> None:
        """Remember that a model gave a verdict (the first time counts)."""
        with self._db.transaction() as conn:
            conn.execute(
                "INSERT OR IGNORE INTO models (sha256, name, version, stage, first_used) VALUES (?,?,?,?,?)",
                (model.sha256, model.name, model.version, stage, at),
            )

    def all(self) -> list[ModelRow]:
        """Every model that ever gave a verdict here."""
        return self._db.rows("SELECT * FROM models ORDER BY first_used", of=ModelRow)

    def give_alias(self, stage: str, alias: str, sha256: str, at: float, by: str) -> None:
        """From now on `alias` means these weights in `stage`."""
        row = {"stage": stage, "alias": alias, "sha256": sha256, "at": at, "by": by}
        self._db.insert("model_aliases", row)

    def alias(self, stage: str, alias: str) -> AliasRow | None:
        """What an alias means now."""
        sql = "SELECT * FROM model_aliases WHERE stage = ? AND alias = ? ORDER BY id DESC LIMIT 1"
        return self._db.row(sql, (stage, alias), of=AliasRow)

    def history(self, stage: str) -> list[AliasRow]:
        """Every alias of a stage that was ever given, oldest first."""
        sql = "SELECT * FROM model_aliases WHERE stage = ? ORDER BY id"
        return self._db.rows(sql, (stage,), of=AliasRow)
