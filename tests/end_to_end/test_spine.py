"""Real images, real peers: storescu → node → Orthanc, and three validators on what comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.end_to_end.node_process import NodeProcess
from tests.ledger.makers import number_of
from tests.peers import Orthanc, store, validate, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.data, pytest.mark.slow, pytest.mark.xdist_group("spine")]

MEASURED = ("schema", "measures", "unmeasured", "unusual", "departures", "findings")
SERIES = {
    "siemens_trio_adi_s5": "brain_mri",
    "hitachi_lumbar_s7": None,
    "siemens_prisma_decubitus_s3": None,
    "ct_crlm1004_2": "ct",
    "ct_dcmqa_ph_201": "ct",
    "ct_ts_dicom_0": "ct",
}
"""Archives of whole series, and the stage each belongs to (None: skipped with a sentence)."""


@pytest.fixture(scope="module")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("series")
    for name in SERIES:
        with tarfile.open(shared_data / "dicom" / f"{name}.tar.xz") as archive:
            archive.extractall(root / name, filter="data")
    return {name: root / name for name in SERIES}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def node(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    process = NodeProcess(
        tmp_path_factory.mktemp("node"), (pacs.ae_title, pacs.port), settings={"pacs": {"flag_object": True}}
    )
    process.start()
    yield process
    process.stop()


def series_uid_of(folder: Path) -> str:
    first = next(p for p in sorted(folder.rglob("*")) if p.is_file())
    return str(pydicom.dcmread(first, stop_before_pixels=True, force=True).SeriesInstanceUID)


def test_each_series_comes_back_as_a_valid_report_or_has_a_sentence_in_the_ledger(
    node: NodeProcess, pacs: Orthanc, unpacked: dict[str, Path], tmp_path: Path
) -> None:
    for name, folder in unpacked.items():
        switches = ["-xv"] if name == "ct_ts_dicom_0" else []  # stored as JPEG 2000
        assert store([folder], node.port, *switches).ok, name
    ledger = node.ledger()
    uids = {name: series_uid_of(folder) for name, folder in unpacked.items()}

    def states() -> dict[str, str]:
        rows = {name: ledger.series.get(uid) for name, uid in uids.items()}
        return {name: row["state"] if row else "missing" for name, row in rows.items()}

    wait_for(lambda: set(states().values()) <= {"reported", "skipped", "failed"}, 120)
    assert states() == {name: "reported" if stage else "skipped" for name, stage in SERIES.items()}
    for name, stage in SERIES.items():
        row = ledger.series.get(uids[name])
        assert row is not None and row["stage"] == stage
        if stage is None:
            assert row["sentence"] is not None and row["sentence"].endswith("."), name
    wait_for(lambda: ledger.deliveries.counts().get("pending", 0) == 0, 30)

    found = pacs.received(modality="SR") + pacs.received(modality="KO")
    judged = [name for name, stage in SERIES.items() if stage]
    assert {
        series.SeriesInstanceUID
        for r in found
        for study in r.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
    } == {uids[name] for name in judged}
    first_files = [next(p for p in folder.rglob("*") if p.is_file()) for folder in unpacked.values()]
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in first_files]
    paths = []
    for number, report in enumerate(found):
        source = next(h for h in headers if h.StudyInstanceUID == report.StudyInstanceUID)
        assert report.get("PatientID") == source.get("PatientID")
        paths.append(tmp_path / f"{number}.dcm")
        report.save_as(paths[-1])
    for verdict in validate(paths, template=True):
        assert verdict.valid, verdict.errors


def test_an_operator_sees_it_all(node: NodeProcess, pacs: Orthanc, unpacked: dict[str, Path]) -> None:
    text = node.metrics()
    assert 'qc_node_series_total{outcome="reported",stage="ct"} 3.0' in text
    assert 'qc_node_series_total{outcome="skipped",stage="none"} 2.0' in text
    assert "qc_node_series_latency_seconds_count 4.0" in text
    for folder in unpacked.values():  # no patient data anywhere an operator looks
        ds = pydicom.dcmread(next(p for p in folder.rglob("*") if p.is_file()), stop_before_pixels=True)
        for secret in (ds.get("PatientID"), str(ds.get("PatientName") or ""), ds.get("AccessionNumber")):
            if secret and len(str(secret)) > 3:
                assert str(secret) not in text
                assert str(secret) not in node.log.read_text()


def test_classify_says_the_same_of_the_same_folders(unpacked: dict[str, Path], node: NodeProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qc_node", "classify", "--json", *map(str, unpacked.values())],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    by_uid = {line["series_instance_uid"]: line for line in lines}
    ledger = node.ledger()
    for name, stage in SERIES.items():
        line = by_uid[series_uid_of(unpacked[name])]
        assert line["stage"] == stage
        assert (line["results"] == {}) == (stage is None) == bool(line["skipped"])
        assert set(line) == {
            "source",
            "series_instance_uid",
            "study_instance_uid",
            "modality",
            "instances",
            "stage",
            "skipped",
            "model",
            "results",
            "header",
            "warnings",
            "summary",
            "timings_s",
            *MEASURED,
        }
        assert line["schema"] == 2 and bool(line["measures"]) != ("*" in line["unmeasured"])
        stored = ledger.verdicts.get(number_of(ledger, line["series_instance_uid"]))
        if stage:
            assert stored is not None
            assert line["model"]["sha256"] == stored["verdict"].model.sha256
            for finding in stored["verdict"].findings:
                answer = line["results"][finding.question.value]
                assert answer.get("value", answer.get("grade")) == finding.value
