"""How much netdiag can prove on a host, and what each step down costs."""

from __future__ import annotations

import enum
import re

import msgspec

from netdiag.model.facts import Facts, FeatureState


class Level(enum.Enum):
    """What a host allows, best first."""

    OWNED_TRACE = "owned-trace"
    """An nft table that our socket owns: the kernel removes it with the socket."""
    SWEPT_TRACE = "swept-trace"
    """Kernel before 5.12: a table without an owner; a guard process and the next start remove what a killed one left."""
    COUNTERS = "counters"
    """No nf_tables: the rules whose counters move with a counted burst of packets, and only with it."""
    FACTS = "facts"
    """Not root, or nothing may be sent: rules are only read, if they can be."""


COSTS: dict[Level, str] = {
    Level.OWNED_TRACE: "costs nothing: the rule that drops a packet is seen by the kernel, and nothing can be left behind",
    Level.SWEPT_TRACE: "costs no confidence; after a kill -9 a table stays until the guard or the next start removes it",
    Level.COUNTERS: "a rule is proven only if its counter moves with the probes alone; a busy rule is likely at most",
    Level.FACTS: "nothing is sent: what rules say is likely at most, and without root they cannot even be read",
}
OWNER_FLAG_SINCE = (5, 12)
TCX_SINCE = (6, 6)
"""Before, a packet that must arrive needs clsact and cls_bpf."""


class LevelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The level of a host, why it is no better, and the whole ladder with what each step costs."""

    level: Level
    why: str
    cost: str
    ladder: dict[str, str]


def judge(facts: Facts, forced: Level | None = None) -> LevelReport:
    """The level that a host's facts allow; ``forced`` can only lower it."""
    level, why = _possible(facts)
    order = list(Level)
    if forced is not None and order.index(forced) > order.index(level):
        level, why = forced, f"forced down from {level.value}"
    return LevelReport(level=level, why=why, cost=COSTS[level], ladder={step.value: COSTS[step] for step in Level})


def features_needed(facts: Facts, level: Level, *, arrives: bool) -> tuple[str, ...]:
    """The kernel features that a trace at a level uses, each of which it would load where it is a module.

    Args:
        facts: Of the host, identity included.
        level: How the trace is made.
        arrives: The packet arrives on a device, and is not sent by the host itself.
    """
    needed = () if level in (Level.COUNTERS, Level.FACTS) else ("nf_tables",)
    if not arrives or level is Level.FACTS:
        return needed
    release = facts.identity.value.kernel_release if facts.identity.value is not None else ""
    return (*needed, "tun") if kernel_version(release) >= TCX_SINCE else (*needed, "tun", "clsact")


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release; (0, 0) for text that has none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _possible(facts: Facts) -> tuple[Level, str]:
    identity, kernel = facts.identity.value, facts.kernel.value
    if identity is None or not identity.is_root:
        return Level.FACTS, "not root"
    feature = kernel.features.get("nf_tables") if kernel is not None else None
    if feature is None or feature.state in (FeatureState.MISSING, FeatureState.UNKNOWN):
        return Level.COUNTERS, f"nf_tables: {feature.evidence if feature is not None else 'not known'}"
    if kernel_version(identity.kernel_release) < OWNER_FLAG_SINCE:
        return Level.SWEPT_TRACE, f"kernel {identity.kernel_release} is older than 5.12: no table can have an owner"
    return Level.OWNED_TRACE, f"root, kernel {identity.kernel_release}, nf_tables: {feature.evidence}"
