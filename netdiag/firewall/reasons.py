"""What is attached to a rule that decided: that nobody saved it, and the rule that was meant to accept the packet."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.firewall.flow import flow_of_trace
from netdiag.firewall.near_miss import near_misses
from netdiag.firewall.saved_state import saved_state
from netdiag.model.facts import HOST, Backend, FirewallSaved, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Evidence
from netdiag.model.trace import Endpoints, Trace


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """The codes of attached reasons with what shows them.

    ``split`` names the two backends, where another one accepts at the same hook what this one drops.
    """

    because: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    split: tuple[Backend, ...] = ()


def unless_saved(rule: FirewallRule, saved: FirewallSaved | None) -> Reasons:
    """That the rule is gone after the next boot, where a service loads others and not this one."""
    if saved is None or rule.namespace != HOST or not any(boot.enabled for boot in saved.boot):
        return Reasons()
    state = saved_state(rule, saved)
    if state.saved is not False:
        return Reasons()
    data = {"file": state.file} if state.file else {}
    return Reasons(
        because=("firewall.not-persistent",), evidence=(Evidence("file", f"{rule.place()}: {state.why}", data),)
    )


def reasons_of(
    trace: Trace,
    rule_sets: Sequence[RuleSet],
    saved: FirewallSaved | None,
    *,
    answers_to: Endpoints | None = None,
) -> Reasons:
    """All reasons that are attached to the rule or policy that stopped a packet."""
    decided = trace.rule or trace.policy
    if decided is None:
        return Reasons()
    kept = unless_saved(decided, saved)
    # An answer is let in by its connection: a rule for its port was not meant for it.
    flow = flow_of_trace(trace, answers_to)
    missed = near_misses(trace, flow, rule_sets) if answers_to is None else ()
    accepted = _accepted_elsewhere(trace, decided)
    other = next((each.elsewhere for each in missed if each.elsewhere is not None), accepted)
    return Reasons(
        because=(*kept.because, *(("firewall.near-miss",) if missed else ())),
        evidence=(
            *kept.evidence,
            *(Evidence("rule", f'{each.place}, "{each.text}": {each.why}', {"near_miss": True}) for each in missed),
        ),
        split=(decided.backend, other) if other is not None else (),
    )


def _accepted_elsewhere(trace: Trace, decided: FirewallRule) -> Backend | None:
    """Another backend whose rule accepted the packet at the hook where this one's drops it."""
    hook = next((step.hook for step in reversed(trace.path) if step.rule.place() == decided.place()), "")
    for step in trace.path:
        other = step.rule.backend is not decided.backend and step.rule.policy is None
        if other and hook and step.hook == hook and step.verdict == "accept":
            return step.rule.backend
    return None
