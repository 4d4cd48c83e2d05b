"""What a host's facts say that its rules have to let in, and name."""

import msgspec
import pytest

from netdiag.facts.standing_rules import needs_of, standing_of
from netdiag.firewall.lint_registry import lint
from netdiag.model.engine import Container, Engine, Network, OverlayPeer, SwarmMembership, SwarmState
from netdiag.model.facts import (
    Absence,
    AbsenceKind,
    Address,
    Backend,
    Bird,
    BirdProtocol,
    Facts,
    Link,
    RuleSet,
    Section,
)
from netdiag.model.firewall_lint import LintVerdict, Severity

NODE, PEER = "192.0.2.10", "192.0.2.21"
SWARM = SwarmMembership(state=SwarmState.ACTIVE, node_address=NODE, remote_managers=(f"{PEER}:2377",))


def save(*lines, policy="ACCEPT", chains=()):
    heads = [f":INPUT {policy} [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]"]
    return "\n".join(["*filter", *heads, *(f":{one} - [0:0]" for one in chains), *lines, "COMMIT", ""])


def engine(**fields):
    return Engine(**{"version": "28.1.0", "swarm": SWARM, **fields})


def facts(text, *, of=None, nft="", sets=None, **sections):
    sets = [RuleSet(backend=Backend.IPSET, family=0, text=sets, sha256="0")] if sets is not None else []
    nft = [RuleSet(backend=Backend.NFT_NATIVE, family=0, text=nft, sha256="0")] if nft else []
    listed = (RuleSet(backend=Backend.IPTABLES_NFT, family=4, text=text, sha256="0"), *sets, *nft)
    return Facts(
        collected_s=0.0,
        firewall=Section(value={"host": listed}),
        addresses=Section(
            value={"host": (Address(device="eth0", cidr=f"{NODE}/24"), Address(device="docker0", cidr="172.17.0.1/16"))}
        ),
        links=Section(
            value={"host": (Link(index=1, name="lo"), Link(index=2, name="eth0"), Link(index=3, name="docker0"))}
        ),
        engine=Section(value=engine() if of is None else of),
        **sections,
    )


def found(given):
    return lint(standing_of(given, "host"), needs_of(given), subject="one")


def codes(given):
    return {each.code for each in found(given).findings}


def test_a_swarm_s_ports_are_asked_for_by_its_node():
    closed = found(facts(save("-A INPUT -i lo -j ACCEPT", policy="DROP")))
    assert [(each.code, each.severity) for each in closed.findings] == [("lint.blocked-port", Severity.ERROR)] * 3
    assert [each.summary.split()[0] for each in closed.findings] == ["tcp/7946", "udp/7946", "udp/4789"]
    assert closed.verdict is LintVerdict.FINDINGS
    assert found(facts(save())).verdict is LintVerdict.CLEAN


def test_a_manager_an_encrypted_network_and_another_data_path_port_ask_for_more():
    swarm = msgspec.structs.replace(SWARM, is_manager=True, data_path_port=5789)
    secret = Network(id="1", name="secret", driver="overlay", scope="swarm", encrypted=True)
    given = facts(save(policy="DROP"), of=engine(swarm=swarm, networks=(secret,)))
    labels = [each.summary.split(" (")[0] for each in found(given).findings]
    assert labels == ["tcp/2377", "tcp/7946", "udp/7946", "udp/5789", "IP protocol 50"]


@pytest.mark.parametrize(
    ("line", "blocked"),
    [
        ("-A INPUT -p udp -m multiport --dports 4789,7946 -j DROP", {"udp/7946", "udp/4789"}),
        (f"-A INPUT -d {NODE} -p udp --dport 4789 -j DROP", {"udp/4789"}),
        ("-A INPUT -d 192.0.2.99 -p udp --dport 4789 -j DROP", set()),
        ("-A INPUT -i docker0 -p udp --dport 4789 -j DROP", set()),
        (f"-A INPUT -s {PEER} -p tcp --dport 7946 -j DROP", {"tcp/7946"}),
        ("-A INPUT -s 198.51.100.0/24 -p tcp --dport 7946 -j DROP", set()),
        ("-A INPUT -p udp --dport 4789 -m u32 --u32 0x0=0x1 -j DROP", set()),
        ("-A INPUT -p udp --dport 4789 -m limit --limit 5/s -j DROP", set()),
        ("-A INPUT -p tcp --dport 2377 -j DROP", set()),
    ],
)
def test_only_what_is_surely_dropped_is_told(line, blocked):
    assert {each.summary.split()[0] for each in found(facts(save(line))).findings} == blocked


def test_the_rule_that_was_meant_is_named():
    given = facts(save("-A INPUT -p tcp --dport 4789 -j ACCEPT", "-A INPUT -p udp --dport 4789 -j DROP"))
    one = found(given).findings[0]
    assert "meant for it was filter INPUT rule 1: it asks for protocol tcp" in one.summary
    assert [(place.chain, place.number) for place in one.places] == [("INPUT", 2), ("INPUT", 1)]


def test_the_data_path_may_have_another_address():
    lines = ["-A INPUT -i eth0 -p udp --dport 4789 -j DROP", "-A INPUT -i eth0 -p udp --dport 7946 -j DROP"]
    one = facts(save(*lines))
    two = {"host": (*one.addresses.value["host"], Address(device="eth1", cidr="198.51.100.10/24"))}
    both = msgspec.structs.replace(one, addresses=Section(value=two))
    assert [each.summary.split()[0] for each in found(one).findings] == ["udp/7946", "udp/4789"]
    assert [each.summary.split()[0] for each in found(both).findings] == ["udp/7946"]


def test_a_swarm_of_ipv6_is_not_asked_about():
    six = msgspec.structs.replace(SWARM, node_address="2001:db8::10")
    assert codes(facts(save("-A INPUT -i lo -j ACCEPT", policy="DROP"), of=engine(swarm=six))) == set()


def test_of_several_rules_the_one_that_surely_decides_is_named():
    encrypted = "-A INPUT -p udp -m policy --dir in --pol none -m udp --dport 4789 -m u32 --u32 0x0=0x1 -j DROP"
    one = found(facts(save(encrypted, "-A INPUT -p udp --dport 4789 -j REJECT"))).findings[0]
    assert "rule 2 of filter INPUT (iptables-nft) rejects it, if not another rule before" in one.summary
    assert one.places[0].number == 2


def test_the_zone_of_another_device():
    lines = [
        "-A INPUT -j INPUT_ZONES",
        "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "-A INPUT_ZONES -i eth1 -g IN_internal",
        "-A INPUT_ZONES -g IN_public",
        "-A IN_internal -j IN_internal_allow",
        *(f"-A IN_{{}}_allow -p {proto} --dport {port} -j ACCEPT" for proto, port in (("tcp", 7946), ("udp", 7946))),
        "-A IN_{}_allow -p udp --dport 4789 -j ACCEPT",
        "-A IN_public -j IN_public_allow",
    ]
    chains = [f"IN_{zone}{end}" for zone in ("internal", "public") for end in ("", "_allow", "_deny")]
    chains += ["INPUT_ZONES", "INPUT_direct"]
    wrong, right = (
        facts(save(*(line.format(zone) for line in lines), chains=chains)) for zone in ("internal", "public")
    )
    assert codes(right) == set()
    one = found(wrong).findings[0]
    assert one.code == "lint.blocked-port"
    assert "meant for it was filter IN_internal_allow rule 1" in one.summary


def test_calico_s_routes_are_asked_for_where_bird_speaks_bgp():
    mesh = BirdProtocol(name="Mesh", protocol="BGP", table="master", state="up", since="")
    bird = Section(value=Bird(version="1", socket="/b", protocols=(mesh,)))
    inactive = engine(swarm=SwarmMembership(state=SwarmState.INACTIVE))
    closed = save("-A INPUT -p tcp --dport 179 -j DROP")
    assert [each.summary.split()[0] for each in found(facts(closed, of=inactive, bird=bird)).findings] == ["tcp/179"]
    assert codes(facts(closed, of=inactive)) == set()


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("eth7", Severity.WARNING),
        ("tun0", Severity.INFO),
        ("br-0123456789ab", Severity.INFO),
        ("eth0", None),
        ("eth+", None),
    ],
)
def test_interfaces_that_are_not_there(name, severity):
    told = found(facts(save(f"-A INPUT -i {name} -p tcp --dport 22 -j ACCEPT"))).findings
    assert [(each.code, each.severity) for each in told] == ([("lint.no-such-interface", severity)] if severity else [])


def test_an_engine_of_which_nothing_is_left():
    web = Container(id="1", name="web", running=True, ports=("0.0.0.0:8080->80/tcp",))
    assert codes(facts(save(), of=engine(containers=(web,)))) == {"lint.engine-jumps"}
    assert codes(facts(save(), of=engine(containers=(web,), firewall_backend="nftables"))) == set()
    assert codes(facts(save(), of=engine())) == set()


NATIVE = """\
table inet own {
\tchain in {
\t\ttype filter hook input priority filter; policy accept;
\t\tudp dport 9 drop
\t}
}
"""


def test_a_table_of_nft_s_beside_iptables_is_a_remark():
    given = facts(save("-A INPUT -i lo -j ACCEPT"), nft=NATIVE)
    assert [(each.code, each.severity) for each in found(given).findings] == [("lint.native-table", Severity.INFO)]
    assert codes(facts(save("-A INPUT -i lo -j ACCEPT"), nft=NATIVE.replace("inet own", "inet firewalld"))) == set()
    # What iptables drops it cannot bring back.
    blocked = facts(save("-A INPUT -p udp --dport 4789 -j DROP"), nft=NATIVE)
    assert "lint.blocked-port" in codes(blocked)


def test_tables_of_nft_s_own_are_asked_about_a_swarm_s_ports():
    def own(rule):
        return facts(save(), nft=NATIVE.replace("inet own", "inet firewalld").replace("udp dport 9 drop", rule))

    assert found(own("udp dport 9 drop")).verdict is LintVerdict.CLEAN
    told = found(own("udp dport 4789 drop"))
    (one,) = told.findings
    assert (told.verdict, one.code) == (LintVerdict.FINDINGS, "lint.blocked-port")
    assert "rule 1 of firewalld in" in one.summary
    assert "nft-native" in one.summary
    # Another device's packets, or whoever is in a set that is not known, are not everybody's.
    assert found(own('iifname "eth1" udp dport 4789 drop')).verdict is LintVerdict.CLEAN
    assert found(own("ip saddr @some udp dport 4789 drop")).findings == ()


def test_peers_of_overlay_networks_are_members():
    app = Network(
        id="1", name="app", driver="overlay", scope="swarm", peers=(OverlayPeer(name="x", address="192.0.2.33"),)
    )
    given = facts(save("-A INPUT -s 192.0.2.33 -p udp --dport 7946 -j DROP"), of=engine(networks=(app,)))
    assert "from 192.0.2.33" in found(given).findings[0].summary


def test_rules_that_could_not_be_read_are_unknown():
    absent = Absence(kind=AbsenceKind.PERMISSION, text="iptables-save: not permitted")
    given = msgspec.structs.replace(facts(""), firewall=Section(absent=absent))
    told = found(given)
    assert told.verdict is LintVerdict.UNKNOWN
    assert "not permitted" in told.unknown[0]
    assert found(msgspec.structs.replace(facts(""), firewall=Section(value={}))).verdict is LintVerdict.UNKNOWN


def test_another_namespace_has_no_needs():
    assert needs_of(facts(save(policy="DROP")), "container:web") == ()
