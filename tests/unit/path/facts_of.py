"""Facts of two hosts by hand: a bridge network, an overlay, and what the kernel shows of them."""

from netdiag.model.engine import (
    Cluster,
    Container,
    ContainerNetwork,
    Engine,
    Network,
    OverlayTask,
    Service,
    SwarmMembership,
    SwarmNode,
    SwarmState,
    Task,
)
from netdiag.model.facts import Address, Facts, Identity, Link, Namespace, Section, Socket
from netdiag.path.ways import Host

NEAR, FAR = "192.0.2.1", "192.0.2.2"
BRIDGE, GATEWAY = "172.17.0.2", "172.17.0.1"


def container(name, *networks, ports=(), service="", identity=""):
    return Container(
        id=(identity or name).ljust(12, "0"),
        name=name,
        running=True,
        pid=100,
        networks=tuple(networks),
        ports=ports,
        service=service,
    )


def on(network, address):
    return ContainerNetwork(network=network, network_id=f"{network}-id", address=address)


def facts(*containers, networks=(), cluster=None, own=NEAR, sockets=None, name="near"):
    """One host: eth0, docker0, and for each container one veth whose host half is a port of docker0."""
    links = {"host": [Link(index=2, name="eth0"), Link(index=3, name="docker0", kind="bridge")]}
    addresses = {"host": [Address(device="eth0", cidr=f"{own}/24"), Address(device="docker0", cidr=f"{GATEWAY}/16")]}
    namespaces = {"host": Namespace(id="host", path="", inode=1)}
    for number, each in enumerate(containers):
        place = f"container:{each.name}"
        ports = 10 + 2 * number, 11 + 2 * number
        links["host"].append(Link(index=ports[0], name=f"veth{number}", kind="veth", master=3, peer_index=ports[1]))
        links[place] = [Link(index=ports[1], name="eth0", kind="veth", peer_index=ports[0], mtu_bytes=1500)]
        addresses[place] = [Address(device="eth0", cidr=f"172.17.0.{2 + number}/16")]
        namespaces[place] = Namespace(id=place, path=f"/run/{each.name}", inode=20 + number, owner_id=each.id)
    swarm = SwarmMembership(state=SwarmState.ACTIVE, node_address=own)
    return Facts(
        collected_s=1.0,
        identity=Section(value=Identity(hostname=name)),
        namespaces=Section(value=namespaces),
        links=Section(value={key: tuple(rows) for key, rows in links.items()}),
        addresses=Section(value={key: tuple(rows) for key, rows in addresses.items()}),
        sockets=Section(value=sockets or {}),
        engine=Section(
            value=Engine(version="28.3.0", swarm=swarm, networks=networks, containers=containers, cluster=cluster)
        ),
    )


def host(one, *, name="near", nic_address=NEAR):
    return Host(name=name, facts=one, nic="eth0", nic_address=nic_address)


def listens(port, address="0.0.0.0", process="server"):
    return Socket(protocol="tcp", address=address, port=port, process=process, pid=7)


def overlay(*tasks, virtual=None):
    """The network app as an engine sees it; its tasks only where gossip could be asked."""
    return Network(
        id="app-id",
        name="app",
        driver="overlay",
        scope="swarm",
        subnets=("10.0.1.0/24",),
        tasks=tasks,
        virtual_addresses=virtual or {},
    )


def task(service, number, address, node=FAR):
    name = f"{service}.{number}.abcdef" if service else str(number)
    return OverlayTask(service=service, name=name, endpoint_id="", address=f"{address}/24", host_address=node)


def manager(*addresses):
    """What a manager lists: a service db with tasks at these addresses of the network app, all on node far."""
    return Cluster(
        nodes=(
            SwarmNode(
                id="n1",
                hostname="near",
                role="manager",
                state="ready",
                availability="active",
                address="0.0.0.0",
                manager_address=f"{NEAR}:2377",
            ),
            SwarmNode(id="n2", hostname="far", role="worker", state="ready", availability="active", address=FAR),
        ),
        services=(Service(id="s1", name="db", image="i", published_ports=("8080->80/tcp", "8081->81/tcp host")),),
        tasks=tuple(
            Task(
                id=f"t{number}",
                service="s1",
                node_id="n2",
                state="running",
                desired="running",
                slot=number,
                addresses={"app-id": f"{address}/24"},
            )
            for number, address in enumerate(addresses, 1)
        ),
    )
