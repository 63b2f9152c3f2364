"""Signal equations against values worked out by hand, and the order of tissues that physics demands."""

from __future__ import annotations

import numpy as np
import pytest

from qc_node.training.brain_mri.simulation import other_contrasts, signal

ONE = np.ones(1)
T1 = 1000.0 * ONE
AT = {name: n for n, name in enumerate(signal.NAMES)}


def test_spoiled_echo() -> None:
    # E1 = exp(-0.02) = 0.98020; sin 20 deg = 0.34202, cos 20 deg = 0.93969.
    assert signal.spoiled_echo(T1, ONE, 20.0, 20.0)[0] == pytest.approx(0.34202 * 0.019801 / 0.078914, rel=1e-3)
    assert signal.spoiled_echo(T1, 0.5 * ONE, 20.0, 20.0)[0] == pytest.approx(0.04291, rel=1e-3)


def test_spin_echo() -> None:
    assert signal.spin_echo(T1, 100 * ONE, ONE, 1000.0, 100.0)[0] == pytest.approx(0.632121 * 0.367879, rel=1e-5)


def test_inversion_keeps_its_sign_and_nulls() -> None:
    # 1 - 2 * 0.606531 + 0.135335
    assert signal.inversion_spin_echo(T1, ONE, ONE, 2000.0, 0.0, 500.0)[0] == pytest.approx(-0.077726, abs=1e-6)
    ti = signal.null_time(4000.0, 9000.0)
    assert ti == pytest.approx(2371.8, abs=0.1)
    assert signal.inversion_spin_echo(4000 * ONE, ONE, ONE, 9000.0, 0.0, ti)[0] == pytest.approx(0, abs=1e-9)


def test_one_pulse_of_ninety_degrees_is_an_inversion_recovery() -> None:
    """A single saturating pulse makes the train the textbook's inversion recovery."""
    (found,) = signal.inversion_trains(T1, ONE, 2000.0, [signal.Readout(500.0, 90.0, 1, 5.0)], inversion=1.0)
    assert found[0] == pytest.approx(-0.077726, abs=1e-6)


def test_a_readout_that_does_not_disturb_leaves_pure_recovery() -> None:
    # Before inversion (1 - E) / (1 + E) = 0.761594 with E = exp(-2); then 1 - 1.761594 exp(-0.7).
    (found,) = signal.inversion_trains(T1, ONE, 2000.0, [signal.Readout(700.0, 0.01, 100, 7.0)], inversion=1.0)
    assert found[0] / np.sin(np.radians(0.01)) == pytest.approx(0.125218, rel=1e-3)


def test_readouts_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        signal.inversion_trains(T1, ONE, 5000.0, [signal.Readout(300.0, 5.0, 160, 7.0)])


def test_the_uniform_image_lies_between_its_bounds() -> None:
    first = np.array([1.0, -2.0, 0.0, 3.0], np.float32)
    second = np.array([1.0, 2.0, 1.0, 0.0], np.float32)
    assert signal.uniform_image(first, second).tolist() == [0.5, -0.5, 0.0, 0.0]


@pytest.mark.parametrize("tesla", [1.5, 3.0])
def test_tissues_are_in_the_order_that_a_reader_knows(tesla: float) -> None:
    t = signal.tissues(tesla)

    def order(levels: signal.Array, *names: str) -> bool:
        values = [levels[AT[n]] for n in names]
        return values == sorted(values, reverse=True)

    (mprage,) = signal.inversion_trains(t.t1, t.density, 2300.0, [signal.Readout(900.0, 9.0, 160, 7.0)])
    assert order(np.abs(mprage), "fat", "white", "deep grey", "grey", "fluid")
    flash = signal.spoiled_echo(t.t1, t.density, 20.0, 25.0)
    assert order(flash, "fat", "white", "grey", "vitreous")
    t2 = signal.spin_echo(t.t1, t.t2, t.density, 4000.0, 100.0)
    assert order(t2, "fluid", "grey", "white", "muscle")
    ti = signal.null_time(t.t1[AT["fluid"]], 9000.0)
    flair = np.abs(signal.inversion_spin_echo(t.t1, t.t2, t.density, 9000.0, 110.0, ti))
    assert order(flair, "lesion", "grey", "white", "fluid")
    assert flair[AT["fluid"]] < 1e-6 and flair[AT["vitreous"]] < 0.3 * flair[AT["white"]]
    first, second = signal.inversion_trains(
        t.t1, t.density, 5000.0, [signal.Readout(700.0, 4.0, 150, 7.0), signal.Readout(2500.0, 5.0, 150, 7.0)]
    )
    uniform = signal.uniform_image(first.astype(np.float32), second.astype(np.float32)).astype(np.float64)
    assert order(uniform, "white", "deep grey", "grey", "fluid")


def test_drawn_t1w_sequences_are_t1w() -> None:
    """Whatever is drawn, white matter is 1 and brighter than grey matter, and that brighter than fluid."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        name, levels = signal.draw_t1w(signal.draw_tissues(rng), rng)
        assert name in ("mprage", "spgr") and levels[0] == 1
        assert np.isfinite(levels).all() and (levels >= 0).all()
    means = np.mean([signal.draw_t1w(signal.draw_tissues(rng), rng)[1] for _ in range(300)], 0)
    assert means[AT["grey"]] < 0.9 and means[AT["fluid"]] < 0.6 and means[AT["fat"]] > 1.2


def test_every_kind_has_a_maker_and_flair_is_a_third() -> None:
    assert sum(share for _, share in other_contrasts.KINDS) == pytest.approx(1.0)
    assert dict(other_contrasts.KINDS)["flair"] == pytest.approx(1 / 3, abs=0.02)
    assert {k for k, _ in other_contrasts.KINDS} == set(other_contrasts._MAKERS) | {"inv1", "inv2", "uni"}
