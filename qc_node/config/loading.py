"""Reading the settings: TOML file first, environment on top, one sentence for what is wrong."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from qc_node.config.lines import find_line
from qc_node.config.settings import (
    ENV_PREFIX,
    LISTS,
    Loc,
    MisplacedError,
    Settings,
    sections,
    variable_name,
)
from qc_node.domain import QcNodeError


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


def _apply_environment(data: dict[str, Any], environ: Mapping[str, str]) -> dict[Loc, str]:
    """Override `data` in place; returns which place each variable set.

    Names without a double underscore other than the lists are left alone: Kubernetes, for one, sets
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
    if textual and not (info and get_origin(info.annotation) in (tuple, dict)):
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
    if isinstance(cause, MisplacedError):
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
        shown = "" if isinstance(cause, MisplacedError) else f", not {_shown(loc, data)}"
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


SECRETS = ("secret", "fhircast_token", "client_secret")
"""Keys whose value is never repeated in a sentence."""


def _shown(loc: Loc, data: Mapping[str, Any]) -> str:
    if loc[-1] in SECRETS:
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
