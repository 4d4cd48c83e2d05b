"""What the kernel knows of a packet, as nft asks for it: meta, ct, fib, rt, numgen.

Sources: net/netfilter/nft_meta.c (since 5.3 a device that is not there has an empty name), nft_ct.c, nft_numgen.c;
net/ipv4/netfilter/nft_fib_ipv4.c, net/ipv6/netfilter/nft_fib_ipv6.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from netdiag.firewall.netfilter.header import PacketType
from netdiag.firewall.netfilter.kernel import kind_of
from netdiag.firewall.netfilter.nft.types import ADDRESS_TYPES, CT_STATES, CT_STATUS, TYPES, Type, encode_name
from netdiag.firewall.netfilter.nft.values import BREAK, Atom, Expression, Loaded, NotKnown, Scene, Values
from netdiag.firewall.netfilter.skb import TCP, Skb, Unknown

_FLOWLESS = frozenset({"INVALID", "UNTRACKED"})
_NO_FLOW = Unknown("what conntrack knows of its flow is not known")
_MOST_COUNTED = 16
_Load = Callable[[Skb, Scene], Values]


def _device(side: Literal["in", "out"]) -> _Load:
    def load(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
        name = skb.in_device if side == "in" else skb.out_device
        if name is None:
            return (Unknown(f"the device that it {'arrives on' if side == 'in' else 'leaves by'} is not said"),)
        return (encode_name(name),)

    return load


def _device_type(side: Literal["in", "out"]) -> _Load:
    def load(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
        name = skb.in_device if side == "in" else skb.out_device
        if name == "":
            return (BREAK,)
        if name == "lo":
            return (772,)
        if side == "in" and skb.mac is not None:
            return (1,)
        return (Unknown("of which kind its device is, is not known"),)

    return load


def _packet_type(skb: Skb, scene: Scene) -> Values:
    """As its frame was addressed."""
    found: list[Atom] = []
    for number, asked in enumerate((PacketType("unicast"), PacketType("broadcast"), PacketType("multicast"))):
        truth = asked.holds(skb, scene.host)
        if truth is True:
            # What comes back through lo is of a type of its own, which nft tells otherwise.
            return (number,) if skb.in_device != "lo" else (Unknown("how a packet of lo is addressed is not modelled"),)
        if isinstance(truth, Unknown):
            found.append(truth)
    return (found[0],) if found else (BREAK,)


def _owner(skb: Skb, scene: Scene) -> Values:
    if skb.from_here:
        return (Unknown("which process sends it is not said"),)
    # An established flow's socket is found before INPUT (early demux).
    return (Unknown("which socket it is for is not known"),) if scene.hook == "INPUT" else (BREAK,)


def _secpath(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
    """What is asked about arrives in the clear."""
    return (0,)


def _length(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
    return (Unknown("its length is not said") if skb.length is None else skb.length,)


def _mark(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
    return (Unknown("its mark is not known") if skb.mark is None else skb.mark,)


def _family(skb: Skb, scene: Scene) -> Values:
    if scene.family == "netdev":
        return (Unknown("which family a hook of a device has is not modelled"),)
    return (2 if skb.family == 4 else 10,)


_META: Mapping[str, tuple[str, _Load]] = {
    "iifname": ("ifname", _device("in")),
    "oifname": ("ifname", _device("out")),
    "iif": ("iface_index", _device("in")),
    "oif": ("iface_index", _device("out")),
    "iiftype": ("iface_type", _device_type("in")),
    "oiftype": ("iface_type", _device_type("out")),
    "l4proto": ("inet_proto", lambda skb, scene: (skb.protocol,)),  # noqa: ARG005
    "nfproto": ("nf_proto", _family),
    "protocol": ("ether_type", lambda skb, scene: (0x0800 if skb.family == 4 else 0x86DD,)),  # noqa: ARG005
    "mark": ("mark", _mark),
    "length": ("integer", _length),
    "pkttype": ("pkt_type", _packet_type),
    "skuid": ("uid", _owner),
    "skgid": ("gid", _owner),
    "secpath": ("boolean", _secpath),
    "ipsec": ("boolean", _secpath),
}


def meta(key: str) -> Expression:
    """``meta KEY``; what is not known of any packet is a number that nobody knows."""
    known = _META.get(key)
    text = key if key in ("iif", "oif", "iifname", "oifname") else f"meta {key}"
    if known is None:
        return NotKnown(text, TYPES["integer"], f"its {text} is not known")
    return Loaded(text, TYPES[known[0]], known[1])


def _state(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
    if skb.state is None:
        return (Unknown("its state in conntrack is not known"),)
    return (CT_STATES[skb.state.lower()],)


def _with_flow(load: Callable[[Skb], Values]) -> _Load:
    """What only a packet of a flow has."""

    def loaded(skb: Skb, scene: Scene) -> Values:  # noqa: ARG001
        if skb.state in _FLOWLESS:
            return (BREAK,)
        return (_NO_FLOW,) if skb.state is None else load(skb)

    return loaded


def _status(skb: Skb) -> Values:
    """Of a new flow; which hooks of NAT have seen it already is not kept."""
    if skb.state != "NEW":
        return (_NO_FLOW,)
    found = [CT_STATUS["confirmed"] if skb.from_here and skb.in_device == "lo" else 0]
    for name, known in (("snat", skb.snat), ("dnat", skb.dnat), ("snat-done", None), ("dnat-done", None)):
        bit = CT_STATUS[name]
        found = [each | flag for each in found for flag in ((0, bit) if known is None else (bit if known else 0,))]
    return tuple(found)


def _connmark(skb: Skb) -> Values:
    return (Unknown("its connection's mark is not known") if skb.connmark is None else skb.connmark,)


def _original(field: str, family: int | None) -> Callable[[Skb], Values]:
    def load(skb: Skb) -> Values:
        if family is not None and skb.family != family:
            return (BREAK,)
        value = getattr(skb.original, field) if skb.original is not None and skb.state == "NEW" else None
        return (_NO_FLOW if value is None else value,)

    return load


_FLOW_FIELDS = {
    "saddr": "source",
    "daddr": "destination",
    "proto-src": "source_port",
    "proto-dst": "destination_port",
}


_CT: Mapping[str, tuple[str, _Load]] = {
    "state": ("ct_state", _state),
    "status": ("ct_status", _with_flow(_status)),
    "mark": ("mark", _with_flow(_connmark)),
    "direction": ("ct_dir", _with_flow(lambda skb: (0,) if skb.state == "NEW" else (_NO_FLOW,))),
}


def ct(key: str, direction: str, family: str) -> Expression:
    """``ct KEY`` or ``ct original KEY``.

    Args:
        key: As nft's JSON has it: "state", "mark", "ip saddr".
        direction: "original", "reply" or empty.
        family: ip or ip6 where an older nft names it beside the key; else the table's.
    """
    text = " ".join(("ct", *([direction] if direction else []), key))
    if key in _CT:
        return Loaded(text, TYPES[_CT[key][0]], _CT[key][1])
    prefix, _, name = key.rpartition(" ")
    family = prefix or family
    if name in ("saddr", "daddr"):
        number = {"ip": 4, "ip6": 6}.get(family)
        kind = TYPES["ipv6_addr" if number == 6 else "ipv4_addr"]
        if number is None:
            return NotKnown(text, kind, "of which family an address of its flow is, is not told")
    elif name in ("proto-src", "proto-dst"):
        number, kind = None, TYPES["inet_service"]
    elif name in ("protocol", "l3proto"):
        kind = TYPES["inet_proto" if name == "protocol" else "nf_proto"]
        own = _with_flow(lambda skb: (skb.protocol if name == "protocol" else 2 if skb.family == 4 else 10,))
        return Loaded(text, kind, own)
    else:
        return NotKnown(text, TYPES["integer"], f"what conntrack knows of its flow ({key}) is not known")
    if direction != "original":
        return NotKnown(text, kind, _NO_FLOW.reason)
    return Loaded(text, kind, _with_flow(_original(_FLOW_FIELDS[name], number)))


def fib(result: str, flags: tuple[str, ...]) -> Expression:
    """``fib FLAGS RESULT``: what the routes say; only the type of an address can be told without them."""
    text = f"fib {' . '.join(flags)} {result}"
    if result == "type":
        side: Literal["source", "destination"] = "source" if "saddr" in flags else "destination"
        if "oif" in flags:
            return NotKnown(
                text, TYPES["fib_addrtype"], "what the routes of the device that it leaves by say is not known"
            )
        return Loaded(text, TYPES["fib_addrtype"], _address_type(side, bound="iif" in flags))
    kind = TYPES["iface_index" if result == "oif" else "ifname" if result == "oifname" else "integer"]
    return NotKnown(text, kind, f"what the routes say ({text}) is not known")


def _address_type(side: Literal["source", "destination"], *, bound: bool) -> _Load:
    def load(skb: Skb, scene: Scene) -> Values:
        address = skb.source if side == "source" else skb.destination
        kinds = kind_of(skb, scene.host, side)
        if isinstance(kinds, Unknown):
            return (kinds,)
        numbers = {ADDRESS_TYPES[kind.lower()] for kind in kinds}
        local, unicast = ADDRESS_TYPES["local"], ADDRESS_TYPES["unicast"]
        if address is None:
            return (Unknown(f"its {side} address is not said"),)
        if bound:
            return _bound(skb, scene, address, numbers)
        if skb.family == 4:
            return tuple(sorted(numbers))
        # Of IPv6 the routes are asked, and an address that is none of this host's may be anything else.
        refused = {ADDRESS_TYPES[name] for name in ("blackhole", "unreachable", "prohibit", "throw")}
        if unicast in numbers:
            numbers |= refused | {ADDRESS_TYPES["unspec"], ADDRESS_TYPES["anycast"]}
        elif local not in numbers:
            numbers |= refused
        return tuple(sorted(numbers))

    return load


def _bound(skb: Skb, scene: Scene, address: int, numbers: set[int]) -> Values:
    """Of one device's routes: an address of another device is no local one there (inet_dev_addr_type)."""
    if skb.family == 6:
        return (Unknown("what the routes of its device say is not known"),)
    own = scene.host.first_addresses.get(skb.in_device or "") == address
    if not own and address not in (0, 0xFFFFFFFF) and numbers & {ADDRESS_TYPES["local"], ADDRESS_TYPES["broadcast"]}:
        numbers = numbers | {ADDRESS_TYPES["unicast"]}
    return tuple(sorted(numbers))


def numgen(modulus: int, offset: int) -> Expression:
    """``numgen``: one of so many numbers, in turn or at random."""
    kind = TYPES["integer"]
    if 0 < modulus <= _MOST_COUNTED:
        numbers = tuple(range(offset, offset + modulus))
        return Loaded("numgen", kind, lambda skb, scene: numbers)  # noqa: ARG005
    return NotKnown("numgen", kind, "which number the kernel draws is not known")


def tcp_option(name: str) -> Expression:
    """An option inside of a TCP header: which ones there are is not said of a packet."""
    text = f"tcp option {name}"
    unknown = Unknown("the options in its TCP header are not said")
    return Loaded(text, Type("integer", 32), lambda skb, scene: (unknown if skb.protocol == TCP else BREAK,))  # noqa: ARG005
