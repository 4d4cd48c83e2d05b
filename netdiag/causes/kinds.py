"""What an entry of the catalogue is, and the words that entries are written in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class CauseKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of cause: what it means, what proves it, what only looks like it, and how it is healed.

    Attributes:
        code: Stable once released.
        title: A short sentence without a full stop; it is read after "because".
        parent: The general code that this one refines. A report names the most specific code that is proven.
        meaning: What happens, and how it looks to somebody who uses the hosts.
        object_kinds: The kinds of object that a cause of this code may name (keys of `OBJECT_KINDS`).
        evidence: What proves it. Less than this makes it likely or possible, not proven.
        decoys: What looks alike and is something else.
        remedy: What to do, in words; the commands for a host are made by the check that found the cause.
        affects: What it breaks (members of `AFFECTS`).
        info: Told to the operator, never ranked as a cause.
        follows: A state that something else brings about (a join that hangs): ranked behind what may be its root.
        refs: Public threads where people met it, as ``repository#number``.
    """

    code: str
    title: str
    meaning: str
    object_kinds: tuple[str, ...]
    evidence: str
    decoys: tuple[str, ...]
    remedy: str
    affects: tuple[str, ...]
    parent: str | None = None
    info: bool = False
    follows: bool = False
    refs: tuple[str, ...] = ()


AFFECTS = frozenset(
    {
        "swarm join",
        "swarm control",
        "service names",
        "overlay data",
        "virtual IPs",
        "published ports",
        "host traffic",
        "container traffic",
        "new containers",
        "calico control",
        "calico data",
    }
)
"""What a cause can break, in the words that operators use."""

OBJECT_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "rule": (
            "a firewall rule: backend, namespace, family, table, chain, number, handle, text, owner, call_site, policy;"
            " known is false where only its effect was seen"
        ),
        "policy": "the policy of a base chain; the fields of a rule, with policy set and number null",
        "chain": "a firewall chain: backend, namespace, family, table, chain",
        "conntrack": "the connection tracking table: count, maximum, drops, namespace",
        "segment": (
            "the way between two hosts: from, to, hosts, protocol, port; where they matter size, payload, side, both_ways,"
            " answers; rate, low, high, sent, lost; share, flows, dead, source_ports; in_device, out_device"
        ),
        "route": "a route: destination, table, gateway, device, type, namespace; expected where it is wrong",
        "neighbour": "an ARP or ND entry: address, device, mac; expected where it is wrong",
        "fdb": "a forwarding entry of a VXLAN device: namespace, mac, device, vtep, expected",
        "device": (
            "a network device: name, namespace, and vni, port, mtu_bytes, largest_bytes, peer, feature, or the router that told a"
            " size where they matter"
        ),
        "address": (
            "an address: address, expected, device, option; candidates, others or macs that claim it; network; before, after, from, to"
        ),
        "feature": "a feature of the kernel: feature, kernel",
        "sysctl": "a kernel setting: key, value, wanted; device, namespace, reverse_device, address where they matter",
        "clock": "two clocks: peer, offset_s, error_s; behind_s_at_least where only a bound is known",
        "host": "a whole host: name, address; other or addresses where they clash",
        "program": "an XDP program: device, id",
        "filter": "a tc filter: device, direction, name, number (its preference), namespace",
        "socket": "a listening socket: address, port, protocol, process, pid; queue and waiting where one is full",
        "process": "a process: name, pid",
        "token": "a join token, never its text: problem, digest, expected",
        "certificate": "a certificate: of, fault, by_s, not_before, not_after",
        "engine": "a Docker engine: version, defect, state, node_id, error; versions, conflict",
        "setting": "a setting of a program: program, key, value, file",
        "subnet": "two ranges that overlap: subnet, other, owner",
        "stage": (
            "a stage of a join or of a connection: stage, problem; manager, node_id, message; address, port, process, pid"
        ),
        "peer": "a peer of a protocol: address, state, reason",
        "node": "a node of a cluster: name, node_id, address, state; live_node_id",
        "managers": "the managers of a swarm: reachable, needed, total, before",
        "service": "a service: name, id, virtual_ip",
        "container": "a container: name, id, network, address, state",
        "image": "an image: image, id, wanted_by",
        "file": "a file or directory: path, what",
        "network": "a Docker network: name, id, driver, vni, device, path_mtu_bytes, needed_bytes",
        "sa": "an IPsec state: source, destination, spi, expected",
        "ipvs": "a virtual server: address, mark, backend",
        "name": "a name that is looked up: name, server, answer",
        "datastore": "a datastore: endpoint, stage, message",
        "etcd-key": "a key of a datastore: key, value, expected",
        "pool": "a Calico pool: cidr, name, free, total",
        "block": "a Calico address block: cidr, affinity, owner",
        "calico-policy": "a Calico profile or policy: name, endpoint, rule",
    }
)
"""Kinds of object with the fields that one may carry, the host apart (it is a field of the cause)."""
