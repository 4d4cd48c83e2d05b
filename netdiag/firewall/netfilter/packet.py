"""From a packet as the operator describes it to what the first hook sees of it."""

from __future__ import annotations

import ipaddress

from netdiag.firewall.netfilter.addresses import read_number
from netdiag.firewall.netfilter.names import ICMP_TYPES, ICMPV6_TYPES
from netdiag.firewall.netfilter.skb import (
    ICMP,
    ICMPV6,
    STATES,
    SYN,
    TCP,
    TCP_FLAGS,
    WITH_PORTS,
    Skb,
    Tuple,
    first_state,
)
from netdiag.firewall.netfilter.traverse import Asked, Route
from netdiag.model.explain import Hook, PacketLine
from netdiag.model.protocols import number_of

_GRE = 47
_WITH_CODES = {4: frozenset({3, 5, 9, 11, 12}), 6: frozenset({1, 3, 4})}
"""Types of ICMP that come with several codes (IANA)."""
_ROUTES_OF = {
    Hook.PREROUTING: (Route.IN, Route.FORWARD),
    Hook.INPUT: (Route.IN,),
    Hook.FORWARD: (Route.FORWARD,),
    Hook.OUTPUT: (Route.OUT,),
    Hook.POSTROUTING: (Route.OUT, Route.FORWARD),
}


def asked_of(packet: PacketLine) -> Asked:
    """The packet, ready to be followed. Raises ValueError for what does not go together, in a line."""
    family, source, destination = _ends(packet)
    protocol = _protocol(packet, family)
    if protocol not in WITH_PORTS and (packet.sport is not None or packet.dport is not None):
        raise ValueError(f"protocol {packet.proto} has no ports")
    if protocol not in (ICMP, ICMPV6) and (packet.icmp_type is not None or packet.icmp_code is not None):
        raise ValueError("an ICMP type, and another protocol")
    if protocol != TCP and packet.tcp_flags is not None:
        raise ValueError("TCP flags, and another protocol")
    hook, route = _place(packet)
    said = packet.path is not None or hook is not Hook.PREROUTING
    kind, code = _icmp(packet, family)
    ports = _flow_ports(packet, protocol, kind, code)
    ends = Tuple(source=source, destination=destination, source_port=ports[0], destination_port=ports[1])
    skb = Skb(
        family=family,
        protocol=protocol,
        source=source,
        destination=destination,
        source_port=_port(packet.sport),
        destination_port=_port(packet.dport),
        icmp_type=kind if protocol in (ICMP, ICMPV6) else None,
        icmp_code=code if protocol in (ICMP, ICMPV6) else None,
        tcp_flags=_flags(packet.tcp_flags) if protocol == TCP else None,
        ttl=_between(packet.ttl, 1, 255, "ttl", 64),
        length=_between(packet.length, 20, 65535, "length", None),
        mark=_mark(packet.mark),
        in_device=_in_device(packet, hook, route),
        out_device=_out_device(packet, hook, route),
        mac=_mac(packet.mac),
        local=_is_local(packet, route) if said else None,
        from_here=route is Route.OUT,
        original=ends,
    )
    return Asked(
        skb=skb,
        route=route,
        state=_state(packet, skb),
        is_state_said=packet.state is not None,
        hook=hook.value if hook is not None else "",
        out_device=packet.out_device,
    )


def _ends(packet: PacketLine) -> tuple[int, int | None, int | None]:
    found = [ipaddress.ip_address(each) if each else None for each in (packet.source, packet.destination)]
    versions = {each.version for each in found if each is not None}
    if len(versions) > 1:
        raise ValueError(f"{packet.source} and {packet.destination} are of two families")
    six = str(packet.proto).lower() in ("icmpv6", "ipv6-icmp", "icmp6", "58")
    source, destination = (None if each is None else int(each) for each in found)
    return versions.pop() if versions else 6 if six else 4, source, destination


def _protocol(packet: PacketLine, family: int) -> int:
    if packet.proto is None:
        ported = packet.sport is not None or packet.dport is not None or packet.tcp_flags is not None
        return TCP if ported else ICMPV6 if family == 6 else ICMP
    written = str(packet.proto).lower()
    number = ICMPV6 if written == "icmp6" or (written == "icmp" and family == 6) else number_of(written)
    if number is None or number > 255:
        raise ValueError(f"protocol {packet.proto!r} is not known")
    if number == ICMPV6 and family == 4:
        raise ValueError("icmpv6 between IPv4 addresses")
    return number


def _icmp(packet: PacketLine, family: int) -> tuple[int, int | None]:
    """Its type, an echo request unless another is said, and its code where that is said or can be no other."""
    names = ICMPV6_TYPES if family == 6 else ICMP_TYPES
    kind, code = 128 if family == 6 else 8, packet.icmp_code
    if isinstance(packet.icmp_type, str) and packet.icmp_type in names:
        kind, first, last = names[packet.icmp_type]
        code = first if first == last and code is None else code
    elif packet.icmp_type is not None:
        kind = read_number(str(packet.icmp_type), 255)
    if code is None and kind not in _WITH_CODES[family]:
        code = 0
    return kind, _between(code, 0, 255, "ICMP code", None)


def _flow_ports(packet: PacketLine, protocol: int, kind: int, code: int | None) -> tuple[int | None, int | None]:
    """What conntrack has in the place of ports: of ICMP an id, and type and code; of GRE a key; of others nothing."""
    if protocol in WITH_PORTS:
        return packet.sport, packet.dport
    if protocol in (ICMP, ICMPV6):
        return None, None if code is None else kind << 8 | code
    return (None, None) if protocol == _GRE else (0, 0)


def _place(packet: PacketLine) -> tuple[Hook | None, Route]:
    path = Route(packet.path.value) if packet.path is not None else None
    if packet.hook is None:
        return None, path or Route.IN
    try:
        hook = Hook(packet.hook.upper())
    except ValueError:
        raise ValueError(f"no hook is called {packet.hook!r}: {', '.join(each.value for each in Hook)}") from None
    if path is None and hook is Hook.POSTROUTING and packet.in_device:
        return hook, Route.FORWARD
    if path is not None and path not in _ROUTES_OF[hook]:
        raise ValueError(f"a packet of the path {path.value} does not come to {hook.value}")
    return hook, path or _ROUTES_OF[hook][0]


def _is_local(packet: PacketLine, route: Route) -> bool | None:
    if route is Route.OUT:
        return False if packet.out_device not in (None, "", "lo") else None
    return route is Route.IN


def _in_device(packet: PacketLine, hook: Hook | None, route: Route) -> str | None:
    if route is Route.OUT:
        return ""
    # Whether a forwarded packet still has it there differs between kernels.
    return None if hook is Hook.POSTROUTING else packet.in_device


def _out_device(packet: PacketLine, hook: Hook | None, route: Route) -> str | None:
    if hook in (Hook.PREROUTING, Hook.INPUT) or (hook is None and route is not Route.OUT):
        return ""
    return packet.out_device


def _state(packet: PacketLine, skb: Skb) -> str:
    if packet.state is None:
        return first_state(skb)
    state = packet.state.upper()
    if state not in STATES:
        raise ValueError(f"no state is called {packet.state!r}: {', '.join(sorted(STATES))}")
    return state


def _port(port: int | None) -> int | None:
    return _between(port, 0, 65535, "port", None)


def _between(number: int | None, low: int, high: int, name: str, default: int | None) -> int | None:
    if number is not None and not low <= number <= high:
        raise ValueError(f"{name} {number} is not between {low} and {high}")
    return default if number is None else number


def _flags(text: str | None) -> int:
    if text is None:
        return SYN
    names = [name for name in text.lower().split(",") if name not in ("", "none")]
    unknown = [name for name in names if name not in TCP_FLAGS]
    if unknown:
        raise ValueError(f"no TCP flag is called {unknown[0]!r}")
    return sum({TCP_FLAGS[name] for name in names})


def _mark(mark: str | int | None) -> int:
    if mark is None:
        return 0
    return read_number(str(mark).partition("/")[0], 0xFFFFFFFF)


def _mac(text: str | None) -> str | None:
    if text is None:
        return None
    digits = text.lower().replace(":", "").replace("-", "")
    if len(digits) != 12 or any(digit not in "0123456789abcdef" for digit in digits):
        raise ValueError(f"{text!r} is no link address")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
