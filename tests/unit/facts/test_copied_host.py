"""What a copy of a namespace is built of: devices, addresses, routes and settings that decide where packets go."""

import msgspec

from netdiag.facts.allow_computed import computed, invented, packet_of, sysctl_paths
from netdiag.facts.copied_host import MOST_DEVICES, copy_of, devices_named
from netdiag.facts.trace_wanted import Wanted
from netdiag.firewall.rule_files import plain_of, rule_sets_of
from netdiag.model.facts import (
    HOST,
    Address,
    Backend,
    Facts,
    FdbEntry,
    Link,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    RuleSet,
    Section,
)
from netdiag.model.trace import TracedPacket, TracePath, TraceVerdict

MAC = "02:42:ac:11:00:0{}"
LINKS = (
    Link(index=1, name="lo", loopback=True, up=True, mtu_bytes=65536),
    Link(index=2, name="eth0", mac=MAC.format(1), up=True, mtu_bytes=1500),
    Link(index=3, name="docker0", kind="bridge", mac=MAC.format(2), up=True, mtu_bytes=1500),
    Link(index=4, name="veth1", kind="veth", mac=MAC.format(3), up=True, master=3, mtu_bytes=1500),
    Link(index=5, name="down0", kind="vlan", mac=MAC.format(4)),
)
ADDRESSES = (
    Address(device="lo", cidr="127.0.0.1/8", scope="host"),
    Address(device="eth0", cidr="192.0.2.10/24"),
    Address(device="eth0", cidr="2001:db8::10/64"),
    Address(device="docker0", cidr="172.17.0.1/16"),
    Address(device="lo", cidr="10.9.9.9/32"),
)
ROUTES = (
    Route(destination="0.0.0.0/0", next_hops=(NextHop(device="eth0", gateway="192.0.2.1"),), metric=100),
    Route(destination="192.0.2.0/24", next_hops=(NextHop(device="eth0"),), source="192.0.2.10"),
    Route(destination="172.17.0.0/16", next_hops=(NextHop(device="docker0"),)),
    Route(destination="10.0.0.0/8", type="blackhole"),
    Route(destination="192.0.2.10/32", table=255, type="local", next_hops=(NextHop(device="eth0"),)),
    Route(destination="198.51.100.0/24", table=77, next_hops=(NextHop(device="nowhere"),)),
    Route(
        destination="203.0.113.0/24",
        next_hops=(NextHop(device="eth0", gateway="192.0.2.2"), NextHop(device="eth0", gateway="192.0.2.3", weight=2)),
    ),
)
OWN_RULES = tuple(PolicyRule(priority=p, family=4, table=t) for p, t in ((0, 255), (32766, 254), (32767, 253)))
PACKET = TracedPacket(
    path=TracePath.FORWARD,
    in_device="eth0",
    out_device="docker0",
    source="192.0.2.21",
    destination="172.17.0.2",
    protocol="tcp",
    destination_port=80,
)


def facts(**fields):
    sections = {
        "links": LINKS,
        "addresses": ADDRESSES,
        "routes": ROUTES,
        "rules": OWN_RULES,
        "neighbours": (Neighbour(device="docker0", address="172.17.0.2", mac=MAC.format(9)),),
        "fdb": (FdbEntry(device="veth1", mac=MAC.format(9), on_master=True),),
        **fields,
    }
    return Facts(collected_s=0.0, **{name: Section(value={HOST: rows}) for name, rows in sections.items()})


def copied(found=None, *, kind="dummy", named=(), sysctls=None, packet=PACKET):
    return copy_of(found or facts(), HOST, kind=kind, named=named, packet=packet, sysctls=sysctls or {})


def test_devices_are_of_the_same_names_and_bridges_stay_bridges():
    plan = copied(named=("wg7", "eth0"))
    assert f"link add docker0 address {MAC.format(2)} mtu 1500 type bridge" in plan.links
    assert f"link add eth0 address {MAC.format(1)} mtu 1500 type dummy" in plan.links
    # One that only a rule names is made as well, and the host's own is not made twice.
    assert [line for line in plan.links if "wg7" in line] == [
        "link add wg7 type dummy",
        "link set wg7 addrgenmode none",
        "link set wg7 up",
    ]
    assert plan.links.index("link set veth1 master docker0") > plan.links.index(
        f"link add docker0 address {MAC.format(2)} mtu 1500 type bridge"
    )
    assert "link set eth0 up" in plan.addresses
    assert "link set down0 up" not in plan.addresses
    assert not any("lo " in line and "add" in line for line in plan.links)
    assert plan.left_out == ()


def test_the_other_ends_of_pairs_have_names_of_their_own():
    peers = [line.split()[-1] for line in copied(kind="veth").links if "peer name" in line]
    assert len(set(peers)) == len(peers) == 3
    assert all(len(name) <= 15 and f"link set {name} up" in copied(kind="veth").links for name in peers)


def test_addresses_and_routes_in_an_order_that_works():
    lines = copied().addresses
    assert "addr add 192.0.2.10/24 brd + dev eth0 noprefixroute" in lines
    assert "addr add 2001:db8::10/64 nodad dev eth0 noprefixroute" in lines
    assert "addr add 10.9.9.9/32 dev lo noprefixroute" in lines
    assert not any("127.0.0.1" in line or "192.0.2.10/32" in line for line in lines)
    assert "route add blackhole 10.0.0.0/8" in lines
    assert "route add 0.0.0.0/0 metric 100 via 192.0.2.1 dev eth0 onlink" in lines
    assert (
        "route add 203.0.113.0/24 nexthop via 192.0.2.2 dev eth0 weight 1 onlink"
        " nexthop via 192.0.2.3 dev eth0 weight 2 onlink" in lines
    )
    assert not any("198.51.100.0" in line for line in lines)
    order = [lines.index(line) for line in lines if line.startswith("route add 192.0.2.0/24")]
    assert order[0] < lines.index("route add 0.0.0.0/0 metric 100 via 192.0.2.1 dev eth0 onlink")
    assert f"neigh replace 172.17.0.2 lladdr {MAC.format(9)} dev docker0 nud permanent" in lines
    assert copied().stations == (f"fdb replace {MAC.format(9)} dev veth1 master static",)


def test_policy_rules():
    mine = (
        PolicyRule(priority=100, family=4, mark=7, mask=0xFF, table=77),
        PolicyRule(priority=101, family=4, source="10.0.0.0/8", action="prohibit", invert=True),
        *OWN_RULES[1:],
    )
    lines = copied(facts(rules=mine)).addresses
    assert "rule add pref 100 from all fwmark 0x7/0xff table 77" in lines
    assert "rule add pref 101 not from 10.0.0.0/8 prohibit" in lines
    assert "rule del pref 0" in lines
    assert not any("rule" in line for line in copied().addresses)
    six = (PolicyRule(priority=9, family=6, in_device="eth0", table=9), *OWN_RULES)
    assert copied(facts(rules=six)).policies_v6[0] == "rule add pref 9 from all iif eth0 table 9"


def test_settings_of_devices_that_are_there_and_the_ones_that_set_others_first():
    sysctls = {
        "net/ipv4/conf/eth0/forwarding": "0",
        "net/ipv4/conf/gone/rp_filter": "1",
        "net/ipv4/conf/all/rp_filter": "2",
        "net/ipv4/ip_forward": "1",
    }
    assert [path for path, _ in copied(sysctls=sysctls).sysctls] == [
        "net/ipv4/ip_forward",
        "net/ipv4/conf/all/rp_filter",
        "net/ipv4/conf/eth0/forwarding",
    ]
    assert sysctl_paths({"net.ipv4.conf.eth0/7.rp_filter": "1", "net.netfilter.nf_conntrack_max": "9"}) == {
        "net/ipv4/conf/eth0.7/rp_filter": "1"
    }


def test_bounded_and_what_is_left_out_is_said():
    many = (*LINKS, *(Link(index=n, name=f"veth{n}", up=True) for n in range(10, 400)))
    plan = copied(facts(links=many), named=("veth399", 'a"b'))
    assert len([line for line in plan.links if line.startswith("link add")]) == MOST_DEVICES
    assert any("veth399" in line for line in plan.links)
    assert "more" in plan.left_out[0]
    wide = copied(named=[f"br{number}" for number in range(9000)])
    assert len([line for line in wide.links if line.startswith("link add br")]) == MOST_DEVICES
    odd = copied(facts(links=(*LINKS, Link(index=9, name='x"#y', up=True))))
    assert odd.left_out == ('devices: x"#y',)
    assert not any('"' in line for line in (*odd.links, *odd.addresses))


def test_the_devices_that_rules_name():
    texts = (
        "-A INPUT -i eth0 -j ACCEPT\n-A FORWARD ! -o br-1 -m physdev --physdev-in veth+ -j DROP\n",
        'iifname { "eth1", "eth2" } oifname != "docker0" iif lo\n\t\tdevice "wan" priority 0\n\tdevices = { a1, a2 }\n',
    )
    rule_sets = [RuleSet(backend=Backend.NFT_NATIVE, family=0, text=text, sha256="") for text in texts]
    assert devices_named(rule_sets) == ("eth0", "br-1", "eth1", "eth2", "docker0", "lo", "wan", "a1", "a2")


SAVED = """\
# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT DROP [0:0]
-A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
# Generated by ip6tables-save v1.8.9 (nf_tables)
*filter
:INPUT ACCEPT [0:0]
COMMIT
create a hash:ip
add a 192.0.2.1
"""


def test_a_file_is_the_rule_sets_of_a_host():
    found = rule_sets_of(SAVED)
    kinds = [(each.backend, each.family) for each in found]
    assert kinds == [(Backend.IPTABLES_NFT, 4), (Backend.IPTABLES_NFT, 6), (Backend.IPSET, 0)]
    # Every line has its number in the file.
    assert found[1].text.split("\n")[5].startswith("# Generated by ip6tables-save")
    assert plain_of(SAVED) is Backend.IPTABLES_NFT
    assert plain_of("# Generated by iptables-save v1.6.1 on Mon") is Backend.IPTABLES_LEGACY
    assert plain_of("*filter\n") is None


def test_what_the_model_says_and_a_host_for_it():
    wanted = Wanted(path=TracePath.IN, source="192.0.2.21", destination_port=23, in_device="eth0")
    packet = packet_of(wanted, None)
    found = computed(None, rule_sets_of(SAVED), packet)
    assert (found.verdict, found.confidence.value, found.policy.chain) == (TraceVerdict.DROP, "likely", "INPUT")
    made = invented(packet, facts())
    assert (made.packet.in_device, made.packet.destination) == ("eth0", "192.0.2.1")
    lines = copied(made.facts, packet=made.packet, sysctls=made.sysctls).addresses
    assert "addr add 192.0.2.1/32 dev eth0 noprefixroute" in lines
    assert "route add 0.0.0.0/0 dev eth0" in lines
    through = invented(msgspec.structs.replace(packet, path=TracePath.FORWARD, destination="10.0.0.9"), facts())
    assert (through.packet.in_device, through.packet.out_device) == ("eth0", "eth1")
    out = invented(
        msgspec.structs.replace(packet, path=TracePath.OUT, in_device="", source="", destination="10.0.0.9"), facts()
    )
    assert (out.packet.out_device, out.packet.source) == ("eth0", "192.0.2.1")


def test_a_bundle_tells_the_device_and_the_address():
    wanted = Wanted(path=TracePath.IN, source="192.0.2.21", destination_port=23)
    packet = packet_of(wanted, facts())
    assert (packet.in_device, packet.destination) == ("eth0", "192.0.2.10")
    # Two ways are none.
    assert (
        packet_of(
            msgspec.structs.replace(wanted, source="203.0.113.5"),
            facts(
                routes=(
                    Route(destination="203.0.113.0/24", next_hops=(NextHop(device="eth0"), NextHop(device="docker0"))),
                )
            ),
        ).in_device
        == ""
    )


def test_facts_of_somebody_elses_run_nothing():
    """A bundle is made by others, and root builds the copy."""
    rule = PolicyRule(priority=9, family=4, in_device="x\nnetns exec y sh", table=9)
    route = Route(destination="10.0.0.0/8", source="1 ; netns exec", next_hops=(NextHop(device="eth0"),))
    plan = copied(facts(rules=(rule, *OWN_RULES), routes=(route,)))
    assert not any("exec" in line for line in (*plan.links, *plan.addresses, *plan.policies_v6, *plan.stations))
    assert len(plan.left_out) == 2
    sysctls = {
        "net/ipv4/conf/../../kernel/x/rp_filter": "1",
        "net/ipv4/conf/eth0/rp_filter": "1; x",
        "net/bridge/bridge-nf-call-../../../kernel/panic": "1",
        "net/ipv4/conf/all/rp_filter": "2",
    }
    assert copied(sysctls=sysctls).sysctls == (("net/ipv4/conf/all/rp_filter", "2"),)
