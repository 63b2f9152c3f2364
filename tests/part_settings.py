"""Settings of the parts for tests: those of a node without a configuration, apart from what a test says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qc_node import intake, parts
from qc_node.completion.decide import CompletionPolicy
from qc_node.config import RuleSettings, Settings
from qc_node.config.settings import WebSettings
from qc_node.engine.orders import Rule
from qc_node.engine.worker import WorkerSettings
from qc_node.http_server import HttpLimits
from qc_node.outbox.writer import WritingSettings
from qc_node.receiver.settings import ReceiverSettings
from qc_node.web.settings import PromptPolicy, WebOptions

DEFAULTS = Settings()
SECRET = "a secret of at least thirty-two bytes"


def receiver_settings(**said: Any) -> ReceiverSettings:
    return replace(intake.receiver_settings(DEFAULTS), **said)


def completion_policy(**said: Any) -> CompletionPolicy:
    """Asks the PACS unless the test says otherwise."""
    return replace(parts.completion_policy(DEFAULTS), **({"ask_pacs": True} | said))


def worker_settings(data_dir: Path, models_dir: Path | str = "", **said: Any) -> WorkerSettings:
    made = parts.worker_settings(DEFAULTS)
    return replace(made, **({"data_dir": str(data_dir), "models_dir": str(models_dir)} | said))


def writing_settings(**said: Any) -> WritingSettings:
    return replace(parts.writing_settings(DEFAULTS), **said)


def web_options(**said: Any) -> WebOptions:
    options = parts.web_options(Settings(web=WebSettings(secret=SECRET)))
    return replace(options, **said)


def http_limits(**said: Any) -> HttpLimits:
    """Those of the listener for machines."""
    return replace(parts.metrics_limits(DEFAULTS), **said)


def prompt_policy(**said: Any) -> PromptPolicy:
    return replace(PromptPolicy(**DEFAULTS.prompt.model_dump()), **said)


def make_rule(order: str, **expected: Any) -> Rule:
    """A rule that expects this and nothing else."""
    nothing = {name: field.default for name, field in RuleSettings.model_fields.items()}
    return Rule(**(nothing | {"order": order} | expected))
