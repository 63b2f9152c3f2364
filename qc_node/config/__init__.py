"""The node's settings: one frozen object from a TOML file and the environment.

Every key of the file can be overridden by ``QC_NODE_SECTION__KEY``; the lists of tables (``[[peer]]``,
``[[scanner]]``, ``[[notify]]``, ``[[rule]]``) are replaced as a whole by ``QC_NODE_PEER`` and so on (JSON).  A key
that nobody knows and a value of the wrong type are refused with the file, the line and the key, because a typing
error that is silently ignored shows up weeks later as images that were never judged.

``docs/configuration.md`` and ``deploy/qc-node.toml`` explain every key; a test holds them to this module.
"""

from __future__ import annotations

from qc_node.config.changes import Change, change
from qc_node.config.loading import load
from qc_node.config.settings import (
    ENV_PREFIX,
    LISTS,
    PeerSettings,
    RuleSettings,
    Settings,
    default_models_dir,
    rules_digest,
    sections,
    variable_name,
)

__all__ = [
    "ENV_PREFIX",
    "LISTS",
    "Change",
    "PeerSettings",
    "RuleSettings",
    "Settings",
    "change",
    "default_models_dir",
    "load",
    "rules_digest",
    "sections",
    "variable_name",
]
