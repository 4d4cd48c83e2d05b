"""The least rule for a packet from saved rules alone, and what it does: in a copy where root makes one, else computed."""

from __future__ import annotations

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.allow_computed import computed, explainer_for, invented, packet_of, sysctl_paths
from netdiag.facts.context import Options
from netdiag.facts.trace_here import Here, bare
from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.allow import plan
from netdiag.firewall.around import Around
from netdiag.firewall.changed_rules import change
from netdiag.firewall.flow_sample import sample
from netdiag.firewall.proof import line_of, of_explanation, prove
from netdiag.host.allow import plain_variant, trial_of
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier
from netdiag.host.prove import Trial, tried
from netdiag.model.facts import HOST, Backend, Facts, Namespace, RuleSet
from netdiag.model.fix import Allow
from netdiag.model.proof import Fate, Proof, ProofLevel
from netdiag.model.trace import TracePath, TraceVerdict


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that do not run here.

    Attributes:
        rule_sets: Of one namespace.
        facts: Of the host that has them; None where nothing is known of it.
        plain: Which variant the name ``iptables`` is there; None where that is not known.
    """

    rule_sets: tuple[RuleSet, ...]
    facts: Facts | None = None
    plain: Backend | None = None


def propose_saved(
    carrier: Carrier, saved: Saved, wanted: Wanted, *, now_s: float, options: Options, rule_id: str, prove: bool
) -> Allow:
    """The least rule that lets a packet through, as far as the rules tell. Nothing is proposed where they do not.

    Args:
        carrier: This machine, which makes the copies.
        saved: The rules.
        wanted: The packet.
        now_s: Unix time.
        options: What the operator chose.
        rule_id: Letters and digits that no other rule's comment has.
        prove: Say what the rule does.

    Raises UsageError for a packet that says too little, or does not go together.
    """
    if wanted.path is not TracePath.OUT and not wanted.source:
        raise UsageError("--src says from whom the packet comes: a rule is made for one peer")
    packet = packet_of(wanted, saved.facts)
    before = computed(saved.facts, saved.rule_sets, packet)
    decided = before.rule or before.policy
    if before.verdict not in (TraceVerdict.DROP, TraceVerdict.REJECT) or decided is None:
        reason = before.reason if before.verdict is TraceVerdict.UNKNOWN else ""
        return Allow(packet=packet, before=before, fix=None, reason=reason)
    around = _around(saved, packet.namespace, rule_id)
    found = plan(before, around)
    proof = None
    if prove and found.fix is not None:
        proof = _proven(carrier, saved, trial_of(before, decided, found.fix, around), now_s=now_s, options=options)
    return Allow(packet=packet, before=before, fix=found.fix, reason=found.reason, proof=proof)


def _around(saved: Saved, namespace: str, rule_id: str) -> Around:
    facts = saved.facts
    identity = facts.identity.value if facts is not None else None
    there: Namespace | None = None
    if facts is not None and namespace != HOST:
        there = (facts.namespaces.value or {}).get(namespace)
    return Around(
        host=identity.hostname if identity is not None else "",
        rule_sets=saved.rule_sets,
        identity=identity,
        saved=facts.firewall_saved.value if facts is not None else None,
        plain=saved.plain,
        namespace=namespace,
        netns=there.path if there is not None else "",
        rule_id=rule_id,
        mark=f"netdiag-{rule_id}",
    )


def _proven(carrier: Carrier, saved: Saved, trial: Trial, *, now_s: float, options: Options) -> Proof:
    here = collect(carrier, ("identity", "kernel"), now_s=now_s, options=options)
    identity = here.identity.value
    if identity is None or not identity.is_root:
        return _computed(saved, trial)
    # What a tool of this machine is called is a matter of this machine.
    trial = msgspec.structs.replace(trial, plain=plain_variant(carrier))
    if saved.facts is None:
        made = invented(trial.packet, here)
        found = tried(
            carrier, msgspec.structs.replace(trial, packet=made.packet), here, made.facts, made.sysctls, options
        )
    else:
        settings = (saved.facts.sysctls.value or {}).get(trial.packet.namespace, {})
        found = tried(carrier, trial, here, saved.facts, sysctl_paths(settings), options)
    if not found.reason:
        return found
    said = _computed(saved, trial)
    return msgspec.structs.replace(said, not_copied=(found.reason,))


def _computed(saved: Saved, trial: Trial) -> Proof:
    packet, facts = trial.packet, saved.facts
    changed = change(saved.rule_sets, trial.fix, trial.flow, trial.decided)
    if changed.reason:
        nothing = Fate(verdict=TraceVerdict.UNKNOWN, reason=changed.reason)
        return Proof(level=ProofLevel.COMPUTED, before=nothing, after=nothing, reason=changed.reason)
    own, devices = list[str](), list[str]()
    if facts is not None:
        here = Here(facts, packet.namespace)
        own = [bare(row) for row in here.addresses if row.device != "lo"]
        devices = [link.name for link in here.links if link.up and not link.loopback]
    flows = sample(packet, saved.rule_sets, own=own, devices=devices)
    without, with_it = (
        explainer_for(facts, packet.namespace, rule_sets) for rule_sets in (saved.rule_sets, changed.rule_sets)
    )
    asked = [
        (
            flow,
            of_explanation(without.explain(line_of(flow)), trial.sign),
            of_explanation(with_it.explain(line_of(flow)), trial.sign),
        )
        for flow in (packet, *flows)
    ]
    return prove(ProofLevel.COMPUTED, asked[0][1:], asked[1:], changed.meant)
