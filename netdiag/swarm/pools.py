"""Address pools of a swarm against what the hosts already use.

The default pool of a swarm is 10.0.0.0/8, cut into /24 from 10.0.0.0 upwards: ingress first, then one for each overlay
network (moby ``daemon/cluster``, swarmkit ``manager/allocator``; old swarms gave ingress 10.255.0.0/16). Very many
hosts live somewhere in 10.0.0.0/8, so a pool around a route is only a possibility, while an *allocated* subnet over a
route loses traffic now. The two are kept apart.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

Prefix: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_POOL = ipaddress.ip_network("10.0.0.0/8")
DEFAULT_SUBNET_SIZE = 24


class PoolKind(enum.Enum):
    """What stands behind a range of addresses that Docker uses."""

    SWARM_POOL = "swarm-pool"
    """Overlay networks to come are cut from here."""
    OVERLAY = "overlay"
    """The subnet of an overlay network that exists."""
    BRIDGE = "bridge"
    """The subnet of a bridge that exists: docker0, docker_gwbridge, a local network."""
    LOCAL_POOL = "local-pool"
    """``default-address-pools`` of an engine: local networks to come."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A range of addresses that Docker gives out, or has given out.

    Attributes:
        owner: The network or bridge that uses it; a prefix of a host with the same owner is the same thing, not a
            collision (docker0's subnet and docker0's route).
    """

    kind: PoolKind
    prefix: Prefix
    label: str
    owner: str = ""


class HostPrefix(msgspec.Struct, frozen=True, kw_only=True):
    """A route, an address with its network, or a single address (a resolver, a gateway) of a host."""

    prefix: Prefix
    label: str
    owner: str = ""


class Severity(enum.Enum):
    """Whether something is lost."""

    NOW = "now"
    """Two networks that exist claim the same addresses."""
    LATER = "later"
    """The next network may be cut from addresses that a host uses."""


class Specific(enum.Enum):
    """Which of the two the kernel prefers where both are routes: the longer prefix."""

    POOL = "pool"
    HOST = "host"
    EQUAL = "equal"


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """Two claims on the same addresses.

    Attributes:
        shared: The addresses that both claim.
        lost: What does not arrive, or may come not to; one line.
    """

    pool: Pool
    other: HostPrefix
    shared: Prefix
    more_specific: Specific
    severity: Severity
    lost: str


def overlaps(pools: Iterable[Pool], host_prefixes: Iterable[HostPrefix]) -> Iterator[Overlap]:
    """All pools that claim addresses of a host, those that lose traffic now first.

    Default routes never count (they claim everything), nor do multicast, link-local and loopback prefixes (no pool can
    reach them), nor a prefix of the pool's own network.
    """
    others = [other for other in host_prefixes if _counts(other.prefix)]
    found = [
        _overlap(pool, other)
        for pool in pools
        for other in others
        if not (pool.owner and pool.owner == other.owner)
        and pool.prefix.version == other.prefix.version
        and pool.prefix.overlaps(other.prefix)
    ]
    yield from sorted(found, key=lambda one: one.severity is Severity.LATER)


def pool_overlaps(pools: Iterable[Pool]) -> Iterator[Overlap]:
    """Docker's own ranges against each other: bridges that exist against overlays and the swarm's pool."""
    known = tuple(pools)
    bridges = [
        HostPrefix(prefix=pool.prefix, label=pool.label, owner=pool.owner)
        for pool in known
        if pool.kind is PoolKind.BRIDGE
    ]
    return overlaps((pool for pool in known if pool.kind in {PoolKind.SWARM_POOL, PoolKind.OVERLAY}), bridges)


def swarm_pools(default_address_pools: Iterable[str], subnet_size: int | None = None) -> tuple[Pool, ...]:
    """The pools of a swarm as its API gives them; none given means the default.

    Args:
        default_address_pools: ``DefaultAddrPool`` of the cluster: nothing stands for 10.0.0.0/8.
        subnet_size: ``SubnetSize``, prefix length of each network; 0 and None stand for 24.

    Raises:
        ValueError: A text that is no network.
    """
    prefixes = tuple(ipaddress.ip_network(text) for text in default_address_pools) or (DEFAULT_POOL,)
    size = subnet_size or DEFAULT_SUBNET_SIZE
    return tuple(
        Pool(kind=PoolKind.SWARM_POOL, prefix=prefix, label=f"the swarm's pool {prefix}, cut into /{size}")
        for prefix in prefixes
    )


def _counts(prefix: Prefix) -> bool:
    return prefix.prefixlen > 0 and not (prefix.is_multicast or prefix.is_link_local or prefix.is_loopback)


def _overlap(pool: Pool, other: HostPrefix) -> Overlap:
    if pool.prefix.prefixlen == other.prefix.prefixlen:
        specific, shared = Specific.EQUAL, pool.prefix
    elif pool.prefix.prefixlen > other.prefix.prefixlen:
        specific, shared = Specific.POOL, pool.prefix
    else:
        specific, shared = Specific.HOST, other.prefix
    now = pool.kind in {PoolKind.OVERLAY, PoolKind.BRIDGE}
    return Overlap(
        pool=pool,
        other=other,
        shared=shared,
        more_specific=specific,
        severity=Severity.NOW if now else Severity.LATER,
        lost=_lost(pool, other, shared, specific),
    )


def _lost(pool: Pool, other: HostPrefix, shared: Prefix, specific: Specific) -> str:
    match pool.kind:
        case PoolKind.OVERLAY:
            # An overlay's subnet is no route of the host: it shadows the real addresses inside containers only.
            return f"containers on {pool.label} take {shared} for their own network and never reach {other.label}"
        case PoolKind.BRIDGE if specific is Specific.HOST:
            return f"containers on {pool.label} with addresses in {shared} are cut off: the host sends to {other.label}"
        case PoolKind.BRIDGE:
            return f"this host and its containers send {shared} to {pool.label} and never reach {other.label}"
        case PoolKind.SWARM_POOL:
            return f"an overlay network that is cut from {shared} will hide {other.label} from its containers"
        case PoolKind.LOCAL_POOL:
            return f"a local network that is cut from {shared} will hide {other.label} from this host"
