"""Which engine versions have which defect that matters to a swarm, as data.

A row names the releases that have it, what must be so for it to matter, what happens and what to do. Rows come from
release notes, the tagged sources and the threads in ``refs``; where a release in between was not read, the row follows
the releases around it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from netdiag.swarm.engine_version import EngineVersion, parse_engine_version

_V = EngineVersion


class Condition(enum.Enum):
    """What must be so, besides the version, for a defect to matter."""

    ENCRYPTED_NETWORK = "encrypted-network"
    CUSTOM_DATA_PATH_PORT = "custom-data-path-port"
    WITHOUT_XT_U32 = "without-xt-u32"
    """The kernel has no match ``u32`` (RHEL 9, builds with nf_tables only)."""
    FIREWALLD = "firewalld"
    NFTABLES_BACKEND = "nftables-backend"
    """The engine runs with ``--firewall-backend=nftables``."""
    LIVE_RESTORE = "live-restore"
    POLLS_NETWORKDB = "polls-networkdb"
    """Something calls ``network inspect --verbose`` often."""
    PEER_REJOINED = "peer-rejoined"
    """A peer left and came back while containers ran (log: "Neighbor entry already present")."""


class Effect(enum.Enum):
    """How a defect bears on a host that is to join or to carry traffic."""

    REFUSES_SWARM = "refuses-swarm"
    LOSES_TRAFFIC = "loses-traffic"
    CRASHES = "crashes"


class Releases(msgspec.Struct, frozen=True):
    """The releases from ``first`` on, and before ``fixed`` (None: no release with the repair is known)."""

    first: EngineVersion
    fixed: EngineVersion | None

    def __contains__(self, version: EngineVersion) -> bool:
        # A release candidate of the first release counts as affected, one of the repaired release does too.
        return self.first <= version.release() and (self.fixed is None or version < self.fixed)


class Defect(msgspec.Struct, frozen=True, kw_only=True):
    """A known defect of some engine versions; matters when *all* its conditions hold."""

    id: str
    releases: tuple[Releases, ...]
    conditions: frozenset[Condition] = frozenset()
    effect: Effect
    what: str
    advice: str
    refs: tuple[str, ...]

    def affects(self, version: EngineVersion) -> bool:
        """Whether this version has it, whatever the conditions."""
        return any(version in releases for releases in self.releases)


_FIRST_SWARM: Final = _V(1, 12)

DEFECTS: Final[tuple[Defect, ...]] = (
    Defect(
        id="no-swarm-mode",
        releases=(Releases(_V(0, 1), _FIRST_SWARM),),
        effect=Effect.REFUSES_SWARM,
        what="this engine has no swarm mode",
        advice="upgrade the engine; swarm mode begins with 1.12",
        refs=("moby CHANGELOG 1.12.0",),
    ),
    Defect(
        id="live-restore",
        releases=(Releases(_FIRST_SWARM, None),),
        conditions=frozenset({Condition.LIVE_RESTORE}),
        effect=Effect.REFUSES_SWARM,
        what="the engine refuses to join, and a member refuses to start, while live-restore is on",
        advice='remove "live-restore" from daemon.json (or set it to false) and reload the engine before joining',
        refs=("moby daemon/config: IsSwarmCompatible", "moby/swarmkit#2381"),
    ),
    Defect(
        id="nftables-backend-refused",
        releases=(Releases(_V(29, 0), _V(29, 6)),),
        conditions=frozenset({Condition.NFTABLES_BACKEND}),
        effect=Effect.REFUSES_SWARM,
        what="the engine refuses swarm mode with its nftables firewall backend",
        advice='set "firewall-backend" to "iptables" in daemon.json and restart the engine, or upgrade to 29.6.0',
        refs=("moby#49638",),
    ),
    Defect(
        id="nftables-backend-flag",
        releases=(Releases(_V(29, 6), None),),
        conditions=frozenset({Condition.NFTABLES_BACKEND}),
        effect=Effect.REFUSES_SWARM,
        what="swarm mode with the nftables firewall backend needs the feature flag swarm-nftables",
        advice='set {"features": {"swarm-nftables": true}} in daemon.json, or use the iptables backend',
        refs=("moby#49638",),
    ),
    Defect(
        id="forwarding-entry-leak",
        releases=(Releases(_V(28, 2), _V(28, 2, 3)),),
        effect=Effect.LOSES_TRAFFIC,
        what="old forwarding entries stay behind, so that traffic goes to the host where a task used to run",
        advice="upgrade to 28.3.0 or later",
        refs=("moby#50129", "moby#50232", "moby PR 50236"),
    ),
    Defect(
        id="forwarding-entry-missing",
        # The exclusive add is as old as overlay networks without serf; the repair was merged after 29.8.0.
        releases=(Releases(_FIRST_SWARM, _V(29, 8, 1)),),
        conditions=frozenset({Condition.PEER_REJOINED}),
        effect=Effect.LOSES_TRAFFIC,
        what="a container of a peer that rejoined stays unreachable: its entry was learned before it could be added",
        advice="put the entry back with bridge fdb replace in the network's namespace; upgrade beyond 29.8.0",
        refs=("moby#52661", "moby#35807", "moby PR 53663"),
    ),
    Defect(
        id="encryption-port",
        releases=(Releases(_V(19, 3), _V(23, 0, 7)), Releases(_V(24, 0), _V(24, 0, 3))),
        conditions=frozenset({Condition.ENCRYPTED_NETWORK, Condition.CUSTOM_DATA_PATH_PORT}),
        effect=Effect.LOSES_TRAFFIC,
        what="encrypted networks carry nothing when the data path port is not 4789: the policy knows only that port",
        advice="upgrade to 23.0.7, 24.0.3 or later, or create the swarm anew with port 4789",
        refs=("moby#45635", "moby PR 45636"),
    ),
    Defect(
        id="encryption-needs-u32",
        releases=(Releases(_FIRST_SWARM, _V(20, 10, 24)), Releases(_V(23, 0), _V(23, 0, 3))),
        conditions=frozenset({Condition.ENCRYPTED_NETWORK, Condition.WITHOUT_XT_U32}),
        effect=Effect.LOSES_TRAFFIC,
        what="encrypted networks need the kernel's match u32, which is not there",
        advice="upgrade to 20.10.24, 23.0.3 or later (they need xt_bpf instead), or install the module xt_u32",
        refs=("moby#43382", "moby PR 45118"),
    ),
    Defect(
        id="firewalld-reload",
        releases=(Releases(_FIRST_SWARM, _V(25, 0, 13)), Releases(_V(26, 0), _V(29, 0))),
        conditions=frozenset({Condition.FIREWALLD}),
        effect=Effect.LOSES_TRAFFIC,
        what="a reload of firewalld removes the rules of published ports, and the engine does not put them back",
        advice="restart the engine after each reload of firewalld, or upgrade to 25.0.13, 29.0 or later",
        refs=("moby PR 50443", "moby#35043", "firewalld#503"),
    ),
    Defect(
        id="networkdb-race",
        releases=(
            Releases(_V(17, 6), _V(25, 0, 13)),
            Releases(_V(26, 0), _V(28, 2)),
            Releases(_V(28, 3), _V(29, 0)),
        ),
        conditions=frozenset({Condition.POLLS_NETWORKDB}),
        effect=Effect.CRASHES,
        what="asking for a network's peers can crash the engine (concurrent map read and map write)",
        advice="ask rarely (network inspect --verbose, the diagnostic server), or upgrade to 29.0 or later",
        refs=("moby#47728",),
    ),
)

SPI_OTHERWISE: Final = (Releases(_V(28, 2, 2), _V(28, 2, 3)), Releases(_V(29, 0), _V(29, 2, 1)))
"""Releases that compute the IPsec index of a flow from 4-byte addresses, all others from 16-byte ones (moby#51798).

The 25.0 line got the same repair (moby PR 51963); which of its releases had the fault is not established.
"""


class ConflictKind(enum.Enum):
    """Why versions do not go together."""

    SPI_MISMATCH = "spi-mismatch"
    """Encrypted networks carry nothing between the two groups."""
    MIXED_MAJOR = "mixed-major"
    """Works in general, and is known for odd failures until the upgrade is complete."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Versions in one swarm that do not go together.

    Attributes:
        groups: Node names by what separates them; at least two groups, names sorted.
    """

    kind: ConflictKind
    groups: Mapping[str, tuple[str, ...]]
    what: str
    advice: str
    refs: tuple[str, ...]


def defects_of(version: EngineVersion, conditions: Collection[Condition] = ()) -> tuple[Defect, ...]:
    """The known defects that matter for this version when these conditions hold."""
    given = frozenset(conditions)
    return tuple(defect for defect in DEFECTS if defect.affects(version) and defect.conditions <= given)


def vni_match_module(version: EngineVersion) -> str:
    """The netfilter match that this version needs for encrypted networks: ``xt_u32`` or ``xt_bpf``.

    From the release notes of 20.10.24 and 23.0.3 (moby PR 45118).
    """
    old = next(defect for defect in DEFECTS if defect.id == "encryption-needs-u32")
    return "xt_u32" if old.affects(version) else "xt_bpf"


def may_poll_networkdb(version: EngineVersion) -> bool:
    """Whether ``network inspect --verbose`` is safe to call repeatedly on this version."""
    race = next(defect for defect in DEFECTS if defect.id == "networkdb-race")
    return not race.affects(version)


def conflicts(versions: Mapping[str, str], *, encrypted: bool) -> tuple[Conflict, ...]:
    """What speaks against these engines in one swarm.

    Args:
        versions: Version text by node name; those that are no version are left out.
        encrypted: Whether the swarm has an encrypted overlay network.
    """
    known = {node: version for node, text in versions.items() if (version := parse_engine_version(text)) is not None}
    found: list[Conflict] = []
    ways = _grouped({node: "4-byte" if _spi_otherwise(version) else "16-byte" for node, version in known.items()})
    if encrypted and len(ways) > 1:
        found.append(
            Conflict(
                kind=ConflictKind.SPI_MISMATCH,
                groups=ways,
                what="these engines compute different IPsec indexes, so encrypted networks carry nothing between them",
                advice="upgrade 28.2.2 to 28.3.0 or later, and 29.0.0 to 29.2.0 to 29.2.1 or later",
                refs=("moby#51798", "moby PR 51951"),
            )
        )
    majors = _grouped({node: str(version.major) for node, version in known.items()})
    if len(majors) > 1:
        found.append(
            Conflict(
                kind=ConflictKind.MIXED_MAJOR,
                groups=majors,
                what="engines of different major versions are in one swarm",
                advice="complete the upgrade, managers first; mixed swarms are not what releases are tested with",
                refs=("moby#28493", "moby#39198"),
            )
        )
    return tuple(found)


def _spi_otherwise(version: EngineVersion) -> bool:
    return any(version in releases for releases in SPI_OTHERWISE)


def _grouped(group_by_node: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for node, group in sorted(group_by_node.items()):
        groups.setdefault(group, []).append(node)
    return {group: tuple(nodes) for group, nodes in groups.items()}
