"""Faults of the network between hosts that depend on more than a port: flows by their hash, the first packets, translation."""

from __future__ import annotations

import secrets

from netdiag.lab.faults import HOST, INTERFACE, Fault, Kind, Parameter, Values, Work
from netdiag.lab.faults_firewall import MATCH, NETNS, add_native_table, native_match, netns_words
from netdiag.lab.topology import FABRIC


def _flow_hash(work: Work, values: Values) -> None:
    """As a bundle with a dead member does it: which one a flow takes follows from its addresses and ports."""
    proto = values["proto"]
    picked = ["jhash", proto, "sport", ".", proto, "dport", "mod", values["members"], "seed", "0x6e646961", "0", "drop"]
    add_native_table(work, FABRIC, "bridge", "forward", [*native_match(values, "forward"), *picked])


def _lose_first(work: Work, values: Values) -> None:
    """A table of its own: what it has let pass it counts no more, and it never drops again."""
    quota = ["quota", values["bytes"], "bytes", "drop"]
    add_native_table(work, FABRIC, "bridge", "forward", [*native_match(values, "forward"), *quota])


def _nat(work: Work, values: Values) -> None:
    """A bridge's packets pass the IP filters of the fabric, and are translated there."""
    keys = ["net.bridge.bridge-nf-call-iptables", "net.ipv4.ip_forward"]
    for key in keys:
        before = work.run(FABRIC, ["sysctl", "-n", key]).stdout.strip()
        work.run(FABRIC, ["sysctl", "-qw", f"{key}=1"], undo=["sysctl", "-qw", f"{key}={before}"])
    table = f"site_{secrets.token_hex(3)}"
    match = " ".join(native_match(values, "postrouting"))
    text = (
        f"table ip {table} {{ chain post {{ type nat hook postrouting priority 100;"
        f" {match} snat to {values['to']}; }}; }}\n"
    )
    gone = ["nft", "delete", "table", "ip", table]
    work.run(FABRIC, ["nft", "-f", "-"], stdin=text, undo=gone, only_if=["nft", "list", "table", "ip", table])


def _bad_checksum(work: Work, values: Values) -> None:
    """In VXLAN over IPv4: the TCP checksum of the inner packet, 66 bytes behind the outer UDP header's begin.

    A sum that the sender leaves to its card is none yet: the sender is made to fill it in.
    """
    within = netns_words(work, values)
    offload = [*within, "ethtool", "-K", values["interface"], "tx"]
    work.run(values["host"], [*offload, "off"], undo=[*offload, "on"])
    rule = ["udp", "dport", values["port"], "@th,312,8", "6", "@th,528,16", "set", "0x6e64"]
    add_native_table(work, FABRIC, "bridge", "forward", rule)


_PROTO = Parameter("proto", Kind.CHOICE, "protocol", required=True, choices=("tcp", "udp"))
_OTHERS = tuple(each for each in MATCH if each.name != "proto")

FAULTS = (
    Fault(
        "flow-hash",
        "One of several members of a bundle of links is dead: some flows die, by their ports.",
        (_PROTO, Parameter("members", Kind.NUMBER, "how many there are", default="4", low=2, high=64), *_OTHERS),
        _flow_hash,
        "proto=udp dport=4789",
    ),
    Fault(
        "bad-checksum",
        "TCP segments inside VXLAN arrive with a wrong checksum, as a card makes them that cannot do it.",
        (
            HOST,
            INTERFACE,
            Parameter("port", Kind.NUMBER, "the UDP port of VXLAN", default="4789", low=1, high=65535),
            NETNS,
        ),
        _bad_checksum,
        "host=worker",
    ),
    Fault(
        "lose-first",
        "Lose the first frames that cross the fabric, and none after them.",
        (Parameter("bytes", Kind.NUMBER, "so many bytes are lost", required=True, low=1), *MATCH),
        _lose_first,
        "bytes=100 proto=udp dport=4789",
    ),
    Fault(
        "nat",
        "The fabric gives packets another source address.",
        (Parameter("to", Kind.ADDRESS, "the address that they get", required=True), *MATCH),
        _nat,
        "source=10.71.0.2 to=10.71.0.77",
    ),
)
