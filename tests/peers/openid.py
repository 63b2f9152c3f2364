"""A certified OpenID provider: npm's ``oidc-provider``, which ``make peers`` installs, run by Node."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.peers.process import OwnedProcess, find_free_port, is_listening, require

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".cache" / "openid" / "node_modules" / "oidc-provider" / "lib" / "index.js"
SCRIPT = Path(__file__).with_name("openid_provider.mjs")
CLIENT_ID, CLIENT_SECRET = "qc-node", "s3cret-of-the-client"


class OpenidProvider(OwnedProcess):
    """The provider at :attr:`issuer`; it knows one client, that of the node at `base`."""

    def __init__(self, folder: Path, base: str) -> None:
        (node,) = require("node")
        if not INSTALLED.is_file():
            sentence = "npm's oidc-provider is not installed (make peers)"
            if os.environ.get("QC_NODE_REQUIRE_PEERS") == "1":
                pytest.fail(sentence)
            pytest.skip(sentence)
        self.port = find_free_port()
        self.issuer = f"http://localhost:{self.port}"
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [f"{base}/sign-in/oidc/back"],
            "post_logout_redirect_uris": [f"{base}/sign-in"],
        }
        command = [node, str(SCRIPT), str(INSTALLED), str(self.port), json.dumps(client)]
        super().__init__(command, folder / "openid.log", lambda: is_listening(self.port))
