"""Tables of protocols left out, on a pack of made-up features and real images made of the average head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qc_node.classifiers.brain_mri import checks
from qc_node.classifiers.brain_mri.brain_mask import BrainFound
from qc_node.classifiers.brain_mri.classifier import BrainMriClassifier, PreparedHead, load
from qc_node.classifiers.brain_mri.decision import REJECT_REASONS, THICK
from qc_node.classifiers.brain_mri.features import N_FEATURES
from qc_node.classifiers.brain_mri.tissue_order import Order
from qc_node.domain import Reason
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.evaluation import lopo, outcomes, prepared, real_images
from qc_node.training.brain_mri.training import left_out, packed
from qc_node.training.brain_mri.training.measured import MeasuredSettings
from tests.training.brain_mri import made

MODELS = Path(__file__).resolve().parents[3] / "models" / "brain-mri"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pack() -> packed.Pack:
    return made.pack()


@pytest.fixture(scope="module")
def shipped() -> BrainMriClassifier:
    return load(MODELS)


@pytest.fixture(scope="module")
def out(pack: packed.Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lopo")
    left_out.train(pack, folder, MeasuredSettings(epochs=10, patience=10, lr=5e-3), (0, 1), log=lambda line: None)
    return folder


def test_the_classifier_without_a_protocol_has_its_networks_and_its_own_decision(
    pack: packed.Pack, out: Path, shipped: BrainMriClassifier
) -> None:
    judging = lopo.without(shipped, pack, out, "protocol A")
    assert len(judging.members) == 2
    held = left_out.rows_of(pack, "protocol A")
    cross = left_out.cross_fitted(pack, out)
    use = cross.groups == "protocol A"
    heads = [
        PreparedHead(np.zeros(0, np.float16), {}, checks.Measures((), ncc=0.9), pack.features[r]) for r in held[:8]
    ]
    order = [cross.rows[use].tolist().index(r) for r in held[:8]]
    # The same answers as those that the decision was chosen on.
    assert np.allclose(judging.logits(heads)["motion"], cross.logits["motion"][use][order], atol=1e-5)
    other = lopo.without(shipped, pack, out, left_out.PAINTED)
    assert other.decision != judging.decision


def test_tables_count_protocols_and_people(
    pack: packed.Pack, out: Path, shipped: BrainMriClassifier, tmp_path: Path
) -> None:
    found = lopo.run(shipped, pack, out, None, log=lambda line: None)
    result = lopo.write(found, tmp_path, plots=False)
    assert json.loads((tmp_path / "left-out.json").read_text()) == json.loads(json.dumps(result))
    rows = {(r["left_out"], r["question"]): r for r in result["simulated"]}
    assert {g for g, _ in rows} == {"protocol A", "protocol B", left_out.PAINTED}
    assert rows[left_out.PAINTED, "motion"]["rung"] == "R0" and rows["protocol A", "motion"]["rung"] == "R1"
    for (group, question), row in rows.items():
        assert row["asked"] == sum(row[s] for s in outcomes.STATES), (group, question)
        for key in ("asked", *outcomes.STATES):
            assert row[key] == sum(p[key] for p in row["by_person"].values())
    asked = rows["protocol A", "straight_reject"]
    assert asked["asked"] == 200 and asked["people"] == 5 and asked["right"] > 140
    risk = result["risk_coverage"]["R1 straight_reject"]
    assert risk["asked"] == 400
    assert "| protocol A | R1 | 5 | " in (tmp_path / "left-out.md").read_text()


def test_thick_slices_and_stripped_twins_are_not_asked_about(
    pack: packed.Pack, shipped: BrainMriClassifier
) -> None:
    changed = made.pack(4)
    changed.targets["reject"][:2] = (THICK, packed.IGNORE)
    changed.targets["reject"][2] = REJECT_REASONS.index("coverage")
    found = lopo.judged_rows(shipped, changed, np.arange(4))
    assert len(found) == 2 and found[0][2] == outcomes.Truth("coverage")


def _image(name: str, person: str, kind: str, reject: bool | None) -> dict[str, object]:
    state = {None: "undetermined", (kind not in real_images.PROPER): "right"}.get(reject, "wrong")
    return {
        "image": name,
        "person": person,
        "kind": kind,
        "group": people.scanner_of(person) or person,
        "proper": kind in real_images.PROPER,
        "reject": reject,
        "tier": 1 if reject is False else None,
        "outcome": {"straight_reject": state},
    }


def test_real_images_are_counted_by_protocol_and_by_kind() -> None:
    rows = [
        _image("a", "ds000011-sub-01", "t1w", False),
        _image("b", "ds000011-sub-02", "t1w", None),
        _image("c", "ds000011-sub-02", "other", True),
        _image("d", "openms-1", "other", False),
    ]
    found = {(r["left_out"], r["what"]): r for r in lopo.real_groups(rows)}
    heads = found["protocol A", "heads"]
    assert (heads["images"], heads["people"]) == (2, 2)
    assert (heads["accepted"], heads["rejected"], heads["undetermined"]) == (1, 0, 1)
    assert heads["tiers"] == {"1": 1, "2": 0, "3": 0, "open": 0}
    other = found["other", "no proper T1w"]
    assert (other["images"], other["accepted"], other["rejected"]) == (2, 1, 1)


def test_a_real_image_is_judged_by_what_never_saw_its_protocol() -> None:
    groups = ["protocol A", left_out.PAINTED]
    assert real_images.group_in_pack("ds000011-sub-09", groups) == "protocol A"
    assert real_images.group_in_pack("T1_head-B", groups) is None
    # Nobody's protocol is not the painted one.
    assert real_images.group_in_pack("VS-SEG-001", groups) is None


def test_prepared_images_are_kept_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    head = PreparedHead(
        rng.random((9, 8, 8)).astype(np.float16),
        {},
        checks.Measures(
            (3, 4, 5),
            (1.0, 1.0, 1.2),
            ncc=0.7,
            mask=BrainFound(1200.0, 1.1, 0.9, np.eye(4)),
            order=Order(0.8, 0.1),
        ),
        rng.random(N_FEATURES).astype(np.float32),
        Reason.COVERAGE,
        warnings=("a warning",),
    )
    prepared.save(tmp_path / "a.npz", head)
    again = prepared.load(tmp_path / "a.npz")
    assert again.certain is Reason.COVERAGE and again.warnings == head.warnings
    assert repr(again.measures) == repr(head.measures)
    assert np.array_equal(again.features, head.features)
    assert np.array_equal(again.network_input, head.network_input)
