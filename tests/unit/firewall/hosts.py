"""A host as it was recorded in the lab: an engine with networks, published ports, a service; and rules by their text."""

from __future__ import annotations

from netdiag.model.engine import (
    Cluster,
    Container,
    ContainerNetwork,
    Engine,
    Network,
    Service,
    SwarmMembership,
    SwarmState,
)
from netdiag.model.facts import Backend, Calico, Facts, Section
from netdiag.model.firewall import FirewallRule

APP = "ca280fabf39fef9582b9a5bcc086370d806f9d45be285c82353059f17fd401c6"
CLOSED = "36c4252be5875d6ae3d702e963d5abe32ad5d5b5b0852da24cf27ca55dc8a6af"


def network(name, subnet, network_id="0" * 64, driver="bridge", **fields):
    return Network(id=network_id, name=name, driver=driver, scope="local", subnets=(subnet,), **fields)


def container(name, network_name, address, ports=(), service=""):
    ends = (ContainerNetwork(network=network_name, address=address),)
    return Container(id=name, name=name, running=True, networks=ends, ports=ports, service=service)


ENGINE = Engine(
    version="20.10.24",
    swarm=SwarmMembership(state=SwarmState.ACTIVE, is_manager=True),
    networks=(
        network(
            "ingress",
            "10.0.0.0/24",
            driver="overlay",
            ingress=True,
            vnis=(4096,),
            virtual_addresses={"mesh": "10.0.0.3"},
        ),
        network("secret", "10.0.1.0/24", driver="overlay", encrypted=True, vnis=(4097,)),
        network("bridge", "172.17.0.0/16", bridge="docker0"),
        network("docker_gwbridge", "172.18.0.0/16", bridge="docker_gwbridge"),
        network("app_default", "172.19.0.0/16", network_id=APP),
        network("shop", "10.99.7.0/24", network_id="4c" * 32, bridge="shop0"),
        network("closed", "172.20.0.0/16", network_id=CLOSED, internal=True),
    ),
    containers=(
        container("mesh.1.imc8hx7", "ingress", "10.0.0.4", service="mesh"),
        container(
            "web", "app_default", "172.19.0.2", ("127.0.0.1:9053->53/udp", "0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp")
        ),
    ),
    cluster=Cluster(services=(Service(id="t4", name="mesh", image="busybox", published_ports=("8443->443/tcp",)),)),
)
HOST = Facts(collected_s=0.0, engine=Section(value=ENGINE))


def calico(keys):
    return Facts(collected_s=0.0, calico=Section(value=Calico(keys=keys)))


def rule(text, table="filter", namespace="host", family="ip"):
    """A rule of iptables, or a policy where the text begins with a colon."""
    if text.startswith(":"):
        chain, policy = text[1:].split()[:2]
        return FirewallRule(
            backend=Backend.IPTABLES_NFT,
            family=family,
            table=table,
            chain=chain,
            text=text,
            namespace=namespace,
            policy=policy,
        )
    return FirewallRule(
        backend=Backend.IPTABLES_NFT,
        family=family,
        table=table,
        chain=text.split()[1],
        text=text,
        namespace=namespace,
        number=1,
    )


def nft(table, chain, text, family="inet", policy=None):
    return FirewallRule(
        backend=Backend.NFT_NATIVE,
        family=family,
        table=table,
        chain=chain,
        text=text,
        number=None if policy else 1,
        policy=policy,
    )
