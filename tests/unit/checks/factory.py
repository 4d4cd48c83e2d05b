"""A healthy host as facts and observations, and the ways in which a test makes it ill."""

from __future__ import annotations

import datetime as dt

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netdiag.checks.context import Context, Options
from netdiag.checks.kernel import REQUIREMENTS
from netdiag.checks.registry import CHECKS, run
from netdiag.model.engine import Cluster, Engine, Network, OverlayPeer, SwarmMembership, SwarmNode, SwarmState
from netdiag.model.facts import (
    HOST,
    Absence,
    AbsenceKind,
    Address,
    Backend,
    Facts,
    Feature,
    FeatureState,
    FirewallSaved,
    Identity,
    Kernel,
    Link,
    NextHop,
    Route,
    RuleSet,
    Section,
)
from netdiag.model.probes import (
    CaOutcome,
    CaProbe,
    HelloProbe,
    ManagerProbe,
    Observations,
    PathSizes,
    RouteChoice,
    TcpOutcome,
    TcpProbe,
    TlsOutcome,
    TlsProbe,
)
from netdiag.swarm.token import Token, digest_of_ca

NOW_S = 1_750_000_000.0
OWN, MANAGER, OTHER = "192.0.2.20", "192.0.2.10", "192.0.2.30"
CLUSTER_ID = "cluster0cluster0cluster00"
HOUR_S, DAY_S = 3600.0, 86400.0


def absent(text="not permitted", kind=AbsenceKind.PERMISSION):
    return Section(absent=Absence(kind=kind, text=text))


def certificate(
    *, role="swarm-manager", cluster=CLUSTER_ID, node="manager0node", begin_s=NOW_S - DAY_S, end_s=NOW_S + 60 * DAY_S
):
    """DER and PEM of a self-signed certificate with the names that a swarm writes; a root when it has no role."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, node if role else "swarm-ca")]
    if role:
        names += [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
        ]
    name = x509.Name(names)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(dt.datetime.fromtimestamp(begin_s, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(end_s, dt.UTC))
        .add_extension(x509.BasicConstraints(ca=not role, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.DER), built.public_bytes(serialization.Encoding.PEM)


LEAF_DER, _ = certificate()
_, ROOT_PEM = certificate(role="")
TOKEN = Token(version=1, fips=False, digest=digest_of_ca(ROOT_PEM), secret_possible=True)

HEALTHY_RULES = """\
*filter
:INPUT ACCEPT [10:1000]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [10:1000]
:DOCKER-USER - [0:0]
[0:0] -A FORWARD -j DOCKER-USER
[0:0] -A DOCKER-USER -j RETURN
COMMIT
"""


def rules(text, backend=Backend.IPTABLES_NFT, family=4):
    return RuleSet(backend=backend, family=family, text=text, sha256="0")


def filter_table(*lines, policies=("ACCEPT", "ACCEPT", "ACCEPT"), chains=()):
    """The text of a filter table with these rules."""
    heads = [f":{name} {policy} [0:0]" for name, policy in zip(("INPUT", "FORWARD", "OUTPUT"), policies, strict=True)]
    own = [f":{name} - [0:0]" for name in chains]
    return "\n".join(["*filter", *heads, *own, *(f"[0:0] {line}" for line in lines), "COMMIT", ""])


STOCK_INPUT = filter_table(
    "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT -p icmp -j ACCEPT",
    "-A INPUT -i lo -j ACCEPT",
    "-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT",
    "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
)


def membership(state=SwarmState.INACTIVE, **fields):
    return SwarmMembership(state=state, **fields)


def member(**fields):
    return membership(
        SwarmState.ACTIVE,
        **{"node_id": "own0node", "node_address": OWN, "remote_managers": (f"{MANAGER}:2377",), **fields},
    )


def engine(**fields):
    return Engine(
        **{
            "version": "29.8.1",
            "architecture": "x86_64",
            "root_directory": "/var/lib/docker",
            "swarm": membership(),
            "swarm_files_known": True,
            **fields,
        }
    )


def node(name, address, **fields):
    return SwarmNode(
        **{
            "id": f"{name}0node",
            "hostname": name,
            "role": "worker",
            "state": "ready",
            "availability": "active",
            "address": address,
            "engine_version": "29.8.1",
            **fields,
        }
    )


def manager_engine(*others, cluster=None, **fields):
    """The engine of a manager whose swarm has these other nodes, and an ingress network that knows them."""
    own = node("host-b", OWN, id="own0node", role="manager", reachability="reachable", leader=True)
    peers = tuple(OverlayPeer(name=one.hostname, address=one.address) for one in (own, *others) if one.state == "ready")
    ingress = Network(
        id="ing", name="ingress", driver="overlay", scope="swarm", ingress=True, subnets=("10.0.0.0/24",), peers=peers
    )
    return engine(
        **{
            "swarm": member(is_manager=True, cluster_id=CLUSTER_ID, managers=1),
            "networks": (ingress,),
            "cluster": cluster or Cluster(nodes=(own, *others)),
            **fields,
        }
    )


def facts(**sections):
    """A healthy host: one plain NIC, a default route, an engine in no swarm. Sections may be values or `Section`."""
    healthy = {
        "identity": Identity(hostname="host-b", kernel_release="6.1.0", distribution_id="debian", is_root=True),
        "kernel": Kernel(
            features={
                need.feature: Feature(name=need.feature, state=FeatureState.BUILTIN, evidence="=y")
                for need in REQUIREMENTS
            }
        ),
        "nics": (),
        "links": {
            HOST: (
                Link(index=1, name="lo", mtu_bytes=65536, up=True, operstate="unknown", loopback=True),
                Link(index=2, name="eth0", mtu_bytes=1500, up=True, operstate="up"),
            )
        },
        "addresses": {
            HOST: (
                Address(device="lo", cidr="127.0.0.1/8", scope="host"),
                Address(device="eth0", cidr=f"{OWN}/24"),
            )
        },
        "routes": {
            HOST: (
                Route(destination="0.0.0.0/0", next_hops=(NextHop(gateway="192.0.2.1", device="eth0"),)),
                Route(destination="192.0.2.0/24", next_hops=(NextHop(device="eth0"),)),
            )
        },
        "tc": {HOST: ()},
        "sysctls": {
            HOST: {
                "net.ipv4.ip_forward": "1",
                "net.ipv4.conf.all.rp_filter": "0",
                "net.ipv4.conf.eth0.rp_filter": "0",
            }
        },
        "firewall": {HOST: (rules(HEALTHY_RULES),)},
        "firewall_saved": FirewallSaved(),
        "sockets": {HOST: ()},
        "engine": engine(),
    }
    given = {**healthy, **sections}
    return Facts(
        collected_s=NOW_S,
        **{name: value if isinstance(value, Section) else Section(value=value) for name, value in given.items()},
    )


def sizes(largest=1500, *, device_mtu=1500, lost=None, icmp=False, control=True, probes=()):
    return PathSizes(
        peer=MANAGER,
        device="eth0",
        device_mtu_bytes=device_mtu,
        control_answered=control,
        sizes=tuple(probes),
        largest_answered_bytes=largest,
        smallest_lost_bytes=lost,
        icmp_came=icmp,
    )


def hello(*, small=True, padded=True, segment=1448):
    return HelloProbe(small_answered=small, padded_answered=padded, padded_bytes=1500, largest_segment_bytes=segment)


def probe(**fields):
    """A manager that answers everything."""
    return ManagerProbe(
        **{
            "given": MANAGER,
            "address": MANAGER,
            "route": RouteChoice(source=OWN, device="eth0", mtu_bytes=1500),
            "tcp": TcpProbe(address=MANAGER, port=2377, outcome=TcpOutcome.CONNECTED, source=OWN, connect_us=400),
            "tls": TlsProbe(outcome=TlsOutcome.HANDSHAKE, version="TLSv1.3", alpn="h2", leaf_der=LEAF_DER),
            "ca": CaProbe(outcome=CaOutcome.ANSWERED, root_pem=ROOT_PEM),
            "sizes": sizes(),
            "hello": hello(),
            **fields,
        }
    )


def blocked(outcome=TcpOutcome.SILENT, *, icmp=None, alive=True, error="", **fields):
    """A manager to which no connection came about."""
    tcp = TcpProbe(address=MANAGER, port=2377, outcome=outcome, source=OWN, icmp=icmp, waited_s=2.0, error=error)
    return probe(**{"tcp": tcp, "tls": None, "ca": None, "hello": None, "sizes": sizes(control=alive), **fields})


def context(*managers, options=None, observed=None, **sections):
    """A joining host that was told a token and these managers (one healthy manager unless said otherwise)."""
    asked = {"managers": tuple(one.given for one in managers), "token": TOKEN, **(options or {})}
    seen = Observations(managers=managers)
    for name, value in (observed or {}).items():
        seen = msgspec.structs.replace(seen, **{name: value})
    return Context(facts=facts(**sections), options=Options(**asked), observed=seen)


def joining(**sections):
    return context(probe(), **sections)


def found(check, ctx):
    """What one check says; a fault of its own is the test's."""
    said = run([CHECKS[check]], ctx)
    assert not [one.reason for one in said if "the check itself failed" in (one.reason or "")]
    return said


def only(check, ctx):
    """The one finding of a check."""
    (one,) = found(check, ctx)
    return one
