"""What was measured, in a report: as numbers with units, read back, and without a trace where nothing was."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qc_node.domain import QcNodeError
from qc_node.domain.measure import ImageFinding, Unit
from qc_node.report import codes
from qc_node.report.items import children, codes_named, name_of, named, text_named, texts_named
from qc_node.report.measures_group import ALGORITHM, MEASURES_GROUP, NOTHING, MeasuredBlock, significant
from qc_node.report.reading import is_own_report, read_measured_report, read_report
from qc_node.report.sr_documents import SUMMARY_GROUP
from qc_node.report.structured_report import DISCLAIMER, SR_CLASSES
from qc_node.report.tree import as_text
from tests.report.measured import BLOCK, FINDINGS, KNOWN, VALUES, measured_report
from tests.report.sources import as_bytes, ct_verdict, evidence, key, mri_verdict, report, source, written
from tests.report.test_structured_report import UID_OF_FORMAT_2, groups

ROUNDED = {name: float(f"{value:.6g}") for name, value in VALUES.items()}


def test_the_last_group_has_each_measure_as_a_number_in_its_unit() -> None:
    found = groups(written(report(measures=BLOCK)))
    assert list(found)[-1] == MEASURES_GROUP
    group = found[MEASURES_GROUP]
    numbers = [item for item in children(group) if item.ValueType == "NUM"]
    assert [name_of(item) for item in numbers] == [codes.measure_code(m) for m in KNOWN.values()]
    units = [item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0] for item in numbers]
    assert [u.CodeValue for u in units] == [m.unit.value for m in KNOWN.values()]
    assert {u.CodingSchemeDesignator for u in units} == {"UCUM"}
    assert {u.CodeValue for u in units} == {unit.value for unit in Unit}, "each unit is tried"
    assert text_named(group, codes.ALGORITHM_NAME) == ALGORITHM
    assert text_named(group, codes.ALGORITHM_VERSION) == "3"
    assert codes_named(group, codes.FINDING) == [codes.QUALITY_ASSESSMENT]
    assert not [*named(group, codes.FINDING_SITE)]


def test_findings_are_quality_findings_with_a_sentence_each_after_the_disclaimer() -> None:
    group = groups(written(report(measures=BLOCK)))[MEASURES_GROUP]
    assert [c.value for c in codes_named(group, codes.QUALITY_FINDING)] == [
        "CLIPPED", "111215", "METAL", "130578", "130577", "111211", "111212",
    ]  # fmt: skip
    assert texts_named(group, codes.COMMENT) == [DISCLAIMER, *(f.sentence for f in FINDINGS)]


@pytest.mark.parametrize("sr_class", SR_CLASSES)
def test_reading_gives_back_what_was_measured_and_the_verdict_as_before(sr_class: str) -> None:
    said = read_report(
        written(report(ct_verdict(), source("CT"), sr_class=sr_class, measures=BLOCK, summary="S."))
    )
    assert (said.verdict, said.summary) == (ct_verdict(), "S.")
    assert said.measures.version == "3"
    assert said.measures.named(KNOWN.values()) == ROUNDED
    assert {unit for _, unit in said.measures.values.values()} == {unit.value for unit in Unit}
    assert said.measures.findings == tuple(codes.FINDINGS)
    assert said.measures.sentences == tuple(f.sentence for f in FINDINGS)


def test_only_what_is_a_value_of_a_known_measure_is_written() -> None:
    wrong = {
        "noise_air": float("nan"),
        "snr_object": float("inf"),
        "clipped": 101.0,
        "sharpness": -0.1,
        "invented": 1.0,
    }
    assert not MeasuredBlock(3, wrong, KNOWN)
    block = MeasuredBlock(3, wrong | {"kvp": 120.0}, KNOWN, (ImageFinding("invented", "x"),))
    said = read_report(written(report(measures=block))).measures
    assert (said.named(KNOWN.values()), said.findings, said.sentences) == ({"kvp": 120.0}, (), ())


def test_without_measures_a_report_is_what_it_was() -> None:
    for nothing in (NOTHING, MeasuredBlock(3, {}, KNOWN), MeasuredBlock(3, {"snr_object": float("nan")}, KNOWN)):
        assert as_bytes(report(measures=nothing)) == as_bytes(report())
    assert report().SOPInstanceUID == UID_OF_FORMAT_2
    assert read_report(written(report())).measures.values == {}


def test_the_uid_follows_from_the_version_of_the_measures_and_the_findings_and_not_from_the_values() -> None:
    def uid(block: MeasuredBlock) -> str:
        return str(report(measures=block).SOPInstanceUID)

    plain = MeasuredBlock(1, {"snr_object": 20.0}, KNOWN)
    assert uid(plain) == uid(replace(plain, values={"snr_object": 21.0, "kvp": 120.0}))
    assert uid(MeasuredBlock(1, {"snr_object": 1.0}, KNOWN, FINDINGS)) == uid(
        MeasuredBlock(1, {"snr_object": 1.0}, KNOWN, FINDINGS[::-1])
    )
    others = [
        replace(plain, version=2),
        replace(plain, findings=FINDINGS[:1]),
        replace(plain, findings=FINDINGS[:2]),
    ]
    assert len({uid(NOTHING), uid(plain), *map(uid, others)}) == 5
    assert report(measures=plain).SeriesInstanceUID == report().SeriesInstanceUID


def test_a_terminal_shows_the_measures_with_their_units() -> None:
    text = as_text(written(report(measures=MeasuredBlock(1, {"kvp": 120.0, "snr_object": 20.0}, KNOWN))))
    assert "KVP: 120 kV\n" in text and "Signal to Noise Ratio: 20\n" in text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_six_digits_in_the_sixteen_characters_of_a_ds(value: float) -> None:
    spelt = significant(value)
    assert len(spelt) <= 16
    assert float(spelt) == pytest.approx(value, rel=5.1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*KNOWN]), st.floats(0.0, 100.0), min_size=1), st.sampled_from([*SR_CLASSES])
)
def test_any_values_come_back(values: dict[str, float], sr_class: str) -> None:
    block = MeasuredBlock(1, values, KNOWN)
    said = read_measured_report(written(measured_report(block, sr_class=sr_class))).measures
    assert said.named(KNOWN.values()) == {name: float(significant(value)) for name, value in values.items()}


def test_highdicom_finds_the_measures() -> None:
    highdicom = pytest.importorskip("highdicom")
    sr = highdicom.sr.sop.ComprehensiveSR.from_dataset(written(report(measures=BLOCK)))
    (group,) = [g for g in sr.content.get_image_measurement_groups() if g.tracking_identifier == MEASURES_GROUP]
    found = {m.name.value: (m.value, m.unit.value) for m in group.get_measurements()}
    assert found == {codes.measure_code(KNOWN[n]).value: (v, KNOWN[n].unit.value) for n, v in ROUNDED.items()}


# -- a series that was measured and not judged -------------------------------------------------------
@pytest.mark.parametrize("sr_class", SR_CLASSES)
def test_a_series_that_was_not_judged_has_a_sentence_and_its_measures(sr_class: str) -> None:
    ds = written(measured_report(sr_class=sr_class, predecessor=(SR_CLASSES[sr_class], "1.2.3.4", "1.2.3")))
    assert list(groups(ds)) == [SUMMARY_GROUP, MEASURES_GROUP]
    said = read_measured_report(ds)
    assert (said.summary, said.predecessor) == ("Measured, not judged.", "1.2.3.4")
    assert said.measures.named(KNOWN.values()) == ROUNDED
    assert said.series == key(source("CT")) and set(said.evidence) == set(evidence())
    assert is_own_report(ds)
    with pytest.raises(QcNodeError):
        read_report(ds)


def test_it_is_in_the_series_of_the_reports_and_names_the_measures_as_its_device() -> None:
    ds, other = measured_report(), measured_report(replace(BLOCK, version=4))
    judged = report(ct_verdict(), source("CT"))
    assert ds.SeriesInstanceUID == judged.SeriesInstanceUID
    assert len({ds.SOPInstanceUID, other.SOPInstanceUID, judged.SOPInstanceUID}) == 3
    texts = {str(i.ConceptNameCodeSequence[0].CodeValue): i for i in ds.ContentSequence}
    assert texts["121015"].TextValue == f"{ALGORITHM} 3" and "121016" not in texts
    assert (
        texts["121012"].UID
        != {str(i.ConceptNameCodeSequence[0].CodeValue): i for i in other.ContentSequence}["121012"].UID
    )
    assert texts["121058"].ConceptCodeSequence[0].CodeValue == "25045-6"


def test_a_report_on_a_verdict_is_none_on_measures_alone() -> None:
    for ds in (report(mri_verdict(), measures=BLOCK), report(), source()):
        with pytest.raises(QcNodeError, match="only measured"):
            read_measured_report(ds)


@pytest.mark.parametrize("wrong", [{"evidence": []}, {"block": NOTHING}, {"sr_class": "enhanced"}])
def test_mistakes_of_the_caller_raise(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a report needs"):
        measured_report(**wrong)  # type: ignore[arg-type]
