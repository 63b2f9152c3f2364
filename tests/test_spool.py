from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc_node.domain import QcNodeError
from qc_node.ledger import Ledger
from qc_node.spool import Spool, digest


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "/etc/passwd", "..", "", "a\x00b", "1.2.3", "ü" * 300])
def test_a_uid_never_chooses_a_path(spool: Spool, uid: str) -> None:
    for name in (spool.image_name(uid, uid, uid), spool.report_name(uid), spool.training_name(uid, 1)):
        assert spool.path(name).is_relative_to(spool.root.resolve())
        assert uid not in name or uid == ""
        spool.store(name, b"x")


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_different_keys_have_different_names(a: list[str], b: list[str]) -> None:
    assert (digest(*a) == digest(*b)) == ("\x00".join(a) == "\x00".join(b))


def test_a_name_outside_the_folder_is_refused(spool: Spool) -> None:
    with pytest.raises(QcNodeError, match="outside"):
        spool.path("../elsewhere")


def test_a_file_is_invisible_until_it_is_whole(spool: Spool) -> None:
    name = spool.image_name("1", "2", "3")
    temp = spool.temp()
    temp.write(b"half")
    assert list(spool.images_on_disk()) == []
    temp.write(b" and half")
    spool.folder_of(name)
    temp.commit(spool.path(name))
    assert spool.path(name).read_bytes() == b"half and half"
    assert list(spool.images_on_disk()) == [name]
    assert spool.sweep() == 0


def test_what_a_killed_process_left_is_swept(spool: Spool) -> None:
    spool.temp().write(b"partial")
    again = Spool(spool.root)
    assert again.sweep() == 1
    assert again.sweep() == 0


def test_a_failed_store_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fdatasync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        spool.store("reports/x.dcm", b"x")
    assert spool.sweep() == 0
    assert not (spool.root / "reports/x.dcm").exists()


def test_removing_the_last_image_removes_its_folder(spool: Spool) -> None:
    names = [spool.image_name("1", "2", uid) for uid in "ab"]
    for name in names:
        spool.store(name, b"x")
    spool.remove(names[0])
    assert spool.path(names[1]).exists()
    spool.remove(names[1])
    spool.remove(names[1])
    assert not spool.path(names[1]).parent.exists()


def test_an_unusable_data_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(QcNodeError, match=r"data folder .* cannot be used"):
        Spool(tmp_path / "file" / "data")


@pytest.fixture
def careless_umask() -> Iterator[None]:
    """What a shell often has, and worse: everything is for everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root.parent)): oct(stat.S_IMODE(p.stat().st_mode)) for p in (root, *root.rglob("*"))}


@pytest.mark.usefixtures("careless_umask")
def test_no_other_user_can_read_what_the_node_makes(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data")
    with closing(Ledger(spool.root / "ledger.sqlite")) as ledger:
        ledger.instances.quarantine(spool.quarantine(b"x"), "a reason", "MR1", 1.0)
        spool.store(spool.image_name("1", "2", "3"), b"x")
        found = modes(spool.root)
        assert {"data/ledger.sqlite", "data/ledger.sqlite-wal", "data/ledger.sqlite-shm", "data/images"} < set(
            found
        )
        assert {name: mode for name, mode in found.items() if int(mode, 8) & 0o027} == {}
        assert found["data"] == found["data/images"] == "0o750" and found["data/ledger.sqlite"] == "0o640"


@pytest.mark.usefixtures("careless_umask")
def test_what_was_open_to_others_is_closed_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "images" / "0").mkdir(parents=True)
    (root / "ledger.sqlite").touch()
    (root / "ledger-0.1.0.sqlite").touch()
    (root / "somebody's notes").touch()
    spool = Spool(root)
    assert (spool.tighten(), spool.tighten_series()) == (4, 1)
    assert {name for name, mode in modes(root).items() if int(mode, 8) & 0o027} == {"data/somebody's notes"}
    assert (spool.tighten(), spool.tighten_series()) == (0, 0)


@pytest.mark.usefixtures("careless_umask")
def test_a_folder_that_all_share_is_left_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    root.chmod(0o1777)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "images").symlink_to(elsewhere)
    assert Spool(root).tighten() == 0
    assert modes(root)["data"] == "0o1777" and oct(stat.S_IMODE(elsewhere.stat().st_mode)) == "0o777"
