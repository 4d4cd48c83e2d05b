"""Which step of the ladder a host's facts allow."""

from __future__ import annotations

import re

import msgspec

from netdiag.model.facts import Facts, FeatureState
from netdiag.model.level import Level

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
    return LevelReport(level=level, why=why, cost=level.cost, ladder={step.value: step.cost for step in Level})


def features_needed(facts: Facts, level: Level, *, arrives: bool) -> tuple[str, ...]:
    """The kernel features that a trace at a level uses, each of which it would load where it is a module.

    Args:
        facts: Of the host, identity included.
        level: How the trace is made.
        arrives: The packet arrives on a device, and is not sent by the host itself.
    """
    needed = ("nf_tables",) if level.traces else ()
    if not arrives or not level.sends:
        return needed
    release = facts.identity.value.kernel_release if facts.identity.value is not None else ""
    return (*needed, "tun") if kernel_version(release) >= TCX_SINCE else (*needed, "tun", "clsact")


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release; (0, 0) for text that has none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _possible(facts: Facts) -> tuple[Level, str]:
    identity, kernel = facts.identity.value, facts.kernel.value
    if identity is None:
        absent = facts.identity.absent
        return Level.FACTS, absent.text if absent is not None else "whether this is root is not known"
    if not identity.is_root:
        return Level.FACTS, "not root"
    feature = kernel.features.get("nf_tables") if kernel is not None else None
    if feature is None or feature.state in (FeatureState.MISSING, FeatureState.UNKNOWN):
        return Level.COUNTERS, f"nf_tables: {feature.evidence if feature is not None else 'not known'}"
    if kernel_version(identity.kernel_release) < OWNER_FLAG_SINCE:
        return Level.SWEPT_TRACE, f"kernel {identity.kernel_release} is older than 5.12: no table can have an owner"
    return Level.OWNED_TRACE, f"root, kernel {identity.kernel_release}, nf_tables: {feature.evidence}"
