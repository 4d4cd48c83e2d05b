"""Faults of a host's kernel: programs on its devices that drop before any firewall, and a table that is full."""

from __future__ import annotations

import sys

from netdiag.lab.faults import HOST, INTERFACE, Fault, Kind, Parameter, Values, Work

_ATTACH = (sys.executable, "-m", "netdiag.lab.drop_program")


def _attach(values: Values, hook: str) -> list[str]:
    port = ["--dport", values["dport"]] if "dport" in values else []
    passes = ["--passes"] if values["action"] == "pass" else []
    return [*_ATTACH, values["interface"], "--hook", hook, "--proto", values["proto"], *port, *passes]


def _xdp_drop(work: Work, values: Values) -> None:
    native = values["mode"] == "native"
    hook = "xdp-native" if native else "xdp"
    off = ["ip", "link", "set", "dev", values["interface"], "xdpdrv" if native else "xdpgeneric", "off"]
    work.run(values["host"], _attach(values, hook), undo=off)


def _tc_drop(work: Work, values: Values) -> None:
    if values["by"] == "tcx":
        attach = [*_attach(values, values["direction"]), "--tcx"]
        work.run(values["host"], attach, undo=[*attach, "--off"])
        return
    undo = ["tc", "qdisc", "del", "dev", values["interface"], "clsact"]
    there = ["tc", "qdisc", "show", "dev", values["interface"], "clsact"]
    work.run(values["host"], _attach(values, values["direction"]), undo=undo, only_if=there)


def _conntrack_full(work: Work, values: Values) -> None:
    fill = [sys.executable, "-m", "netdiag.lab.fill_conntrack", "--percent", values["percent"]]
    # What was there before would end by and by, and make room.
    work.run(values["host"], ["conntrack", "-F"])
    work.run(values["host"], fill, undo=["conntrack", "-F"])


_PROGRAM = (
    HOST,
    INTERFACE,
    Parameter("proto", Kind.CHOICE, "protocol", default="tcp", choices=("tcp", "udp", "icmp")),
    Parameter("dport", Kind.NUMBER, "destination port", low=1, high=65535),
    Parameter("action", Kind.CHOICE, "what the program does", default="drop", choices=("drop", "pass")),
)

FAULTS = (
    Fault(
        "xdp-drop",
        "An XDP program that drops before packet sockets and firewalls see anything.",
        (*_PROGRAM, Parameter("mode", Kind.CHOICE, "how it runs", default="generic", choices=("generic", "native"))),
        _xdp_drop,
        "host=worker proto=udp dport=4789",
    ),
    Fault(
        "tc-drop",
        "A tc filter (BPF) that drops between the device and the firewall.",
        (
            *_PROGRAM,
            Parameter("direction", Kind.CHOICE, "which hook", default="ingress", choices=("ingress", "egress")),
            Parameter(
                "by",
                Kind.CHOICE,
                "a filter that tc shows, or a program beside them",
                default="filter",
                choices=("filter", "tcx"),
            ),
        ),
        _tc_drop,
        "host=worker proto=udp dport=4789",
    ),
    Fault(
        "conntrack-full",
        "A connection tracking table that is full, or nearly so; its maximum belongs to the whole machine.",
        (HOST, Parameter("percent", Kind.NUMBER, "how full", default="100", low=1, high=100)),
        _conntrack_full,
        "host=worker percent=1",
    ),
)
