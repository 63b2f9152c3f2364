"""Pictures for the documentation, from procedural trunks only.

Run ``python -m qc_node.training.ct.evaluation.gallery DIR``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from qc_node.classifiers.ct.anatomy import LANDMARKS
from qc_node.classifiers.ct.pictures import network_image
from qc_node.classifiers.ct.projections import METHODS, PLANES, project
from qc_node.training.ct.simulation.bodies import make_body

TILE = 224


def nine_conversions(seed: int = 5) -> Image.Image:
    """The nine pictures of one made, enhanced trunk: rows MIP, body-only AIP, mid-plane."""
    volume, _, _ = make_body(enhanced=True, rng=np.random.default_rng(seed))
    p = project(volume)
    rows = [np.hstack([network_image(p, f"{m}_{plane}", TILE) for plane in PLANES]) for m in METHODS]
    return Image.fromarray((np.vstack(rows) * 255).astype(np.uint8))


def plain_and_enhanced(seed: int = 8) -> Image.Image:
    """Coarse slices of a plain and an enhanced trunk at the liver, the kidneys and the pelvis."""
    rows = []
    for enhanced in (False, True):
        volume, top, _ = make_body(enhanced=enhanced, rng=np.random.default_rng(seed))
        coarse = project(volume).coarse
        tiles = []
        for at in (LANDMARKS["dome"] + 70, LANDMARKS["crest"] - 75, LANDMARKS["crest"] + 50, LANDMARKS["hip"] + 8):
            z = int(np.clip((at - top) / 4, 0, len(coarse) - 1))
            shade = (np.clip((coarse[z].astype(np.float32) + 100) / 400, 0, 1) * 255).astype(np.uint8)
            tiles.append(np.asarray(Image.fromarray(shade).resize((TILE, TILE))))
        rows.append(np.hstack(tiles))
    return Image.fromarray(np.vstack(rows))


def main(folder: Path) -> None:
    """Write both pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    nine_conversions().save(folder / "ct-nine-conversions.png", optimize=True)
    plain_and_enhanced().save(folder / "ct-made-trunks.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
