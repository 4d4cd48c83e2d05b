"""What a change of rules does, shown before it is made: one packet and a sample of flows, with it and without."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.firewall import FirewallRule
from netdiag.model.trace import TracedPacket, TraceVerdict


class ProofLevel(enum.Enum):
    """Who said what becomes of the packets."""

    KERNEL = "kernel"
    """This kernel, which traced them in a copy of the host's rules that nobody uses."""
    COMPUTED = "computed"
    """A model of netfilter."""


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one packet: ``rule`` is the rule or policy that decides, None where none does or it is not known."""

    verdict: TraceVerdict
    rule: FirewallRule | None = None
    reason: str = ""


class ChangedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow of the sample with another verdict; ``meant``: it is of those that the new rule is for."""

    packet: TracedPacket
    before: Fate
    after: Fate
    meant: bool


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One packet, and a sample of flows, without a change and with it.

    Attributes:
        asked: Flows of the sample that were asked about, the packet itself not counted.
        unknown: Those of them of which it is not known what becomes of them, with the change or without.
        changed: Those whose verdict is another one with the change.
        no_ops: Rules that this kernel does not load; in the copy they only count.
        not_copied: What else of the host the copy lacks, a line each; of a computed proof why there is no copy.
        reason: Why the proof could not be made; empty otherwise.
    """

    level: ProofLevel
    before: Fate
    after: Fate
    asked: int = 0
    unknown: int = 0
    changed: tuple[ChangedFlow, ...] = ()
    no_ops: tuple[FirewallRule, ...] = ()
    not_copied: tuple[str, ...] = ()
    reason: str = ""

    def known(self) -> bool:
        """Whether both verdicts are."""
        return not self.reason and TraceVerdict.UNKNOWN not in (self.before.verdict, self.after.verdict)

    def objection(self) -> str:
        """Why the change should not be made; empty where it does what was meant, and nothing else of the sample."""
        if self.reason:
            return self.reason
        if not self.known():
            return self.after.reason or self.before.reason or "what becomes of the packet is not known"
        if self.after.verdict is not TraceVerdict.ACCEPT:
            return "the packet is not let through with the rule"
        others = sum(not flow.meant for flow in self.changed)
        return f"flows that the rule is not for change as well: {others} of the sample" if others else ""
