"""Kills the whole node at one named point, once.

Every Python process below a test that sets ``QC_TEST_CRASH=module:Class.method:before|after:N`` runs this at
its start (``PYTHONPATH``).  At the N-th call of the method the process group gets SIGKILL, as from
``kill -9``: no handler runs, nothing is flushed.  ``QC_TEST_CRASH_FLAG`` names a file that is made first, so
that the restarted node lives.
"""

import importlib
import itertools
import os
import signal
from pathlib import Path
from typing import Any


def _install(module: str, attribute: str, when: str, number: int, flag: Path) -> None:
    class_name, method_name = attribute.split(".")
    owner = getattr(importlib.import_module(module), class_name)
    original = getattr(owner, method_name)
    calls = itertools.count(1)

    def die() -> None:
        try:
            flag.touch(exist_ok=False)
        except FileExistsError:
            return
        os.killpg(0, signal.SIGKILL)

    def patched(*args: Any, **kwargs: Any) -> Any:
        turn = next(calls)
        if when == "before" and turn == number:
            die()
        result = original(*args, **kwargs)
        if when == "after" and turn == number:
            die()
        return result

    setattr(owner, method_name, patched)


if "QC_TEST_CRASH" in os.environ and not Path(os.environ["QC_TEST_CRASH_FLAG"]).exists():
    _module, _attribute, _when, _number = os.environ["QC_TEST_CRASH"].split(":")
    _install(_module, _attribute, _when, int(_number), Path(os.environ["QC_TEST_CRASH_FLAG"]))
