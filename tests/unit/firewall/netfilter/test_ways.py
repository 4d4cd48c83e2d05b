"""A packet's way through chains, tables and hooks."""

import pytest

from netdiag.firewall.explain import Explainer, merged, read_rule_file
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath, TraceVerdict

PACKET = {"source": "192.0.2.21", "destination": "192.0.2.10", "in_device": "eth0", "sport": 40000, "dport": 80}


def explain(text, host=None, **packet):
    return Explainer(read_rule_file(text), host).explain(PacketLine(**{**PACKET, **packet}))


def table(name, *rules, chains=(), policy="ACCEPT"):
    bases = {
        "raw": "PREROUTING OUTPUT",
        "nat": "PREROUTING INPUT OUTPUT POSTROUTING",
        "mangle": "PREROUTING INPUT FORWARD OUTPUT POSTROUTING",
    }.get(name, "INPUT FORWARD OUTPUT")
    lines = [
        f"*{name}",
        *(f":{base} {policy} [0:0]" for base in bases.split()),
        *(f":{each} - [0:0]" for each in chains),
    ]
    return "\n".join([*lines, *rules, "COMMIT", ""])


def said(found):
    decided = found.rule or found.policy
    return found.verdict.value, None if decided is None else decided.place()


def places(found):
    return [f"{step.rule.chain} {step.rule.number}" for step in found.path if step.rule.policy is None]


def test_a_jump_returns_and_a_goto_does_not():
    chains = ("A", "B")
    rules = ("-A INPUT -j A", "-A INPUT -j DROP", "-A A -p udp -j ACCEPT")
    assert said(explain(table("filter", *rules, chains=chains))) == ("drop", "filter INPUT rule 2")
    rules = ("-A INPUT -g A", "-A INPUT -j DROP", "-A A -p udp -j ACCEPT")
    assert said(explain(table("filter", *rules, chains=chains))) == ("accept", "filter INPUT policy")
    # From where a goto led one comes back to who called the chain before.
    rules = ("-A INPUT -j A", "-A INPUT -j REJECT", "-A A -g B", "-A A -j DROP", "-A B -j RETURN")
    assert said(explain(table("filter", *rules, chains=chains))) == ("reject", "filter INPUT rule 2")


def test_return_in_a_base_chain_is_its_policy():
    text = table("filter", "-A INPUT -j RETURN", "-A INPUT -j ACCEPT", policy="DROP")
    found = explain(text)
    assert said(found) == ("drop", "filter INPUT policy")
    assert found.rule is None
    assert found.policy.policy == "DROP"


def test_a_rule_without_target_only_counts():
    found = explain(table("filter", "-A INPUT -p tcp", "-A INPUT -j LOG", "-A INPUT -p tcp -j DROP"))
    assert places(found) == ["INPUT 1", "INPUT 2", "INPUT 3"]
    assert said(found) == ("drop", "filter INPUT rule 3")


def test_tables_stand_in_the_kernel_s_order():
    text = (
        table("filter", "-A INPUT -j ACCEPT")
        + table("mangle", "-A INPUT -j DROP")
        + table("raw", "-A PREROUTING -j ACCEPT")
    )
    found = explain(text)
    assert said(found) == ("drop", "mangle INPUT rule 1")
    assert [step.rule.table for step in found.path] == ["raw", "mangle", "mangle"]


def test_a_mark_is_carried_from_table_to_table():
    text = table("mangle", "-A PREROUTING -j MARK --set-xmark 0x10/0xf0", "-A PREROUTING -j MARK --or-mark 0x1")
    text += table("filter", "-A INPUT -m mark --mark 0x11 -j DROP")
    assert said(explain(text)) == ("drop", "filter INPUT rule 1")
    assert said(explain(text, mark="0x100")) == ("accept", "filter INPUT policy")


def test_conntrack_stands_behind_raw():
    rules = ("-A PREROUTING -m conntrack --ctstate INVALID -j MARK --set-mark 1",)
    text = table("raw", "-A PREROUTING -m conntrack --ctstate NEW -j DROP") + table("mangle", *rules)
    assert said(explain(text)) == ("accept", "mangle INPUT policy")
    text = table("raw", "-A PREROUTING -p tcp -j NOTRACK")
    text += table("filter", "-A INPUT -m state --state UNTRACKED -j DROP")
    assert said(explain(text)) == ("drop", "filter INPUT rule 1")


def test_what_may_match_leaves_both_ways_open():
    text = table("filter", "-A INPUT -m recent --update --name x -j DROP", "-A INPUT -p tcp -j ACCEPT", policy="DROP")
    found = explain(text)
    assert found.verdict is TraceVerdict.UNKNOWN
    assert found.rule is None
    assert [each.value for each in found.possible] == ["accept", "drop"]
    assert [each.rule.number for each in found.depends] == [1]


def test_what_may_match_and_changes_nothing_leaves_the_answer():
    rules = ("-A INPUT -m limit --limit 5/min -j LOG", "-A INPUT -m recent --update --name x -j A", "-A INPUT -j DROP")
    found = explain(table("filter", *rules, chains=("A",)))
    assert said(found) == ("drop", "filter INPUT rule 3")
    assert not found.depends


def test_a_mark_that_may_be_set_is_followed_both_ways():
    text = table("mangle", "-A PREROUTING -m recent --rcheck --name x -j MARK --set-mark 5")
    text += table("filter", "-A INPUT -m mark --mark 5 -j DROP")
    found = explain(text)
    assert [each.value for each in found.possible] == ["accept", "drop"]
    assert found.depends[0].rule.table == "mangle"


def test_one_verdict_by_one_of_two_rules_is_not_known_to_be_either_s():
    found = explain(table("filter", "-A INPUT -m recent --update --name x -j DROP", "-A INPUT -j DROP"))
    assert found.verdict is TraceVerdict.UNKNOWN
    assert found.possible == (TraceVerdict.DROP,)
    assert "drop, but by which rule" in found.reason


def test_a_new_destination_is_what_later_rules_see():
    text = table("nat", "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8080")
    text += table(
        "filter", "-A FORWARD -d 172.17.0.2 -p tcp --dport 8080 -m conntrack --ctstate DNAT -j ACCEPT", policy="DROP"
    )
    host = Host(addresses=frozenset({(0xC000020A, 4)}))
    found = explain(text, host)
    assert said(found) == ("accept", "filter FORWARD rule 1")
    assert (found.after.destination, found.after.destination_port) == ("172.17.0.2", 8080)
    assert said(explain(text, host, dport=81)) == ("drop", "filter INPUT policy")


def test_whose_a_new_destination_is_is_not_in_a_saved_file():
    text = table("nat", "-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2")
    text += table("filter", "-A INPUT -j DROP")
    found = explain(text)
    assert found.verdict is TraceVerdict.UNKNOWN
    assert "172.17.0.2 is an address of this host" in found.reason
    assert said(explain(text, out_device="docker0")) == ("accept", "filter FORWARD policy")


def test_redirect_is_to_this_host():
    text = table("nat", "-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 3128")
    text += table("filter", "-A INPUT -p tcp --dport 3128 -j DROP")
    assert said(explain(text, path=TracePath.FORWARD, out_device="eth1")) == ("drop", "filter INPUT rule 1")


def test_nat_is_not_asked_about_a_flow_that_is_known():
    text = table("nat", "-A PREROUTING -j DNAT --to-destination 172.17.0.2") + table("filter", "-A INPUT -j DROP")
    assert said(explain(text, state="ESTABLISHED")) == ("drop", "filter INPUT rule 1")


def test_a_packet_to_oneself_passes_input_too():
    text = table("filter", "-A INPUT -i lo -p tcp --dport 80 -j REJECT")
    out = {
        "path": TracePath.OUT,
        "in_device": None,
        "source": "127.0.0.1",
        "destination": "127.0.0.1",
        "out_device": "lo",
    }
    assert said(explain(text, **out)) == ("reject", "filter INPUT rule 1")


def test_one_hook_alone():
    text = table("mangle", "-A PREROUTING -j DROP") + table("filter", "-A INPUT -j ACCEPT", policy="DROP")
    assert said(explain(text, hook="input")) == ("accept", "filter INPUT rule 1")
    assert said(explain(text, hook="PREROUTING")) == ("drop", "mangle PREROUTING rule 1")


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        ({"hook": "INPUT", "path": TracePath.OUT}, "does not come to INPUT"),
        ({"hook": "INGRESS"}, "no hook"),
        ({"proto": "icmp"}, "no ports"),
        ({"proto": "udp", "tcp_flags": "syn"}, "TCP flags"),
        ({"source": "2001:db8::1"}, "two families"),
        ({"state": "OLD"}, "no state"),
        ({"dport": 65536}, "65535"),
        ({"mark": "x"}, "no number"),
    ],
)
def test_a_packet_that_does_not_go_together(packet, why):
    with pytest.raises(ValueError, match=why):
        explain(table("filter"), **packet)


def test_both_variants_meet_the_packet():
    nft = "# Generated by iptables-save v1.8.9 (nf_tables)\n" + table("filter", "-A INPUT -p tcp -j ACCEPT")
    legacy = table("filter", "-A INPUT -p tcp -j DROP")
    both = merged([read_rule_file(nft), read_rule_file(legacy)])
    found = Explainer(both).explain(PacketLine(**PACKET))
    assert said(found) == ("drop", "filter INPUT rule 1")
    assert found.rule.backend.value == "iptables-legacy"


def test_a_long_chain_answers_as_a_short_one():
    rules = [f"-A INPUT -s 10.0.{number}.0/24 -p tcp -m tcp --dport {number} -j DROP" for number in range(200)]
    rules[150] = "-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 70:90 -j REJECT"
    rules[170] = "-A INPUT ! -s 10.0.0.0/8 -j DROP"
    assert said(explain(table("filter", *rules))) == ("reject", "filter INPUT rule 151")
    assert said(explain(table("filter", *rules), dport=91)) == ("drop", "filter INPUT rule 171")
    assert said(explain(table("filter", *rules), source="10.0.9.1", dport=9)) == ("drop", "filter INPUT rule 10")
    assert said(explain(table("filter", *rules), source="10.0.9.1", dport=8)) == ("accept", "filter INPUT policy")
    unknown = explain(table("filter", *rules), source=None)
    assert unknown.verdict is TraceVerdict.UNKNOWN


def test_a_hop_is_counted_before_forward():
    text = table("mangle", "-A PREROUTING -m ttl --ttl-eq 64 -j MARK --set-mark 1")
    text += table("filter", "-A FORWARD -m mark --mark 1 -m ttl --ttl-eq 63 -j DROP")
    forward = {"path": TracePath.FORWARD, "out_device": "eth1"}
    assert said(explain(text, **forward)) == ("drop", "filter FORWARD rule 1")
    assert said(explain(text, hook="FORWARD", mark=1, ttl=63, out_device="eth1")) == ("drop", "filter FORWARD rule 1")
    assert "TTL" in explain(text, **forward, ttl=1).reason


def test_what_was_for_a_group_is_not_forwarded():
    text = table("nat", "-A PREROUTING -p tcp -j DNAT --to-destination 172.17.0.2") + table(
        "filter", "-A FORWARD -j ACCEPT"
    )
    host = Host(addresses=frozenset({(0xC000020A, 4)}), broadcasts=frozenset({0xC00002FF}))
    assert said(explain(text, host)) == ("accept", "filter FORWARD rule 1")
    for destination in ("224.0.0.1", "192.0.2.255"):
        assert "forwards it not" in explain(text, host, destination=destination).reason


def test_a_frame_stays_as_it_was_addressed_when_its_destination_is_rewritten():
    host = Host(addresses=frozenset({(0xC000020A, 4)}), broadcasts=frozenset({0xC00002FF}))
    text = table("nat", "-A PREROUTING -d 192.0.2.255/32 -p udp -j DNAT --to-destination 192.0.2.10")
    text += table("filter", "-A INPUT -m pkttype --pkt-type broadcast -j DROP")
    packet = {"proto": "udp", "path": TracePath.IN}
    assert said(explain(text, host, destination="192.0.2.255", **packet)) == ("drop", "filter INPUT rule 1")
    assert said(explain(text, host, **packet)) == ("accept", "filter INPUT policy")
