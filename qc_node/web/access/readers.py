"""Readers: added and changed by commands, disabled and never deleted.  Each act leaves a row in the audit."""

from __future__ import annotations

import re
import secrets
import sqlite3
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReaderRow
from qc_node.web.access import security

LOGIN = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
COMMANDS = "qc-node readers"
PIN = re.compile(r"\d{6,12}")


Claims = Mapping[str, Any]
"""What a provider says of a user."""


class Role(StrEnum):
    """What a reader does here; only an expert grades by the protocol, only an operator acts on the outbox."""

    RADIOLOGIST = "radiologist"
    TECHNOLOGIST = "technologist"
    EXPERT = "expert"
    PHYSICIST = "physicist"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader as the pages know one; secrets stay in the ledger.

    ``pseudonym`` is what exports show; it is random and says nothing about the person.
    """

    reader_id: str
    login: str
    name: str
    site: str
    role: Role
    pseudonym: str
    enabled: bool
    fhircast_topic: str | None = None


def reader_from_row(row: ReaderRow) -> Reader:
    """The reader of a ledger row."""
    return Reader(
        reader_id=row["reader_id"],
        login=row["login"],
        name=row["name"],
        site=row["site"],
        role=Role(row["role"]),
        pseudonym=row["pseudonym"],
        enabled=row["disabled_at"] is None,
        fhircast_topic=row["fhircast_topic"],
    )


def add(
    ledger: Ledger,
    login: str,
    *,
    name: str,
    site: str,
    at: float,
    role: str = Role.RADIOLOGIST,
    pin: str | None = None,
    dicom_name: str | None = None,
    link: bool = True,
    by: str = "qc-node readers add",
) -> tuple[Reader, str]:
    """Add a reader; returns it with the token of the personal link, which is shown once and kept as a hash.

    Without `link` nobody can sign in by that token: such a reader only carries imported votes.
    `dicom_name` is how key objects spell the person (Person Observer Name, VR PN); by default `name`.
    `by` is who does it, for the audit.

    Raises
    ------
    QcNodeError
        The login is taken or malformed, the role is unknown, the PIN is not 6 to 12 digits.
    """
    _check(login=login, name=name, site=site, role=role, pin=pin)
    token = secrets.token_urlsafe(32)
    reader_id = security.new_handle()
    with ledger.db.transaction():
        try:
            ledger.readers.add(
                reader_id,
                login=login,
                name=name.strip(),
                site=site.strip(),
                role=role,
                pseudonym=f"reader-{secrets.token_hex(4)}",
                at=at,
                dicom_name=dicom_name,
                pin_hash=None if pin is None else security.hash_pin(pin),
                token_hash=security.hash_token(token) if link else None,
            )
        except sqlite3.IntegrityError as error:
            raise QcNodeError(f"The login {login!r} is taken.") from error
        ledger.audit.add("reader added", by, at, {"reader": reader_id, "site": site.strip(), "role": role})
    row = ledger.readers.get(reader_id)
    assert row is not None
    return reader_from_row(row), token


def _check(
    *,
    login: str | None = None,
    name: str | None = None,
    site: str | None = None,
    role: str | None = None,
    pin: str | None = None,
) -> None:
    if login is not None and LOGIN.fullmatch(login) is None:
        raise QcNodeError(f"The login {login!r} may hold letters, digits and . _ @ + - only.")
    if role is not None and role not in list(Role):
        raise QcNodeError(f"The role {role!r} is none of {', '.join(Role)}.")
    if any(text is not None and not text.strip() for text in (name, site)):
        raise QcNodeError("A reader needs a name and a site.")
    if pin is not None and PIN.fullmatch(pin) is None:
        raise QcNodeError("A PIN has 6 to 12 digits.")


def disable(ledger: Ledger, login: str, at: float) -> Reader:
    """Shut a reader out at once; history and votes stay.

    Raises
    ------
    QcNodeError
        There is no such reader.
    """
    row = _known(ledger, login)
    with ledger.db.transaction():
        if ledger.readers.disable(row["reader_id"], at):
            ledger.audit.add("reader disabled", f"{COMMANDS} disable", at, {"reader": row["reader_id"]})
    return _again(ledger, row)


def enable(ledger: Ledger, login: str, at: float) -> tuple[Reader, str]:
    """Let a disabled reader in again; returns the token of a new personal link, as the old one stays dead.

    Raises
    ------
    QcNodeError
        There is no such reader, or nobody disabled that one.
    """
    row = _known(ledger, login)
    token = secrets.token_urlsafe(32)
    with ledger.db.transaction():
        if not ledger.readers.enable(row["reader_id"]):
            raise QcNodeError(f"{row['name']} is not disabled.")
        ledger.readers.set_secret(row["reader_id"], at, token_hash=security.hash_token(token))
        ledger.audit.add("reader enabled", f"{COMMANDS} enable", at, {"reader": row["reader_id"]})
    return _again(ledger, row), token


def change(
    ledger: Ledger,
    login: str,
    at: float,
    *,
    by: str,
    new_login: str | None = None,
    name: str | None = None,
    dicom_name: str | None = None,
    site: str | None = None,
    role: str | None = None,
) -> Reader:
    """Change what a reader is called or does, from now on; votes keep the role and site that they were cast with.

    `by` is the command, for the audit.

    Raises
    ------
    QcNodeError
        There is no such reader, the new login is taken or malformed, the role is unknown, name or site are empty.
    """
    row = _known(ledger, login)
    _check(login=new_login, name=name, site=site, role=role)
    said = {
        "login": new_login,
        "name": None if name is None else name.strip(),
        "dicom_name": dicom_name,
        "site": None if site is None else site.strip(),
        "role": role,
    }
    changed = {key: value for key, value in said.items() if value is not None}
    with ledger.db.transaction():
        try:
            ledger.readers.change(row["reader_id"], **changed)
        except sqlite3.IntegrityError as error:
            raise QcNodeError(f"The login {new_login!r} is taken.") from error
        was = {key: value for key, value in row.items() if key in changed}
        ledger.audit.add("reader changed", by, at, {"reader": row["reader_id"], "was": was, "is": changed})
    return _again(ledger, row)


def set_pin(ledger: Ledger, login: str, pin: str | None, at: float) -> Reader:
    """Give a reader a new PIN, or none; the old one and the sessions end.

    Raises
    ------
    QcNodeError
        There is no such reader, the reader is disabled, the PIN is not 6 to 12 digits.
    """
    row = _known(ledger, login, enabled=True)
    _check(pin=pin)
    hashed = None if pin is None else security.hash_pin(pin)
    with ledger.db.transaction():
        if hashed is None:
            ledger.readers.remove_pin(row["reader_id"], at)
        else:
            ledger.readers.set_secret(row["reader_id"], at, pin_hash=hashed)
        event = "reader without PIN" if hashed is None else "reader with new PIN"
        ledger.audit.add(event, f"{COMMANDS} pin", at, {"reader": row["reader_id"]})
    return _again(ledger, row)


def _known(ledger: Ledger, login: str, *, enabled: bool = False) -> ReaderRow:
    row = ledger.readers.by_login(login)
    if row is None:
        raise QcNodeError(f"There is no reader {login!r}; qc-node readers list shows all.")
    if enabled and row["disabled_at"] is not None:
        raise QcNodeError(f"{row['name']} is disabled; first: {COMMANDS} enable {row['login']}")
    return row


def _again(ledger: Ledger, row: ReaderRow) -> Reader:
    found = ledger.readers.get(row["reader_id"])
    assert found is not None
    return reader_from_row(found)


def list_all(ledger: Ledger) -> list[Reader]:
    """Every reader in order of coming."""
    return [reader_from_row(row) for row in ledger.readers.all()]


def new_link(ledger: Ledger, login: str, at: float) -> str:
    """A new personal link token for a reader; the old link and sessions end.

    Raises
    ------
    QcNodeError
        There is no such reader, or the reader is disabled.
    """
    row = _known(ledger, login, enabled=True)
    token = secrets.token_urlsafe(32)
    with ledger.db.transaction():
        ledger.readers.set_secret(row["reader_id"], at, token_hash=security.hash_token(token))
        ledger.audit.add("reader with new link", f"{COMMANDS} link", at, {"reader": row["reader_id"]})
    return token


def personal_link(base: str, token: str) -> str:
    """The personal link: the token stands behind ``#``, which no browser sends and no server logs."""
    return f"{base.rstrip('/')}/sign-in#{token}"


def by_person_name(ledger: Ledger, person_name: str) -> Reader | None:
    """The one enabled reader whom a Person Observer Name means.

    Names are compared by their letters: component and group marks, case, accents and the order of the
    components do not matter (``Bode-Hofmann^Mechthild`` is ``Mechthild Bode-Hofmann``).  Two readers of
    the same name are nobody, because a vote must have one author.
    """
    wanted = _letters(person_name)
    if not wanted:
        return None
    found = [
        row
        for row in ledger.readers.all()
        if row["disabled_at"] is None and wanted in (_letters(row["dicom_name"] or ""), _letters(row["name"]))
    ]
    return reader_from_row(found[0]) if len(found) == 1 else None


def _letters(name: str) -> tuple[str, ...]:
    alphabetic = unicodedata.normalize("NFKD", name.split("=")[0]).casefold()
    plain = "".join(c for c in alphabetic if not unicodedata.combining(c))
    return tuple(sorted(re.findall(r"\w+", plain)))
