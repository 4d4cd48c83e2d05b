"""The sysctls that decide whether packets of Docker and Calico pass, per network namespace."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.facts.context import Context, absence, each_namespace, texts, within
from netdiag.model.facts import HOST, Absence, Namespace, Section
from netdiag.model.wire import Answer, Gather, Request

_ROOT = "/proc/sys/"
_PER_DEVICE = ["rp_filter", "arp_ignore", "arp_announce", "proxy_arp", "forwarding", "route_localnet", "accept_local"]
GLOBS = (
    _ROOT + "net/ipv4/ip_forward",
    _ROOT + "net/ipv4/ip_no_pmtu_disc",
    _ROOT + "net/ipv4/tcp_mtu_probing",
    _ROOT + "net/ipv4/tcp_timestamps",
    _ROOT + "net/ipv4/ip_local_port_range",
    _ROOT + "net/ipv4/vs/conntrack",
    _ROOT + "net/ipv4/neigh/default/gc_thresh[123]",
    *(f"{_ROOT}net/ipv4/conf/*/{name}" for name in _PER_DEVICE),
    _ROOT + "net/ipv6/conf/*/forwarding",
    _ROOT + "net/ipv6/conf/all/disable_ipv6",
    _ROOT + "net/bridge/bridge-nf-call-*",
    _ROOT + "net/netfilter/nf_conntrack_max",
    _ROOT + "net/netfilter/nf_conntrack_tcp_be_liberal",
    _ROOT + "net/netfilter/nf_log/2",
)
"""Patterns of the files that are read in the host's own namespace."""
# There may be hundreds of containers: only what changes whether their packets pass, by name, for patterns cost time.
_INSIDE = (_ROOT + "net/ipv4/ip_forward", _ROOT + "net/ipv4/ip_no_pmtu_disc", _ROOT + "net/ipv4/tcp_mtu_probing")
_INSIDE_DEVICE = ("rp_filter", "arp_ignore", "proxy_arp", "route_localnet")


def gather_sysctls(context: Context) -> Gather[Section[dict[str, dict[str, str]]]]:
    """Values by the names that sysctl(8) takes."""

    def ask(namespace: Namespace) -> list[Request]:
        if namespace.id != HOST:
            devices = ["all", *(link.name for link in context.links.get(namespace.id, ()) if not link.loopback)]
            globs = [
                *_INSIDE,
                *(f"{_ROOT}net/ipv4/conf/{device}/{name}" for device in devices for name in _INSIDE_DEVICE),
            ]
            return [Request("files", within(namespace, {"globs": globs}), 3.0)]
        # Patterns with wildcards only: a sysctl that this kernel does not have is not an error.
        return [Request("files", within(namespace, {"globs": [_optional(path) for path in GLOBS]}), 3.0)]

    def read(_namespace: Namespace, answers: Sequence[Answer]) -> tuple[dict[str, str] | None, Absence | None]:
        if answers[0].data is None:
            return None, absence(answers[0])
        found = texts(answers[0])
        return {_name(path): " ".join(text.split()) for path, text in sorted(found.items())}, None

    return each_namespace(context, ask, read)


def _name(path: str) -> str:
    """A path below /proc/sys as sysctl(8) spells it: dots between, and a slash for a dot (eth0.100) in a device's name."""
    return ".".join(part.replace(".", "/") for part in path.removeprefix(_ROOT).split("/"))


def _optional(path: str) -> str:
    return path if "*" in path or "[" in path else f"{path[:-1]}[{path[-1]}]"
