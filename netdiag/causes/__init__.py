"""The catalogue of causes: code, meaning, the evidence that proves it, the remedy.

`CATALOGUE` holds every code that a report may name. Checks make their causes with `cause`, which fills in what the
catalogue knows and refuses what it does not; what is only told (``info``) they attach as evidence, with `note`.
"""

from __future__ import annotations

from netdiag.causes.catalogue import CATALOGUE, GROUPS, cause, note
from netdiag.causes.kinds import AFFECTS, OBJECT_KINDS, CauseKind

__all__ = ["AFFECTS", "CATALOGUE", "GROUPS", "OBJECT_KINDS", "CauseKind", "cause", "note"]
