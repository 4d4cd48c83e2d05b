"""Rule sets as programs and operators write them, and what becomes of packets in them, found by reading them.

firewalld.json and fail2ban.json are what the packaged programs wrote in a lab; openwrt-fw4 and docker-bridges have the
shape of what fw4 and Docker's nftables backend write.
"""

import re
from pathlib import Path

import pytest

from netdiag.firewall.explain import Explainer, read_rule_file, read_rule_sets
from netdiag.firewall.listing import read_listing
from netdiag.firewall.netfilter.nft.reading import read_nft
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.explain import PacketLine
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.trace import TracePath

RECORDED = Path(__file__).parents[1] / "recorded" / "nft"
HERE = Host(addresses=frozenset({(0xC0A80101, 4), (0xC000020A, 4)}), bridges=frozenset({"docker0", "br-app"}))
PING = {"proto": "icmp", "sport": None, "dport": None}
IN, OUT, ON = TracePath.IN, TracePath.OUT, TracePath.FORWARD


def packet(path, **more):
    said = {"source": "198.18.0.7", "destination": "192.0.2.10", "sport": 40000, "dport": 80, "path": path}
    return said | ({} if path is OUT else {"in_device": "eth0"}) | more


CASES = [
    # firewalld: public lets in ssh, DHCPv6 and 2377; a rich rule drops 80 from 192.0.2.0/24
    ("firewalld", packet(IN, dport=22), "accept", "filter_IN_public_allow rule 1"),
    ("firewalld", packet(IN, dport=2377), "accept", "filter_IN_public_allow rule 3"),
    ("firewalld", packet(IN, dport=80), "reject", "filter_IN_public rule 9"),
    ("firewalld", packet(IN, dport=80, source="192.0.2.99"), "drop", "filter_IN_public_deny rule 1"),
    ("firewalld", packet(IN, **PING), "accept", "filter_IN_public rule 8"),
    ("firewalld", packet(IN, state="ESTABLISHED"), "accept", "filter_INPUT rule 1"),
    ("firewalld", packet(IN, tcp_flags="rst"), "drop", "filter_INPUT rule 4"),
    ("firewalld", packet(IN, in_device="lo"), "accept", "filter_INPUT rule 3"),
    ("firewalld", packet(OUT, out_device="eth0", destination="198.18.0.9"), "accept", "filter_OUTPUT policy"),
    ("firewalld", packet(ON, out_device="eth1"), "reject", "filter_FWD_public rule 8"),
    # IPv6 has to pass the reverse path filter, of which the rules tell nothing.
    ("firewalld", packet(IN, source="2001:db8::1", destination="2001:db8::2", dport=22), "unknown", None),
    ("firewalld", packet(IN, source="fe80::1", destination="fe80::2", proto="icmpv6", icmp_type=135, sport=None, dport=None), "accept", "filter_IN_policy_allow-host-ipv6_allow rule 2"),
    # fail2ban's action nftables-multiport, with a jail for 22 and 2377
    ("fail2ban", packet(IN, dport=22, source="10.71.0.12"), "reject", "f2b-chain rule 1"),
    ("fail2ban", packet(IN, dport=80, source="10.71.0.12"), "accept", "f2b-chain policy"),
    ("fail2ban", packet(IN, dport=22, source="10.71.0.13"), "accept", "f2b-chain policy"),
    ("fail2ban", packet(IN, dport=22, proto="udp", source="10.71.0.12"), "accept", "f2b-chain policy"),
    # fw4
    ("openwrt-fw4", packet(IN, in_device="wan"), "reject", "handle_reject rule 1"),
    ("openwrt-fw4", packet(IN, in_device="wan", proto="udp", dport=53), "reject", "handle_reject rule 2"),
    ("openwrt-fw4", packet(IN, in_device="wan", source="198.51.100.5"), "drop", "input_wan rule 1"),
    ("openwrt-fw4", packet(IN, in_device="wan", proto="udp", dport=68), "accept", "input_wan rule 2"),
    ("openwrt-fw4", packet(IN, in_device="wan", **PING), "accept", "input_wan rule 3"),
    ("openwrt-fw4", packet(IN, in_device="br-lan", dport=22), "accept", "accept_from_lan rule 1"),
    ("openwrt-fw4", packet(IN, in_device="br-lan", dport=22, bucket="empty"), "drop", "syn_flood rule 2"),
    ("openwrt-fw4", packet(IN, in_device="br-guest", proto="udp"), "reject", "handle_reject rule 2"),
    ("openwrt-fw4", packet(ON, in_device="br-lan", out_device="wan"), "accept", "accept_to_wan rule 2"),
    ("openwrt-fw4", packet(ON, in_device="br-lan", out_device="wan", tcp_flags="rst"), "drop", "accept_to_wan rule 1"),
    ("openwrt-fw4", packet(ON, in_device="wan", out_device="br-lan", proto="esp", sport=None, dport=None), "accept", "accept_to_lan rule 1"),
    ("openwrt-fw4", packet(ON, in_device="wan", out_device="br-lan"), "reject", "handle_reject rule 1"),
    ("openwrt-fw4", packet(ON, in_device="wan", out_device="br-lan", destination="192.168.1.1", dport=8443), "accept", "forward rule 2"),
    ("openwrt-fw4", packet(OUT, out_device="wan", destination="198.18.0.7"), "accept", "output policy"),
    # Docker's nftables backend: 8080 is published, to 172.20.0.2:80 in br-app
    ("docker-bridges", packet(ON, out_device="br-app", dport=8080), "accept", "filter-forward-in__br-app rule 3"),
    ("docker-bridges", packet(ON, out_device="br-app", destination="172.20.0.2"), "drop", "raw-PREROUTING rule 1"),
    ("docker-bridges", packet(ON, out_device="br-app", destination="172.20.0.3"), "drop", "filter-forward-in__br-app rule 4"),
    ("docker-bridges", packet(ON, out_device="docker0", destination="172.17.0.2"), "drop", "filter-forward-in__docker0 rule 3"),
    ("docker-bridges", packet(ON, in_device="br-app", out_device="eth0", source="172.20.0.2", destination="198.18.0.7"), "accept", "filter-forward-out__br-app rule 2"),
    ("docker-bridges", packet(ON, in_device="br-app", out_device="docker0", source="172.20.0.2", destination="172.17.0.2"), "drop", "filter-forward-in__docker0 rule 3"),
    ("docker-bridges", packet(ON, in_device="docker0", out_device="docker0", source="172.17.0.2", destination="172.17.0.3"), "accept", "filter-forward-in__docker0 rule 2"),
    ("docker-bridges", packet(ON, in_device="eth0", out_device="eth1", destination="203.0.113.5"), "drop", "filter-FORWARD policy"),
    # an operator's
    ("inet-filter", packet(IN, dport=443), "accept", "input rule 4"),
    ("inet-filter", packet(IN, dport=25, source="192.0.2.7"), "drop", "input policy"),
    ("inet-filter", packet(IN, dport=25), "accept", "mail rule 2"),
    ("inet-filter", packet(IN, dport=22, source="10.0.0.9"), "accept", "input rule 5"),
    ("inet-filter", packet(IN, dport=2500, source="10.0.1.5"), "accept", "input rule 5"),
    ("inet-filter", packet(IN, dport=22, source="10.0.1.5"), "unknown", None),
    ("inet-filter", packet(IN, dport=7000), "drop", "input rule 6"),
    ("inet-filter", packet(IN, dport=7001), "unknown", None),
    ("inet-filter", packet(IN, dport=5001, bucket="empty"), "drop", "input rule 9"),
    ("inet-filter", packet(IN, dport=5001, bucket="full"), "accept", "input rule 10"),
    ("inet-filter", packet(IN, dport=5000), "unknown", None),
    ("inet-filter", packet(IN, proto="udp", dport=514, in_device="dmz3"), "accept", "input rule 11"),
    ("inet-filter", packet(ON, out_device="eth1"), "drop", "forward policy"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "txt"])
@pytest.mark.parametrize(("name", "said", "verdict", "place"), CASES)
def test_what_a_program_s_rules_do(name, said, verdict, place, kind):
    explainer = Explainer(read_rule_file((RECORDED / f"{name}.{kind}").read_text()), HERE)
    found = explainer.explain(PacketLine(**{"bucket": "full", **said}))
    decided = found.rule or found.policy
    assert found.verdict.value == verdict, found.reason
    assert (None if decided is None else decided.place().partition(" ")[2]) == place


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_rules_are_written_as_nft_lists_them(path):
    """Numbers of marks, flags and rates nft writes in several ways; the words are the same."""
    listing = read_listing(path.with_suffix(".txt").read_text())
    read = read_nft(path.read_text())
    assert not read.problems

    def plain(text):
        text = re.sub(r"\b0x0*([0-9a-f]+)\b", lambda found: str(int(found[1], 16)), text)
        return re.sub(
            r"(tcp flags) (\S+) / (\S+)",
            lambda found: f"{found[1]} & ({found[3].replace(',', ' | ')}) == {found[2]}",
            text,
        )

    for table in read.tables:
        for chain in table.chains.values():
            listed = listing[table.family, table.name, chain.name]
            assert [plain(rule.text) for rule in chain.rules] == [plain(rule.text) for rule in listed.rules]
            assert [rule.handle for rule in chain.rules] == [rule.handle for rule in listed.rules]


def test_a_host_s_json_is_read_with_the_texts_of_its_listing():
    whole, listed = ((RECORDED / f"openwrt-fw4.{kind}").read_text() for kind in ("json", "txt"))
    rules = RuleSet(backend=Backend.NFT_NATIVE, family=0, text=listed, sha256="", json=whole)
    asked = PacketLine(**packet(IN, in_device="br-lan", bucket="empty"))
    found = Explainer(read_rule_sets([rules]), HERE).explain(asked)
    syn = next(step.rule for step in found.path if step.rule.chain == "input")
    assert syn.text == "tcp flags syn / fin,syn,rst,ack jump syn_flood"
    # Without JSON the text tells it.
    without = RuleSet(backend=Backend.NFT_NATIVE, family=0, text=listed, sha256="")
    again = Explainer(read_rule_sets([without]), HERE).explain(asked)
    assert [step.rule.place() for step in again.path] == [step.rule.place() for step in found.path]
