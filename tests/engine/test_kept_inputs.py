"""Pixels that are kept for learning: which, how small, and never with a name in them."""

from __future__ import annotations

import errno
import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from qc_node.engine.kept_inputs import LONGEST, is_sampled, pictures_file, smaller
from qc_node.ledger.erasing import Erasing, Scope
from qc_node.ledger.kept_inputs import NewKeptInput
from qc_node.ledger.snapshot import Snapshot, take
from qc_node.operations.retention import DAY_S, HOUR_S, remove_old
from qc_node.series.volume.stack import open_series
from tests.engine.test_measuring import topogram
from tests.engine.test_worker import Bench, SmallClassifier
from tests.ledger.makers import number_of
from tests.part_settings import worker_settings


def kept(*paths: Path) -> dict[str, np.ndarray] | None:
    data = pictures_file(open_series(paths))
    return None if data is None else dict(np.load(io.BytesIO(data), allow_pickle=False))


def example(tmp_path: Path, name: str, change: Any = None) -> Path:
    """One of pydicom's own examples, perhaps changed."""
    source = get_testdata_file(name)
    assert isinstance(source, str)
    ds = dcmread(source)
    if change:
        change(ds)
    path = tmp_path / f"{name.replace('/', '_')}"
    ds.save_as(path)
    return path


def says(value: str) -> Any:
    def change(ds: Dataset) -> None:
        ds.BurnedInAnnotation = value

    return change


# -- pictures ------------------------------------------------------------------------------------------
def test_stored_values_are_kept_and_nothing_of_the_header(tmp_path: Path) -> None:
    path = example(tmp_path, "CT_small.dcm")
    found = kept(path)
    assert found is not None and set(found) == {"picture_0", "spacing_mm"}
    assert found["picture_0"].dtype == np.int16
    np.testing.assert_array_equal(found["picture_0"], dcmread(path).pixel_array)
    np.testing.assert_allclose(found["spacing_mm"], [[0.661468, 0.661468]], rtol=1e-4)
    data = pictures_file(open_series([path]))
    ds = dcmread(path)
    assert data is not None
    for word in (str(ds.PatientName), str(ds.PatientID), str(ds.StudyInstanceUID)):
        assert word.encode() not in data


def test_a_large_picture_becomes_512_pixels_with_the_same_mean() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 4096, (2140, 1760)).astype(np.uint16)
    small = smaller(picture)
    assert small.shape == (LONGEST, 421) and small.dtype == np.uint16
    assert small.mean() == pytest.approx(picture.mean(), rel=1e-3)
    ramp = np.tile(np.arange(2048, dtype=np.uint16), (1024, 1))
    np.testing.assert_array_equal(smaller(ramp)[0][:3], [2, 6, 10], "mean of four neighbours, halves to even")


def test_a_large_mammogram_is_made_small_without_a_copy_of_it_in_floats() -> None:
    """60 million pixels took 1.4 GB and three seconds in which the worker did nothing else."""
    picture = np.random.default_rng(3).integers(0, 4096, (3001, 2333)).astype(np.uint16)
    tracemalloc.start()
    found = smaller(picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * picture.nbytes
    assert found.shape == (512, 398)
    by_hand = picture[: 3001 // 512 + 1].astype(float)
    by_hand = (by_hand[:5].sum(0) + (3001 / 512 - 5) * by_hand[5]) / (3001 / 512)
    step = 2333 / 398
    first = (by_hand[:5].sum() + (step - 5) * by_hand[5]) / step
    assert abs(found[0, 0] - first) <= 0.51


def test_floats_and_long_integers_fit_into_16_bits() -> None:
    picture = np.array([[0.0, np.nan], [2.0, np.inf]], np.float32)
    np.testing.assert_array_equal(smaller(picture), [[0, 0], [65535, 0]])
    wide = np.array([[0, 1 << 30], [1 << 29, 0]], np.uint32)
    assert smaller(wide).dtype == np.uint16 and smaller(wide).max() == 65535
    assert smaller(np.zeros((3, 3), np.float32)).max() == 0


def test_a_higher_value_is_brighter_in_every_picture(tmp_path: Path) -> None:
    def inverse(ds: Dataset) -> None:
        ds.PhotometricInterpretation = "MONOCHROME1"

    plain, inverted = kept(example(tmp_path, "CT_small.dcm")), kept(example(tmp_path, "CT_small.dcm", inverse))
    assert plain is not None and inverted is not None
    total = plain["picture_0"].astype(int) + inverted["picture_0"]
    assert len(np.unique(total)) == 1


def test_three_slices_of_a_stack_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier())
    uid = bench.receive("a")
    names = bench.ledger.instances.paths_of_series(number_of(bench.ledger, uid))
    found = kept(*(bench.spool.path(name) for name in names))
    assert found is not None and set(found) == {"picture_0", "picture_1", "picture_2", "spacing_mm"}
    stored = [dcmread(bench.spool.path(name)).pixel_array for name in names]
    positions = [n for k in range(3) for n, one in enumerate(stored) if np.array_equal(found[f"picture_{k}"], one)]
    assert len(set(positions)) == 3


# -- what is never kept --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_text_that_is_stated_is_never_kept(tmp_path: Path, name: str) -> None:
    original = dcmread(example(tmp_path, name)).ImageType[1] == "PRIMARY"
    assert (kept(example(tmp_path, name)) is not None) == original
    assert kept(example(tmp_path, name, says("NO"))) is not None
    assert kept(example(tmp_path, name, says("YES"))) is None
    assert kept(example(tmp_path, name, says("MAYBE"))) is None


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("US", "1.2.840.10008.5.1.4.1.1.6.1"),
        ("XA", "1.2.840.10008.5.1.4.1.1.12.1"),
        ("OT", "1.2.840.10008.5.1.4.1.1.7"),
        ("MR", "1.2.840.10008.5.1.4.1.1.7"),
        ("CT", "1.2.840.10008.5.1.4.1.1.7.2"),
        ("ES", "1.2.840.10008.5.1.4.1.1.77.1.1"),
    ],
)
def test_what_often_holds_text_must_say_that_it_does_not(tmp_path: Path, modality: str, sop_class: str) -> None:
    def change(ds: Dataset) -> None:
        ds.Modality, ds.SOPClassUID = modality, sop_class

    def and_no(ds: Dataset) -> None:
        change(ds)
        ds.BurnedInAnnotation = "NO"

    assert kept(example(tmp_path, "CT_small.dcm", change)) is None
    found = kept(example(tmp_path, "CT_small.dcm", and_no))
    assert (found is None) == (modality == "US"), "an ultrasound without regions is not kept either"


@pytest.mark.parametrize(
    "image_type",
    [
        ["DERIVED", "SECONDARY", "SCREEN SAVE"],
        ["DERIVED", "SECONDARY", "DOSE_INFO"],
        ["DERIVED", "SECONDARY", "PERFUSION SUMMARY"],
    ],
)
def test_a_screen_capture_of_a_scanner_is_not_kept(tmp_path: Path, image_type: list[str]) -> None:
    def change(ds: Dataset) -> None:
        ds.ImageType = image_type

    assert kept(example(tmp_path, "CT_small.dcm", change)) is None


def test_a_colour_picture_must_say_that_it_holds_no_text(tmp_path: Path) -> None:
    def as_mr(ds: Dataset) -> None:
        ds.Modality, ds.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"

    def and_no(ds: Dataset) -> None:
        as_mr(ds)
        ds.BurnedInAnnotation = "NO"

    assert kept(example(tmp_path, "examples_rgb_color.dcm", as_mr)) is None
    found = kept(example(tmp_path, "examples_rgb_color.dcm", and_no))
    assert found is not None and found["picture_0"].ndim == 3 and found["picture_0"].dtype == np.uint8


def test_an_ultrasound_is_black_outside_its_regions(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.Modality, ds.SOPClassUID = "US", "1.2.840.10008.5.1.4.1.1.6.1"
        ds.BurnedInAnnotation = "NO"
        region = Dataset()
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 10, 20
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 59, 99
        ds.SequenceOfUltrasoundRegions = [region]

    path = example(tmp_path, "examples_rgb_color.dcm", change)
    found = kept(path)
    assert found is not None
    picture = found["picture_0"]
    outside = np.ones(picture.shape[:2], bool)
    outside[20:100, 10:60] = False
    assert picture[outside].max() == 0 and picture[~outside].max() > 0
    np.testing.assert_array_equal(picture[~outside], dcmread(path).pixel_array[~outside])


def test_two_patients_in_one_series_and_broken_pixels_leave_nothing(tmp_path: Path) -> None:
    def other(ds: Dataset) -> None:
        ds.PatientID, ds.PatientName, ds.SOPInstanceUID = "another", "another", "1.2.3"

    first = example(tmp_path, "CT_small.dcm")
    (tmp_path / "b").mkdir()
    assert kept(first, example(tmp_path / "b", "CT_small.dcm", other)) is None
    first.write_bytes(first.read_bytes()[:-9000])
    assert kept(first) is None


# -- worker and retention ------------------------------------------------------------------------------
@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, SmallClassifier())


def skipped(bench: Bench, name: str = "a") -> int:
    """A series that no classifier takes, with pictures; its number."""
    uid = bench.receive(name, change=topogram)
    bench.worker.step()
    assert bench.state(uid)[0] == "skipped"
    return number_of(bench.ledger, uid)


def files(bench: Bench) -> set[str]:
    return {f"training/{path.name}" for path in (bench.spool.root / "training").iterdir()}


def test_only_a_series_without_network_input_leaves_pictures(bench: Bench) -> None:
    judged = bench.receive("a")
    bench.worker.step()
    assert bench.ledger.kept_inputs.of_series(number_of(bench.ledger, judged)) == []
    number = skipped(bench, "bb")
    (row,) = bench.ledger.kept_inputs.of_series(number)
    assert (row["kind"], row["run"], row["kept_at"]) == ("pictures", 1, 1000.0)
    assert bench.spool.path(row["path"]).stat().st_size == row["bytes"] == bench.ledger.kept_inputs.total_bytes()
    assert set(bench.ledger.removals.named("training")) == files(bench), "no file is an orphan"
    series = bench.ledger.series.by_id(number)
    assert series is not None
    assert row["path"] in bench.spool.kept_of(f"{series['study_uid']}/{series['series_uid']}", 1)


def test_nothing_is_kept_where_that_is_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier())
    bench.worker.apply(worker_settings(tmp_path / "data", keeps_pictures=False))
    skipped(bench)
    assert files(bench) == set()


def vote(bench: Bench, number: int) -> None:
    series = bench.ledger.series.by_id(number)
    assert series is not None
    reader = bench.ledger.db.value("SELECT reader_id FROM readers")
    if reader is None:
        with bench.ledger.db.transaction() as conn:
            conn.execute(
                "INSERT INTO readers (reader_id, login, name, site, role, pseudonym, created_at)"
                " VALUES ('r', 'r', 'R', 'here', 'expert', 'p', 1)"
            )
        reader = "r"
    with bench.ledger.db.transaction() as conn:
        conn.execute(
            "INSERT INTO votes (key, reader_id, role, study_uid, series_uid, site, modality, vote, voted_at,"
            " received_at, source, verdict_visible) VALUES (?, ?, 'expert', ?, ?, 'here', 'CT', 'good', 1, 1,"
            " 'panel', 0)",
            (f"k{number}", reader, series["study_uid"], series["series_uid"]),
        )


def test_once_the_images_are_gone_pictures_stay_of_voted_and_sampled_series_only(bench: Bench) -> None:
    plain, voted, sampled = (skipped(bench, name) for name in ("a", "bb", "ccc"))
    vote(bench, voted)
    with bench.ledger.db.transaction() as conn:
        conn.execute("UPDATE kept_inputs SET sampled = (series_id = ?)", (sampled,))
    remove_old(bench.ledger, bench.spool, 1000.0 + HOUR_S, 72, 90)
    assert len(files(bench)) == 3, "the images are there"
    remove_old(bench.ledger, bench.spool, 1000.0 + 100 * HOUR_S, 72, 90)
    rows = {n: bench.ledger.kept_inputs.of_series(n) for n in (plain, voted, sampled)}
    assert files(bench) == {rows[voted][0]["path"], rows[sampled][0]["path"]} and rows[plain] == []
    remove_old(bench.ledger, bench.spool, 1000.0 + 91 * DAY_S, 72, 90)
    assert files(bench) == set() and bench.ledger.kept_inputs.total_bytes() == 0


def test_beyond_their_share_of_the_disk_the_oldest_without_a_vote_go_first(bench: Bench) -> None:
    numbers = [skipped(bench, name) for name in ("a", "bb", "ccc")]
    vote(bench, numbers[0])
    rows = [bench.ledger.kept_inputs.of_series(n)[0] for n in numbers]
    total = bench.ledger.kept_inputs.total_bytes()

    def keep_to(most: float) -> set[str]:
        remove_old(bench.ledger, bench.spool, 1000.0 + HOUR_S, 72, 90, most_kept_bytes=most)
        return files(bench)

    assert len(keep_to(total)) == 3
    assert keep_to(total - 1) == {rows[0]["path"], rows[2]["path"]}
    assert keep_to(rows[0]["bytes"]) == {rows[0]["path"]}
    assert keep_to(0) == set()


def test_pictures_of_an_earlier_run_go(bench: Bench) -> None:
    number = skipped(bench)
    assert bench.ledger.series.judge_again(number, 2000.0)
    bench.worker.step()
    remove_old(bench.ledger, bench.spool, 1000.0 + HOUR_S, 72, 90)
    assert [row["run"] for row in bench.ledger.kept_inputs.of_series(number)] == [2]
    assert len(files(bench)) == 1


def test_a_series_that_is_forgotten_while_it_is_looked_at_leaves_no_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = bench.receive("a", change=topogram)
    store = bench.spool.store

    def forget(name: str, data: Any) -> None:
        store(name, data)
        with bench.ledger.db.transaction() as conn:
            conn.execute("PRAGMA defer_foreign_keys=ON")
            for table in ("events", "measured", "instances", "series"):
                conn.execute(f"DELETE FROM {table}")

    monkeypatch.setattr(bench.spool, "store", forget)
    bench.worker.step()
    assert bench.ledger.series.get(uid) is None and files(bench) == set()


def test_a_full_disk_keeps_no_picture_and_holds_up_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    uid = bench.receive("a", change=topogram)
    monkeypatch.setattr(bench.spool, "store", full)
    bench.worker.step()
    number = number_of(bench.ledger, uid)
    assert (
        bench.state(uid)[0] == "skipped"
        and bench.worker.trouble == ""
        and bench.ledger.kept_inputs.of_series(number) == []
    )


def test_what_is_kept_is_backed_up_and_forgotten(bench: Bench, tmp_path: Path) -> None:
    number = skipped(bench)
    (row,) = bench.ledger.kept_inputs.of_series(number)
    take(bench.ledger.db.path, tmp_path / "copy.sqlite", lambda done, of: None)
    assert list(Snapshot(tmp_path / "copy.sqlite").training()) == [row["path"]]
    held = Erasing(bench.ledger.db, lambda: "0" * 32).held(Scope(series=(number,)))
    assert row["path"] in held.files and held.inputs == (row["path"],)
    assert held.counts["kept pictures"] == 1


def test_the_sample_is_the_same_each_time_and_as_large_as_asked() -> None:
    uids = [f"1.2.{n}" for n in range(20_000)]
    drawn = [is_sampled(b"k" * 32, uid, 0.05) for uid in uids]
    assert 0.045 < np.mean(drawn) < 0.055
    assert drawn == [is_sampled(b"k" * 32, uid, 0.05) for uid in uids]
    assert drawn != [is_sampled(b"l" * 32, uid, 0.05) for uid in uids]
    assert not any(is_sampled(b"k" * 32, uid, 0.0) for uid in uids)
    assert all(is_sampled(b"k" * 32, uid, 1.0) for uid in uids)


def test_a_row_is_replaced_when_a_run_is_repeated(bench: Bench) -> None:
    number = skipped(bench)
    again = NewKeptInput(number, 1, "pictures", "training/x.npz", 7, True)
    bench.ledger.kept_inputs.add(again, 5.0)
    assert [(r["path"], r["sampled"]) for r in bench.ledger.kept_inputs.of_series(number)] == [
        ("training/x.npz", 1)
    ]
