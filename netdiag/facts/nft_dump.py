"""Chains and rules of nf_tables as the kernel numbers them, for hosts that have iptables and no ``nft``.

What a rule says is not decoded: iptables' own save gives the text of a rule with the same number. Source:
linux/netfilter/nf_tables.h (enum nft_chain_attributes, nft_rule_attributes), net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec

from netdiag.facts import netlink
from netdiag.facts.context import absence, within
from netdiag.firewall.listing import ListedChain, ListedRule, Listing
from netdiag.model.facts import Absence, Namespace
from netdiag.model.wire import Answer, Gather, Request

_NEWCHAIN, _GETCHAIN, _NEWRULE, _GETRULE = 0x0A03, 0x0A04, 0x0A06, 0x0A07
_NFGENMSG_BYTES = 4
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE = 1, 2, 3
_INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_HOOKS = {3: ("input", "output", "forward"), 5: ("ingress", "egress")}
_POLICIES = {0: "drop", 1: "accept"}
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""Names of NFPROTO numbers, as nft has them."""

_Place = tuple[str, str, str]


def gather_listing(namespace: Namespace, reading: str = "") -> Gather[Listing | Absence]:
    """Every chain with its rules' handles in their order; their texts are empty. Or why that cannot be told.

    ``reading`` is as for `netdiag.facts.firewall.gather_firewall`.
    """
    again = {"reading": reading} if reading else {}
    body = base64.b64encode(bytes(_NFGENMSG_BYTES)).decode("ascii")
    requests = [
        Request(
            "netlink-dump",
            within(namespace, {"protocol": 12, "type": kind, "body": body, "may_load": True, **again}),
            timeout_s=5.0,
        )
        for kind in (_GETCHAIN, _GETRULE)
    ]
    chains, rules = yield requests
    for answer in (chains, rules):
        if answer.data is None:
            return absence(answer)
    handles: dict[_Place, list[int]] = {}
    for family, found in _messages(rules, _NEWRULE):
        place = (family, netlink.text(found.get(_RULE_TABLE)), netlink.text(found.get(_RULE_CHAIN)))
        handles.setdefault(place, []).append(int.from_bytes(found.get(_RULE_HANDLE, b""), "big"))
    listing: dict[_Place, ListedChain] = {}
    for family, found in _messages(chains, _NEWCHAIN):
        chain = _chain(family, found)
        place = (family, chain.table, chain.name)
        listed = tuple(
            ListedRule(number=number, handle=handle, text="")
            for number, handle in enumerate(handles.get(place, ()), start=1)
        )
        listing[place] = msgspec.structs.replace(chain, rules=listed)
    return listing


def _messages(answer: Answer, wanted: int) -> Iterator[tuple[str, dict[int, bytes]]]:
    data: bytes = answer.data["messages"] if answer.data is not None else b""
    try:
        for message in netlink.messages(data):
            if message.kind == wanted and message.end - message.start >= _NFGENMSG_BYTES:
                number = data[message.start]
                attributes = netlink.attributes(data, message.start + _NFGENMSG_BYTES, message.end)
                yield FAMILIES.get(number, str(number)), attributes
    except netlink.Truncated:
        return


def _chain(family: str, found: dict[int, bytes]) -> ListedChain:
    hook = netlink.nested(found.get(_CHAIN_HOOK))
    name, priority, policy = "", "", None
    if _HOOK_NUMBER in hook:
        number = int.from_bytes(hook[_HOOK_NUMBER], "big")
        family_number = next((key for key, value in FAMILIES.items() if value == family), 0)
        names = _HOOKS.get(family_number, _INET_HOOKS)
        name = names[number] if number < len(names) else str(number)
        priority = str(int.from_bytes(hook.get(_HOOK_PRIORITY, b""), "big", signed=True))
        policy = _POLICIES.get(int.from_bytes(found.get(_CHAIN_POLICY, b"\0\0\0\1"), "big"), "accept")
    return ListedChain(
        family=family,
        table=netlink.text(found.get(_CHAIN_TABLE)),
        name=netlink.text(found.get(_CHAIN_NAME)),
        kind=netlink.text(found.get(_CHAIN_TYPE)) if name else "",
        hook=name,
        priority=priority,
        policy=policy,
    )
