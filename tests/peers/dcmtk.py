"""DCMTK's programs: storescp with its fault switches, storescu, echoscu, dsrdump."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

from tests.peers.process import HOST, OwnedProcess, environment, find_free_port, is_listening, require


class StoreScp(OwnedProcess):
    """``storescp`` writing what it receives, byte for byte, into ``folder/received``.

    Parameters
    ----------
    switches
        DCMTK's own: ``--refuse``, ``--reject``, ``--ignore``, ``--abort-during``, ``--abort-after``,
        ``--sleep-during N``, ``--sleep-after N``, ``--fork`` …  Every transfer syntax is accepted (``+xa``).
    only
        UIDs of the SOP classes that are accepted, besides Verification, uncompressed; None: every one.
    """

    def __init__(
        self,
        folder: Path,
        *switches: str,
        ae_title: str = "STORESCP",
        port: int | None = None,
        accept: str = "+xa",
        only: Sequence[str] | None = None,
    ) -> None:
        (program,) = require("storescp")
        self.received_folder = folder / "received"
        self.received_folder.mkdir(parents=True, exist_ok=True)
        self.ae_title = ae_title
        self.port = port or find_free_port()
        command = [
            program,
            "-v",
            *(["-pm", accept] if only is None else ["-xf", str(association_profile(folder, only)), "Default"]),
            "-aet",
            ae_title,
            "-od",
            str(self.received_folder),
            "+B",
            *switches,
            str(self.port),
        ]
        super().__init__(command, folder / "storescp.log", lambda: is_listening(self.port))

    def received_files(self) -> list[Path]:
        """Files in the order of their arrival."""
        return sorted(self.received_folder.iterdir(), key=lambda p: (p.stat().st_mtime_ns, p.name))

    def received_uids(self) -> list[str]:
        """SOP Instance UIDs in the order of their arrival."""
        return [
            str(pydicom.dcmread(p, force=True, stop_before_pixels=True).SOPInstanceUID)
            for p in self.received_files()
        ]


def association_profile(folder: Path, sop_class_uids: Sequence[str]) -> Path:
    """DCMTK's configuration of what an association may have (``asconfig.txt``)."""
    classes = ["1.2.840.10008.1.1", *sop_class_uids]
    lines = ["[[TransferSyntaxes]]", "[Uncompressed]"]
    lines += ["TransferSyntax1 = LocalEndianExplicit", "TransferSyntax2 = LittleEndianImplicit"]
    lines += ["[[PresentationContexts]]", "[These]"]
    lines += [f"PresentationContext{n} = {uid}\\Uncompressed" for n, uid in enumerate(classes, 1)]
    lines += ["[[Profiles]]", "[Default]", "PresentationContexts = These"]
    path = folder / "associations.cfg"
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class Ran:
    """How a program ended."""

    code: int
    output: str

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.code == 0


EchoScu = Ran


def _run(command: Sequence[str], timeout: float) -> Ran:
    done = subprocess.run(
        command,
        env=environment(),
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"))


def store(
    paths: Sequence[Path],
    port: int,
    *switches: str,
    called: str = "QCNODE",
    calling: str = "STORESCU",
    timeout: float = 300.0,
) -> Ran:
    """Send files or folders with ``storescu`` as they are; folders are scanned.

    ``-xf`` is not used: storescu 3.6.7 proposes the uncompressed syntaxes, or what `switches` say
    (``-xs`` JPEG lossless, ``-xw`` JPEG 2000, ``-xr`` RLE …).
    """
    (program,) = require("storescu")
    command = [program, "-v", "-aet", calling, "-aec", called, "+sd", "+r", *switches, HOST, str(port)]
    return _run([*command, *map(str, paths)], timeout)


def echo(
    port: int, *switches: str, called: str = "QCNODE", calling: str = "ECHOSCU", timeout: float = 30.0
) -> Ran:
    """C-ECHO with ``echoscu``."""
    (program,) = require("echoscu")
    return _run([program, "-aet", calling, "-aec", called, *switches, HOST, str(port)], timeout)


def dsrdump(path: Path) -> Ran:
    """The tree that ``dsrdump`` prints, with codes."""
    (program,) = require("dsrdump")
    return _run([program, "-q", "+Pc", str(path)], 60)
