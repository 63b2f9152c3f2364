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

from qc_node.classifiers.ct import abdomen, anatomy, chest, levels, neck, pelvis, vessels
from qc_node.classifiers.ct.contrast import HEAD_SECTIONS, contrast_evidence, contrast_finding, slices_logit
from qc_node.classifiers.ct.head import head_vessels, hollow, intracranial
from qc_node.classifiers.ct.networks import SliceNet, contrast_channels, position_channels
from qc_node.classifiers.ct.part import part_finding
from qc_node.classifiers.ct.pictures import thumbnails
from qc_node.classifiers.ct.plausibility import air_share
from qc_node.classifiers.ct.projections import COARSE_MM, GRID, Projections, project
from qc_node.classifiers.ct.readout import Reading, Rules, places
from qc_node.domain import (
    Coverage,
    Finding,
    ModelIdentity,
    QcNodeError,
    Question,
    Reason,
    Stage,
    Verdict,
    Volume,
)
from qc_node.networks import weights

__all__ = [
    "CtClassifier",
    "PreparedBody",
    "Reading",
    "Rules",
    "contrast_evidence",
    "contrast_finding",
    "load",
    "part_finding",
    "places",
    "prepare_projections",
    "slices_logit",
]

MAX_INPUT_BYTES = 10_000_000
_BATCH = 64
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
        head = sections[:, :HEAD_SECTIONS].sum(1) > 0.5
        if hollow(coarse, head):  # a plastic skull looks like a head in every respect but one
            sections[head] = 0.0
            sections[head, anatomy.NOTHING] = 1.0
            head[:] = False
        skull_ml = float(intracranial(coarse[head]).sum()) * COARSE_MM**3 / 1000.0 if head.sum() >= 3 else 0.0
        at = places(sections)
        spine = vessels.find_spine(coarse) if np.nan_to_num(at).max(initial=0.0) > vessels.RANGE_MM[0] else None
        above, below = vessels.aorta_excess(coarse, spine, at) if spine else (None, None)
        return Reading(
            sections,
            contrast,
            used,
            head=head_vessels(coarse, head),
            neck=neck.vessel_excess(coarse, neck.slices(at)),
            chest=chest.blood_excess(coarse, neck.slices(at, chest.RANGE_MM)),
            aorta=above,
            aorta_low=below,
            organs=abdomen.organ_excess(coarse, spine, at) if spine else None,
            femoral=pelvis.femoral_excess(coarse, vessels.longest_run(at, pelvis.RANGE_MM)),
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
