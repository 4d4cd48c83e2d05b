"""What a name means to a container: its own hosts file first, then the name server of its own resolver.

Sources: resolv.conf(5), hosts(5), nsswitch.conf's usual order (files, then dns).
"""

from __future__ import annotations

import ipaddress

import msgspec

from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Gather, Request

NO_SUCH_NAME = 3
"""RCODE NXDOMAIN (RFC 1035)."""
_SERVERS = 3
"""How many name servers a resolver uses (MAXNS)."""
_TIMEOUT_S = 0.8
_NOT_PUT = (AbsenceKind.PERMISSION, AbsenceKind.UNSUPPORTED, AbsenceKind.NOT_PROBED, AbsenceKind.WITHHELD)
"""What kept the question on this host."""


class Resolver(msgspec.Struct, frozen=True, kw_only=True):
    """How a container resolves names: /etc/resolv.conf and /etc/hosts."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    hosts: tuple[tuple[str, str], ...] = ()
    """Name to address, in the file's order."""


class NameLookup(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking a name up.

    Attributes:
        name: As it was asked.
        server: Who answered, or the first who did not; "hosts" for the hosts file; empty without a name server.
        addresses: In the answer's order.
        rcode: The answer's code; None where nobody answered.
        error: Why nobody did.
        unasked: The question could not be put, which says nothing of the name.
    """

    name: str
    server: str = ""
    addresses: tuple[str, ...] = ()
    rcode: int | None = None
    error: str = ""
    unasked: bool = False


def read_resolver(resolv_conf: str, hosts: str) -> Resolver:
    """The two files, read as the C library does."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    ndots = 1
    for line in resolv_conf.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words[0] == "options":
            told = [word[6:] for word in words[1:] if word.startswith("ndots:") and word[6:].isdigit()]
            ndots = int(told[-1]) if told else ndots
    rows = []
    for line in hosts.splitlines():
        words = line.split("#")[0].split()
        rows += [(name, words[0]) for name in words[1:] if _is_address(words[0])]
    return Resolver(servers=tuple(servers[:_SERVERS]), search=search, ndots=ndots, hosts=tuple(rows))


def asked_names(name: str, resolver: Resolver) -> tuple[str, ...]:
    """The names that are asked for one after the other: with the search list, in the resolver's order."""
    if name.endswith("."):
        return (name,)
    searched = tuple(f"{name}.{domain.rstrip('.')}" for domain in resolver.search if domain.strip("."))
    return (name, *searched) if name.count(".") >= resolver.ndots else (*searched, name)


def gather_name(name: str, *, pid: int, netns: str) -> Gather[NameLookup]:
    """Look a name up as the container of a process does, from its network namespace.

    Args:
        name: The name.
        pid: A process of the container, as its host numbers it.
        netns: The container's network namespace.
    """
    (answer,) = yield [Request("resolver-files", {"pid": pid}, 1.0)]
    if answer.data is None:
        text = answer.error.text if answer.error is not None else "no answer"
        return NameLookup(name=name, error=text, unasked=True)
    resolver = read_resolver(answer.data["resolv_conf"], answer.data["hosts"])
    own = tuple(address for known, address in resolver.hosts if known == name)
    if own:
        return NameLookup(name=name, server="hosts", addresses=tuple(dict.fromkeys(own)), rcode=0)
    if not resolver.servers:
        return NameLookup(name=name, error="its resolv.conf names no server")
    last = NameLookup(name=name, server=resolver.servers[0], error="no name could be asked for")
    for server in resolver.servers:
        for full in asked_names(name, resolver):
            last = yield from _ask(name, full, server, netns)
            if last.rcode is None:
                break  # this server does not answer: the next one is asked
            if last.addresses:
                return last
        if last.rcode is not None:
            return last
    return msgspec.structs.replace(last, server=resolver.servers[0])


def _ask(name: str, full: str, server: str, netns: str) -> Gather[NameLookup]:
    """Both families at once; IPv4 first, as it is asked here."""
    requests = [
        Request("dns-query", {"name": full, "server": server, "type": kind, "netns": netns}, _TIMEOUT_S)
        for kind in ("A", "AAAA")
    ]
    answers = yield requests
    data = [answer.data for answer in answers if answer.data is not None]
    if not data:
        error = answers[0].error
        text = error.text if error is not None else "no answer"
        if error is not None and error.kind is AbsenceKind.TIMEOUT:
            text = f"{server} does not answer"
        unasked = error is None or error.kind in _NOT_PUT
        return NameLookup(name=name, server=server, error=text, unasked=unasked)
    addresses = tuple(dict.fromkeys(address for row in data for address in row["addresses"]))
    return NameLookup(name=name, server=server, addresses=addresses, rcode=min(row["rcode"] for row in data))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
