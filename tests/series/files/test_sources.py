"""Folders, files, archives and NIfTI in any mix; whatever is wrong is one sentence and the rest goes on."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qc_node.classifiers import catalogue
from qc_node.domain import QcNodeError, Stage
from qc_node.series.files.archives import ArchiveRefused, Limits, unpack
from qc_node.series.files.sources import SourceSeries, find_series
from tests.series.makers import make_series, voxels

TINY = Limits(total_bytes=20_000, members=5, ratio=50, ratio_from=1000)


def nifti(path: Path, low: int = 0) -> Path:
    data = np.full((12, 12, 12), low, "<i2")
    data[3:9, 3:9, 3:9] = 40
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def found(*paths: Path, **options: object) -> list[SourceSeries]:
    return list(find_series(paths, **options))  # type: ignore[arg-type]


def sentences(series: list[SourceSeries]) -> list[str]:
    return [s.error for s in series if s.error]


def test_a_folder_of_several_series_and_other_files(tmp_path: Path) -> None:
    one, two = voxels((4, 8, 8)), voxels((5, 8, 8))
    make_series(tmp_path / "study" / "a", one, change=lambda k, ds: setattr(ds, "SeriesInstanceUID", "1.1"))
    make_series(tmp_path / "study" / "b", two, change=lambda k, ds: setattr(ds, "SeriesInstanceUID", "1.2"))
    (tmp_path / "study" / "README.txt").write_text("hello")
    nifti(tmp_path / "study" / "brain.nii.gz")
    counts: list[int] = []
    series = found(tmp_path / "study", progress=counts.append)
    assert [(s.instances, s.modality) for s in series] == [(4, "MR"), (5, "MR"), (1, "MR")]
    assert [s.source for s in series][:2] == [str(tmp_path / "study" / "a"), str(tmp_path / "study" / "b")]
    assert np.array_equal(series[0].volume().voxels, one)
    assert counts == list(range(1, 12)) and not sentences(series)


def test_a_series_scattered_over_folders_and_arguments_is_one(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "a", voxels((6, 8, 8)))
    (tmp_path / "b").mkdir()
    moved = paths[5].rename(tmp_path / "b" / "last_without_extension")
    series = found(tmp_path / "a", moved)
    assert [s.instances for s in series] == [6] and series[0].source == str(tmp_path)
    assert series[0].route(catalogue.accepts()).stage == Stage.BRAIN_MRI


def test_series_without_uid_are_kept_apart_by_folder(tmp_path: Path) -> None:
    def bare(_: int, ds: object) -> None:
        del ds.SeriesInstanceUID  # type: ignore[attr-defined]

    make_series(tmp_path / "a", voxels((4, 8, 8)), change=bare)
    make_series(tmp_path / "b", voxels((5, 8, 8)), change=bare)
    assert sorted(s.instances for s in found(tmp_path)) == [4, 5]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2"])
def test_archives(tmp_path: Path, name: str) -> None:
    data = voxels((6, 8, 8))
    paths = make_series(tmp_path / "in", data)
    paths.append(nifti(tmp_path / "in" / "ct.nii.gz", low=-1000))
    archive = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
            for p in paths:
                z.write(p, f"deep/er/{p.name}")
    else:
        mode = {"tgz": "w:gz", "gz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}.get(name.rsplit(".", 1)[1], "w")
        with tarfile.open(archive, mode) as t:  # type: ignore[call-overload]
            for p in paths:
                t.add(p, f"deep/er/{p.name}")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    results = []
    for s in find_series([archive], scratch=scratch):
        results.append((s.source, s.route(catalogue.accepts()).stage, s.volume().shape))
    assert results == [
        (f"{archive}!deep/er", Stage.BRAIN_MRI, (6, 8, 8)),
        (f"{archive}!deep/er/ct.nii.gz", Stage.CT, (12, 12, 12)),
    ]
    assert not list(scratch.iterdir())


def test_an_archive_in_a_folder_is_opened_and_one_in_an_archive_is_not(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "in", voxels((4, 8, 8)))
    folder = tmp_path / "folder"
    folder.mkdir()
    with zipfile.ZipFile(folder / "outer.zip", "w") as z:
        z.write(paths[0], "a")
        z.write(paths[1], "b")
        z.writestr("inner.zip", b"PK\x03\x04")
    series = found(folder)
    assert [s.instances for s in series] == [2, 0]
    assert "1 archives, which are not followed" in sentences(series)[0]


def test_hostile_members_are_left_out(tmp_path: Path) -> None:
    good = make_series(tmp_path / "in", voxels((2, 8, 8)))
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as t:
        for p in good:
            t.add(p, p.name)
        data = good[0].read_bytes()
        for name in ("../../escape.dcm", "/tmp/qc-node-escape.dcm"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.dcm")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        t.addfile(link)
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        t.addfile(device)
    series = found(archive)
    assert [s.instances for s in series] == [2, 0, 0]
    assert any("path outside" in s for s in sentences(series))
    assert any("link or device" in s for s in sentences(series))
    assert not (tmp_path / "escape.dcm").exists() and not Path("/tmp/qc-node-escape.dcm").exists()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as z:
        z.writestr("../escape.dcm", data)
        z.writestr("C:/escape.dcm", data)
        symlink = zipfile.ZipInfo("link")
        symlink.external_attr = 0o120777 << 16
        z.writestr(symlink, "/etc/passwd")
    assert all("left out" in s for s in sentences(found(tmp_path / "evil.zip")))


def bomb(path: Path) -> Path:
    """A member of zeros that claims to be small."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("zeros.dcm", b"\0" * 15_000)
    return path


def test_a_zip_bomb_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    series = found(bomb(tmp_path / "bomb.zip"), limits=TINY, scratch=scratch)
    assert len(series) == 1 and "like a zip bomb" in str(series[0].error)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_tar_bomb_is_one_sentence(tmp_path: Path, packing: str) -> None:
    archive = tmp_path / f"bomb.tar.{packing}"
    with tarfile.open(archive, f"w:{packing}") as t:  # type: ignore[call-overload]
        info = tarfile.TarInfo("zeros")
        info.size = 1_000_000
        t.addfile(info, io.BytesIO(b"\0" * info.size))
    assert len(sentences(found(archive, limits=Limits(total_bytes=100_000)))) == 1


def test_limits_on_size_and_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as z:
        z.writestr("a", rng.bytes(15_000))
        z.writestr("b", rng.bytes(15_000))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as z:
        for n in range(6):
            z.writestr(str(n), b"x")
    for name, word in (("big.zip", "GiB"), ("many.zip", "more than 5 files")):
        out = tmp_path / name.split(".")[0]
        out.mkdir()
        with pytest.raises(ArchiveRefused, match=word):
            unpack(tmp_path / name, out, TINY)


@pytest.mark.parametrize(
    "name", ["x.zip", "x.tar.gz", "x.tar.xz", "x.tar", "x.nii.gz", "x.dcm.gz", "x.nii", "x.dcm"]
)
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04junk", b"\x1f\x8bjunk", b"\xfd7zXZ\0junk", b"\0" * 2000, b"hello"]
)
def test_broken_files_are_one_sentence_each(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    series = found(path)
    assert len(series) == 1
    if series[0].error is None:
        with pytest.raises(QcNodeError):
            series[0].volume()
    else:
        assert name in series[0].error and series[0].error.endswith(".")
        assert series[0].route(catalogue.accepts()).sentence == series[0].error


def test_truncated_archive_is_one_sentence(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "in", voxels((4, 32, 32)))
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as t:
        for p in paths:
            t.add(p, p.name)
    data = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(data[: len(data) // 2])
    assert len(sentences(found(tmp_path / "x.tar.gz"))) == 1


def test_a_gzipped_dicom_file_is_read(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "in", voxels((3, 8, 8)))
    packed = []
    for p in paths:
        packed.append(tmp_path / f"{p.name}.gz")
        packed[-1].write_bytes(gzip.compress(p.read_bytes()))
    instances, volume = next((s.instances, s.volume()) for s in find_series(packed))
    assert instances == 3 and volume.shape == (3, 8, 8)


def test_what_is_not_there_and_what_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    good = make_series(tmp_path / "good", voxels((2, 8, 8)))
    series = found(
        tmp_path / "nowhere", tmp_path / "empty", tmp_path / "text", tmp_path / "text" / "a.txt", good[0].parent
    )
    assert [s.instances for s in series if not s.error] == [2]
    told = " ".join(sentences(series))
    assert len(sentences(series)) == 4
    assert "nowhere" in told and "holds no file" in told and "neither DICOM nor NIfTI" in told and "a.txt" in told


def test_an_unreadable_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path / "good", voxels((2, 8, 8)))
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def forbid(path: str) -> object:  # root may read everything, so a mode of 0 would not do
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    series = found(tmp_path)
    assert [s.instances for s in series] == [2, 0]
    assert sentences(series) == [f"{tmp_path / 'locked'} cannot be read (Permission denied)."]


@pytest.mark.timeout(10)
def test_pipes_and_dangling_links_are_not_waited_for(tmp_path: Path) -> None:
    make_series(tmp_path / "in", voxels((2, 8, 8)))
    for name in ("in/pipe", "in/pipe.zip", "in/pipe.nii"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "in" / "link.dcm").symlink_to("/nowhere")
    assert [(s.instances, s.error) for s in found(tmp_path / "in")] == [(2, None)]
    for name in ("pipe", "pipe.zip", "pipe.nii"):
        assert len(sentences(found(tmp_path / "in" / name))) == 1


def test_stated_modality_of_dicom_that_does_not_tell(tmp_path: Path) -> None:
    def bare(_: int, ds: object) -> None:
        del ds.Modality, ds.SOPClassUID  # type: ignore[attr-defined]

    paths = make_series(tmp_path, voxels((3, 8, 8)), change=bare)
    assert found(*paths)[0].route(catalogue.accepts()).stage is None
    stated = found(*paths, modality="CT")[0]
    assert stated.route(catalogue.accepts()).stage == Stage.CT and stated.volume().modality == "CT"


def test_stated_modality_of_nifti(tmp_path: Path) -> None:
    path = nifti(tmp_path / "x.nii")
    stated = found(path, modality="CT")[0]
    assert stated.route(catalogue.accepts()).stage == Stage.CT and not stated.volume().warnings
    guessed = found(path)[0]
    assert guessed.route(catalogue.accepts()).stage == Stage.BRAIN_MRI
    assert any("MR is assumed" in w for w in guessed.volume().warnings)
    assert any("MR is assumed" in w for w in guessed.volume().warnings), "asking twice gives the same answer"
    assert guessed.claims.modality == "MR" and guessed.opened is None


def test_dicomdir_and_its_files(tmp_path: Path) -> None:
    make_series(tmp_path, voxels((2, 8, 8)))
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert [(s.instances, s.error) for s in found(tmp_path)] == [(2, None)]
