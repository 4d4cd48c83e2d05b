"""Network sysctls of every namespace."""

from __future__ import annotations

from collections.abc import Mapping

from netdiag.facts.reading import absence_of, texts
from netdiag.model.facts import Absence, Namespace, Section
from netdiag.model.wire import Gather, Request

_GLOBS = (
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ip_no_pmtu_disc",
    "/proc/sys/net/ipv4/ip_forward_use_pmtu",
    "/proc/sys/net/ipv4/tcp_mtu_probing",
    "/proc/sys/net/ipv4/conf/*/rp_filter",
    "/proc/sys/net/ipv4/conf/*/arp_ignore",
    "/proc/sys/net/ipv4/conf/*/arp_announce",
    "/proc/sys/net/ipv4/conf/*/proxy_arp",
    "/proc/sys/net/ipv4/conf/*/forwarding",
    "/proc/sys/net/ipv4/conf/*/route_localnet",
    "/proc/sys/net/ipv4/neigh/default/gc_thresh*",
    "/proc/sys/net/ipv4/vs/conntrack",
    "/proc/sys/net/ipv6/conf/*/forwarding",
    "/proc/sys/net/ipv6/conf/*/disable_ipv6",
    "/proc/sys/net/ipv6/conf/*/proxy_ndp",
    "/proc/sys/net/bridge/*",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
    "/proc/sys/net/netfilter/nf_log/*",
)


def gather_sysctls(namespaces: Mapping[str, Namespace]) -> Gather[Section[dict[str, dict[str, str]]]]:
    """The settings by their names as sysctl(8) takes them, for each namespace."""
    answers = yield [
        Request("files", {"globs": list(_GLOBS), "netns": namespace.path, "limit_bytes": 4096})
        for namespace in namespaces.values()
    ]
    found: dict[str, dict[str, str]] = {}
    partial: dict[str, Absence] = {}
    for name, answer in zip(namespaces, answers, strict=True):
        if answer.data is None:
            partial[name] = absence_of(answer)
        else:
            found[name] = {_key(path): value.strip() for path, value in texts(answer).items()}
    if not found and partial:
        return Section(absent=next(iter(partial.values())))
    return Section(value=found, partial=partial)


def _key(path: str) -> str:
    """``/proc/sys/net/ipv4/conf/eth0.5/rp_filter`` as ``net.ipv4.conf.eth0/5.rp_filter``, sysctl's own spelling."""
    return ".".join(part.replace(".", "/") for part in path.removeprefix("/proc/sys/").split("/"))
