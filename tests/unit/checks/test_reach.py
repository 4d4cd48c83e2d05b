"""What a connection that fails is put down to."""

import msgspec
import pytest

from netdiag.checks.flows import packet_to
from netdiag.firewall.plain import read_plainly
from netdiag.model.facts import HOST, Absence, AbsenceKind, Backend, FirewallSaved, FirewallService, Link, Route
from netdiag.model.firewall import FirewallRule
from netdiag.model.probes import IcmpError, MovedCounter, RouteChoice, TcpOutcome
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    MANAGER,
    OTHER,
    OWN,
    STOCK_INPUT,
    absent,
    blocked,
    context,
    filter_table,
    found,
    only,
    probe,
    rules,
)

ROUTER = "192.0.2.1"
NO_ROUTE = RouteChoice(absent=Absence(kind=AbsenceKind.FAILED, text="network is unreachable"))
LIKELY, PROVEN, POSSIBLE = Confidence.LIKELY, Confidence.PROVEN, Confidence.POSSIBLE


def said(one, *, text="", moved=(), **sections):
    if text:
        sections["firewall"] = {HOST: (rules(text),)}
    found = only("swarm.manager.tcp", context(one, observed={"moved": moved, "moved_known": True}, **sections))
    assert (found.state, found.answers) == (State.FAIL, {Need.JOIN: Answer.NO})
    return found


def icmp(code, sender=MANAGER, type_=3):
    return blocked(TcpOutcome.ICMP, icmp=IcmpError(type=type_, code=code, sender=sender))


@pytest.mark.parametrize(
    ("one", "code", "host", "confidence"),
    [
        pytest.param(blocked(), "underlay.filtered", None, LIKELY, id="silent, and it answers ping"),
        pytest.param(blocked(alive=False), "underlay.filtered", None, POSSIBLE, id="silent altogether"),
        pytest.param(blocked(sizes=None), "underlay.filtered", None, POSSIBLE, id="silent, ping not tried"),
        pytest.param(blocked(TcpOutcome.RESET), "swarm.not-manager", MANAGER, LIKELY, id="refused"),
        pytest.param(icmp(10), "firewall.rule", MANAGER, LIKELY, id="host prohibited, by the manager"),
        pytest.param(icmp(13), "firewall.rule", MANAGER, LIKELY, id="admin prohibited, by the manager"),
        pytest.param(icmp(3), "firewall.rule", MANAGER, LIKELY, id="port unreachable, by the manager"),
        pytest.param(icmp(1), "firewall.rule", MANAGER, LIKELY, id="host unreachable, says the host itself"),
        pytest.param(icmp(13, ROUTER), "firewall.rule", ROUTER, LIKELY, id="admin prohibited, by a router"),
        pytest.param(icmp(3, OWN), "firewall.rule", "host-b", LIKELY, id="port unreachable, by this host"),
        pytest.param(icmp(0, ROUTER), "underlay.no-route", ROUTER, LIKELY, id="network unreachable, by a router"),
        pytest.param(icmp(1, ROUTER), "underlay.neighbour", ROUTER, LIKELY, id="host unreachable, by a router"),
        pytest.param(icmp(1, "2001:db8::1", 1), "firewall.rule", "2001:db8::1", LIKELY, id="ICMPv6 prohibited"),
        pytest.param(
            blocked(TcpOutcome.NO_ROUTE, route=NO_ROUTE), "underlay.no-route", "host-b", PROVEN, id="no route"
        ),
        pytest.param(blocked(TcpOutcome.NO_ROUTE, route=None), "underlay.no-route", "host-b", LIKELY, id="no lookup"),
        pytest.param(blocked(TcpOutcome.NO_ROUTE), "underlay.neighbour", "host-b", LIKELY, id="no ARP"),
        pytest.param(
            blocked(TcpOutcome.LOCAL_DENIED, route=NO_ROUTE), "underlay.no-route", "host-b", PROVEN, id="prohibit route"
        ),
        pytest.param(blocked(TcpOutcome.LOCAL_DENIED), None, None, None, id="denied, and there is a route"),
    ],
)
def test_cause(one, code, host, confidence):
    cause = said(one).cause
    assert (cause.code, cause.host, cause.confidence) == (code, host, confidence) if code else cause is None


def test_a_link_that_is_down_is_named():
    links = {HOST: (Link(index=2, name="eth0", up=True, operstate="lowerlayerdown"),)}
    cause = said(blocked(TcpOutcome.NO_ROUTE), links=links).cause
    assert (cause.code, cause.object["name"], cause.confidence) == ("underlay.link-down", "eth0", PROVEN)


def test_a_device_that_is_switched_off_took_its_route_along():
    links = {HOST: (Link(index=2, name="eth0", up=False, operstate="down"),)}
    gone = {"links": links, "routes": {HOST: ()}}
    cause = said(blocked(TcpOutcome.NO_ROUTE, route=NO_ROUTE), **gone).cause
    assert (cause.code, cause.object["name"], cause.confidence) == ("underlay.link-down", "eth0", LIKELY)
    assert cause.remedy[0].commands == ("ip link set dev eth0 up",)
    elsewhere = said(blocked(TcpOutcome.NO_ROUTE, route=NO_ROUTE, address="198.51.100.1"), **gone).cause
    assert elsewhere.code == "underlay.no-route"


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_the_route_that_refuses_is_named_and_taken_away(kind):
    outcome = TcpOutcome.LOCAL_DENIED if kind == "prohibit" else TcpOutcome.NO_ROUTE
    routes = {HOST: (Route(destination="192.0.2.0/24"), Route(destination=f"{MANAGER}/32", type=kind, metric=7))}
    cause = said(blocked(outcome, route=NO_ROUTE), routes=routes).cause
    assert (cause.code, cause.object["type"], cause.object["destination"]) == (
        "underlay.no-route",
        kind,
        f"{MANAGER}/32",
    )
    (remedy,) = cause.remedy
    assert remedy.commands == (f"ip route del {kind} {MANAGER}/32 metric 7",)
    assert remedy.undo == (f"ip route add {kind} {MANAGER}/32 metric 7",)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(
            (Route(destination="192.0.2.0/24", type="blackhole"), Route(destination=f"{MANAGER}/32")), id="wider"
        ),
        pytest.param(
            (Route(destination="0.0.0.0/0", type="unreachable", metric=9), Route(destination="0.0.0.0/0", metric=1)),
            id="of a higher metric",
        ),
        pytest.param((Route(destination=f"{MANAGER}/32", type="blackhole", table=100),), id="in another table"),
    ],
)
def test_a_refusing_route_that_does_not_decide_is_not_blamed(rows):
    cause = said(blocked(TcpOutcome.NO_ROUTE, route=NO_ROUTE), routes={HOST: rows}).cause
    assert cause.object == {"kind": "route", "destination": MANAGER}


def test_one_manager_that_answers_is_enough_to_join():
    dead = blocked(given=OTHER, address=OTHER)
    good, bad = (one for one in found("swarm.manager.tcp", context(probe(), dead)))
    assert (good.state, bad.state, bad.answers) == (State.OK, State.WARN, {})
    assert (bad.cause.code, bad.cause.affects) == ("underlay.filtered", (f"joining through {OTHER}",))
    assert MANAGER in bad.summary
    both = found("swarm.manager.tcp", context(blocked(), dead))
    assert [one.answers for one in both] == [{Need.JOIN: Answer.NO}] * 2


def test_this_host_is_not_its_own_manager():
    cause = said(blocked(TcpOutcome.RESET, given=OWN, address=OWN)).cause
    assert (cause.code, cause.host, cause.confidence, cause.remedy) == ("swarm.not-manager", "host-b", PROVEN, ())


def test_a_refusal_is_not_put_down_to_a_rule():
    (step,) = said(blocked(TcpOutcome.RESET)).next
    assert "names the rule" not in step.why


def test_the_other_side_is_asked_for_the_rule():
    found = said(blocked())
    assert [(step.host, step.command) for step in found.next] == [(MANAGER, f"netdiag verify swarm --peer {OWN}")]
    (remedy,) = found.cause.remedy
    assert (remedy.host, remedy.commands) == (MANAGER, (f"iptables -I INPUT -s {OWN} -p tcp --dport 2377 -j ACCEPT",))
    assert remedy.undo == (f"iptables -D INPUT -s {OWN} -p tcp --dport 2377 -j ACCEPT",)


def test_a_rejection_as_firewalld_makes_it_is_healed_through_firewalld():
    through_it, without = said(icmp(13)).cause.remedy
    rule = f'rule family="ipv4" source address="{OWN}" port port="2377" protocol="tcp" accept'
    assert through_it.commands == (f"firewall-cmd --add-rich-rule='{rule}'",)
    assert through_it.undo == (f"firewall-cmd --remove-rich-rule='{rule}'",)
    assert without.commands[0].startswith("iptables -I INPUT")
    assert len(said(icmp(3)).cause.remedy) == 1


def test_an_ipv6_manager_gets_an_ip6tables_remedy():
    v6 = blocked(address="2001:db8::10", route=RouteChoice(source="2001:db8::20", device="eth0"))
    assert said(v6).cause.remedy[0].commands[0].startswith("ip6tables -I INPUT")


def test_own_rules_that_could_not_be_read_are_not_ruled_out():
    assert "not ruled out" in said(blocked(), firewall=absent()).cause.explanation
    assert "not ruled out" not in said(blocked()).cause.explanation


# --- this host's own rules ---

OUTPUT_DROP = filter_table(
    "-A OUTPUT -p tcp -m tcp --dport 22 -j ACCEPT", "-A OUTPUT -p tcp -m tcp --dport 2377 -j DROP"
)
INPUT_DROP = filter_table("-A INPUT -j LOGDROP", "-A LOGDROP -j LOG", "-A LOGDROP -p tcp -j DROP", chains=("LOGDROP",))
UDP_DROP = filter_table("-A INPUT -p udp -j DROP", "-A INPUT -m set --match-set x src -j ACCEPT")


def counter(text, chain, number, packets=5):
    from netdiag.firewall.save_text import read_save

    rule = read_save(text).tables["filter"][chain].rules[number - 1]
    named = FirewallRule(
        backend=Backend.IPTABLES_NFT, family="ip", table="filter", chain=chain, number=number, text=rule.text
    )
    return MovedCounter(rule=named, packets=packets, port=2377, address=MANAGER)


def test_a_local_drop_is_likely_when_read():
    cause = said(blocked(), text=OUTPUT_DROP).cause
    assert (cause.code, cause.host, cause.confidence) == ("firewall.rule", "host-b", LIKELY)
    assert (cause.object["chain"], cause.object["number"], cause.object["owner"]) == ("OUTPUT", 2, "operator")
    (remedy,) = cause.remedy
    assert remedy.commands == (
        f"iptables -I OUTPUT 2 -d {MANAGER} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
    )
    assert remedy.undo == (
        f"iptables -D OUTPUT -d {MANAGER} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
    )
    assert remedy.persist == ("apt-get install iptables-persistent", "netfilter-persistent save")


def test_a_local_drop_is_proven_when_its_counter_moved():
    cause = said(blocked(), text=OUTPUT_DROP, moved=(counter(OUTPUT_DROP, "OUTPUT", 2),)).cause
    assert (cause.code, cause.confidence, cause.object["number"]) == ("firewall.rule", PROVEN, 2)
    assert "moved by 5" in cause.evidence[0].text


def test_the_answer_is_lost_in_a_chain_that_input_calls():
    cause = said(blocked(), text=INPUT_DROP, moved=(counter(INPUT_DROP, "LOGDROP", 2),)).cause
    assert (cause.confidence, cause.object["chain"]) == (PROVEN, "LOGDROP")
    assert "loses the answers" in cause.explanation
    assert cause.remedy[0].commands == (
        f"iptables -I LOGDROP 2 -s {MANAGER} -p tcp --sport 2377 -m comment --comment netdiag -j ACCEPT",
    )


@pytest.mark.parametrize(
    ("text", "moved", "one"),
    [
        pytest.param(UDP_DROP, ("INPUT", 1), blocked(), id="a rule for udp moved by chance"),
        pytest.param(filter_table("-A FORWARD -j DROP"), ("FORWARD", 1), blocked(), id="a forwarded packet"),
    ],
)
def test_a_counter_of_other_traffic_proves_nothing(text, moved, one):
    cause = said(one, text=text, moved=(counter(text, *moved),)).cause
    assert cause.code == "underlay.filtered"


def test_a_counter_of_another_burst_is_not_taken():
    moved = msgspec.structs.replace(counter(OUTPUT_DROP, "OUTPUT", 2), port=2378)
    assert said(blocked(), text=OUTPUT_DROP, moved=(moved,)).cause.confidence is LIKELY


def test_what_the_manager_answered_was_not_dropped_here():
    assert said(icmp(10), text=OUTPUT_DROP).cause.host == MANAGER
    assert said(blocked(TcpOutcome.RESET), text=OUTPUT_DROP).cause.code == "swarm.not-manager"


def test_a_local_reject_looks_like_an_answer():
    text = filter_table("-A OUTPUT -p tcp -m tcp --dport 2377 -j REJECT --reject-with tcp-reset")
    cause = said(blocked(TcpOutcome.RESET), text=text).cause
    assert (cause.code, cause.host) == ("firewall.rule", "host-b")


def test_a_policy_is_named_as_a_policy():
    cause = said(blocked(), text=filter_table(policies=("ACCEPT", "ACCEPT", "DROP"))).cause
    assert (cause.code, cause.object["kind"], cause.object["policy"]) == ("firewall.policy", "policy", "DROP")
    assert cause.remedy[0].commands[0].startswith("iptables -A OUTPUT ")


def test_firewalld_must_be_told_itself():
    saved = FirewallSaved(services=(FirewallService(name="firewalld", active=True, evidence=""),))
    cause = said(blocked(), text=INPUT_DROP, moved=(counter(INPUT_DROP, "LOGDROP", 2),), firewall_saved=saved).cause
    assert "firewall-cmd --permanent" in cause.remedy[0].persist[0]


def test_the_remedy_does_what_it_says():
    """The accept before the rule that decides changes what the reading says, and nothing but that."""
    command = said(blocked(), text=OUTPUT_DROP).cause.remedy[0].commands[0]
    line = command.replace("iptables -I OUTPUT 2", "[0:0] -A OUTPUT")
    healed = OUTPUT_DROP.replace(
        "[0:0] -A OUTPUT -p tcp -m tcp --dport 2377", f"{line}\n[0:0] -A OUTPUT -p tcp -m tcp --dport 2377"
    )
    packet = packet_to(blocked())
    assert read_plainly([rules(OUTPUT_DROP)], packet).outcome.value == "drop"
    assert read_plainly([rules(healed)], packet).outcome.value == "accept"


def test_the_stock_input_lets_answers_in():
    assert said(blocked(), text=STOCK_INPUT).cause.code == "underlay.filtered"
