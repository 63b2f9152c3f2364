"""A real Chromium, driven by chromedriver over plain HTTP (W3C WebDriver, REC 2018): no library needed."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Right": "\ue014", "Left": "\ue012"}


class WebDriverError(Exception):
    """What chromedriver answered instead of doing as told."""


class Chromium:
    """One browser with an empty profile; several windows share it.  `flags` are added to the command line."""

    def __init__(self, *flags: str) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self._port = s.getsockname()[1]
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        driver, browser = shutil.which("chromedriver"), shutil.which("chromium")
        assert driver and browser
        self._process = subprocess.Popen(
            [driver, f"--port={self._port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{self._port}"
        for _ in range(200):
            try:
                self._ask("GET", "/status")
                break
            except (OSError, WebDriverError):
                time.sleep(0.05)
        options = {"args": [*FLAGS, *flags, f"--user-data-dir={self._profile}"], "binary": browser}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self._session = self._ask("POST", "/session", {"capabilities": wanted})["sessionId"]

    def quit(self) -> None:
        try:
            self.do("DELETE", "")
        except (OSError, WebDriverError):
            self._process.kill()
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise WebDriverError(json.load(error)["value"]["message"]) from error

    def do(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command of this session."""
        return self._ask(method, f"/session/{self._session}{path}", body)

    # -- what a person does ------------------------------------------------------------------------
    def open(self, url: str) -> None:
        self.do("POST", "/url", {"url": url})

    def find(self, selector: str) -> str:
        found = self.do("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    def click(self, selector: str) -> None:
        self.do("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        self.do("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Press and release keys where the focus is."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self.do("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    # -- what a person sees ------------------------------------------------------------------------
    @property
    def url(self) -> str:
        return str(self.do("GET", "/url"))

    def script(self, code: str, *args: Any) -> Any:
        return self.do("POST", "/execute/sync", {"script": code, "args": list(args)})

    def script_async(self, code: str, *args: Any) -> Any:
        """Run a script that calls its last argument when it is done."""
        return self.do("POST", "/execute/async", {"script": code, "args": list(args)})

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def until(self, code: str, *args: Any, seconds: float = 30.0) -> Any:
        """Wait until a script returns something true."""
        end = time.monotonic() + seconds
        while True:
            try:
                found = self.script(code, *args)
            except WebDriverError:
                found = None  # the page is just being replaced
            if found or time.monotonic() > end:
                assert found, f"never came true: {code} {args}\n{self.script('return document.body.innerText')}"
                return found
            time.sleep(0.05)

    def until_text(self, selector: str, text: str) -> None:
        self.until("return document.querySelector(arguments[0])?.innerText.includes(arguments[1])", selector, text)

    def errors(self) -> list[str]:
        """What the browser complained about (scripts, refused content) since the last time."""
        entries = self.do("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if e["level"] == "SEVERE"]

    # -- windows and network -----------------------------------------------------------------------
    def window(self) -> str:
        return str(self.do("GET", "/window"))

    def new_window(self) -> str:
        handle = str(self.do("POST", "/window/new", {"type": "window"})["handle"])
        self.switch(handle)
        return handle

    def switch(self, handle: str) -> None:
        self.do("POST", "/window", {"handle": handle})

    def network(self, up: bool) -> None:
        """Cut or mend the network of this window."""
        conditions = {"offline": not up, "latency": 0, "download_throughput": -1, "upload_throughput": -1}
        self.do("POST", "/chromium/network_conditions", {"network_conditions": conditions})

    def resize(self, width: int, height: int) -> None:
        """Give the page (not the window) this size in CSS pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def theme(self, name: str) -> None:
        """What the system asks for: ``dark`` or ``light``, at once (colours do not fade over)."""
        asked = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in asked.items()])

    def devtools(self, command: str, **params: Any) -> Any:
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def picture(self, *, whole: bool = False) -> bytes:
        """What is in the window, or the whole page, as PNG."""
        if whole:
            data = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        else:
            data = self.do("GET", "/screenshot")
        return base64.b64decode(data)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        path.write_bytes(self.picture(whole=whole))
