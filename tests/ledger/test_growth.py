"""Removed images take ten bytes each, and a series 2 KiB and a bit at most; a start does not read them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.growth import started
from qc_node.domain.name_set import NameSet, fingerprint
from qc_node.ledger import Ledger, Received, packing, removals
from qc_node.ledger.database import schema_of
from qc_node.ledger.migrations import MIGRATIONS, bring_up_to_date
from qc_node.operations.retention import HOUR_S, remove_old
from qc_node.spool import Spool
from tests.ledger.grown_ledger import PER_SERIES, Grown, grow, image_uid, names_of
from tests.ledger.makers import number_of

START_S, START_MB, SCRAPE_S = 10.0, 300.0, 0.1


def check(made: Grown, folder: Path) -> None:
    """The bars of issue 10, fault 12: ledger, start and scrape."""
    print(f"{made.removed} removed: {made.bytes_of_removed / made.removed:.1f} bytes each, all told")
    assert made.bytes_of_removed <= made.bytes_allowed
    start = started(folder)
    print(f"start {start['start']:.2f} s, {start['peak']:.0f} MB; a scrape {start['median']:.4f} s")
    assert start["start"] <= START_S and start["peak"] <= START_MB and start["median"] <= SCRAPE_S


def test_twenty_thousand_removed_instances_keep_to_their_share(tmp_path: Path) -> None:
    check(grow(tmp_path, 20_000, 2_000, files=True), tmp_path)


@pytest.mark.nightly
def test_a_million_received_instances_keep_to_their_share(tmp_path: Path) -> None:
    check(grow(tmp_path, 950_000, 50_000, files=True), tmp_path)


def test_free_pages_are_used_again_so_that_a_steady_node_does_not_grow(tmp_path: Path) -> None:
    made = grow(tmp_path, 0, 20 * PER_SERIES)
    before = (tmp_path / "ledger.sqlite").stat().st_size
    assert remove_old(made.ledger, made.spool, 2e9, 72, 1e6)[0] == 20
    for n in range(15 * PER_SERIES):
        made.ledger.instances.add(
            [Received(f"1.{n}", "1", "1.5", "1", "1", "MR", "AE", f"images/{n:065}", 5, 2e9)]
        )
    made.ledger.db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "ledger.sqlite").stat().st_size <= 1.05 * before


def test_what_was_judged_is_the_same_before_and_after(tmp_path: Path) -> None:
    made = grow(tmp_path, 0, 2 * PER_SERIES)
    ledger = made.ledger

    def judged() -> list[object]:
        rows = [ledger.verdicts.of(number, 1) for number in (1, 2)]
        kept = [[{k: v for k, v in row.items() if k != "source_path"} for row in some] for some in rows]
        return [
            kept,
            ledger.series.claims_of_study(names_of(0)[0]),
            [ledger.deliveries.of_series(n) for n in (1, 2)],
        ]

    before = judged()
    remove_old(ledger, made.spool, 2e9, 72, 1e6)
    assert judged() == before
    assert set(ledger.removals.named("thumbnails")) == {
        name for row in ledger.verdicts.recent() for name in row["thumbnails"]
    }


def test_every_image_that_comes_back_is_known(tmp_path: Path) -> None:
    made = grow(tmp_path, PER_SERIES, 0)
    study, series = names_of(0)
    ledger, spool = made.ledger, made.spool
    for number in range(PER_SERIES):
        row = ledger.series.find(study, series)
        assert row is not None and row["images_removed_at"] is not None
        name = spool.image_name(study, series, image_uid(0, number))
        spool.folder_of(name)
        (spool.root / name).touch()
        image = Received(image_uid(0, number), "1", series, study, "1", "MR", "AE", name, 5, 1.9e9)
        assert ledger.instances.add([image], spool.count_there) == [True]
    row = ledger.series.find(study, series)
    assert row is not None and (row["state"], row["run"], row["instances"]) == ("reported", 1, PER_SERIES)
    assert row["images_removed_at"] is None and ledger.series.judge_again(row["series_id"], 1.9e9)
    assert ledger.db.value("SELECT count(*) FROM removed_images") == 0, "its rows are there again"


# -- ledgers of 0.2 ------------------------------------------------------------------------------------
def test_a_ledger_of_0_2_is_condensed_by_retention_and_not_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr("qc_node.ledger.migrations.MIGRATIONS", MIGRATIONS[:4])
        bring_up_to_date(path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("INSERT INTO studies (study_uid, first_received, last_received) VALUES ('ST', 1, 1)")
        conn.execute(
            "INSERT INTO series (study_uid, series_uid, modality, calling_ae, first_received, last_received,"
            " instances, state, images_removed_at) VALUES ('ST', 'S', 'MR', 'AE', 1, 1, 300, 'reported', 50)"
        )
        conn.executemany(
            "INSERT INTO instances (sop_instance_uid, series_id, sop_class_uid, transfer_syntax_uid, calling_ae,"
            " path, bytes, received_at) VALUES (?, 1, '1', '1', 'AE', ?, 5, 1)",
            [(f"1.{n}", f"images/0/{n}.dcm") for n in range(300)],
        )
        conn.execute(
            "INSERT INTO instances (sop_instance_uid, sop_class_uid, transfer_syntax_uid, calling_ae, path, bytes,"
            " received_at) VALUES ('1.9.9', '1', '1', 'AE', 'images/1/0.dcm', 5, 1)"
        )
        conn.execute(
            "INSERT INTO objects (instance_id, study_uid, series_uid, handled) VALUES (301, 'ST', 'K', 2)"
        )
        conn.commit()
    spool = Spool(tmp_path)
    for name in ("images/0/7.dcm", "images/1/0.dcm"):  # a kill of 0.2 between row and file
        spool.store(name, b"image")
    ledger = Ledger(path)
    assert schema_of(path) == len(MIGRATIONS) >= 5
    assert ledger.db.value("SELECT count(*) FROM instances") == 301
    assert list(ledger.removals.named("images")) == ["images/1/0.dcm"], "the start does not read what is gone"
    assert remove_old(ledger, spool, 100 * HOUR_S, 72, 90) == (1, 0)
    assert ledger.db.value("SELECT count(*) FROM instances") == 0 and not list(spool.images_on_disk())
    back = Received("1.7", "1", "S", "ST", "1", "MR", "AE", "images/0/7.dcm", 5, 9e6)
    ledger.instances.add([back])
    series = ledger.series.by_id(number_of(ledger, "S"))
    assert series is not None and (series["state"], series["instances"]) == ("reported", 1)


# -- what it is made of --------------------------------------------------------------------------------
def test_texts_that_were_packed_can_be_read_for_ever() -> None:
    text = '{"stage": "ct", "findings": [{"question": "body_part", "value": "brain"}], "n\u00e4me": "M\u00fcller"}'
    stored = bytes.fromhex("01c3289dc92b4bc176e51d5e02c972be87f7e4e4007d510b00")
    assert packing.plain(stored) == text, "the vocabulary must not be edited: stored rows need it"
    assert packing.pack(text) == stored and packing.pack(stored) == stored
    assert packing.pack("[]") == packing.plain("[]") == "[]"
    measured = '{"noise_percent": 3.2, "metal_share": 0.0, "w\u00e4rme": 1.5}'
    kept = bytes.fromhex("02abc692058c7038b9fcf0922270190fcc3bb500")
    assert packing.plain(kept) == measured and packing.pack(measured, packing.FORMAT_OF_MEASURES) == kept
    with pytest.raises(ValueError, match="in a way that this version does not know"):
        packing.plain(b"\x03" + stored[1:])


def test_digests_of_removed_images_are_those_that_stored_rows_have() -> None:
    assert removals.uid_digest("1.2.840.1").hex() == "75b09693d525"
    assert removals.DIGEST_BYTES == 6


def test_a_set_of_names_tells_what_it_lacks_in_eight_bytes_for_each() -> None:
    names = [f"images/{n:032x}/{n * 7:032x}.dcm" for n in range(10_000)]
    known = NameSet(iter(names[::2]))
    assert known.lacks(names) == names[1::2] and len(known) == 5_000
    assert NameSet([]).lacks(names[:2]) == names[:2] and known.lacks([]) == []
    assert fingerprint("z" * 200) < 1 << 64 and known._prints.nbytes == 40_000
