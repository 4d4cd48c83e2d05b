"""What of its owner's a rule serves, in a few words: which network, zone, port, profile, jail or service."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from netdiag.firewall import calico_rules, docker_rules
from netdiag.firewall.clues import Clues
from netdiag.firewall.engine_view import EngineView
from netdiag.model.facts import Calico
from netdiag.model.firewall import FirewallRule, Owner

_NFT_ZONE = re.compile(r"^(?:filter|nat|mangle|raw)_(?:IN|FWD|FWDI|FWDO|PRE|POST|OUT)_(policy_)?(.+)$")
_ZONE = re.compile(r"^(?:IN|FWD|FWDI|FWDO|PRE|POST|OUT)_(.+)$")
_PART = re.compile(r"_(?:pre|log|deny|allow|post)$")
_FRAME = re.compile(r"^(?:filter|nat|mangle|raw)?_?(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$")
# firewalld config/zones and config/policies, and what moby and libvirt create.
PACKAGED_ZONES = frozenset(
    (
        *("block", "dmz", "drop", "external", "home", "internal", "public", "trusted", "work", "nm-shared", "docker"),
        *("libvirt", "libvirt-routed"),
    )
)
PACKAGED_POLICIES = frozenset(("allow-host-ipv6", "docker-forwarding", "libvirt-to-host"))
_UFW = re.compile(r"^ufw(6?)-(.+?)(?:-(input|forward|output))?$")
_WAYS = {"input": "incoming", "forward": "routed", "output": "outgoing", "": ""}
_KUBE_COMMENT = re.compile(r"^([a-z0-9.-]+/[a-z0-9.-]+(?::[a-z0-9-]+)?)(?::? .*|:)?$")
_KUBE_CHAIN = re.compile(r"^(?:service|endpoint|external|firewall)-[A-Z0-9]{8}-([^/]+/[^/]+)/[^/]+/([^_/]*)")
_JAIL_CHAIN = re.compile(r"^(?:f2b|fail2ban)-(.+)$")
_JAIL_SET = re.compile(r"^(?:addr6?-set|f2b)-(.+)$")
_NETAVARK_COMMENT = re.compile(r"\bname: (\S+) id: ([0-9a-f]{12})")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the owner was found: the rule itself, or the rule of its owner that called a neutral chain.

    Attributes:
        callers: The rules that led there, innermost first, with their texts taken apart.
    """

    rule: FirewallRule
    clues: Clues
    callers: tuple[tuple[FirewallRule, Clues], ...]
    view: EngineView
    calico: Calico | None


def serves(owner: Owner, place: Place) -> str:
    """What it serves; empty where that is not known."""
    return _DESCRIBE[owner](place)


def _operator(_: Place) -> str:
    return ""


def _netdiag(place: Place) -> str:
    return "a change that awaits its confirmation" if place.clues.comments else "a trace"


def _docker(place: Place) -> str:
    if place.rule.policy is not None:
        return "default of forwarded traffic, likely"
    callers = [taken for _, taken in place.callers]
    return docker_rules.serves(place.rule.chain, place.clues, callers, place.view)


def _swarm(place: Place) -> str:
    if place.rule.policy is not None:
        return ""
    return docker_rules.serves_swarm(place.rule.chain, place.clues, place.view)


def _calico(place: Place) -> str:
    callers = [(rule.chain, taken) for rule, taken in place.callers]
    return calico_rules.serves(place.rule.chain, place.clues, callers, place.calico)


def _firewalld(place: Place) -> str:
    chain = place.rule.chain
    if place.rule.policy is not None:
        return "default policy"
    if chain.endswith("_direct"):
        return "direct rules"
    frame = _FRAME.match(chain)
    if frame and place.clues.target in ("REJECT", "DROP") and not place.clues.matches:
        return "no zone lets it in" if frame[1] == "INPUT" else "no zone or policy lets it through"
    # The chain that it calls says as much as the chain that it is in.
    for name in (chain, place.clues.calls):
        told = _zone(name, place)
        if told:
            bare = name == chain and not _PART.search(chain)
            ends = bare and place.clues.target in ("REJECT", "DROP", "ACCEPT") and not place.clues.matches
            return f"{told}, its target" if ends else told
    return ""


def _zone(chain: str, place: Place) -> str:
    found = _NFT_ZONE.match(chain)
    if found:
        return f"{'policy' if found[1] else 'zone'} {_PART.sub('', found[2])}"
    found = _ZONE.match(chain)
    if found is None:
        return ""
    name = _PART.sub("", found[1])
    for site in (place.rule, *(rule for rule, _ in place.callers)):
        if "_POLICIES_" in site.chain:
            return f"policy {name}"
        if "_ZONES" in site.chain:
            return f"zone {name}"
    if name in PACKAGED_POLICIES:
        return f"policy {name}"
    # In iptables the chains of zones and of policies have the same names.
    return f"zone {name}" if name in PACKAGED_ZONES else f"zone or policy {name}"


def _ufw(place: Place) -> str:
    if place.rule.policy is not None:
        way = _WAYS.get(place.rule.chain.lower(), "")
        return f"default policy, {way}" if way else "default policy"
    found = _UFW.match(place.rule.chain) or _UFW.match(place.clues.calls)
    if found is None:
        return ""
    six, part, way = found[1], found[2], _WAYS.get(found[3] or "", "")
    if part == "user":
        told = "user rule"
    elif part in ("user-limit", "user-limit-accept"):
        told = "limit rule"
    elif part in ("before", "after"):
        told = f"{part}{six}.rules"
    elif part == "not-local":
        told = f"before{six}.rules, not for this host"
    elif part in ("skip-to-policy", "reject", "track"):
        told = "default policy"
    else:
        told = "logging" if "logging" in part else ""
    return ", ".join(filter(None, (told, way)))


def _kube(place: Place) -> str:
    found = _KUBE_CHAIN.match(place.rule.chain)
    if found:
        return f"service {found[1]}" + (f":{found[2]}" if found[2] else "")
    for taken in (place.clues, *(one for _, one in place.callers)):
        for comment in taken.comments:
            told = _KUBE_COMMENT.match(comment)
            if told:
                return f"service {told[1]}"
    return ""


def _fail2ban(place: Place) -> str:
    for name in place.clues.sets:
        told = _JAIL_SET.match(name)
        if told:
            return f"jail {told[1]}"
    told = _JAIL_CHAIN.match(place.rule.chain) or _JAIL_CHAIN.match(place.clues.calls)
    return f"jail {told[1]}" if told else ""


def _podman(place: Place) -> str:
    for taken in (place.clues, *(one for _, one in place.callers)):
        for comment in taken.comments:
            told = _NETAVARK_COMMENT.search(comment)
            if told:
                return f"network {told[1]}, container {told[2]}"
    return ""


def _libvirt(place: Place) -> str:
    matches = place.clues.matches
    device = matches.get("-o") or matches.get("-i") or matches.get("!-o") or ""
    return f"network on bridge {device}" if device else ""


_DESCRIBE: dict[Owner, Callable[[Place], str]] = {
    Owner.OPERATOR: _operator,
    Owner.DOCKER: _docker,
    Owner.SWARM: _swarm,
    Owner.CALICO: _calico,
    Owner.FIREWALLD: _firewalld,
    Owner.UFW: _ufw,
    Owner.KUBE: _kube,
    Owner.FAIL2BAN: _fail2ban,
    Owner.PODMAN: _podman,
    Owner.LIBVIRT: _libvirt,
    Owner.NETDIAG: _netdiag,
}
