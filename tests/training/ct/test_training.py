"""CT training from made bodies to a model folder, and the truth that it teaches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from qc_node.classifiers.ct.anatomy import LIMB, NOTHING, SECTION_MM, SECTIONS
from qc_node.classifiers.ct.calibration import AIR
from qc_node.classifiers.ct.classifier import load
from qc_node.classifiers.ct.projections import project
from qc_node.domain import BodyPart, QcNodeError, Volume
from qc_node.training.ct.data.pack import (
    PackItem,
    landmarks_mm,
    load_pack,
    pack_bodies,
    read_landmarks,
    soft_targets,
    virtual_plain,
)
from qc_node.training.ct.data.trials import cases_of, crop_part
from qc_node.training.ct.evaluation import evaluate
from qc_node.training.ct.simulation.augment import augment, made_nothing
from qc_node.training.ct.simulation.bodies import make_body
from qc_node.training.ct.simulation.heads import make_head
from qc_node.training.ct.training import imageqc, train
from qc_node.training.ct.training.slice_networks import position_cell

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ct-training")]


@pytest.fixture(scope="module")
def bodies() -> list[PackItem]:
    return list(pack_bodies(6, 3))


def test_made_bodies_are_calibrated_and_enhanced_as_told() -> None:
    for enhanced in (False, True):
        volume, top, phase = make_body(enhanced=enhanced, rng=np.random.default_rng(1))
        coarse = project(volume).coarse
        assert (phase == "plain") is not enhanced
        assert 380 <= top <= 760 and len(coarse) == volume.shape[0]
        kidneys = coarse[round((605 - top) / 4), 40:75, 20:76] if top < 560 else None
        if kidneys is not None:
            bright = np.percentile(kidneys[kidneys > AIR], 80)
            assert bool(bright > 70) is enhanced


def label_map() -> np.ndarray:
    """A ball of brain in CSF, bone and skin with a stem and two vessels: enough of a head to make one."""
    z, y, x = np.mgrid[:150, :140, :120]
    r = np.sqrt(((z - 70) / 1.1) ** 2 + ((y - 70) / 1.05) ** 2 + (x - 60) ** 2)
    labels = np.zeros(z.shape, np.int16)
    for limit, label in ((52, 511), (48, 515), (43, 24), (40, 3), (34, 2)):
        labels[r < limit] = label
    labels[90:125, 64:76, 54:66] = 16
    labels[60:64, 30:110, 58:62] = 514
    labels[64:68, 30:110, 58:62] = 502
    return labels


def test_made_heads_differ_in_their_vessels_only_when_enhanced() -> None:
    labels = label_map()
    bright = {}
    for enhanced in (False, True):
        head = make_head(labels, enhanced=enhanced, rng=np.random.default_rng(4))
        hu = head.volume.voxels
        assert 0 <= head.vertex_mm < head.skull_base_mm
        bone = np.argwhere(hu > 450)
        low, high = bone.min(0), bone.max(0)
        quarter = (high - low) // 4
        inside = hu[tuple(slice(a + q, b - q) for a, b, q in zip(low, high, quarter, strict=True))]
        assert hu.min() >= -1024 and 0 < np.median(inside) < 60
        bright[enhanced] = int((inside > 90).sum())
    assert bright[True] > 3 * bright[False] + 20


def test_virtual_plain_keeps_bone_and_takes_enhancement() -> None:
    hu = np.full((12, 60, 60), 60, np.int16)
    hu[:, 10:20, 10:20] = 180  # kidney
    hu[:, 35:50, 25:40] = 500  # vertebra
    plain = virtual_plain(hu, np.random.default_rng(0))
    assert plain[:, 12:18, 12:18].mean() < 70
    np.testing.assert_array_equal(plain[:, 38:47, 28:37], 500)


def test_landmark_table_is_in_anatomical_order() -> None:
    rows = read_landmarks()
    assert len(rows) == 43
    volume = Volume(np.zeros((200, 2, 2), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))
    for name, row in rows.items():
        depths = list(landmarks_mm(row, volume).values())
        assert depths == sorted(depths), name
        assert row["use"] in ("whole", "part", "")


def test_soft_targets_point_at_the_position() -> None:
    target = soft_targets(np.array([100.0, 700.0, 1000.0], np.float32), -1)
    np.testing.assert_allclose(target.sum(1), 1, rtol=1e-5)
    centres = (np.arange(SECTIONS) + 0.5) * SECTION_MM
    assert target[0, :SECTIONS] @ centres == pytest.approx(100, abs=3)
    assert target[1, :SECTIONS] @ centres == pytest.approx(700, abs=3)
    assert target[2, LIMB] == 1
    assert soft_targets(np.zeros(1, np.float32), NOTHING)[0, NOTHING] == 1


def test_crops_carry_the_truth_of_their_range(bodies: list[PackItem]) -> None:
    found = [c for item in bodies for c in cases_of(item, 4, np.random.default_rng(0))]
    assert {c.part for c in found} >= {BodyPart.ABDOMEN_PELVIS, BodyPart.OTHER}
    assert all(c.group.startswith("simulated") for c in found)
    assert crop_part(np.arange(440.0, 850.0, 4.0, dtype=np.float32)) is BodyPart.ABDOMEN_PELVIS
    assert crop_part(np.arange(440.0, 745.0, 4.0, dtype=np.float32)) is None, "on the border of two rules"


def test_augmentation_keeps_hounsfield_units_and_can_be_repeated(bodies: list[PackItem]) -> None:
    stack = torch.from_numpy(np.stack([bodies[0].coarse[10:13]] * 32).astype(np.float32))
    first, again = (augment(stack, np.random.default_rng(2)) for _ in range(2))
    torch.testing.assert_close(first, again)
    soft = (first > 0) & (first < 100)
    assert abs(float(first[soft].mean()) - float(stack[(stack > 0) & (stack < 100)].mean())) < 15
    assert float(first.max()) < 4000 and torch.isfinite(first).all()


def test_nothing_is_never_a_body_slice(bodies: list[PackItem]) -> None:
    rng = np.random.default_rng(0)
    stacks = [made_nothing(bodies, rng) for _ in range(20)]
    assert all(s.shape == (3, 96, 96) and s.dtype == np.float32 for s in stacks)
    assert position_cell(bodies[0], 0) == (int(bodies[0].position[0] // SECTION_MM),)


def test_folds_never_split_a_person(bodies: list[PackItem]) -> None:
    twice = [*bodies, *(PackItem(**{**vars(b), "name": b.name + "x"}) for b in bodies)]
    folds = train.fold_of(twice)
    assert set(folds) == {b.person for b in bodies} and set(folds.values()) == set(range(train.FOLDS))


def test_folds_of_real_people_do_not_depend_on_made_ones(bodies: list[PackItem]) -> None:
    real = [PackItem(**{**vars(b), "person": f"p{n}", "kind": "real"}) for n, b in enumerate(bodies)]
    alone, together = train.fold_of(real), train.fold_of([*real, *bodies])
    assert {p: together[p] for p in alone} == alone


def test_train_evaluate_and_ship(bodies: list[PackItem], tmp_path: Path) -> None:
    for item in bodies:
        item.save(tmp_path / "pack")
    assert [i.name for i in load_pack(tmp_path / "pack")] == sorted(b.name for b in bodies)
    run = CliRunner()
    args = ["--pack", str(tmp_path / "pack"), "--out", str(tmp_path / "runs")]
    small = ["--epochs", "1", "--steps", "1", "--threads", "1"]
    result = run.invoke(train.command, [*args, *small, "--ship", str(tmp_path / "model")], catch_exceptions=False)
    assert result.exit_code == 0 and "wrote" in result.output
    classifier = load(tmp_path / "model")
    assert "not yet" in json.dumps(json.loads((tmp_path / "model" / "card.json").read_text())["figures"])
    volume, _, _ = make_body(enhanced=True, rng=np.random.default_rng(0))
    assert len(classifier.judge([classifier.prepare(volume)])) == 1

    items = load_pack(tmp_path / "pack")
    real = [PackItem(**{**vars(i), "kind": "real", "label": "abdomen_pelvis", "use": "whole"}) for i in items]
    # Folds by the made persons' numbers stay valid: here only the bookkeeping is of interest.
    answers = evaluate.collect(items, tmp_path / "runs", 16, 2, lambda _: None)
    for answer in answers[::2]:
        object.__setattr__(answer.case, "group", "whole")
        object.__setattr__(answer.case, "name", "openkbp_" + answer.case.name)
    figures = evaluate.plain(evaluate.evaluate(answers))
    json.dumps(figures, allow_nan=False)
    assert figures["whole"]["body_part"]["cases"] > 0 and "rules" in figures and real
    assert "| whole | body_part |" in evaluate.table(figures)
    assert evaluate.picture(answers[0].case, tmp_path / "errors").stat().st_size > 1000
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    again = run.invoke(
        train.command,
        [
            *args,
            *small,
            "--fold",
            "-1",
            "--ship",
            str(tmp_path / "model"),
            "--figures",
            str(tmp_path / "figures.json"),
        ],
        catch_exceptions=False,
    )
    assert again.exit_code == 0 and "resumed after epoch 1" in again.output
    assert load(tmp_path / "model").rules.contrast_scale == figures["rules"]["contrast_scale"]


def test_imageqc_path_trains_and_votes(bodies: list[PackItem], tmp_path: Path) -> None:
    pictures = imageqc.make_pictures(bodies, 1, lambda _: None)
    assert pictures.images.shape[1:] == (9, imageqc.SIZE, imageqc.SIZE)
    pictures.group[:] = "whole"
    logits: dict[str, dict[int, np.ndarray]] = {}
    for conversion in ("mip_axial", "mip_coronal", "mip_sagittal"):
        logits[conversion] = {
            fold: imageqc.train_conversion(
                pictures,
                conversion,
                fold,
                tmp_path,
                backbone="light",
                init=None,
                epochs=1,
                steps=1,
                batch=4,
                device="cpu",
                log=lambda _: None,
            )
            for fold in (0, 1)
        }
    figures = imageqc.measure(pictures, logits)
    assert set(figures) == {"mip_axial", "mip_coronal", "mip_sagittal", "mip ensemble"}
    assert (
        0 <= figures["mip ensemble"]["body part all"] <= 1
        and figures["mip_sagittal"]["paper, external set"] == 99.33
    )


def test_empty_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(QcNodeError, match=str(tmp_path)):
        load_pack(tmp_path)
