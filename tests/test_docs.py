"""The docs speak of what there is: every command, setting, metric and check; every link leads somewhere."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from qc_node.cli.main import main_group
from qc_node.config import LISTS, sections
from qc_node.domain import VoteChannel
from qc_node.operations import metrics
from qc_node.operations.health import HealthCode
from qc_node.report.codes import private_codes
from tests.operations.test_deploy import existing_metrics

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
CONFORMANCE = (DOCS / "conformance.md").read_text(encoding="utf-8")


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        yield path, group
        return
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(main_group))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_in_the_docs(path: tuple[str, ...]) -> None:
    assert f"`qc-node {' '.join(path)}" in OPERATIONS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help and len(command.help) > 20
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.opts[0]} has no help"


def test_the_docs_invent_no_command() -> None:
    known = {" ".join(path) for path in COMMANDS}
    groups = {" ".join(path[:-1]) for path in COMMANDS} - {""}
    for page in PAGES:
        for line in re.findall(r"qc-node ((?:[a-z-]+ ?)+)", "\n".join(re.findall(r"`[^`\n]+`", page.read_text()))):
            words = line.split()
            starts = {" ".join(words[:n]) for n in range(1, len(words) + 1)}
            assert starts & (known | groups), f"{page.name} speaks of `qc-node {line.strip()}`"


def test_the_docs_invent_no_make_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony and set(phony[1].split()) == targets
    for page in PAGES:
        code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
        used = re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(code))
        assert set(used) <= targets, page.name


def test_the_configuration_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("configuration", DOCS / "configuration.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/configuration.py"


def test_every_setting_is_on_the_configuration_page() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for section, model in sections().items():
        header = f"## `[[{section}]]`" if section in LISTS else f"## `[{section}]`"
        assert header in page
        table = page.split(header)[1].split("\n## ")[0]
        for key in model.model_fields:
            row = re.search(rf"^\| `{key}` \| [^|]+ \| (.+) \|$", table, re.MULTILINE)
            assert row and len(row[1]) > 8, f"{section}.{key}"


@pytest.mark.parametrize("name", sorted(n for n in existing_metrics() if n.startswith("qc_node_")))
def test_every_metric_is_in_the_docs(name: str) -> None:
    base = re.sub("_(bucket|sum|count)$", "", name)
    labels = existing_metrics()[name] - {"le"}
    row = re.search(rf"^\| `{base}(?:\{{([^}}]*)\}})?` \|", OPERATIONS, re.MULTILINE)
    assert row, base
    assert set((row[1] or "").replace(" ", "").split(",")) - {""} == labels


@pytest.mark.parametrize(
    "values", ["stages", "OUTCOMES", "STEPS", "QUEUES", "DELIVERY_OUTCOMES", "VOTES", "SIGN_IN_WAYS"]
)
def test_every_label_value_is_in_the_docs(values: str) -> None:
    known = getattr(metrics, values)
    for value in known() if callable(known) else known:
        assert f"`{value}`" in OPERATIONS, value


@pytest.mark.parametrize("code", [c for c in HealthCode if c is not HealthCode.OK])
def test_every_health_code_is_in_the_docs(code: HealthCode) -> None:
    assert f"`{code.value}`" in OPERATIONS


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy" / "alerts.yml").read_text())
    for alert in alerts:
        assert f"**{alert}**" in OPERATIONS, alert


def test_every_alert_says_whom_it_wakes() -> None:
    """Critical ones at any hour, others on the next working day."""
    text = (ROOT / "deploy" / "alerts.yml").read_text()
    severities = dict(re.findall(r"alert: (\w+).*?severity: (\w+)", text, re.DOTALL))
    budget = OPERATIONS.split("## Alert budget")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| (QcNode\w+) \| ([^|]+) \| [^|]+ \| \d+ \|$", budget, re.M))
    wakes = {"critical": "on call", "warning": "working day"}
    assert rows == {name: wakes[severity] for name, severity in severities.items()}


def test_every_private_code_is_in_the_conformance_statement() -> None:
    for code in private_codes():
        assert f"| `{code.value}` | {code.meaning} |" in CONFORMANCE, code.value


def test_every_promise_is_held_by_tests_that_exist() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    known = set(re.findall(r"def (test_\w+)\(", tests))
    assert set(re.findall(r"\b(test_\w+)`", page)) <= known
    rows = page.split("## What is promised")[1].split("\n## ")[0].strip().splitlines()[2:]
    assert len(rows) > 20
    for row in rows:
        promise, against, held_by, _limits = (cell.strip() for cell in row.strip("|").split("|"))
        assert against and re.findall(r"`(test_\w+)`", held_by), f"no test holds: {promise or against}"
    assert rows[0].split("|")[1].strip(), "a row without a promise belongs to the one above it"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_name_files_that_exist(page: Path) -> None:
    for name in re.findall(r"`((?:qc_node|deploy|docs|tests|benchmarks|models)/[\w./-]+\.\w+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} speaks of {name}"


def test_every_vote_channel_is_in_the_docs() -> None:
    said = (ROOT / "docs" / "web.md").read_text()
    assert [channel.value for channel in VoteChannel if f"`{channel.value}`" not in said] == []


def test_every_vote_channel_is_cast_by_something() -> None:
    code = "".join(path.read_text() for path in (ROOT / "qc_node" / "web").rglob("*.py"))
    assert [channel.name for channel in VoteChannel if f"VoteChannel.{channel.name}" not in code] == []
