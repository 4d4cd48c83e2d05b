"""Which frames a packet socket takes: classic BPF for one flow, plain or inside VXLAN.

The kernel runs it for every frame of the device, so that only headers of the flow ever come to user space. Offsets are
those of an Ethernet frame; a VLAN tag is taken off before a packet socket sees it. Only for a mark they begin at the
network header: a socket of kind SOCK_DGRAM gives it on devices without a link header as well (packet(7)). Sources:
linux/filter.h, RFC 7348.
"""

import socket
import struct
from typing import Any, Dict, List, Optional, Tuple

from netdiag.participant.marks import Mark, mark_of

SNAP_BYTES = 192
_LD_W, _LD_H, _LD_B = 0x20, 0x28, 0x30  # from a fixed place
_LD_WX, _LD_HX, _LD_BX = 0x40, 0x48, 0x50  # from a place behind X
_LDX_IHL, _LDX_IMM = 0xB1, 0x01
_JEQ, _JSET, _RET = 0x15, 0x45, 0x06
_RSH = 0x74
_ETHERNET = 14
_MOST_PORTS = 8

Instruction = Tuple[int, int, str, str]
"""Code, operand, and where to go when it is equal and when it is not ("" is the next one)."""


def program(flow: Dict[str, Any]) -> bytes:
    """The instructions for a flow.

    It holds ``a`` and ``b`` (addresses, either may send), ``others`` (addresses that may stand in a's place: 3 at most),
    ``proto`` (a number; None is any), ``port`` (of one of the two ends; None is any), ``vxlan_port`` (the flow is inside
    VXLAN to that UDP port), ``outer_six`` (over IPv6); or ``mark``: all probes of a run,
    whatever their addresses (`netdiag.participant.marks`), and with ``ports`` (8 at most) also whatever begins, answers
    or refuses a TCP connection to one of these: some firewalls give a segment another number; or only ``arp``: the
    search for one IPv4 address.
    """
    steps: List[Instruction] = []
    if flow.get("mark"):
        steps += _marked(mark_of(str(flow["mark"])), [int(port) for port in flow.get("ports") or ()][:_MOST_PORTS])
    elif flow.get("arp"):
        steps += _searched(str(flow["arp"]))
    elif flow.get("vxlan_port"):
        steps += _outer(bool(flow.get("outer_six")), int(flow["vxlan_port"]))
        start = 8 + 8 + _ETHERNET  # UDP, VXLAN and the inner Ethernet header, behind X
        steps += _inner(flow, start, indexed=True)
    else:
        steps += _inner(flow, 0, indexed=False)
    steps += [(_RET, SNAP_BYTES, "", ""), (_RET, 0, "", "")]
    return _assembled(steps)


def _marked(mark: Mark, ports: List[int]) -> List[Instruction]:
    """Everything with the mark: in a payload, in VXLAN's inner address, and in what begins or refuses a connection."""
    steps: List[Instruction] = [
        (_LD_B, 0, "", ""),
        (_RSH, 4, "", ""),
        (_JEQ, 4, "", "six"),
        (_LDX_IHL, 0, "", ""),
        (_LD_B, 9, "", ""),
        (_JEQ, 6, "tcp", "other"),
        (-1, 0, "six", ""),
        (_JEQ, 6, "", "no"),
        (_LDX_IMM, 40, "", ""),
        (_LD_B, 6, "", ""),
        (_JEQ, 6, "tcp", "other"),
        (-1, 0, "tcp", ""),
        (_LD_BX, 13, "", ""),
        (_JSET, 0x06, "", "no"),  # SYN or RST
        (_LD_HX, 4, "", ""),
        (_JEQ, mark.sequence_half, "yes", ""),
        (_LD_HX, 8, "", ""),
        (_JEQ, mark.sequence_half, "yes", ""),
    ]
    for place in (0, 2) if ports else ():
        steps.append((_LD_HX, place, "", ""))
        steps += [(_JEQ, port, "yes", "") for port in ports]
    steps += [
        (_JEQ, 0, "no", "no"),
        (-1, 0, "other", ""),
        (_LD_WX, 8, "", ""),
        (_JEQ, struct.unpack(">I", mark.raw)[0], "yes", ""),
        (_LD_WX, 16, "", ""),
        (_JEQ, struct.unpack(">I", mark.inner_mac)[0], "yes", "no"),
        (-1, 0, "yes", ""),
    ]
    return steps


def _searched(address: str) -> List[Instruction]:
    """ARP that asks for an address, or tells it (RFC 826)."""
    wanted = struct.unpack(">I", socket.inet_pton(socket.AF_INET, address))[0]
    return [
        (_LD_H, 12, "", ""),
        (_JEQ, 0x0806, "", "no"),
        (_LD_W, _ETHERNET + 24, "", ""),
        (_JEQ, wanted, "yes", ""),
        (_LD_W, _ETHERNET + 14, "", ""),
        (_JEQ, wanted, "yes", "no"),
        (-1, 0, "yes", ""),
    ]


def _outer(six: bool, port: int) -> List[Instruction]:
    """UDP to the VXLAN port; leaves the place behind the outer IP header in X."""
    if six:
        return [
            (_LD_H, 12, "", ""),
            (_JEQ, 0x86DD, "", "no"),
            (_LD_B, _ETHERNET + 6, "", ""),
            (_JEQ, 17, "", "no"),
            (_LDX_IMM, 40, "", ""),
            (_LD_HX, _ETHERNET + 2, "", ""),
            (_JEQ, port, "", "no"),
        ]
    return [
        (_LD_H, 12, "", ""),
        (_JEQ, 0x0800, "", "no"),
        (_LD_B, _ETHERNET + 9, "", ""),
        (_JEQ, 17, "", "no"),
        (_LDX_IHL, _ETHERNET, "", ""),
        (_LD_HX, _ETHERNET + 2, "", ""),
        (_JEQ, port, "", "no"),
    ]


def _inner(flow: Dict[str, Any], start: int, indexed: bool) -> List[Instruction]:
    word, half, byte = (_LD_WX, _LD_HX, _LD_BX) if indexed else (_LD_W, _LD_H, _LD_B)
    six = ":" in str(flow["a"])
    family = socket.AF_INET6 if six else socket.AF_INET
    end = socket.inet_pton(family, str(flow["b"]))
    begins = [socket.inet_pton(family, str(each)) for each in [flow["a"], *(flow.get("others") or ())[:3]]]
    network = start + _ETHERNET
    size, source = (16, 8) if six else (4, 12)
    steps: List[Instruction] = [(half, start + 12, "", ""), (_JEQ, 0x86DD if six else 0x0800, "", "no")]
    proto = flow.get("proto")
    if proto is not None:
        steps += [(byte, network + (6 if six else 9), "", ""), (_JEQ, int(proto), "", "no")]
    pairs = [pair for begin in begins for pair in (begin + end, end + begin)]
    # Every pair ends at the ports; the next one is tried where one does not fit.
    for number, pair in enumerate(pairs):
        last = number == len(pairs) - 1
        steps += _addresses(word, network + source, pair, "no" if last else "pair-{}".format(number + 1))
        if not last:
            steps += [(_JEQ, 0, "ports", "ports"), (-1, 0, "pair-{}".format(number + 1), "")]
    steps.append((-1, 0, "ports", ""))
    port = flow.get("port")
    if port is not None and proto in (6, 17):
        # As long as the flow's own packets are; one with IP options is not taken.
        transport = network + (40 if six else 20)
        steps += [(half, transport, "", ""), (_JEQ, int(port), "yes", "")]
        steps += [(half, transport + 2, "", ""), (_JEQ, int(port), "yes", "no"), (-1, 0, "yes", "")]
    return steps


def _addresses(word: int, at: int, value: bytes, otherwise: str) -> List[Instruction]:
    steps: List[Instruction] = []
    for offset in range(0, len(value), 4):
        steps += [(word, at + offset, "", ""), (_JEQ, struct.unpack_from(">I", value, offset)[0], "", otherwise)]
    return steps


def _assembled(steps: List[Instruction]) -> bytes:
    """Resolve the names; "no" is the last instruction. A step of code -1 is a place that has a name."""
    places: Dict[str, int] = {}
    real: List[Instruction] = []
    for step in steps:
        if step[0] == -1:
            places[step[2]] = len(real)
        else:
            real.append(step)
    places["no"] = len(real) - 1
    packed = []
    for index, (code, operand, equal, otherwise) in enumerate(real):
        jump = [_distance(places, name, index) for name in (equal, otherwise)]
        packed.append(struct.pack("=HBBI", code, jump[0], jump[1], operand))
    return b"".join(packed)


def _distance(places: Dict[str, int], name: str, index: int) -> int:
    target: Optional[int] = places[name] if name else index + 1
    return (target or 0) - index - 1
