"""The settings as frozen values: every section of the configuration is a class, every key a field.

The docstrings are the documentation: docs/configuration.md is made from them.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from qc_node.domain import BodyPart, QcNodeError

Loc = tuple[str | int, ...]
"""Where a value stands: section, index for a list of tables, key."""

PACKAGE = Path(__file__).resolve().parents[1]


def default_models_dir() -> Path:
    """Where the shipped weights are: inside an installed wheel, otherwise beside the package."""
    shipped = PACKAGE / "_models"
    return shipped if shipped.is_dir() else PACKAGE.parent / "models"


class MisplacedError(ValueError):
    """A fault of several keys together, blamed on one of them."""

    def __init__(self, loc: Loc, message: str) -> None:
        super().__init__(message)
        self.loc = loc


def _ae_title(value: str) -> str:
    if not 1 <= len(value) <= 16 or value != value.strip() or "\\" in value or not value.isascii():
        raise ValueError("must be an AE title: 1 to 16 ASCII characters, no backslash, no space at either end")
    if not value.isprintable():
        raise ValueError("must be an AE title without control characters")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", value):
        raise ValueError("must be 1 to 32 letters, digits, '_', '-' or '.'")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from None
    return value


def _secret(value: str) -> str:
    if len(value.encode()) < 32:
        raise ValueError("must have at least 32 bytes")
    return value


def _url(value: str) -> str:
    if not re.match(r"https?://[^\s/]+", value):
        raise ValueError("must be a http:// or https:// address")
    return value


VIEWERS = ("http", "https", "weasis", "radiant", "osirix", "horos", "miele-lxiv")
"""Schemes that open an image viewer, in the browser or on the PC; nothing that runs a script or reads a file."""
VIEWER_VALUES = ("study_uid", "series_uid", "accession_number")


def _viewer_url(value: str) -> str:
    scheme, _, rest = value.partition(":")
    if scheme not in VIEWERS or not rest or re.search(r"\s", value):
        raise ValueError(f"must begin with {', '.join(s + ':' for s in VIEWERS)} and have no space in it")
    named = re.findall(r"\{([^{}]*)\}", value)
    strange = next((name for name in named if name not in VIEWER_VALUES), None)
    known = ", ".join(f"{{{name}}}" for name in VIEWER_VALUES)
    if strange is not None or re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", value)):
        raise ValueError(f"has {{{strange}}}; known are {known}" if strange is not None else "has a single brace")
    if not named:
        raise ValueError(f"must have one of {known} in it, or it would always open the same")
    host = rest.removeprefix("//").split("/")[0].split("?")[0]
    if scheme in ("http", "https") and (not rest.startswith("//") or not host or "{" in host):
        raise ValueError("must name the viewer's host, which never depends on a study")
    return value


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(_name)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Url = Annotated[str, AfterValidator(_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


SrClass = Literal["comprehensive", "comprehensive3d", "basic-text"]


class _Section(BaseModel):
    """A table of the file; unknown keys are refused and nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodeSettings(_Section):
    """``[node]``: who the node is and where its data live."""

    ae_title: AeTitle = "QCNODE"
    """Application entity title that peers call, and that the node calls peers with."""
    host: Host = "127.0.0.1"
    """Address to listen on for DICOM; ``0.0.0.0`` for every network interface."""
    port: Port = 11112
    """TCP port for DICOM."""
    data_dir: Path = Path("qc-node-data")
    """Folder of ledger and spool, on one local file system; created when missing.  A relative path starts
    at the working directory."""
    log_format: Literal["text", "json"] = "text"
    """``text`` for eyes, ``json`` for a log collector (one object per line)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    accept_unknown_callers: bool = False
    """Take associations from AE titles that no ``[[peer]]`` with role ``accept`` names."""
    receive_processes: Annotated[int, Field(ge=1, le=32)] = 1
    """Processes that share the DICOM port.  One commits for all its associations at once; more help only where
    cores are idle and the disk syncs quickly."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 50
    """Associations at a time, over all receiving processes; the next one is refused as transient."""
    max_associations_per_peer: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many of these one calling AE title may have, and one address, so that no sender locks the others out.
    Without it a quarter of ``max_associations``, at least 4."""
    idle_s: Seconds = 120.0
    """How long an association may be silent between two messages; then it is aborted and its place is free."""
    on_changed: Literal["replace", "refuse"] = "replace"
    """What becomes of an object that comes again under its SOP Instance UID with other content (a corrected
    patient, a repaired file): ``replace`` keeps it, judges the series again and writes a new report; ``refuse``
    answers 0x0111 and keeps the first one."""


class PeerSettings(_Section):
    """``[[peer]]``: one DICOM application entity that the node knows."""

    name: Name
    """What the node calls this peer in commands, logs and metrics."""
    ae_title: AeTitle
    """Its application entity title."""
    host: Host | None = None
    """Its address; needed for the roles ``send`` and ``find``.  With ``accept`` it must then call from there."""
    port: Port | None = None
    """Its TCP port; needed for the roles ``send`` and ``find``."""
    role: tuple[Literal["send", "accept", "find"], ...] = ("accept",)
    """``accept``: it may store images here.  ``send``: the node may store reports there.  ``find``: the node
    may ask it by C-FIND how many instances a series has."""
    tls: bool = False
    """Speak DICOM over TLS to this peer.  This version refuses to start with it (docs/operations.md,
    "Encryption"): better no node than one that sends in clear what was meant to be secret."""
    quiet_s: Seconds | None = None
    """This sender's own quiet time in place of ``[completion] quiet_s``."""
    idle_s: Seconds | None = None
    """How long its associations may be silent, in place of ``[node] idle_s``."""
    sr_class: SrClass | None = None
    """SOP class of the reports that go there, in place of ``[pacs] sr_class``."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        outgoing = {"send", "find"} & set(self.role)
        for key in ("host", "port"):
            if outgoing and getattr(self, key) is None:
                wanted = " and ".join(sorted(outgoing))
                raise MisplacedError((key,), f"is missing: the role {wanted} of peer {self.name!r} needs it")
        return self


class PacsSettings(_Section):
    """``[pacs]``: where reports go and what they look like."""

    destination: str = ""
    """Name of the ``[[peer]]`` that gets the reports; empty: reports stay in the data folder."""
    also: tuple[Name, ...] = ()
    """Names of further peers that get everything as well, each in its own time."""
    storage_commitment: bool = True
    """Ask the destination for storage commitment; set it to false where that offers none, or an alert fires."""
    commitment_attempts: Annotated[int, Field(ge=1, le=1000)] = 10
    """Most requests for storage commitment of one object; after that it stays *sent*, with a note."""
    commitment_give_up_h: Positive = 72.0
    """Hours after the first request when the node ceases to ask; an answer that comes later still counts."""
    give_up_h: Positive = 72.0
    """Hours after which an object is *failed* that the destination, being there, does not take; others pass it
    meanwhile.  While the destination is away nothing is given up."""
    sr_class: SrClass = "comprehensive"
    """SOP class of the report: ``comprehensive``, which more viewers show; ``comprehensive3d``; or ``basic-text``
    for a PACS that takes nothing else, with probabilities as text.  `qc-node doctor` says what a PACS takes."""
    flag_object: bool = False
    """Also write a key object titled Quality Issue (113010, DCM) for a straight reject or tier 3."""
    summary: Literal["all", "attention-only", "none"] = "none"
    """Once a study is complete, also write a QC summary that every viewer shows: a Secondary Capture picture for
    each judged series, or only for those that need attention or do not fit their order."""
    report_measured_only: bool = False
    """Also write reports, and pictures by ``summary``, of series that were measured and not judged; when it is
    switched on, of those too whose images are still there."""


class CompletionSettings(_Section):
    """``[completion]``: when a series or a study counts as complete."""

    quiet_s: Seconds = 5.0
    """A series is complete after this long without a new image, where nothing better is known."""
    hard_cap_s: Seconds = 600.0
    """A series is closed after this long in any case."""
    ask_pacs: bool = True
    """Ask the peers with role ``find`` how many instances the series has."""
    confirm_s: Seconds = 30.0
    """How long a reject for missing coverage waits for late images before it is reported."""
    study_quiet_s: Seconds = 300.0
    """A study is complete after this long without a new image."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hard_cap_s < self.quiet_s:
            raise MisplacedError(("hard_cap_s",), f"must not be shorter than quiet_s ({self.quiet_s:g} s)")
        return self


class ClassifySettings(_Section):
    """``[classify]``: the classifier."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda:\d+)$")] = "auto"
    """``auto`` takes the first GPU if there is one, else the CPU."""
    batch: Annotated[int, Field(ge=1, le=256)] = 4
    """Most series judged together on a GPU; the CPU takes them one by one."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads of the classifier process; 0 takes as many as there are cores."""
    models_dir: Path = Field(default_factory=default_models_dir)
    """Folder of the weights (default: the ones that came with the program)."""


class MeasuresSettings(_Section):
    """``[measures]``: numbers of every MR, CT, CR, DX and MG series, and what is normal for its scanner."""

    enabled: bool = True
    """Measure every series, judged or not, and compare it with earlier ones of its scanner and protocol."""
    window: Annotated[int, Field(ge=120, le=240)] = 240
    """With how many of the newest series of the same scanner, software and protocol each is compared: 120 to
    240."""


class KeepSettings(_Section):
    """``[keep]``: de-identified pixels that models may learn from, of series of any modality.  Nothing names the
    patient, but **heads are recognisable** in them, as in the images.  They stay while the images do; after that
    those of series that were voted on, and of a sample, until ``[retention] keep_training_days``."""

    sampled_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of all series whose pixels stay although nobody voted on them; drawn by a secret of this node."""
    max_gb: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 20.0
    """So much (10^9 bytes) all of them take at most; beyond that the oldest without a vote go first.  0 keeps
    nothing beside what the classifiers keep."""


class WebSettings(_Section):
    """``[web]``: panel, board and review pages."""

    host: Host = "127.0.0.1"
    """Address to listen on; anything but loopback needs readers and ``secret``."""
    port: Port = 8080
    """TCP port of the pages."""
    secret: Annotated[str, AfterValidator(_secret)] | None = None
    """Key that signs session cookies, at least 32 bytes; better given as ``QC_NODE_WEB__SECRET``.  Without
    it the node makes one and keeps it in the data folder, and stays on loopback."""
    public_base: Url | None = None
    """Address under which a reverse proxy serves the pages; only its origin may then send votes."""
    trusted_user_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """HTTP header in which that proxy names the signed-in user."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses from which that header is believed."""
    frame_ancestors: tuple[Url, ...] = ()
    """Origins that may show the panel in a frame, such as a PACS with a side pane."""
    session_days: Annotated[float, Field(gt=0, le=400, allow_inf_nan=False)] = 90.0
    """Days after which a reader has to sign in again; 0.5 is a shift."""
    blind: bool = True
    """The panel shows the machine's verdict only after the vote."""
    viewer_url: Annotated[str, AfterValidator(_viewer_url)] | None = None
    """Address that opens a study in the department's viewer, as "Open in my viewer" on the review page; in it
    ``{study_uid}``, ``{series_uid}`` and ``{accession_number}`` become those of the series."""
    theme: Literal["system", "dark", "light"] = "system"
    """Colours of the pages: ``system`` follows the browser, ``dark`` suits a dark room whose PCs ask for
    light."""
    vote_sr: bool = False
    """Also send each vote to ``[pacs] destination`` as a Structured Report with its human observer."""
    fhircast_hubs: tuple[Url, ...] = ()
    """FHIRcast hubs that a launch may name; any other is refused."""
    fhircast_token: Annotated[str, Field(min_length=1)] | None = None
    """Bearer token that these hubs want; better given as ``QC_NODE_WEB__FHIRCAST_TOKEN``."""
    max_connections: Annotated[int, Field(ge=1, le=10000)] = 500
    """Connections at a time.  Beyond that the one that has waited longest without a whole request is closed for
    the new one; where all are in use (open boards and panels hold one each) the new one gets 503."""
    max_connections_per_address: Annotated[int, Field(ge=1, le=10000)] | None = None
    """How many of these one address may have; this does not hold for ``trusted_proxies``,
    through which many come.  Without it a quarter of ``max_connections``, at least 4;
    all of them with ``public_base``, as a proxy then stands in front."""
    request_s: Seconds = 10.0
    """Longest time for a whole request, head and body; the connection is closed after it."""


class ScannerSettings(_Section):
    """``[[scanner]]``: what a scanner is called on the pages."""

    station: Annotated[str, Field(min_length=1, max_length=64)]
    """Station Name (0008,1010) as the images carry it; of a scanner without one manufacturer, model and serial
    number with single spaces, or the AE title that it calls with.  Upper and lower case are the same."""
    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What people call it, such as ``MR 1 (room 3)``; scanners of one name share a card."""
    room: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Room, for a board that shows one room only: ``/live?scanner=ROOM``."""


class BoardSettings(_Section):
    """``[board]``: the technologists' board."""

    calls_per_day: Annotated[int, Field(ge=0, le=10000)] = 10
    """Calls of one scanner a day that are fine.  Above that the board says that it calls more than that; no call
    is held back."""


class OidcSettings(_Section):
    """``[oidc]``: readers sign in by the hospital's accounts, too (OpenID Connect).  Needs the extra ``oidc``."""

    issuer: Url | None = None
    """The provider, exactly as its ``/.well-known/openid-configuration`` names it; https, except on loopback.
    Register there the redirect address ``PUBLIC_BASE/sign-in/oidc/back``, and ``PUBLIC_BASE/sign-in`` for after
    signing out."""
    client_id: Annotated[str, Field(min_length=1)] | None = None
    """What the provider calls this node."""
    client_secret: Annotated[str, Field(min_length=1)] | None = None
    """Its secret; better given as ``QC_NODE_OIDC__CLIENT_SECRET``.  A public client has none."""
    label: Annotated[str, Field(min_length=1, max_length=60)] = "hospital account"
    """What the sign-in page calls the accounts: "Sign in by ..."."""
    claim: Annotated[str, Field(min_length=1)] = "preferred_username"
    """Claim that holds a reader's login.  It has to be unique, and nothing that users can change themselves."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked for; ``email`` too where that is the claim."""
    ca_file: Path | None = None
    """Certificates (PEM) by which the provider's is checked; without it those that the machine trusts."""
    create_readers: bool = False
    """Make a reader of whoever is unknown here and in one of the groups of ``roles``."""
    site: Annotated[str, Field(min_length=1)] | None = None
    """Centre of readers that are made."""
    role_claim: Annotated[str, Field(min_length=1)] = "groups"
    """Claim that lists a user's groups."""
    roles: dict[str, Literal["radiologist", "technologist", "expert", "physicist", "operator"]] = {}
    """The role of each group, the first that fits counts; only for readers that are made."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.issuer is None:
            return self
        if self.client_id is None:
            raise MisplacedError(("client_id",), "is needed with issuer")
        if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])([:/]|$)", self.issuer):
            raise MisplacedError(("issuer",), "must be https:// (http:// only on this machine)")
        if "openid" not in self.scopes:
            raise MisplacedError(("scopes",), "must hold openid")
        if self.create_readers and not (self.site and self.roles):
            raise MisplacedError(("create_readers",), "needs site, and roles that say which groups may vote")
        return self


class WebhookSettings(_Section):
    """``[webhook]``: tell another system that a series calls for attention, or that a closed study lacks one."""

    url: Url | None = None
    """Address that gets a JSON POST for each of these; no patient data are in it.  It is tried for a day.
    ``[[notify]]`` reaches e-mail and chats too."""


class NotifySettings(_Section):
    """``[[notify]]``: whom to tell what happened, tried for a day."""

    name: Name
    """Of this target, for logs, metrics and ``qc-node notify test``."""
    url: Annotated[str, Field(min_length=1, max_length=2000)]
    """``https://`` (or ``http://``) gets a JSON POST; anything else is an address of Apprise, such as
    ``mailto://``, ``msteams://`` or ``slack://``, and needs ``pip install 'qc-node[notify]'``.  ``${NAME}`` in it
    is taken from the environment, so that no secret need stand here."""
    events: tuple[
        Literal["attention", "missing", "failed", "poor_vote", "unusual", "scanner", "delivery"], ...
    ] = (
        "attention",
        "missing",
        "failed",
        "poor_vote",
        "unusual",
        "scanner",
        "delivery",
    )
    """``attention``: a verdict calls, or images do not fit their order.  ``missing``: a closed study lacks
    something.  ``failed``: a series could not be judged.  ``poor_vote``: a reader voted poor.  ``unusual``: a
    measure is far worse than its scanner usually makes it, or a fault of the image is certain.  ``scanner``: a
    measure of a scanner has begun to drift, or the scanner has new software.  ``delivery``: a report was given
    up."""


class PromptSettings(_Section):
    """``[prompt]``: which studies a reader is asked to vote on."""

    enabled: bool = False
    """Ask at all."""
    random_share: Share = 0.05
    """Share of all studies that is asked for at random, evenly over scanners and protocols."""
    double_share: Share = 0.10
    """Share of the voted studies that is asked of a second reader, for kappa."""
    uncertain_below: Share = 0.70
    """Ask where the best answer of the verdict is less probable than this."""
    conflicts: bool = True
    """Ask a second reader where a vote and the verdict disagree."""
    expire_h: Positive = 72.0
    """Hours after which a prompt without an answer is recorded as such."""


class MetricsSettings(_Section):
    """``[metrics]``: the Prometheus listener."""

    host: Host = "127.0.0.1"
    """Address to listen on."""
    port: Port = 9108
    """TCP port of ``/metrics``, ``/healthz`` and ``/readyz``."""
    max_connections: Annotated[int, Field(ge=1, le=10000)] = 40
    """Connections at a time.  Beyond that the one that has waited longest without a whole request is closed for
    the new one; where all are in use (requests that are being answered) the new one gets 503."""
    max_connections_per_address: Annotated[int, Field(ge=1, le=10000)] | None = None
    """How many of these one address may have.  Without it a quarter of ``max_connections``, at least 4."""
    request_s: Seconds = 10.0
    """Longest time for a whole request, head and body; the connection is closed after it."""


class DiskSettings(_Section):
    """``[disk]``: when to stop taking images."""

    low_watermark_gb: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 5.0
    """With less free space than this (10^9 bytes) new images are refused as out of resources."""

    @property
    def low_watermark_bytes(self) -> int:
        """The same in bytes."""
        return int(self.low_watermark_gb * 1e9)


class RetentionSettings(_Section):
    """``[retention]``: how long what is kept.  What was judged, reported and voted stays in the ledger; ``qc-node
    forget`` removes a patient's."""

    keep_images_h: Positive = 72.0
    """Hours that received images stay after the report was delivered."""
    keep_training_days: Positive = 90.0
    """Days that the de-identified network input and the thumbnails of a judged series stay, and quarantine."""
    keep_reports_days: Positive | None = None
    """Days after which the bytes of a delivered report go, with the name and birth date in them; without it they
    stay for ever.  What waits, has failed or has no destination stays in any case."""
    keep_summaries_days: Positive = 7.0
    """Days after which the bytes of a delivered QC summary go: 3 MB for each picture, which the PACS has."""


class RuleSettings(_Section):
    """``[[rule]]``: what a department expects of the series that follow a certain order."""

    order: Pattern
    """Regular expression, searched in what was ordered without regard to case."""
    modality: Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")] | None = None
    """Only for this modality."""
    body_part: BodyPart | None = None
    """Body part that must be seen."""
    contrast: bool | None = None
    """Whether contrast enhancement must be seen."""
    max_slice_thickness_mm: Positive | None = None
    """Thickest slice that is acceptable."""
    series: tuple[Pattern, ...] = ()
    """Regular expressions; each must match the description of some series when the study closes."""

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        expected = (self.body_part, self.contrast, self.max_slice_thickness_mm)
        if all(e is None for e in expected) and not self.series:
            raise MisplacedError(
                ("order",), "has no expectation: give body_part, contrast, max_slice_thickness_mm or series"
            )
        return self


def _once(section: str, key: str, values: list[str]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise MisplacedError((section, index, key), f"{value!r} is used twice")


class Settings(_Section):
    """Everything a node needs to know; the defaults make a node that starts on loopback."""

    node: NodeSettings = NodeSettings()
    peer: tuple[PeerSettings, ...] = ()
    pacs: PacsSettings = PacsSettings()
    completion: CompletionSettings = CompletionSettings()
    classify: ClassifySettings = Field(default_factory=ClassifySettings)
    measures: MeasuresSettings = MeasuresSettings()
    keep: KeepSettings = KeepSettings()
    web: WebSettings = WebSettings()
    scanner: tuple[ScannerSettings, ...] = ()
    board: BoardSettings = BoardSettings()
    oidc: OidcSettings = OidcSettings()
    webhook: WebhookSettings = WebhookSettings()
    notify: tuple[NotifySettings, ...] = ()
    prompt: PromptSettings = PromptSettings()
    metrics: MetricsSettings = MetricsSettings()
    disk: DiskSettings = DiskSettings()
    retention: RetentionSettings = RetentionSettings()
    rule: tuple[RuleSettings, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names: set[str] = set()
        callers: set[str] = set()
        for index, peer in enumerate(self.peer):
            if peer.name in names:
                raise MisplacedError(("peer", index, "name"), f"{peer.name!r} is used twice")
            names.add(peer.name)
            if "accept" in peer.role:
                if peer.ae_title in callers:
                    what = f"{peer.ae_title!r} is used by two peers with the role accept"
                    raise MisplacedError(("peer", index, "ae_title"), what)
                callers.add(peer.ae_title)
        self._check_destinations()
        _once("scanner", "station", [scanner.station.casefold() for scanner in self.scanner])
        _once("notify", "name", [target.name for target in self.notify])
        addresses: dict[tuple[int, str], str] = {}
        for section in ("node", "web", "metrics"):
            host, port = getattr(self, section).host, getattr(self, section).port
            for (other_port, other_host), other in addresses.items():
                if port == other_port and (host == other_host or {"0.0.0.0", "::"} & {host, other_host}):
                    raise MisplacedError((section, "port"), f"{port} is already the port of [{other}]")
            addresses[port, host] = section
        return self

    def _check_destinations(self) -> None:
        able = {p.name for p in self.peers("send")}
        wanted = [("destination", self.pacs.destination)] if self.pacs.destination else []
        for key, name in [*wanted, *(("also", name) for name in self.pacs.also)]:
            if name not in able:
                raise MisplacedError(("pacs", key), f'{name!r} is not the name of a [[peer]] with the role "send"')
        if self.pacs.also and not self.pacs.destination:
            raise MisplacedError(("pacs", "also"), "needs a destination, which the others come after")
        if len({self.pacs.destination, *self.pacs.also}) < 1 + len(self.pacs.also):
            raise MisplacedError(("pacs", "also"), "names a destination twice")

    def peers(self, role: Literal["send", "accept", "find"]) -> tuple[PeerSettings, ...]:
        """The peers that have `role`, in the order of the file."""
        return tuple(p for p in self.peer if role in p.role)

    def peer_named(self, name: str) -> PeerSettings:
        """The peer called `name`.

        Raises
        ------
        QcNodeError
            No ``[[peer]]`` has that name.
        """
        for peer in self.peer:
            if peer.name == name:
                return peer
        known = ", ".join(p.name for p in self.peer) or "none are configured"
        raise QcNodeError(f"There is no [[peer]] named {name!r} (known: {known}).")

    def quiet_s_of(self, calling_ae: str) -> float:
        """The quiet time in seconds that holds for series from `calling_ae`."""
        for peer in self.peers("accept"):
            if peer.ae_title == calling_ae and peer.quiet_s is not None:
                return peer.quiet_s
        return self.completion.quiet_s


def sections() -> dict[str, type[BaseModel]]:
    """The tables of the file by name, in the order of :class:`Settings`."""
    found: dict[str, type[BaseModel]] = {}
    for name, info in Settings.model_fields.items():
        annotation = info.annotation
        if not isinstance(annotation, type):
            annotation = annotation.__args__[0] if annotation is not None else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found[name] = annotation
    return found


ENV_PREFIX = "QC_NODE_"

LISTS = ("peer", "scanner", "notify", "rule")
"""Sections that are lists of tables."""


def variable_name(section: str, key: str | None = None) -> str:
    """The environment variable that overrides a key (or a whole list of tables)."""
    return ENV_PREFIX + section.upper() + ("" if key is None else f"__{key.upper()}")


def rules_digest(settings: Settings) -> str:
    """SHA-256 (hex) of the rules in force; part of what a report's UID is derived from."""
    rules = [rule.model_dump(mode="json") for rule in settings.rule]
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
