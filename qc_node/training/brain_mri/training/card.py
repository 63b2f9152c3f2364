"""The model card of the brain MRI classifier: what it is, what it was made of, what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qc_node.classifiers.brain_mri import classifier, novelty, preprocess
from qc_node.domain import Stage
from qc_node.networks import weights
from qc_node.training.brain_mri import people

NAME = "qc-node-brain-mri"

INTENDED_USE = (
    "Automatic quality control of 3D T1-weighted MRI of the adult head in a hospital's archive or data "
    "warehouse: is it a whole-head T1w, was gadolinium given, how bad are motion, contrast and noise.  "
    "Automated and unverified; not a medical device, not for diagnosis."
)

LIMITS = [
    "Every artefact and nearly all gadolinium in training and evaluation is simulated; scores on simulated "
    "artefacts exaggerate what real ones will give.",
    "Trained on eighteen real heads of four protocols (seven and nine people of two of them), three real brains "
    "of a fifth scanner in painted heads, and sixteen label maps.  What it does on a scanner that nothing was "
    "trained or set on is in the figures under 'protocols left out': a few protocols, one of them with one "
    "person each, are no guarantee for another.",
    "Left out of those figures are networks, temperatures, priors and limits; the average head (nine training "
    "heads are in it) and the rules before and after the networks have seen the images.",
    "An image unlike the training images is undetermined; that catches other kinds of images better than faults "
    "that look like a head.",
    "No real motion, no children, no metal implants but painted voids, no MP2RAGE uniform images, no ultra-high "
    "field.",
    "Motion damage is measured against the tissue contrast of a good image since 0.3, against the image's own "
    "before; its figures before and after are not comparable.",
    "Figures of the held-out people were looked at four times before 0.6.  After 0.1 the network's own "
    "idea of thick slices was taken out (it had rejected the one real head with gadolinium) and the "
    "simulation of contrast and motion was balanced; after 0.3 more people and looks were simulated and a"
    " prior on the grades was fitted out of fold; after 0.4 coarse scans were simulated, because the only"
    " 2 mm protocol among the training people passed for moving out of fold; after 0.5 gadolinium was "
    "learnt on stripped twins too, because the stripped pairs (test only) had come out without it.  "
    "Folding of signed values, evening of steep fields and the check for stripes came from pictures of "
    "training people.  Figures are optimistic to that extent.",
    "Stripes of a k-space spike leave the grades untold; ghosts of vessels, metal and wrap are not looked for.",
    "Left-right flips cannot be seen; heads nodded beyond -45 or +13 degrees against MNI space are rejected "
    "as wrongly oriented.",
]


def preprocessing() -> dict[str, Any]:
    """The recipe and its hash, as :func:`qc_node.classifiers.brain_mri.classifier.load` checks it."""
    return {"recipe": preprocess.RECIPE, "sha256": preprocess.recipe_hash()}


def write(
    model_dir: Path,
    version: str,
    decision: Mapping[str, Any],
    figures: Mapping[str, Any],
    training: Mapping[str, Any],
) -> weights.ModelCard:
    """Write ``card.json`` for the files that are in `model_dir`."""
    files = [
        preprocess.AVERAGE_HEAD,
        *sorted(p.name for p in model_dir.glob("brain_mask.*")),
        *(name for name in (novelty.FILE,) if (model_dir / name).exists()),
        *sorted(p.name for w in (classifier.MEASURED, classifier.PIXELS) for p in model_dir.glob(w.format("*"))),
    ]
    content = {
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
        "preprocessing": preprocessing(),
        "decision": dict(decision),
        "data": {
            "training_heads": "ds000011-sub-01 to -07, T1_head-A, seg3D-epilepsy-1, nichart (nine people)",
            "training_flairs": "nichart (the same nine people), as straight rejects",
            "training_brains_in_painted_heads": list(people.HYBRID_BRAINS),
            "training_label_maps": "synthseg-01 to -16",
            "held_out_heads": [*people.HELD_OUT_HEADS, "siemens_trio_adi (DICOM)"],
            "held_out_label_maps": list(people.HELD_OUT_MAPS),
            "test_only": "VS-SEG-001 (real gadolinium), openms gado_pairs, all other sequences",
            "licences": "per image in the index of the data; label maps Apache-2.0; no image is part of the model",
        },
        "simulated": (
            "rigid motion in k-space, Rician and spatially varying noise, loss of grey-white contrast, gadolinium "
            "enhancement, receive coils, fat, age, implants as voids, bias field, ghosts, spikes, Gibbs ringing, "
            "masked air, cropping and interpolation by the sender, sequences by their signal equations, and every "
            "straight reject but nine real FLAIRs"
        ),
        "training": dict(training),
        "figures": dict(figures),
    }
    return weights.write_card(model_dir, NAME, version, Stage.BRAIN_MRI.value, files, content)
