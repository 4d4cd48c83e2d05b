"""What of a host's facts a packet's way through its rules depends on: its rules, sets, addresses and bridges."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from netdiag.firewall.explain import Explainer, read_rule_sets
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.facts import Facts, Link

SECTIONS = ("identity", "kernel", "namespaces", "links", "addresses", "firewall")
"""The facts that it needs."""
_TAKE_IN = ("bridge", "bond", "team")
"""Kinds of devices whose ports' packets are theirs before IP sees them (net/core/dev.c, the rx_handler)."""


def explainer_of(facts: Facts, namespace: str) -> tuple[Explainer, tuple[str, ...]]:
    """The rules of one namespace, ready to be asked; and what of them could not be read or understood, a line each."""
    absent = facts.firewall.partial.get(namespace) or facts.firewall.absent
    problems = [absent.text] if absent is not None else []
    read = read_rule_sets((facts.firewall.value or {}).get(namespace, ()), hidden=absent.text if absent else "")
    host = host_of(facts, namespace)
    return Explainer(read, host), (*problems, *read.problems)


def host_of(facts: Facts, namespace: str) -> Host:
    """What is known of a namespace beside its rules."""
    known = (facts.addresses.value or {}).get(namespace)
    links = (facts.links.value or {}).get(namespace)
    bridges = frozenset(link.name for link in links if link.kind == "bridge") if links is not None else None
    ports = _ports(links or ())
    if known is None:
        return Host(bridges=bridges, ports=ports)
    interfaces = [ipaddress.ip_interface(each.cidr) for each in known]
    first: dict[str, int] = {}
    for address, each in zip(known, interfaces, strict=True):
        if each.version == 4 and not address.secondary:
            first.setdefault(address.device, int(each.ip))
    wide = [each.network for each in interfaces if each.version == 4 and each.network.prefixlen < 31]
    return Host(
        addresses=frozenset((int(each.ip), each.version) for each in interfaces),
        broadcasts=frozenset(int(network.broadcast_address) for network in wide),
        networks=frozenset(int(network.network_address) for network in wide),
        first_addresses=first,
        bridges=bridges,
        ports=ports,
    )


def _ports(links: Sequence[Link]) -> dict[str, str]:
    by_index = {link.index: link for link in links}
    masters = ((link.name, by_index.get(link.master or 0)) for link in links)
    return {name: master.name if master.kind in _TAKE_IN else "" for name, master in masters if master is not None}
