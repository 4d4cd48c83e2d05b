"""Two halves of a diagnosis by hand."""

import msgspec

from netdiag.causes import cause
from netdiag.model.half import Half, HalfCount, HalfEnd, HalfFlow, HalfPlace, HalfRound, Outcome, Told
from netdiag.model.path import Side, Stage
from netdiag.model.report import Confidence, Remedy

DUE_S = 1_790_000_040
NIC = HalfPlace(stage=Stage.NIC, namespace="host", device="eth0")
FLOW = HalfFlow(source="192.0.2.1", destination="192.0.2.2", protocol="tcp", port=2377)
COMMAND = "iptables -I INPUT 5 -s 192.0.2.1 -p tcp --dport 2377 -m comment --comment netdiag-6b063694 -j ACCEPT"


def rule(host="far", **more):
    thing = {
        "kind": "rule",
        "backend": "iptables-nft",
        "namespace": "host",
        "family": "ip",
        "table": "filter",
        "chain": "INPUT",
        "number": 5,
        "handle": None,
        "text": "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "owner": "operator",
        **more,
    }
    remedy = Remedy(host=host, summary="accept", commands=(COMMAND,), undo=(COMMAND.replace("-I INPUT 5", "-D INPUT"),))
    return cause("firewall.rule", host=host, object=thing, confidence=Confidence.PROVEN, remedy=(remedy,))


def told(**more):
    return Told(cause=rule(), **more)


def turn(there=1, back=0, refused=0, due_s=DUE_S, **more):
    return HalfRound(due_s=due_s, counts=(HalfCount(there, back, refused),), **more)


def near(*rounds, **more):
    first = turn(outcome=Outcome.LOST, detail="no answer within 1.15 s")
    given = {"flow": FLOW, "within_s": 60, "places": (NIC,), **more}
    return Half(side=Side.SOURCE, host="near", rounds=rounds or (first,), **given)


def far(*rounds, **more):
    first = turn(echo_arrived=True, late_ms=3)
    given = {"host": "far", "flow": FLOW, "within_s": 60, "places": (NIC,), **more}
    return Half(side=Side.DESTINATION, rounds=rounds or (first,), **given)


INNER = HalfFlow(source="10.0.1.3", destination="10.0.1.6", protocol="tcp", port=22)
"""Between two containers of an overlay network."""


def tunnelled(half, *counts, container="web", network="app", **more):
    """A half whose end is a container; ``counts`` are the requests seen at its four places, in the order of the way."""
    hosts = ("192.0.2.1", "192.0.2.2")
    there = half.side is Side.DESTINATION
    end = HalfEnd(
        container=container,
        network=network,
        host_address=hosts[there],
        towards=more.pop("towards", hosts[not there]),
        vxlan_port=4789,
    )
    rows = [
        (Stage.END, f"container:{container}", "eth0"),
        (Stage.PORT, f"overlay:{network}", "veth1"),
        (Stage.TUNNEL, f"overlay:{network}", "vxlan0"),
        (Stage.NIC, "host", "eth0"),
    ]
    places = [HalfPlace(stage=stage, namespace=namespace, device=device) for stage, namespace, device in rows]
    seen = tuple(HalfCount(count) for count in counts)
    rounds = tuple(msgspec.structs.replace(each, counts=seen) for each in half.rounds)
    return msgspec.structs.replace(
        half, flow=INNER, end=end, places=tuple(places[::-1] if there else places), rounds=rounds, **more
    )
