"""Real images through the worker and the program's own measures: in the ledger with their verdict or reason."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from qc_node.domain.measure import ALL
from qc_node.ledger import Received
from qc_node.measures.catalogue import MEASURES, VERSION
from tests.engine.test_worker import Bench, SmallClassifier
from tests.ledger.makers import number_of
from tests.part_settings import worker_settings

INTEROPERABILITY = Path("/work/shared/data/dicom/interoperability.tar.xz")
RADIOGRAPHS = ("082_", "148_", "149_")


@pytest.fixture(autouse=True)
def measures() -> None:
    """The program's own."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, SmallClassifier())


def receive(bench: Bench, path: Path) -> int:
    """Store and close a series of one image; its number."""
    ds = dcmread(path)
    name = bench.spool.image_name(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    bench.spool.store(name, path.read_bytes())
    uid = str(ds.SeriesInstanceUID)
    bench.ledger.instances.add(
        [
            Received(
                str(ds.SOPInstanceUID),
                str(ds.SOPClassUID),
                uid,
                str(ds.StudyInstanceUID),
                str(ds.file_meta.TransferSyntaxUID),
                str(ds.Modality),
                "AE1",
                name,
                1,
                10.0,
            )
        ]
    )
    number = number_of(bench.ledger, uid)
    assert bench.ledger.series.close(number, 10.0, "quiet", 11.0)
    return number


def look(bench: Bench, path: Path) -> dict[str, Any]:
    """What the worker tells of a file, with its row."""
    number = receive(bench, path)
    bench.worker.step()
    row = bench.ledger.measured.of(number, 1)
    assert row is not None
    told = bench.told[-1]
    assert told["event"] == "finished" and set(json.loads(row["measures"])) == set(told["measures"])
    return {**told, "unmeasured": json.loads(row["unmeasured"]), "row": row}


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_single_slice_is_measured_and_charted_though_no_classifier_judges_it(bench: Bench, name: str) -> None:
    found = get_testdata_file(name)
    assert isinstance(found, str)
    told = look(bench, Path(found))
    assert len(told["measures"]) >= 8 and told["measures"].keys() <= MEASURES.keys()
    for measure, said in told["measures"].items():
        assert MEASURES[measure].low <= said["value"] <= MEASURES[measure].high
        assert said["unit"] == MEASURES[measure].unit
    assert told["row"]["chart_id"] is not None and told["row"]["version"] == VERSION
    assert told["station"] and told["modality"] == name[:2]
    assert told["unusual"] == told["departures"] == [], "nothing is unusual of the first"


@pytest.mark.slow
@pytest.mark.skipif(not INTEROPERABILITY.exists(), reason="needs the interoperability objects")
def test_radiographs_are_measured_and_stay_skipped(bench: Bench, tmp_path: Path) -> None:
    with tarfile.open(INTEROPERABILITY) as archive:
        wanted = [m for m in archive.getmembers() if Path(m.name).name.startswith(RADIOGRAPHS)]
        archive.extractall(tmp_path / "objects", members=wanted, filter="data")
    told = [look(bench, tmp_path / "objects" / member.name) for member in wanted]
    assert len(told) >= 2
    for one in told:
        assert one["state"] == "skipped" and one["sentence"]
        assert one["measures"] or one["unmeasured"].get(ALL)
    assert [len(one["measures"]) >= 4 for one in told].count(True) >= 2


def test_the_measures_of_a_judged_volume_come_with_its_verdict(bench: Bench) -> None:
    uid = bench.receive("a")
    bench.worker.step()
    told = bench.told[-1]
    assert bench.state(uid)[0] == "judged" and told["verdicts"]
    assert "noise_hu" in told["measures"] or "noise_hu" in json.loads(
        bench.ledger.measured.of(number_of(bench.ledger, uid), 1)["unmeasured"]  # type: ignore[index]
    )


def test_measuring_takes_the_time_that_it_says_and_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SmallClassifier())
    took = {}
    for on in (False, True):
        bench.worker.apply(worker_settings(tmp_path / "data", measures=on, keeps_pictures=False))
        bench.receive("b" if on else "a")
        start = bench.worker._clock()
        bench.worker.step()
        took[on] = bench.worker._clock() - start - bench.told[-1]["timings"].get("measure", 0.0)
    assert took[True] <= took[False] + 1.0, "a row more, and the chart of the scanner"
