"""Kernel, sysctls, devices, ports, pools and images of this host."""

import pytest

from netdiag.model.engine import Cluster, Image, Network, Service, SwarmState
from netdiag.model.facts import (
    HOST,
    AbsenceKind,
    Feature,
    FeatureState,
    Identity,
    Kernel,
    Link,
    NextHop,
    Nic,
    Route,
    Section,
    Socket,
    TcFilter,
    Vxlan,
)
from netdiag.model.probes import RegistryProbe
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    absent,
    context,
    engine,
    facts,
    found,
    joining,
    manager_engine,
    member,
    membership,
    only,
    probe,
)

J, N, T = Need.JOIN, Need.NAMES, Need.TRAFFIC
NO, OPEN = Answer.NO, Answer.UNKNOWN


# --- kernel and sysctls ---


def serving(mode, *ports):
    service = Service(id="s", name="web", image="w", endpoint_mode=mode, published_ports=ports)
    return manager_engine(cluster=Cluster(services=(service,)))


def kernel(**states):
    features = dict(facts().kernel.value.features)
    for name, state in states.items():
        features[name] = Feature(name=name, state=state, evidence="config")
    return Kernel(features=features)


@pytest.mark.parametrize(
    ("states", "state", "answers", "code"),
    [
        pytest.param({"vxlan": FeatureState.LOADABLE}, State.OK, {}, None, id="loadable"),
        pytest.param(
            {"vxlan": FeatureState.MISSING}, State.WARN, {N: NO, T: NO}, "kernel.missing-feature", id="no vxlan"
        ),
        pytest.param({"ip_vs": FeatureState.MISSING}, State.WARN, {T: NO}, "kernel.missing-feature", id="no ip_vs"),
        pytest.param({"esp4": FeatureState.MISSING}, State.WARN, {}, None, id="no esp, nothing encrypted"),
        pytest.param({"br_netfilter": FeatureState.MISSING}, State.WARN, {}, None, id="no br_netfilter"),
        pytest.param({"veth": FeatureState.UNKNOWN}, State.UNKNOWN, {N: OPEN, T: OPEN}, None, id="not known"),
    ],
)
def test_features(states, state, answers, code):
    one = found("kernel.features", joining(kernel=kernel(**states)))[0]
    assert (one.state, one.answers, one.cause.code if one.cause else None) == (state, answers, code)
    if one.cause:
        assert (one.cause.confidence, one.cause.object["name"]) == (Confidence.PROVEN, next(iter(states)))


def test_esp_counts_where_a_network_is_encrypted():
    encrypted = engine(networks=(Network(id="n", name="n", driver="overlay", scope="swarm", encrypted=True),))
    one = found("kernel.features", joining(kernel=kernel(esp4=FeatureState.MISSING), engine=encrypted))[0]
    assert (one.answers, one.cause.code) == ({T: NO}, "kernel.missing-feature")


@pytest.mark.parametrize(
    ("eng", "answers"),
    [
        pytest.param(engine(), {T: NO}, id="to be joined: assumed"),
        pytest.param(manager_engine(), {}, id="no service"),
        pytest.param(serving("vip"), {T: NO}, id="a virtual IP"),
        pytest.param(serving("dnsrr"), {}, id="names only"),
        pytest.param(serving("dnsrr", "80:80"), {T: NO}, id="a published port"),
    ],
)
def test_ip_vs_counts_where_services_use_it(eng, answers):
    one = found("kernel.features", joining(kernel=kernel(ip_vs=FeatureState.MISSING), engine=eng))[0]
    assert (one.state, one.answers) == (State.WARN, answers)


def sysctls(**values):
    return {HOST: {"net.ipv4.ip_forward": "1", **{key.replace("__", "."): value for key, value in values.items()}}}


@pytest.mark.parametrize(
    ("sections", "state", "answers"),
    [
        pytest.param({}, State.OK, {}, id="on"),
        pytest.param({"sysctls": {HOST: {"net.ipv4.ip_forward": "0"}}}, State.WARN, {T: NO}, id="off under an engine"),
        pytest.param({"sysctls": {HOST: {}}}, State.UNKNOWN, {T: OPEN}, id="not read"),
        pytest.param(
            {"sysctls": {HOST: {"net.ipv4.ip_forward": "0"}}, "engine": absent(kind=AbsenceKind.MISSING)},
            State.OK, {}, id="off, no engine yet",
        ),
        pytest.param(
            {"sysctls": {HOST: {"net.ipv4.ip_forward": "0"}}, "engine": absent()}, State.UNKNOWN, {T: OPEN}, id="off, engine not asked",
        ),
    ],
)  # fmt: skip
def test_forwarding(sections, state, answers):
    one = only("sysctl.ip-forward", joining(**sections))
    assert (one.state, one.answers) == (state, answers)
    if one.cause:
        assert one.cause.remedy[0].commands == ("sysctl -w net.ipv4.ip_forward=1",)
        assert one.cause.remedy[0].undo == ("sysctl -w net.ipv4.ip_forward=0",)


TWO_UPLINKS = {
    HOST: (
        Route(destination="0.0.0.0/0", next_hops=(NextHop(gateway="192.0.2.1", device="eth0"),)),
        Route(destination="0.0.0.0/0", metric=9, next_hops=(NextHop(gateway="10.1.1.1", device="eth1.5"),)),
    )
}


@pytest.mark.parametrize(
    ("values", "routes", "state"),
    [
        pytest.param({"net__ipv4__conf__all__rp_filter": "1"}, None, State.OK, id="strict, one uplink"),
        pytest.param({"net__ipv4__conf__all__rp_filter": "1"}, TWO_UPLINKS, State.WARN, id="strict, two uplinks"),
        pytest.param({"net__ipv4__conf__all__rp_filter": "2"}, TWO_UPLINKS, State.OK, id="loose"),
        pytest.param(
            {"net__ipv4__conf__all__rp_filter": "0", "net__ipv4__conf__eth1/5__rp_filter": "1"}, TWO_UPLINKS, State.WARN,
            id="strict on a device with a dot in its name",
        ),
        pytest.param({}, TWO_UPLINKS, State.UNKNOWN, id="not read"),
    ],
)  # fmt: skip
def test_reverse_path(values, routes, state):
    sections = {"sysctls": sysctls(**values), **({"routes": routes} if routes else {})}
    one = only("sysctl.rp-filter", joining(**sections))
    assert (one.state, one.answers, one.cause) == (state, {}, None)


# --- devices ---


def with_vxlan(name, vni, namespace=HOST, port=4789, external=False):
    extra = Link(index=9, name=name, kind="vxlan", vxlan=Vxlan(vni=vni, port=port, external=external))
    links = dict(facts().links.value)
    links[namespace] = (*links.get(namespace, ()), extra)
    return joining(links=links)


@pytest.mark.parametrize(
    ("ctx", "state", "answers", "code", "confidence"),
    [
        pytest.param(joining(), State.OK, {}, None, None, id="none"),
        pytest.param(with_vxlan("vxlan.calico", 4096), State.WARN, {T: NO}, "calico.swarm-vxlan", Confidence.LIKELY, id="calico"),
        pytest.param(with_vxlan("vx-001000-abcde", 4096), State.WARN, {T: NO}, "overlay.vni-conflict", Confidence.LIKELY, id="a leftover"),
        pytest.param(with_vxlan("flannel.1", 1, port=8472), State.OK, {}, None, None, id="another port"),
        pytest.param(with_vxlan("mine", 42), State.WARN, {}, None, None, id="another VNI"),
        pytest.param(with_vxlan("mine", 5000), State.WARN, {}, "overlay.vni-conflict", Confidence.POSSIBLE, id="a VNI to come"),
        pytest.param(with_vxlan("ovs", 0, external=True), State.WARN, {T: NO}, "overlay.vni-conflict", Confidence.LIKELY, id="all VNIs"),
        pytest.param(with_vxlan("vxlan0", 4097, "overlay:net"), State.OK, {}, None, None, id="an overlay's own"),
        pytest.param(with_vxlan("vxlan0", 4097, "netns:1-abc"), State.OK, {}, None, None, id="an overlay's own, not claimed"),
        pytest.param(with_vxlan("other", 4096, "netns:x"), State.WARN, {}, "overlay.vni-conflict", Confidence.POSSIBLE, id="another namespace"),
    ],
)  # fmt: skip
def test_foreign_vxlan(ctx, state, answers, code, confidence):
    one = only("overlay.vni", ctx)
    assert (one.state, one.answers) == (state, answers)
    assert (one.cause.code, one.cause.confidence) == (code, confidence) if code else one.cause is None


def bonded(xdp=""):
    return {
        HOST: (Link(index=1, name="bond0", kind="bond", up=True), Link(index=2, name="eth0", master=1, xdp_mode=xdp))
    }


BOND_ROUTE = {HOST: (Route(destination="0.0.0.0/0", next_hops=(NextHop(gateway="192.0.2.1", device="bond0"),)),)}
FILTER = {HOST: (TcFilter(device="eth0", parent="ingress", kind="bpf", detail="x.o"),)}


@pytest.mark.parametrize(
    ("ctx", "state"),
    [
        pytest.param(joining(), State.OK, id="none"),
        pytest.param(joining(links={HOST: (Link(index=2, name="eth0", xdp_mode="driver"),)}), State.WARN, id="XDP"),
        pytest.param(
            joining(links={HOST: (Link(index=3, name="eth9", xdp_mode="driver"),)}), State.OK, id="XDP elsewhere"
        ),
        pytest.param(context(links=bonded("driver"), routes=BOND_ROUTE), State.WARN, id="XDP below a bond"),
        pytest.param(joining(tc=FILTER), State.WARN, id="tc"),
        pytest.param(
            joining(tc={HOST: (TcFilter(device="eth0", parent="egress", kind="bpf"),)}), State.OK, id="tc on egress"
        ),
        pytest.param(joining(tc=absent()), State.UNKNOWN, id="tc not read"),
        pytest.param(context(routes={HOST: ()}, addresses={HOST: ()}), State.UNKNOWN, id="no uplink known"),
    ],
)
def test_early_drops(ctx, state):
    one = only("host.early-drop", ctx)
    assert (one.state, one.answers, one.cause) == (state, {}, None)


@pytest.mark.parametrize(
    ("nic", "state"),
    [
        pytest.param(
            Nic(name="eth0", driver="virtio_net", offloads={"tx-checksum-ip-generic": True}), State.OK, id="virtio"
        ),
        pytest.param(
            Nic(name="eth0", driver="vmxnet3", offloads={"tx-checksum-ip-generic": True}), State.WARN, id="vmxnet3"
        ),
        pytest.param(Nic(name="eth0", driver="vmxnet3"), State.OK, id="vmxnet3, off"),
    ],
)
def test_offload(nic, state):
    one = only("underlay.checksum-offload", joining(nics=(nic,)))
    assert (one.state, one.answers) == (state, {})
    if one.cause:
        assert one.cause.confidence is Confidence.POSSIBLE
        (remedy,) = one.cause.remedy
        assert (remedy.commands, remedy.undo) == (
            ("ethtool -K eth0 tx-checksum-ip-generic off",), ("ethtool -K eth0 tx-checksum-ip-generic on",)
        )  # fmt: skip


@pytest.mark.parametrize(
    ("vendor", "port", "state"),
    [
        pytest.param("QEMU", None, State.OK, id="other"),
        pytest.param("VMware, Inc.", None, State.WARN, id="VMware"),
        pytest.param("VMware, Inc.", 7789, State.OK, id="VMware, another port"),
    ],
)
def test_platform(vendor, port, state):
    ctx = context(probe(), options={"data_path_port": port}, identity=Identity(hostname="b", dmi_vendor=vendor))
    assert only("host.platform", ctx).state is state


# --- ports ---


def taken(protocol, port, process="nginx", inode=5, **sections):
    socket = Socket(
        protocol=protocol, address="0.0.0.0", port=port, process=process, inode=inode, pid=7 if process else None
    )
    return {"sockets": {HOST: (socket,)}, **sections}


@pytest.mark.parametrize(
    ("sections", "manager", "states", "answers"),
    [
        pytest.param({}, False, [State.OK] * 3, {}, id="free"),
        pytest.param(taken("tcp", 7946), False, [State.WARN, State.OK, State.OK], {N: NO, T: NO}, id="tcp/7946"),
        pytest.param(taken("udp6", 7946), False, [State.OK, State.WARN, State.OK], {N: NO}, id="udp/7946 over IPv6"),
        pytest.param(taken("udp", 4789), False, [State.OK, State.OK, State.WARN], {T: NO}, id="udp/4789"),
        pytest.param(taken("udp", 4789, "", 0), False, [State.OK] * 3, {}, id="a VXLAN device"),
        pytest.param(taken("udp", 4789, "", 918330, links=with_vxlan("mine", 42).facts.links.value), False, [State.OK] * 3, {}, id="a VXLAN device whose socket has an inode"),
        pytest.param(taken("tcp", 2377), False, [State.OK] * 3, {}, id="tcp/2377 of a worker"),
        pytest.param(taken("tcp", 2377), True, [State.FAIL, State.OK, State.OK, State.OK], {J: NO}, id="tcp/2377 of a manager"),
        pytest.param(taken("tcp", 7946, "dockerd"), False, [State.OK] * 3, {}, id="the engine itself"),
        pytest.param(taken("tcp", 7946, "", engine=absent()), False, [State.UNKNOWN, State.OK, State.OK], {N: OPEN, T: OPEN}, id="perhaps the engine"),
        pytest.param({"engine": engine(swarm=member())}, False, [State.SKIP], {}, id="a member"),
        pytest.param({"engine": engine(swarm=membership(SwarmState.PENDING))}, False, [State.SKIP], {}, id="joining"),
    ],
)  # fmt: skip
def test_ports(sections, manager, states, answers):
    said = found("swarm.port.free", context(probe(), options={"manager_role": manager}, **sections))
    assert [one.state for one in said] == states
    assert {need: answer for one in said for need, answer in one.answers.items()} == answers
    for one in said:
        if one.cause:
            assert (one.cause.code, one.cause.object["process"], one.cause.confidence) == (
                "swarm.port-taken",
                "nginx",
                Confidence.PROVEN,
            )


# --- pools ---


def route(destination, device="eth0", **fields):
    return Route(destination=destination, next_hops=(NextHop(device=device),) if device else (), **fields)


def bridge(subnet, name="docker0", **fields):
    return Network(id="b" * 64, name="bridge", driver="bridge", scope="local", subnets=(subnet,), bridge=name, **fields)


def overlay(subnet):
    return Network(id="o" * 64, name="web", driver="overlay", scope="swarm", subnets=(subnet,))


@pytest.mark.parametrize(
    ("routes", "eng", "state", "answers", "confidence"),
    [
        pytest.param([route("192.0.2.0/24")], engine(), State.OK, {}, None, id="apart"),
        pytest.param([route("0.0.0.0/0"), route("10.200.0.0/16")], engine(), State.OK, {}, None, id="far up in the pool"),
        pytest.param([route("10.0.0.0/24")], engine(), State.WARN, {T: Answer.UNKNOWN}, Confidence.POSSIBLE, id="where a default pool begins"),
        pytest.param([route("10.5.0.0/24")], engine(networks=(overlay("10.5.0.0/24"),)), State.WARN, {T: NO}, Confidence.LIKELY, id="an overlay that exists"),
        pytest.param([route("172.17.0.0/16", "docker0")], engine(networks=(bridge("172.17.0.0/16"),)), State.OK, {}, None, id="docker0's own route"),
        pytest.param([route("172.17.0.0/16")], engine(networks=(bridge("172.17.0.0/16"),)), State.WARN, {}, Confidence.LIKELY, id="docker0 and the LAN"),
        pytest.param([], engine(networks=(bridge("10.5.0.0/24"), overlay("10.5.0.0/24"))), State.WARN, {T: NO}, Confidence.LIKELY, id="a bridge and an overlay"),
        pytest.param([route("172.30.0.0/16")], engine(default_address_pools=("172.30.0.0/16 size 24",)), State.OK, {}, None, id="default-address-pools"),
        pytest.param(
            [route("10.0.0.0/24")], engine(swarm=member(is_manager=True, default_address_pools=("172.30.0.0/16",))),
            State.OK, {}, None, id="a swarm with another pool",
        ),
        pytest.param([], engine(swarm=member(is_manager=True, default_address_pools=("nonsense",))), State.OK, {}, None, id="a pool that is none"),
        pytest.param([route("2001:db8::/32"), route("nonsense")], engine(), State.OK, {}, None, id="IPv6 and rubbish"),
    ],
)  # fmt: skip
def test_pools(routes, eng, state, answers, confidence):
    one = only("swarm.pool.overlap", joining(routes={HOST: tuple(routes)}, engine=eng))
    assert (one.state, one.answers) == (state, answers)
    assert (one.cause.confidence if one.cause else None) is confidence
    if one.cause:
        assert one.cause.code == "swarm.address-pool"


# --- images ---

BUSYBOX = Image(id="sha256:cafe0123456789ab" + "0" * 48, tags=("busybox:latest", "reg.example:5000/a/b:1"))
AMD, ARM = ("amd64",), ("arm64",)


@pytest.mark.parametrize(
    ("name", "registry", "state", "confidence"),
    [
        pytest.param("busybox", None, State.OK, None, id="here"),
        pytest.param("docker.io/library/busybox:latest", None, State.OK, None, id="here, by its whole name"),
        pytest.param("reg.example:5000/a/b:1", None, State.OK, None, id="here, from a registry with a port"),
        pytest.param("cafe01234567", None, State.OK, None, id="here, by id"),
        pytest.param("cafe", None, State.UNKNOWN, None, id="a name that begins like an id"),
        pytest.param("nginx", None, State.UNKNOWN, None, id="registry not asked"),
        pytest.param("nginx", RegistryProbe(image="nginx", obtainable=None, error="x"), State.UNKNOWN, None, id="registry does not say"),
        pytest.param("nginx", RegistryProbe(image="nginx", obtainable=True, architectures=AMD), State.OK, None, id="can be pulled"),
        pytest.param("nginx", RegistryProbe(image="nginx", obtainable=True, architectures=ARM), State.FAIL, Confidence.PROVEN, id="for another architecture"),
        pytest.param("nginx", RegistryProbe(image="nginx", obtainable=False, error="manifest unknown"), State.FAIL, Confidence.PROVEN, id="does not exist"),
        pytest.param("nginx", RegistryProbe(image="nginx", obtainable=False, error="unauthorized"), State.FAIL, Confidence.LIKELY, id="needs a login"),
    ],
)  # fmt: skip
def test_images(name, registry, state, confidence):
    ctx = context(
        probe(),
        options={"images": (name,)},
        observed={"registry": (registry,) if registry else ()},
        engine=engine(images=(BUSYBOX,)),
    )
    one = only("swarm.image", ctx)
    assert (one.state, one.answers, one.subject.image) == (state, {}, name)
    assert (one.cause.confidence if one.cause else None) is confidence
    if one.cause:
        assert one.cause.remedy[0].commands == ("docker save nginx | ssh 192.0.2.20 docker load",)


def test_an_architecture_that_is_not_known_is_no_reason():
    seen = {"registry": (RegistryProbe(image="nginx", obtainable=True, architectures=ARM),)}
    ctx = context(probe(), options={"images": ("nginx",)}, observed=seen, engine=engine(architecture=""))
    assert only("swarm.image", ctx).state is State.OK


def test_a_section_that_is_empty_says_so():
    assert only("kernel.features", joining(kernel=Section())).reason == "kernel: not collected"


def test_a_pool_for_local_networks_is_told_where_it_meets_a_route_that_is_not_dockers():
    pool = {"default_address_pools": ("172.17.0.0/16 size 24",), "networks": (bridge("172.17.0.0/24"),)}
    routes = {HOST: (route("172.17.0.0/24", "docker0"), route("172.17.9.0/24"))}
    one = only("swarm.pool.overlap", joining(routes=routes, engine=engine(**pool)))
    assert one.state is State.OK
    assert "172.17.9.0/24" in one.summary
    assert "docker0" not in one.summary
