"""A child of tests/test_process.py: repeats what it hears, and does what its settings say."""

from __future__ import annotations

import os
import signal
import sys
import time

from qc_node.process import ParentProcess


def main() -> int:
    parent = ParentProcess()
    settings = parent.hear()
    if settings is None:
        return 0
    print("a library prints something", flush=True)
    if settings.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "fails" in settings:
        return int(settings["fails"])
    parent.say({"event": "ready", "pid": os.getpid(), "parent": os.getppid()})
    while (message := parent.hear()) is not None:
        if "leave" in message:
            time.sleep(message["leave"])
            parent.say({"event": "left"})
            return 0
        if "torn" in message:
            os.write(parent._out, b'not JSON\n{"event": "never fin')
            os.kill(os.getpid(), signal.SIGKILL)
        parent.say({"event": "heard", "message": message})
    return 0


if __name__ == "__main__":
    sys.exit(main())
