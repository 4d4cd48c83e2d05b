import time

import pytest

from netdiag.firewall.plain import Outcome, could_stop, read_plainly
from netdiag.model.facts import Backend
from netdiag.model.firewall import Direction, FirewallRule, Packet
from tests.unit.firewall.build import OWN, PEER, nft, rule_set, save, syn, vxlan

ACCEPT, DROP, REJECT, UNKNOWN = Outcome.ACCEPT, Outcome.DROP, Outcome.REJECT, Outcome.UNKNOWN

STOCK = (
    "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT -p icmp -j ACCEPT",
    "-A INPUT -i lo -j ACCEPT",
    "-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT",
    "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
)
FIREWALLD = (
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
    "-A INPUT -i lo -j ACCEPT",
    "-A INPUT -j INPUT_direct",
    "-A INPUT -j INPUT_ZONES",
    "-A INPUT -m conntrack --ctstate INVALID -j DROP",
    "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
    "-A INPUT_ZONES -i eth0 -g IN_public",
    "-A INPUT_ZONES -g IN_public",
    "-A IN_public -j IN_public_log",
    "-A IN_public -j IN_public_deny",
    "-A IN_public -j IN_public_allow",
    "-A IN_public -p icmp -j ACCEPT",
    "-A IN_public_allow -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT",
)
FIREWALLD_CHAINS = ("INPUT_direct", "INPUT_ZONES", "IN_public", "IN_public_log", "IN_public_deny", "IN_public_allow")


@pytest.mark.parametrize(
    ("text", "packet", "outcome", "place"),
    [
        pytest.param(save(), vxlan(), ACCEPT, "filter INPUT policy", id="policy accepts"),
        pytest.param(save(input_policy="DROP"), vxlan(), DROP, "filter INPUT policy", id="policy drops"),
        pytest.param(save("-A INPUT -j DROP"), syn(), ACCEPT, "filter OUTPUT policy", id="INPUT is not the way out"),
        pytest.param(save(*STOCK), vxlan(), REJECT, "filter INPUT rule 5", id="stock INPUT rejects vxlan"),
        pytest.param(
            save(*STOCK),
            vxlan(protocol="tcp", destination_port=22),
            ACCEPT,
            "filter INPUT rule 4",
            id="stock INPUT takes ssh",
        ),
        pytest.param(
            save(*FIREWALLD, chains=FIREWALLD_CHAINS),
            vxlan(device="eth1"),
            REJECT,
            "filter INPUT rule 6",
            id="firewalld over iptables",
        ),
        pytest.param(
            "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 4789 -j DNAT --to 172.18.0.2\nCOMMIT\n"
            + save(*FIREWALLD, chains=FIREWALLD_CHAINS),
            vxlan(),
            UNKNOWN,
            "nat PREROUTING rule 1",
            id="firewalld lets in what is translated",
        ),
        pytest.param(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n"
            + save(),
            vxlan(protocol="tcp", destination_port=8080),
            UNKNOWN,
            "nat DOCKER rule 1",
            id="a published port",
        ),
        pytest.param(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n"
            + save(),
            vxlan(protocol="tcp", destination_port=2377),
            ACCEPT,
            "filter INPUT policy",
            id="a port that is not published",
        ),
        pytest.param(
            save("-A INPUT -p udp -m udp --dport 4789 -j ACCEPT", "-A INPUT -j DROP"),
            vxlan(),
            ACCEPT,
            "filter INPUT rule 1",
            id="accept before the drop",
        ),
        pytest.param(
            save("-A INPUT -j DROP", "-A INPUT -p udp -m udp --dport 4789 -j ACCEPT"),
            vxlan(),
            DROP,
            "filter INPUT rule 1",
            id="accept after the drop",
        ),
        pytest.param(
            save("-A INPUT -p tcp -m tcp --dport 4789 -j ACCEPT", "-A INPUT -j DROP"),
            vxlan(),
            DROP,
            "filter INPUT rule 2",
            id="tcp opened for udp",
        ),
        pytest.param(
            save("-A INPUT -j LOG", "-A INPUT -j DROP"),
            vxlan(),
            DROP,
            "filter INPUT rule 2",
            id="a log does not end it",
        ),
        pytest.param(
            save("-A INPUT -s 198.51.100.1/32 -j DROP"),
            vxlan(),
            ACCEPT,
            "filter INPUT policy",
            id="drop of another source",
        ),
        pytest.param(
            save("-A INPUT -j a", "-A a -j DROP", chains=("a",)),
            vxlan(),
            DROP,
            "filter a rule 1",
            id="in a called chain",
        ),
        pytest.param(
            save("-A INPUT -j a", "-A INPUT -j DROP", "-A a -j RETURN", "-A a -j ACCEPT", chains=("a",)),
            vxlan(),
            DROP,
            "filter INPUT rule 2",
            id="return goes on behind the call",
        ),
        pytest.param(
            save("-A INPUT -g a", "-A INPUT -j DROP", chains=("a",)),
            vxlan(),
            ACCEPT,
            "filter INPUT policy",
            id="goto does not come back",
        ),
        pytest.param(
            save("-A INPUT -j a", "-A INPUT -j DROP", "-A a -g b", "-A a -j ACCEPT", chains=("a", "b")),
            vxlan(),
            DROP,
            "filter INPUT rule 2",
            id="goto comes back to the caller's caller",
        ),
        pytest.param(
            save("-A INPUT -j RETURN", "-A INPUT -j DROP"),
            vxlan(),
            ACCEPT,
            "filter INPUT policy",
            id="return in a base chain",
        ),
        pytest.param(
            save("-A INPUT -m set --match-set a src -j ACCEPT", "-A INPUT -j DROP"),
            vxlan(),
            UNKNOWN,
            "filter INPUT rule 2",
            id="a set may accept",
        ),
        pytest.param(
            save("-A INPUT -m set --match-set a src -j DROP", "-A INPUT -j DROP"),
            vxlan(),
            DROP,
            "filter INPUT rule 2",
            id="whatever the set holds",
        ),
        pytest.param(
            save("-A INPUT -m set --match-set a src -j DROP"),
            vxlan(),
            UNKNOWN,
            "filter INPUT rule 1",
            id="a set may drop",
        ),
        pytest.param(
            save("-A INPUT -m set --match-set a src -j ACCEPT"),
            vxlan(),
            ACCEPT,
            "filter INPUT policy",
            id="accept either way",
        ),
        pytest.param(
            save("-A INPUT -j NFQUEUE --queue-num 0"),
            vxlan(),
            UNKNOWN,
            "filter INPUT rule 1",
            id="a queue decides elsewhere",
        ),
        pytest.param(
            save("-A INPUT -j a", "-A a -j b", "-A b -j a", chains=("a", "b")),
            vxlan(),
            UNKNOWN,
            "filter b rule 1",
            id="a loop",
        ),
        pytest.param(
            save("-A FORWARD -j DROP", chains=("FORWARD",)),
            vxlan(),
            ACCEPT,
            "filter INPUT policy",
            id="FORWARD is not on the way",
        ),
        pytest.param(
            save(input_policy="ACCEPT")
            + "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 4789 -j DROP\nCOMMIT\n",
            vxlan(),
            DROP,
            "raw PREROUTING rule 1",
            id="raw comes first",
        ),
        pytest.param(
            "*mangle\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n" + save("-A INPUT -j DROP"),
            vxlan(),
            DROP,
            "filter INPUT rule 1",
            id="an accept ends its table only",
        ),
        pytest.param(
            "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 4789 -j CT --notrack\nCOMMIT\n"
            + save("-A INPUT -m state --state NEW -j ACCEPT", "-A INPUT -j DROP"),
            vxlan(),
            UNKNOWN,
            "filter INPUT rule 2",
            id="not tracked, so perhaps not new",
        ),
        pytest.param("", vxlan(), ACCEPT, None, id="no rules at all"),
    ],
)
def test_reading(text, packet, outcome, place):
    reading = read_plainly([rule_set(text)], packet)
    assert reading.outcome is outcome
    assert (reading.rule.place() if reading.rule else None) == place
    assert bool(reading.reason) is (outcome is UNKNOWN)


@pytest.mark.parametrize("order", [1, -1], ids=["nft first", "legacy first"])
def test_a_drop_in_one_variant_is_final(order):
    both = [
        rule_set(save("-A INPUT -p udp -m udp --dport 4789 -j ACCEPT")),
        rule_set(save("-A INPUT -j DROP"), Backend.IPTABLES_LEGACY),
    ]
    reading = read_plainly(both[::order], vxlan())
    assert (reading.outcome, reading.rule.backend) == (DROP, Backend.IPTABLES_LEGACY)


def test_families_are_read_apart():
    sets = [rule_set(save(input_policy="DROP")), rule_set(save(), family=6)]
    assert read_plainly(sets, vxlan(family=6, source="2001:db8::1")).outcome is ACCEPT
    reading = read_plainly([rule_set(save(input_policy="DROP"), family=6)], vxlan(family=6, source="2001:db8::1"))
    assert (reading.outcome, reading.rule.family) == (DROP, "ip6")


def test_a_line_that_is_not_understood_leaves_all_open():
    text = "*filter\n:INPUT ACCEPT [0:0]\n???\nCOMMIT\n"
    reading = read_plainly([rule_set(text)], vxlan())
    assert reading.outcome is UNKNOWN
    assert "line 3" in reading.reason


NATIVE = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n"


@pytest.mark.parametrize(
    ("text", "packet", "outcome"),
    [
        pytest.param(NATIVE, vxlan(), UNKNOWN, id="native table at the hook"),
        pytest.param(NATIVE, syn(), ACCEPT, id="native table at another hook"),
        pytest.param(NATIVE.replace("drop", "accept"), vxlan(), ACCEPT, id="native table that loses nothing"),
        pytest.param(NATIVE.replace("inet", "ip6"), vxlan(), ACCEPT, id="native table of the other family"),
        pytest.param(NATIVE.replace("inet", "netdev").replace("input", "ingress"), vxlan(), UNKNOWN, id="ingress"),
    ],
)
def test_native_tables_are_not_read_and_not_forgotten(text, packet, outcome):
    assert read_plainly([rule_set(save()), nft(text)], packet).outcome is outcome


def test_what_iptables_drops_is_dropped_whatever_nft_does():
    assert read_plainly([rule_set(save("-A INPUT -j DROP")), nft(NATIVE)], vxlan()).outcome is DROP


def test_a_native_table_called_like_iptables_own_is_native():
    # What iptables-nft-save 1.8.9 prints beside such a table.
    listed = rule_set("# Table `filter' is incompatible, use 'nft' tool.\n")
    assert read_plainly([listed, nft(NATIVE.replace("inet", "ip"))], vxlan()).outcome is UNKNOWN


def _rule(text, chain, number=1):
    return FirewallRule(
        backend=Backend.IPTABLES_NFT, family="ip", table="filter", chain=chain, number=number, text=text
    )


@pytest.mark.parametrize(
    ("lines", "rule", "answer", "expected"),
    [
        pytest.param(
            ["-A OUTPUT -j a", "-A a -j DROP"], _rule("-A a -j DROP", "a"), False, True, id="called from OUTPUT"
        ),
        pytest.param(
            ["-A INPUT -j a", "-A a -j DROP"], _rule("-A a -j DROP", "a"), False, False, id="called from INPUT only"
        ),
        pytest.param(
            ["-A INPUT -j a", "-A a -j DROP"],
            _rule("-A a -j DROP", "a"),
            True,
            True,
            id="the answer, called from INPUT",
        ),
        pytest.param(
            ["-A INPUT -m state --state ESTABLISHED -j ACCEPT", "-A INPUT -j DROP"],
            _rule("-A INPUT -j DROP", "INPUT", 2),
            True,
            False,
            id="answers are let in before it",
        ),
        pytest.param(
            ["-A INPUT -p udp -j DROP"], _rule("-A INPUT -p udp -j DROP", "INPUT"), True, False, id="other protocol"
        ),
    ],
)
def test_could_stop(lines, rule, answer, expected):
    back = Packet(direction=Direction.IN, protocol="tcp", source=PEER, destination=OWN, source_port=2377, device="eth0")
    sets = [rule_set(save(*lines, chains=("a",)))]
    assert could_stop(sets, rule, back if answer else syn(), answer=answer) is expected


def test_chains_that_call_each_other_many_times_are_walked_once():
    chains = [f"c{number}" for number in range(20)]
    lines = [f"-A c{n} -m set --match-set s src -j c{n + 1}" for n in range(19) for _ in range(3)]
    text = save("-A INPUT -j c0", *lines, "-A c19 -j RETURN", chains=chains)
    started = time.monotonic()
    assert read_plainly([rule_set(text)], vxlan()).outcome is ACCEPT
    assert time.monotonic() - started < 15


def test_many_rules_that_may_match_cost_no_square():
    text = save(*(f"-A INPUT -s 10.{n // 250}.{n % 250}.1/32 -j DROP" for n in range(5000)))
    started = time.monotonic()
    assert read_plainly([rule_set(text)], vxlan(source="")).outcome is UNKNOWN
    assert time.monotonic() - started < 15
