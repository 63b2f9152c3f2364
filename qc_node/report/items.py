"""Content items of a Structured Report (PS3.3 C.17.3): made and read, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from qc_node.report.codes import Code

CONTAINS = "CONTAINS"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"

MAX_TEXT = 4000
"""Longest text of one item in characters.  UT allows far more; nobody reads it and some archives choke."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_BREAK = re.compile(r"\r\n?|[\v\f\u0085\u2028\u2029]")


def long_text(text: str) -> str:
    """`text` as UT may hold it: no control characters but line breaks and tabs, at most 4,000 characters.

    Lone surrogates (undecodable bytes of a header) become ``?``.  Never empty: a dash stands for nothing.
    """
    clean = _CONTROL.sub("", _LINE_BREAK.sub("\n", text)).encode("utf-8", "replace").decode("utf-8").strip()
    if len(clean) > MAX_TEXT:
        clean = clean[: MAX_TEXT - 1].rstrip() + "…"
    return clean or "-"


def short_text(text: str, limit: int = 64) -> str:
    """`text` as LO (64) or SH (16) may hold it: one line, no backslash, no control characters."""
    clean = re.sub(r"\s+", " ", long_text(text)).replace("\\", "/")
    return clean[:limit].strip() or "-"


# -- making ------------------------------------------------------------------------------------------
def coded(code: Code) -> DicomSequence:
    """A code sequence with one item."""
    ds = Dataset()
    ds.CodeValue = code.value
    ds.CodingSchemeDesignator = code.scheme
    ds.CodeMeaning = code.meaning
    return DicomSequence([ds])


def _item(value_type: str, name: Code | None, relationship: str | None) -> Dataset:
    ds = Dataset()
    if relationship is not None:
        ds.RelationshipType = relationship
    ds.ValueType = value_type
    if name is not None:
        ds.ConceptNameCodeSequence = coded(name)
    return ds


def container(
    name: Code, children: Sequence[Dataset], relationship: str | None = CONTAINS, template: str | None = None
) -> Dataset:
    """CONTAINER; `template` is its TID in DCMR."""
    ds = _item("CONTAINER", name, relationship)
    ds.ContinuityOfContent = "SEPARATE"
    if template is not None:
        identification = Dataset()
        identification.MappingResource = "DCMR"
        identification.TemplateIdentifier = template
        ds.ContentTemplateSequence = DicomSequence([identification])
    ds.ContentSequence = DicomSequence(children)
    return ds


def code_item(name: Code, value: Code, relationship: str = CONTAINS) -> Dataset:
    """CODE."""
    ds = _item("CODE", name, relationship)
    ds.ConceptCodeSequence = coded(value)
    return ds


def text_item(name: Code, text: str, relationship: str = CONTAINS, children: Sequence[Dataset] = ()) -> Dataset:
    """TEXT."""
    ds = _item("TEXT", name, relationship)
    ds.TextValue = long_text(text)
    if children:
        ds.ContentSequence = DicomSequence(children)
    return ds


def uid_item(name: Code, uid: str, relationship: str = HAS_OBS_CONTEXT) -> Dataset:
    """UIDREF."""
    ds = _item("UIDREF", name, relationship)
    ds.UID = uid
    return ds


def person_item(name: Code, person: str, relationship: str = HAS_OBS_CONTEXT) -> Dataset:
    """PNAME; each component group of the name has at most 64 characters."""
    ds = _item("PNAME", name, relationship)
    ds.PersonName = "=".join(short_text(group) if group else "" for group in person.split("=")[:3])
    return ds


def number_text(value: float) -> str:
    """A number with at most four decimals."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def number_item(
    name: Code,
    value: float,
    units: Code,
    modifiers: Sequence[Dataset] = (),
    spell: Callable[[float], str] = number_text,
) -> Dataset:
    """NUM; `spell` gives the number in at most 16 characters (DS)."""
    ds = _item("NUM", name, CONTAINS)
    measured = Dataset()
    measured.NumericValue = spell(value)
    measured.MeasurementUnitsCodeSequence = coded(units)
    ds.MeasuredValueSequence = DicomSequence([measured])
    if modifiers:
        ds.ContentSequence = DicomSequence(modifiers)
    return ds


def image_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """IMAGE without a concept name, as TID 2010 wants it."""
    ds = _item("IMAGE", None, CONTAINS)
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_uid
    reference.ReferencedSOPInstanceUID = sop_instance_uid
    ds.ReferencedSOPSequence = DicomSequence([reference])
    return ds


# -- reading -----------------------------------------------------------------------------------------
def code_in(ds: Dataset, keyword: str) -> Code | None:
    """The first code of the code sequence `keyword`, or None where there is none that can be read."""
    try:
        sequence = ds.get(keyword)
        if not sequence:
            return None
        item = sequence[0]
        value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
        return Code(str(value), str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", "")))
    except (AttributeError, TypeError, ValueError, KeyError, IndexError):
        return None


def name_of(item: Dataset) -> Code | None:
    """The concept name of an item."""
    return code_in(item, "ConceptNameCodeSequence")


def children(item: Dataset) -> list[Dataset]:
    """The items directly below `item`."""
    try:
        return list(item.get("ContentSequence") or [])
    except (TypeError, ValueError):
        return []


def named(item: Dataset, name: Code) -> Iterator[Dataset]:
    """The children of `item` that have the concept name `name`."""
    return (child for child in children(item) if name_of(child) == name)


def codes_named(item: Dataset, name: Code) -> list[Code]:
    """The values of all CODE children called `name`."""
    found = (code_in(child, "ConceptCodeSequence") for child in named(item, name))
    return [code for code in found if code is not None]


def texts_named(item: Dataset, name: Code) -> list[str]:
    """The values of all TEXT children called `name`."""
    return [str(child.get("TextValue", "")) for child in named(item, name) if child.get("ValueType") == "TEXT"]


def text_named(item: Dataset, name: Code) -> str | None:
    """The first TEXT child called `name`."""
    return next(iter(texts_named(item, name)), None)


def uid_named(item: Dataset, name: Code) -> str | None:
    """The first UIDREF child called `name`."""
    return next((str(child.UID) for child in named(item, name) if child.get("UID")), None)
