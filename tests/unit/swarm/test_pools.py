from ipaddress import ip_network

import pytest

from netdiag.swarm.pools import HostPrefix, Pool, PoolKind, Severity, Specific, overlaps, pool_overlaps, swarm_pools


def pool(prefix: str, kind: PoolKind = PoolKind.OVERLAY, owner: str = "") -> Pool:
    return Pool(kind=kind, prefix=ip_network(prefix), label=f"network {prefix}", owner=owner)


def route(prefix: str, owner: str = "") -> HostPrefix:
    return HostPrefix(prefix=ip_network(prefix), label=f"route {prefix}", owner=owner)


@pytest.mark.parametrize(
    ("mine", "theirs", "severity", "specific", "shared"),
    [
        pytest.param(
            pool("10.0.0.0/8", PoolKind.SWARM_POOL), route("10.20.0.0/16"), Severity.LATER, Specific.HOST,
            "10.20.0.0/16", id="a LAN in the default pool"
        ),
        pytest.param(pool("10.0.1.0/24"), route("10.0.0.0/16"), Severity.NOW, Specific.POOL, "10.0.1.0/24",
                     id="an overlay within the LAN"),
        pytest.param(pool("10.0.1.0/24"), route("10.0.1.0/24"), Severity.NOW, Specific.EQUAL, "10.0.1.0/24",
                     id="an overlay that is the LAN"),
        pytest.param(pool("10.255.0.0/16"), route("10.255.3.7/32"), Severity.NOW, Specific.HOST, "10.255.3.7/32",
                     id="a resolver within an old ingress network"),
        pytest.param(pool("172.17.0.0/16", PoolKind.BRIDGE), route("172.16.0.0/12"), Severity.NOW, Specific.POOL,
                     "172.17.0.0/16", id="a VPN around docker0"),
        pytest.param(pool("fd00::/64"), route("fd00::/48"), Severity.NOW, Specific.POOL, "fd00::/64", id="IPv6"),
    ],
)  # fmt: skip
def test_claims_on_the_same_addresses(
    mine: Pool, theirs: HostPrefix, severity: Severity, specific: Specific, shared: str
) -> None:
    (found,) = overlaps([mine], [theirs])
    assert (found.severity, found.more_specific, str(found.shared)) == (severity, specific, shared)
    assert theirs.label in found.lost


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        pytest.param(pool("10.0.0.0/8"), route("0.0.0.0/0"), id="default route"),
        pytest.param(pool("10.0.0.0/8"), route("192.168.0.0/16"), id="apart"),
        pytest.param(pool("fd00::/8"), route("10.0.0.0/8"), id="other family"),
        pytest.param(pool("::/1"), route("fe80::/64"), id="link-local"),
        pytest.param(
            pool("172.17.0.0/16", PoolKind.BRIDGE, "docker0"), route("172.17.0.0/16", "docker0"), id="its own route"
        ),
    ],
)
def test_no_collision(mine: Pool, theirs: HostPrefix) -> None:
    assert list(overlaps([mine], [theirs])) == []


def test_what_loses_traffic_now_comes_first() -> None:
    pools = [*swarm_pools(()), pool("10.0.1.0/24")]
    assert [one.severity for one in overlaps(pools, [route("10.0.0.0/16")])] == [Severity.NOW, Severity.LATER]


def test_bridges_against_overlays() -> None:
    docker0 = pool("10.0.1.0/24", PoolKind.BRIDGE, "docker0")
    found = list(pool_overlaps([*swarm_pools(()), pool("10.0.1.0/24"), docker0]))
    assert [one.pool.kind for one in found] == [PoolKind.OVERLAY, PoolKind.SWARM_POOL]


def test_pools_of_the_api() -> None:
    assert [str(one.prefix) for one in swarm_pools(())] == ["10.0.0.0/8"]
    (own,) = swarm_pools(["192.168.128.0/18"], 26)
    assert own.label == "the swarm's pool 192.168.128.0/18, cut into /26"
    with pytest.raises(ValueError, match="nonsense"):
        swarm_pools(["nonsense"])
