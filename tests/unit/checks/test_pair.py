"""Two hosts side by side: what of either stands against their traffic, what only looks alike, what is not known."""

import msgspec
import pytest

from netdiag.causes import CATALOGUE
from netdiag.checks.context import Context, Options, Peer
from netdiag.checks.pair_ends import pair_of
from netdiag.checks.pair_hosts import same_host
from netdiag.checks.registry import PAIR, run
from netdiag.model.engine import Cluster, Image, Network, SwarmState
from netdiag.model.facts import (
    HOST,
    Address,
    Backend,
    Clock,
    FirewallSaved,
    Identity,
    Link,
    NextHop,
    Route,
    Vxlan,
)
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    HEALTHY_RULES,
    MANAGER,
    NOW_S,
    OWN,
    STOCK_INPUT,
    absent,
    engine,
    facts,
    filter_table,
    member,
    membership,
    node,
    rules,
)

CLUSTER_ID = "cluster0"
INGRESS = Network(
    id="ing", name="ingress", driver="overlay", scope="swarm", ingress=True, subnets=("10.0.0.0/24",), vnis=(4096,)
)


def on(address, *, device="eth0", mtu=1500, hostname, machine_id, links=(), addresses=(), routes=(), **sections):
    """The facts of a host with one NIC on 192.0.2.0/24."""
    own = {
        "identity": Identity(
            hostname=hostname, machine_id=machine_id, kernel_release="6.1.0", distribution_id="debian", is_root=True
        ),
        "clock": Clock(unix_s=NOW_S),
        "links": {
            HOST: (
                Link(index=1, name="lo", mtu_bytes=65536, up=True, loopback=True),
                Link(index=2, name=device, mtu_bytes=mtu, up=True, operstate="up"),
                *links,
            )
        },
        "addresses": {HOST: (Address(device=device, cidr=f"{address}/24"), *addresses)},
        "routes": {HOST: (Route(destination="192.0.2.0/24", next_hops=(NextHop(device=device),)), *routes)},
        **sections,
    }
    return facts(**own)


def worker(**sections):
    return on(OWN, **{"hostname": "worker", "machine_id": "w" * 32, **sections})


def manager_engine(**fields):
    swarm = {
        "is_manager": True,
        "cluster_id": CLUSTER_ID,
        "managers": 1,
        "node_id": "man0node",
        "node_address": MANAGER,
    }
    return engine(
        **{
            "swarm": member(**swarm),
            "networks": (INGRESS,),
            "cluster": Cluster(nodes=(node("manager", MANAGER, id="man0node", role="manager"),)),
            **fields,
        }
    )


def manager(**sections):
    return on(MANAGER, **{"hostname": "manager", "machine_id": "m" * 32, "engine": manager_engine(), **sections})


def pair(mine=None, theirs=None, *, read_s=NOW_S + 60, asked_s=None):
    options = Options(need=Need.TRAFFIC, probed=False)
    other = Context(facts=theirs or manager(), options=options)
    return Context(facts=mine or worker(), options=options, peer=Peer(context=other, read_s=read_s, asked_s=asked_s))


def said(ctx, check=None):
    found = run([one for one in PAIR if check in (None, one.id)], ctx)
    assert not [one.reason for one in found if "the check itself failed" in (one.reason or "")]
    return found


def causes(ctx, check=None):
    return [one.cause for one in said(ctx, check) if one.cause is not None]


def only(check, ctx):
    (one,) = said(ctx, check)
    return one


def with_rules(text, backend=Backend.IPTABLES_NFT, family=4):
    return {HOST: (rules(text, backend, family),)}


# --- a clean pair ----------------------------------------------------------------------------------------------------


def test_a_clean_pair_has_no_cause_and_says_what_stays_open():
    found = said(pair())
    assert [one.cause for one in found if one.cause is not None] == []
    assert {one.state for one in found} == {State.OK, State.UNKNOWN}
    assert {one.check for one in found if one.state is State.UNKNOWN} == {"pair.clock", "pair.between"}
    # Neither leaves a question open that the records could have answered.
    assert all(not one.answers for one in found)
    between = only("pair.between", pair())
    (step,) = between.next
    assert step.host == "worker"
    assert step.command == f"netdiag diagnose {OWN} {MANAGER}:2377/tcp --via ssh:{MANAGER}"


def test_every_finding_names_both_hosts():
    for one in said(pair()):
        assert {one.subject.host, one.subject.peer} == {"worker", "manager"}, one


def test_nothing_is_ever_more_than_likely():
    ill = pair(
        worker(firewall=with_rules(STOCK_INPUT), hostname="manager", mtu=1400),
        manager(firewall=with_rules(filter_table("-A INPUT -p tcp --dport 2377 -j DROP"))),
    )
    found = causes(ill)
    assert {one.code for one in found} == {"firewall.rule", "host.name-duplicate", "underlay.mtu"}
    assert {one.confidence for one in found} <= {Confidence.LIKELY, Confidence.POSSIBLE}
    assert all(one.code in CATALOGUE for one in found)


# --- the firewall ----------------------------------------------------------------------------------------------------


def test_their_rule_is_named_with_its_host_and_remedy():
    theirs = manager(firewall=with_rules(filter_table("-A INPUT -p tcp -m tcp --dport 2377 -j DROP")))
    (cause,) = causes(pair(theirs=theirs))
    assert (cause.code, cause.host, cause.confidence) == ("firewall.rule", "manager", Confidence.LIKELY)
    assert (cause.object["table"], cause.object["chain"], cause.object["number"]) == ("filter", "INPUT", 1)
    (remedy,) = cause.remedy
    assert remedy.host == "manager"
    assert remedy.commands == (
        f"iptables -I INPUT 1 -s {OWN} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
    )
    failed = [one for one in said(pair(theirs=theirs), "pair.firewall") if one.state is State.FAIL]
    (one,) = failed
    assert (one.subject.host, one.subject.peer, one.answers) == ("manager", "worker", {Need.JOIN: Answer.NO})
    assert one.next[0].command == "iptables -t filter -vnL INPUT 1"


def test_a_stock_stateful_input_rejects_the_data_path():
    (cause,) = causes(pair(worker(firewall=with_rules(STOCK_INPUT))))
    assert (cause.host, cause.object["number"]) == ("worker", 5)
    assert f"iptables -I INPUT 5 -s {MANAGER} -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT" in [
        command for remedy in cause.remedy for command in remedy.commands
    ]
    # A worker need not be reached on tcp/2377.
    assert "2377" not in str(cause.remedy)


def test_both_ways_and_both_directions_of_each_host():
    mine = worker(firewall=with_rules(filter_table("-A OUTPUT -p udp --dport 4789 -j DROP")))
    theirs = manager(firewall=with_rules(filter_table("-A OUTPUT -p tcp --dport 7946 -j REJECT")))
    found = {(one.host, one.object["chain"]): one for one in causes(pair(mine, theirs))}
    assert set(found) == {("worker", "OUTPUT"), ("manager", "OUTPUT")}
    assert found["worker", "OUTPUT"].remedy[0].commands == (
        f"iptables -I OUTPUT 1 -d {MANAGER} -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
    )


def test_a_policy_is_named_as_one():
    theirs = manager(firewall=with_rules(filter_table(policies=("DROP", "ACCEPT", "ACCEPT"))))
    (cause,) = causes(pair(theirs=theirs))
    assert (cause.code, cause.object["policy"]) == ("firewall.policy", "DROP")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["-A INPUT -s 192.0.2.99/32 -p tcp --dport 2377 -j DROP"], id="other source"),
        pytest.param(["-A INPUT -i eth1 -p tcp --dport 2377 -j DROP"], id="other device"),
        pytest.param(
            [f"-A INPUT -s {OWN}/32 -m comment --comment netdiag -j ACCEPT", "-A INPUT -p tcp --dport 2377 -j DROP"],
            id="after an accept",
        ),
        pytest.param(["-A INPUT -p tcp --dport 22 -j DROP", "-A FORWARD -j DROP"], id="what is no flow of the swarm"),
        pytest.param(["-A INPUT -p esp -j DROP"], id="ESP where no network is encrypted"),
    ],
)
def test_decoys_of_the_firewall(lines):
    assert causes(pair(theirs=manager(firewall=with_rules(filter_table(*lines))))) == []


def test_esp_counts_where_a_network_is_encrypted():
    secret = Network(id="sec", name="sec", driver="overlay", scope="swarm", encrypted=True, subnets=("10.0.2.0/24",))
    theirs = manager(
        engine=manager_engine(networks=(INGRESS, secret)),
        firewall=with_rules(filter_table("-A INPUT -p esp -j DROP")),
    )
    (cause,) = causes(pair(theirs=theirs))
    assert "IP protocol 50" in cause.explanation


def test_a_data_path_port_of_its_own_is_asked_for():
    swarm = member(is_manager=True, cluster_id=CLUSTER_ID, data_path_port=7789, node_address=MANAGER)
    theirs = manager(
        engine=manager_engine(swarm=swarm),
        firewall=with_rules(
            filter_table("-A INPUT -p udp --dport 7789 -j DROP", "-A INPUT -p udp --dport 4789 -j DROP")
        ),
    )
    (cause,) = causes(pair(theirs=theirs))
    assert cause.object["number"] == 1


def test_rules_that_cannot_be_read_leave_everything_open():
    one = next(
        one for one in said(pair(theirs=manager(firewall=absent())), "pair.firewall") if one.state is State.UNKNOWN
    )
    assert (one.subject.host, one.subject.peer) == ("manager", "worker")
    assert one.reason == "firewall of manager: not permitted"
    assert one.answers == dict.fromkeys(Need, Answer.UNKNOWN)


def test_a_table_of_nfts_own_is_unknown_not_a_cause():
    native = "table inet mine {\n\tchain in {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n"
    theirs = manager(firewall={HOST: (rules(HEALTHY_RULES), rules(native, Backend.NFT_NATIVE, 0))})
    found = said(pair(theirs=theirs), "pair.firewall")
    assert [one.cause for one in found if one.cause] == []
    (one,) = [one for one in found if one.state is State.UNKNOWN]
    assert "inet mine" in one.reason


# --- by which addresses ----------------------------------------------------------------------------------------------


def test_the_address_that_the_swarm_knows_is_taken():
    private = Address(device="eth1", cidr="10.10.0.5/24")
    other = Address(device="eth1", cidr="10.10.0.6/24")
    nic = (Link(index=3, name="eth1", mtu_bytes=9000, up=True),)
    swarm = member(
        is_manager=True, cluster_id=CLUSTER_ID, node_address="10.10.0.6", remote_managers=("10.10.0.6:2377",)
    )
    theirs = manager(addresses=(other,), links=nic, engine=manager_engine(swarm=swarm))
    found = pair_of(pair(worker(addresses=(private,), links=nic), theirs))
    assert (found.theirs.address, found.theirs.device) == ("10.10.0.6", "eth1")
    assert (found.mine.address, found.mine.device) == ("10.10.0.5", "eth1")


def test_a_host_behind_a_router_is_reached_by_its_route():
    default = Route(destination="0.0.0.0/0", next_hops=(NextHop(gateway="192.0.2.1", device="uplink"),))
    far = on("198.51.100.7", device="wan", hostname="manager", machine_id="m" * 32, engine=manager_engine())
    found = pair_of(pair(worker(routes=(default,)), far))
    assert (found.mine.address, found.mine.device, found.mine.shared) == (OWN, "uplink", False)
    assert (found.theirs.address, found.theirs.device) == ("198.51.100.7", "wan")


def test_without_an_address_nothing_is_said_of_the_firewall():
    lost = manager()
    lost = msgspec.structs.replace(lost, addresses=absent("not collected"))
    one = only("pair.firewall", pair(theirs=lost))
    assert (one.state, one.answers) == (State.UNKNOWN, dict.fromkeys(Need, Answer.UNKNOWN))


# --- names, addresses, clocks ----------------------------------------------------------------------------------------


def test_equal_names():
    ctx = pair(worker(hostname="localhost.localdomain"), manager(hostname="localhost.localdomain"))
    (cause,) = causes(ctx, "pair.names")
    assert (cause.code, cause.object["name"]) == ("host.name-duplicate", "localhost.localdomain")
    assert cause.remedy[0].commands[0] == "hostnamectl set-hostname localhost-2"


def test_equal_machine_ids_are_told():
    found = said(pair(worker(machine_id="c" * 32), manager(machine_id="c" * 32)), "pair.names")
    (one,) = [one for one in found if one.state is State.WARN]
    assert "machine id" in one.summary
    assert one.cause is None


def test_one_host_twice_is_known():
    assert same_host(pair().peer.context, pair().peer.context)
    assert not same_host(pair(), pair().peer.context)


def test_one_address_on_both():
    both = (Address(device="eth1", cidr="192.0.2.77/24"),)
    nic = (Link(index=3, name="eth1", mtu_bytes=1500, up=True),)
    (cause,) = causes(pair(worker(addresses=both, links=nic), manager(addresses=both, links=nic)), "pair.address")
    assert (cause.code, cause.object["address"], cause.confidence) == (
        "underlay.duplicate-address",
        "192.0.2.77",
        Confidence.POSSIBLE,
    )


def test_the_one_address_by_which_they_meet():
    (cause,) = causes(pair(on(MANAGER, hostname="worker", machine_id="w" * 32)), "pair.address")
    assert cause.confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("link", "cidr"),
    [
        (Link(index=9, name="docker0", kind="bridge", up=True), "172.17.0.1/16"),
        (Link(index=9, name="virbr0", kind="bridge", up=True), "192.168.122.1/24"),
        (Link(index=9, name="vip0", kind="dummy", up=True), "203.0.113.5/32"),
    ],
)
def test_addresses_that_many_hosts_have_are_no_duplicates(link, cidr):
    both = {"links": (link,), "addresses": (Address(device=link.name, cidr=cidr),)}
    assert only("pair.address", pair(worker(**both), manager(**both))).state is State.OK


def test_a_bridge_with_a_nic_in_it_is_an_uplink():
    bridge = Link(index=9, name="br0", kind="bridge", up=True)
    port = Link(index=10, name="eth9", master=9, up=True)
    both = {"links": (bridge, port), "addresses": (Address(device="br0", cidr="192.0.2.88/24"),)}
    assert [one.object["address"] for one in causes(pair(worker(**both), manager(**both)), "pair.address")] == [
        "192.0.2.88"
    ]


def collected(made, *, clock_s, collected_s, duration_s=1.0):
    return msgspec.structs.replace(
        made,
        collected_s=collected_s,
        duration_s=duration_s,
        clock=msgspec.structs.replace(made.clock, value=Clock(unix_s=clock_s)),
    )


def test_a_clock_that_another_machine_dated():
    late = collected(manager(), clock_s=NOW_S - 4000, collected_s=NOW_S)
    (cause,) = causes(pair(theirs=late), "pair.clock")
    assert (cause.code, cause.host, cause.confidence) == ("host.clock", "manager", Confidence.LIKELY)
    assert cause.object["offset_s"] == pytest.approx(-4000.5)
    assert cause.object["error_s"] == pytest.approx(1.5)
    one = only("pair.clock", pair(theirs=late))
    assert one.answers == {Need.JOIN: Answer.NO}


def test_an_answer_older_than_its_question():
    late = collected(manager(), clock_s=NOW_S - 500, collected_s=NOW_S - 500, duration_s=0.0)
    one = only("pair.clock", pair(theirs=late, asked_s=NOW_S))
    assert one.cause.object["behind_s_at_least"] == pytest.approx(499)
    assert one.answers == {Need.JOIN: Answer.UNKNOWN}
    # Who made the script is not known: then nothing is.
    assert only("pair.clock", pair(theirs=late)).state is State.UNKNOWN


def test_an_answer_from_the_future():
    early = collected(manager(), clock_s=NOW_S + 9000, collected_s=NOW_S + 9000, duration_s=0.0)
    one = only("pair.clock", pair(theirs=early))
    assert one.cause.object["ahead_s_at_least"] == pytest.approx(8939)
    assert one.cause.host == "manager"


def test_a_small_offset_is_not_blamed_for_a_join():
    late = collected(manager(), clock_s=NOW_S - 20, collected_s=NOW_S)
    one = only("pair.clock", pair(theirs=late))
    assert (one.state, one.cause.confidence, one.answers) == (State.WARN, Confidence.POSSIBLE, {})


# --- MTU, VXLAN, ranges ----------------------------------------------------------------------------------------------


def test_a_smaller_mtu_than_an_overlay_needs():
    one = only("pair.mtu", pair(worker(mtu=1400)))
    assert (one.cause.code, one.cause.host, one.cause.confidence) == ("underlay.mtu", "manager", Confidence.LIKELY)
    assert (one.cause.object["mtu_bytes"], one.cause.object["largest_bytes"]) == (1500, 1400)
    assert one.answers == {Need.TRAFFIC: Answer.NO}


def test_jumbo_frames_on_one_side_lose_nothing_of_an_overlay():
    one = only("pair.mtu", pair(worker(mtu=9000)))
    assert (one.state, one.cause) == (State.WARN, None)


def test_networks_that_were_made_small_fit():
    small = msgspec.structs.replace(INGRESS, mtu_bytes=1400)
    one = only("pair.mtu", pair(worker(mtu=1400), manager(engine=manager_engine(networks=(small,)))))
    assert (one.state, one.cause) == (State.WARN, None)


def overlay(port, vni=4097):
    device = Link(index=5, name="vxlan0", kind="vxlan", up=True, vxlan=Vxlan(vni=vni, port=port))
    return lambda made: msgspec.structs.replace(
        made, links=msgspec.structs.replace(made.links, value={**made.links.value, "overlay:app": (device,)})
    )


def test_two_data_path_ports():
    (cause,) = causes(pair(overlay(4789)(worker()), overlay(7789)(manager())), "pair.vxlan")
    assert (cause.code, cause.object["value"], cause.object["expected"]) == ("overlay.port-mismatch", 7789, 4789)
    assert causes(pair(worker(), overlay(7789)(manager())), "pair.vxlan") == []


def foreign(vni, port, name="vxlan.calico"):
    return (Link(index=7, name=name, kind="vxlan", up=True, vxlan=Vxlan(vni=vni, port=port)),)


@pytest.mark.parametrize(
    ("links", "codes"),
    [
        (foreign(4096, 4789), ["calico.swarm-vxlan"]),
        (foreign(4096, 4789, "vx0"), ["overlay.vni-conflict"]),
        (foreign(4096, 8472), []),
        (foreign(99, 4789), []),
    ],
)
def test_a_device_in_the_way_of_a_network_that_only_the_manager_knows(links, codes):
    ctx = pair(worker(links=links), overlay(4789)(manager()))
    assert [one.code for one in causes(ctx, "pair.vxlan")] == codes


def test_a_route_of_the_worker_over_a_network_of_the_swarm():
    vpn = Route(destination="10.0.0.0/16", next_hops=(NextHop(gateway="192.0.2.254", device="eth0"),))
    (cause,) = causes(pair(worker(routes=(vpn,))), "pair.pools")
    assert (cause.code, cause.host, cause.object["subnet"]) == ("swarm.address-pool", "worker", "10.0.0.0/24")
    elsewhere = Route(destination="10.200.0.0/16", next_hops=(NextHop(gateway="192.0.2.254", device="eth0"),))
    assert causes(pair(worker(routes=(elsewhere,))), "pair.pools") == []


def test_without_a_manager_ranges_are_not_compared():
    assert only("pair.pools", pair(theirs=manager(engine=engine()))).state is State.SKIP


# --- the engines -----------------------------------------------------------------------------------------------------


def joined(**fields):
    return worker(engine=engine(swarm=member(**fields)))


def with_nodes(*nodes):
    return manager(engine=manager_engine(cluster=Cluster(nodes=nodes)))


def test_members_of_one_swarm_by_the_managers_list():
    one = only("pair.membership", pair(joined(), with_nodes(node("worker", OWN, id="own0node"))))
    assert (one.state, "is ready" in one.summary) == (State.OK, True)
    down = node("worker", OWN, id="own0node", state="down", message="heartbeat failure")
    one = only("pair.membership", pair(joined(), with_nodes(down)))
    assert (one.state, one.cause) == (State.WARN, None)


def test_a_member_of_another_swarm():
    one = only("pair.membership", pair(joined(), with_nodes(node("other", "192.0.2.9"))))
    assert (one.cause.code, one.cause.host, one.cause.confidence) == (
        "swarm.already-member",
        "worker",
        Confidence.LIKELY,
    )
    assert one.cause.remedy[0].commands == ("docker swarm leave",)


def test_two_managers_of_two_swarms():
    mine = joined(is_manager=True, cluster_id="cluster9", managers=3)
    one = only("pair.membership", pair(mine, manager()))
    assert one.cause.host == "manager"
    assert only("pair.membership", pair(joined(is_manager=True, cluster_id=CLUSTER_ID), manager())).state is State.OK


def test_two_workers_by_the_managers_they_know():
    other = manager(engine=engine(swarm=member(node_address=MANAGER, remote_managers=("192.0.2.5:2377",))))
    mine = joined(remote_managers=("192.0.2.5:2377", "192.0.2.6:2377"))
    assert only("pair.membership", pair(mine, other)).state is State.OK
    apart = only("pair.membership", pair(joined(remote_managers=("192.0.2.6:2377",)), other))
    assert (apart.state, apart.answers) == (State.UNKNOWN, {Need.JOIN: Answer.UNKNOWN})


def test_a_join_under_way():
    mine = worker(engine=engine(swarm=membership(SwarmState.PENDING, error="timed out")))
    one = only("pair.membership", pair(mine))
    assert (one.state, one.subject.host, one.answers) == (State.FAIL, "worker", {Need.JOIN: Answer.NO})


def test_versions_of_two_majors():
    (cause,) = causes(pair(worker(engine=engine(version="20.10.24"))), "pair.versions")
    assert (cause.code, cause.host, cause.confidence) == ("swarm.engine-version", None, Confidence.POSSIBLE)
    assert cause.object["versions"] == {"worker": "20.10.24", "manager": "29.8.1"}


def image(name, digest=""):
    return Image(id=name, tags=("app:1",), digests=(f"app@{digest}",) if digest else ())


def with_images(mine, theirs, **fields):
    return pair(worker(engine=engine(images=(mine,), **fields)), manager(engine=manager_engine(images=(theirs,))))


def test_one_tag_two_images():
    (cause,) = causes(with_images(image("sha256:aa"), image("sha256:bb")), "pair.images")
    assert (cause.code, cause.object["image"]) == ("swarm.image-differs", "app:1")
    assert cause.remedy[0].commands == (f"docker save app:1 | ssh {MANAGER} docker load",)


def test_decoys_of_images():
    assert causes(with_images(image("sha256:aa"), image("sha256:aa")), "pair.images") == []
    # One content in a registry, kept in two kinds of store.
    assert causes(with_images(image("sha256:aa", "sha256:d"), image("sha256:bb", "sha256:d")), "pair.images") == []
    assert only("pair.images", with_images(image("a"), image("b"), architecture="aarch64")).state is State.SKIP
    stores = with_images(image("a"), image("b"), storage_driver="overlayfs")
    assert only("pair.images", stores).state is State.UNKNOWN


def test_an_engine_that_is_not_known_is_said_by_its_host():
    one = only("pair.versions", pair(theirs=manager(engine=absent("no docker command on this host"))))
    assert (one.state, one.subject.host) == (State.UNKNOWN, "manager")
    assert one.reason == "engine: no docker command on this host"


def test_saved_firewall_decides_how_a_rule_is_kept():
    saved = FirewallSaved()
    theirs = manager(firewall=with_rules(filter_table("-A INPUT -p tcp --dport 2377 -j DROP")), firewall_saved=saved)
    (cause,) = causes(pair(theirs=theirs))
    assert "netfilter-persistent save" in cause.remedy[0].persist
