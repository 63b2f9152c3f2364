"""What metal and anonymisation leave of a head: voids with bright rims, faces cut away.

Both are drawn in the average head's frame and applied to values at points, so they cost next to nothing; neither
says anything about the questions that are asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]

_PLACES: tuple[tuple[str, tuple[float, float, float], float, float], ...] = (
    ("teeth", (18, -62, -72), 8, 24),
    ("teeth", (0, -74, -68), 8, 22),
    ("skull", (45, -35, 62), 4, 12),
    ("skull", (60, 50, 40), 4, 12),
    ("ear", (78, 22, -28), 8, 26),
    ("sinus", (0, -70, -25), 5, 14),
)
"""Name, LPS mm in the average head (left; mirrored for right), smallest and largest radius in mm."""


@dataclass(frozen=True)
class Implant:
    """A ball without signal, `squash` times as long along one axis, with signal piled up at its rim."""

    name: str
    centre: tuple[float, float, float]
    radius: float
    squash: tuple[float, float, float]
    rim: float

    def on(self, values: FloatArray, points: torch.Tensor, white: float) -> FloatArray:
        """`values` at `points` ``(..., 3)``; `white` is the level of white matter."""
        scale = torch.tensor(self.squash) * self.radius
        r = (((points - torch.tensor(self.centre)) / scale) ** 2).sum(-1).sqrt().reshape(values.shape).numpy()
        left = 1 / (1 + np.exp(-(r - 1) * np.float32(self.radius / 1.2)))
        # Displaced signal lies at one side of the void, as off-resonance moves it along the readout.
        one_side = (points[..., 1] > self.centre[1]).reshape(values.shape).numpy()
        piled = np.exp(-(((r - 1.1) * np.float32(self.radius / 1.5)) ** 2)) * (0.3 + 0.7 * one_side)
        return np.asarray(
            values * left + np.float32(self.rim * white) * piled * (values > 0.05 * white), dtype=np.float32
        )


def draw(rng: np.random.Generator, share: float = 0.12) -> Implant | None:
    """Braces, fillings, plates, clips, hearing aids: in `share` of the images."""
    if rng.random() >= share:
        return None
    name, place, small, large = _PLACES[int(rng.integers(len(_PLACES)))]
    x, y, z = np.array(place) * (rng.choice([-1, 1]), 1, 1) + rng.normal(0, 4, 3)
    stretch = np.exp(rng.normal(0, 0.2, 3))
    return Implant(
        name,
        (float(x), float(y), float(z)),
        float(rng.uniform(small, large)),
        (float(stretch[0]), float(stretch[1]), float(stretch[2])),
        float(rng.uniform(0, 2.0)),
    )


@dataclass(frozen=True)
class Defacing:
    """Everything beyond a plane is gone: ``normal . p > offset``, average head, LPS mm."""

    normal: tuple[float, float, float]
    offset: float

    def on(self, values: FloatArray, points: torch.Tensor) -> FloatArray:
        """`values` at `points` ``(..., 3)`` without the face."""
        beyond = (points @ torch.tensor(self.normal)) > self.offset
        return np.where(beyond.reshape(values.shape).numpy(), np.float32(0), values)


def draw_defacing(rng: np.random.Generator, brain_points: torch.Tensor, share: float = 0.1) -> Defacing | None:
    """A plane in front of and below the brain, which it does not touch."""
    if rng.random() >= share:
        return None
    angle = np.radians(rng.uniform(15, 65))
    normal = (0.0, float(-np.cos(angle)), float(-np.sin(angle)))
    nearest = float((brain_points @ torch.tensor(normal)).max())
    return Defacing(normal, nearest + float(rng.uniform(8, 22)))
