"""What of a host's facts the model takes."""

import msgspec

from netdiag.facts.explain_host import explainer_of
from netdiag.model.explain import PacketLine
from netdiag.model.facts import HOST, Absence, AbsenceKind, Address, Backend, Facts, Link, RuleSet, Section
from netdiag.model.trace import TracePath, TraceVerdict

SAVE = """\
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp --dport 80 -m addrtype --dst-type LOCAL -j DNAT --to-destination {to}
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
-A INPUT -d 192.0.2.11 -m set --match-set friends src -j ACCEPT
COMMIT
"""
PACKET = PacketLine(
    path=TracePath.IN, in_device="eth0", source="192.0.2.21", destination="192.0.2.10", sport=1, dport=80
)


def facts(save, *, nft="", partial=None):
    sets = [RuleSet(backend=Backend.IPTABLES_LEGACY, family=4, text=save, sha256="")]
    sets.append(
        RuleSet(backend=Backend.IPSET, family=0, text="create friends hash:ip\nadd friends 192.0.2.21\n", sha256="")
    )
    if nft:
        sets.append(RuleSet(backend=Backend.NFT_NATIVE, family=0, text=nft, sha256=""))
    addresses = (Address(device="eth0", cidr="192.0.2.10/24"), Address(device="eth0", cidr="192.0.2.11/24"))
    return Facts(
        collected_s=0.0,
        links=Section(value={HOST: (Link(index=2, name="eth0"),)}),
        addresses=Section(value={HOST: addresses}),
        firewall=Section(value={HOST: tuple(sets)}, partial=partial or {}),
    )


def test_the_host_s_own_addresses_say_where_a_packet_goes_on():
    explainer, problems = explainer_of(facts(SAVE.format(to="192.0.2.11")), HOST)
    assert not problems
    assert explainer.explain(PACKET).rule.chain == "INPUT"
    explainer, _ = explainer_of(facts(SAVE.format(to="172.17.0.2")), HOST)
    assert explainer.explain(PACKET).policy.chain == "FORWARD"


def test_rules_that_were_not_read_leave_the_answer_unknown():
    absence = Absence(kind=AbsenceKind.TIMEOUT, text="run ip6tables-save -c: time-out")
    explainer, problems = explainer_of(facts(SAVE.format(to="192.0.2.11"), partial={HOST: absence}), HOST)
    assert problems == ("run ip6tables-save -c: time-out",)
    found = explainer.explain(PACKET)
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "time-out" in found.reason


def test_a_table_of_nft_s_own_is_asked_as_well():
    nft = "table inet own {\n\tchain in {\n\t\ttype filter hook input priority 10; policy accept;\n\t\tudp dport 9 drop\n\t}\n}\n"
    explainer, _ = explainer_of(facts(SAVE.format(to="192.0.2.11"), nft=nft), HOST)
    assert explainer.explain(PACKET).verdict is TraceVerdict.ACCEPT
    dropped = explainer.explain(msgspec.structs.replace(PACKET, proto="udp", dport=9))
    assert (dropped.rule, dropped.policy.place()) == (None, "filter INPUT policy")
    friend = msgspec.structs.replace(PACKET, proto="udp", dport=9, destination="192.0.2.11")
    assert explainer.explain(friend).rule.table == "own"


BRIDGE = (
    Link(index=3, name="br0", kind="bridge"),
    Link(index=4, name="veth1", kind="veth", master=3),
    Link(index=5, name="veth2", kind="veth", master=3),
    Link(index=6, name="vrf1", kind="vrf"),
    Link(index=7, name="veth3", kind="veth", master=6),
)


def on_bridges(*rules, nft=""):
    save = "\n".join(["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", *rules, "COMMIT", ""])
    given = facts(save, nft=nft)
    explainer, _ = explainer_of(msgspec.structs.replace(given, links=Section(value={HOST: BRIDGE})), HOST)
    return lambda **words: explainer.explain(
        PacketLine(**{"source": "172.17.0.9", "proto": "tcp", "dport": 80, **words})
    )


def test_a_packet_of_a_bridge_s_port_is_the_bridge_s():
    ask = on_bridges("-A INPUT -i br0 -j DROP", "-A FORWARD -i br0 -o eth0 -j DROP", "-A FORWARD -i vrf1 -j DROP")
    assert ask(in_device="veth1", destination="192.0.2.10").rule.chain == "INPUT"
    assert ask(in_device="veth1", out_device="eth0", path=TracePath.FORWARD).rule.chain == "FORWARD"
    # Of a VRF's member the device changes behind IP's first hook.
    assert ask(in_device="veth3", out_device="eth0", path=TracePath.FORWARD).verdict is TraceVerdict.UNKNOWN


def test_what_passes_between_two_ports_of_one_bridge_is_not_known():
    found = on_bridges("-A FORWARD -j DROP")(in_device="veth1", out_device="veth2", path=TracePath.FORWARD)
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "bridge-nf" in found.reason


def test_a_chain_at_the_port_itself_is_not_known():
    chain = '\tchain at {\n\t\ttype filter hook ingress device "veth1" priority 0; policy drop;\n\t}\n'
    ask = on_bridges("-A INPUT -j ACCEPT", nft=f"table netdev own {{\n{chain}}}\n")
    assert ask(in_device="veth1", destination="192.0.2.10").verdict is TraceVerdict.UNKNOWN
    assert ask(in_device="veth2", destination="192.0.2.10").verdict is TraceVerdict.ACCEPT
