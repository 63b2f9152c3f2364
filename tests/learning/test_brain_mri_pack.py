"""The pack and training: a person made of labels, seeds that repeat, splits without leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qc_node.brain_mri import preprocess, reader
from qc_node.learning import brain_mri_anatomy as anatomy
from qc_node.learning import brain_mri_data as data
from qc_node.learning import brain_mri_pack as pack
from qc_node.learning import brain_mri_synthesis as synthesis
from qc_node.learning import brain_mri_train as train

MODELS = Path(__file__).resolve().parents[2] / "models" / "brain-mri"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> pack.Simulator:
    """One person whose labels come from the average head: of nobody."""
    head = preprocess.load_average_head(MODELS)
    c = head.channels
    labels = np.where(c[6] > 0.5, 507, 0).astype(np.int16)
    labels[(c[6] > 0.5) & (c[1] < 0.3) & (c[1] > 0.02)] = 24
    labels[c[3] > 0.4] = 3
    labels[c[2] > 0.45] = 2
    labels[c[4] > 0.5] = 4
    labels[c[5] > 0.25] = 514
    person = anatomy.Anatomy(
        "average", "map", None, labels, np.clip(c[2] / 0.7, 0, 1).astype(np.float16),
        np.clip(c[3] / 0.5, 0, 1).astype(np.float16), head.affine, np.eye(4),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("anatomy") / "average.npz"
    person.save(path)
    names = np.array([0, 2, 3, 4, 24, 507, 514])
    means = np.array([5.0, 140, 100, 45, 40, 90, 60])
    priors = synthesis.Priors(
        names, np.arange(7), np.stack([means, means * 0.05]), np.stack([means * 0.05, means * 0.01])
    )
    return pack.Simulator([path], priors, head)


def test_the_same_seed_gives_the_same_images(simulator: pack.Simulator):
    for seed in (3,):
        first, second = simulator.base(seed), simulator.base(seed)
        assert [r for r, _ in first] == [r for r, _ in second]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def test_rows_say_what_is_defined(simulator: pack.Simulator):
    rows = [row for seed in range(4) for row, _ in simulator.base(seed)]
    assert {r.reject == "ok" for r in rows} == {True, False}
    for r in rows:
        defined = r.reject == "ok"
        assert r.reject in reader.REJECT_REASONS
        assert all((x is not None) == defined for x in (r.gadolinium, r.motion, r.contrast, r.noise))


def test_pictures_are_what_the_reader_takes(simulator: pack.Simulator):
    _, picture = simulator.base(1)[0]
    assert picture.shape == reader.SLICE_SHAPE and picture.dtype == np.float16
    assert np.isfinite(picture.astype(np.float32)).all()


def test_nobody_is_in_training_and_validation(tmp_path: Path, simulator: pack.Simulator):
    people = [f"ds000011-sub-0{n}" for n in range(1, 8)] + [f"synthseg-{n:02d}" for n in range(1, 11)]
    of = {p: data.fold_of(p, people) for p in people}
    assert set(of.values()) == set(range(5))
    n = len(people)
    made = train.Pack(np.zeros((2 * n, 1, 2, 2), np.float16), {}, np.array(people * 2), np.array(["head"] * 2 * n),
                      np.zeros((2 * n, 3), np.float32), np.zeros((2 * n, 1), np.float32))  # fmt: skip
    for fold in range(5):
        rows, held = train.split(made, fold)
        assert not set(made.people[rows]) & set(made.people[held])
        assert len(rows) + len(held) == 2 * n


def test_held_out_people_are_nowhere_in_training():
    assert not set(data.HELD_OUT_HEADS) & set(data.HYBRID_BRAINS)
    assert not set(data.HELD_OUT_MAPS) & {f"synthseg-{n:02d}" for n in range(1, 17)}


@pytest.mark.slow
def test_a_network_learns_from_a_pack_and_is_shipped(tmp_path: Path, simulator: pack.Simulator):
    rows, pictures = [], []
    for seed in range(5):
        for row, picture in simulator.base(seed):
            rows.append(row)
            pictures.append(picture)
    people = [f"ds000011-sub-0{1 + n % 5}" for n in range(len(rows))]
    folder = tmp_path / "pack"
    folder.mkdir()
    import json
    from dataclasses import asdict, replace

    named = [asdict(replace(r, person=p, kind="head")) for r, p in zip(rows, people, strict=True)]
    np.savez(folder / "shard-000000.npz", slices=np.stack(pictures), rows=json.dumps(named))
    models = tmp_path / "brain-mri"
    models.mkdir()
    (models / preprocess.AVERAGE_HEAD).write_bytes((MODELS / preprocess.AVERAGE_HEAD).read_bytes())
    lines: list[str] = []
    result = train.main(
        folder, tmp_path / "run", (0,), epochs=4, batch=8, ship=models, models=models, log=lines.append
    )
    history = json.loads((tmp_path / "run" / "fold-0" / "state.json").read_text())["history"]
    assert len(history) == 4 and history[-1]["train_loss"] < history[0]["train_loss"]
    assert set(result["decision"]["temperatures"]) == {"reject", "gadolinium", "motion", "contrast", "noise"}
    room = reader.load(models)
    prepared = reader.Prepared(
        pictures[0], {}, reader.checks.Measures((1, 1, 1), ncc=0.9), room.measure(pictures[0])
    )
    verdict = room.judge([prepared])[0]
    assert verdict.findings[0].probabilities
