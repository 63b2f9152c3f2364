"""What keeps the repository in order: versions, locks, documents, templates, commits."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import qc_node
from tests.conftest import stays_together

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.txt", "requirements-cpu.txt")


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


# -- versions --------------------------------------------------------------------------------------------
def test_one_version_everywhere() -> None:
    version = qc_node.__version__
    assert PROJECT["version"] == version
    assert f"image: qc-node:{version}\n" in text("deploy", "compose.yaml")
    assert f"version {version}, of the qc-node project" in text("docs", "conformance.md")
    assert f"QCNODE_{version} |" in text("docs", "conformance.md")
    assert len(f"QCNODE_{version}") <= 16, "the implementation version name is an SH"


def test_every_version_in_the_changelog_has_a_date_and_the_newest_is_this_one() -> None:
    headings = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    if headings[0] == "Unreleased":  # what is merged and in no version yet
        headings = headings[1:]
    parsed = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", heading) for heading in headings]
    assert all(parsed), headings
    found = [(match[1], match[2]) for match in parsed if match]
    assert found[0][0] == qc_node.__version__
    assert [date for _, date in found] == sorted((date for _, date in found), reverse=True)
    numbers = [tuple(map(int, version.split("."))) for version, _ in found]
    assert numbers == sorted(set(numbers), reverse=True)


# -- locks -----------------------------------------------------------------------------------------------
Pins = dict[str, dict[str, Marker | None]]
"""Package → version → where it is installed; a package may be pinned differently for older Pythons."""


def pins(name: str) -> Pins:
    """What a lock pins; a line without hashes fails."""
    found: Pins = {}
    joined = text("deploy", name).replace("\\\n", " ")
    for line in joined.splitlines():
        if not line or line.lstrip().startswith("#"):
            continue
        stated, *hashes = line.split("--hash=sha256:")
        assert hashes and all(re.fullmatch(r"[0-9a-f]{64}", h.strip()) for h in hashes), f"no hashes: {stated}"
        requirement = Requirement(stated)
        (pin,) = requirement.specifier
        assert pin.operator == "==", stated
        found.setdefault(canonicalize_name(requirement.name), {})[pin.version] = requirement.marker
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_locked_in_a_version_that_fits(lock: str) -> None:
    locked = pins(lock)
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["fhircast"]]:
        requirement = Requirement(line)
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in deploy/{lock}; run: make lock"
        for version in versions:
            assert requirement.specifier.contains(version, prereleases=True), f"{line}: {version} in {lock}"


def test_the_locks_differ_in_the_build_of_torch_and_in_nothing_else() -> None:
    tested = re.findall(r"^torch==(\S+)$", text("constraints.txt"), re.MULTILINE)
    default, cpu = (pins(lock) for lock in LOCKS)
    assert [*default["torch"]] == tested
    assert [v.partition("+")[0] for v in cpu["torch"]] == tested
    assert all(v.endswith("+cpu") for v in cpu["torch"] if "+" in v)
    only_default = default.keys() - cpu.keys()
    assert all(re.match(r"nvidia-|cuda-|triton$", name) for name in only_default), only_default
    assert only_default, "the default build of torch brings its CUDA libraries on Linux"
    assert not cpu.keys() - default.keys()
    assert {n: {*v} for n, v in cpu.items() if n != "torch"} == {
        n: {*v} for n, v in default.items() if n != "torch" and n not in only_default
    }


def test_what_builds_the_wheel_is_locked() -> None:
    needs = tomllib.loads(text("pyproject.toml"))["build-system"]["requires"]
    locked = pins("requirements-build.txt")
    for line in needs:
        requirement = Requirement(line)
        assert all(requirement.specifier.contains(v) for v in locked[canonicalize_name(requirement.name)])


# -- documents -------------------------------------------------------------------------------------------
def test_the_index_has_a_line_for_every_document() -> None:
    index = text("docs", "README.md")
    linked = re.findall(r"^- \[([^\]]+)\]\(([^)]+)\): \S.{10,}", index, re.MULTILINE)
    assert all(shown == Path(target).name for shown, target in linked)
    here = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert {target for _, target in linked if "/" not in target} == here
    assert "docs/README.md" in text("README.md"), "the first page leads to the index"


def test_the_makefile_explains_each_of_its_targets() -> None:
    makefile = text("Makefile")
    header = makefile.split("\n\n")[0]
    phony = re.search(r"^\.PHONY: help (.+)$", makefile, re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert re.search(rf"\b{target}\b", header), f"{target} is not in the first lines of the Makefile"
    for variable in re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE):
        assert variable in header, f"{variable} is not in the first lines of the Makefile"


def test_the_recipes_are_complete() -> None:
    page = text("CONTRIBUTING.md")
    recipes = re.split(r"^### ", page.split("## Ten changes")[1].split("\n## ")[0], flags=re.MULTILINE)[1:]
    assert len(recipes) >= 10
    for recipe in recipes:
        title = recipe.splitlines()[0]
        assert "**Files**" in recipe, f"{title}: which files?"
        assert "**Forgotten?**" in recipe, f"{title}: what fails when a part is forgotten?"
    known = set(re.findall(r"def (test_\w+)", "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py"))))
    for name in re.findall(r"`(test_\w+)`", page):
        assert name in known, f"CONTRIBUTING.md speaks of {name}"


def test_every_marker_is_explained() -> None:
    markers = tomllib.loads(text("pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    page = text("CONTRIBUTING.md")
    for marker in markers:
        assert f"`{marker.split(':')[0]}`" in page, marker


# -- the forge -------------------------------------------------------------------------------------------
def loaded(*parts: str) -> Any:
    return yaml.safe_load(text(*parts))


def test_the_workflow_calls_the_same_script_on_every_python() -> None:
    workflow = loaded(".github", "workflows", "ci.yml")
    (job,) = workflow["jobs"].values()
    pythons = job["strategy"]["matrix"]["python"]
    assert pythons == sorted(pythons, key=lambda v: int(v.split(".")[1]))
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    stated = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert stated == set(pythons)
    assert any(".ci/run" in step.get("run", "") for step in job["steps"])
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}" and "PYTHON ?=" in text("Makefile")
    targets = re.findall(r"'(test[a-z-]*)'", str(job["steps"][-1]["run"]))
    assert targets and all(re.search(rf"^{t}:", text("Makefile"), re.MULTILINE) for t in targets)


FORMS = sorted(p.name for p in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if p.name != "config.yml")


@pytest.mark.parametrize("name", FORMS)
def test_issue_forms_are_what_the_forge_reads(name: str) -> None:
    form = loaded(".github", "ISSUE_TEMPLATE", name)
    assert set(form) == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(ids)) == len(ids) >= 3
    for field in form["body"]:
        assert field["type"] in {"markdown", "input", "textarea", "dropdown"}
        assert field["attributes"].get("value" if field["type"] == "markdown" else "label")
        if field["type"] == "dropdown":
            options = field["attributes"]["options"]
            assert len(options) > 1 and all(isinstance(option, str) for option in options)
    if name != "idea.yml":
        assert "No patient data" in str(form["body"][0]), "whoever reports is told first"


def test_hooks_run_programs_that_the_project_installs() -> None:
    (repo,) = loaded(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local", "nothing is fetched from elsewhere"
    makefile, dev = text("Makefile"), " ".join(PROJECT["optional-dependencies"]["dev"])
    for hook in repo["hooks"]:
        if hook["language"] == "system":
            program = hook["entry"].split()[0].removeprefix(".venv/bin/")
            assert f"$(BIN)/{program}" in makefile, "the hooks say what `make lint` says"
            assert program in dev or program == "lint-imports"


# -- commits ---------------------------------------------------------------------------------------------
SINCE = "855c4e3"
"""Commits before this one are older than the habit."""
MOST = 72


def test_the_hook_measures_subjects() -> None:
    hooks = loaded(".pre-commit-config.yaml")["repos"][0]["hooks"]
    (pattern,) = [hook["entry"] for hook in hooks if hook.get("stages") == ["commit-msg"]]
    too_long = re.compile(pattern, re.MULTILINE)
    assert too_long.search("x" * (MOST + 1) + "\n\nbody")
    assert not too_long.search("x" * MOST + "\n\n" + "y" * 115)


def test_subjects_of_commits_are_short() -> None:
    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    try:
        known = git("cat-file", "-e", f"{SINCE}^{{commit}}").returncode == 0
    except FileNotFoundError:
        known = False
    if not known:
        pytest.skip("the history is not here (an archive, a shallow clone, or no git)")
    log = git("log", "--no-merges", "--format=%h %s", f"{SINCE}..HEAD").stdout.splitlines()
    long = [line for line in log if len(line.partition(" ")[2]) > MOST]
    assert not long, f"at most {MOST} characters: {long}"


def test_a_wheel_holds_the_program_and_nothing_else() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["qc_node"]
    assert all(target.startswith("qc_node/") for target in wheel["force-include"].values())


def test_modules_that_share_a_node_stay_in_one_process() -> None:
    assert stays_together("tests/end_to_end/test_spine.py") and stays_together("tests/web/test_browser.py")
    assert not stays_together("tests/domain/test_verdict.py") and not stays_together("no/such/test.py")
