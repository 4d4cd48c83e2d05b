"""The table of sections: what each asks, what it waits for, and how long it may take."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from netdiag.errors import UsageError
from netdiag.facts.basics import gather_clock, gather_identity, gather_nics
from netdiag.facts.bird import gather_bird
from netdiag.facts.calico import gather_calico
from netdiag.facts.conntrack import gather_conntrack
from netdiag.facts.context import Context
from netdiag.facts.engine import gather_engine
from netdiag.facts.engine_log import gather_engine_log
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.firewall_saved import gather_firewall_saved
from netdiag.facts.kernel import gather_kernel
from netdiag.facts.namespaces import gather_namespaces
from netdiag.facts.sockets import gather_sockets
from netdiag.facts.sysctls import gather_sysctls
from netdiag.facts.tables import (
    gather_addresses,
    gather_fdb,
    gather_links,
    gather_neighbours,
    gather_routes,
    gather_rules,
    gather_tc,
)
from netdiag.model.facts import SECTIONS as NAMES
from netdiag.model.facts import Section
from netdiag.model.wire import Gather


class SectionReader(NamedTuple):
    """One section: ``gather`` reads it once the sections in ``after`` have ended, however they ended."""

    name: str
    asks: str
    gather: Callable[[Context], Gather[Section[Any]]]
    timeout_s: float
    after: tuple[str, ...] = ()


_NAMESPACES = ("namespaces",)
_LINKS = ("namespaces", "links")

SECTIONS: dict[str, SectionReader] = {
    reader.name: reader
    for reader in (
        SectionReader("identity", "uname, os-release, machine-id, DMI", gather_identity, 2.0),
        SectionReader("clock", "clock and adjtimex", gather_clock, 2.0),
        SectionReader("kernel", "kernel configuration, modules on disk and loaded", gather_kernel, 5.0),
        SectionReader("nics", "ethtool of the host's NICs", gather_nics, 3.0, ("links",)),
        SectionReader("namespaces", "/proc/PID/ns/net and namespace mounts", gather_namespaces, 4.0, ("engine",)),
        SectionReader("links", "RTM_GETLINK in every namespace", gather_links, 5.0, _NAMESPACES),
        SectionReader("addresses", "RTM_GETADDR in every namespace", gather_addresses, 5.0, _LINKS),
        SectionReader("routes", "RTM_GETROUTE in every namespace", gather_routes, 10.0, _LINKS),
        SectionReader("rules", "RTM_GETRULE in every namespace", gather_rules, 5.0, _LINKS),
        SectionReader("neighbours", "RTM_GETNEIGH in every namespace", gather_neighbours, 5.0, _LINKS),
        SectionReader("fdb", "RTM_GETNEIGH for AF_BRIDGE", gather_fdb, 5.0, _LINKS),
        SectionReader("tc", "RTM_GETQDISC, RTM_GETTFILTER", gather_tc, 5.0, _LINKS),
        SectionReader("sysctls", "/proc/sys/net in every namespace", gather_sysctls, 5.0, _LINKS),
        SectionReader(
            "firewall", "iptables-save, nft list ruleset, ipset save", gather_firewall, 15.0, ("namespaces", "kernel")
        ),
        SectionReader("firewall_saved", "saved rules of firewalld, ufw and their kin", gather_firewall_saved, 4.0),
        SectionReader("sockets", "/proc/net/tcp, udp; /proc/PID/fd", gather_sockets, 6.0, _NAMESPACES),
        SectionReader("conntrack", "/proc/sys/net/netfilter", gather_conntrack, 4.0, _NAMESPACES),
        SectionReader("engine", "the Docker Engine's API", gather_engine, 8.0),
        SectionReader("engine_log", "journalctl -u docker, or the engine's log file", gather_engine_log, 6.0),
        SectionReader("calico", "calicoctl's settings, the datastore's v2 keys", gather_calico, 5.0),
        SectionReader("bird", "BIRD's control socket", gather_bird, 4.0),
    )
}
"""Every section of `netdiag.model.facts.Facts` by its name, in the order in which they are shown."""


def with_needed(names: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """The named sections (all, when none is named) and those that they wait for, in table order.

    Raises UsageError for a name that is none, with the nearest ones.
    """
    wanted = set(names or NAMES)
    for name in names:
        if name not in SECTIONS:
            near = difflib.get_close_matches(name, SECTIONS, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"sections are {', '.join(SECTIONS)}"
            raise UsageError(f"{name} is no section of the facts; {hint}")
    pending = list(wanted)
    while pending:
        for name in SECTIONS[pending.pop()].after:
            if name not in wanted:
                wanted.add(name)
                pending.append(name)
    return tuple(name for name in SECTIONS if name in wanted)
