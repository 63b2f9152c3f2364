"""Readers: added by command, signed in by personal link or PIN, disabled and never deleted."""

from __future__ import annotations

import re
import secrets
import sqlite3
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.ledger.rows import ReaderRow
from qc_node.web.access import security

LOGIN = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
PIN = re.compile(r"\d{6,12}")


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
    epoch: int
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
        epoch=row["session_epoch"],
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
) -> tuple[Reader, str]:
    """Add a reader; returns it with the token of the personal link, which is shown once and kept as a hash.

    Without `link` nobody can sign in by that token: such a reader only carries imported votes.
    `dicom_name` is how key objects spell the person (Person Observer Name, VR PN); by default `name`.

    Raises
    ------
    QcNodeError
        The login is taken or malformed, the role is unknown, the PIN is not 6 to 12 digits.
    """
    if LOGIN.fullmatch(login) is None:
        raise QcNodeError(f"The login {login!r} may hold letters, digits and . _ @ + - only.")
    if role not in list(Role):
        raise QcNodeError(f"The role {role!r} is none of {', '.join(Role)}.")
    if not name.strip() or not site.strip():
        raise QcNodeError("A reader needs a name and a site.")
    if pin is not None and PIN.fullmatch(pin) is None:
        raise QcNodeError("A PIN has 6 to 12 digits.")
    token = secrets.token_urlsafe(32)
    reader_id = security.new_handle()
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
    row = ledger.readers.get(reader_id)
    assert row is not None
    return reader_from_row(row), token


def disable(ledger: Ledger, login: str, at: float) -> Reader:
    """Shut a reader out at once; history and votes stay.

    Raises
    ------
    QcNodeError
        There is no such reader.
    """
    row = ledger.readers.by_login(login)
    if row is None:
        raise QcNodeError(f"There is no reader {login!r}.")
    ledger.readers.disable(row["reader_id"], at)
    return reader_from_row({**row, "disabled_at": at})


def list_all(ledger: Ledger) -> list[Reader]:
    """Every reader in order of coming."""
    return [reader_from_row(row) for row in ledger.readers.all()]


def new_link(ledger: Ledger, login: str) -> str:
    """A new personal link token for a reader; the old link and sessions end.

    Raises
    ------
    QcNodeError
        There is no such reader, or the reader is disabled.
    """
    row = ledger.readers.by_login(login)
    if row is None or row["disabled_at"] is not None:
        raise QcNodeError(f"There is no enabled reader {login!r}.")
    token = secrets.token_urlsafe(32)
    ledger.readers.set_secret(row["reader_id"], token_hash=security.hash_token(token))
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
