"""A rich rule of firewalld's, in the zone or policy that decided: now, and permanently.

What firewalld's chains are called: src/firewall/core/nftables.py and ipXtables.py (firewalld 0.9 to 2.3). In each zone and
policy come first _pre (rich rules of negative priority), then _log, _deny, _allow and _post.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from netdiag.firewall.around import Around, called
from netdiag.firewall.flow import Flow
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Fix, Proposal
from netdiag.model.trace import Trace

_CHAIN = re.compile(
    r"^(?:(?P<table>filter|raw|mangle|nat)_)?(?P<way>IN|FWD[IO]?|OUT|PRE|POST)_(?P<policy>policy_)?(?P<name>.+?)"
    r"(?:_(?P<part>pre|log|deny|allow|post))?$"
)
_BELONGS = re.compile(r"^(zone|policy) ([^\s,]+)")
_FIRST = "-32768"
"""The lowest priority there is: before every deny."""
_LAST_WORD = re.compile(
    r"^(?:-A \S+ -j (?:REJECT|DROP)(?: --reject-with \S+)?|(?:counter )?(?:reject|drop)(?: with .*)?)$"
)
_ICMP_TYPES = {
    "icmp": {
        0: "echo-reply",
        3: "destination-unreachable",
        5: "redirect",
        8: "echo-request",
        9: "router-advertisement",
        10: "router-solicitation",
        11: "time-exceeded",
        12: "parameter-problem",
        13: "timestamp-request",
        14: "timestamp-reply",
    },
    "icmpv6": {
        1: "destination-unreachable",
        2: "packet-too-big",
        3: "time-exceeded",
        4: "parameter-problem",
        128: "echo-request",
        129: "echo-reply",
        133: "router-solicitation",
        134: "router-advertisement",
        135: "neighbour-solicitation",
        136: "neighbour-advertisement",
        137: "redirect",
    },
}


class Place(msgspec.Struct, frozen=True):
    """A zone or a policy, and the part of it that decided ("" for the end of it)."""

    kind: str
    name: str
    part: str


def rich_rule(flow: Flow, *, priority: str = "") -> str:
    """The rule in firewalld's rich language; empty where that has no words for the flow."""
    words = ["rule"]
    words += [f'priority="{priority}"'] if priority else []
    words.append(f'family="{"ipv6" if flow.family == 6 else "ipv4"}"')
    words += [f'source address="{flow.source}"'] if flow.source else []
    words += [f'destination address="{flow.destination}"'] if flow.destination else []
    if flow.icmp_type is not None:
        name = _ICMP_TYPES.get(flow.protocol, {}).get(flow.icmp_type)
        if name is None:
            return ""
        words.append(f'icmp-type name="{name}"')
    elif flow.destination_port is not None:
        words.append(f'port port="{flow.destination_port}" protocol="{flow.protocol}"')
    elif flow.source_port is not None:
        words.append(f'source-port port="{flow.source_port}" protocol="{flow.protocol}"')
    else:
        words.append(f'protocol value="{ {"50": "esp", "51": "ah"}.get(flow.protocol, flow.protocol) }"')
    return " ".join([*words, "accept"])


def is_firewallds_end(trace: Trace, rule: FirewallRule) -> bool:
    """Whether a rule of a built-in chain that matches everything is firewalld's own last word behind its zones."""
    zones = any(
        step.rule.chain == rule.chain and step.rule.table == rule.table and "_ZONES" in step.rule.text
        for step in trace.path
    )
    return zones and rule.policy is None and _LAST_WORD.match(rule.text) is not None


def plan_firewalld(trace: Trace, rule: FirewallRule, flow: Flow, around: Around) -> Proposal:
    """The rich rule that lets the flow through, or why firewalld cannot be told to."""
    if rule.chain.endswith("_direct"):
        return Proposal(
            reason=f"{rule.place()} is a direct rule of firewalld's, before every zone: an accept belongs beside it, with"
            " a lower priority (firewall-cmd --direct --get-all-rules shows the priorities)"
        )
    place = _place(trace, rule, flow)
    if isinstance(place, str):
        return Proposal(reason=place)
    early = place.part in ("pre", "log", "deny")
    rich = rich_rule(flow, priority=_FIRST if early else "")
    if not rich:
        return Proposal(reason=f"firewalld has no name for {flow.protocol} type {flow.icmp_type}")
    where = f"--{place.kind}={place.name}"

    def words(verb: str, *more: str) -> Sequence[str]:
        return ["firewall-cmd", *more, where, f"--{verb}-rich-rule={rich}"]

    permanent = around.command(words("add", "--permanent"))
    return Proposal(
        fix=Fix(
            host=around.host,
            summary=f"accept this flow in {place.kind} {place.name} of firewalld",
            place=f"{place.kind} {place.name}" + (", before what it denies" if early else ""),
            covers=flow.covers(),
            commands=(around.command(words("add")),),
            undo=(around.command(words("remove")),),
            permanent=(permanent,),
            persist=(permanent.text,),
        )
    )


def _place(trace: Trace, rule: FirewallRule, flow: Flow) -> Place | str:
    """The zone or policy to write into; a text says why there is none."""
    own = _parsed(rule.chain)
    if own is not None and own[0] not in ("IN", "OUT", "FWD", "FWDI", "FWDO"):
        return f"{rule.place()} stands before the zones' own rules: a rich rule comes too late for it"
    if own is None and _LAST_WORD.match(rule.text) is None:
        return f"{rule.place()} is of firewalld's own making ({rule.text}): a rich rule comes too late for it"
    ways = ("FWD", "FWDI", "FWDO") if flow.forwarded else ("OUT",) if flow.outward else ("IN",)
    chains = [chain for step in trace.path for chain in (step.rule.chain, called(step.rule))]
    passed = [found for chain in chains if (found := _parsed(chain)) is not None and found[0] in ways]
    if own is not None:
        _, place = own
        said = _BELONGS.match(rule.belongs_to)
        if said is not None:
            place = Place(said[1], said[2], place.part)
        if place.kind == "policy" or not (flow.forwarded or flow.outward):
            return place
    elif not (flow.forwarded or flow.outward):
        zones = [place for _, place in passed if place.kind == "zone"]
        return Place("zone", zones[-1].name, "") if zones else f"which zone led to {rule.place()} is not known"
    # A zone's rich rules are for packets to this host; others are a policy's, which must be there already.
    policies = [place.name for _, place in passed if place.kind == "policy"]
    if policies:
        return Place("policy", policies[-1], own[1].part if own is not None else "")
    return (
        "firewalld lets packets between its zones, and from this host, through by policies only, and no policy is for this"
        " flow: a new one (firewall-cmd --permanent --new-policy) works after a reload, which netdiag does not do because"
        " it can take the engine's rules away"
    )


def _parsed(chain: str) -> tuple[str, Place] | None:
    """Which way a chain is for, and whose it is; None for one that is no zone's and no policy's."""
    found = _CHAIN.match(chain)
    if found is None:
        return None
    place = Place("policy" if found["policy"] else "zone", found["name"], found["part"] or "")
    return found["way"] if found["table"] in (None, "filter") else found["table"], place
