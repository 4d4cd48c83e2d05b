"""RTM_GETRULE dumps into policy rules (linux/fib_rules.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from netdiag.facts import netlink
from netdiag.facts.netlink import Decoded, Message, Truncated
from netdiag.model.facts import PolicyRule

_FIB_RULE_HDR = struct.Struct("<BBBBBxxBI")
BODY = bytes(_FIB_RULE_HDR.size)
"""struct fib_rule_hdr: all families."""

FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK, FRA_OIFNAME = 1, 2, 3, 6, 10, 15, 16, 17
_ACTIONS = {0: "unspecified", 1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_FIB_RULE_INVERT = 2


def decode(data: bytes, devices: Mapping[int, str]) -> Decoded[PolicyRule]:  # noqa: ARG001 - one shape for all tables
    """All policy rules of a dump, in the kernel's order (by priority within a family)."""
    rows: list[PolicyRule] = []
    error = ""
    try:
        for message in netlink.messages(data):
            if message.kind == netlink.RTM_NEWRULE:
                rule = _rule(data, message)
                if rule is not None:
                    rows.append(rule)
    except Truncated as damage:
        error = f"rules: {damage}"
    return Decoded(tuple(rows), error)


def _rule(data: bytes, message: Message) -> PolicyRule | None:
    family, to_length, from_length, _tos, table, action, flags = netlink.fields(_FIB_RULE_HDR, data, message)
    if family not in netlink.FAMILIES:
        return None
    found = netlink.attributes(data, message.start + _FIB_RULE_HDR.size, message.end)
    source, destination = netlink.address(found.get(FRA_SRC)), netlink.address(found.get(FRA_DST))
    return PolicyRule(
        priority=netlink.u32(found.get(FRA_PRIORITY)) or 0,
        family=netlink.FAMILIES[family],
        source=f"{source}/{from_length}" if source else "",
        destination=f"{destination}/{to_length}" if destination else "",
        in_device=netlink.text(found.get(FRA_IIFNAME)),
        out_device=netlink.text(found.get(FRA_OIFNAME)),
        mark=netlink.u32(found.get(FRA_FWMARK)),
        mask=netlink.u32(found.get(FRA_FWMASK)),
        table=netlink.u32(found.get(FRA_TABLE)) or table,
        action=_ACTIONS.get(action, str(action)),
        invert=bool(flags & _FIB_RULE_INVERT),
    )
