"""Measures of the tests' own, in place of the program's: quick, and known to the last digit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from qc_node.domain import Volume
from qc_node.domain.measurable import Radiograph, Slices, TissueLevels
from qc_node.domain.measure import Baseline, Better, Departure, ImageFinding, Measure, Measured, Unit, Unusual
from qc_node.domain.technique import Technique

MEAN = Measure(
    "mean_grey", "mean grey value", Unit.GREY, Better.NEITHER, -1e9, 1e9, frozenset({"MR", "CT", "DX"}), "own"
)


@dataclass(frozen=True)
class PastSeries:
    values: Mapping[str, float]
    body_size: float | None


@dataclass(frozen=True)
class Comparison:
    unusual: tuple[Unusual, ...]
    lacking: int


@dataclass
class Measures:
    """What the program is given in place of its measures; `error` is raised by them."""

    error: BaseException | None = None
    seen: list[tuple[Any, Volume | None]] = field(default_factory=list)
    past: list[Sequence[PastSeries]] = field(default_factory=list)
    earlier: list[Sequence[Mapping[str, Any]]] = field(default_factory=list)
    levels: list[TissueLevels | None] = field(default_factory=list)
    version: int = 1
    software: str = "VE11"
    station: str = "CT7"
    kernel: str = "B30"

    def measurable(self, opened: Any, volume: Volume | None = None) -> Slices | tuple[Radiograph, ...] | str:
        self.seen.append((opened, volume))
        if opened.modality == "US":
            return "Ultrasound is kept and can be voted on, and not measured."
        return Slices(volume if volume is not None else opened.volume())

    def measure_volume(self, slices: Slices, technique: Technique, levels: TissueLevels | None) -> Measured:
        self.levels.append(levels)
        if self.error is not None:
            raise self.error
        return Measured({"mean_grey": float(slices.volume.voxels.mean())}, {"ghost": "A CT has no ghosts."})

    def technique_of(self, opened: Any) -> Technique:
        kernel = {"kernel": self.kernel}
        return Technique(opened.modality, self.station, self.software, {"body_part": "chest"}, kernel, {}, 300.0)

    def compare(
        self, values: Mapping[str, float], body_size: float | None, history: Sequence[PastSeries], measures: Any
    ) -> Comparison:
        """Unusual is what is more than 100 from the mean of two series or more."""
        self.past.append(history)
        if len(history) < 2:
            return Comparison((), 2 - len(history))
        centre = sum(one.values["mean_grey"] for one in history) / len(history)
        z = (values["mean_grey"] - centre) / 100
        found = Unusual("mean_grey", values["mean_grey"], z, Baseline(centre, 100.0, len(history)))
        return Comparison((found,) if abs(z) > 1 else (), 0)

    def departures(
        self, parameters: Mapping[str, float | str], earlier: Sequence[Mapping[str, float | str]]
    ) -> tuple[Departure, ...]:
        self.earlier.append(earlier)
        differing = [one for one in earlier if one != parameters]
        if not differing:
            return ()
        return (Departure("kernel", str(parameters["kernel"]), str(differing[0]["kernel"]), 1.0),)

    def findings(
        self, measured: Measured, technique: Technique, unusual: Sequence[Unusual]
    ) -> tuple[ImageFinding, ...]:
        return tuple(ImageFinding("noise", f"{one.measure} is far from usual.") for one in unusual)


def install(monkeypatch: pytest.MonkeyPatch) -> Measures:
    """Have the engine find these measures where it looks for the program's."""
    given = Measures()
    modules: dict[str, dict[str, Any]] = {
        "series.measurable": {"measurable": given.measurable},
        "series.headers.acquisition": {"technique_of": given.technique_of},
        "measures.volumes": {"measure_volume": given.measure_volume},
        "measures.radiographs": {"measure_radiographs": lambda images, technique: Measured()},
        "measures.normal": {"compare": given.compare, "PastSeries": PastSeries},
        "measures.compliance": {"departures": given.departures},
        "measures.findings": {"of": given.findings},
    }
    for name, content in modules.items():
        module = ModuleType(f"qc_node.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, f"qc_node.{name}", module)
    catalogue = _Catalogue("qc_node.measures.catalogue")
    catalogue.given = given
    monkeypatch.setitem(sys.modules, "qc_node.measures.catalogue", catalogue)
    return given


class _Catalogue(ModuleType):
    given: Measures
    MEASURES: Mapping[str, Measure] = {"mean_grey": MEAN}

    @property
    def VERSION(self) -> int:  # noqa: N802
        return self.given.version
