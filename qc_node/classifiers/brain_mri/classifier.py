"""The brain MRI classifier: a volume in, a verdict out.

A cascade of cheap certain checks (:mod:`qc_node.classifiers.brain_mri.checks`) answers first; small networks, on
measured features and on pixels, answer the rest with temperature-scaled probabilities, and say
"undetermined" where they are unsure or the image is unlike anything they were trained on.  Bad images are
findings, never exceptions.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qc_node.classifiers.brain_mri import (
    brain_mask,
    checks,
    evidence,
    features,
    locate,
    networks,
    novelty,
    preprocess,
    stripes,
    tissue_order,
    tissue_places,
)
from qc_node.classifiers.brain_mri import registration as reg
from qc_node.classifiers.brain_mri.decision import (
    HEADS,
    REJECT_HEAD,
    REJECT_REASONS,
    THICK,
    Decision,
    decision_of,
    posterior,
    reject_probability,
)
from qc_node.classifiers.brain_mri.values import clean_values, without_blanked
from qc_node.domain import (
    GRADED,
    Finding,
    Grade,
    ModelIdentity,
    QcNodeError,
    Question,
    Reason,
    Stage,
    Verdict,
    Volume,
    tier_finding,
)
from qc_node.domain.measurable import TissueLevels
from qc_node.measures.t1w import levels_of
from qc_node.networks import weights

MEASURED = "measured-{}.safetensors"
PIXELS = "pixels-{}.safetensors"
"""Weights of one fold; the networks of all folds in a model folder are averaged."""
BRAIN_MASK = "brain_mask.safetensors"
"""The second opinion on where the brain is."""
SLICE_SHAPE = (sum(len(p) for _, p in preprocess.SLICES_RAS), preprocess.CANVAS, preprocess.CANVAS)

SENTENCES: Mapping[Reason, str] = {
    Reason.GEOMETRY: "The voxels do not form a regular three-dimensional volume.",
    Reason.BLANK: "The image is blank or unreadable.",
    Reason.TOO_FEW_SLICES: "The series has fewer than 40 slices.",
    Reason.THICK_SLICES: "The slices are too thick for a 3D T1w image.",
    Reason.FIELD_OF_VIEW: "The field of view is too small for a whole brain.",
    Reason.SEGMENTED: "The image is a segmentation or a tissue map.",
    Reason.NOT_BRAIN: "The image does not look like a head.",
    Reason.COVERAGE: "Part of the brain is missing.",
    Reason.SKULL_STRIPPED: "Skull and scalp have been removed.",
    Reason.ORIENTATION: "The head is turned or mirrored against what the header says.",
    Reason.NOT_T1W: "The contrast is not that of a T1-weighted image.",
}
"""What each reason means, for people."""

STRIPES = "Stripes cross the image, as a spike in k-space leaves them; what they hide cannot be graded."


@dataclass(frozen=True)
class PreparedHead:
    """A volume made ready for the network.

    Attributes
    ----------
    network_input
        ``(9, 208, 208)`` float16: normalised slices in the frame of the average head, kept for later
        training.  Carries no header.
    thumbnails
        Mid-plane slices ``axial``, ``coronal``, ``sagittal``, uint8, 208 x 208.
    measures
        What the checks measured.
    features
        Numbers measured on the slices.
    certain
        Reason of a certain reject, or None.
    doubt
        Why the image is undetermined whatever the networks say, or None.
    failed
        Why nothing can be said, or None.
    tissue_levels
        Grey values of the tissues, for the measures; None where the head is not found as it is.
    """

    network_input: npt.NDArray[np.float16]
    thumbnails: dict[str, npt.NDArray[np.uint8]]
    measures: checks.Measures
    features: npt.NDArray[np.float32]
    certain: Reason | None = None
    failed: str | None = None
    doubt: str | None = None
    warnings: tuple[str, ...] = ()
    tissue_levels: TissueLevels | None = None


@dataclass(frozen=True)
class Member:
    """The networks of one fold."""

    measured: networks.MeasuredNet
    pixels: networks.PixelNet | None = None


class BrainMriClassifier:
    """Judges 3D T1w brain series.

    Build it with :func:`load`.  Stateless between calls, so one classifier may serve several threads.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        head: preprocess.AverageHead,
        members: Sequence[Member],
        decision: Decision,
        device: str = "cpu",
        second: brain_mask.SecondOpinion | None = None,
        known: novelty.Novelty | None = None,
    ) -> None:
        self.known = known
        self.identity = identity
        self.head = head
        self.members = [
            Member(m.measured.to(device).eval(), m.pixels.to(device).eval() if m.pixels else None) for m in members
        ]
        self.decision = decision
        self.device = device
        self.locate = locate.Locator(head, second)
        self.tissue_order = tissue_order.TissueOrder(head)
        self.tissue_places = tissue_places.TissuePlaces(head)
        self.measure = features.FeatureMaker(head)
        masks = (torch.from_numpy(m) for m in (self.measure.brain, self.measure.head))
        self.regions = networks.regions_of(*masks).to(device)
        self.planes = preprocess.slice_planes().to(device)

    def prepare(self, volume: Volume) -> PreparedHead:
        """Everything before the network: checks, registration, slices.  Never raises on a bad image."""
        shape = tuple(np.shape(volume.voxels))
        try:
            with _one_thread():
                return self._prepare(volume)
        except (ValueError, RuntimeError, ArithmeticError, IndexError, np.linalg.LinAlgError) as error:
            kind = type(error).__name__
            return _nothing(checks.Measures(shape), failed=f"The image could not be prepared ({kind}).")

    def _prepare(self, volume: Volume) -> PreparedHead:
        if np.ndim(volume.voxels) != 3:
            return _nothing(checks.Measures(tuple(np.shape(volume.voxels))), certain=Reason.GEOMETRY)
        values, bad_share = clean_values(volume)
        measures, reason = checks.before_registration(volume, values, bad_share)
        warnings = []
        if 0 < bad_share <= checks.MAX_BAD_SHARE:
            warnings.append(f"{100 * bad_share:.2g} % of the voxels are not numbers and were filled in.")
        if reason in (Reason.BLANK, Reason.GEOMETRY):
            return _nothing(measures, certain=reason)
        grid = reg.Grid(*without_blanked(values, volume.affine))
        if reason is None and min(grid.values.shape[::-1] * np.array(volume.spacing_mm)) < checks.MIN_EXTENT_MM:
            reason = Reason.FIELD_OF_VIEW
        located = self.locate(grid, measures)
        slices = preprocess.network_slices(grid, located.matrix, self.head)
        measures = replace(
            located.measures,
            stripes=stripes.stripe_level(slices, self.measure.window),
            order=self.tissue_order(slices),
        )
        ruling = evidence.measured(measures)
        if reason is None:
            reason = ruling.reason
        return PreparedHead(
            slices,
            preprocess.thumbnails(slices),
            measures,
            self.measure(slices),
            reason,
            doubt=ruling.doubt,
            warnings=(*warnings, *located.warnings),
            tissue_levels=None if reason else self._tissue_levels(volume, located.matrix),
        )

    def _tissue_levels(self, volume: Volume, matrix: reg.Matrix) -> TissueLevels | None:
        """What is measured of the tissues; never a reason to have no verdict."""
        try:
            with np.errstate(all="ignore"):
                return levels_of(volume, self.tissue_places(matrix))
        except (ValueError, RuntimeError, ArithmeticError, IndexError, np.linalg.LinAlgError):
            return None

    def logits(self, prepared: Sequence[PreparedHead]) -> dict[str, npt.NDArray[np.float64]]:
        """The network's raw answers ``(n, n_answers)`` per head, whatever the checks said.

        Raises
        ------
        QcNodeError
            The model folder has no network.
        """
        if not self.members:
            raise QcNodeError("The model folder of brain_mri holds no network.")
        numbers = torch.from_numpy(np.stack([p.features for p in prepared])).to(self.device)
        with torch.inference_mode():
            outputs = [self._member(m, numbers, prepared) for m in self.members]
            mean = {k: torch.stack([o[k].double() for o in outputs]).mean(0) for k in outputs[0]}
        return {k: v.cpu().numpy() for k, v in mean.items()}

    def _member(self, member: Member, numbers: Tensor, prepared: Sequence[PreparedHead]) -> dict[str, Tensor]:
        """Logits of one fold: both networks, mixed as the decision says."""
        out: dict[str, Tensor] = member.measured(numbers)
        if member.pixels is None:
            return out
        # One image at a time: a batch of maps does not fit into a core's cache and takes longer.
        slices = (torch.from_numpy(p.network_input).float().to(self.device) for p in prepared)
        parts = [member.pixels(x[None], self.planes, self.regions) for x in slices]
        for name, share in self.decision.pixel_share.items():
            if share > 0:
                seen = torch.cat([p[name] for p in parts])
                out[name] = (1 - share) * out[name] + share * seen
        return out

    def probabilities(self, prepared: Sequence[PreparedHead]) -> dict[str, npt.NDArray[np.float64]]:
        """Calibrated probabilities ``(n, n_answers)`` per head, whatever the checks said."""
        return {
            name: posterior(z, self.decision, name)
            for name, z in self.logits(prepared).items()
            if name != "damage"
        }

    def judge(self, prepared: Sequence[PreparedHead]) -> list[Verdict]:
        """One verdict per prepared volume, in order; the network runs once, on those the checks left open."""
        open_cases = [i for i, p in enumerate(prepared) if p.certain is None and p.failed is None]
        answers: dict[str, npt.NDArray[np.float64]] = {}
        if open_cases and self.members:
            answers = self.probabilities([prepared[i] for i in open_cases])
        verdicts = []
        for i, p in enumerate(prepared):
            row = open_cases.index(i) if i in open_cases else None
            own = {k: v[row] for k, v in answers.items()} if row is not None else {}
            findings = self._findings(p, own)
            if findings[0].value is False and self.unlike(p):
                findings = _undetermined(novelty.UNLIKE)
            verdicts.append(Verdict(Stage.BRAIN_MRI, self.identity, findings, warnings=p.warnings))
        return verdicts

    def unlike(self, p: PreparedHead) -> bool:
        """Whether an image is so unlike the training images that it is not called a proper one."""
        if self.known is None:
            return False
        return bool(self.known.distance(p.features[None])[0] > self.decision.unlike_at)

    def _findings(self, p: PreparedHead, answers: Mapping[str, npt.NDArray[np.float64]]) -> tuple[Finding, ...]:
        if p.failed is not None:
            return _undetermined(p.failed)
        if p.certain is not None:
            return (Finding(Question.STRAIGHT_REJECT, True, {}, p.certain),)
        if p.doubt is not None:
            return _undetermined(p.doubt)
        if not answers:
            return _undetermined("No network is installed for this question.")
        first = self._reject(answers[REJECT_HEAD])
        ruling = evidence.NOTHING
        if first.value is False:
            ruling = evidence.accepted(p.measures, first.probabilities["yes"])
        elif first.value is True and first.reason is not None:
            ruling = evidence.rejected(first.reason, p.measures)
        if ruling.doubt is not None:
            return _undetermined(ruling.doubt)
        findings = [first]
        if first.value is True:
            return tuple(findings)
        if first.value is None:
            sentence = "It is not certain that this is a proper whole-brain T1w image."
            findings += [Finding(q, None, abstained=sentence) for q in (Question.GADOLINIUM, *GRADED)]
            return (*findings, tier_finding(findings[2:]))
        findings.append(self._gadolinium(answers[Question.GADOLINIUM.value]))
        if p.measures.stripes >= stripes.VISIBLE:
            grades = [Finding(q, None, abstained=STRIPES) for q in GRADED]
        else:
            grades = [self._grade(q, answers[q.value]) for q in GRADED]
        return (*findings, *grades, tier_finding(grades))

    def _reject(self, p: npt.NDArray[np.float64]) -> Finding:
        probability = float(reject_probability(p[None])[0])
        probabilities = {"yes": probability, "no": 1 - probability}
        margin = self.decision.unsure.get(REJECT_HEAD, 0.0)
        if abs(probability - self.decision.reject_at) < margin:
            return Finding(
                Question.STRAIGHT_REJECT,
                None,
                probabilities,
                abstained="The network is not sure whether this is a proper whole-brain T1w image.",
            )
        if probability >= self.decision.reject_at:
            reason = Reason(REJECT_REASONS[1 + int(np.argmax(p[1:THICK]))])
            return Finding(Question.STRAIGHT_REJECT, True, probabilities, reason)
        return Finding(Question.STRAIGHT_REJECT, False, probabilities)

    def _gadolinium(self, p: npt.NDArray[np.float64]) -> Finding:
        probabilities = {"yes": float(p[1]), "no": float(p[0])}
        if float(p.max()) < self.decision.unsure.get("gadolinium", 0.0):
            return Finding(
                Question.GADOLINIUM, None, probabilities, abstained="The network is not sure about gadolinium."
            )
        return Finding(Question.GADOLINIUM, bool(p[1] > p[0]), probabilities)

    def _grade(self, question: Question, p: npt.NDArray[np.float64]) -> Finding:
        probabilities = {str(g): float(p[g]) for g in range(3)}
        limit = self.decision.unsure.get(question.value, 0.0)
        if int(p.argmax()) == Grade.SEVERE:
            limit = max(limit, self.decision.unsure_severe.get(question.value, 0.0))
        if float(p.max()) < limit:
            return Finding(
                question,
                None,
                probabilities,
                abstained=f"The network is not sure about the {question.value} grade.",
            )
        grade = int(p.argmax())
        reason = {
            Question.MOTION: Reason.MOTION,
            Question.CONTRAST: Reason.POOR_CONTRAST,
            Question.NOISE: Reason.NOISE,
        }[question]
        return Finding(question, grade, probabilities, reason if grade else None)


def load(model_dir: Path, device: str = "cpu") -> BrainMriClassifier:
    """A classifier from a model folder whose every file has been verified against its card.

    Raises
    ------
    QcNodeError
        A file is missing, differs from the card, or does not fit the network.
    """
    identity = weights.verify(model_dir)
    card = weights.read_card(model_dir)
    if card.stage != Stage.BRAIN_MRI.value:
        raise QcNodeError(f"The model card {model_dir / weights.CARD_NAME} is for {card.stage}, not brain_mri.")
    recipe = card.content.get("preprocessing", {})
    if recipe.get("sha256") != preprocess.recipe_hash():
        raise QcNodeError(
            f"The model card {model_dir / weights.CARD_NAME} was made with another preprocessing than this one."
        )
    head = preprocess.load_average_head(model_dir)
    names = {file.name for file in card.files}
    members = []
    for name in sorted(fnmatch.filter(names, MEASURED.format("*"))):
        measured = networks.MeasuredNet(features.N_FEATURES, HEADS)
        _fill(measured, model_dir, name)
        twin = PIXELS.format(name.removeprefix("measured-").removesuffix(".safetensors"))
        pixels = None
        if twin in names:
            pixels = networks.PixelNet({k: n for k, n in HEADS.items() if k != REJECT_HEAD})
            _fill(pixels, model_dir, twin)
        members.append(Member(measured, pixels))
    decision = decision_of(card.content.get("decision", {}))
    second = _second_opinion(model_dir, head) if BRAIN_MASK in names else None
    known = _novelty(model_dir) if novelty.FILE in names else None
    return BrainMriClassifier(identity, head, members, decision, device, second, known)


def _second_opinion(model_dir: Path, head: preprocess.AverageHead) -> brain_mask.SecondOpinion:
    try:
        network = brain_mask.network_of(weights.load_tensors(model_dir, BRAIN_MASK))
    except (KeyError, RuntimeError):
        raise QcNodeError(f"The model file {model_dir / BRAIN_MASK} does not fit the network.") from None
    return brain_mask.SecondOpinion(network, head)


def _novelty(model_dir: Path) -> novelty.Novelty:
    try:
        return novelty.of_tensors(weights.load_tensors(model_dir, novelty.FILE), features.N_FEATURES)
    except ValueError as error:
        raise QcNodeError(f"The model file {model_dir / novelty.FILE} does not fit: {error}.") from None


def _fill(network: torch.nn.Module, model_dir: Path, name: str) -> None:
    try:
        network.load_state_dict(weights.load_tensors(model_dir, name))
    except RuntimeError:
        raise QcNodeError(f"The model file {model_dir / name} does not fit the network.") from None


def _nothing(measures: checks.Measures, certain: Reason | None = None, failed: str | None = None) -> PreparedHead:
    """A prepared volume without slices."""
    empty = np.zeros(SLICE_SHAPE, dtype=np.float16)
    numbers = np.zeros(features.N_FEATURES, dtype=np.float32)
    return PreparedHead(empty, preprocess.thumbnails(empty), measures, numbers, certain, failed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small operations: a second thread waits more than it works, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _undetermined(sentence: str) -> tuple[Finding, ...]:
    findings = [
        Finding(q, None, abstained=sentence) for q in (Question.STRAIGHT_REJECT, Question.GADOLINIUM, *GRADED)
    ]
    return (*findings, tier_finding(findings[2:]))
