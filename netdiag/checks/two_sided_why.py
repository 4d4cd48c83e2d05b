"""Why a probe that one of the two hosts lost is put down to no rule, in the words of a finding."""

from __future__ import annotations

import ipaddress

from netdiag.checks.context import Context
from netdiag.checks.two_sided import Judged, Where, names_of
from netdiag.model.facts import HOST
from netdiag.model.trace import TraceVerdict

LOST_AT_HOST = (Where.SENDER, Where.RECEIVER, Where.ANSWER_SENDER)


def why_lost(ctx: Context, each: Judged) -> str:
    """Why it is not known what lost a probe, or what else than a rule did."""
    trace = each.trace
    if each.where is Where.UNKNOWN:
        return each.reason
    if each.where in LOST_AT_HOST:
        if each.probe.refused and not each.probe.sent and trace is None:
            return f"the kernel refuses to send it: {each.probe.refused}"
        if trace is None:
            facts = each.view.facts if each.at_peer else ctx.facts
            known = facts is not None and facts.firewall.value is not None
            rest = "its rules do not say which of them takes it" if known else "its rules were not read"
            return f"only a few losses of one kind are traced, and {rest}"
        if trace.trace is None:
            return f"it could not be traced there: {trace.why_not}"
        if each.stateful and each.use.port is None:
            return "it comes through only after that host has sent protocol 50 to the other one itself"
        if trace.trace.verdict is TraceVerdict.ACCEPT:
            return _why_past_the_filters(ctx, each)
        return trace.trace.reason or "the trace does not say which rule takes it"
    return ""


def _why_past_the_filters(ctx: Context, each: Judged) -> str:
    """What may have lost a packet whose like passes the filters when it is traced."""
    passes = "a packet like it passes the filters there when it is traced"
    probe = each.probe
    if probe.heard.kind != "reset":
        return f"{passes}, so it is a filter of rate or state, or not a filter: which is not known"
    facts = each.view.facts if each.at_peer else ctx.facts
    sockets = (facts.sockets.value or {}).get(HOST) if facts is not None else None
    address = probe.seen_destination or probe.destination
    if sockets is None:
        return f"{passes}, and a RST came back: whether anybody listens on {address} there could not be read"
    found = [row for row in sockets if row.protocol == probe.protocol and row.port == probe.port]
    if not probe.answers_left or any(_takes(row.address, address) for row in found):
        return f"{passes}, and a RST came back: from whom is not known"
    who = names_of(f"{row.process or 'a program'} on {row.address}" for row in found)
    return f"it is refused, because nobody listens on {address}" + (f", only {who}" if found else "")


def _takes(bound: str, address: str) -> bool:
    """Whether a socket that is bound to one address receives what comes for another."""
    try:
        one, other = ipaddress.ip_address(bound.partition("%")[0]), ipaddress.ip_address(address)
    except ValueError:
        return True
    return one.is_unspecified or other in (one, getattr(one, "ipv4_mapped", None))
