"""The measures of MR volumes: their laws on every real image, their time and memory; the pictures of the docs.

    python -m benchmarks.measures [--data ../shared/data] [--pictures docs/images]

Noise is planted: complex, in steps from once to thirty times what an image has, and the magnitude taken.  The
pictures show the demonstration's head, which is made from the average head and is nobody's.  Nothing is asserted;
the figures are printed.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from qc_node.config import default_models_dir
from qc_node.demo.samples import samples
from qc_node.domain.image import Volume
from qc_node.domain.measurable import Slices
from qc_node.domain.technique import Technique
from qc_node.measures import noise
from qc_node.measures.regions import Regions, regions_of
from qc_node.measures.volumes import measure_volume
from tests.measures.heads import planted, real, with_voxels

TIMES = (1, 2, 4, 8, 16, 30)
Plane = npt.NDArray[np.float32]
Curve = list[tuple[float, float]]


def images(data: Path) -> list[str]:
    """Every MR image beside the project that is no average and no label map."""
    folders = ("t1w", "t1w_gadolinium", "other", "stripped", "nichart", "gado_pairs")
    found = [p for f in folders for p in sorted((data / "mri" / f).glob("*.nii.gz")) if "DLMUSE" not in p.name]
    return [str(p.relative_to(data)) for p in found]


def noise_law(data: Path) -> dict[str, Curve]:
    """(planted and own noise together, measured), both in units of the own noise, of each measure and image."""
    curves: dict[str, Curve] = {"noise_air": [], "noise_object": []}
    skipped = dict.fromkeys(curves, 0)
    for name in images(data):
        slices = real(data, name)
        before = noise.of_noise(slices, regions_of(slices))
        snr = before["snr_object"]
        for measure, curve in curves.items():
            own = before[measure]
            if isinstance(own, str) or isinstance(snr, str):
                continue
            signal = snr * float(before["noise_object"])
            for n in TIMES:
                if n * own > signal:  # below an SNR of 1 no body is seen
                    skipped[measure] += 1
                    continue
                noisy = planted(slices, n * own)
                got = noise.of_noise(noisy, regions_of(noisy))[measure]
                if isinstance(got, str):
                    print(f"  {name}: {n} times: {got}")
                    continue
                curve.append((float(np.hypot(1, n)), got / own))
    for measure, curve in curves.items():
        off = np.array([got / asked - 1 for asked, got in curve])
        print(
            f"{measure}: {len(off)} plantings, off by {100 * np.median(np.abs(off)):.1f} % (median), "
            f"{100 * np.quantile(np.abs(off), 0.95):.1f} % (95 of 100), {100 * np.abs(off).max():.1f} % (most), "
            f"within 10 %: {100 * (np.abs(off) <= 0.1).mean():.1f} %; below an SNR of 1: {skipped[measure]}"
        )
    return curves


def cost() -> None:
    """Time and memory of a head of 176 x 256 x 256 voxels."""
    slices = demo_head()
    voxels = ndimage.zoom(slices.volume.voxels, np.array((176, 256, 256)) / slices.volume.shape, order=1)
    slices = replace(slices, volume=replace(slices.volume, voxels=voxels))
    times = []
    for _ in range(5):
        begun = time.thread_time()
        measured = measure_volume(slices, Technique("MR"))
        times.append(time.thread_time() - begun)
    tracemalloc.start()
    measure_volume(slices, Technique("MR"))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(
        f"{len(measured.values)} measures of {voxels.shape}: {min(times):.2f} s of one core, {peak:.0f} MB beside "
        f"the {voxels.nbytes / 1e6:.0f} MB of the volume"
    )


# -- pictures --------------------------------------------------------------------------------------------
SIDE = 230


def demo_head() -> Slices:
    """The good head of the demonstration."""
    sample = next(iter(samples(default_models_dir())))
    return Slices(Volume(sample.voxels, sample.affine, modality="MR"), is_3d=True)


def grey(plane: Plane, top: float) -> npt.NDArray[np.uint8]:
    """A plane as an RGB picture of :data:`SIDE` pixels."""
    shown = np.clip(plane / top * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(shown).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(picture.convert("RGB"))


def captioned(panels: list[tuple[npt.NDArray[np.uint8], str]], columns: int) -> Image.Image:
    """Panels with a line or two under each."""
    rows = -(-len(panels) // columns)
    out = Image.new("RGB", (columns * (SIDE + 8) - 8, rows * (SIDE + 44)), "white")
    draw = ImageDraw.Draw(out)
    for n, (panel, text) in enumerate(panels):
        x, y = n % columns * (SIDE + 8), n // columns * (SIDE + 44)
        out.paste(Image.fromarray(panel), (x, y))
        draw.multiline_text((x + 4, y + SIDE + 4), text, "black", font_size=13)
    return out


def faults(head: Slices) -> list[tuple[str, Slices]]:
    """The head with one fault at a time."""
    x = head.volume.voxels.astype(np.float32)
    down = np.linspace(-1, 1, x.shape[1], dtype=np.float32)[None, :, None]
    blanked = np.where(np.kron(_regions(head).body, np.ones(_regions(head).factors)) > 0, _cut(head, x), 0)
    return [
        ("as it is", head),
        ("more noise", planted(head, 60.0)),
        ("coil on one side", with_voxels(head, x * np.exp(0.9 * down))),
        ("values cut off", with_voxels(head, np.minimum(x, np.quantile(x[x > 200], 0.8)))),
        ("air blanked", with_voxels(head, blanked.astype(np.float32))),
        ("blurred", with_voxels(head, ndimage.gaussian_filter(x, (0, 1.5, 1.5)))),
    ]


def _cut(head: Slices, x: Plane) -> Plane:
    """The voxels that lie in whole blocks, first ones aside."""
    found = _regions(head)
    span = zip(found.starts, found.body.shape, found.factors, strict=True)
    return x[tuple(slice(s, s + n * f) for s, n, f in span)]


def _regions(slices: Slices) -> Regions:
    found = regions_of(slices)
    assert isinstance(found, Regions)
    return found


def picture_of_regions(folder: Path) -> None:
    """Body, air, and what was blanked, in little and in much noise."""
    head = demo_head()
    voxels = head.volume.voxels.copy()
    voxels[:, :45, :45] = 0
    panels = []
    for sigma in (0.0, 150.0):
        slices = planted(with_voxels(head, voxels), sigma) if sigma else with_voxels(head, voxels)
        if sigma:
            slices.volume.voxels[:, :45, :45] = 0
        found = _regions(slices)
        k = found.body.shape[0] // 2
        plane = slices.values(found.starts[0] + k * found.factors[0])
        picture = grey(plane, 700.0).astype(np.float32)
        colours = (
            (found.body[k], (60, 180, 75)),
            (found.air[k], (70, 120, 255)),
            (found.blanked[k], (230, 60, 60)),
        )
        for mask, colour in colours:
            shown = Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            picture[np.asarray(shown)] = 0.65 * picture[np.asarray(shown)] + 0.35 * np.array(colour)
        text = "in noise of half the signal" if sigma else "body green, air blue, blanked red"
        panels.append((picture.astype(np.uint8), text))
    whole = captioned(panels, 2).quantize(96, dither=Image.Dither.NONE)
    whole.save(folder / "measures-regions.png", optimize=True)


def picture_of_faults(folder: Path) -> None:
    """One head, one fault at a time, and what is measured."""
    head = demo_head()
    panels = []
    for title, slices in faults(head):
        v = measure_volume(slices, Technique("MR")).values
        plane = slices.values(slices.volume.shape[0] // 2)
        air = f"{v['noise_air_percent']:.1f} %" if "noise_air_percent" in v else "none"
        text = (
            f"{title}: noise {v['noise_percent']:.1f} %, air {air}\n"
            f"field {v['nonuniformity']:.0f} %, clipped {v['clipped_share']:.1f} %, "
            f"edge {v['edge_width_mm']:.1f} mm"
        )
        panels.append((grey(plane, 700.0), text))
    captioned(panels, 3).quantize(32, dither=Image.Dither.NONE).save(folder / "measures-faults.png", optimize=True)


def picture_of_the_law(curves: dict[str, Curve], folder: Path) -> None:
    """Planted against measured noise of all real images, both axes logarithmic."""
    size, pad = 380, 44
    out = Image.new("RGB", (2 * size + pad, size + pad), "white")
    draw = ImageDraw.Draw(out)
    top = np.log(40.0)
    for n, (name, curve) in enumerate(curves.items()):
        x0 = pad + n * size
        draw.rectangle((x0, 8, x0 + size - 30, size - 22), outline="grey")
        span = size - 30

        def at(x: float, y: float, x0: int = x0, span: int = span) -> tuple[float, float]:
            return x0 + np.log(x) / top * span, 8 + span - np.log(y) / top * span

        draw.line((at(1, 1), at(40, 40)), fill="grey")
        for share in (0.9, 1.1):
            draw.line((at(1.2, 1.2 * share), at(36, 36 * share)), fill="lightgrey")
        for asked, got in curve:
            x, y = at(asked, max(got, 1.0))
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(40, 90, 200))
        for tick in (1, 3, 10, 30):
            draw.text((at(tick, 1)[0] - 5, size - 18), str(tick), "black", font_size=12)
            if not n:
                draw.text((pad - 22, at(1, tick)[1] - 7), str(tick), "black", font_size=12)
        draw.text((x0 + 10, 14), f"{name}: measured / own", "black", font_size=13)
        draw.text((x0 + 60, size), "planted and own together / own", "black", font_size=13)
    out.quantize(32).save(folder / "measures-noise-law.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    cost()
    curves = noise_law(arguments.data)
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        picture_of_the_law(curves, arguments.pictures)
        picture_of_regions(arguments.pictures)
        picture_of_faults(arguments.pictures)


if __name__ == "__main__":
    main()
