"""Attaches a BPF program that drops packets, as `python -m netdiag.lab.drop_program`; it stays when the command has ended.

A lab has no compiler for BPF, so that the few instructions are written by hand (linux/bpf.h, linux/if_link.h,
linux/pkt_cls.h). Only IPv4 headers without options match.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys

from netdiag.errors import LabError
from netdiag.participant import bpf
from netdiag.participant.deadline import Deadline
from netdiag.participant.netlink import (
    NETLINK_ROUTE,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    attribute,
    open_netlink,
    request,
)

NAME = "site_drop"
PREFERENCE = 49152
_RTM_SETLINK, _RTM_NEWQDISC, _RTM_NEWTFILTER = 19, 36, 44
_IFLA_XDP, _XDP_FD, _XDP_FLAGS, _XDP_GENERIC = 43, 1, 3, 2
_TCA_KIND, _TCA_OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_DIRECT = 6, 7, 8, 1
_CLSACT = (0xFFFF0000, 0xFFFFFFF1)
_TCX = {"ingress": bpf.TCX_INGRESS, "egress": bpf.TCX_EGRESS}
_HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_XDP_DROP, _XDP_PASS = 1, 2
_TCMSG = struct.Struct("=BxxxiIII")
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}


def places(protocol: int, port: int | None) -> list[tuple[int, bytes]]:
    """What a frame has where: the bytes by which a program knows it."""
    found = [(12, b"\x08\x00"), (23, bytes([protocol]))]
    return [*found, *([(36, struct.pack(">H", port))] if port is not None else [])]


def xdp_program(matches: list[tuple[int, bytes]], *, drops: bool) -> bytes:
    """A program for XDP that drops what has all of the matches (1 or 2 bytes each), or passes everything."""
    load = {1: 0x71, 2: 0x69}
    tests: list[bytes | tuple[int, int, int]] = []
    for offset, value in matches:
        tests.append(bpf.instruction(load[len(value)], 4, 0, source=6, offset=offset))
        tests.append((0x55, 4, int.from_bytes(value, sys.byteorder)))
    drop = [bpf.instruction(0xB7, 0, _XDP_DROP if drops else _XDP_PASS), bpf.instruction(0x95, 0, 0)]
    begin: list[bytes | tuple[int, int, int]] = [
        bpf.instruction(0x61, 6, 0, source=1, offset=0),  # r6 = where the frame begins
        bpf.instruction(0x61, 2, 0, source=1, offset=4),  # r2 = where it ends
        bpf.instruction(0xBF, 3, 0, source=6),
        bpf.instruction(0x07, 3, 38),
        (0x2D, 3, 0),  # shorter than what is compared
    ]
    steps: list[bytes | tuple[int, int, int]] = [
        *begin,
        *tests,
        *drop,
    ]  # a tuple is a jump to the end: code, register, value
    program = b""
    for index, step in enumerate(steps):
        if isinstance(step, bytes):
            program += step
        else:
            code, register, operand = step
            source = 2 if code == 0x2D else 0
            program += bpf.instruction(code, register, operand, source=source, offset=len(steps) - index - 1)
    return program + bpf.instruction(0xB7, 0, _XDP_PASS) + bpf.instruction(0x95, 0, 0)


def attach_xdp(device: str, program: int, *, generic: bool) -> None:
    """Attach a loaded program to a device. LabError when the kernel refuses."""
    flags = attribute(_XDP_FLAGS, struct.pack("=I", _XDP_GENERIC)) if generic else b""
    nested = attribute(_XDP_FD, struct.pack("=i", program)) + flags
    body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(device), 0, 0)
    _ask(_RTM_SETLINK, body + attribute(_IFLA_XDP | NLA_F_NESTED, nested), NLM_F_REQUEST)


def attach_tc(device: str, program: int, hook: str) -> None:
    """Attach a loaded program to a hook of a device that has no clsact discipline yet. LabError when refused."""
    index = socket.if_nametoindex(device)
    flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL
    _ask(_RTM_NEWQDISC, _TCMSG.pack(0, index, *_CLSACT, 0) + attribute(_TCA_KIND, b"clsact\0"), flags)
    options = (
        attribute(_BPF_FD, struct.pack("=I", program))
        + attribute(_BPF_NAME, NAME.encode() + b"\0")
        + attribute(_BPF_FLAGS, struct.pack("=I", _BPF_DIRECT))
    )
    body = _TCMSG.pack(0, index, 0, _HOOKS[hook], PREFERENCE << 16 | socket.htons(3))
    body += attribute(_TCA_KIND, b"bpf\0") + attribute(_TCA_OPTIONS | NLA_F_NESTED, options)
    _ask(_RTM_NEWTFILTER, body, flags)


def _take_off(device: str, hook: str) -> None:
    index = socket.if_nametoindex(device)
    for number, _ in bpf.attached(index, _TCX[hook]):
        program = bpf.by_id(number)
        bpf.take_off_tcx(program, index, _TCX[hook])
        os.close(program)


def _ask(kind: int, body: bytes, flags: int) -> None:
    tried = f"rtnetlink message {kind}"
    with open_netlink(NETLINK_ROUTE, tried, 1 << 16, False) as sock:
        answer = request(sock, kind, flags | NLM_F_ACK, body, Deadline(5.0), tried)
    if answer["errno"]:
        raise LabError(f"{tried}: {answer['text']}")


def main() -> None:
    """Read the arguments and attach."""
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("--hook", choices=("xdp", "xdp-native", *_HOOKS), required=True)
    parser.add_argument("--proto", choices=tuple(_PROTOCOLS), required=True)
    parser.add_argument("--dport", type=int)
    parser.add_argument("--passes", action="store_true")
    parser.add_argument("--tcx", action="store_true", help="beside the classic filters")
    parser.add_argument("--off", action="store_true", help="with --tcx: take all programs off")
    asked = parser.parse_args()
    if asked.off:
        _take_off(asked.device, asked.hook)
        return
    matches = places(_PROTOCOLS[asked.proto], asked.dport)
    if asked.hook.startswith("xdp"):
        program = bpf.load(xdp_program(matches, drops=not asked.passes), bpf.XDP)
        attach_xdp(asked.device, program, generic=asked.hook == "xdp")
    else:
        program = bpf.load(bpf.drop_matching([] if asked.passes else [matches]))
        if asked.tcx:
            bpf.hang_tcx(program, socket.if_nametoindex(asked.device), _TCX[asked.hook])
        else:
            attach_tc(asked.device, program, asked.hook)
    os.close(program)


if __name__ == "__main__":
    main()
