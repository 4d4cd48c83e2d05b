"""Two halves of a diagnosis by hand."""

from netdiag.causes import cause
from netdiag.model.half import Half, HalfCount, HalfFlow, HalfPlace, HalfRound, Outcome, Told
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
