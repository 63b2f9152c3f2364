"""What a pulse sequence makes of a tissue: signal equations and the tissues of a head.

Relaxation times are literature values of healthy adults at 1.5 and 3 tesla: Wansapura et al. 1999 (white and
grey matter), Stanisz et al. 2005 (white and grey matter, muscle, blood), Gold et al. 2004 (muscle, fat, marrow),
Rooney et al. 2007 (fluid), Peters et al. 2007 (T2*).  Those of vitreous body, mucosa and skin are near those of
fluid and of muscle.  They scatter from study to study by 5 to 15 %; :func:`draw_tissues` scatters them likewise.

Times are milliseconds, angles degrees, proton densities relative to water; signals are relative to the
equilibrium magnetisation and without sign unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NAMES = (
    "white",
    "grey",
    "deep grey",
    "fluid",
    "fat",
    "muscle",
    "marrow",
    "bone",
    "vitreous",
    "artery",
    "vein",
    "mucosa",
    "skin",
    "lesion",
)
"""Tissues, in the order of every array here; ``lesion`` is a white-matter hyperintensity of old age."""

# T1, T2, T2* at 1.5 T, T1, T2, T2* at 3 T, proton density, diffusivity in um^2/ms.
_TABLE = np.array(
    [
        (640, 75, 66, 850, 75, 53, 0.70, 0.75),
        (1050, 95, 84, 1350, 95, 66, 0.82, 0.85),
        (850, 85, 60, 1100, 80, 45, 0.78, 0.75),
        (4000, 1500, 800, 4200, 1500, 700, 1.00, 3.00),
        (288, 165, 45, 371, 133, 30, 0.90, 0.05),
        (1130, 35, 28, 1420, 32, 24, 0.75, 1.40),
        (288, 165, 25, 365, 133, 15, 0.60, 0.05),
        (1000, 1, 0.5, 1000, 1, 0.5, 0.10, 0.30),
        (3600, 1200, 600, 4000, 1000, 500, 1.00, 2.60),
        (1450, 250, 150, 1650, 200, 90, 0.90, 5.00),
        (1450, 180, 50, 1650, 120, 22, 0.90, 5.00),
        (1200, 80, 40, 1500, 75, 28, 0.85, 1.50),
        (900, 40, 30, 1150, 35, 22, 0.70, 1.00),
        (1000, 130, 100, 1350, 125, 90, 0.85, 1.20),
    ]
)


@dataclass(frozen=True)
class Tissues:
    """Relaxation of the tissues :data:`NAMES`: arrays of ms, relative density, and um^2/ms."""

    t1: Array
    t2: Array
    t2_star: Array
    density: Array
    diffusivity: Array


def tissues(tesla: float) -> Tissues:
    """Literature values at 1.5 or 3 tesla."""
    first = 0 if tesla < 2 else 3
    return Tissues(*(_TABLE[:, c] for c in (first, first + 1, first + 2, 6, 7)))


def draw_tissues(rng: np.random.Generator) -> Tissues:
    """A person in a scanner: 1.5 or 3 tesla, every value scattered by about a tenth."""
    mean = tissues(float(rng.choice([1.5, 3.0])))

    def scatter(values: Array, sd: float) -> Array:
        return np.asarray(values * np.exp(np.clip(rng.normal(0, sd, len(values)), -2.5 * sd, 2.5 * sd)))

    return Tissues(
        scatter(mean.t1, 0.07),
        scatter(mean.t2, 0.10),
        scatter(mean.t2_star, 0.15),
        scatter(mean.density, 0.03),
        scatter(mean.diffusivity, 0.10),
    )


def spoiled_echo(t1: Array, density: Array, tr: float, flip: float) -> Array:
    """Spoiled gradient echo (FLASH, SPGR) in the steady state: Haacke et al. 1999, equation 18.14; TE is 0."""
    e1, a = np.exp(-tr / t1), np.radians(flip)
    return np.asarray(density * np.sin(a) * (1 - e1) / (1 - np.cos(a) * e1))


def spin_echo(t1: Array, t2: Array, density: Array, tr: float, te: float) -> Array:
    """Spin echo or train of echoes at its effective TE, which is much shorter than TR: Haacke et al. 1999, 8.4."""
    return np.asarray(density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))


def inversion_spin_echo(t1: Array, t2: Array, density: Array, tr: float, te: float, ti: float) -> Array:
    """Spin echo after inversion (FLAIR, STIR), with sign: ``1 - 2 exp(-TI/T1) + exp(-TR/T1)``, Haacke, 8.4."""
    return np.asarray(density * (1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2))


def null_time(t1: float, tr: float) -> float:
    """Inversion time at which a tissue gives no signal in :func:`inversion_spin_echo`."""
    return float(t1 * np.log(2 / (1 + np.exp(-tr / t1))))


@dataclass(frozen=True)
class Readout:
    """A train of `pulses` of `flip` degrees, `spacing` ms apart, whose middle lies `centre` ms after inversion."""

    centre: float
    flip: float
    pulses: int
    spacing: float


def inversion_trains(
    t1: Array, density: Array, tr: float, trains: Sequence[Readout], inversion: float = 0.96
) -> list[Array]:
    """Signal, with sign, of each train in the steady state: MPRAGE with one train, MP2RAGE with two.

    Between pulses magnetisation recovers, a pulse leaves its cosine; every step is affine in the magnetisation,
    so the steady state is the fixed point of their product (Marques et al. 2010, appendix; `inversion` is their
    efficiency).  The signal is taken at the middle pulse of each train.

    Raises
    ------
    ValueError
        The trains do not fit between inversion, one another and `tr`.
    """
    gain, offset = np.full_like(t1, -inversion), np.zeros_like(t1)
    seen, now = [], 0.0

    def recover(time: float) -> None:
        nonlocal gain, offset
        if time < -1e-6:
            raise ValueError("the readouts of an inversion sequence overlap")
        e = np.exp(-time / t1)
        gain, offset = gain * e, offset * e + 1 - e

    for train in trains:
        before = train.pulses // 2
        recover(train.centre - before * train.spacing - now)
        c, e = np.cos(np.radians(train.flip)), np.exp(-train.spacing / t1)
        for n in range(train.pulses):
            if n == before:
                seen.append((gain, offset, np.sin(np.radians(train.flip))))
            gain, offset = gain * c * e, offset * c * e + 1 - e
        now = train.centre + (train.pulses - before) * train.spacing
    recover(tr - now)
    steady = offset / (1 - gain)
    return [np.asarray(density * s * (g * steady + o)) for g, o, s in seen]


def uniform_image(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """UNI image of MP2RAGE, -0.5 .. 0.5: ``first second / (first^2 + second^2)``, Marques et al. 2010, eq. 3."""
    return np.asarray(first * second / np.maximum(first**2 + second**2, 1e-9), dtype=np.float32)


def draw_t1w(tissue: Tissues, rng: np.random.Generator) -> tuple[str, Array]:
    """A T1-weighted 3D sequence as clinics set it: its name and the signal of each tissue, white matter 1."""
    if rng.random() < 0.6:
        name, ti = "mprage", float(rng.uniform(750, 1150))
        pulses, spacing = int(rng.integers(100, 190)), float(rng.uniform(5.5, 9.0))
        pulses = min(pulses, int(2 * (ti - 60) / spacing))
        last = ti + (pulses - pulses // 2) * spacing
        tr = max(float(rng.uniform(1500, 2600)), last + 60)
        (signal,) = inversion_trains(
            tissue.t1, tissue.density, tr, [Readout(ti, float(rng.uniform(7, 13)), pulses, spacing)]
        )
        signal = np.abs(signal)
    else:
        name = "spgr"
        signal = spoiled_echo(tissue.t1, tissue.density, float(rng.uniform(7, 26)), float(rng.uniform(12, 32)))
    signal = signal * np.exp(-float(rng.uniform(2, 5)) / tissue.t2_star)
    return name, signal / signal[0]
