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


def _lines(command: Sequence[str]) -> tuple[int, list[str]]:
    done = subprocess.run(
        command,
        env=environment(),
        timeout=240,
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


def check_template(path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of PixelMed's validator; takes some 5-20 s."""
    (java,) = require("java")
    if not (JARS / "pixelmed.jar").exists():
        require("pixelmed.jar")
    classpath = ":".join(str(p) for p in sorted(JARS.glob("*.jar")))
    _, lines = _lines(
        [java, *JAVA_QUICK, *JAVA_LIMITS, "-cp", classpath, "com.pixelmed.validate.DicomSRValidator", str(path)]
    )
    errors = [s for s in lines if s.startswith("Error") or "Exception" in s]
    if not any(re.search(r"Found Root Template TID_(1500|2010)", s) for s in lines):
        errors.append("PixelMed: root template TID 1500 or 2010 not recognised")
    return errors, [s for s in lines if s.startswith("Warning")]


def validate(paths: Sequence[Path], *, template: bool = False, workers: int = 2) -> list[Verdict]:
    """What ``dciodvfy``, ``dsrdump`` and, when asked for, PixelMed's template validator find in `paths`."""
    require("dciodvfy", "dsrdump", *(["java"] if template else []))

    def check(path: Path) -> Verdict:
        errors, warnings = check_iod(path)
        errors += check_tree(path)
        if template:
            more, soft = check_template(path)
            errors, warnings = errors + more, warnings + soft
        return Verdict(path, tuple(errors), tuple(warnings))

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(check, paths))
