"""Sizes, addresses, clocks, versions, names and routes, as both sides together show them."""

import msgspec
import pytest

from netdiag.model.engine import Network
from netdiag.model.facts import HOST, Backend, Clock, Link, NextHop, Route, RuleSet, Section
from netdiag.model.icmp import IcmpError
from netdiag.model.report import Answer, Confidence, Need, State
from netdiag.model.two_sided import ClockOffset, Heard, Payload, PeerView
from tests.unit.checks.factory import MANAGER, OWN, absent, engine, found, manager_engine, member, node, only, probe
from tests.unit.checks.two_sides import BACK, LOST_BETWEEN, THERE, changed, healthy, peer_facts, sided, together, view

SIZES, ADDRESSES, CLOCK = "two-sides.sizes", "two-sides.addresses", "two-sides.clock"
TRAFFIC = {"need": Need.TRAFFIC}
NAT = "198.51.100.9"


def large_lost(probes, *ways, icmp=None, kinds=("udp", "icmp")):
    heard = Heard(kind="icmp", icmp=icmp) if icmp else Heard()
    for way in ways:
        for protocol, port in (("udp", 4789), ("icmp", None)):
            if protocol in kinds:
                probes = changed(probes, way, protocol, port, sizes=True, **{**LOST_BETWEEN, "heard": heard})
                payload = Payload.VXLAN if protocol == "udp" else Payload.TAG
                for size in (1400, 1401):
                    one = sided(way, protocol, port, payload=payload, length_bytes=size)
                    if size == 1401:
                        one = msgspec.structs.replace(one, **{**LOST_BETWEEN, "heard": heard})
                    probes = [*probes, one]
    return probes


def test_every_size_passes():
    assert [one.state for one in found(SIZES, together(view()))] == [State.OK, State.OK]


def test_a_size_that_vanishes_one_way_is_a_black_hole_of_that_sender():
    ctx = together(view(large_lost(healthy(), BACK)), options=TRAFFIC)
    lost = next(one for one in found(SIZES, ctx) if one.cause is not None)
    cause = lost.cause
    assert (cause.code, cause.host, cause.confidence) == ("underlay.mtu-blackhole", "host-a", Confidence.PROVEN)
    assert (cause.object["largest_bytes"], cause.object["mtu_bytes"]) == (1400, 1500)
    assert cause.remedy[0].commands == ("ip link set dev eth0 mtu 1400",)
    assert lost.answers == {Need.JOIN: Answer.NO, Need.TRAFFIC: Answer.NO}


@pytest.mark.parametrize("kinds", [("udp", "icmp"), ("udp",)])
def test_on_a_path_that_loses_packets_a_size_is_possible_only(kinds):
    probes = changed(large_lost(healthy(), BACK, kinds=kinds), BACK, "udp", 7946, arrived=1, passed=1)
    lost = next(one for one in found(SIZES, together(view(probes), options=TRAFFIC)) if one.cause is not None)
    assert (lost.state, lost.cause.confidence) == (State.WARN, Confidence.POSSIBLE)
    assert "Chance is not ruled out" in lost.cause.explanation


def test_a_path_that_says_so_lets_tcp_adapt():
    error = IcmpError(type=3, code=4, sender="192.0.2.1", mtu_bytes=1400)
    ctx = together(view(large_lost(healthy(), THERE, icmp=error)), options=TRAFFIC)
    lost = next(one for one in found(SIZES, ctx) if one.cause is not None)
    assert (lost.cause.code, lost.answers) == ("underlay.mtu", {Need.TRAFFIC: Answer.NO})


def test_only_the_data_path_is_cut_by_length():
    ctx = together(view(large_lost(healthy(), THERE, kinds=("udp",))), options=TRAFFIC)
    lost = next(one for one in found(SIZES, ctx) if one.cause is not None)
    assert (lost.cause.code, lost.cause.object["size"], lost.state) == ("underlay.filtered", 1401, State.FAIL)


def test_large_pings_that_are_filtered_are_nobodys_loss():
    said = found(SIZES, together(view(large_lost(healthy(), THERE, kinds=("icmp",)))))
    assert [one.cause for one in said] == [None, None]


def test_a_port_that_is_filtered_leaves_pings_to_carry_sizes():
    probes = changed(healthy(), THERE, "udp", 4789, **LOST_BETWEEN)
    probes = changed(probes, THERE, "udp", 4789, sizes=True, **LOST_BETWEEN)
    assert [one.cause for one in found(SIZES, together(view(probes)))] == [None, None]


def test_a_datagram_of_another_payload_is_no_control_for_sizes():
    probes = changed(healthy(), THERE, "udp", 4789, payload=Payload.VXLAN, **LOST_BETWEEN)
    probes = changed(probes, THERE, "udp", 4789, payload=Payload.VXLAN, sizes=True, **LOST_BETWEEN)
    assert [one.cause for one in found(SIZES, together(view(probes)))] == [None, None]


def test_jumbo_frames_that_the_path_does_not_carry_do_not_hurt_overlays_of_the_usual_size():
    links = {HOST: (Link(index=2, name="eth0", mtu_bytes=9000, up=True),)}
    probes = healthy()
    for protocol, port, payload in (("udp", 4789, Payload.VXLAN), ("icmp", None, Payload.TAG)):
        one = sided(THERE, protocol, port, payload=payload, length_bytes=9000)
        probes.append(msgspec.structs.replace(one, **LOST_BETWEEN))
    ctx = together(view(probes, is_manager=False, facts=peer_facts(links=links)), links=links, options=TRAFFIC)
    lost = next(one for one in found(SIZES, ctx) if one.cause is not None)
    assert (lost.state, lost.cause.object["largest_bytes"]) == (State.WARN, 1500)


def jumbo(icmp, *, network=None):
    """A device of 9000 bytes on a path of 1500; the path says so, or not."""
    links = {HOST: (Link(index=2, name="eth0", mtu_bytes=9000, up=True),)}
    probes = healthy()
    for protocol, port, payload in (("udp", 4789, Payload.VXLAN), ("icmp", None, Payload.TAG)):
        one = sided(THERE, protocol, port, payload=payload, length_bytes=9000)
        lost = {**LOST_BETWEEN, "heard": Heard(kind="icmp", icmp=icmp) if icmp else Heard()}
        probes.append(msgspec.structs.replace(one, **lost))
    networks = (Network(id="n1", name="big", driver="overlay", scope="swarm", mtu_bytes=network),) if network else ()
    own = engine(networks=networks)
    there = peer_facts(links=links)
    return together(view(probes, is_manager=False, facts=there), links=links, engine=own, options=TRAFFIC)


TOO_BIG = IcmpError(type=3, code=4, sender="192.0.2.1", mtu_bytes=1500)


def test_a_jumbo_device_on_a_path_that_says_its_size_is_in_order():
    said = found(SIZES, jumbo(TOO_BIG))
    assert [(one.state, one.cause) for one in said] == [(State.OK, None)] * 2
    assert any("so connections adapt" in one.summary for one in said)


def test_an_overlay_that_sends_more_than_the_path_carries_is_told():
    lost = next(one for one in found(SIZES, jumbo(TOO_BIG, network=8950)) if one.cause is not None)
    assert (lost.cause.code, lost.state) == ("underlay.mtu", State.WARN)


def test_the_one_sided_check_leaves_sizes_to_both_sides():
    assert found("underlay.mtu", together(view())) == ()
    assert found("underlay.mtu", together(PeerView(given=MANAGER, why_not="no ssh"))) != ()


# --- addresses ---


def test_addresses_that_arrive_unchanged():
    assert only(ADDRESSES, together(view())).state is State.OK


@pytest.mark.parametrize("way", [THERE, BACK])
def test_a_source_that_is_translated_one_way_only(way):
    probes = [msgspec.structs.replace(each, seen_source=NAT) if each.way is way else each for each in healthy()]
    one = only(ADDRESSES, together(view(probes), options=TRAFFIC))
    sender = "host-b" if way is THERE else "host-a"
    cause = one.cause
    assert (cause.code, cause.confidence, cause.object["from"]) == ("underlay.nat", Confidence.PROVEN, sender)
    assert (cause.object["address"], cause.object["expected"]) == (OWN if way is THERE else MANAGER, NAT)
    assert one.state is State.FAIL


@pytest.mark.parametrize("way", [THERE, BACK])
def test_a_source_that_its_own_host_translates_is_that_host_s(way):
    probes = [
        msgspec.structs.replace(each, left_source=NAT, seen_source=NAT) if each.way is way else each
        for each in healthy()
    ]
    text = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE\n"
    text += f"-A POSTROUTING -p udp -j SNAT --to-source {NAT}\nCOMMIT\n"
    sets = {HOST: (RuleSet(backend=Backend.IPTABLES_NFT, family=4, text=text, sha256=""),)}
    one = only(ADDRESSES, together(view(probes, facts=peer_facts(firewall=sets)), options=TRAFFIC, firewall=sets))
    cause = one.cause
    assert (cause.host, cause.confidence) == ("host-b" if way is THERE else "host-a", Confidence.PROVEN)
    assert "own device" in cause.explanation


def test_the_one_rule_that_may_do_it_is_named():
    probes = changed(healthy(), THERE, "udp", 7946, left_source=NAT, seen_source=NAT)
    text = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE\n"
    text += f"-A POSTROUTING -p udp -j SNAT --to-source {NAT}\nCOMMIT\n"
    sets = {HOST: (RuleSet(backend=Backend.IPTABLES_NFT, family=4, text=text, sha256=""),)}
    cause = only(ADDRESSES, together(view(probes), options=TRAFFIC, firewall=sets)).cause
    assert cause.host == "host-b"
    assert "nat POSTROUTING rule 2" in cause.explanation


def test_where_nobody_watched_the_sender_s_device_it_is_not_said_who_translates():
    probes = [
        msgspec.structs.replace(each, left_source="", left_destination="", seen_source=NAT)
        if each.way is BACK
        else each
        for each in healthy()
    ]
    cause = only(ADDRESSES, together(view(probes), options=TRAFFIC)).cause
    assert (cause.host, cause.confidence) == (None, Confidence.LIKELY)
    assert "could not be watched" in cause.explanation


def test_a_destination_that_is_translated():
    probes = [
        msgspec.structs.replace(each, seen_destination="10.0.0.5") if each.way is THERE else each for each in healthy()
    ]
    assert only(ADDRESSES, together(view(probes))).cause.object["expected"] == "10.0.0.5"


def test_a_translation_that_the_swarm_knows_is_a_warning():
    probes = [msgspec.structs.replace(each, seen_source=NAT) if each.way is THERE else each for each in healthy()]
    options = {**TRAFFIC, "advertise_address": NAT}
    one = only(ADDRESSES, together(view(probes, own_address=NAT), options=options))
    assert (one.state, one.answers[Need.TRAFFIC]) == (State.WARN, Answer.UNKNOWN)


def test_a_node_that_sends_from_another_address_than_it_is_known_by():
    known = peer_facts(engine=engine(swarm=member(node_address="192.0.2.99")))
    one = only(ADDRESSES, together(view(facts=known), options=TRAFFIC))
    cause = one.cause
    assert (cause.code, cause.host, cause.object["expected"]) == ("swarm.advertise-address", "host-a", MANAGER)
    assert one.answers[Need.TRAFFIC] is Answer.NO


# --- clocks ---


def offset(offset_s, error_s=0.01, **fields):
    return view(clock=ClockOffset(offset_s=offset_s, error_s=error_s, round_trips=3), **fields)


def test_clocks_that_agree():
    assert only(CLOCK, together(view())).state is State.OK


@pytest.mark.parametrize(("offset_s", "state"), [(1.5, State.OK), (5.0, State.WARN), (-5.0, State.WARN)])
def test_a_small_offset_is_at_most_a_warning(offset_s, state):
    assert only(CLOCK, together(offset(offset_s))).state is state


def test_an_offset_within_its_own_error_is_none():
    assert only(CLOCK, together(offset(5.0, error_s=4.0))).state is State.OK


def test_a_manager_that_is_hours_ahead_breaks_the_join():
    one = only(CLOCK, together(offset(7200.0)))
    assert (one.state, one.cause.confidence) == (State.FAIL, Confidence.PROVEN)
    assert one.cause.object["offset_s"] == 7200.0
    assert only(CLOCK, together(offset(-7200.0))).state is State.WARN
    assert only(CLOCK, together(offset(7200.0, is_manager=False))).state is State.WARN


def test_the_host_whose_clock_nobody_sets_is_named():
    def clock(synchronised):
        return Section(value=Clock(unix_s=0.0, synchronised=synchronised))

    one = offset(60.0, facts=peer_facts(clock=clock(False)))
    assert only(CLOCK, together(one, clock=clock(True))).cause.host == "host-a"
    assert only(CLOCK, together(one, clock=clock(False))).cause.host is None


# --- engines, names, pools, carriers ---


def test_engines_of_different_majors():
    known = peer_facts(engine=engine(version="20.10.24"))
    one = only("two-sides.engine", together(view(facts=known)))
    assert (one.state, one.cause.code) == (State.WARN, "swarm.engine-version")


def test_an_engine_that_cannot_be_asked():
    one = only("two-sides.engine", together(view(facts=peer_facts(engine=absent()))))
    assert one.state is State.UNKNOWN


def test_two_hosts_of_one_name():
    one = only("two-sides.name", together(view(facts=peer_facts("host-b"))))
    assert (one.cause.code, one.cause.object["others"]) == ("host.name-duplicate", [MANAGER])
    assert only("two-sides.name", together(view())).state is State.OK


def test_a_node_of_the_swarm_that_has_this_hosts_name_is_known_from_its_manager():
    known = peer_facts(engine=manager_engine(node("host-b", "192.0.2.77")))
    one = only("host.name.known", together(view(facts=known)))
    assert (one.state, one.cause.confidence) == (State.WARN, Confidence.PROVEN)
    known = peer_facts(engine=manager_engine(node("host-c", "192.0.2.77"), cluster=None))
    others = msgspec.structs.replace(known.engine.value.cluster, nodes=(node("host-c", "192.0.2.77"),))
    known = peer_facts(engine=msgspec.structs.replace(known.engine.value, cluster=others))
    assert only("host.name.known", together(view(facts=known))).state is State.OK


def test_a_route_of_any_host_into_a_network_of_the_swarm():
    inside = {HOST: (Route(destination="10.0.0.0/16", next_hops=(NextHop(device="eth0"),)),)}
    known = peer_facts(engine=manager_engine(), routes=inside)
    said = found("two-sides.pools", together(view(facts=known), options=TRAFFIC))
    lost = next(one for one in said if one.cause is not None)
    assert (lost.cause.code, lost.cause.host, lost.state) == ("swarm.address-pool", "host-a", State.FAIL)
    assert any("host-b" in one.summary for one in said if one.state is State.OK)


def test_without_a_manager_among_the_hosts_the_pools_are_not_known():
    assert only("two-sides.pools", together(view())).state is State.SKIP


def test_a_peer_that_cannot_be_reached_leaves_names_and_traffic_open():
    one = only("two-sides.examined", together(PeerView(given=MANAGER, why_not="ssh: no route to host")))
    assert (one.state, one.reason) == (State.UNKNOWN, "ssh: no route to host")
    assert one.answers == {Need.NAMES: Answer.UNKNOWN, Need.TRAFFIC: Answer.UNKNOWN}
    assert one.next[0].command == f"ssh {MANAGER} true"


def test_many_that_cannot_be_reached_for_one_reason_are_told_once():
    lost = [PeerView(given=f"192.0.2.{number}", why_not="not done in time") for number in range(100, 120)]
    said = found("two-sides.examined", together(view(), *lost))
    assert [one.state for one in said] == [State.UNKNOWN, State.OK]


def test_without_peers_nothing_is_said():
    for check in ("two-sides.inbound", "two-sides.outbound", SIZES, ADDRESSES, CLOCK, "two-sides.name"):
        assert found(check, together(managers=(probe(),))) == ()
