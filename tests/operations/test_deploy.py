"""What is deployed beside the node: it loads, it is complete, and it speaks of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from qc_node.config import LISTS, Settings, load, sections
from qc_node.domain import Finding, ModelIdentity, Question, Stage, Verdict
from qc_node.operations.metrics import Metrics
from tests.peers.process import require

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SAMPLE = (DEPLOY / "qc-node.toml").read_text(encoding="utf-8")
LOCKS = ("requirements-cpu.txt", "requirements.txt")
EVERYTHING = re.sub(r"^#(?=[a-z\[])", "", SAMPLE, flags=re.MULTILINE)
"""The sample with every option that is off taken in."""


# -- qc-node.toml ----------------------------------------------------------------------------------------
def test_the_sample_configuration_is_the_defaults() -> None:
    settings = load(DEPLOY / "qc-node.toml", {})
    given = settings.model_dump(mode="json")
    (peer,) = given.pop("peer")
    expected = Settings().model_dump(mode="json")
    assert expected.pop("peer") == []
    assert (given["pacs"].pop("summary"), expected["pacs"].pop("summary")) == ("all", "none"), (
        "on for new sites only"
    )
    assert given == expected
    assert (peer["ae_title"], peer["host"], peer["role"]) == ("STORESCU", "127.0.0.1", ["accept"])


def test_the_sample_loads_with_every_option_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "qc-node.toml"
    path.write_text(EVERYTHING)
    settings = load(path, {})
    assert [p.name for p in settings.peer] == ["tools-here", "PACS", "MR1", "OLD"]
    assert len(settings.rule) == 1


def test_every_option_is_in_the_sample_and_explained() -> None:
    data = tomllib.loads(EVERYTHING)
    for section, model in sections().items():
        tables = data[section] if section in LISTS else [data[section]]
        given = {key for table in tables for key in table}
        assert given == set(model.model_fields), section
    lines = SAMPLE.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[a-z_]+ = ", line) and not line.startswith(
            ("#name", "#ae_title", "#host", "#port", "#role")
        ):
            before = "\n".join(lines[max(0, number - 12) : number])
            assert re.search(r"^#( |$)", before, re.MULTILINE), f"line {number + 1} is not explained: {line}"


# -- containers ------------------------------------------------------------------------------------------
def test_the_variables_of_the_containers_are_settings() -> None:
    dockerfile = dict(re.findall(r"\b(QC_NODE_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    image = load(None, dockerfile)
    assert image.node.host == "0.0.0.0" and str(image.node.data_dir) == "/var/lib/qc-node"
    compose = (DEPLOY / "compose.yaml").read_text()
    variables = dict(re.findall(r"^ +(QC_NODE_\w+): (.+)$", compose, re.MULTILINE))
    values = {name: "0" * 32 if "$" in value else value.strip("\"'") for name, value in variables.items()}
    node = load(None, dockerfile | values)
    assert node.pacs.destination == "PACS"
    assert (
        node.peer_named("PACS").ae_title
        == json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())["DicomAet"]
    )


def test_the_container_is_not_root_and_watches_its_health() -> None:
    text = (ROOT / "Dockerfile").read_text()
    final = text.rsplit("FROM ", 1)[1]
    assert re.search(r"^USER [1-9]\d*", final, re.MULTILINE)
    assert "HEALTHCHECK" in final and "/healthz" in final
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    for lock in LOCKS:
        for source in " ".join(copied).replace("${LOCK}", lock).split():
            assert f"!{source}" in ignored, f"{source} is copied and ignored"
            assert (ROOT / source).exists(), f"{source} is copied and does not exist"


def test_the_makefile_installs_the_tested_torch_first_and_alone() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "grep '^torch==' constraints.txt" in makefile
    assert "-c constraints.txt" in makefile
    assert makefile.index("$(TORCH) $${index") < makefile.index("-c constraints.txt -e")


def test_the_container_installs_what_is_locked_and_nothing_else() -> None:
    """tests/test_habits.py compares the locks with pyproject.toml and constraints.txt."""
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:install|wheel) [^&\n]+", dockerfile)
    assert len(installs) == 4
    for line in installs:
        assert "--require-hashes -r" in line or "--no-deps" in line, line
    assert "--no-build-isolation" in dockerfile, "the build tools are the locked ones"
    (default,) = re.findall(r"^ARG LOCK=(\S+)$", dockerfile, re.MULTILINE)
    assert default == "requirements-cpu.txt" and default in LOCKS


# -- systemd ---------------------------------------------------------------------------------------------
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))


@pytest.mark.parametrize("name", [*UNITS, "qc-node-backup.timer"])
def test_the_units_are_valid(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    for found in (*UNITS, "qc-node-backup.timer"):  # a timer is verified with its service
        text = (DEPLOY / found).read_text()
        (tmp_path / found).write_text(text.replace("/opt/qc-node/bin/qc-node", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0 and name not in result.stderr, result.stderr


@pytest.mark.parametrize("name", UNITS)
def test_the_units_start_commands_that_exist(name: str) -> None:
    from qc_node.cli.main import main_group

    text = (DEPLOY / name).read_text()
    lines = re.findall(r"^Exec\w+=/opt/qc-node/bin/qc-node (.+)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        command: Any = main_group
        for word in line.split(" --")[0].split():
            if word.startswith("/"):
                continue
            command = command.get_command(click.Context(command), word)
            assert command is not None, line


# -- Prometheus and Grafana ------------------------------------------------------------------------------
def existing_metrics() -> dict[str, set[str]]:
    """Name of every sample that a busy node shows, with its labels."""
    metrics = Metrics(["MR1"], ["PACS"], ["chat"])
    model = ModelIdentity("quality", "1.0", "ab" * 32)
    metrics.vote("good", "North", "MR")
    metrics.step("infer", 0.1)
    metrics.model(Stage.CT, model)
    metrics.verdict(Verdict(Stage.CT, model, (Finding(Question.CONTRAST_ENHANCED, True),)))
    unusual = {"measure": "noise", "kind": "drift"}
    found = {"state": "judged", "modality": "MR", "station": "MR2", "measures": {}, "unusual": [unusual]}
    metrics.measures.finished({**found, "departures": [{"parameter": "echo_time"}]})
    metrics.measures._drifting.labels("MR2", "noise").set(1)
    metrics._checks.labels("worker").set(1)
    metrics._oldest.labels("queued").set(0)
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render().body.decode()):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


SCRAPE_LABELS = {"instance", "job"}


def assert_metrics_exist(expression: str) -> None:
    known = existing_metrics()
    used = re.findall(r"(qc_node_\w+)(?:\{([^}]*)\})?", expression)
    for name, matchers in used:
        assert name in known, f"{name} does not exist: {expression}"
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= known[name] | SCRAPE_LABELS, f"{name} has no {labels - known[name]}"


def test_alerts_use_metrics_that_exist() -> None:
    text = (DEPLOY / "alerts.yml").read_text()
    expressions = re.findall(r"expr: (?:\|\n)?((?:.|\n)+?)\n +(?:for|labels):", text)
    assert len(expressions) == text.count("- alert:")
    for expression in expressions:
        assert_metrics_exist(expression)


def test_promtool_accepts_rules_and_configuration() -> None:
    (promtool,) = require("promtool")
    subprocess.run(
        [promtool, "check", "rules", DEPLOY / "alerts.yml"], check=True, timeout=60, capture_output=True
    )
    subprocess.run(
        [promtool, "check", "config", DEPLOY / "prometheus.yml"], check=True, timeout=60, capture_output=True
    )


@pytest.mark.slow
def test_every_alert_fires_on_its_fault_and_none_on_a_healthy_node() -> None:
    (promtool,) = require("promtool")
    tests = sorted(Path(__file__).parent.glob("alerts*_test.yml"))
    result = subprocess.run([promtool, "test", "rules", *tests], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    fired = {name for path in tests for name in re.findall(r"alertname: (\w+)\n\s+exp_alerts", path.read_text())}
    assert fired == set(re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yml").read_text()))


def test_the_dashboard_uses_metrics_that_exist() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "qc-node.json").read_text())
    shown = set()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert_metrics_exist(target["expr"].replace('instance=~"$instance"', 'instance="n"'))
            shown |= set(re.findall(r"qc_node_\w+", target["expr"]))
    bases = {re.sub("_(bucket|sum|count|created)$", "", n) for n in existing_metrics() if n.startswith("qc_node_")}
    unseen = bases - {re.sub("_(bucket|sum|count)$", "", n) for n in shown} - {"qc_node_build_info"}
    assert not unseen, f"no panel shows {unseen}"


def test_the_dashboard_finds_its_data_source() -> None:
    source = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    uid = re.search(r"uid: (\S+)", source)
    text = (DEPLOY / "grafana" / "dashboards" / "qc-node.json").read_text()
    assert uid and set(re.findall(r'"uid": "(\w+)"\n', text)) == {uid[1]}
