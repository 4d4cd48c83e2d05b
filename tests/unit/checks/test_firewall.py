import pytest

from netdiag.model.engine import Network
from netdiag.model.facts import HOST, Backend, FirewallSaved, FirewallService, Section
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    HEALTHY_RULES,
    MANAGER,
    OTHER,
    OWN,
    STOCK_INPUT,
    absent,
    blocked,
    context,
    engine,
    filter_table,
    found,
    joining,
    manager_engine,
    only,
    probe,
    rules,
)

J, N, T = Need.JOIN, Need.NAMES, Need.TRAFFIC
NO, OPEN = Answer.NO, Answer.UNKNOWN
NATIVE = "table inet mine {\n\tchain in {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n"


def with_rules(*texts, probes=None, options=None, **sections):
    sets = tuple(rules(text) if isinstance(text, str) else text for text in texts)
    return context(*(probes or (probe(),)), options=options, firewall={HOST: sets}, **sections)


def test_readable():
    one = only("firewall.readable", with_rules(HEALTHY_RULES, rules(NATIVE, Backend.NFT_NATIVE, 0)))
    assert one.state is State.OK
    assert "2 iptables rules, nft tables of their own: inet mine" in one.summary


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(absent("not permitted"), id="absent"),
        pytest.param(
            Section(value={"container:x": ()}, partial={HOST: absent("not permitted").absent}), id="host missing"
        ),
    ],
)
def test_rules_that_cannot_be_read_leave_names_and_traffic_open_once(section):
    ctx = joining(firewall=section)
    one = only("firewall.readable", ctx)
    assert (one.state, one.answers, one.reason) == (State.UNKNOWN, {N: OPEN, T: OPEN}, "not permitted")
    for check in ("firewall.backends", "firewall.outbound", "firewall.inbound"):
        assert {other.state for other in found(check, ctx)} <= {State.SKIP}


def test_a_line_that_was_not_understood_is_shown():
    one = only("firewall.readable", with_rules("*filter\n:INPUT ACCEPT [0:0]\nrubbish\nCOMMIT\n"))
    assert "line 3: rubbish" in one.evidence[0].text


@pytest.mark.parametrize(
    ("legacy", "state"),
    [
        pytest.param(filter_table("-A INPUT -j DROP"), State.WARN, id="both"),
        pytest.param(filter_table(policies=("DROP", "ACCEPT", "ACCEPT")), State.WARN, id="a policy is a rule, too"),
        pytest.param(filter_table(), State.OK, id="empty tables"),
    ],
)
def test_backends(legacy, state):
    one = only("firewall.backends", with_rules(HEALTHY_RULES, rules(legacy, Backend.IPTABLES_LEGACY)))
    assert (one.state, one.answers) == (state, {})
    if one.cause:
        assert (one.cause.code, one.cause.confidence) == ("firewall.backend-split", Confidence.POSSIBLE)


@pytest.mark.parametrize(
    ("services", "state", "word"),
    [
        pytest.param((), State.OK, "neither", id="none"),
        pytest.param((("firewalld", True),), State.OK, "firewall-cmd", id="firewalld"),
        pytest.param((("ufw", False),), State.OK, "neither", id="ufw off"),
        pytest.param((("ufw", None),), State.UNKNOWN, "ufw", id="ufw not known"),
    ],
)
def test_services(services, state, word):
    saved = FirewallSaved(services=tuple(FirewallService(name=name, active=on, evidence="") for name, on in services))
    one = only("firewall.services", joining(firewall_saved=saved))
    assert one.state is state
    assert word in one.summary


def test_outbound():
    one = only("firewall.outbound", joining())
    assert (one.state, one.evidence) == (State.OK, ())
    assert "tcp/2377" not in one.summary  # that connection came about
    assert [one.state for one in found("firewall.outbound", context(blocked()))] == [State.OK, State.OK]
    odd = filter_table("-A OUTPUT -p tcp -m set --match-set x dst -j DROP")
    join, gossip, data = found("firewall.outbound", with_rules(odd, probes=(blocked(),)))
    assert (join.state, join.answers) == (State.UNKNOWN, {})
    assert "match-set" in join.reason
    assert (gossip.state, gossip.answers) == (State.UNKNOWN, {N: OPEN, T: OPEN})
    assert data.state is State.OK


def test_what_a_rule_does_not_let_out_breaks_what_needs_it():
    text = filter_table("-A OUTPUT -p udp -m udp --dport 4789 -j DROP")
    stopped = next(one for one in found("firewall.outbound", with_rules(text)) if one.cause)
    assert (stopped.state, stopped.answers) == (State.WARN, {T: NO})
    assert (stopped.cause.confidence, stopped.cause.object["chain"]) == (Confidence.LIKELY, "OUTPUT")
    assert stopped.cause.remedy[0].commands == (
        f"iptables -I OUTPUT 1 -d {MANAGER} -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
    )


def test_open_rules():
    one = only("firewall.inbound", joining())
    assert (one.state, one.answers) == (State.OK, {})
    assert f"udp/4789 from {MANAGER}" in one.summary
    assert "2377" not in one.summary


def test_a_stock_input_stops_traffic_and_leaves_names_open():
    """Gossip is one pair of sockets: what this host sends first lets the answers in. VXLAN is not."""
    one = only("firewall.inbound", with_rules(STOCK_INPUT))
    assert (one.state, one.answers) == (State.WARN, {N: OPEN, T: NO})
    cause = one.cause
    assert (cause.code, cause.host, cause.confidence) == ("firewall.rule", "host-b", Confidence.LIKELY)
    assert (cause.object["table"], cause.object["chain"], cause.object["number"]) == ("filter", "INPUT", 5)
    commands = [command for remedy in cause.remedy for command in remedy.commands]
    assert commands == [
        f"iptables -I INPUT 5 -s {MANAGER} -p tcp --dport 7946 -m comment --comment netdiag -j ACCEPT",
        f"iptables -I INPUT 5 -s {MANAGER} -p udp --dport 7946 -m comment --comment netdiag -j ACCEPT",
        f"iptables -I INPUT 5 -s {MANAGER} -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
    ]
    assert [remedy.undo[0].replace(" -D INPUT ", " -I INPUT 5 ") for remedy in cause.remedy] == commands


def test_who_asks_for_traffic_is_told_no():
    assert only("firewall.inbound", with_rules(STOCK_INPUT, options={"need": T})).state is State.FAIL


def test_a_manager_that_lets_nobody_join():
    one = only("firewall.inbound", with_rules(STOCK_INPUT, engine=manager_engine(), options={"peers": (OTHER,)}))
    assert (one.state, one.answers[J]) == (State.FAIL, NO)
    assert f"iptables -I INPUT 5 -s {OTHER} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT" in [
        command for remedy in one.cause.remedy for command in remedy.commands
    ]


def test_a_new_manager_is_dialled_back():
    text = filter_table("-A INPUT -p tcp -m tcp --dport 2377 -j DROP")
    assert OWN in context(probe()).own_addresses()
    by_rule = {one.state: one for one in found("firewall.inbound", with_rules(text, options={"manager_role": True}))}
    assert by_rule[State.FAIL].answers == {J: NO}
    assert State.FAIL not in {one.state for one in found("firewall.inbound", with_rules(text))}


def test_a_rule_for_this_hosts_address_is_understood():
    text = filter_table(f"-A INPUT -d {OWN}/32 -p udp -m udp --dport 4789 -j DROP")
    stopped = next(one for one in found("firewall.inbound", with_rules(text)) if one.state is State.WARN)
    assert stopped.answers == {T: NO}


@pytest.mark.parametrize(
    ("sets", "word"),
    [
        pytest.param((HEALTHY_RULES, rules(NATIVE, Backend.NFT_NATIVE, 0)), "nft's own table inet mine", id="nft"),
        pytest.param((filter_table("-A INPUT -m set --match-set x src -j DROP"),), "match-set x", id="ipset"),
    ],
)
def test_what_is_not_read_is_told_once(sets, word):
    one = only("firewall.inbound", with_rules(*sets))
    assert (one.state, one.answers) == (State.UNKNOWN, {N: OPEN, T: OPEN})
    assert word in one.reason


def test_encrypted_networks_need_esp_and_may_open_it_themselves():
    encrypted = engine(networks=(Network(id="n", name="n", driver="overlay", scope="swarm", encrypted=True),))
    one = found("firewall.inbound", with_rules(filter_table("-A INPUT -p esp -j DROP"), engine=encrypted))[0]
    assert (one.state, one.answers) == (State.WARN, {T: OPEN})
    assert one.cause.remedy[0].commands == (
        f"iptables -I INPUT 1 -s {MANAGER} -p 50 -m comment --comment netdiag -j ACCEPT",
    )


def test_both_variants_need_their_own_tool():
    one = only("firewall.inbound", with_rules(STOCK_INPUT, rules(filter_table(), Backend.IPTABLES_LEGACY)))
    assert one.cause.remedy[0].commands[0].startswith("iptables-nft ")


def test_a_policy_is_named_as_one():
    one = only("firewall.inbound", with_rules(filter_table(policies=("DROP", "ACCEPT", "ACCEPT"))))
    assert (one.cause.code, one.cause.object["policy"]) == ("firewall.policy", "DROP")
    assert one.cause.remedy[0].commands[0].startswith("iptables -A INPUT ")


@pytest.mark.parametrize("active", [True, False])
def test_where_firewalld_decides_it_is_asked(active):
    service = FirewallService(name="firewalld", active=active, evidence="")
    saved = FirewallSaved(services=(service,))
    one = only(
        "firewall.inbound", with_rules(HEALTHY_RULES, rules(NATIVE, Backend.NFT_NATIVE, 0), firewall_saved=saved)
    )
    assert one.state is State.UNKNOWN
    assert [step.command for step in one.next] == (["firewall-cmd --list-all"] if active else [])
