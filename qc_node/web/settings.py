"""What the web pages need to know and to reach; everything arrives here as an argument."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qc_node.domain import QcNodeError
from qc_node.domain.attention import Notice
from qc_node.http_server import HttpLimits
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReaderRow, VoteRow
from qc_node.spool import Spool
from qc_node.web.stations import Stations

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Host names under which only this machine reaches the pages."""

MIN_SECRET_BYTES = 32

Health = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Answers ``(ok, body)``; the body becomes the JSON of the health page."""


@dataclass(frozen=True, slots=True)
class PromptPolicy:
    """Whom to ask for a vote, and when (shares are probabilities in [0, 1]).

    ``random_share`` of all studies, stratified by scanner and protocol; ``double_share`` of the voted
    studies once more by somebody else, so that kappa can be computed; every verdict whose best answer
    has a probability below ``uncertain_below``; every conflict between model and human.  A prompt that
    is not answered within ``expire_h`` hours is recorded as such.
    """

    enabled: bool
    random_share: float
    double_share: float
    uncertain_below: float
    conflicts: bool
    expire_h: float


@dataclass(frozen=True, slots=True)
class OidcOptions:
    """The OpenID provider by which readers may sign in, too.

    Attributes
    ----------
    issuer
        As the provider names itself in its discovery document.
    client_secret
        None for a public client, which has PKCE alone.
    label
        What the sign-in page calls the accounts.
    claim
        Whose value is a reader's login.
    ca_file
        Certificates by which the provider's is checked; None: those that the machine trusts.
    create_readers, site
        Whether an unknown user becomes a reader of that site, if a group gives a role.
    role_claim, roles
        Claim that lists groups, and the role of each group, the first one counts.
    """

    issuer: str
    client_id: str
    client_secret: str | None
    label: str
    claim: str
    scopes: tuple[str, ...]
    ca_file: Path | None
    create_readers: bool
    site: str
    role_claim: str
    roles: Mapping[str, str]

    def role_of(self, groups: object) -> str | None:
        """The role of somebody in these groups (a list, or one name), None when no group has one."""
        named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        return next((role for group, role in self.roles.items() if group in named), None)


@dataclass(frozen=True, slots=True)
class WebOptions:
    """How the pages are served.

    Attributes
    ----------
    secret
        Signs sessions; at least 32 bytes.  :func:`load_or_make_secret` keeps one in the data folder.
    host
        Where the pages listen.  Anything but loopback needs readers and a configured secret.
    public_base
        ``https://qc.hospital.example`` where a reverse proxy serves the pages; its origin is then the
        only one that may send votes, and cookies become ``Secure`` when it is https.
    trusted_user_header, trusted_proxies
        Header in which a reverse proxy names the signed-in user (a reader's login), believed only
        from these addresses.
    blind
        The panel shows the machine's opinion only after the vote.
    frame_ancestors
        Origins that may embed the panel (a PACS that shows it in a side pane).
    session_days
        How long a sign-in holds; signing out ends it sooner.
    oidc
        The OpenID provider, if there is one.
    undo_s
        How long a vote can be taken back with one key.
    stations
        What scanners are called.
    calls_per_day
        How many calls of one scanner a day are fine; above that its card says so.
    vote_sr
        Whether each vote becomes an SR of its own in the PACS.
    fhircast_hubs
        Hub URLs that a launch may name; any other is refused.
    fhircast_token
        Bearer token (OAuth 2.0) that these hubs want; sent to them only.
    viewer_url
        Address of the department's image viewer with ``{study_uid}``, ``{series_uid}`` or ``{accession_number}``
        in it; None: no page offers to open a study there.
    theme
        ``system`` follows what the browser asks for; ``dark`` and ``light`` settle it for everybody.
    limits
        How many connections, and how long a request may take to arrive.
    """

    secret: str
    host: str
    public_base: str | None
    trusted_user_header: str | None
    trusted_proxies: tuple[str, ...]
    blind: bool
    frame_ancestors: tuple[str, ...]
    stations: Stations
    calls_per_day: int
    vote_sr: bool
    fhircast_hubs: tuple[str, ...]
    fhircast_token: str | None
    prompts: PromptPolicy
    limits: HttpLimits
    theme: str
    session_days: float
    viewer_url: str | None
    oidc: OidcOptions | None
    undo_s: float = 10.0
    max_body_bytes: int = 65_536
    requests_per_minute: int = 1200
    votes_per_minute: int = 90
    sign_ins_per_minute: int = 10
    fhircast_lease_s: int = 7200

    def __post_init__(self) -> None:
        if len(self.secret.encode()) < MIN_SECRET_BYTES:
            raise QcNodeError(f"web.secret is shorter than {MIN_SECRET_BYTES} bytes.")
        if self.public_base is not None and urlsplit(self.public_base).scheme not in ("http", "https"):
            raise QcNodeError("web.public_base is not an http or https address.")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the pages (no proxy is declared, either)."""
        return self.host in LOOPBACK and self.public_base is None and self.trusted_user_header is None

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies may travel over https only."""
        return (self.public_base or "").startswith("https://")


def _nothing(*_: Any) -> None:
    """A hook that nobody listens to."""


@dataclass(frozen=True, slots=True)
class Running:
    """What the process knows and the ledger does not.

    ``associations`` are open now (None: not known); ``models`` are loaded, as ``name version`` by stage.
    """

    associations: int | None = None
    models: Mapping[str, str] = field(default_factory=dict)


def _fine() -> tuple[bool, Mapping[str, Any]]:
    return True, {"status": "ok"}


@dataclass(frozen=True)
class WebDeps:
    """What the pages work with.

    ``on_vote(vote, site, modality)`` counts a new vote, ``on_failed_sign_in(way)`` a sign-in that failed,
    ``on_call(kind, outcome)`` what the board raises and what becomes of it; ``notify`` has other systems told, in
    the transaction of what it is about; ``report_vote(vote_row, reader_row)`` sends a vote to the PACS as its own
    SR where that is wished; ``rng`` draws the prompts; ``notice`` says what the board should say of the node itself
    (models are being loaded), or nothing; ``running`` what operators see beside the ledger.
    """

    ledger: Ledger
    spool: Spool
    web: WebOptions
    clock: Callable[[], float] = time.time
    healthz: Health = _fine
    readyz: Health = _fine
    takes: Health = _fine
    notice: Callable[[], str] = str
    running: Callable[[], Running] = Running
    on_vote: Callable[[str, str, str], None] = _nothing
    on_failed_sign_in: Callable[[str], None] = _nothing
    on_call: Callable[[str, str], None] = _nothing
    notify: Callable[[Notice], None] = _nothing
    report_vote: Callable[[VoteRow, ReaderRow], None] = _nothing
    rng: random.Random = field(default_factory=random.SystemRandom)


def check_bind(web: WebOptions, readers: int, *, secret_configured: bool) -> None:
    """Refuse to open the pages to the network before anybody can be told apart on it.

    Raises
    ------
    QcNodeError
        The host is not loopback, and there is no reader or no configured secret.
    """
    if web.host in LOOPBACK:
        return
    if not secret_configured:
        raise QcNodeError(f"web.host is {web.host}, which needs web.secret to be configured.")
    if readers == 0:
        raise QcNodeError(f"web.host is {web.host}, which needs a reader (qc-node readers add).")


def load_or_make_secret(path: Path) -> str:
    """The secret kept in `path`, made (256 bits, readable by this user only) when missing.

    Raises
    ------
    QcNodeError
        The file cannot be read or written.
    """
    try:
        if not path.exists():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as stream:
                stream.write(secrets.token_hex(32))
        return path.read_text().strip()
    except OSError as error:
        raise QcNodeError(f"The web secret {path} cannot be used: {error.strerror or error}.") from error
