"""The pack: simulated images, cached as what the network sees, with what was measured on them.

A pack is a folder of shards ``shard-0000.npz`` (slices float16 ``(n, S, H, W)``, the local motion error
``(n, S, H / 8, W / 8)``, whole volumes at 2 mm of some images for the paper's networks) with ``rows`` as
JSON.  It is derived from people's images: it is kept outside the repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qc_node.classifiers.brain_mri import preprocess
from qc_node.training.brain_mri.simulation import synthesis
from qc_node.training.brain_mri.simulation.simulator import VOLUME_SHAPE, PackRow, Simulator


def build(
    out: Path,
    paths: list[Path],
    priors: synthesis.Priors,
    head: preprocess.AverageHead,
    seeds: range,
    bases_per_shard: int = 8,
    log: Any = print,
) -> None:
    """Write shards of `bases_per_shard` bases until `seeds` are used up; finished shards are kept."""
    import time

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(paths, priors, head)
    started = time.monotonic()
    for number, first in enumerate(range(seeds.start, seeds.stop, bases_per_shard)):
        path = out / f"shard-{first:06d}.npz"
        if path.exists():
            continue
        pictures = [
            p for seed in range(first, min(first + bases_per_shard, seeds.stop)) for p in simulator.base(seed)
        ]
        whole = [n for n, p in enumerate(pictures) if p.volume is not None]
        temporary = path.with_suffix(".tmp.npz")
        np.savez(
            temporary,
            slices=np.stack([p.slices for p in pictures]),
            errors=np.stack([p.error for p in pictures]),
            volumes=np.array([p.volume for p in pictures if p.volume is not None], np.uint8).reshape(
                -1, *VOLUME_SHAPE
            ),
            volume_of=np.array(whole, dtype=np.int64),
            rows=json.dumps([asdict(p.row) for p in pictures]),
        )
        temporary.replace(path)
        log(f"{path.name}: {len(pictures)} images, {(time.monotonic() - started) / (number + 1):.0f} s per shard")


@dataclass(frozen=True)
class Shard:
    """One finished file of a pack, as :func:`build` wrote it; arrays are read when asked for."""

    path: Path
    rows: list[PackRow]

    def array(self, name: str) -> npt.NDArray[Any]:
        """``slices``, ``errors``, ``volumes`` or ``volume_of`` (the row of each volume)."""
        with np.load(self.path, allow_pickle=False) as f:
            return np.asarray(f[name])


def shards(folder: Path) -> Iterator[Shard]:
    """Every finished shard of a pack, in order."""
    for path in sorted(folder.glob("shard-??????.npz")):
        with np.load(path, allow_pickle=False) as f:
            yield Shard(path, [PackRow(**r) for r in json.loads(str(f["rows"]))])
