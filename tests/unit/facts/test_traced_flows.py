"""Several packets traced in one round: what is asked, what is not, and that a bundle gives the same again."""

import json
import struct
from pathlib import Path

import msgspec
import pytest

from netdiag.facts.traced_flows import gather_traced
from netdiag.host.drive import Recorder, Replay, drive
from netdiag.model.facts import (
    AbsenceKind,
    Address,
    Backend,
    Facts,
    Feature,
    FeatureState,
    Identity,
    Kernel,
    Link,
    RuleSet,
    Section,
)
from netdiag.model.firewall import Direction, Packet
from netdiag.model.report import Confidence
from netdiag.model.trace import TraceVerdict
from netdiag.model.wire import Answer, WireError, from_json_values

RECORDED = json.loads((Path(__file__).parents[1] / "firewall/recorded/trace_in_reject.json").read_text())
ANSWER = from_json_values(RECORDED["answer"])
OWN, PEER = "10.71.0.1", "10.71.0.2"


def facts(*, root=True, **states):
    known = {"nf_tables": FeatureState.BUILTIN, "tun": FeatureState.LOADED, "nft_compat": FeatureState.LOADED, **states}
    features = {name: Feature(name=name, state=state, evidence="") for name, state in known.items()}
    texts = {Backend.NFT_NATIVE: (0, "nft"), Backend.IPTABLES_NFT: (4, "iptables-nft")}
    sets = tuple(
        RuleSet(backend=backend, family=family, text=RECORDED["rules"][name], sha256="")
        for backend, (family, name) in texts.items()
    )
    return Facts(
        collected_s=1.0,
        identity=Section(value=Identity(hostname="h", kernel_release="6.8.0", is_root=root)),
        kernel=Section(value=Kernel(features=features)),
        links=Section(value={"host": (Link(index=2, name="eth0", up=True),)}),
        addresses=Section(value={"host": (Address(device="eth0", cidr=f"{OWN}/24"),)}),
        firewall=Section(value={"host": sets}),
    )


def packet(direction=Direction.IN, port=2377, protocol="tcp"):
    ends = (PEER, OWN) if direction is Direction.IN else (OWN, PEER)
    return Packet(
        direction=direction,
        protocol=protocol,
        source=ends[0],
        destination=ends[1],
        destination_port=port,
        device="eth0",
    )


class Host:
    """Answers every trace with what was recorded and every listing with ``rules``, and remembers its rounds."""

    def __init__(self, answer=None, rules=None):
        self.answer = answer or Answer(data=ANSWER)
        self.rules = rules or RECORDED["rules"]
        self.rounds = []

    def ask(self, requests):
        self.rounds.append(list(requests))
        return [self.answered(request) for request in requests]

    def answered(self, request):
        if request.verb == "firewall-trace":
            return self.answer
        if request.verb == "netlink-dump":
            message = struct.pack("=IHHIIBBH", 20, 10 << 8, 0, 0, 0, 2, 0, 0)
            return Answer(data={"messages": message, "interrupted": False})
        if request.verb == "command":
            said = {"iptables --version": "iptables v1.8.9 (nf_tables)", "iptables-save -c": self.rules["iptables-nft"]}
            said["nft -a list ruleset"] = self.rules["nft"]
            return Answer(data={"code": 0, "stdout": said[" ".join(request.params["argv"])], "stderr": ""})
        return Answer(error=WireError(AbsenceKind.MISSING, "nothing there"))

    def traces(self):
        """The rounds in which packets were traced."""
        return [one for one in self.rounds if any(request.verb == "firewall-trace" for request in one)]


def test_all_packets_go_in_one_round_and_each_has_its_own_request():
    host = Host()
    packets = [
        packet(direction, port, protocol) for direction in Direction for port, protocol in ((2377, "tcp"), (1, "udp"))
    ]
    flows = drive(gather_traced(packets, facts()), host)
    assert [flow.packet for flow in flows] == packets
    (asked,) = host.traces()
    assert {request.verb for request in asked} == {"firewall-trace"}
    assert len({request.key() for request in asked}) == 4
    again = Host()
    drive(gather_traced(packets, facts()), again)
    assert [request.key() for request in again.traces()[0]] == [request.key() for request in asked]
    assert all("sport" not in request.params for request in asked)  # the participant takes one that is free


def test_the_kernels_rule_is_resolved_against_the_facts():
    (flow,) = drive(gather_traced([packet()], facts()), Host())
    trace = flow.trace
    assert (trace.verdict, trace.rule.chain, trace.rule.number) == (TraceVerdict.REJECT, "LOG_DROP", 2)
    assert (trace.elapsed_ms, trace.packet.source_port) == (round(ANSWER["seen_us"] / 1000, 2), ANSWER["sport"])


def test_rules_that_were_changed_since_make_it_less_sure():
    (flow,) = drive(gather_traced([packet()], facts()), Host())
    assert (flow.trace.confidence, flow.trace.reason) == (Confidence.PROVEN, "")
    changed = {
        **RECORDED["rules"],
        "iptables-nft": RECORDED["rules"]["iptables-nft"].replace("--dport 2377", "--dport 1"),
    }
    (flow,) = drive(gather_traced([packet()], facts()), Host(rules=changed))
    assert (flow.trace.verdict, flow.trace.confidence) == (TraceVerdict.REJECT, Confidence.LIKELY)
    assert (flow.trace.rule.text, flow.trace.reason) == ("", "the rule set changed meanwhile")


def test_a_trace_that_ran_beside_has_no_say():
    """Its chains stand at the same hooks, and their policies are among this packet's events."""
    events = ANSWER["messages"]
    other = "netdiag-" + "0" * (len(ANSWER["table"]) - len("netdiag-"))
    both = events.replace(ANSWER["table"].encode(), other.encode()) + events
    (flow,) = drive(gather_traced([packet()], facts()), Host(Answer(data={**ANSWER, "messages": both})))
    assert not [step for step in flow.trace.path if step.rule.table.startswith("netdiag-")]


@pytest.mark.parametrize(
    ("host", "asked", "why", "would_load"),
    [
        pytest.param(facts(root=False), packet(), "not root", False, id="no root"),
        pytest.param(facts(nf_tables=FeatureState.MISSING), packet(), "nf_tables", False, id="no nf_tables"),
        pytest.param(facts(tun=FeatureState.LOADABLE), packet(), "would load tun", True, id="a module to load"),
        pytest.param(facts(), packet(Direction.OUT, None, "50"), "esp that leaves", False, id="ESP"),
    ],
)
def test_what_is_not_traced_says_why_and_asks_nothing(host, asked, why, would_load):
    carrier = Host()
    (flow,) = drive(gather_traced([asked], host), carrier)
    assert (flow.trace, flow.would_load, carrier.rounds) == (None, would_load, [])
    assert why in flow.why_not


def test_what_leaves_needs_no_tun():
    flows = drive(gather_traced([packet(Direction.OUT), packet()], facts(tun=FeatureState.LOADABLE)), Host())
    assert [flow.trace is not None for flow in flows] == [True, False]


def test_a_packet_that_cannot_be_made_costs_the_others_nothing():
    foreign = Packet(direction=Direction.IN, protocol="tcp", source=PEER, destination="192.0.2.1", destination_port=1)
    here = packet()
    gather = gather_traced([foreign, here], facts())
    flows = drive(gather, Host(Answer(error=WireError(AbsenceKind.UNSUPPORTED, "conntrack has it in use"))))
    assert [flow.trace for flow in flows] == [None, None]
    assert "no address of this host" in flows[0].why_not
    assert flows[1].why_not == "conntrack has it in use"


def test_a_bundle_gives_the_same_flows():
    packets = [packet(), packet(Direction.OUT, 4789, "udp")]
    recorder = Recorder(Host())
    live = drive(gather_traced(packets, facts()), recorder)
    assert drive(gather_traced(packets, facts()), Replay(recorder.answers())) == live
    older = drive(gather_traced(packets, facts()), Replay({}))
    assert [flow.trace for flow in older] == [None, None]


def test_a_flow_that_a_rule_would_remember_is_not_sent():
    seen = facts()
    text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 2377 -m recent --set --name bad\nCOMMIT\n"
    sets = (*seen.firewall.value["host"], RuleSet(backend=Backend.IPTABLES_LEGACY, family=4, text=text, sha256=""))
    seen = msgspec.structs.replace(seen, firewall=Section(value={"host": sets}))
    (flow,) = drive(gather_traced([packet()], seen), Replay({}))
    assert flow.trace is None
    assert "would remember the peer as if it had sent the packet: filter INPUT rule 1" in flow.why_not
