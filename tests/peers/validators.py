"""Three independent readers that say whether a Structured Report or key object is valid.

``dciodvfy`` (dicom3tools) checks modules and attributes, ``dsrdump`` (DCMTK) reads the content tree against
the IOD's relationship rules, PixelMed's ``DicomSRValidator`` checks the template (TID 1500, TID 2010).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import environment, require

JAVA_LIMITS = (
    "-Djdk.xml.xpathExprGrpLimit=0",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
)
"""Java 17's default XPath limits are too small for PixelMed's template rules."""

JAVA_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""A program that runs for some seconds is done before the optimising compiler pays off: half the time."""

JARS = Path("/usr/share/java")
MANY_FILES = Path(__file__).with_name("ValidateReports.java")


@dataclass(frozen=True)
class Verdict:
    """What the readers found in one file."""

    path: Path
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether no reader found an error."""
        return not self.errors


def _lines(command: Sequence[str], timeout: float = 240) -> tuple[int, list[str]]:
    done = subprocess.run(
        command,
        env=environment(),
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout.decode(errors="replace").splitlines()


def check_iod(path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of ``dciodvfy``."""
    (program,) = require("dciodvfy")
    _, lines = _lines([program, str(path)])
    return [s for s in lines if s.startswith("Error")], [s for s in lines if s.startswith("Warning")]


def check_tree(path: Path) -> list[str]:
    """Errors of ``dsrdump``; anything said on standard error counts."""
    (program,) = require("dsrdump")
    done = subprocess.run([program, "-q", str(path)], capture_output=True, timeout=60, check=False)
    errors = done.stderr.decode(errors="replace").splitlines()
    return errors + ([] if done.returncode == 0 else [f"dsrdump ended with {done.returncode}"])


def check_templates(paths: Sequence[Path]) -> dict[Path, tuple[list[str], list[str]]]:
    """Errors and warnings of PixelMed's validator, by file: 7 s for the start and 3 s for each."""
    java, _ = require("java", "javac")
    if not (JARS / "pixelmed.jar").exists():
        require("pixelmed.jar")
    classpath = ":".join(str(p) for p in sorted(JARS.glob("*.jar")))
    code, lines = _lines(
        [java, *JAVA_QUICK, *JAVA_LIMITS, "-cp", classpath, str(MANY_FILES), *map(str, paths)], 900
    )
    if code:
        raise AssertionError("PixelMed's validator did not run:\n" + "\n".join(lines[-20:]))
    said: dict[str, list[str]] = {str(path): [] for path in paths}
    about: list[str] = []
    for line in lines:
        if line.startswith("@@ "):
            about = said[line[3:]]
        about.append(line)
    return {path: _of_template(said[str(path)]) for path in paths}


def _of_template(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    errors = [s for s in lines if s.startswith("Error") or "Exception" in s]
    # PixelMed looks for a root template in Enhanced and Comprehensive SR only
    found = r"Found Root Template TID_(1500|2010)|Found BasicTextSR IOD"
    if not any(re.search(found, s) for s in lines):
        errors.append("PixelMed: root template TID 1500 or 2010 not recognised")
    return errors, [s for s in lines if s.startswith("Warning")]


def validate(paths: Sequence[Path], *, template: bool = False, workers: int = 2) -> list[Verdict]:
    """What ``dciodvfy``, ``dsrdump`` and, when asked for, PixelMed's template validator find in `paths`."""
    require("dciodvfy", "dsrdump", *(["java", "javac"] if template else []))
    of_template = check_templates(paths) if template else {}

    def check(path: Path) -> Verdict:
        errors, warnings = check_iod(path)
        more, soft = of_template.get(path, ([], []))
        return Verdict(path, (*errors, *check_tree(path), *more), (*warnings, *soft))

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(check, paths))
