"""What was seen from both ends of a path is put down to the host that lost it, to what lies between, or to nothing."""

import msgspec
import pytest

from netdiag.model.facts import HOST, Backend, Link, RuleSet, Section, Socket
from netdiag.model.icmp import IcmpError
from netdiag.model.probes import TcpOutcome
from netdiag.model.report import Answer, Confidence, Need, State
from netdiag.model.trace import TraceVerdict
from netdiag.model.two_sided import Heard, Payload
from tests.unit.checks.factory import MANAGER, OTHER, OWN, absent, blocked, found, only, probe
from tests.unit.checks.two_sides import (
    BACK,
    LOST_AT_RECEIVER,
    LOST_BETWEEN,
    LOST_TCP,
    THERE,
    changed,
    first,
    healthy,
    peer_facts,
    rule,
    sided,
    together,
    traced,
    view,
)

IN, OUT = "two-sides.inbound", "two-sides.outbound"
TRAFFIC = {"need": Need.TRAFFIC}


def test_healthy_says_so_both_ways_with_the_round_trips():
    ctx = together(view(healthy(back_control=True, encrypted=True)), options=TRAFFIC)
    for check in (IN, OUT):
        one = only(check, ctx)
        assert one.state is State.OK
        assert all(port in one.summary for port in ("tcp/2377", "tcp/7946", "udp/7946", "udp/4789", "protocol 50"))
    assert "in 0.30 ms" in found(OUT, ctx)[0].evidence[0].text


# --- at a host ---


def test_a_rule_of_the_receiver_is_its_cause():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.TAG, **LOST_AT_RECEIVER)
    probes = changed(probes, THERE, "udp", 4789, payload=Payload.VXLAN, **LOST_AT_RECEIVER)
    both = [each for each in probes if each.way is THERE and each.port == 4789 and each.length_bytes is None]
    ctx = together(view(probes, traces=tuple(traced(each) for each in both)), options=TRAFFIC)
    lost, came = found(OUT, ctx)
    assert (lost.state, lost.answers[Need.TRAFFIC], came.state) == (State.FAIL, Answer.NO, State.OK)
    cause = lost.cause
    assert (cause.code, cause.host, cause.confidence) == ("firewall.rule", "host-a", Confidence.PROVEN)
    assert cause.object["number"] == 1
    assert cause.remedy[0].host == "host-a"
    assert f"-s {OWN}" in cause.remedy[0].commands[0]
    assert only(IN, ctx).state is State.OK


def test_a_rule_of_the_sender_is_its_cause():
    refused = {"sent": 0, "left": 0, "refused": "Operation not permitted", **LOST_BETWEEN}
    probes = changed(healthy(), BACK, "udp", 7946, **refused)
    output = rule("-A OUTPUT -p udp -m udp --dport 7946 -j DROP", chain="OUTPUT")
    lost_probe = first(probes, BACK, "udp", 7946)
    ctx = together(view(probes, traces=(traced(lost_probe, found=output, outward=True),)), options=TRAFFIC)
    lost, _ = found(IN, ctx)
    assert (lost.cause.host, lost.cause.object["chain"]) == ("host-a", "OUTPUT")
    assert "never leaves its device" in lost.cause.explanation


def test_a_policy_is_another_code():
    probes = changed(healthy(), BACK, "tcp", 7946, **LOST_TCP)
    policy = rule("-P INPUT DROP", number=None, policy="DROP")
    trace = traced(first(probes, BACK, "tcp", 7946), found=policy)
    trace = msgspec.structs.replace(trace, trace=msgspec.structs.replace(trace.trace, rule=None, policy=policy))
    lost, _ = found(IN, together(view(probes, traces=(trace,))))
    assert (lost.cause.code, lost.cause.host) == ("firewall.policy", "host-b")


def test_one_rule_that_stops_several_ports_is_one_finding():
    probes = healthy()
    for protocol, port in (("udp", 7946), ("udp", 4789)):
        probes = changed(probes, THERE, protocol, port, **LOST_AT_RECEIVER)
    stop = rule("-A INPUT -j REJECT", number=5)
    traces = tuple(traced(each, found=stop) for each in probes if each.way is THERE and each.passed == 0)
    lost, _ = found(OUT, together(view(probes, traces=traces), options=TRAFFIC))
    assert "udp/7946, udp/4789" in lost.summary


def test_the_connection_that_fails_names_the_rule_too_and_asks_for_no_more():
    probes = changed(healthy(), THERE, "tcp", 2377, **LOST_TCP)
    trace = traced(first(probes, THERE, "tcp", 2377), found=rule("-A INPUT -p tcp -m tcp --dport 2377 -j DROP"))
    ctx = together(view(probes, traces=(trace,)), managers=(blocked(),))
    lost = next(one for one in found(OUT, ctx) if one.cause is not None)
    join = only("swarm.manager.tcp", ctx)
    assert join.state is lost.state is State.FAIL
    assert join.answers == {Need.JOIN: Answer.NO}
    assert (join.cause.code, join.cause.host, join.cause.object) == (lost.cause.code, "host-a", lost.cause.object)
    assert join.next == ()


def test_another_manager_that_answers_is_enough_to_join():
    probes = changed(healthy(), THERE, "tcp", 2377, **LOST_TCP)
    trace = traced(first(probes, THERE, "tcp", 2377))
    other = probe(given=OTHER, address=OTHER)
    ctx = together(view(probes, traces=(trace,)), managers=(blocked(), other))
    lost = next(one for one in found(OUT, ctx) if one.cause is not None)
    assert (lost.state, lost.answers) == (State.WARN, {})


def test_an_answer_that_does_not_leave_is_likely_only():
    """The SYN-ACK of a trace is made by hand: its state in connection tracking is not the real one's."""
    probes = changed(healthy(), THERE, "tcp", 2377, **LOST_TCP)
    lost_probe = first(probes, THERE, "tcp", 2377)
    output = rule("-A OUTPUT -p tcp --sport 2377 -j DROP", chain="OUTPUT")
    traces = (
        traced(lost_probe, verdict=TraceVerdict.ACCEPT),
        traced(lost_probe, found=output, outward=True, at_peer=True, answer=True),
    )
    lost = found(OUT, together(view(probes, traces=traces), managers=(blocked(),)))[0]
    assert (lost.cause.host, lost.cause.confidence) == ("host-a", Confidence.LIKELY)
    assert "lets no answer out" in lost.summary


def test_an_answer_that_arrives_and_is_not_taken_is_the_senders():
    probes = changed(healthy(), THERE, "tcp", 2377, answers_left=1, answers_arrived=1, heard=Heard())
    own = rule("-A INPUT -p tcp --sport 2377 -j DROP")
    trace = traced(first(probes, THERE, "tcp", 2377), found=own, at_peer=False, answer=True)
    lost = found(OUT, together(view(probes, traces=(trace,)), managers=(blocked(),)))[0]
    assert lost.cause.host == "host-b"


def test_a_reset_where_nobody_was_expected_is_an_answer():
    probes = [*healthy(), sided(BACK, "tcp", 2377, expected=False, heard=Heard(kind="reset"))]
    assert only(IN, together(view(probes))).state is State.OK


def test_a_reset_from_a_port_that_is_held_is_a_filter():
    probes = changed(healthy(), THERE, "tcp", 7946, heard=Heard(kind="reset"))
    reject = rule("-A INPUT -p tcp -j REJECT --reject-with tcp-reset")
    lost = found(OUT, together(view(probes, traces=(traced(first(probes, THERE, "tcp", 7946), found=reject),))))[0]
    assert lost.cause.code == "firewall.rule"


# --- decoys at a host ---


def test_what_passes_when_traced_is_blamed_on_no_rule():
    """A drop for other sources, rates or lengths: the traced packet does not meet it."""
    probes = changed(healthy(), THERE, "udp", 7946, **LOST_AT_RECEIVER)
    trace = traced(first(probes, THERE, "udp", 7946), verdict=TraceVerdict.ACCEPT)
    lost = found(OUT, together(view(probes, traces=(trace,))))[0]
    assert (lost.state, lost.cause) == (State.WARN, None)
    assert "rate or state, or not a filter" in lost.summary


def test_the_trace_of_another_payload_says_nothing():
    """A rule that looks into the packet: bytes that mean nothing pass, and only a VXLAN header is lost."""
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.VXLAN, **LOST_AT_RECEIVER)
    plain = next(each for each in probes if each.way is THERE and each.port == 4789 and each.payload is Payload.TAG)
    lost = found(OUT, together(view(probes, traces=(traced(plain),))))[0]
    assert lost.cause is None


REFUSED = {"heard": Heard(kind="reset"), "answers_left": 1, "answers_arrived": 1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((("127.0.0.1", 7946),), "nobody listens on 192.0.2.10, only python3 on 127.0.0.1"),
        ((), "nobody listens on 192.0.2.10"),
        ((("0.0.0.0", 7946),), "from whom is not known"),
        ((("::", 7946),), "from whom is not known"),
        (None, "could not be read"),
    ],
)
def test_a_port_that_is_refused_is_no_matter_of_rate_or_state(rows, said):
    probes = changed(healthy(), THERE, "tcp", 7946, **REFUSED)
    trace = traced(first(probes, THERE, "tcp", 7946), verdict=TraceVerdict.ACCEPT)
    sections = {"sockets": absent()}
    if rows is not None:
        sockets = tuple(Socket(protocol="tcp", address=one, port=port, process="python3") for one, port in rows)
        sections["sockets"] = {HOST: sockets}
    lost = found(OUT, together(view(probes, traces=(trace,), facts=peer_facts(**sections))))[0]
    assert lost.cause is None
    assert said.replace("192.0.2.10", MANAGER) in lost.summary
    assert "rate or state" not in lost.summary


def test_a_size_that_a_host_loses_names_its_rule():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.VXLAN, sizes=True, **LOST_AT_RECEIVER)
    lost_probe = next(each for each in probes if each.passed == 0)
    stop = rule("-A INPUT -p udp -m length --length 1400:65535 -j DROP")
    ctx = together(view(probes, traces=(traced(lost_probe, found=stop),)), options=TRAFFIC)
    lost, came = found(OUT, ctx)
    assert (lost.state, lost.cause.code, lost.cause.host) == (State.FAIL, "firewall.rule", "host-a")
    assert "udp/4789 of 1500 bytes and more" in lost.summary
    assert "udp/4789" in came.summary
    assert [one.cause for one in found("two-sides.sizes", ctx)] == [None, None]


def test_a_jumbo_size_that_a_host_loses_does_not_hurt_overlays_of_the_usual_size():
    probes = [*healthy(), sided(THERE, "udp", 4789, payload=Payload.VXLAN, length_bytes=9000)]
    probes[-1] = msgspec.structs.replace(probes[-1], **LOST_AT_RECEIVER)
    ctx = together(view(probes, traces=(traced(probes[-1]),)), options=TRAFFIC)
    assert found(OUT, ctx)[0].state is State.WARN


def test_a_size_that_the_kernel_refuses_is_no_filter():
    probes = [*healthy(), sided(THERE, "udp", 4789, payload=Payload.VXLAN, length_bytes=9000)]
    refused = {"sent": 0, "left": 0, "refused": "Message too long", **LOST_BETWEEN}
    probes[-1] = msgspec.structs.replace(probes[-1], **refused)
    trace = traced(probes[-1], outward=True, verdict=TraceVerdict.ACCEPT)
    assert only(OUT, together(view(probes, traces=(trace,)), options=TRAFFIC)).state is State.OK


def test_a_limit_of_rate_is_a_warning_and_no_cause():
    probes = changed(healthy(), THERE, "udp", 7946, passed=1)
    lost = found(OUT, together(view(probes), options=TRAFFIC))[0]
    assert (lost.state, lost.cause) == (State.WARN, None)


def test_what_could_not_be_traced_is_told_with_its_reason():
    probes = changed(healthy(), THERE, "udp", 7946, **LOST_AT_RECEIVER)
    trace = traced(first(probes, THERE, "udp", 7946))
    trace = msgspec.structs.replace(trace, trace=None, why_not="no nf_tables here")
    lost = found(OUT, together(view(probes, traces=(trace,))))[0]
    assert (lost.cause, "no nf_tables here" in lost.summary) == (None, True)


def test_a_filter_that_cannot_be_watched_is_unknown():
    probes = changed(healthy(), THERE, "udp", 7946, passed=None)
    lost = found(OUT, together(view(probes)))[0]
    assert (lost.state, lost.cause) == (State.UNKNOWN, None)


def test_a_peer_without_root_says_what_a_socket_heard_and_no_more():
    blind = {"arrived": None, "passed": None, "answers_left": None}
    probes = [msgspec.structs.replace(each, **blind) for each in healthy()]
    probes = changed(probes, THERE, "tcp", 7946, heard=Heard(), answers_arrived=0)
    said = found(OUT, together(view(probes, blind_there="packet sockets: not permitted")))
    assert {one.state for one in said} == {State.OK, State.UNKNOWN}
    assert any("not permitted" in (one.reason or "") for one in said)
    assert "tcp/2377" in next(one.summary for one in said if one.state is State.OK)


def test_what_the_account_there_may_not_send_is_unknown():
    unsent = {"sent": 0, "left": None, "unsent": "open the socket of a probe: Operation not permitted", **LOST_BETWEEN}
    probes = changed(healthy(encrypted=True), BACK, "esp", **unsent)
    lost = found(IN, together(view(probes), options=TRAFFIC))[0]
    assert (lost.state, lost.cause, "not permitted" in lost.reason) == (State.UNKNOWN, None, True)


def test_frames_that_could_not_be_kept_prove_nothing():
    probes = changed(healthy(), THERE, "udp", 7946, **{**LOST_BETWEEN, "arrived": None, "passed": None})
    assert found(OUT, together(view(probes)))[0].state is State.UNKNOWN


def test_a_port_that_a_program_holds_is_not_sent_to():
    ctx = together(view([each for each in healthy() if each.port != 7946], unguarded=((THERE, "udp/7946"),)))
    (_, one) = found(OUT, ctx)
    assert (one.state, "udp/7946" in one.summary) == (State.UNKNOWN, True)


# --- between ---


def test_what_leaves_and_never_arrives_is_filtered_between_if_a_control_arrives():
    probes = changed(healthy(), THERE, "udp", 4789, **LOST_BETWEEN)
    lost, _ = found(OUT, together(view(probes), options=TRAFFIC))
    cause = lost.cause
    assert (cause.code, cause.host, cause.confidence) == ("underlay.filtered", None, Confidence.PROVEN)
    assert cause.object == {"kind": "segment", "from": "host-b", "to": "host-a", "protocol": "udp", "port": 4789}
    assert (lost.state, lost.answers[Need.TRAFFIC]) == (State.FAIL, Answer.NO)
    assert any(one.kind == "control" and "ICMP echo" in one.text for one in cause.evidence)


def test_without_any_control_nothing_is_blamed():
    probes = [msgspec.structs.replace(each, **LOST_BETWEEN) if each.way is THERE else each for each in healthy()]
    one = only(OUT, together(view(probes), options=TRAFFIC))
    assert (one.state, one.cause) == (State.UNKNOWN, None)
    assert "not even a control" in one.reason


def test_a_peer_whose_icmp_is_filtered_has_other_controls():
    probes = changed(healthy(), THERE, "icmp", **LOST_BETWEEN)
    probes = changed(probes, THERE, "icmp", sizes=True, **LOST_BETWEEN)
    assert only(OUT, together(view(probes))).state is State.OK
    probes = changed(probes, THERE, "udp", 4789, **LOST_BETWEEN)
    lost = found(OUT, together(view(probes)))[0]
    assert (lost.cause.confidence, "ICMP echo" in lost.cause.evidence[-1].text) == (Confidence.PROVEN, False)


def test_only_a_vxlan_header_is_lost():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.VXLAN, **LOST_BETWEEN)
    lost = found(OUT, together(view(probes), options=TRAFFIC))[0]
    assert lost.cause.object["payload"] == "vxlan"
    assert lost.cause.remedy[0].commands == ("docker swarm init --data-path-port 7789",)
    assert lost.state is State.FAIL


def test_only_random_payload_is_lost_and_overlays_do_not_care():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.TAG, **LOST_BETWEEN)
    lost = found(OUT, together(view(probes), options=TRAFFIC))[0]
    assert (lost.cause.object["payload"], lost.state, lost.cause.remedy) == ("tag", State.WARN, ())


def test_a_filter_between_that_keeps_state_is_named_with_its_side():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.TAG, **LOST_BETWEEN)
    probes = changed(probes, THERE, "udp", 4789, payload=Payload.VXLAN, **LOST_BETWEEN)
    probes.append(sided(THERE, "udp", 4789, again=True, sent=3, left=3, arrived=3, passed=3))
    lost = found(OUT, together(view(probes), options=TRAFFIC))[0]
    assert lost.cause.object["side"] == "host-a"
    assert "keeps state" in lost.cause.explanation


def test_what_was_not_sent_again_is_likely_only():
    probes = changed(healthy(), THERE, "udp", 7946, **{**LOST_BETWEEN, "resent": 0})
    cause = found(OUT, together(view(probes)))[0].cause
    assert (cause.confidence, "chance is not ruled out" in cause.explanation) == (Confidence.LIKELY, True)


def test_on_a_path_that_loses_packets_a_filter_is_possible_only_and_no_answer_is_a_no():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.VXLAN, **LOST_BETWEEN)
    probes = changed(probes, THERE, "udp", 7946, arrived=1, passed=1)
    lost = next(one for one in found(OUT, together(view(probes), options=TRAFFIC)) if one.cause is not None)
    assert (lost.state, lost.cause.confidence) == (State.WARN, Confidence.POSSIBLE)
    assert "the path loses packets" in lost.cause.explanation


def test_loss_the_other_way_takes_nothing_from_it():
    probes = changed(healthy(), THERE, "udp", 7946, **LOST_BETWEEN)
    probes = changed(probes, BACK, "udp", 4789, payload=Payload.TAG, arrived=1, passed=1)
    assert found(OUT, together(view(probes)))[0].cause.confidence is Confidence.PROVEN


@pytest.mark.parametrize("fields", [{"resent": 0}, {"arrived": 1, "passed": 1}], ids=["not again", "some came"])
def test_chance_is_not_taken_for_a_filter_that_keeps_state(fields):
    probes = changed(healthy(), THERE, "udp", 7946, **{**LOST_BETWEEN, **fields})
    probes.append(sided(THERE, "udp", 7946, again=True, sent=3, left=3, arrived=3, passed=3))
    for lost in found(OUT, together(view(probes))):
        assert lost.cause is None or "side" not in lost.cause.object


def test_a_connection_that_comes_about_when_it_is_tried_again_is_loss():
    probes = changed(healthy(), THERE, "tcp", 7946, sent=6, resent=5, left=7, arrived=5)
    (lost, _) = found(OUT, together(view(probes)))
    assert (lost.state, lost.cause, "some packets came" in lost.summary) == (State.WARN, None, True)


def test_an_answer_that_is_lost_on_its_way_back():
    probes = changed(healthy(), THERE, "tcp", 2377, answers_arrived=0, heard=Heard())
    lost = found(OUT, together(view(probes), managers=(blocked(),)))[0]
    named = lost.cause.object
    assert (named["from"], named["to"], named["answers"]) == ("host-a", "host-b", True)


def test_an_xdp_program_at_the_receiver_is_looked_at_before_the_network():
    links = {HOST: (Link(index=2, name="eth0", mtu_bytes=1500, up=True, xdp_mode="generic"),)}
    probes = changed(healthy(), THERE, "udp", 4789, **LOST_BETWEEN)
    lost = found(OUT, together(view(probes, facts=peer_facts(links=links))))[0]
    assert (lost.cause.code, lost.cause.host, lost.cause.confidence) == ("host.xdp-drop", "host-a", Confidence.LIKELY)


def test_a_connection_that_the_peer_never_saw_is_somebody_elses():
    probes = changed(healthy(), THERE, "tcp", 2377, arrived=0, seen_source="", answers_left=0)
    lost = found(OUT, together(view(probes)))[0]
    assert (lost.state, lost.cause) == (State.WARN, None)
    assert "somebody between" in lost.summary


def test_a_connection_that_arrives_under_another_number_is_no_proxys():
    probes = changed(healthy(), THERE, "tcp", 2377, arrived=0, alike=1, seen_source="", answers_left=0)
    assert only(OUT, together(view(probes))).state is State.OK


def test_a_connection_that_may_have_arrived_under_another_number_is_blamed_on_nothing():
    probes = changed(healthy(), THERE, "tcp", 2377, alike=1, **LOST_BETWEEN)
    lost = found(OUT, together(view(probes), managers=(blocked(),)))[0]
    assert (lost.state, lost.cause, "another number" in lost.reason) == (State.UNKNOWN, None, True)


def test_an_icmp_error_on_the_way_is_told_with_its_sender():
    error = Heard(kind="icmp", icmp=IcmpError(type=3, code=13, sender="192.0.2.1"))
    probes = changed(healthy(), THERE, "tcp", 2377, **{**LOST_BETWEEN, "heard": error, "passed": None})
    lost = found(OUT, together(view(probes), managers=(blocked(TcpOutcome.ICMP, icmp=error.icmp),)))[0]
    assert lost.cause.code == "underlay.filtered"
    assert "192.0.2.1" in lost.cause.explanation


# --- what a loss means ---


@pytest.mark.parametrize("both", [False, True])
def test_gossip_by_tcp_is_lost_only_if_it_is_lost_both_ways(both):
    probes = changed(healthy(), THERE, "tcp", 7946, **LOST_BETWEEN)
    probes = changed(probes, BACK, "tcp", 7946, **LOST_BETWEEN) if both else probes
    lost = found(OUT, together(view(probes), options={"need": Need.NAMES}))[0]
    assert (lost.state, lost.answers[Need.NAMES]) == ((State.FAIL, Answer.NO) if both else (State.WARN, Answer.UNKNOWN))


def test_nothing_leaves_for_a_next_hop_that_does_not_answer():
    probes = [
        msgspec.structs.replace(each, left=0, **LOST_BETWEEN) if each.way is THERE else each for each in healthy()
    ]
    one = only(OUT, together(view(probes)))
    assert (one.state, one.cause) == (State.UNKNOWN, None)
    assert "nothing at all leaves" in one.reason


def test_protocol_50_that_comes_once_this_host_has_sent_some_is_a_warning():
    probes = changed(healthy(encrypted=True), BACK, "esp", **LOST_AT_RECEIVER)
    trace = traced(first(probes, BACK, "esp"), verdict=TraceVerdict.ACCEPT)
    lost = found(IN, together(view(probes, traces=(trace,)), options=TRAFFIC))[0]
    assert (lost.state, lost.cause) == (State.WARN, None)
    assert "only after" in lost.summary


# --- many peers ---


def many(count, broken):
    """Peers of which some have the same rule in their own INPUT."""
    views = []
    for number in range(count):
        address = f"192.0.2.{100 + number}"
        probes = [
            msgspec.structs.replace(each, destination=address, seen_destination=address)
            if each.way is THERE
            else msgspec.structs.replace(each, source=address, seen_source=address)
            for each in healthy()
        ]
        traces = ()
        if number < broken:
            probes = changed(probes, THERE, "tcp", 7946, **LOST_TCP)
            drop = rule("-A INPUT -p tcp -m tcp --dport 7946 -j DROP", handle=number)
            traces = (traced(first(probes, THERE, "tcp", 7946), found=drop),)
        known = peer_facts(f"node-{number}", address)
        views.append(view(probes, traces=traces, address=address, given=address, facts=known, is_manager=False))
    return views


def test_the_same_rule_on_many_hosts_is_told_once_with_one_remedy():
    lost, came = found(OUT, together(*many(30, 12), options=TRAFFIC))
    assert lost.cause.object["hosts"] == [f"node-{number}" for number in range(12)]
    assert "node-0, node-1, node-2 and 9 more" in lost.summary
    (remedy,) = lost.cause.remedy
    assert remedy.host == "node-0, node-1, node-2 and 9 more"
    assert "27 more" in came.summary


def saved(*rules, policy="ACCEPT"):
    lines = ["*filter", f":INPUT {policy} [0:0]", *rules, "COMMIT", ""]
    return {HOST: (RuleSet(backend=Backend.IPTABLES_NFT, family=4, text="\n".join(lines), sha256=""),)}


def native(*rules):
    lines = ["table inet own {", "\tchain c {", "\t\ttype filter hook input priority filter; policy accept;"]
    lines += [f"\t\t{rule} # handle {number}" for number, rule in enumerate(rules, 2)]
    return {HOST: (RuleSet(backend=Backend.NFT_NATIVE, family=0, text="\n".join([*lines, "\t}", "}"]), sha256=""),)}


DROP = "-A INPUT -p tcp -m tcp --dport 7946 -j DROP"


def lost_at(views, way, numbers, *, sections=None, trace=None):
    """Some of the peers with tcp/7946 lost at the receiver of a way; untraced unless a trace is given."""
    changed_views = list(views)
    for number in numbers:
        one = views[number]
        probes = tuple(changed(one.probes, way, "tcp", 7946, **LOST_TCP))
        known = msgspec.structs.replace(
            one.facts,
            **{
                key: value if isinstance(value, Section) else Section(value=value)
                for key, value in (sections or {}).items()
            },
        )
        traces = (traced(first(probes, way, "tcp", 7946), found=trace),) if trace is not None else ()
        changed_views[number] = msgspec.structs.replace(one, probes=probes, traces=traces, facts=known)
    return changed_views


def test_a_loss_here_that_was_not_traced_for_all_peers_is_one_finding():
    views = lost_at(many(30, 0), BACK, range(3), trace=rule(DROP))
    views = lost_at(views, BACK, range(3, 30))
    (lost,) = [one for one in found(IN, together(*views, options=TRAFFIC, firewall=saved(DROP))) if one.cause]
    assert (lost.cause.host, lost.cause.confidence) == ("host-b", Confidence.PROVEN)
    assert "and 27 more" in lost.summary
    assert "3 of 30 such losses were traced" in lost.cause.explanation
    assert len(lost.cause.remedy) == 4  # of those that were traced, and one for every other
    assert "<PEER>" in lost.cause.remedy[-1].commands[0]


@pytest.mark.parametrize("text", ["tcp dport 7946 drop", "ip saddr 192.0.2.100 tcp dport 7946 drop"])
def test_a_rule_here_in_nft_s_own_words_is_everybody_s_unless_it_asks_who_sends(text):
    sets = native(text)
    own = rule(text, backend=Backend.NFT_NATIVE, family="inet", table="own", chain="c", handle=2)
    views = lost_at(many(8, 0), BACK, range(2), trace=own)
    views = lost_at(views, BACK, range(2, 8))
    said = [one for one in found(IN, together(*views, options=TRAFFIC, firewall=sets)) if one.state is not State.OK]
    assert [bool(one.cause) for one in said] == ([True] if "saddr" not in text else [True, False])


def test_peers_that_were_not_traced_are_told_by_their_own_rules():
    other = DROP.replace("-j", "-m comment --comment b -j")
    views = lost_at(many(30, 0), THERE, range(6), trace=rule(DROP))
    views = lost_at(views, THERE, range(6, 10), sections={"firewall": saved(DROP)})
    views = lost_at(views, THERE, range(10, 20), sections={"firewall": saved(other)})
    one, two = [each for each in found(OUT, together(*views, options=TRAFFIC)) if each.cause]
    assert (len(one.cause.object["hosts"]), one.cause.confidence) == (10, Confidence.PROVEN)
    assert (len(two.cause.object["hosts"]), two.cause.confidence) == (10, Confidence.LIKELY)
    assert "By a reading of the rules" in two.cause.explanation


def test_another_peer_s_rule_is_not_a_peer_s_own():
    """The decoy: lost as on the others, with rules that would let it through, or that nobody read."""
    views = lost_at(many(9, 0), THERE, range(6), trace=rule(DROP))
    views = lost_at(views, THERE, (6,), sections={"firewall": saved("-A INPUT -p tcp -m tcp --dport 22 -j DROP")})
    views = lost_at(views, THERE, (7,), sections={"firewall": absent()})
    said = [one for one in found(OUT, together(*views, options=TRAFFIC)) if one.state is not State.OK]
    assert [bool(one.cause) for one in said] == [True, False, False]
    assert "do not say" in said[1].summary
    assert "were not read" in said[2].summary


def test_what_is_lost_between_to_many_is_told_once():
    views = [
        msgspec.structs.replace(one, probes=tuple(changed(one.probes, THERE, "udp", 4789, **LOST_BETWEEN)))
        for one in many(30, 0)
    ]
    lost, _ = found(OUT, together(*views, options=TRAFFIC))
    assert len(lost.cause.object["hosts"]) == 30


def test_two_hosts_of_one_name_are_told_apart_by_their_addresses():
    one = view(facts=peer_facts("host-b"))
    assert f"host-b ({MANAGER})" in only(OUT, together(one)).summary


def test_a_host_without_facts_is_called_as_it_was_named():
    one = view(facts=msgspec.structs.replace(peer_facts(), identity=Section()))
    assert MANAGER in only(OUT, together(one)).summary
