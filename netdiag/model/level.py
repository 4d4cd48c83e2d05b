"""How much netdiag can prove on a host, and what each step down costs: the ladder."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Level(enum.Enum):
    """A step of the ladder, best first."""

    OWNED_TRACE = "owned-trace"
    """An nft table that our socket owns: the kernel removes it with the socket."""
    SWEPT_TRACE = "swept-trace"
    """Kernel before 5.12: a table without an owner; a guard process and the next start remove what a killed one left."""
    COUNTERS = "counters"
    """No nf_tables: the rules whose counters move with a counted burst of packets, and only with it."""
    FACTS = "facts"
    """Not root, or nothing may be sent: rules are only read, if they can be."""

    @property
    def traces(self) -> bool:
        """Whether the kernel tells a packet's way, by an nft table of ours."""
        return STEPS[self].traces

    @property
    def sends(self) -> bool:
        """Whether packets of ours are sent (a trace that waits sends none)."""
        return STEPS[self].sends

    @property
    def cost(self) -> str:
        """What this step costs, for operators."""
        return STEPS[self].cost


class Step(NamedTuple):
    """All that depends on a level: see the properties of `Level`."""

    traces: bool
    sends: bool
    cost: str


STEPS: Mapping[Level, Step] = MappingProxyType(
    {
        Level.OWNED_TRACE: Step(
            True,
            True,
            "costs nothing: the rule that drops a packet is seen by the kernel, and nothing can be left behind",
        ),
        Level.SWEPT_TRACE: Step(
            True,
            True,
            "costs no confidence; after a kill -9 a table stays until the guard or the next start removes it",
        ),
        Level.COUNTERS: Step(
            False,
            True,
            "a rule is proven only if its counter moves with the probes alone; a busy rule is likely at most",
        ),
        Level.FACTS: Step(
            False,
            False,
            "nothing is sent: what rules say is likely at most, and without root they cannot even be read",
        ),
    }
)
