"""nft's data types: how wide their values are, and the numbers of the names that nft prints for them.

Sources: nftables src/datatype.c, src/ct.c, src/meta.c, src/fib.c, src/proto.c; include/uapi/linux/netfilter/nf_conntrack_common.h.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from netdiag.firewall.netfilter.addresses import read_address
from netdiag.firewall.netfilter.names import DSCP_CLASSES, SERVICES
from netdiag.firewall.netfilter.skb import TCP_FLAGS
from netdiag.model.protocols import number_of


class NotModelled(Exception):
    """What of a rule is not understood, in a few words."""


class Type(msgspec.Struct, frozen=True):
    """One data type; the values of a ``bitmask`` are sets of flags."""

    name: str
    bits: int
    bitmask: bool = False


_BITS = {
    "ipv4_addr": 32,
    "ipv6_addr": 128,
    "ether_addr": 48,
    "ifname": 128,
    "iface_index": 128,
    "iface_type": 16,
    "inet_proto": 8,
    "inet_service": 16,
    "mark": 32,
    "ct_state": 32,
    "ct_status": 32,
    "ct_dir": 8,
    "tcp_flag": 8,
    "icmp_type": 8,
    "icmpv6_type": 8,
    "icmp_code": 8,
    "icmpv6_code": 8,
    "dscp": 6,
    "ecn": 2,
    "ether_type": 16,
    "nf_proto": 8,
    "pkt_type": 8,
    "fib_addrtype": 32,
    "boolean": 1,
    "uid": 32,
    "gid": 32,
    "integer": 32,
}
_BITMASKS = frozenset({"ct_state", "ct_status", "tcp_flag"})
TYPES: Mapping[str, Type] = {name: Type(name, bits, name in _BITMASKS) for name, bits in _BITS.items()}
VERDICT = Type("verdict", 0)
CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_STATUS = "expected seen-reply assured confirmed snat dnat seq-adjust snat-done dnat-done dying"
CT_STATUS = {name: 1 << bit for bit, name in enumerate(_STATUS.split())}
_ADDRESS_TYPES = "unspec unicast local broadcast anycast multicast blackhole unreachable prohibit throw nat xresolve"
ADDRESS_TYPES = {name: number for number, name in enumerate(_ADDRESS_TYPES.split())}
_ICMP = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16,
    "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip
_ICMPV6 = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
    "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
    "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
    "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip
_NAMES: Mapping[str, Mapping[str, int]] = {
    "ct_state": CT_STATES,
    "ct_status": CT_STATUS,
    "ct_dir": {"original": 0, "reply": 1},
    "tcp_flag": TCP_FLAGS,
    "icmp_type": _ICMP,
    "icmpv6_type": _ICMPV6,
    "icmp_code": {
        "net-unreachable": 0,
        "host-unreachable": 1,
        "prot-unreachable": 2,
        "port-unreachable": 3,
        "frag-needed": 4,
        "net-prohibited": 9,
        "host-prohibited": 10,
        "admin-prohibited": 13,
    },
    "icmpv6_code": {
        "no-route": 0,
        "admin-prohibited": 1,
        "addr-unreachable": 3,
        "port-unreachable": 4,
        "policy-fail": 5,
        "reject-route": 6,
    },
    "dscp": {
        **{name.lower(): number for name, number in DSCP_CLASSES.items()},
        "lephb": 1,
        "va": 44,
        "df": 0,
    },
    "ecn": {"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3},
    "ether_type": {"ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "8021q": 0x8100, "vlan": 0x8100, "8021ad": 0x88A8},
    "nf_proto": {"ipv4": 2, "ipv6": 10},
    "pkt_type": {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3},
    "fib_addrtype": ADDRESS_TYPES,
    "iface_type": {"ether": 1, "ppp": 512, "ipip": 768, "ipip6": 769, "loopback": 772, "sit": 776, "ipgre": 778},
    "boolean": {"missing": 0, "exists": 1},
    "inet_service": SERVICES,
}


def type_named(name: str) -> Type:
    """A data type by nft's name for it. Raises NotModelled."""
    found = VERDICT if name == "verdict" else TYPES.get(name)
    if found is None:
        raise NotModelled(f"values of the type {name[:40]} are not understood")
    return found


def encode_name(name: str) -> int:
    """A device's name as a number, so that all names that begin alike are a range."""
    data = name.encode("utf-8", errors="replace")[:16]
    return int.from_bytes(data.ljust(16, b"\0"), "big")


def read_literal(value: object, kind: Type) -> int:
    """The number of a constant. Raises NotModelled for one that is not understood."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        if kind.name in ("ifname", "iface_index"):
            raise NotModelled(f"which device has the index {value} is not known")
        if not 0 <= value < 1 << kind.bits:
            raise NotModelled(f"{value} is no value of the type {kind.name}")
        return value
    if isinstance(value, str):
        return _named(value, kind)
    flags = value.get("|") if isinstance(value, dict) and len(value) == 1 else value
    if isinstance(flags, list) and kind.bitmask:
        found = 0
        for each in flags:
            found |= read_literal(each, kind)
        return found
    raise NotModelled(f"the value {str(value)[:60]} is not understood")


def _named(text: str, kind: Type) -> int:
    if kind.name in ("ifname", "iface_index"):
        return encode_name(text.replace("\\*", "*"))
    try:
        if kind.name in ("ipv4_addr", "ipv6_addr"):
            return read_address(text, 4 if kind.name == "ipv4_addr" else 6)
        if kind.name == "ether_addr" and text.count(":") == 5:
            return int("".join(f"{int(each, 16):02x}" for each in text.split(":")), 16)
        if kind.name == "inet_proto":
            number = 58 if text in ("icmpv6", "ipv6-icmp") else number_of(text)
        else:
            number = _NAMES.get(kind.name, {}).get(text)
        return number if number is not None else read_literal(int(text, 0), kind)
    except ValueError:
        raise NotModelled(f"{text[:60]!r} is no {kind.name} that is understood") from None


def read_interval(value: object, kind: Type) -> tuple[int, int]:
    """The first and the last number of a constant, a range, a prefix or a name with a wildcard. Raises NotModelled."""
    if isinstance(value, dict) and len(value) == 1:
        if "range" in value:
            ends = value["range"]
            if not isinstance(ends, list) or len(ends) != 2:
                raise NotModelled("a range has not two ends")
            low, high = (read_literal(each, kind) for each in ends)
            if low > high:
                raise NotModelled(f"the range {ends[0]}-{ends[1]} ends before it begins")
            return low, high
        if "prefix" in value:
            return _prefix(value["prefix"], kind)
    if isinstance(value, str) and kind.name == "ifname" and value.endswith("*") and not value.endswith("\\*"):
        data = value[:-1].replace("\\*", "*").encode("utf-8", errors="replace")[:16]
        low, high = (int.from_bytes(data.ljust(16, filling), "big") for filling in (b"\0", b"\xff"))
        return low, high
    number = read_literal(value, kind)
    return number, number


def _prefix(value: object, kind: Type) -> tuple[int, int]:
    if not isinstance(value, dict):
        raise NotModelled("a prefix is not understood")
    length = value.get("len")
    if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= kind.bits:
        raise NotModelled(f"a prefix of the length {str(length)[:20]} is not understood")
    rest = (1 << (kind.bits - length)) - 1
    first = read_literal(value.get("addr"), kind)
    if first & rest:
        # nft lists "mark & 0x80000000 == 0x1", which nothing meets, as such a prefix.
        raise NotModelled(f"the prefix {value.get('addr')}/{length} has bits behind its length")
    return first, first | rest
