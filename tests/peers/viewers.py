"""Viewers that people use: OHIF as npm has it built, and what Debian's Orthanc brings, over Orthanc's DICOMweb."""

from __future__ import annotations

import hashlib
import http.client
import json
import mimetypes
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.peers.orthanc import Orthanc
from tests.peers.process import HOST, environment, require

CACHE: Final = Path(__file__).parents[2] / ".cache" / "ohif"
OHIF: Final = "3.12.10"
SHA512: Final = "d24b85eba32af5cf5d30"
"""The first digits of the tarball's digest; what the registry gives must be what was looked at."""
PLUGINS: Final = Path("/usr/share/orthanc/plugins")


def plugin(name: str) -> str:
    """The path of an Orthanc plug-in of Debian; as :func:`~tests.peers.process.require` where it is missing."""
    path = PLUGINS / name
    if not path.exists():
        require(name)
    return str(path)


def ohif() -> Path:
    """The folder of OHIF's files, fetched with npm once; a machine without a registry skips the test."""
    folder = CACHE / OHIF
    if (folder / "package" / "dist" / "index.html").exists():
        return folder / "package" / "dist"
    (npm,) = require("npm")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--silent", "--pack-destination", str(folder), f"@ohif/app@{OHIF}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment(), check=False)
    if done.returncode:
        pytest.skip(f"npm cannot fetch @ohif/app {OHIF}")
    tarball = folder / done.stdout.split()[-1]
    assert hashlib.sha512(tarball.read_bytes()).hexdigest().startswith(SHA512), "another OHIF than was looked at"
    with tarfile.open(tarball) as tar:
        tar.extractall(folder, filter="data")
    tarball.unlink()
    return folder / "package" / "dist"


def app_config() -> str:
    """OHIF's configuration: one data source, on the host that serves it."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "dicomweb",
        "configuration": {
            "friendlyName": "Orthanc",
            "name": "orthanc",
            "wadoUriRoot": "ORIGIN/dicom-web",
            "qidoRoot": "ORIGIN/dicom-web",
            "wadoRoot": "ORIGIN/dicom-web",
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "singlepart": "bulkdata,video",
        },
    }
    config: dict[str, Any] = {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 1,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "defaultDataSourceName": "dicomweb",
        "dataSources": [source],
    }
    return "window.config = " + json.dumps(config).replace('"ORIGIN', 'location.origin + "') + ";"


class OhifServer:
    """OHIF and an Orthanc behind one address, as a hospital's proxy has them."""

    def __init__(self, orthanc: Orthanc) -> None:
        files, upstream = ohif(), orthanc.http_port

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path.startswith("/dicom-web"):
                    self._forward()
                elif path == "/app-config.js":
                    self._answer(200, "text/javascript", app_config().encode())
                else:
                    file = files / path.lstrip("/")
                    file = file if file.is_file() and files in file.resolve().parents else files / "index.html"
                    kind = "application/wasm" if file.suffix == ".wasm" else mimetypes.guess_type(file.name)[0]
                    self._answer(200, kind or "application/octet-stream", file.read_bytes())

            def _forward(self) -> None:
                connection = http.client.HTTPConnection(HOST, upstream, timeout=60)
                kept = {k: v for k, v in self.headers.items() if k.lower() in ("accept", "host")}
                connection.request("GET", self.path, headers=kept)
                answer = connection.getresponse()
                self._answer(answer.status, answer.headers["Content-Type"] or "text/plain", answer.read())
                connection.close()

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: pytest's output is for tests."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
