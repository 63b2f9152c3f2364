"""Faults of a hospital as tests of five lines: start node and PACS, do something terrible, ask the invariants.

    def test_a_pacs_that_aborts_on_one_object_gets_the_others(hospital: Hospital) -> None:
        hospital.pacs.behave(Script(objects={0: ABORTS}))
        hospital.sends(ct(seed=1), ct(seed=2))
        hospital.comes_to_rest(explained=1)

What the PACS does is data (:class:`Script`); what can be done to node, machine and network are the verbs of
:class:`Hospital`; what must hold whatever happened is in :mod:`tests.end_to_end.faults.invariants`, and
:meth:`Hospital.comes_to_rest` looks at all of it.
"""

from tests.end_to_end.faults import invariants
from tests.end_to_end.faults.hospital import Hospital, node_and_pacs
from tests.end_to_end.faults.modality import Modality, ct, dx, mr, report_of_another
from tests.end_to_end.faults.scripted_pacs import (
    ABORTS,
    ANSWER_LOST,
    SILENT,
    STORED,
    Answer,
    Commit,
    Count,
    Script,
    ScriptedPacs,
    answers,
)

__all__ = [
    "ABORTS",
    "ANSWER_LOST",
    "SILENT",
    "STORED",
    "Answer",
    "Commit",
    "Count",
    "Hospital",
    "Modality",
    "Script",
    "ScriptedPacs",
    "answers",
    "ct",
    "dx",
    "invariants",
    "mr",
    "node_and_pacs",
    "report_of_another",
]
