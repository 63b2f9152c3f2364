"""What systemd is told: that the node takes images, and what it is doing (``sd_notify(3)``)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


def tell(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send assignments such as ``READY=1``; nothing happens where no service manager wants to know.

    Parameters
    ----------
    environ
        Its ``NOTIFY_SOCKET`` is a path, or a name in the abstract namespace behind an ``@``.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        notify.sendall("\n".join(lines).encode())
