"""Is this like anything that the networks know?  Where it is not, nothing is told.

A network answers whatever it is shown.  What it cannot fake is the order of a body: slices of a scan lie along
one line at a known distance from each other.  So the measure is the fit of that line, the mean log-likelihood per
slice above a uniform guess (:attr:`~qc_node.classifiers.ct.anatomy.BodyAlignment.fit`, in nats).  Head and trunk
reach 1.7 to 2.5, also those of two people whom no network has seen, varied in dose, kernel, phase, coverage and
field of view.  Shuffled slices, coronal and sagittal stacks under an axial header, twice the slice distance,
inverted grey values and MR images on a CT scale stay below 1.1, with few exceptions (a brain MRI that a sender has
scaled like CT reads as a brain; half the slice distance reaches 1.3).  The entropy of the slices was tried beside
it and adds nothing: where a network is wrong it is often sure.

Limbs and test objects are no bodies and have their own classes; they are not judged here.
"""

from __future__ import annotations

from qc_node.classifiers.ct.anatomy import BodyAlignment

HALF_DOUBTED = 2.0
"""At so many times the least fit the body part is half doubted (:data:`qc_node.classifiers.ct.part.SURE_FIT`)."""
SENTENCE = "The slices do not follow each other like those of a body that is known here."


def unlike(alignment: BodyAlignment, least_fit: float) -> str | None:
    """One sentence where the slices look like a body but do not follow each other like one; else None.

    Parameters
    ----------
    least_fit
        Mean log-likelihood per slice above a uniform guess that a body must reach, in nats.
    """
    return SENTENCE if alignment.anatomy >= 0.5 and alignment.fit < least_fit else None
