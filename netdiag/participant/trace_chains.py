"""The chains that a trace hangs into nf_tables: where it begins, where it ends, and what keeps answers from leaving.

A packet of ours is known by its tuple at its first hook and, behind any address translation, by its tag. The chains
named ``end-`` stand behind all others: what comes so far was let through by everybody, and is taken away there.
"""

import socket
import struct
from typing import List, NamedTuple, Sequence

from netdiag.participant import nftables, packets
from netdiag.participant.nftables import NETWORK, TRANSPORT, Chain


class Way(NamedTuple):
    """How a packet goes through this namespace.

    ``egress_devices``: those at whose egress hook it ends. ``elsewhere``: behind POSTROUTING only what leaves by
    another device than ``out_device`` ends; else everything does. ``bridged``: ``in_device`` is a bridge's port.
    ``copied``: where a bridge sends a copy out by each port that may be the right one: "forward", or "output" for what
    comes out of the bridge's own device; empty where none does. ``loopback``: what leaves comes back by the loopback
    device, and goes on to INPUT.
    """

    path: str
    in_device: str
    out_device: str
    egress_devices: Sequence[str]
    elsewhere: bool
    bridged: bool
    loopback: bool
    copied: str = ""


def chains_of(flow: packets.Flow, way: Way, watch_egress: bool) -> List[Chain]:
    """The chains for one packet; without ``watch_egress`` none at an egress hook, which kernels before 5.16 lack."""
    chains = _beginning(flow, way) + _answers(flow, way, watch_egress) + _ends(flow, way, watch_egress)
    return chains + [copy_mark(way.copied)] if way.copied else chains


def copy_mark(hook: str) -> Chain:
    """A chain that does nothing but have each copy of a packet begin with an event that tells its port."""
    number = nftables.OUTPUT if hook == "output" else nftables.FORWARD
    return Chain(nftables.NFPROTO_BRIDGE, "copy-" + hook, number, nftables.FIRST, "", ())


def _beginning(flow: packets.Flow, way: Way) -> List[Chain]:
    exact = (match_flow(flow) + nftables.set_trace(),)
    if way.path == "out":
        return [_inet("begin", nftables.OUTPUT, nftables.FIRST, exact)]
    chains = [Chain(nftables.NFPROTO_NETDEV, "begin", nftables.INGRESS, nftables.FIRST, way.in_device, exact)]
    if way.bridged:
        chains.append(Chain(nftables.NFPROTO_BRIDGE, "begin", nftables.PREROUTING, nftables.FIRST, "", exact))
    if flow.arp:
        chains.append(Chain(nftables.NFPROTO_ARP, "begin", nftables.ARP_INPUT, nftables.FIRST, "", exact))
    else:
        chains.append(_inet("begin", nftables.PREROUTING, nftables.FIRST, exact))
    return chains


def _answers(flow: packets.Flow, way: Way, watch_egress: bool) -> List[Chain]:
    """What this host would answer to a packet that arrives goes no further than its own filters."""
    if way.path == "out" or flow.arp:
        return []
    rules = tuple(match + nftables.drop() for match in match_answers(flow))
    chains = [_inet("answers", nftables.OUTPUT, nftables.FIRST, rules)]
    if watch_egress:
        # What the families netdev and bridge reject is answered without passing OUTPUT.
        chains.append(Chain(nftables.NFPROTO_NETDEV, "answers", nftables.EGRESS, nftables.FIRST, way.in_device, rules))
    return chains


def _ends(flow: packets.Flow, way: Way, watch_egress: bool) -> List[Chain]:
    end = match_tag(flow) + nftables.drop()
    chains = []
    if flow.arp:
        chains.append(Chain(nftables.NFPROTO_ARP, "end-input", nftables.ARP_INPUT, nftables.LAST, "", (end,)))
    elif way.path != "out" or way.loopback:
        chains.append(_inet("end-input", nftables.INPUT, nftables.LAST, (end,)))
    devices = list(way.egress_devices) if watch_egress else []
    if not flow.arp and not way.loopback:
        behind = end
        if devices and way.elsewhere:
            index = struct.pack("=I", socket.if_nametoindex(way.out_device))
            behind = nftables.meta_is(nftables.META_OIF, index, differs=True) + end
        chains.append(_inet("end-postrouting", nftables.POSTROUTING, nftables.LAST, (behind,)))
    for number, device in enumerate(devices):
        name = "end-egress-{}".format(number)
        chains.append(Chain(nftables.NFPROTO_NETDEV, name, nftables.EGRESS, nftables.LAST, device, (end,)))
    return chains


def _inet(name: str, hook: int, priority: int, rules: Sequence[bytes]) -> Chain:
    return Chain(nftables.NFPROTO_INET, name, hook, priority, "", tuple(rules))


def match_tag(flow: packets.Flow) -> bytes:
    """This packet, whatever address translation made of its tuple."""
    kind = nftables.meta_is(nftables.META_PROTOCOL, struct.pack(">H", flow.ethertype))
    if flow.arp:
        return kind + nftables.payload_is(NETWORK, flow.tag_at, flow.tag)
    protocol = nftables.meta_is(nftables.META_L4PROTO, bytes([flow.protocol]))
    return kind + protocol + nftables.payload_is(TRANSPORT, flow.tag_at, flow.tag)


def match_flow(flow: packets.Flow) -> bytes:
    """This packet by its whole tuple and its tag."""
    match = match_tag(flow)
    half = len(flow.addresses) // 2
    source, target = flow.addresses[:half], flow.addresses[half:]
    if flow.arp:
        return match + nftables.payload_is(NETWORK, 14, source) + nftables.payload_is(NETWORK, 24, target)
    # In two parts: a register holds 16 bytes.
    at = 8 if flow.six else 12
    match += nftables.payload_is(NETWORK, at, source) + nftables.payload_is(NETWORK, at + half, target)
    if flow.protocol in (6, 17):
        match += nftables.payload_is(TRANSPORT, 0, struct.pack(">HH", flow.sport, flow.dport))
    return match


def match_answers(flow: packets.Flow) -> List[bytes]:
    """What this host would answer (`packets.replies`)."""
    half = len(flow.addresses) // 2
    kind = nftables.meta_is(nftables.META_PROTOCOL, struct.pack(">H", flow.ethertype))
    back = kind + nftables.payload_is(NETWORK, (8 if flow.six else 12) + half, flow.addresses[:half])
    matches = []
    for reply in packets.replies(flow):
        match = back + nftables.meta_is(nftables.META_L4PROTO, bytes([reply.protocol]))
        matches.append(match + b"".join(nftables.payload_is(TRANSPORT, at, value) for at, value in reply.places))
    return matches
