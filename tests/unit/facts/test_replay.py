"""What a real manager's answers become."""

from __future__ import annotations

import msgspec

from netdiag.facts.assemble import replay
from netdiag.facts.bundle import Bundle
from netdiag.facts.sections import SECTIONS
from netdiag.model.facts import SECTIONS as NAMES
from netdiag.model.facts import Facts, FeatureState, NextHop


def test_every_section_of_the_model_has_a_reader() -> None:
    assert tuple(SECTIONS) == NAMES


def test_namespaces_are_named_by_what_they_belong_to(manager: Facts) -> None:
    found = manager.namespaces.value
    assert list(found) == [
        "host",
        "container:plain",
        "container:svc.1.pdbkjto83yw8tzupe1p017oj2",
        "container:web1",
        "ingress",
        "lb:appnet",
        "overlay:appnet",
        "overlay:ingress",
    ]
    assert found["container:web1"].owner == "web1"
    assert len(found["container:web1"].owner_id) == 64
    assert found["overlay:appnet"].path.startswith("/run/docker/netns/1-")
    assert len({namespace.inode for namespace in found.values()}) == len(found)


def test_the_overlay_has_its_vxlan_device_and_its_entries(manager: Facts) -> None:
    links = {link.name: link for link in manager.links.value["overlay:appnet"]}
    vxlan = links["vxlan0"].vxlan
    assert vxlan is not None
    assert (vxlan.vni, vxlan.port, vxlan.learning, vxlan.proxy, vxlan.l2miss, vxlan.l3miss) == (
        4097,
        4789,
        True,
        True,
        True,
        True,
    )
    assert links["vxlan0"].master == links["br0"].index
    assert links["vxlan0"].peer_netnsid == 0
    assert links["vxlan0"].mtu_bytes == 1450
    (entry,) = [entry for entry in manager.fdb.value["overlay:appnet"] if entry.vtep]
    assert (entry.device, entry.mac, entry.vtep, entry.on_self) == ("vxlan0", "02:42:0a:00:01:63", "192.0.2.9", True)
    assert "permanent" in entry.states
    (neighbour,) = [row for row in manager.neighbours.value["overlay:appnet"] if row.address == "10.0.1.99"]
    assert (neighbour.mac, neighbour.states) == ("02:42:0a:00:01:63", ("permanent",))


def test_odd_routes_and_rules(manager: Facts) -> None:
    routes = {route.destination: route for route in manager.routes.value["host"]}
    multipath = routes["10.50.0.0/16"]
    assert multipath.protocol == "80"
    assert multipath.mtu_bytes == 1400
    assert multipath.next_hops == (
        NextHop(gateway="172.17.0.2", device="docker0", weight=1),
        NextHop(gateway="172.18.0.3", device="docker_gwbridge", weight=3),
    )
    assert routes["10.51.0.0/16"].table == 100
    assert routes["10.51.0.0/16"].source == "172.17.0.1"
    assert routes["10.51.0.0/16"].next_hops[0].onlink
    assert routes["10.52.0.0/16"].next_hops == (NextHop(gateway="fe80::1", device="docker0"),)
    assert (routes["192.168.77.64/26"].type, routes["192.168.77.64/26"].next_hops) == ("blackhole", ())
    assert routes["2001:db8:1::/48"].metric == 77
    (rule,) = [rule for rule in manager.rules.value["host"] if rule.mark is not None]
    assert (rule.priority, rule.source, rule.mark, rule.mask, rule.table) == (5000, "10.1.0.0/16", 0x10, 0xFF, 100)


def test_the_engine_and_its_swarm(manager: Facts) -> None:
    engine = manager.engine.value
    assert engine.version.startswith("20.10.")
    assert engine.swarm.is_manager
    assert engine.swarm.data_path_port == 4789
    assert engine.swarm_files_known
    assert "state.json" in engine.swarm_files
    networks = {network.name: network for network in engine.networks}
    assert networks["appnet"].vnis == (4097,)
    assert networks["appnet"].attachable
    assert networks["appnet"].virtual_addresses == {"svc": "10.0.1.4"}
    assert [peer.address for peer in networks["appnet"].peers] == ["10.9.9.1"]
    assert networks["ingress"].ingress
    containers = {container.name: container for container in engine.containers}
    assert containers["plain"].ports == ("0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp")
    assert containers["svc.1.pdbkjto83yw8tzupe1p017oj2"].service == "svc"
    assert containers["web1"].pid
    (service,) = engine.cluster.services
    assert (service.name, service.replicas, service.networks) == ("svc", 1, ("appnet",))
    assert service.published_ports == ("9000->9000/tcp",)
    (node,) = engine.cluster.nodes
    assert (node.role, node.state, node.leader) == ("manager", "ready", True)
    (image,) = engine.images
    assert image.tags == ("bb:latest",)


def test_an_engine_that_may_crash_is_not_asked_for_its_gossip_tables(recorded: Bundle) -> None:
    assert not [key for key in recorded.answers if "verbose" in key]


def test_the_firewall_of_host_and_containers(manager: Facts) -> None:
    host = {rules.backend.value: rules for rules in manager.firewall.value["host"]}
    assert "DOCKER-USER" in host["iptables-nft"].text
    assert "handle" in host["nft-native"].text
    assert "iptables-legacy" not in host
    assert manager.firewall.value["container:plain"] == ()


def test_kernel_clock_sockets_log(manager: Facts) -> None:
    features = manager.kernel.value.features
    assert features["vxlan"].state is FeatureState.BUILTIN
    assert features["ip_vs"].state is FeatureState.MISSING
    assert "CONFIG_IP_VS is not set" in features["ip_vs"].evidence
    assert manager.clock.value.synchronised is False
    listening = {(socket.protocol, socket.port): socket.process for socket in manager.sockets.value["host"]}
    assert listening["tcp", 2377] == "dockerd"
    assert listening["udp", 4789] == ""
    assert manager.engine_log.value.source == "/var/log/docker.log"
    assert manager.engine_log.value.lines
    assert manager.tc.value["host"][0].kind == "clsact"
    assert manager.sysctls.value["host"]["net.ipv4.ip_forward"] == "1"
    assert manager.conntrack.value["host"].maximum


def test_facts_serialise(manager: Facts) -> None:
    assert msgspec.json.decode(msgspec.json.encode(manager), type=Facts) == manager


def test_replaying_twice_gives_the_same(recorded: Bundle, manager: Facts) -> None:
    assert replay(recorded) == manager
