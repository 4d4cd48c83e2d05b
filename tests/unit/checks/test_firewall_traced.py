"""Where the kernel's trace decides about this host's own filters, and what is left to a reading of the rules."""

import msgspec
import pytest

from netdiag.checks.flows import MOST_TRACED, packet_to, to_trace
from netdiag.model.engine import Cluster, Network, OverlayPeer
from netdiag.model.facts import HOST, Backend, FirewallBoot, FirewallSaved, FirewallService, SavedRules
from netdiag.model.firewall import Direction, FirewallRule, Owner
from netdiag.model.level import Level
from netdiag.model.probes import TcpOutcome, TracedFlow
from netdiag.model.report import Answer, Confidence, Need, State
from netdiag.model.trace import Trace, TracedPacket, TracePath, TraceVerdict
from tests.unit.checks.factory import (
    MANAGER,
    OTHER,
    OWN,
    STOCK_INPUT,
    blocked,
    context,
    engine,
    filter_table,
    found,
    joining,
    manager_engine,
    member,
    node,
    only,
    probe,
    rules,
)

J, N, T = Need.JOIN, Need.NAMES, Need.TRAFFIC
ACCEPT, DROP, REJECT, UNKNOWN = TraceVerdict.ACCEPT, TraceVerdict.DROP, TraceVerdict.REJECT, TraceVerdict.UNKNOWN
ZONE = FirewallRule(
    backend=Backend.NFT_NATIVE,
    family="inet",
    table="firewalld",
    chain="filter_IN_public",
    number=9,
    handle=72,
    text="reject with icmpx admin-prohibited",
    owner=Owner.FIREWALLD,
    call_site="firewalld filter_INPUT_ZONES rule 1: goto filter_IN_public",
)
SITE = FirewallRule(
    backend=Backend.NFT_NATIVE, family="inet", table="site", chain="out", number=2, handle=7, text="udp dport 4789 drop"
)
POLICY = FirewallRule(
    backend=Backend.IPTABLES_NFT, family="ip", table="filter", chain="INPUT", text=":INPUT DROP", policy="DROP"
)


def flow(packet, verdict, rule=None, reason="", confidence=Confidence.PROVEN):
    inward = packet.direction is Direction.IN
    trace = Trace(
        verdict=verdict,
        rule=rule if rule is not None and rule.policy is None else None,
        policy=rule if rule is not None and rule.policy is not None else None,
        confidence=confidence,
        path=(),
        level=Level.OWNED_TRACE,
        elapsed_ms=0.4,
        reason=reason,
        packet=TracedPacket(
            path=TracePath.IN if inward else TracePath.OUT,
            source=packet.source or OWN,
            destination=packet.destination or OWN,
            protocol=packet.protocol,
            source_port=40000,
            destination_port=packet.destination_port,
        ),
    )
    return TracedFlow(packet=packet, trace=trace)


def traced(ctx, said):
    """The context after its packets were traced: ``said`` gives the verdict, and more, for one packet."""
    flows = []
    for packet in to_trace(ctx):
        answer = said(packet)
        flows.append(answer if isinstance(answer, TracedFlow) else flow(packet, *answer))
    return msgspec.structs.replace(ctx, observed=msgspec.structs.replace(ctx.observed, traced=tuple(flows)))


def untraced(why, *, would_load=False):
    return lambda packet: TracedFlow(packet=packet, why_not=why, would_load=would_load)


def with_rules(text, *probes, **more):
    return context(*(probes or (probe(),)), firewall={HOST: (rules(text),)}, **more)


def both(check, direction, verdict, *rest):
    def said(packet):
        return (verdict, *rest) if packet.direction is direction else (ACCEPT,)

    return said


# --- which packets ---


def test_a_joining_node_traces_both_directions_of_what_it_needs():
    packets = {(one.direction, one.protocol, one.destination_port) for one in to_trace(joining())}
    ports = {("tcp", 7946), ("udp", 7946), ("udp", 4789)}
    assert packets == {(direction, *port) for direction in Direction for port in ports}
    assert {one.source for one in to_trace(joining()) if one.direction is Direction.IN} == {MANAGER}
    assert {one.destination for one in to_trace(joining()) if one.direction is Direction.OUT} == {MANAGER}
    assert {one.source_port for one in to_trace(joining())} == {None}  # a port that the kernel has free: a new flow


def test_the_join_is_traced_where_it_did_not_come_about():
    assert to_trace(context(blocked()))[0] == packet_to(blocked())
    # Without a next hop nothing leaves this host, and a trace would end nowhere.
    alone = to_trace(context(blocked(TcpOutcome.NO_ROUTE)))
    assert {one.direction for one in alone} == {Direction.IN}


def test_a_manager_is_dialled_by_the_others_too():
    ctx = joining(engine=manager_engine())
    assert 2377 in {one.destination_port for one in to_trace(ctx) if one.direction is Direction.IN}


def test_members_know_each_other():
    row = node("w", OTHER)
    dead = node("d", "192.0.2.99", state="down")
    ctx = context(engine=manager_engine(row, dead))
    assert {one.source for one in to_trace(ctx) if one.direction is Direction.IN} == {OTHER}
    worker = context(engine=engine(swarm=member()))
    out = [one for one in to_trace(worker) if one.direction is Direction.OUT]
    assert {(one.destination, one.destination_port) for one in out} == {(MANAGER, port) for port in (2377, 7946, 4789)}
    lost = traced(worker, both("out", Direction.OUT, DROP, SITE))
    assert only("firewall.outbound", lost).answers[J] is Answer.NO
    assert only("firewall.outbound", lost).state is State.FAIL


def worker_of(*peers, given=()):
    named = tuple(OverlayPeer(name=address, address=address) for address in peers)
    ingress = Network(id="i", name="ingress", driver="overlay", scope="swarm", ingress=True, peers=named)
    there = engine(swarm=member(), networks=(ingress,))
    return context(engine=there, firewall={HOST: (rules(""),)}, options={"peers": given})


@pytest.mark.parametrize(
    ("ctx", "known", "told"),
    [
        pytest.param(worker_of(OWN, OTHER), {MANAGER, OTHER}, False, id="gossip names them"),
        pytest.param(worker_of(), {MANAGER}, True, id="gossip names nobody"),
        pytest.param(worker_of(given=(OTHER,)), {OTHER}, False, id="given"),
    ],
)
def test_a_worker_traces_whom_it_knows_and_says_where_that_may_not_be_all(ctx, known, told):
    assert {one.source for one in to_trace(ctx) if one.direction is Direction.IN} == known
    said = [
        one for one in found("firewall.inbound", ctx) if one.summary.startswith("other members: not known, give --peer")
    ]
    assert [one.state for one in said] == [State.UNKNOWN] * told
    assert all(not one.answers for one in said), "it is told, and is not the verdict"


def test_nobody_known_is_left_to_the_rules_and_so_is_esp_that_leaves():
    """ESP has no ports: what was sent to the peer would make the peer's a known flow."""
    assert to_trace(context()) == ()
    encrypted = engine(networks=(Network(id="n", name="n", driver="overlay", scope="swarm", encrypted=True),))
    packets = to_trace(joining(engine=encrypted))
    assert [one.direction for one in packets if one.protocol == "50"] == [Direction.IN]


def test_of_many_peers_only_the_first_are_traced_and_that_is_said():
    rows = tuple(node(f"w{n}", f"192.0.2.{n}") for n in range(100, 200))
    ctx = context(engine=manager_engine(*rows, cluster=Cluster(nodes=rows)))
    assert len(to_trace(ctx)) == len(set(to_trace(ctx))) == MOST_TRACED
    proven, read = found("firewall.inbound", traced(ctx, lambda _: (ACCEPT,)))
    assert "udp/4789 from 192.0.2.100" in proven.summary
    assert f"no more than {MOST_TRACED}" in read.summary
    assert "udp/4789 from 192.0.2.199" in read.summary


# --- what they prove ---


def test_a_zone_of_firewalld_is_named_and_asked_through_firewalld():
    saved = FirewallSaved(services=(FirewallService(name="firewalld", active=True, evidence=""),))
    ctx = with_rules(filter_table(), firewall_saved=saved)
    one = only("firewall.inbound", traced(ctx, both("in", Direction.IN, REJECT, ZONE)))
    assert (one.state, one.answers) == (State.WARN, {N: Answer.UNKNOWN, T: Answer.NO})
    assert "firewalld filter_IN_public rule 9 keeps tcp/7946, udp/7946, udp/4789 out" in one.summary
    cause = one.cause
    assert (cause.code, cause.confidence, cause.object["handle"]) == ("firewall.rule", Confidence.PROVEN, 72)
    assert "was traced" in cause.explanation
    assert "called from firewalld filter_INPUT_ZONES rule 1" in cause.explanation
    assert "no packet was traced" not in cause.explanation
    assert [one.kind for one in cause.evidence] == ["rule", "trace"]
    assert {packet["elapsed_ms"] for packet in cause.evidence[1].data["packets"]} == {0.4}
    rule = f'rule family="ipv4" source address="{MANAGER}" port port="4789" protocol="udp" accept'
    assert cause.remedy[2].commands == (f"firewall-cmd --zone=public --add-rich-rule='{rule}'",)
    assert cause.remedy[2].persist == (f"firewall-cmd --permanent --zone=public --add-rich-rule='{rule}'",)


INPUT_DROP = FirewallRule(
    backend=Backend.IPTABLES_NFT,
    family="ip",
    table="filter",
    chain="INPUT",
    number=1,
    text="-A INPUT -p tcp -j DROP",
)
SAVED = "*filter\n:INPUT ACCEPT [0:0]\n{}COMMIT\n"


@pytest.mark.parametrize(
    ("text", "enabled", "because"),
    [
        ("", True, ("firewall.not-persistent",)),
        ("-A INPUT -p tcp -j DROP\n", True, ()),
        ("", False, ()),  # a host that saves nothing loses every rule: that says nothing of this one
    ],
)
def test_a_rule_that_the_next_boot_forgets_is_told_as_one(text, enabled, because):
    path = "/etc/iptables/rules.v4"
    saved = FirewallSaved(
        rules=(SavedRules(source="netfilter-persistent", path=path, text=SAVED.format(text)),),
        boot=(FirewallBoot(name="netfilter-persistent", enabled=enabled, evidence=""),),
    )
    ctx = with_rules(filter_table(), firewall_saved=saved)
    one = only("firewall.inbound", traced(ctx, both("in", Direction.IN, DROP, INPUT_DROP)))
    assert one.cause.because == because
    assert ("file" in [each.kind for each in one.cause.evidence]) == bool(because)


def test_what_leaves_is_proven_as_well():
    def said(packet):
        out = packet.direction is Direction.OUT and packet.destination_port == 4789
        return (DROP, SITE) if out else (ACCEPT,)

    ctx = traced(joining(), said)
    stopped, passing = found("firewall.outbound", ctx)
    assert (stopped.state, stopped.answers) == (State.WARN, {T: Answer.NO})
    assert f"site out rule 2 does not let udp/4789 out (to {MANAGER})" in stopped.summary
    assert (
        stopped.cause.remedy[0]
        .commands[0]
        .startswith(f"nft insert rule inet site out handle 7 ip daddr {MANAGER} udp dport 4789 accept")
    )
    assert "tcp/7946" in passing.summary
    assert only("firewall.inbound", ctx).state is State.OK


def test_a_policy_is_named_as_one():
    one = only("firewall.inbound", traced(joining(), both("in", Direction.IN, DROP, POLICY)))
    assert (one.cause.code, one.cause.confidence) == ("firewall.policy", Confidence.PROVEN)


@pytest.mark.parametrize("surest", [Confidence.PROVEN, Confidence.LIKELY])
def test_a_cause_is_as_sure_as_the_surest_of_its_traces(surest):
    def said(packet):
        if packet.direction is Direction.OUT:
            return (ACCEPT,)
        return DROP, POLICY, "", surest if packet.protocol == "udp" else Confidence.LIKELY

    assert only("firewall.inbound", traced(joining(), said)).cause.confidence is surest


def test_one_rule_is_one_cause_wherever_it_is_called_from():
    def said(packet):
        return REJECT, msgspec.structs.replace(ZONE, call_site=f"for {packet.destination_port}")

    ctx = traced(joining(), said)
    assert len([one for one in found("firewall.inbound", ctx) if one.cause]) == 1


def test_one_rule_is_one_cause_whether_it_was_traced_or_read():
    """Only the kernel tells a handle."""
    read = "-A INPUT -j REJECT --reject-with icmp-host-prohibited"
    rule = FirewallRule(
        backend=Backend.IPTABLES_NFT, family="ip", table="filter", chain="INPUT", number=5, handle=9, text=read
    )

    def said(packet):
        if packet.direction is Direction.OUT:
            return (ACCEPT,)
        late = TracedFlow(packet=packet, why_not="no answer")
        return late if (packet.protocol, packet.destination_port) == ("tcp", 7946) else (REJECT, rule)

    ctx = traced(with_rules(STOCK_INPUT), said)
    causes = [one.cause for one in found("firewall.inbound", ctx) if one.cause is not None]
    assert [(one.object["handle"], one.confidence) for one in causes] == [(9, Confidence.PROVEN)]


def test_a_trace_wins_over_what_the_rules_look_like():
    """A rate limit, a set or a mark: the packet came through, so nothing stops it."""
    one = only("firewall.inbound", traced(with_rules(STOCK_INPUT), lambda _: (ACCEPT,)))
    assert one.state is State.OK
    assert one.evidence[0].kind == "trace"
    stopped = only("firewall.inbound", traced(joining(), both("in", Direction.IN, DROP, POLICY)))
    assert stopped.state is State.WARN


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(untraced("not root"), id="not traced"),
        pytest.param(lambda _: (UNKNOWN, None, "lost behind filter INPUT"), id="legacy rules do not report"),
        pytest.param(lambda _: (DROP, msgspec.structs.replace(ZONE, text="")), id="a rule that was not listed"),
    ],
)
def test_without_a_verdict_the_rules_are_read(said):
    one = only("firewall.inbound", traced(with_rules(STOCK_INPUT), said))
    assert (one.cause.confidence, one.cause.object["number"]) == (Confidence.LIKELY, 5)
    assert one.cause.explanation.startswith("Read from the rules as they are (no packet was traced")
    assert [evidence.kind for evidence in one.cause.evidence] == ["rule"]


def test_why_no_packet_was_traced_is_said():
    one = only("firewall.inbound", traced(with_rules(STOCK_INPUT), untraced("not an address of this host")))
    assert "(no packet was traced: not an address of this host)" in one.cause.explanation


def test_a_packet_that_was_lost_is_never_called_open():
    """The rules would let it in; a reverse path filter or an XDP program took it."""
    said = both("in", Direction.IN, UNKNOWN, None, "lost behind the first hook: a reverse path filter")
    one = only("firewall.inbound", traced(joining(), said))
    assert (one.state, one.reason) == (State.UNKNOWN, "lost behind the first hook: a reverse path filter")
    assert one.answers == {N: Answer.UNKNOWN, T: Answer.UNKNOWN}


def test_a_module_that_would_be_loaded_is_a_step_for_the_operator():
    text = filter_table("-A INPUT -m set --match-set x src -j DROP")
    said = untraced("that would load tun into the kernel", would_load=True)
    one = only("firewall.inbound", traced(with_rules(text), said))
    (step,) = one.next
    assert step.command == f"netdiag firewall trace --src {MANAGER} --proto tcp --dport 7946 --load-modules"
    assert "would load tun" in step.why


# --- the join itself ---


def test_the_rule_that_stops_the_join_is_the_traced_one_and_one_cause():
    text = filter_table("-A OUTPUT -j DROP")
    rule = FirewallRule(
        backend=Backend.IPTABLES_NFT,
        family="ip",
        table="filter",
        chain="OUTPUT",
        number=1,
        handle=5,
        text="-A OUTPUT -j DROP",
    )
    less_sure = traced(with_rules(text, blocked()), both("out", Direction.OUT, DROP, rule, "", Confidence.LIKELY))
    (tcp,) = [one for one in found("swarm.manager.tcp", less_sure) if one.cause]
    assert tcp.cause.confidence is Confidence.LIKELY
    ctx = traced(with_rules(text, blocked()), both("out", Direction.OUT, DROP, rule))
    (tcp,) = [one for one in found("swarm.manager.tcp", ctx) if one.cause]
    assert (tcp.cause.confidence, tcp.cause.object["handle"]) == (Confidence.PROVEN, 5)
    assert tcp.cause.evidence[0].kind == "trace"
    (rest,) = [one for one in found("firewall.outbound", ctx) if one.cause]
    assert (rest.cause.code, rest.cause.host, rest.cause.object) == (tcp.cause.code, tcp.cause.host, tcp.cause.object)


@pytest.mark.parametrize("rule", ["-A OUTPUT -m set --match-set x dst -j DROP", "-A OUTPUT -j DROP"])
def test_a_join_that_was_traced_to_the_wire_is_not_blamed_on_the_own_rules(rule):
    ctx = traced(with_rules(filter_table(rule), blocked()), lambda _: (ACCEPT,))
    (tcp,) = [one for one in found("swarm.manager.tcp", ctx) if one.cause]
    assert tcp.cause.code == "underlay.filtered"
    assert tcp.cause.explanation.endswith("This host's own filters let it out (a packet was traced).")
    assert found("firewall.outbound", ctx)[0].state is State.OK
    assert "(a packet was traced)" in found("firewall.outbound", ctx)[0].summary
