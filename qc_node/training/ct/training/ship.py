"""The CT model folder: weights as float16, and a card that says where they come from and what they are worth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qc_node.classifiers.ct import anatomy, body, calibration, levels, projections
from qc_node.classifiers.ct.classifier import Rules
from qc_node.domain import QcNodeError
from qc_node.networks import weights
from qc_node.training.ct.data.pack import PackItem
from qc_node.training.loop import BEST

NETWORKS = ("position", "contrast")


def preprocessing_hash() -> str:
    """SHA-256 over the sources that turn a volume into the networks' input."""
    digest = hashlib.sha256()
    for module in (calibration, body, projections, anatomy, levels):
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


def people(items: Sequence[PackItem]) -> dict[str, Any]:
    """Who taught the networks, by kind; made persons are counted, real ones named."""
    real = sorted({i.person for i in items if i.kind == "real"})
    return {
        "real people": real,
        "real series": len([i for i in items if i.kind == "real"]),
        "virtual plain series of the same people": len([i for i in items if i.kind == "virtual"]),
        "heads made from label maps (SynthSeg, Apache-2.0)": sorted({i.person for i in items if i.kind == "head"}),
        "made heads": len([i for i in items if i.kind == "head"]),
        "procedural trunks": len([i for i in items if i.kind == "body"]),
    }


def ship(
    run: Path,
    folder: Path,
    items: Sequence[PackItem],
    rules: Rules,
    figures: Mapping[str, Any],
    version: str,
    width: int,
) -> weights.ModelCard:
    """Write weights and card of the networks that were trained on everybody.

    Raises
    ------
    QcNodeError
        If a network is missing or a file would exceed 40 MB.
    """
    from safetensors.torch import load_file

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for network in NETWORKS:
        source = run / network / BEST
        if not source.is_file():
            raise QcNodeError(f"{source}: this network has not been trained yet.")
        name = f"{network}.safetensors"
        weights.save_tensors(folder / name, load_file(source))
        (folder / name).chmod(0o644)
        if (folder / name).stat().st_size > weights.MAX_FILE_BYTES:
            raise QcNodeError(f"{folder / name}: larger than 40 MB; ship it as a recipe.")
        names.append(name)
    content = {
        "networks": {
            "kind": "SliceNet",
            "width": width,
            "position_outputs": anatomy.CLASSES,
            "contrast_outputs": 1,
        },
        "rules": asdict(rules),
        "preprocessing": {
            "description": "4 mm copy of the body in HU (qc_node.classifiers.ct.projections), clipped to [-1024, "
            "3071], couch removed, lung cut by the field of view kept, 96x96 in plane; slices with their "
            "neighbours 8 mm above and below. For the contrast network a scale that fat of the trunk shows to be "
            "15 HU off is mended.",
            "sha256_of_sources": preprocessing_hash(),
        },
        "data": people(items),
        "simulated": "Heads in HU from label maps (plain and enhanced), procedural trunks (lung base to thigh), "
        "virtual plain versions of enhanced abdomens, test objects; dose, kernel, phase, bone density, fat, arms, "
        "couch and swallowed contrast are varied on real slices. Real enhanced heads, real pelves of more than "
        "one person and real plain abdomens of more than one person were not at hand.",
        "figures": figures,
        "intended_use": "Tells an image analyst which body part a CT series shows, whether it is "
        "contrast-enhanced and what it covers, to be compared with order and header. "
        "Automated, unverified; not for diagnosis.",
        "limits": [
            "Trained on 57 people, 29 of them head-and-neck radiotherapy scans with masked background. Without "
            "these the networks do not know a neck, and without the 16 sarcomas no limb (figures, collections).",
            "Pelvis: one real person and procedural trunks. Enhanced heads: simulated only.",
            "Chest with abdomen, pelvis alone, spine and limbs are 'other'; see coverage for the regions.",
            "The measure of neck vessels was designed on the 28 necks that it is judged on; its weights were not.",
            "The measure of blood in the chest parts all chests at hand, but was designed on them; real enhanced "
            "chests were few. It is silent where there is no lung on both sides.",
            "Vessels and organs of head, abdomen and pelvis are measured too; where none can be (half a chest, "
            "shoulders, part of a pelvis) enhancement is not told: the network does not decide alone.",
            "A phase of enhancement is not told; very late or very weak enhancement may be missed or withheld.",
            "A body part cut out of a field of view of 8 cm may be called other.",
            "Children, prone position and large masses were hardly seen.",
        ],
        "sources": ["Yoo et al. 2022, ImageQC-net", "Yan et al. 2018, body part regression"],
    }
    return weights.write_card(folder, "ct-slices", version, "ct", names, content)
