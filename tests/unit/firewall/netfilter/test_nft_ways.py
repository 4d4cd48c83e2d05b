"""A packet's way through nft's chains: priorities, families, NAT, and iptables' tables between them."""

import pytest

from netdiag.firewall.explain import Explainer, merged, read_rule_file
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath
from tests.unit.firewall.netfilter.nft_build import (
    ACCEPT,
    DROP,
    PACKET,
    base,
    chain,
    ct,
    explain,
    field,
    jump,
    match,
    meta,
    rule,
    text,
    told,
)

SIX = {"source": "2001:db8::21", "destination": "2001:db8::10"}
MARK = {"mangle": {"key": meta("mark"), "value": 7}}
MARKED = match(meta("mark"), 7)
FORWARD = {"path": TracePath.FORWARD, "out_device": "eth1"}


def places(found):
    return [step.rule.place() for step in found.path]


def test_a_jump_returns_and_a_goto_does_not():
    chains = (base("c", policy="drop"), chain("a"), chain("b"))
    rows = [*chains, rule("c", jump("a")), rule("c", ACCEPT), rule("a", match(field("udp dport"), 1), DROP)]
    assert told(explain(rows)) == ("accept", "t c rule 2")
    rows = [*chains, rule("c", {"goto": {"target": "a"}}), rule("c", ACCEPT), rule("a", {"return": None}, DROP)]
    assert told(explain(rows)) == ("drop", "t c policy")
    # From where a goto led one comes back to who called the chain before.
    rows = [*chains, rule("c", jump("a")), rule("c", ACCEPT), rule("a", {"goto": {"target": "b"}}), rule("a", DROP)]
    assert told(explain(rows)) == ("accept", "t c rule 2")


def test_what_stands_behind_a_verdict_is_not_asked():
    rows = [base("c"), rule("c", ACCEPT, DROP)]
    assert told(explain(rows)) == ("accept", "t c rule 1")


def test_a_change_stays_when_its_rule_breaks_off_behind_it():
    rows = [base("c"), rule("c", MARK, match(field("tcp dport"), 81), ACCEPT), rule("c", MARKED, DROP)]
    assert told(explain(rows)) == ("drop", "t c rule 2")


def test_an_accept_ends_its_base_chain_alone_and_a_drop_is_final():
    first, second = base("first", prio=-10), base("second", prio=10)
    assert told(explain([second, first, rule("first", ACCEPT), rule("second", DROP)])) == ("drop", "t second rule 1")
    assert told(explain([second, first, rule("first", DROP), rule("second", ACCEPT)])) == ("drop", "t first rule 1")
    # The last rule that accepted decides; a policy only where no rule did.
    assert told(explain([first, second, rule("first", ACCEPT)])) == ("accept", "t first rule 1")
    assert told(explain([first, second])) == ("accept", "t second policy")


def test_of_two_chains_of_a_table_at_one_priority_the_later_is_asked_first():
    rows = [base("one"), base("two"), rule("one", MARKED, DROP), rule("two", MARK)]
    assert told(explain(rows)) == ("drop", "t one rule 1")
    rows = [base("one"), base("two"), rule("two", MARKED, DROP), rule("one", MARK)]
    assert explain(rows).verdict.value == "accept"


def test_which_of_two_tables_at_one_priority_is_asked_first_is_not_known():
    rows = [base("c"), base("c", table="u"), rule("c", MARKED, DROP), rule("c", MARK, table="u")]
    found = explain(rows)
    assert found.verdict.value == "unknown"
    assert "which of" in found.reason
    rows = [base("c"), base("c", table="u"), rule("c", DROP), rule("c", ACCEPT, table="u")]
    assert told(explain(rows)) == ("drop", "t c rule 1")


def test_each_family_sees_its_packets():
    rows = [
        base("c", family="ip", table="four"),
        base("c", family="ip6", table="six"),
        rule("c", DROP, family="ip", table="four"),
        rule("c", ACCEPT, family="ip6", table="six"),
    ]
    assert told(explain(rows)) == ("drop", "four c rule 1")
    assert told(explain(rows, **SIX)) == ("accept", "six c rule 1")
    rows = [base("c", family="arp"), rule("c", DROP, family="arp")]
    assert told(explain(rows)) == ("accept", None)


def test_the_rule_is_named_with_family_handle_and_text():
    rows = [
        base("c"),
        rule("c", match(field("tcp dport"), 80), {"counter": {"packets": 3, "bytes": 180}}, DROP, handle=9),
    ]
    found = explain(rows)
    assert (found.rule.backend.value, found.rule.family, found.rule.handle) == ("nft-native", "inet", 9)
    assert found.rule.text == "tcp dport 80 counter drop"
    assert found.path[-1].packets == 3
    rows = [base("c", policy="drop")]
    assert explain(rows).policy.text == "policy drop"


def test_tables_of_iptables_stand_between_at_their_priorities():
    save = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{}\nCOMMIT\n"

    def both(iptables, *rows, **packet):
        read = merged([read_rule_file(save.format(iptables)), read_rule_file(text(*rows))])
        return told(Explainer(read).explain(PacketLine(**{**PACKET, **packet})))

    marked = "-A INPUT -m mark --mark 0x7 -j DROP"
    assert both(marked, base("c", prio=-1), rule("c", MARK)) == ("drop", "filter INPUT rule 1")
    assert both(marked, base("c", prio=1), rule("c", MARK))[0] == "accept"
    assert both("-A INPUT -j ACCEPT", base("c", prio=1), rule("c", ACCEPT)) == ("accept", "t c rule 1")
    assert both("-A INPUT -j ACCEPT", base("c", prio=-1), rule("c", ACCEPT)) == ("accept", "filter INPUT rule 1")
    # At iptables' own priority nothing tells which is asked first.
    assert both(marked, base("c", prio=0), rule("c", MARK))[0] == "unknown"


def test_a_table_that_iptables_nft_wrote_is_read_from_its_save():
    save = "# Generated by iptables-save v1.8.9 (nf_tables)\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -j DROP\nCOMMIT\n"
    native = text(base("INPUT", family="ip", table="filter"), rule("INPUT", {"xt": None}, family="ip", table="filter"))
    read = merged([read_rule_file(native), read_rule_file(save)])
    assert told(Explainer(read).explain(PacketLine(**PACKET))) == ("drop", "filter INPUT rule 1")
    # Without that save nobody knows what stands in it.
    assert Explainer(read_rule_file(native)).explain(PacketLine(**PACKET)).verdict.value == "unknown"


def test_a_listing_that_could_not_be_read_hides_what_another_file_does_not_tell():
    save = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
    for one, other in ((save, "{"), ("{", save)):
        read = merged([read_rule_file(one), read_rule_file(other)])
        assert Explainer(read).explain(PacketLine(**PACKET)).verdict.value == "unknown"
    sets = "create friends hash:ip\n"
    assert told(Explainer(merged([read_rule_file(save), read_rule_file(sets)])).explain(PacketLine(**PACKET))) == (
        "accept",
        "filter INPUT policy",
    )


def test_conntrack_stands_at_minus_200():
    new = match(ct("state"), "new", "in")
    for priority, found in ((-201, "accept"), (-199, "drop")):
        rows = [base("c", hook="prerouting", prio=priority), rule("c", new, DROP)]
        assert explain(rows).verdict.value == found
    untrack = [base("r", hook="prerouting", prio=-300), rule("r", {"notrack": None})]
    rows = [*untrack, base("c"), rule("c", match(ct("state"), "untracked", "in"), DROP)]
    assert told(explain(rows)) == ("drop", "t c rule 1")


def nat(hook="prerouting", prio=-100, name="nat", **more):
    return base(name, hook=hook, prio=prio, kind="nat", **more)


def to(address=None, port=None, **more):
    said = {"family": "ip", "addr": address} if address else {}
    return {"dnat": {**said, **({"port": port} if port else {}), **more}}


def test_a_destination_is_translated_before_routing():
    host = Host(addresses=frozenset({(0xC000020A, 4)}))
    rows = [nat(), rule("nat", match(field("tcp dport"), 80), to("10.0.0.9", 8080)), base("c", hook="forward")]
    rows.append(
        rule(
            "c",
            match(field("ip daddr"), "10.0.0.9"),
            match(field("tcp dport"), 8080),
            match(ct("status"), "dnat", "in"),
            DROP,
        )
    )
    found = explain(rows, host)
    assert told(found) == ("drop", "t c rule 1")
    assert "t nat rule 1" in places(found)
    assert told(explain(rows, host, dport=81))[0] == "accept"
    # Only a flow's first packet is asked about.
    assert "t nat rule 1" not in places(explain(rows, host, state="ESTABLISHED"))


def test_nat_is_asked_at_one_place_whatever_the_priority_of_its_chain():
    rows = [nat(prio=50), rule("nat", to(port=8080)), base("c", hook="prerouting", prio=0)]
    rows.append(rule("c", match(field("tcp dport"), 8080), DROP))
    assert told(explain(rows)) == ("drop", "t c rule 1")


def test_the_first_that_translates_is_the_last_that_is_asked():
    rows = [nat(), nat(prio=-90, name="later"), rule("nat", to(port=8080)), rule("later", to(port=9090)), base("c")]
    rows.append(rule("c", match(field("tcp dport"), 8080), DROP))
    assert told(explain(rows)) == ("drop", "t c rule 1")
    # An accept translates nothing: the next is asked.
    rows = [nat(), nat(prio=-90, name="later"), rule("nat", ACCEPT), rule("later", to(port=8080)), base("c")]
    rows.append(rule("c", match(field("tcp dport"), 8080), DROP))
    assert told(explain(rows)) == ("drop", "t c rule 1")


def test_a_chain_of_nat_decides_about_nothing_else():
    rows = [
        nat(hook="input", prio=100),
        rule("nat", ACCEPT),
        rule("nat", {"snat": {"family": "ip", "addr": "10.0.0.1"}}),
    ]
    assert told(explain([*rows, base("c", prio=-5), rule("c", ACCEPT)])) == ("accept", "t c rule 1")


def test_an_address_of_another_family_is_passed_over():
    rows = [nat(), rule("nat", to("10.0.0.9")), base("c"), rule("c", DROP)]
    assert told(explain(rows, **SIX)) == ("drop", "t c rule 1")


def test_a_map_says_where_to():
    host = Host(addresses=frozenset({(0xC000020A, 4)}))
    pairs = [[80, {"concat": ["10.0.0.9", 8080]}], [81, {"concat": ["10.0.0.8", 8081]}]]
    where = {"map": {"key": field("tcp dport"), "data": {"set": pairs}}}
    rows = [nat(), rule("nat", to(where)), base("c", hook="forward"), base("in")]
    rows.append(rule("c", match(field("ip daddr"), "10.0.0.9"), match(field("tcp dport"), 8080), DROP))
    assert told(explain(rows, host)) == ("drop", "t c rule 1")
    assert told(explain(rows, host, dport=81)) == ("accept", "t c policy")
    assert told(explain(rows, host, dport=82)) == ("accept", "t in policy")


def test_a_redirect_and_a_masquerade():
    host = Host(addresses=frozenset({(0xC000020A, 4)}), first_addresses={"eth0": 0xC000020A})
    rows = [nat(), rule("nat", match(field("tcp dport"), 80), {"redirect": {"port": 8080}}), base("c")]
    rows.append(rule("c", match(field("ip daddr"), "192.0.2.10"), match(field("tcp dport"), 8080), DROP))
    assert told(explain(rows, host, destination="198.51.100.1")) == ("drop", "t c rule 1")
    rows = [
        nat(hook="postrouting", prio=100),
        rule("nat", {"masquerade": None}),
        base("c", hook="postrouting", prio=300),
    ]
    rows.append(rule("c", match(field("ip saddr"), "192.0.2.21"), DROP))
    assert explain(rows, **FORWARD).verdict.value == "unknown"  # its new source is the device's


@pytest.mark.parametrize(("devices", "found"), [(["eth0"], "drop"), (["eth1"], "accept"), (None, "unknown")])
def test_a_device_s_own_chain_is_asked_first(devices, found):
    more = {} if devices is None else {"dev": devices}
    rows = [base("ing", hook="ingress", family="netdev", **more), base("c")]
    rows += [rule("ing", match(field("ip saddr"), "192.0.2.21"), DROP, family="netdev")]
    rows += [rule("c", ACCEPT)]
    assert explain(rows).verdict.value == found


def test_a_bridge_s_chains_leave_unknown_what_may_come_through_a_bridge():
    rows = [base("f", hook="forward", family="bridge"), rule("f", DROP, family="bridge"), base("c"), rule("c", ACCEPT)]
    assert explain(rows, Host(bridges=frozenset({"br0"})), in_device="br0").verdict.value == "unknown"
    assert explain(rows, Host(bridges=frozenset({"br0"}))).verdict.value == "accept"


def test_a_dormant_table_is_asked_about_nothing():
    table = {"table": {"family": "inet", "name": "t", "flags": "dormant"}}
    assert told(explain([table, base("c"), rule("c", DROP)])) == ("accept", None)


def test_ways_that_come_to_the_same_name_what_they_share():
    limited = {"limit": {"rate": 1, "per": "second"}}
    rows = [base("c", prio=-5), rule("c", limited, ACCEPT), rule("c", {"counter": {"packets": 0, "bytes": 0}})]
    rows += [base("last"), rule("last", ACCEPT)]
    found = explain(rows)
    assert told(found) == ("accept", "t last rule 1")
    assert places(found) == ["t last rule 1"]
    # What may be met and changes nothing is no part of the path, nor is it missed.
    rows = [base("c"), rule("c", limited, {"counter": {"packets": 0, "bytes": 0}}), rule("c", DROP)]
    assert places(explain(rows)) == ["t c rule 2"]


def test_a_way_without_end_is_given_up():
    rows = [base("c"), chain("a"), chain("b"), rule("c", jump("a")), rule("a", jump("b")), rule("b", jump("a"))]
    found = explain(rows)
    assert found.verdict.value == "unknown"
    assert "circle" in found.reason
    many = [rule("a", jump("a")) for _ in range(50)]
    assert explain([base("c"), chain("a"), rule("c", jump("a")), *many]).verdict.value == "unknown"
    found = explain([base("c"), rule("c", jump("nowhere"))])
    assert "no chain nowhere" in found.reason


def test_a_hook_that_is_asked_alone_knows_what_tables_before_conntrack_do():
    raw = base("raw", hook="prerouting", prio=-300)
    rows = [raw, base("c"), rule("c", match(ct("state"), "untracked"), DROP)]
    assert told(explain(rows, hook="INPUT")) == ("accept", "t c policy")
    always = [*rows, rule("raw", {"notrack": None})]
    assert told(explain(always, hook="INPUT")) == ("drop", "t c rule 1")
    perhaps = [*rows, rule("raw", {"limit": {"rate": 1, "per": "second"}}, {"notrack": None})]
    assert explain(perhaps, hook="INPUT").verdict.value == "unknown"
    assert told(explain(always, hook="INPUT", state="NEW")) == ("accept", "t c policy")


def test_a_hook_that_is_asked_alone_does_not_know_what_was_translated_before():
    save = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\nCOMMIT\n"
    nat = base("nat", hook="prerouting", prio=-100, kind="nat", family="ip")
    rows = {"idle": [nat], "translating": [nat, rule("nat", {"dnat": {"addr": "192.0.2.99"}}, family="ip")]}
    packet = PacketLine(**{**PACKET, "hook": "FORWARD"})
    said = {
        name: Explainer(merged([read_rule_file(save), read_rule_file(text(*each))])).explain(packet)
        for name, each in rows.items()
    }
    assert told(said["idle"]) == ("drop", "filter FORWARD policy")
    assert said["translating"].verdict.value == "unknown"
