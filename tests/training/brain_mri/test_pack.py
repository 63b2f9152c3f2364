"""The pack and training: a person made of labels, seeds that repeat, splits without leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qc_node.classifiers.brain_mri import checks, decision, preprocess
from qc_node.classifiers.brain_mri.classifier import SLICE_SHAPE, PreparedHead, load
from qc_node.training.brain_mri import people
from qc_node.training.brain_mri.simulation import coil, damage, implants, synthesis, tissues
from qc_node.training.brain_mri.simulation.simulator import VOLUME_SHAPE, PackRow, Picture, Simulator
from qc_node.training.brain_mri.training import packed, train, volumes

MODELS = Path(__file__).resolve().parents[3] / "models" / "brain-mri"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("brain-mri-pack")]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """One person whose labels come from the average head: of nobody."""
    head = preprocess.load_average_head(MODELS)
    c = head.channels
    labels = np.where(c[6] > 0.5, 507, 0).astype(np.int16)
    labels[(c[6] > 0.5) & (c[1] < 0.3) & (c[1] > 0.02)] = 24
    labels[c[3] > 0.4] = 3
    labels[c[2] > 0.45] = 2
    labels[c[4] > 0.5] = 4
    labels[c[5] > 0.25] = 514
    person = tissues.Anatomy(
        "average",
        "map",
        None,
        labels,
        np.clip(c[2] / 0.7, 0, 1).astype(np.float16),
        np.clip(c[3] / 0.5, 0, 1).astype(np.float16),
        head.affine,
        np.eye(4),
    )
    path = tmp_path_factory.mktemp("anatomy") / "average.npz"
    person.save(path)
    names = np.array([0, 2, 3, 4, 24, 507, 514])
    means = np.array([5.0, 140, 100, 45, 40, 90, 60])
    priors = synthesis.Priors(
        names, np.arange(7), np.stack([means, means * 0.05]), np.stack([means * 0.05, means * 0.01])
    )
    made = Simulator([path], priors, head)
    assert made.volume_every == 4
    made.volume_every = 1
    return made


@pytest.fixture(scope="module")
def base(simulator: Simulator) -> Callable[[int], list[Picture]]:
    """The images of a seed, made once; nobody writes to them."""
    return cache(simulator.base)


def test_the_same_seed_gives_the_same_images(simulator: Simulator) -> None:
    for seed in (3,):
        first, second = simulator.base(seed), simulator.base(seed)
        assert [p.row for p in first] == [p.row for p in second]
        assert all(np.array_equal(a.slices, b.slices) for a, b in zip(first, second, strict=True))


def test_rows_say_what_is_defined(base: Callable[[int], list[Picture]]) -> None:
    rows = [p.row for seed in range(4) for p in base(seed)]
    assert {r.reject == "ok" for r in rows} == {True, False}
    for r in rows:
        defined = r.reject == "ok"
        assert r.reject in decision.REJECT_REASONS
        assert all((x is not None) == defined for x in (r.gadolinium, r.motion, r.contrast, r.noise))


def test_pictures_are_what_the_classifier_takes(base: Callable[[int], list[Picture]]) -> None:
    picture = base(1)[0].slices
    assert picture.shape == SLICE_SHAPE and picture.dtype == np.float16
    assert np.isfinite(picture.astype(np.float32)).all()


def test_rows_of_older_packs_can_be_read(base: Callable[[int], list[Picture]]) -> None:
    """They do not say what was drawn."""
    row = asdict(base(1)[0].row)
    del row["look"]
    assert PackRow(**row).look == ""


def test_a_coil_is_normalised_as_the_classifier_does_it(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White matter is 1 under any coil, and what lies at the surface becomes brighter."""
    rim = np.asarray(simulator.points.norm(dim=-1).numpy() > 75)
    found = {}
    monkeypatch.setattr(simulator, "reject_share", 0.0)
    monkeypatch.setattr(implants, "draw_defacing", lambda *a, **k: None)
    for gain in (0.0, 4.0):
        monkeypatch.setattr(coil, "draw", lambda rng, gain=gain: coil.Coil(gain, 15.0))
        still = [p for p in simulator.base(2) if p.row.motion == 0.0]
        pictures = np.stack([p.slices.astype(np.float32) for p in still])
        levels = np.quantile(pictures[:, simulator.brain_mask], 0.75, axis=1)
        assert levels == pytest.approx(1.0, abs=0.05)
        assert all("coil" in p.row.look for p in still)
        found[gain] = np.median(pictures[:, rim & (pictures[0] > 0.3)]), [p.row.contrast for p in still]
    assert found[4.0][0] > 1.25 * found[0.0][0]
    # Contrast is measured before the coil: it is no cue for the grade.
    assert found[4.0][1] == pytest.approx(found[0.0][1])


def test_the_local_error_sums_up_to_the_motion(simulator: Simulator) -> None:
    """What the squares of a moved image hold is what its motion was measured from; still images hold nothing."""
    simulator.reject_share = 0.0
    pictures = simulator.base(2)
    simulator.reject_share = 0.57
    brain = simulator.brain_mask.reshape(9, 26, 8, 26, 8).mean((2, 4)) > 0.9
    moved = [p for p in pictures if p.row.motion]
    assert moved and all(p.error.shape == (9, 26, 26) for p in pictures)
    assert all(not p.error.any() for p in pictures if p.row.motion == 0.0)
    amount = np.array([np.sqrt(np.mean(p.error[brain].astype(float) ** 2)) for p in moved])
    assert np.corrcoef(amount, np.array([p.row.motion for p in moved]))[0, 1] > 0.9


def test_some_images_are_kept_whole(base: Callable[[int], list[Picture]]) -> None:
    pictures = base(1)
    whole = [p.volume for p in pictures if p.volume is not None]
    assert 0 < len(whole) < len(pictures)
    assert all(v.shape == VOLUME_SHAPE and v.dtype == np.uint8 and v.max() > 60 for v in whole)


def test_motion_does_not_depend_on_tissue_contrast() -> None:
    """The same ghost is as bad in an image whose grey and white matter look alike."""
    rng = np.random.default_rng(3)
    white = np.zeros((1, 64, 64), np.float32)
    white[:, :, :32] = 1.0
    brain = np.ones_like(white)
    ghost = 0.05 * rng.standard_normal(white.shape).astype(np.float32)
    found = []
    for grey_level in (0.65, 0.95):
        clean = np.where(white > 0, 1.0, grey_level).astype(np.float32)
        found.append(damage.motion_damage(clean + ghost, clean, white, brain))
    assert found[0] == pytest.approx(0.2, rel=0.1) and found[1] == pytest.approx(found[0], rel=0.05)


def test_nobody_is_in_training_and_validation(tmp_path: Path, simulator: Simulator) -> None:
    persons = [f"ds000011-sub-0{n}" for n in range(1, 8)] + [f"synthseg-{n:02d}" for n in range(1, 11)]
    of = {p: people.fold_of(p, persons) for p in persons}
    assert set(of.values()) == set(range(5))
    n = len(persons)
    made = packed.Pack(
        np.zeros((2 * n, 1, 2, 2), np.float16),
        np.zeros((2 * n, 1, 1, 1), np.float16),
        {},
        np.array(persons * 2),
        np.array(["head"] * 2 * n),
        np.zeros((2 * n, 3), np.float32),
        np.zeros((2 * n, 1), np.float32),
    )
    for fold in range(5):
        rows, held = packed.split(made, fold)
        assert not set(made.people[rows]) & set(made.people[held])
        assert len(rows) + len(held) == 2 * n


def test_held_out_people_are_nowhere_in_training() -> None:
    assert not set(people.HELD_OUT_HEADS) & set(people.HYBRID_BRAINS)
    assert not set(people.HELD_OUT_MAPS) & {f"synthseg-{n:02d}" for n in range(1, 17)}


@pytest.mark.data
def test_the_nine_elderly_people_are_trained_on_and_change_nothing_else(shared_data: Path) -> None:
    data = shared_data
    heads = [i.person for i in people.training_heads(data)]
    further = [p for p in heads if people.scanner_of(p) == people.FURTHER]
    assert len(further) == 9 and not set(heads) & set(people.HELD_OUT_HEADS)
    assert sorted(i.person for i in people.training_flairs(data)) == sorted(further)
    # The evaluation's real images and the held-out people are the same as before.
    assert not any(i.person in further for i in people.list_items(data))
    assert sorted(i.person for i in people.held_out_heads(data)) == sorted(people.HELD_OUT_HEADS)
    assert all(people.fold_of(p, heads) in range(people.FOLDS) for p in heads)


@pytest.mark.slow
def test_a_network_learns_from_a_pack_and_is_shipped(tmp_path: Path, base: Callable[[int], list[Picture]]) -> None:
    pictures = [p for seed in range(5) for p in base(seed)]
    folder = tmp_path / "pack"
    folder.mkdir()
    named = [
        asdict(replace(p.row, person=f"ds000011-sub-0{1 + n % 5}", kind="head")) for n, p in enumerate(pictures)
    ]
    whole = [n for n, p in enumerate(pictures) if p.volume is not None]
    np.savez(
        folder / "shard-000000.npz",
        slices=np.stack([p.slices for p in pictures]),
        errors=np.stack([p.error for p in pictures]),
        volumes=np.stack([p.volume for p in pictures if p.volume is not None]),
        volume_of=np.array(whole),
        rows=json.dumps(named),
    )
    models = tmp_path / "brain-mri"
    models.mkdir()
    (models / preprocess.AVERAGE_HEAD).write_bytes((MODELS / preprocess.AVERAGE_HEAD).read_bytes())
    lines: list[str] = []
    result = train.main(
        folder,
        tmp_path / "run",
        (0,),
        "both",
        epochs=3,
        batch=8,
        images=24,
        ship=models,
        models=models,
        log=lines.append,
    )
    for part in ("measured", "pixels"):
        history = json.loads((tmp_path / "run" / "fold-0" / part / "state.json").read_text())["history"]
        assert len(history) == 3 and history[-1]["train_loss"] < history[0]["train_loss"]
    assert set(result["decision"]["temperatures"]) == {"reject", "gadolinium", "motion", "contrast", "noise"}
    loaded = packed.load_pack(folder, models)
    bare = np.flatnonzero(loaded.kinds == "stripped")
    proper = [n for n, p in enumerate(pictures) if p.row.reject == "ok"]
    assert len(bare) == -(-len(proper) // packed.STRIPPED_EVERY) and bare.min() == len(loaded)
    # A stripped twin keeps person and gadolinium, and teaches nothing else.
    for row, of in zip(bare, proper[:: packed.STRIPPED_EVERY], strict=True):
        assert loaded.people[row] == loaded.people[of]
        assert loaded.targets["gadolinium"][row] == loaded.targets["gadolinium"][of]
        assert loaded.targets["reject"][row] == loaded.targets["motion"][row] == packed.IGNORE
        assert not np.array_equal(loaded.features[row], loaded.features[of])
    assert not loaded.real[bare].any()
    classifier = load(models)
    assert classifier.members[0].pixels is not None
    first = pictures[0].slices
    prepared = PreparedHead(first, {}, checks.Measures((1, 1, 1), ncc=0.9), classifier.measure(first))
    verdict = classifier.judge([prepared])[0]
    assert verdict.findings[0].probabilities


@pytest.mark.slow
def test_a_network_of_the_paper_learns_from_the_same_pack(
    tmp_path: Path, base: Callable[[int], list[Picture]]
) -> None:
    pictures = [p for seed in range(6) for p in base(seed)]
    persons = np.array([f"ds000011-sub-0{1 + n % 5}" for n in range(len(pictures))])
    whole = [n for n, p in enumerate(pictures) if p.volume is not None]
    held = volumes.Volumes(np.stack([p.volume for p in pictures if p.volume is not None]), np.array(whole))
    targets = {
        "reject": np.array([decision.REJECT_REASONS.index(p.row.reject) for p in pictures]),
        "gadolinium": np.array(
            [packed.IGNORE if p.row.gadolinium is None else p.row.gadolinium for p in pictures]
        ),
        **{q: np.full(len(pictures), packed.IGNORE) for q in packed.GRADED},
    }
    n = len(pictures)
    made = packed.Pack(
        np.zeros((n, 1, 2, 2), np.float16),
        np.zeros((n, 1, 1, 1), np.float16),
        targets,
        persons,
        np.array(["head"] * n),
        np.zeros((n, 3), np.float32),
        np.zeros((n, 1), np.float32),
    )
    settings = volumes.VolumeSettings(epochs=2, batch=2, images=4)
    state = volumes.train_fold("conv5fc3", made, held, 0, tmp_path, settings, log=lambda line: None)
    assert state.epoch == 2 and (tmp_path / "best.safetensors").is_file()
    network = volumes.build("conv5fc3")
    logits = volumes.predict(network, held.values[:2])
    assert {k: v.shape[1] for k, v in logits.items()} == volumes.OUTPUTS
