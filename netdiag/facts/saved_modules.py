"""Which kernel modules a saved rule set could load, so that loading it to compare it changes nothing on the host.

The kernel loads what a rule names by itself, and nobody can forbid it for one process. So what a text needs is read
from it beforehand, and held against what is loaded, built in, and on disk.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import msgspec

from netdiag.facts.context import files_request, texts
from netdiag.firewall.save_text import split_words
from netdiag.model.facts import Backend
from netdiag.model.wire import Answer, Request

_MODULES, _DISABLED = "/proc/modules", "/proc/sys/kernel/modules_disabled"
_CORE = frozenset({"icmp", "icmp6", "ipv6-icmp", "standard", "ACCEPT", "DROP", "RETURN", "QUEUE"})
_ALIASES = {
    **dict.fromkeys(("tcp", "udp", "udplite"), "xt_tcpudp"),
    "state": "xt_conntrack",
    "SNAT": "xt_nat",
    "DNAT": "xt_nat",
    "MARK": "xt_mark",
    "CONNMARK": "xt_connmark",
    "SET": "xt_set",
    "NOTRACK": "xt_CT",
    "ttl": "xt_hl",
    "TTL": "xt_hl",
    "hl": "xt_hl",
    "HL": "xt_hl",
    "tos": "xt_dscp",
    "TOS": "xt_DSCP",
    "iprange": "xt_iprange",
}
_NFT = (
    (re.compile(r"\bct\b"), ("nft_ct",)),
    (re.compile(r"\blog\b"), ("nft_log",)),
    (re.compile(r"\blimit\b"), ("nft_limit",)),
    (re.compile(r"\breject\b"), ("nft_reject", "nft_reject_inet")),
    (re.compile(r"\bmasquerade\b"), ("nft_masq",)),
    (re.compile(r"\bredirect\b"), ("nft_redir",)),
    (re.compile(r"\b[sd]nat\b"), ("nft_nat",)),
    (re.compile(r"\btype nat\b"), ("nft_chain_nat",)),
    (re.compile(r"\bfib\b"), ("nft_fib", "nft_fib_inet")),
    (re.compile(r"\bnumgen\b"), ("nft_numgen",)),
    (re.compile(r"\b(jhash|symhash)\b"), ("nft_hash",)),
    (re.compile(r"\bquota\b"), ("nft_quota",)),
    (re.compile(r"\bct count\b"), ("nft_connlimit",)),
    (re.compile(r"\bqueue\b"), ("nft_queue",)),
    (re.compile(r"\btproxy\b"), ("nft_tproxy",)),
    (re.compile(r"\bsocket\b"), ("nft_socket",)),
    (re.compile(r"\bsynproxy\b"), ("nft_synproxy",)),
    (re.compile(r"\bosf\b"), ("nft_osf",)),
    (re.compile(r"\bipsec\b"), ("nft_xfrm",)),
    (re.compile(r"\btunnel\b"), ("nft_tunnel",)),
    (re.compile(r"\b(dup|fwd) "), ("nft_dup_netdev", "nft_fwd_netdev")),
    (re.compile(r"\bflow (add|offload)\b|\bflowtable\b"), ("nft_flow_offload",)),
)
_SET_TYPE = re.compile(r"^\s*create\s+\S+\s+(\S+)", re.MULTILINE)


class Modules(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel has and could load; ``locked`` where it can load nothing at all."""

    locked: bool = False
    there: frozenset[str] = frozenset()

    def missing(self, backend: Backend, family: int, text: str) -> tuple[str, ...]:
        """The names that loading a text could make the kernel look for; empty where it loads nothing."""
        if self.locked:
            return ()
        return tuple(sorted({names[0] for names in needed(backend, family, text) if not self._has(names)}))

    def _has(self, names: tuple[str, ...]) -> bool:
        return any(name.lower() in self.there for name in names)


def modules_request(release: str) -> Request:
    """What tells which modules are there."""
    return files_request((_MODULES, _DISABLED, f"/lib/modules/{release}/modules.builtin"), limit_bytes=16 << 20)


def modules_of(answer: Answer) -> Modules:
    """Modules by lower-case name; without /proc/modules the kernel has no loadable modules."""
    found = texts(answer)
    if answer.data is not None and (_MODULES not in found or found.get(_DISABLED, "").strip() == "1"):
        return Modules(locked=True)
    loaded = {line.split()[0].lower() for line in found.get(_MODULES, "").splitlines() if line}
    builtin = next((text for path, text in found.items() if path.endswith("modules.builtin")), "")
    names = {line.rpartition("/")[2].split(".ko")[0].replace("-", "_").lower() for line in builtin.splitlines()}
    return Modules(there=frozenset(loaded | names))


def needed(backend: Backend, family: int, text: str) -> Iterator[tuple[str, ...]]:
    """Modules that a text asks for, each with its other names."""
    if backend is Backend.NFT_NATIVE:
        bare = "\n".join(line.partition("#")[0] for line in text.split("\n"))
        for pattern, modules in _NFT:
            if pattern.search(bare):
                yield from ((module,) for module in modules)
    elif backend is Backend.IPSET:
        for kind in _SET_TYPE.findall(text):
            yield ("ip_set_" + kind.replace(":", "_").replace(",", ""),)
    else:
        yield from _xtables(backend, family, text)


def _xtables(backend: Backend, family: int, text: str) -> Iterator[tuple[str, ...]]:
    prefix = "ip6" if family == 6 else "ip"
    chains: set[str] = set()
    for line in text.replace("\r", "").split("\n"):
        words = split_words(line.strip())
        if line.startswith(":"):
            chains.add(words[0][1:])
        elif line.startswith("*") and backend is Backend.IPTABLES_LEGACY:
            yield (f"{prefix}table_{line[1:].strip()}",)
        elif line.startswith("*nat"):
            yield ("nft_chain_nat",)
        for option, value in itertools.pairwise(words):
            is_protocol = option in ("-p", "--protocol") and value in ("tcp", "udp", "sctp", "dccp", "esp", "ah")
            is_extension = option in ("-m", "--match", "-j", "--jump") or is_protocol
            if is_extension and value not in _CORE and value not in chains:
                names = (f"xt_{value}", f"{prefix}t_{value}", f"ipt_{value}")
                yield (_ALIASES[value], *names) if value in _ALIASES else names
