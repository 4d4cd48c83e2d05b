"""Options of iptables' matches: from the words of a rule to what is asked of the packet.

One entry a match extension, with the options that it takes. Sources: iptables/extensions/lib{xt,ipt,ip6t}_*.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from netdiag.firewall.netfilter import header, kernel
from netdiag.firewall.netfilter.addresses import read_masked, read_network, read_number, read_range
from netdiag.firewall.netfilter.names import DSCP_CLASSES, ICMP_TYPES, ICMPV6_TYPES, SERVICES, TOS_NAMES
from netdiag.firewall.netfilter.rules import Match, NotUnderstood
from netdiag.firewall.netfilter.sets import SetMatch
from netdiag.firewall.netfilter.skb import ACK, CWR, ECE, FIN, RST, STATES, SYN, TCP_FLAGS, Host, Skb, Truth

_U32 = 0xFFFFFFFF
_ALL_FLAGS = 0x3F


class Option(NamedTuple):
    """One option as it was written."""

    name: str
    values: tuple[str, ...]
    negated: bool


Build = Callable[[Sequence[Option], int], Sequence[Match]]
"""From the options of one match and the family to its conditions. Raises ValueError for what is not understood."""


class Extension(NamedTuple):
    """A match extension: its options, each with the number of its values, and what becomes of them."""

    options: Mapping[str, int]
    build: Build


def read_port(text: str) -> int:
    """A port by number or service. Raises ValueError."""
    return SERVICES[text] if text in SERVICES else read_number(text, 65535)


def read_ports(text: str) -> tuple[int, int]:
    """``80``, ``80:90``, ``:90``, ``80:``. Raises ValueError."""
    low, colon, high = text.partition(":")
    first = read_port(low) if low or not colon else 0
    last = first if not colon else read_port(high) if high else 65535
    if last < first:
        raise ValueError(f"{text[:60]!r} ends before it begins")
    return first, last


def _flags(text: str) -> int:
    found = 0
    for name in text.split(","):
        upper = name.upper()
        if upper == "ALL":
            found |= _ALL_FLAGS
        elif upper != "NONE":
            bit = TCP_FLAGS.get(name.lower(), 0x40)
            if bit > _ALL_FLAGS:
                raise ValueError(f"no TCP flag: {name[:20]!r}")
            found |= bit
    return found


def _transport(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001 - as every Build
    found: list[Match] = []
    for name, values, negated in options:
        if name in ("--sport", "--source-port"):
            found.append(header.Ports("source", *read_ports(values[0]), negated))
        elif name in ("--dport", "--destination-port"):
            found.append(header.Ports("destination", *read_ports(values[0]), negated))
        elif name == "--tcp-flags":
            found.append(header.Flags(_flags(values[0]), _flags(values[1]), negated))
        elif name == "--syn":
            found.append(header.Flags(SYN | RST | ACK | FIN, SYN, negated))
        else:
            found.append(NotUnderstood(f"{name} is not modelled"))
    return found


_PORTS = {"--sport": 1, "--source-port": 1, "--dport": 1, "--destination-port": 1}


def _icmp_type(text: str, names: Mapping[str, tuple[int, int, int]]) -> tuple[int, int, int]:
    if text in names:
        return names[text]
    kind, slash, code = text.partition("/")
    number = read_number(kind, 255)
    return (number, read_number(code, 255), read_number(code, 255)) if slash else (number, 0, 255)


def _icmp(options: Sequence[Option], family: int) -> list[Match]:
    six = family == 6
    names = ICMPV6_TYPES if six else ICMP_TYPES
    return [header.Icmp(*_icmp_type(values[0], names), negated, six) for _, values, negated in options]


def _multiport(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for name, values, negated in options:
        sides: tuple[header.Side, ...] = ("source",) if name in ("--sports", "--source-ports") else ("destination",)
        ranges = tuple(read_ports(part) for part in values[0].split(","))
        found.append(header.Multiport(("source", "destination") if name == "--ports" else sides, ranges, negated))
    return found


def _state(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for _, values, negated in options:
        wanted = frozenset(values[0].upper().split(","))
        if not wanted <= STATES:
            raise ValueError(f"no state: {values[0][:40]!r}")
        found.append(kernel.State(wanted, negated))
    return found


_FLOW_ADDRESSES: Mapping[str, Literal["source", "destination"]] = {
    "--ctorigsrc": "source",
    "--ctorigdst": "destination",
}
_FLOW_PORTS: Mapping[str, Literal["source_port", "destination_port"]] = {
    "--ctorigsrcport": "source_port",
    "--ctorigdstport": "destination_port",
}


def _conntrack(options: Sequence[Option], family: int) -> list[Match]:
    found: list[Match] = []
    for name, values, negated in options:
        if name == "--ctstate":
            wanted = frozenset(values[0].upper().split(","))
            if not wanted <= STATES | {"SNAT", "DNAT"}:
                raise ValueError(f"no state: {values[0][:40]!r}")
            found.append(kernel.State(wanted, negated))
        elif name in _FLOW_ADDRESSES:
            network, mask = read_network(values[0], family)
            found.append(kernel.Flow(_FLOW_ADDRESSES[name], network, network, mask, negated))
        elif name in _FLOW_PORTS:
            found.append(kernel.Flow(_FLOW_PORTS[name], *read_ports(values[0]), -1, negated))
        elif name == "--ctdir" and values[0].upper() in ("ORIGINAL", "REPLY"):
            found.append(kernel.OriginalDirection(values[0].upper() == "ORIGINAL", negated))
        else:
            found.append(NotUnderstood(f"{name} is not modelled"))
    if len(found) > 1 and any(isinstance(each, kernel.State) for each in found):
        # Where there is no flow, the state alone decides (xt_conntrack.c, conntrack_mt).
        return [_StateFirst(tuple(found))]
    return found


class _StateFirst(NamedTuple):
    """The options of one conntrack match of which one is the state."""

    options: tuple[Match, ...]

    def holds(self, skb: Skb, host: Host) -> Truth:
        """Whether all of them hold; of a packet without a flow only the state is asked."""
        flowless = skb.state in ("INVALID", "UNTRACKED")
        unknown: Truth = True
        for option in self.options:
            if flowless and not isinstance(option, kernel.State):
                continue
            truth = option.holds(skb, host)
            if truth is False:
                return False
            if truth is not True:
                unknown = truth
        return unknown


def _addrtype(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for name, values, negated in options:
        if name.startswith("--limit-iface"):
            return [NotUnderstood(f"{name} is not modelled")]
        wanted = frozenset(values[0].upper().split(","))
        if not kernel.known_types(wanted):
            raise ValueError(f"no type of address: {values[0][:40]!r}")
        found.append(kernel.AddressType("source" if name == "--src-type" else "destination", wanted, negated))
    return found


def _iprange(options: Sequence[Option], family: int) -> list[Match]:
    return [
        header.Range("source" if name == "--src-range" else "destination", *read_range(values[0], family), negated)
        for name, values, negated in options
    ]


def _mark(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [kernel.Mark(*read_masked(values[0], _U32), negated) for _, values, negated in options]


def _connmark(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [kernel.ConnMark(*read_masked(values[0], _U32), negated) for _, values, negated in options]


def _length(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [header.Between("length", *read_ports(values[0]), negated) for _, values, negated in options]


def _ttl(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for name, values, negated in options:
        number = read_number(values[0], 255)
        low, high = {"lt": (0, number - 1), "gt": (number + 1, 255)}.get(name[-2:], (number, number))
        found.append(header.Between("ttl", low, high, negated))
    return found


def _dscp(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for name, values, negated in options:
        if name == "--dscp-class" and values[0].upper() not in DSCP_CLASSES:
            raise ValueError(f"no DSCP class: {values[0][:20]!r}")
        number = DSCP_CLASSES[values[0].upper()] if name == "--dscp-class" else read_number(values[0], 63)
        found.append(header.Tos(number << 2, 0xFC, negated))
    return found


def _tos(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for _, values, negated in options:
        # A name stands for the bits of RFC 1349 alone (libxt_tos.c, tos_mt_parse).
        value, mask = (TOS_NAMES[values[0]], 0x3F) if values[0] in TOS_NAMES else read_masked(values[0], 255)
        found.append(header.Tos(value, mask, negated))
    return found


def _mac(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for _, values, negated in options:
        digits = values[0].lower().split(":")
        if len(digits) != 6 or any(
            len(part) not in (1, 2) or not set(part) <= set("0123456789abcdef") for part in digits
        ):
            raise ValueError(f"no MAC address: {values[0][:40]!r}")
        found.append(header.Mac(":".join(part.zfill(2) for part in digits), negated))
    return found


def _pkttype(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    kinds: Mapping[str, Literal["unicast", "broadcast", "multicast"]] = {
        "unicast": "unicast",
        "host": "unicast",
        "broadcast": "broadcast",
        "multicast": "multicast",
    }
    found: list[Match] = []
    for _, values, negated in options:
        kind = kinds.get(values[0].lower())
        found.append(NotUnderstood(f"--pkt-type {values[0]}") if kind is None else header.PacketType(kind, negated))
    return found


def _set(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for name, values, negated in options:
        if name not in ("--match-set", "--set"):
            found.append(NotUnderstood(f"{name} is not modelled"))
            continue
        flags = tuple(values[1].split(","))
        if not set(flags) <= {"src", "dst"} or len(flags) > 6:
            raise ValueError(f"no flags of a set: {values[1][:40]!r}")
        found.append(SetMatch(values[0], flags, negated))
    return found


def _limit(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    if any(option.negated for option in options):
        raise ValueError("limit has no negation")
    return [kernel.Bucket("limit")]


def _hashlimit(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    rate = next(
        (option for option in options if option.name in ("--hashlimit", "--hashlimit-upto", "--hashlimit-above")), None
    )
    if rate is None:
        raise ValueError("no rate")
    return [kernel.Bucket("hashlimit", rate.name == "--hashlimit-above", rate.negated)]


def _physdev(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [kernel.PhysicalDevice(any(not option.negated for option in options))]


def _policy(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    said = {option.name: option.values[0] for option in options if option.values}
    if said.get("--dir") not in ("in", "out") or said.get("--pol") not in ("none", "ipsec"):
        raise ValueError("--dir and --pol are wanted")
    return [kernel.Ipsec(said["--dir"] == "in", said["--pol"] == "none")]


def _owner(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [kernel.Owner(all(option.negated for option in options))]


def _helper(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [kernel.Helper(any(option.negated for option in options))]


def _ecn(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    found: list[Match] = []
    for name, values, negated in options:
        if name == "--ecn-ip-ect":
            found.append(header.Tos(read_number(values[0], 3), 3, negated))
        else:
            found.append(header.EcnFlag(CWR if name == "--ecn-tcp-cwr" else ECE, negated))
    return found


def _recent(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    for option in options:
        if option.name == "--set":
            return [header.Always(not option.negated)]
    return [NotUnderstood("whether its address was seen recently is not known")]


def _statistic(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [NotUnderstood("a rule that chooses by chance or by turns (statistic)")]


def _nothing(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return []


def _absent(options: Sequence[Option], family: int) -> list[Match]:  # noqa: ARG001
    return [header.Always(False)]


_TRANSPORT = Extension(_PORTS, _transport)
EXTENSIONS: Mapping[str, Extension] = {
    "tcp": Extension({**_PORTS, "--tcp-flags": 2, "--syn": 0, "--tcp-option": 1}, _transport),
    "udp": _TRANSPORT,
    "udplite": _TRANSPORT,
    "sctp": Extension({**_PORTS, "--chunk-types": 2}, _transport),
    "dccp": Extension({**_PORTS, "--dccp-types": 1, "--dccp-option": 1}, _transport),
    "icmp": Extension({"--icmp-type": 1}, _icmp),
    "icmp6": Extension({"--icmpv6-type": 1, "--icmp-type": 1}, _icmp),
    "multiport": Extension(
        dict.fromkeys(("--sports", "--source-ports", "--dports", "--destination-ports", "--ports"), 1), _multiport
    ),
    "state": Extension({"--state": 1}, _state),
    "conntrack": Extension(
        dict.fromkeys(
            "--ctstate --ctproto --ctorigsrc --ctorigdst --ctreplsrc --ctrepldst --ctorigsrcport --ctorigdstport"
            " --ctreplsrcport --ctrepldstport --ctstatus --ctexpire --ctdir".split(),
            1,
        ),
        _conntrack,
    ),
    "comment": Extension({"--comment": 1}, _nothing),
    "addrtype": Extension(
        {"--src-type": 1, "--dst-type": 1, "--limit-iface-in": 0, "--limit-iface-out": 0}, _addrtype
    ),
    "iprange": Extension({"--src-range": 1, "--dst-range": 1}, _iprange),
    "mark": Extension({"--mark": 1}, _mark),
    "connmark": Extension({"--mark": 1}, _connmark),
    "length": Extension({"--length": 1}, _length),
    "ttl": Extension({"--ttl-eq": 1, "--ttl-lt": 1, "--ttl-gt": 1, "--ttl": 1}, _ttl),
    "hl": Extension({"--hl-eq": 1, "--hl-lt": 1, "--hl-gt": 1, "--hl": 1}, _ttl),
    "dscp": Extension({"--dscp": 1, "--dscp-class": 1}, _dscp),
    "tos": Extension({"--tos": 1}, _tos),
    "mac": Extension({"--mac-source": 1}, _mac),
    "pkttype": Extension({"--pkt-type": 1}, _pkttype),
    "set": Extension(
        {
            "--match-set": 2,
            "--set": 2,
            "--return-nomatch": 0,
            **dict.fromkeys(("--update-counters", "--update-subcounters"), 0),
            **{f"--{what}-{how}": 1 for what in ("packets", "bytes") for how in ("eq", "lt", "gt")},
        },
        _set,
    ),
    "limit": Extension({"--limit": 1, "--limit-burst": 1}, _limit),
    "hashlimit": Extension(
        {
            **dict.fromkeys(
                "--hashlimit --hashlimit-upto --hashlimit-above --hashlimit-burst --hashlimit-mode --hashlimit-srcmask"
                " --hashlimit-dstmask --hashlimit-name --hashlimit-htable-size --hashlimit-htable-max"
                " --hashlimit-htable-expire --hashlimit-htable-gcinterval --hashlimit-rate-interval".split(),
                1,
            ),
            "--hashlimit-rate-match": 0,
        },
        _hashlimit,
    ),
    "physdev": Extension(
        {
            "--physdev-in": 1,
            "--physdev-out": 1,
            "--physdev-is-in": 0,
            "--physdev-is-out": 0,
            "--physdev-is-bridged": 0,
        },
        _physdev,
    ),
    "policy": Extension(
        {
            **dict.fromkeys("--dir --pol --reqid --spi --proto --mode --tunnel-src --tunnel-dst".split(), 1),
            "--strict": 0,
            "--next": 0,
        },
        _policy,
    ),
    "owner": Extension(
        {
            **dict.fromkeys("--uid-owner --gid-owner --pid-owner --sid-owner --cmd-owner".split(), 1),
            "--socket-exists": 0,
            "--suppl-groups": 0,
        },
        _owner,
    ),
    "helper": Extension({"--helper": 1}, _helper),
    "ecn": Extension({"--ecn-tcp-cwr": 0, "--ecn-tcp-ece": 0, "--ecn-ip-ect": 1}, _ecn),
    "recent": Extension(
        {
            **dict.fromkeys("--set --rcheck --update --remove --reap --rttl --rsource --rdest".split(), 0),
            **dict.fromkeys("--seconds --hitcount --name --mask".split(), 1),
        },
        _recent,
    ),
    "statistic": Extension(dict.fromkeys("--mode --probability --every --packet".split(), 1), _statistic),
    "nfacct": Extension({"--nfacct-name": 1}, _nothing),
    "frag": Extension({"--fragid": 1, **dict.fromkeys("--fragres --fragfirst --fragmore --fraglast".split(), 0), "--fraglen": 1}, _absent),
    "rt": Extension(
        {**dict.fromkeys("--rt-type --rt-segsleft --rt-len --rt-0-addrs".split(), 1), **dict.fromkeys("--rt-0-res --rt-0-not-strict".split(), 0)},
        _absent,
    ),
    "hbh": Extension({"--hbh-len": 1, "--hbh-opts": 1}, _absent),
    "dst": Extension({"--dst-len": 1, "--dst-opts": 1}, _absent),
}  # fmt: skip
"""Extensions that are modelled; ``icmp`` of IPv6 is found as ``icmp6``."""
