"""A healthy path between host-b (this one) and host-a (the manager), and the ways in which a test makes it ill."""

import itertools

import msgspec

from netdiag.model.facts import HOST, Address, Backend, Identity
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracedPacket, TracePath, TraceVerdict
from netdiag.model.two_sided import ClockOffset, Heard, LossTrace, Payload, PeerView, SidedProbe, Way
from tests.unit.checks.factory import MANAGER, OWN, context, facts, probe

THERE, BACK = Way.THERE, Way.BACK
_numbers = itertools.count(1)


def sided(way, protocol, port=None, **fields):
    """A probe that came through, and whose answer came back."""
    source, target = (OWN, MANAGER) if way is THERE else (MANAGER, OWN)
    tcp = protocol == "tcp"
    times = 1 if tcp else 2
    heard = {"tcp": "connected", "icmp": "reply"}.get(protocol, "nothing")
    return SidedProbe(
        **{
            "number": next(_numbers),
            "way": way,
            "protocol": protocol,
            "port": port,
            "expected": tcp,
            "source": source,
            "source_port": 40000,
            "destination": target,
            "sent": times,
            "left": times,
            "arrived": times,
            "passed": None if protocol in ("tcp", "icmp") else times,
            "answers_left": times if heard != "nothing" else 0,
            "answers_arrived": times if heard != "nothing" else 0,
            "heard": Heard(kind=heard, rtt_us=300 if heard != "nothing" else None),
            "left_source": source,
            "left_destination": target,
            "seen_source": source,
            "seen_source_port": 40000,
            "seen_destination": target,
            **fields,
        }
    )


def healthy(*, back_control=False, encrypted=False, size=1500):
    probes = []
    for way in Way:
        probes.append(sided(way, "icmp"))
        if way is THERE or back_control:
            probes.append(sided(way, "tcp", 2377))
        probes += [sided(way, "tcp", 7946), sided(way, "udp", 7946), sided(way, "udp", 4789)]
        probes += [sided(way, "udp", 4789, payload=Payload.VXLAN)]
        probes += [sided(way, "udp", 4789, payload=Payload.VXLAN, length_bytes=size)]
        probes += [sided(way, "icmp", length_bytes=size)]
        if encrypted:
            probes.append(sided(way, "esp"))
    return probes


def changed(probes, way, protocol, port=None, *, payload=None, sizes=False, **fields):
    """The probes with some of one kind made ill."""
    return [
        msgspec.structs.replace(each, **fields)
        if (each.way, each.protocol, each.port) == (way, protocol, port)
        and (payload is None or each.payload is payload)
        and (each.length_bytes is not None) == sizes
        else each
        for each in probes
    ]


LOST_AT_RECEIVER = {"passed": 0, "answers_left": 0, "answers_arrived": 0, "heard": Heard()}
LOST_TCP = {"answers_left": 0, "answers_arrived": 0, "heard": Heard()}
LOST_BETWEEN = {
    "resent": 5,
    "arrived": 0,
    "passed": 0,
    "answers_left": 0,
    "answers_arrived": 0,
    "heard": Heard(),
    "seen_source": "",
    "seen_destination": "",
}


def rule(text="-A INPUT -p udp -m udp --dport 4789 -j DROP", **fields):
    return FirewallRule(
        **{
            "backend": Backend.IPTABLES_NFT,
            "family": "ip",
            "table": "filter",
            "chain": "INPUT",
            "number": 1,
            "handle": 7,
            "text": text,
            **fields,
        }
    )


def traced(lost, *, verdict=TraceVerdict.DROP, found=None, outward=False, at_peer=None, answer=False, **fields):
    """The trace of a probe at the host that lost it."""
    receiver_is_peer = lost.way is THERE
    packet = TracedPacket(
        path=TracePath.OUT if outward else TracePath.IN,
        source=lost.source,
        destination=lost.destination,
        protocol=lost.protocol,
        source_port=lost.source_port,
        destination_port=lost.port,
        in_device="" if outward else "eth0",
        out_device="eth0" if outward else "",
    )
    stops = verdict in (TraceVerdict.DROP, TraceVerdict.REJECT)
    return LossTrace(
        number=lost.number,
        at_peer=(not receiver_is_peer if outward else receiver_is_peer) if at_peer is None else at_peer,
        outward=outward,
        answer=answer,
        trace=Trace(
            verdict=verdict,
            rule=(found or rule()) if stops else None,
            policy=None,
            confidence=Confidence.PROVEN,
            path=(),
            level="owned-trace",
            elapsed_ms=1.0,
            reason="",
            packet=packet,
            **fields,
        ),
    )


def peer_facts(name="host-a", address=MANAGER, **sections):
    return facts(
        identity=Identity(hostname=name, kernel_release="6.1.0", distribution_id="debian", is_root=True),
        addresses={HOST: (Address(device="eth0", cidr=f"{address}/24"),)},
        **sections,
    )


def view(probes=None, **fields):
    return PeerView(
        **{
            "given": MANAGER,
            "address": MANAGER,
            "own_address": OWN,
            "device": "eth0",
            "peer_device": "eth0",
            "facts": peer_facts(),
            "probes": tuple(healthy() if probes is None else probes),
            "clock": ClockOffset(offset_s=0.001, error_s=0.0005, round_trips=3),
            "is_manager": True,
            **fields,
        }
    )


def together(*views, managers=(), options=None, **sections):
    """This host with what it found out together with peers."""
    return context(*(managers or (probe(),)), options=options, observed={"peers": views}, **sections)


def first(probes, way, protocol, port=None):
    return next(each for each in probes if (each.way, each.protocol, each.port) == (way, protocol, port))
