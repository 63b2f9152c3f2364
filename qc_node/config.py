"""The node's settings: one frozen object from a TOML file and the environment.

Every key of the file can be overridden by ``QC_NODE_SECTION__KEY``; the lists of tables ``[[peer]]`` and
``[[rule]]`` are replaced as a whole by ``QC_NODE_PEER`` and ``QC_NODE_RULE`` (JSON).  A key that nobody knows
and a value of the wrong type are refused with the file, the line and the key, because a typing error that
is silently ignored shows up weeks later as images that were never judged.

``docs/configuration.md`` and ``deploy/qc-node.toml`` explain every key; a test holds them to this module.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from qc_node.domain import BodyPart, QcNodeError

ENV_PREFIX = "QC_NODE_"

Loc = tuple[str | int, ...]

PACKAGE = Path(__file__).resolve().parent


def default_models_dir() -> Path:
    """Where the shipped weights are: inside an installed wheel, otherwise beside the package."""
    shipped = PACKAGE / "_models"
    return shipped if shipped.is_dir() else PACKAGE.parent / "models"


class _MisplacedError(ValueError):
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


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(_name)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Url = Annotated[str, AfterValidator(_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


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
    """Processes that share the DICOM port; more than one pays off with many senders at once."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 50
    """Associations at a time per receiving process; the next one is refused as transient."""


class PeerSettings(_Section):
    """``[[peer]]``: one DICOM application entity that the node knows."""

    name: Name
    """What the node calls this peer in commands, logs and metrics."""
    ae_title: AeTitle
    """Its application entity title."""
    host: Host | None = None
    """Its address; needed for the roles ``send`` and ``find``."""
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

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        outgoing = {"send", "find"} & set(self.role)
        for key in ("host", "port"):
            if outgoing and getattr(self, key) is None:
                wanted = " and ".join(sorted(outgoing))
                raise _MisplacedError((key,), f"is missing: the role {wanted} of peer {self.name!r} needs it")
        return self


class PacsSettings(_Section):
    """``[pacs]``: where reports go and what they look like."""

    destination: str = ""
    """Name of the ``[[peer]]`` that gets the reports; empty: reports stay in the data folder."""
    storage_commitment: bool = True
    """Ask the destination for storage commitment where it offers that."""
    sr_class: Literal["comprehensive", "comprehensive3d"] = "comprehensive"
    """SOP class of the report; ``comprehensive`` is shown by more viewers."""
    flag_object: bool = False
    """Also write a key object titled Quality Issue (113010, DCM) for a straight reject or tier 3."""


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
            raise _MisplacedError(("hard_cap_s",), f"must not be shorter than quiet_s ({self.quiet_s:g} s)")
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
    blind: bool = True
    """The panel shows the machine's verdict only after the vote."""
    vote_sr: bool = False
    """Also send each vote to ``[pacs] destination`` as a Structured Report with its human observer."""
    fhircast_hubs: tuple[Url, ...] = ()
    """FHIRcast hubs that a launch may name; any other is refused."""


class WebhookSettings(_Section):
    """``[webhook]``: tell another system that a series calls for attention."""

    url: Url | None = None
    """Address that gets a JSON POST for each such series; no patient data are in it."""


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


class DiskSettings(_Section):
    """``[disk]``: when to stop taking images."""

    low_watermark_gb: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 5.0
    """With less free space than this (10^9 bytes) new images are refused as out of resources."""


class RetentionSettings(_Section):
    """``[retention]``: how long what is kept.  Rows of the ledger are never deleted."""

    keep_images_h: Positive = 72.0
    """Hours that received images stay after the report was delivered."""
    keep_training_days: Positive = 90.0
    """Days that the de-identified network input and the thumbnails of a judged series stay."""


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
            raise _MisplacedError(
                ("order",), "has no expectation: give body_part, contrast, max_slice_thickness_mm or series"
            )
        return self


class Settings(_Section):
    """Everything a node needs to know; the defaults make a node that starts on loopback."""

    node: NodeSettings = NodeSettings()
    peer: tuple[PeerSettings, ...] = ()
    pacs: PacsSettings = PacsSettings()
    completion: CompletionSettings = CompletionSettings()
    classify: ClassifySettings = Field(default_factory=ClassifySettings)
    web: WebSettings = WebSettings()
    webhook: WebhookSettings = WebhookSettings()
    prompt: PromptSettings = PromptSettings()
    metrics: MetricsSettings = MetricsSettings()
    disk: DiskSettings = DiskSettings()
    retention: RetentionSettings = RetentionSettings()
    rule: tuple[RuleSettings, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names: set[str] = set()
        for index, peer in enumerate(self.peer):
            if peer.name in names:
                raise _MisplacedError(("peer", index, "name"), f"{peer.name!r} is used twice")
            names.add(peer.name)
        wanted = self.pacs.destination
        if wanted and not any(p.name == wanted and "send" in p.role for p in self.peer):
            raise _MisplacedError(
                ("pacs", "destination"), f'{wanted!r} is not the name of a [[peer]] with the role "send"'
            )
        addresses: dict[tuple[int, str], str] = {}
        for section in ("node", "web", "metrics"):
            host, port = getattr(self, section).host, getattr(self, section).port
            for (other_port, other_host), other in addresses.items():
                if port == other_port and (host == other_host or {"0.0.0.0", "::"} & {host, other_host}):
                    raise _MisplacedError((section, "port"), f"{port} is already the port of [{other}]")
            addresses[port, host] = section
        return self

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


def rules_digest(settings: Settings) -> str:
    """SHA-256 (hex) of the rules in force; part of what a report's UID is derived from."""
    rules = [rule.model_dump(mode="json") for rule in settings.rule]
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


# -- loading ---------------------------------------------------------------------------------------------
def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Settings from a TOML file (None: defaults only), overridden by the environment.

    Raises
    ------
    QcNodeError
        The file cannot be read, a key is unknown or a value is wrong; the sentence names the file with
        the line, or the environment variable, and the key.
    """
    text, data = _read(path)
    variables = _apply_environment(data, environ)
    try:
        return Settings.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise QcNodeError(_sentence(error, data, path, text, variables)) from None


def _read(path: Path | None) -> tuple[str, dict[str, Any]]:
    if path is None:
        return "", {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise QcNodeError(f"The configuration {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise QcNodeError(f"The configuration {path} is not UTF-8 text (byte {error.start}).") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise QcNodeError(f"The configuration {path} is not valid TOML: {error}.") from None


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


LISTS = ("peer", "rule")
"""Sections that are lists of tables."""


def variable_name(section: str, key: str | None = None) -> str:
    """The environment variable that overrides a key (or a whole list of tables)."""
    return ENV_PREFIX + section.upper() + ("" if key is None else f"__{key.upper()}")


def _apply_environment(data: dict[str, Any], environ: Mapping[str, str]) -> dict[Loc, str]:
    """Override `data` in place; returns which place each variable set.

    Names without a double underscore other than the two lists are left alone: Kubernetes, for one, sets
    ``QC_NODE_PORT`` for a service called ``qc-node``.
    """
    origin: dict[Loc, str] = {}
    known = sections()
    for name in LISTS:
        variable = variable_name(name)
        if variable in environ:
            try:
                data[name] = json.loads(environ[variable])
            except json.JSONDecodeError as error:
                raise QcNodeError(f"The environment variable {variable} is not JSON: {error}.") from None
            origin[(name,)] = variable
    for variable in sorted(environ):
        rest = variable.removeprefix(ENV_PREFIX)
        if rest == variable or "__" not in rest:
            continue
        section, key = (part.lower() for part in rest.split("__", 1))
        if section not in known or section in LISTS:
            guess = _did_you_mean(section, [s for s in known if s not in LISTS])
            raise QcNodeError(f"The environment variable {variable} names no section of the configuration{guess}.")
        table = data.setdefault(section, {})
        if not isinstance(table, dict):
            continue
        table[key] = _from_text(known[section], key, environ[variable])
        origin[section, key] = variable
    return origin


def _from_text(section: type[BaseModel], key: str, text: str) -> Any:
    """A variable's text as the type that its key has; text that does not fit is left for validation."""
    info = section.model_fields.get(key)
    textual = info is None or any(kind in repr(info.annotation) for kind in ("str", "Path", "Literal"))
    if textual and not (info and get_origin(info.annotation) is tuple):
        return text
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# -- saying what is wrong --------------------------------------------------------------------------------
def _sentence(
    error: ValidationError, data: Mapping[str, Any], path: Path | None, text: str, variables: Mapping[Loc, str]
) -> str:
    faults = error.errors()
    fault = faults[0]
    loc: Loc = fault["loc"]
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, _MisplacedError):
        loc += cause.loc
    place = _place(loc, path, text, variables)
    if fault["type"] == "extra_forbidden":
        section = sections().get(str(loc[0]))
        candidates = list(section.model_fields) if section and len(loc) > 1 else list(sections())
        what = f"unknown key {_key(loc)}{_did_you_mean(str(loc[-1]), candidates)}"
    elif fault["type"] == "missing":
        what = f"{_key(loc)} is missing"
    else:
        message = str(cause) if cause is not None else fault["msg"].replace("Input should", "should")
        message = message[0].lower() + message[1:]
        shown = "" if isinstance(cause, _MisplacedError) else f", not {_shown(loc, data)}"
        what = f"{_key(loc)} {message}{shown}"
    more = f" ({len(faults) - 1} more at fault)" if len(faults) > 1 else ""
    return f"{place}: {what}{more}."


def _place(loc: Loc, path: Path | None, text: str, variables: Mapping[Loc, str]) -> str:
    for length in range(len(loc), 0, -1):
        if loc[:length] in variables:
            return f"The environment variable {variables[loc[:length]]}"
    line = find_line(text, loc)
    return "The configuration" + (f" {path}" if path else "") + (f", line {line}" if line else "")


def _key(loc: Loc) -> str:
    section = str(loc[0])
    if len(loc) == 1:
        return section
    brackets = f"[[{section}]]" if section in LISTS else f"[{section}]"
    return " ".join([brackets, *(str(part) for part in loc[1:] if isinstance(part, str))])


def _shown(loc: Loc, data: Mapping[str, Any]) -> str:
    if loc[-1] == "secret":
        return "what is there"
    value: Any = data
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _did_you_mean(word: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(word, candidates, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def find_line(text: str, loc: Loc) -> int | None:
    """The line (from 1) of a TOML text that sets the key at `loc`, or the nearest table around it.

    Examples
    --------
    >>> find_line('[node]\\nport = 1', ("node", "port"))
    2
    """
    best, best_depth = None, 0
    for number, place in _keys(text):
        depth = 0
        while depth < min(len(place), len(loc)) and place[depth] == loc[depth]:
            depth += 1
        if depth == len(place) and depth > best_depth:
            best, best_depth = number, depth
    return best


def _keys(text: str) -> Iterator[tuple[int, Loc]]:
    """Every table header and key of a TOML text with its line."""
    table: Loc = ()
    counts: dict[str, int] = {}
    quotes: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        inside = quotes is not None
        for mark in re.findall(r'"""|' + r"'''", line):
            quotes = mark if quotes is None else None if quotes == mark else quotes
        if inside:
            continue
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            names = _split(header[2])
            table = (*names,)
            if header[1] == "[[":
                counts[names[0]] = counts.get(names[0], -1) + 1
                table = (*names, counts[names[0]])
            elif names[0] in counts:
                table = (names[0], counts[names[0]], *names[1:])
            yield number, table
        elif key := re.match(r"""\s*([\w."'\- ]+?)\s*=""", line):
            yield number, (*table, *_split(key[1]))


def _split(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
