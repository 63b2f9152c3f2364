"""The real images at hand, and what is known of each: heads to be accepted, and what should not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.evaluation import prepared
from qc_node.training.brain_mri.evaluation.outcomes import Truth
from qc_node.training.brain_mri.training import left_out

PROPER = ("t1w", "t1w_gadolinium")
"""Kinds of whole-head T1w images, all of good quality to the eye."""


@dataclass(frozen=True)
class RealImage:
    """One real image.

    Attributes
    ----------
    group
        Protocol, by person; images of people without one stand alone (their person).
    truth
        Straight reject or not, gadolinium where it is known; nobody graded them.
    head
        Made ready for the networks.
    """

    item: people.DataItem
    group: str
    truth: Truth
    head: PreparedHead

    @property
    def name(self) -> str:
        """File name without what packs it."""
        return self.item.path.name.split(".")[0]


def truth_of(item: people.DataItem) -> Truth:
    """What the index of the data knows."""
    gadolinium = {"yes": 1, "no": 0}.get(item.gadolinium)
    return Truth("ok", gadolinium) if item.kind in PROPER else Truth(item.kind)


def items(shared: Path) -> list[people.DataItem]:
    """Every real image but label maps, segmentations and templates."""
    found = people.list_items(shared) + people.further_items(shared)
    return [i for i in found if i.kind not in ("labelmaps", "template", "segmentation")]


def read(
    classifier: BrainMriClassifier,
    shared: Path,
    cache: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[RealImage]:
    """All of them through the classifier's own preparation, kept in the folder `cache` if there is one."""
    out = []
    for item in items(shared):
        name = item.path.name.split(".")[0]
        head = prepared.prepare(classifier, name, lambda path=item.path: people.read_image(path), cache)  # type: ignore[misc]
        group = people.scanner_of(item.person) or item.person
        out.append(RealImage(item, group, truth_of(item), head))
        log(f"prepared {name}")
    return out


def group_in_pack(person: str, groups: list[str]) -> str | None:
    """The protocol of a person where the pack holds it, so that it has to be left out; None where it does not."""
    group = left_out.group_of(person)
    return group if group in groups and people.scanner_of(person) is not None else None
