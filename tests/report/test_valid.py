"""Every kind of object that the node writes, read by three validators that are not ours."""

from __future__ import annotations

import re
import tarfile
import warnings
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from qc_node.domain import BodyPart, HeaderClaims, InstanceRef, Reason, Region, SeriesKey
from qc_node.report.structured_report import SR_CLASSES, build_report
from tests.peers import validators
from tests.peers.validators import validate
from tests.report.measured import BLOCK, measured_report
from tests.report.sources import (
    CREATED,
    CT_IMAGE,
    as_bytes,
    ct_verdict,
    every_region_set,
    evidence,
    mri_verdict,
    rejected,
    report,
    source,
    undecided_reject,
)
from tests.report.test_key_objects import flag
from tests.report.test_vote_report import vote

pytestmark = pytest.mark.peer

BEFORE = (SR_CLASSES["comprehensive"], "1.2.3.4", "1.2.3")
ANSWERS = (None, False, True)


def every_kind() -> dict[str, Dataset]:
    """One object of each kind, by a name that says which."""
    ct = source("CT")
    claims = HeaderClaims(modality="MR", contrast_agent="Gadovist \\ 1.0", contrast_words=True)
    kinds = {f"reject-{r}": report(rejected(r)) for r in Reason}
    kinds["reject-undecided"] = report(undecided_reject())
    kinds |= {f"grades-{m}{c}{n}": report(mri_verdict(m, c, n)) for m, c, n in product((None, 0, 1, 2), repeat=3)}
    kinds |= {f"gadolinium-{g}": report(mri_verdict(gadolinium=g), claims=claims) for g in ANSWERS}
    kinds |= {f"ct-{p}-{e}": report(ct_verdict(p, e), ct) for p, e in product((None, *BodyPart), ANSWERS)}
    kinds |= {
        f"ct-{'-'.join(r)}": report(ct_verdict(regions=r, truncated=len(r) % 2 == 0), ct)
        for r in [(), *every_region_set()]
    }
    for name in SR_CLASSES:
        kinds[f"{name}-ct"] = report(ct_verdict(), ct, sr_class=name, evidence=evidence(300, CT_IMAGE))
        kinds[f"{name}-summary"] = report(mri_verdict(1, None, 2), sr_class=name, summary="tier 3 (poor) …")
        kinds[f"{name}-several"] = report(sr_class=name, summary="Two.", also=[ct_verdict(regions=list(Region))])
        kinds[f"{name}-warnings"] = report(sr_class=name, warnings=["≥ 5 mm \\ \x07", "two\nlines", "x" * 9000])
        kinds[f"{name}-predecessor"] = report(sr_class=name, predecessor=BEFORE, instance_number=2)
        kinds[f"{name}-other"] = report(header=source("PT"), sr_class=name)
        kinds[f"{name}-measures"] = report(ct_verdict(), ct, sr_class=name, summary="S.", measures=BLOCK)
        kinds[f"{name}-measured"] = measured_report(sr_class=name)
        kinds[f"{name}-vote"] = vote("poor", reasons=[Reason.MOTION, Reason.SEGMENTED], sr_class=name)
    tree = kinds["basic-text-tree"] = report(mri_verdict(1, None, 2), sr_class="basic-text", summary="S.")
    set_class(tree, SR_CLASSES["comprehensive"])  # in which PixelMed looks for the template
    kinds |= {f"flag-{n}": flag(v) for n, v in (("tier", mri_verdict(2)), ("reject", rejected(Reason.BLANK)))}
    kinds |= {
        f"vote-{c}-{s}": vote(c, series=s) for c, s in product(("good", "acceptable", "poor"), (True, False))
    }
    return kinds


def set_class(ds: Dataset, sop_class: str) -> None:
    ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPClassUID = UID(sop_class)


TEMPLATES = (
    "reject-blank",
    "gadolinium-True",
    "ct-chest-abdomen-pelvis",
    "comprehensive-several",
    "comprehensive3d-warnings",
    "basic-text-warnings",
    "basic-text-several",
    "basic-text-tree",
    "comprehensive-predecessor",
    "comprehensive-other",
    "comprehensive3d-vote",
    "comprehensive-measures",
    "comprehensive-measured",
    "basic-text-measured",
    "flag-reject",
)
"""What the template validator sees as well; it takes several seconds for each."""


def write(objects: dict[str, Dataset], folder: Path) -> list[Path]:
    paths = []
    for name, ds in objects.items():
        paths.append(folder / f"{name}.dcm")
        paths[-1].write_bytes(as_bytes(ds))
    return paths


def faults(verdicts: Iterable[validators.Verdict]) -> dict[str, tuple[str, ...]]:
    return {v.path.name: v.errors for v in verdicts if not v.valid}


def test_every_kind_is_valid_to_dciodvfy_and_dsrdump(tmp_path: Path) -> None:
    paths = write(every_kind(), tmp_path)
    assert len(paths) > 180
    assert faults(validate(paths)) == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_chosen_kinds_are_valid_to_the_template_validator(tmp_path: Path) -> None:
    kinds = every_kind()
    found = validate(write({name: kinds[name] for name in TEMPLATES}, tmp_path), template=True)
    assert faults(found) == {}
    of_template = [w for v in found for w in v.warnings if w.startswith("Warning:")]
    unexpected = [w for w in of_template if "not in template" not in w.lower()]
    assert unexpected == []


def test_validators_find_what_is_wrong(tmp_path: Path) -> None:
    """A test that could not fail would prove nothing: broken reports must be told apart."""
    untyped, headless, related = report(), report(), report()
    del untyped.CompletionFlag
    del headless.ContentSequence[0].ValueType
    related.ContentSequence[0].RelationshipType = "SELECTED FROM"
    paths = write({"untyped": untyped, "headless": headless, "related": related}, tmp_path)
    assert set(faults(validate(paths))) == {"untyped.dcm", "headless.dcm", "related.dcm"}


# -- headers of real scanners ------------------------------------------------------------------------
ARCHIVES = (
    "siemens_trio_adi_s5",
    "hitachi_lumbar_s7",
    "siemens_prisma_decubitus_s3",
    "ct_crlm1004_2",
    "ct_dcmqa_ph_201",
    "ct_ts_dicom_0",
)


def headers(archive: Path) -> dict[str, Dataset]:
    """The header of each object in a tar file, as the node reads it."""
    found: dict[str, Dataset] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[Path(member.name).name] = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    return found


def uid(ds: Dataset, keyword: str) -> str:
    try:
        return str(ds.get(keyword, "") or "") or "1.2.3"
    except Exception:
        return "1.2.3"


def report_on(ds: Dataset, refs: list[InstanceRef]) -> Dataset:
    key = SeriesKey(uid(ds, "StudyInstanceUID"), uid(ds, "SeriesInstanceUID"))
    is_ct = uid(ds, "Modality") == "CT"
    return build_report(
        ds,
        refs,
        key,
        ct_verdict() if is_ct else mri_verdict(1),
        HeaderClaims(),
        ["≥ 1 warning"],
        software_version="0.1.0",
        sr_class="comprehensive",
        node="QCNODE",
        rules_digest="r0",
        created=CREATED,
    )


@pytest.mark.data
@pytest.mark.parametrize("archive", ARCHIVES)
def test_report_on_a_real_series_is_valid(shared_data: Path, tmp_path: Path, archive: str) -> None:
    found = headers(shared_data / "dicom" / f"{archive}.tar.xz")
    refs = [InstanceRef(uid(ds, "SOPClassUID"), uid(ds, "SOPInstanceUID")) for ds in found.values()]
    ds = report_on(next(iter(found.values())), refs)
    assert faults(validate(write({archive: ds}, tmp_path))) == {}
    assert ds.PatientID == next(iter(found.values())).PatientID


KEPT = re.compile(r"\(0x0020,0x000[de]\) (UI )?(Study|Series) Instance UID|contains invalid data values")
"""What names the study and series of the images is kept even where it is no valid UID (and dciodvfy's summary)."""


@pytest.mark.data
def test_report_on_every_odd_object_is_valid_but_for_the_uids_that_must_be_kept(
    shared_data: Path, tmp_path: Path
) -> None:
    found = headers(shared_data / "dicom" / "interoperability.tar.xz")
    paths = write({name: report_on(ds, evidence()) for name, ds in found.items()}, tmp_path)
    assert len(paths) > 180
    bad = {
        name: rest
        for name, errors in faults(validate(paths)).items()
        if (rest := [e for e in errors if not KEPT.search(e)])
    }
    assert bad == {}
