"""What a fuzzed rule set is asked, and what has to hold whatever it is."""

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.ipset_text import read_sets
from netdiag.firewall.netfilter.sets import SetMatch
from netdiag.firewall.netfilter.skb import Host, Skb, Unknown
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath, TraceVerdict

PACKETS = [
    PacketLine(hook="INPUT", in_device="eth0", source="192.0.2.21", destination="192.0.2.10", proto="tcp", dport=22),
    PacketLine(in_device="eth0", source="192.0.2.21", destination="192.0.2.10", proto="udp", sport=53, dport=4789),
    PacketLine(path=TracePath.FORWARD, in_device="eth0", out_device="docker0", destination="172.17.0.2", proto="icmp"),
    PacketLine(
        path=TracePath.OUT, out_device="eth0", source="192.0.2.10", destination="10.0.0.1", proto="tcp", dport=25
    ),
    PacketLine(hook="FORWARD", state="ESTABLISHED", proto=47, bucket="full", mark="0x10000"),
    PacketLine(source="2001:db8::1", destination="2001:db8::2", in_device="eth0", proto="tcp", dport=80),
    PacketLine(),
]
SKB = Skb(
    family=4, protocol=6, source=0xC0000215, destination=0x0A010203, source_port=4000, destination_port=80, mark=7
)
FLAGS = [("src",), ("dst", "src"), ("src", "dst", "dst")]


def rule_set(text):
    """Read it and ask it; raises AssertionError for an answer that contradicts itself."""
    read = read_rule_file(text)
    lines = text.count("\n") + 1
    for problem in read.problems:
        assert problem.startswith("line "), problem
        assert 1 <= int(problem[5:].split(":")[0]) <= lines, problem
    explainer = Explainer(read)
    for packet in PACKETS:
        found = explainer.explain(packet)
        assert found.possible
        if found.verdict is TraceVerdict.UNKNOWN:
            assert found.rule is None
            assert found.reason
        else:
            assert found.possible == (found.verdict,)
            assert not found.depends
        if found.rule is not None:
            assert found.rule.number is not None
            assert found.rule.text.split("\n")[0].rstrip("\r") in text


def sets(text):
    """Read them and look a packet up in each."""
    found, problems = read_sets(text)
    assert all(1 <= problem.line_number <= text.count("\n") + 1 for problem in problems)
    host = Host(sets=found)
    for name in found:
        for flags in FLAGS:
            truth = SetMatch(name, flags).holds(SKB, host)
            other = SetMatch(name, flags, negated=True).holds(SKB, host)
            assert isinstance(truth, Unknown) == isinstance(other, Unknown)
            assert isinstance(truth, Unknown) or truth != other
