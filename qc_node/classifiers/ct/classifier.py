"""The CT classifier: a volume in, a verdict out.

Two small networks read the 4 mm coarse volume slice by slice.  The first places every slice on the body
axis; a line through all of them says what the scan covers, and rules turn coverage into a body part
(:mod:`qc_node.classifiers.ct.anatomy`).  The second looks for enhanced vessels, heart, kidneys and organs.  What
neither can answer is said in a sentence instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.ct import anatomy, chest, levels, neck
from qc_node.classifiers.ct.head import hollow, intracranial, vessel_excess
from qc_node.classifiers.ct.networks import SliceNet, contrast_channels, position_channels
from qc_node.classifiers.ct.part import part_finding
from qc_node.classifiers.ct.pictures import thumbnails
from qc_node.classifiers.ct.plausibility import air_share
from qc_node.classifiers.ct.projections import COARSE_MM, GRID, Projections, project
from qc_node.classifiers.ct.voting import pooled_logit
from qc_node.domain import (
    Coverage,
    Finding,
    ModelIdentity,
    QcNodeError,
    Question,
    Reason,
    Region,
    Stage,
    Verdict,
    Volume,
)
from qc_node.networks import weights

MAX_INPUT_BYTES = 10_000_000
_BATCH = 64
_HEAD = 4
"""Sections of the body axis above the skull base and the slices at it."""
_MOST_LOGIT = 5.0
"""No single kind of evidence may count for more than 150 to 1."""
_MAX_SLICES = MAX_INPUT_BYTES // (GRID * GRID * 2)


@dataclass(frozen=True)
class PreparedBody:
    """What is kept of a volume: enough to judge it, to show it and to learn from a correction.

    Attributes
    ----------
    network_input
        ``(Z, 96, 96)`` float16 HU at 4 mm, at most 10 MB; outside the body -1024.
    thumbnails
        uint8 pictures of 256x256: mid-planes ``axial``, ``coronal``, ``sagittal`` at a soft-tissue window,
        ``mip_coronal`` and ``mip_sagittal``.
    edge_fraction
        ``(Z,)`` share of the field-of-view border that is body.
    problem
        None, or one sentence why nothing can be answered.
    blank
        True where `problem` is that the series shows nothing.
    """

    network_input: npt.NDArray[np.float16]
    thumbnails: Mapping[str, npt.NDArray[np.uint8]]
    edge_fraction: npt.NDArray[np.float32]
    problem: str | None = None
    blank: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """Thresholds of the card; each default is what an unfitted model would use.

    Attributes
    ----------
    position_temperature
        Slice logits are divided by it before the softmax.
    contrast_scale, contrast_bias
        Logit of "enhanced" below the skull base = scale * pooled logit of the slices + bias, fitted on persons
        that the network never saw.
    head_excess, head_slope
        Logit of "enhanced" inside the skull = (vessel excess - head_excess) / head_slope, both in HU.
    neck_network, neck_excess, neck_slope
        Where vessels of the neck were measured, the logit below the skull base = neck_network * pooled logit
        of the slices + (vessel excess - neck_excess) / neck_slope, the latter in HU; fitted as above.
    chest_excess, chest_slope, most_network_chest
        Where blood between the lungs was measured, its logit = (blood excess - chest_excess) / chest_slope, in HU,
        is added and the slices count for at most most_network_chest.  Set beforehand, not fitted: half-way between
        what plain (at most 0) and late portal venous blood (70) is above muscle, so that either end is worth 150
        to 1; a network that has seen eight enhanced trunks is not worth more than 20 to 1.
    contrast_correlation
        Slices that count as one observation.
    least_part
        Below this probability of the best body part the answer is withheld.
    least_contrast, least_contrast_neck
        Below this probability of the better contrast answer it is withheld.  Necks need more: their vessels
        are a voxel or two wide.
    least_fit
        Mean log-likelihood per slice, against a uniform guess, that a body must reach.
    """

    position_temperature: float = 1.0
    contrast_scale: float = 1.0
    contrast_bias: float = 0.0
    head_excess: float = 19.0
    head_slope: float = 2.5
    neck_network: float = 0.5
    neck_excess: float = 33.0
    neck_slope: float = 6.0
    chest_excess: float = 35.0
    chest_slope: float = 7.0
    most_network_chest: float = 3.0
    contrast_correlation: float = 8.0
    least_part: float = 0.5
    least_contrast: float = 0.7
    least_contrast_neck: float = 0.85
    least_fit: float = 0.25


@dataclass(frozen=True)
class Reading:
    """What the networks saw in one prepared volume, before any rule."""

    sections: npt.NDArray[np.float64]
    """``(Z, CLASSES)`` probabilities."""
    contrast: npt.NDArray[np.float64]
    """``(Z,)`` logits."""
    used: npt.NDArray[np.bool_]
    excess: float | None = None
    """Vessel excess inside the skull in HU, None where there is not enough of a skull."""
    neck: float | None = None
    """Vessel excess in the neck in HU, None where there is not enough of a neck."""
    chest: float | None = None
    """Blood excess between the lungs in HU, None where there is not enough of a chest."""
    air: float = 1.0
    """Share of slices that enclose air."""
    skull_ml: float = 0.0
    """Volume inside closed bone."""


@dataclass
class CtClassifier:
    """Judges prepared volumes; made by :func:`load`."""

    identity: ModelIdentity
    position: SliceNet
    contrast: SliceNet
    rules: Rules = field(default_factory=Rules)
    device: str = "cpu"

    def prepare(self, volume: Volume) -> PreparedBody:
        """Reduce `volume` to what is needed; on the CPU, in one pass, never raising on a bad image."""
        try:
            projections = project(volume)
        except (ValueError, IndexError, MemoryError, ArithmeticError, TypeError) as error:
            return _unreadable(f"The series could not be projected ({type(error).__name__}).")
        return prepare_projections(projections)

    def judge(self, prepared: Sequence[PreparedBody]) -> list[Verdict]:
        """One verdict for each of `prepared`, in order."""
        return [self._verdict(p) for p in prepared]

    def read(self, prepared: PreparedBody) -> Reading:
        """Run both networks over all slices."""
        coarse = prepared.network_input.astype(np.int16)
        used = anatomy.readable(coarse)
        sections = np.zeros((len(coarse), anatomy.CLASSES))
        contrast = np.zeros(len(coarse))
        index = np.flatnonzero(used)
        stack = anatomy.neighbours(coarse)[index]
        parts = [p for p in np.array_split(np.arange(len(index)), max(1, -(-len(index) // _BATCH))) if p.size]
        with _one_thread(), torch.inference_mode():
            for part in parts:
                hu = torch.from_numpy(stack[part]).to(self.device)
                logits = self.position(position_channels(hu)) / self.rules.position_temperature
                sections[index[part]] = torch.softmax(logits.double(), 1).cpu().numpy()
            offset = levels.scale_offset(coarse[places(sections) > levels.TRUNK_MM])
            for part in parts:
                hu = torch.from_numpy(stack[part]).to(self.device) - offset
                contrast[index[part]] = self.contrast(contrast_channels(hu))[:, 0].double().cpu().numpy()
        head = sections[:, :_HEAD].sum(1) > 0.5
        if hollow(coarse, head):  # a plastic skull looks like a head in every respect but one
            sections[head] = 0.0
            sections[head, anatomy.NOTHING] = 1.0
            head[:] = False
        skull_ml = float(intracranial(coarse[head]).sum()) * COARSE_MM**3 / 1000.0 if head.sum() >= 3 else 0.0
        at = places(sections)
        return Reading(
            sections,
            contrast,
            used,
            excess=vessel_excess(coarse, head),
            neck=neck.vessel_excess(coarse, neck.slices(at)),
            chest=chest.blood_excess(coarse, neck.slices(at, chest.RANGE_MM)),
            air=air_share(coarse),
            skull_ml=skull_ml,
        )

    def _verdict(self, prepared: PreparedBody) -> Verdict:
        if prepared.problem is not None:
            reason = Reason.BLANK if prepared.blank else None
            findings = (
                Finding(Question.BODY_PART, None, reason=reason, abstained=prepared.problem),
                Finding(Question.CONTRAST_ENHANCED, None, reason=reason, abstained=prepared.problem),
            )
            return Verdict(Stage.CT, self.identity, findings, Coverage((), None, None, False), prepared.warnings)
        reading = self.read(prepared)
        alignment = anatomy.align(reading.sections, reading.used)
        part = part_finding(reading, alignment, self.rules)
        contrast = contrast_finding(reading, alignment, self.rules)
        top, bottom = anatomy.outermost(alignment)
        cut = prepared.edge_fraction[reading.used]
        truncated = bool(cut.size and np.mean(cut > 0.12) > 0.25)
        regions = anatomy.regions_seen(alignment)
        warnings = list(prepared.warnings)
        if alignment.upside_down and alignment.anatomy > 0.5 and len(reading.used) > 8:
            warnings.append("The slices run from feet to head although the header says head to feet.")
        coverage = Coverage(regions, top, bottom, truncated)
        return Verdict(Stage.CT, self.identity, (part, contrast), coverage, tuple(warnings))


@contextmanager
def _one_thread() -> Iterator[None]:
    # The networks are so small that two threads spend their time waiting for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def places(sections: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``(Z,)`` mean position on the body axis in mm of ``(Z, CLASSES)`` probabilities; NaN off the body."""
    body = sections[:, : anatomy.SECTIONS]
    mass = body.sum(1)
    mean: npt.NDArray[np.float64] = np.where(mass > 0.5, body @ anatomy.CENTRES / np.maximum(mass, 1e-9), np.nan)
    return mean


def slices_logit(reading: Reading, rules: Rules) -> float | None:
    """Pooled logit of the slices below the skull base before calibration; None where there are too few."""
    body = reading.sections[:, _HEAD - 1 : anatomy.SECTIONS].sum(1) * reading.used
    if float(body.sum()) >= 5 or (reading.excess is None and float(body.sum()) >= 2):
        return pooled_logit(reading.contrast, body, rules.contrast_correlation)
    return None


def contrast_evidence(reading: Reading, rules: Rules) -> dict[str, float]:
    """Logits of "enhanced": ``"body"`` or ``"neck"``, ``"chest"``, and ``"head"`` from inside the skull.

    ``"neck"`` joins the slices below the skull base with the measured vessels, where there are any; ``"body"`` is
    the slices alone, which count less where ``"chest"``, the measured blood between the lungs, has a say.  A kind
    of evidence that the scan does not offer is absent.
    """
    evidence = {}
    logit = slices_logit(reading, rules)
    if reading.neck is not None:
        vessels = (reading.neck - rules.neck_excess) / rules.neck_slope
        evidence["neck"] = rules.neck_network * (logit or 0.0) + vessels
    elif logit is not None:
        most = _MOST_LOGIT if reading.chest is None else rules.most_network_chest
        evidence["body"] = float(np.clip(rules.contrast_scale * logit + rules.contrast_bias, -most, most))
    if reading.chest is not None:
        evidence["chest"] = (reading.chest - rules.chest_excess) / rules.chest_slope
    if reading.excess is not None:
        evidence["head"] = (reading.excess - rules.head_excess) / rules.head_slope
    return {name: float(np.clip(value, -_MOST_LOGIT, _MOST_LOGIT)) for name, value in evidence.items()}


def contrast_finding(reading: Reading, alignment: anatomy.BodyAlignment, rules: Rules) -> Finding:
    """Whether the slices that show a body are enhanced, or why that cannot be said."""
    question = Question.CONTRAST_ENHANCED
    evidence = contrast_evidence(reading, rules)
    if alignment.anatomy < 0.5 or not evidence:
        return Finding(question, None, abstained="No region with large vessels was recognised.")
    yes = float(1.0 / (1.0 + np.exp(-sum(evidence.values()))))
    probabilities = {"yes": yes, "no": 1 - yes}
    low, high = sorted(alignment.best)
    cover = {region: float(mm) for region, mm in anatomy.coverage_mm(np.array(low), np.array(high)).items()}
    least = rules.least_contrast_neck if max(cover, key=cover.__getitem__) is Region.NECK else rules.least_contrast
    if max(yes, 1 - yes) < least:
        return Finding(
            question, None, probabilities, abstained="The evidence for enhancement is not clear enough."
        )
    return Finding(question, yes > 0.5, probabilities)


def prepare_projections(projections: Projections) -> PreparedBody:
    """The prepared form of a projected volume."""
    coarse, edge = projections.coarse, projections.edge_fraction
    if len(coarse) > _MAX_SLICES:  # longer than any patient: keep every n-th slice
        step = -(-len(coarse) // _MAX_SLICES)
        coarse, edge = coarse[::step], edge[::step]
    problem, blank = projections.calibration.problem, projections.calibration.blank
    if problem is None and not anatomy.readable(coarse).any():
        problem, blank = "The series shows no tissue.", True
    return PreparedBody(
        coarse.astype(np.float16), thumbnails(projections), edge, problem, blank, projections.warnings
    )


def _unreadable(sentence: str) -> PreparedBody:
    names = ("axial", "coronal", "sagittal", "mip_coronal", "mip_sagittal")
    pictures = {name: np.zeros((256, 256), np.uint8) for name in names}
    return PreparedBody(np.full((1, GRID, GRID), -1024, np.float16), pictures, np.zeros(1, np.float32), sentence)


def load(model_dir: Path, device: str = "cpu") -> CtClassifier:
    """Load the classifier from a model folder, after checking every file's hash.

    Raises
    ------
    QcNodeError
        Naming the file or key at fault.
    """
    identity = weights.verify(model_dir)
    card = weights.read_card(model_dir)
    if card.stage != Stage.CT.value:
        raise QcNodeError(f"{model_dir}: this model is for {card.stage}, not for ct.")
    try:
        facts: Mapping[str, Any] = card.content["networks"]
        rules = Rules(**card.content["rules"])
        width = int(facts["width"])
    except (KeyError, TypeError, ValueError) as error:
        raise QcNodeError(
            f"{model_dir / weights.CARD_NAME}: networks or rules are not as expected ({error})."
        ) from error
    nets = []
    for name, outputs in (("position", anatomy.CLASSES), ("contrast", 1)):
        net = SliceNet(4, outputs, width)
        try:
            net.load_state_dict(weights.load_tensors(model_dir, f"{name}.safetensors"))
        except (RuntimeError, KeyError) as error:
            raise QcNodeError(
                f"{model_dir / name}.safetensors: these weights do not fit the network ({error})."
            ) from error
        nets.append(net.to(device).eval())
    return CtClassifier(identity, nets[0], nets[1], rules, device)
