"""What a change does to a packet and to a sample of flows, from what became of each without it and with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.firewall.around import is_block
from netdiag.firewall.flow import Flow
from netdiag.firewall.listing import BLOCK
from netdiag.model.explain import Explanation, PacketLine
from netdiag.model.firewall import FirewallRule
from netdiag.model.proof import ChangedFlow, Fate, Proof, ProofLevel
from netdiag.model.trace import Trace, TracedPacket, TraceStep, TraceVerdict

_ECHO = {"icmp": 8, "icmpv6": 128}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one flow: ``signed`` says whether it met a rule that bears the change's sign."""

    fate: Fate
    signed: bool = False


def of_trace(found: Trace, no_ops: Sequence[FirewallRule], sign: str) -> Asked:
    """What a trace in a copy says. Behind a rule that only counts there, nothing is known."""
    places = {_place(rule) for rule in no_ops}
    return _asked(found, next((step for step in found.path if _place(step.rule) in places), None), sign)


def of_explanation(found: Explanation, sign: str) -> Asked:
    """What the model says; where several rules may decide and all decide alike, the verdict is known."""
    asked = _asked(found, None, sign)
    if len(found.possible) > 1:
        return asked
    return msgspec.structs.replace(asked, fate=msgspec.structs.replace(asked.fate, verdict=found.possible[0]))


def _asked(found: Trace | Explanation, no_op: TraceStep | None, sign: str) -> Asked:
    signed = any(sign in step.rule.text for step in found.path) if sign else True
    if no_op is not None:
        reason = f"it comes to a rule that this kernel does not load, {no_op.rule.place()}"
        return Asked(fate=Fate(verdict=TraceVerdict.UNKNOWN, reason=reason), signed=signed)
    return Asked(fate=Fate(verdict=found.verdict, rule=found.rule or found.policy, reason=found.reason), signed=signed)


def prove(
    level: ProofLevel,
    packet: tuple[Asked, Asked],
    flows: Sequence[tuple[TracedPacket, Asked, Asked]],
    meant: Flow,
    *,
    no_ops: tuple[FirewallRule, ...] = (),
    not_copied: tuple[str, ...] = (),
) -> Proof:
    """The proof.

    Args:
        level: Who said it.
        packet: What becomes of the packet itself, without the change and with it.
        flows: The same of each flow of the sample.
        meant: What the change is for.
        no_ops: Rules that only count in the copy.
        not_copied: What the copy lacks.
    """
    changed: list[ChangedFlow] = []
    unknown = 0
    for flow, before, after in flows:
        verdicts = (before.fate.verdict, after.fate.verdict)
        if TraceVerdict.UNKNOWN in verdicts:
            unknown += 1
        elif verdicts[0] is not verdicts[1]:
            if not after.signed:
                # It did not come to the rule that is new: something that counts or remembers decides otherwise by itself.
                unknown += 1
                continue
            changed.append(ChangedFlow(packet=flow, before=before.fate, after=after.fate, meant=is_meant(meant, flow)))
    return Proof(
        level=level,
        before=packet[0].fate,
        after=packet[1].fate,
        asked=len(flows),
        unknown=unknown,
        changed=tuple(changed),
        no_ops=no_ops,
        not_copied=not_copied,
    )


def held_to(proof: Proof, decided: FirewallRule) -> Proof:
    """The proof, or why it is none: without the change the packet must end where it ends on the host itself.

    Args:
        proof: What was found in copies.
        decided: The rule or policy that stops the packet, as the host's own trace or the model says.
    """
    found = proof.before
    if proof.reason or found.verdict is TraceVerdict.UNKNOWN:
        return proof
    if found.rule is not None and _place(found.rule) == _place(decided):
        return proof
    where = f"{found.rule.place()} decides" if found.rule is not None else f"no rule decides ({found.verdict.value})"
    reason = f"in the copy {where}, and not {decided.place()}: it is not like the host"
    return msgspec.structs.replace(proof, reason=reason)


def is_meant(flow: Flow, packet: TracedPacket) -> bool:
    """Whether a packet is of those that a rule is made for, as it is met or as the connection was opened."""
    if flow.protocol not in ("", packet.protocol):
        return False
    if flow.icmp_type is not None and flow.icmp_type != (
        packet.icmp_type if packet.icmp_type is not None else _ECHO.get(packet.protocol)
    ):
        return False
    ways = [(flow.source, flow.destination, flow.destination_port)]
    if flow.forwarded and flow.opened_by is not None:
        opened = flow.opened_by
        ways.append((opened.source, opened.destination, opened.destination_port))
    return any(
        source in ("", packet.source)
        and destination in ("", packet.destination)
        and port in (None, packet.destination_port)
        for source, destination, port in ways
    )


def line_of(packet: TracedPacket) -> PacketLine:
    """A packet as the model is asked about it."""
    return PacketLine(
        path=packet.path,
        in_device=packet.in_device or None,
        out_device=packet.out_device or None,
        source=packet.source or None,
        destination=packet.destination or None,
        proto=packet.protocol,
        sport=packet.source_port,
        dport=packet.destination_port,
        icmp_type=packet.icmp_type,
        tcp_flags=packet.tcp_flags,
        mac=packet.mac,
        ttl=packet.ttl,
        length=packet.length,
    )


def _place(rule: FirewallRule) -> tuple[object, ...]:
    # The kernel numbers blocks anew in every copy.
    chain = (BLOCK, rule.text) if is_block(rule.chain) else rule.chain
    return rule.backend, rule.family, rule.table, chain, rule.number, rule.policy
