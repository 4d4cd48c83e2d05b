"""A sample draws lines where rules do, differs from the packet in one thing first, and stays within bounds."""

import msgspec

from netdiag.firewall.flow_sample import LIMIT, edges_of, sample
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.trace import TracedPacket, TracePath

PACKET = TracedPacket(
    path=TracePath.IN,
    in_device="eth0",
    source="192.0.2.21",
    destination="192.0.2.10",
    protocol="tcp",
    source_port=40000,
    destination_port=2377,
)
SAVE = """\
*filter
:INPUT DROP [0:0]
-A INPUT -s 198.51.100.0/24 -i wan0 -p tcp -m multiport --dports 80,8000:8010 -j ACCEPT
[1:1] -A INPUT ! -s 10.0.0.0/8 -p udp -m udp --dport 53 -j DROP
-A INPUT -p esp -j ACCEPT
-A INPUT -s 192.0.2.11/32 -j ACCEPT
-A FORWARD -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 9000 -j ACCEPT
-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.3:80
COMMIT
"""
LISTING = 'table inet g {\n\tchain c {\n\t\tip saddr { 203.0.113.1, 203.0.113.64/26 } udp dport { 500, 4500-4510 } iifname "eth7" accept\n\t}\n}\n'


def rules(text, backend=Backend.IPTABLES_NFT, family=4):
    return RuleSet(backend=backend, family=family, text=text, sha256="")


ALL = (rules(SAVE), rules(LISTING, Backend.NFT_NATIVE, 0), rules("add x 192.0.2.99\n", Backend.IPSET, 0))


def drawn(packet=PACKET, rule_sets=ALL, own=("192.0.2.10", "192.0.2.11"), devices=("eth0", "eth1")):
    return sample(packet, rule_sets, own=own, devices=devices)


def test_the_lines_that_rules_draw():
    edges = edges_of(ALL, 4)
    targets = set(edges.targets)
    assert {("tcp", 80), ("tcp", 79), ("tcp", 8000), ("tcp", 8010), ("tcp", 8011), ("tcp", 7999)} <= targets
    assert {("udp", 53), ("udp", 54), ("udp", 500), ("udp", 4510), ("udp", 4511), ("esp", None)} <= targets
    assert {"198.51.100.1", "198.51.101.1", "10.0.0.1", "203.0.113.1", "203.0.113.65", "192.0.2.99"} <= set(
        edges.sources
    )
    assert {"172.17.0.2", "172.17.0.3"} <= set(edges.destinations)
    assert edges.devices == ("wan0", "docker0", "eth7")
    assert edges_of((rules(SAVE),), 6).targets == ()


def test_flows_that_differ_in_one_thing_only_come_first():
    flows = drawn()
    bare = msgspec.structs.replace(PACKET, source_port=None)
    assert bare not in flows
    for changed in (
        {"destination_port": 22},
        {"protocol": "udp", "destination_port": 7946},
        {"source": "192.0.2.22"},
        {"source": "203.0.113.77"},
        {"source": "198.51.100.1"},
        {"destination": "192.0.2.11"},
        {"in_device": "eth1"},
    ):
        assert msgspec.structs.replace(bare, **changed) in flows[:120], changed
    passing = [flow for flow in flows if flow.path is TracePath.FORWARD]
    assert {flow.destination for flow in passing} >= {"172.17.0.2", "172.17.0.3"}
    assert len(set(flows)) == len(flows) <= LIMIT
    # Nobody is this host itself, whoever a rule names, and every flow is of the packet's family.
    assert not {flow.source for flow in flows} & {"192.0.2.10", "192.0.2.11"}
    assert all(":" not in flow.source + flow.destination for flow in flows)


def test_bounded_whatever_there_is():
    many = "".join(
        f"-A INPUT -s 10.{n // 250}.{n % 250}.1/32 -p tcp -m tcp --dport {n + 1} -j DROP\n" for n in range(9000)
    )
    assert len(drawn(rule_sets=(rules(f"*filter\n{many}COMMIT\n"),))) == LIMIT


def test_the_way_out_and_through():
    out = msgspec.structs.replace(
        PACKET, path=TracePath.OUT, in_device="", out_device="eth0", source="192.0.2.10", destination="192.0.2.21"
    )
    flows = drawn(out)
    assert {flow.path for flow in flows} == {TracePath.OUT}
    assert {flow.source for flow in flows} == {"192.0.2.10"}
    assert "172.17.0.2" in {flow.destination for flow in flows}
    through = msgspec.structs.replace(PACKET, path=TracePath.FORWARD, destination="172.17.0.2", destination_port=9000)
    assert {flow.path for flow in drawn(through)} == {TracePath.FORWARD, TracePath.IN}


def test_six():
    six = msgspec.structs.replace(PACKET, source="2001:db8::21", destination="2001:db8::10")
    flows = sample(six, ALL, own=("2001:db8::10", "fe80::1", "192.0.2.10"), devices=("eth0",))
    assert ("icmpv6", None) in {(flow.protocol, flow.destination_port) for flow in flows}
    assert all(":" in flow.source and ":" in flow.destination for flow in flows)
    assert "fe80::1" not in {flow.destination for flow in flows}
