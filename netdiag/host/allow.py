"""From a traced packet on this machine to the rule that lets it through, and the packet traced again."""

from __future__ import annotations

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.allow import plan
from netdiag.firewall.around import Around
from netdiag.firewall.flow import flow_of_trace
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.host.prove import Trial, prove_here
from netdiag.host.trace import trace
from netdiag.model.facts import HOST, Backend, Namespace
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Allow, Fix
from netdiag.model.trace import Trace, TracePath, TraceVerdict
from netdiag.model.wire import Request


def propose(
    carrier: Carrier, wanted: Wanted, *, now_s: float, options: Options, rule_id: str, prove: bool = False
) -> Allow:
    """Trace a packet and plan the least rule that lets it through; nothing is changed.

    Args:
        carrier: Whom to ask.
        wanted: The packet.
        now_s: Unix time.
        options: What the operator chose.
        rule_id: Letters and digits that no other rule's comment has.
        prove: Try the rule out in a copy of the host's rules (`netdiag.host.prove`).

    Raises UsageError when this host cannot trace, or the packet says too little to make a rule of.
    """
    if wanted.path is not TracePath.OUT and not wanted.source:
        raise UsageError("--src says from whom the packet comes: a rule is made for one peer")
    before = trace(carrier, wanted, now_s=now_s, options=options)
    if before.verdict not in (TraceVerdict.DROP, TraceVerdict.REJECT):
        reason = before.reason if before.verdict is TraceVerdict.UNKNOWN else ""
        return Allow(packet=before.packet, before=before, fix=None, reason=reason)
    decided = before.rule or before.policy
    if decided is not None and decided.namespace != before.packet.namespace:
        reason = (
            f"the rule stands in {decided.namespace}, behind this host's own: ask there (--netns {decided.namespace})"
        )
        return Allow(packet=before.packet, before=before, fix=None, reason=reason)
    around = surroundings(carrier, before, now_s=now_s, options=options, rule_id=rule_id)
    found = plan(before, around)
    proof = None
    if prove and found.fix is not None and decided is not None:
        trial = trial_of(before, decided, found.fix, around)
        proof = prove_here(carrier, trial, now_s=now_s, options=options)
    return Allow(packet=before.packet, before=before, fix=found.fix, reason=found.reason, proof=proof)


def trial_of(before: Trace, decided: FirewallRule, fix: Fix, around: Around) -> Trial:
    """What is to be tried out. A rule without the change's sign (firewalld's, ufw's) is known by what it does only."""
    signed = any(around.mark in command.text and command.argv[0] != "ufw" for command in fix.commands)
    return Trial(
        packet=before.packet,
        fix=fix,
        rule_sets=around.rule_sets,
        decided=decided,
        flow=flow_of_trace(before),
        sign=around.mark if signed else "",
        plain=around.plain,
    )


def again(carrier: Carrier, wanted: Wanted, before: Trace, *, now_s: float, options: Options) -> Trace:
    """Trace the same packet once more; its source port is another one unless the operator gave it."""
    packet = before.packet
    same = msgspec.structs.replace(
        wanted,
        source=packet.source,
        destination=packet.destination,
        in_device=packet.in_device if wanted.path is not TracePath.OUT else "",
        out_device=packet.out_device if wanted.path is TracePath.OUT else wanted.out_device,
    )
    return trace(carrier, same, now_s=now_s, options=options)


def surroundings(carrier: Carrier, before: Trace, *, now_s: float, options: Options, rule_id: str) -> Around:
    """What the planner is told beside a trace: the rules of its namespace, and whose they are."""
    names = ["identity", "kernel", "firewall_saved"]
    place = before.packet.namespace
    if place != HOST:
        names.append("namespaces")
    facts = collect(carrier, names, now_s=now_s, options=options)
    here = Namespace(id=HOST, path="", inode=0)
    if place != HOST:
        found = (facts.namespaces.value or {}).get(place)
        if found is None:
            raise UsageError(f"the namespace {place} is not there any more")
        here = found
    context = Context(options=options, namespaces={place: here}, kernel=facts.kernel.value)
    rules = drive(gather_firewall(context), carrier)
    identity = facts.identity.value
    return Around(
        host=identity.hostname if identity is not None else "",
        rule_sets=(rules.value or {}).get(place, ()),
        identity=identity,
        saved=facts.firewall_saved.value,
        plain=plain_variant(carrier),
        namespace=place,
        netns=here.path,
        rule_id=rule_id,
        mark=f"netdiag-{rule_id}",
    )


def plain_variant(carrier: Carrier) -> Backend | None:
    """Which variant ``iptables`` is, as it says itself since 1.8.0; None where it does not."""
    (answer,) = carrier.ask([Request("command", {"argv": ["iptables", "--version"]}, 2.0)])
    version = answer.data["stdout"] if answer.data is not None else ""
    if "nf_tables" in version:
        return Backend.IPTABLES_NFT
    return Backend.IPTABLES_LEGACY if version.startswith("iptables v") else None
